/** Attention stage by stage. @param {{model: Model, el: HTMLElement, signal?: AbortSignal}} context */
function render({ model, el, signal }) {
  const frame = card(el, signal, {
    title: "Attention, stage by stage",
    about: "Each row is a query. Point at a row, or move through the rows with ↑ and ↓, to read its numbers.",
    kind: "attention_stages",
  });
  const { body, say, showProblem, isDark } = frame;
  const tokensQ = model.get("tokens_q");
  const tokensK = model.get("tokens_k");
  const yours = model.get("attention_name");
  const width = model.get("width");
  const widths = model.get("widths");
  let marked = 0;
  let arrays = readArrays(model);

  const columnsOut = arrays.output.shape[1];
  const features = Array.from({ length: columnsOut }, (_, i) => String(i));
  const parts = { rows: tokensQ, onRow: (row) => mark(row, true) };
  const panels = {
    scores: matrixTable({ ...parts, caption: "1  scores", columns: tokensK, kind: "signed" }),
    scaled: matrixTable({ ...parts, caption: "2  scaled", columns: tokensK, kind: "signed" }),
    weights: matrixTable({ ...parts, caption: "3  softmax", columns: tokensK, kind: "weights", extra: "sum" }),
    their_weights: matrixTable({ ...parts, caption: "3  yours", columns: tokensK, kind: "weights", extra: "sum" }),
    output: matrixTable({ ...parts, corner: "q \\ d", caption: "4  output", columns: features, kind: "signed" }),
  };
  const boxes = Object.fromEntries(Object.entries(panels).map(([name, panel]) => [name, h("div", { class: "ctk-panel", "data-ctk": name }, panel.element)]));
  const legends = [legend("weights", "weight 0", "1", isDark), legend("signed", "negative", "positive", isDark)];

  const heads = model.get("heads");
  const controls = h("div", { class: "ctk-controls" });
  if (heads > 1) {
    const names = Array.from({ length: heads }, (_, i) => String(i));
    controls.append(chooser("Head", names, model.get("head"), (i) => tell(model, { head: i })));
  }
  controls.append(toggle(`divide by √dₖ (√${width} = ${written(Math.sqrt(width), 2)})`, model.get("scale"), (on) => tell(model, { scale: on })), ...legends.map((x) => x.element));
  const reading = h("p", { class: "ctk-reading" });
  const theirs = h("p", { class: "ctk-said", hidden: !yours });

  // -- why √d --
  const slider = h("input", {
    type: "range",
    class: "ctk-slider",
    min: 0,
    max: widths.length - 1,
    step: 1,
    input: () => {
      slider.setAttribute("aria-valuetext", `dₖ = ${widths[slider.valueAsNumber]}`);
      shown.textContent = String(widths[slider.valueAsNumber]);
      tell(model, { draw_width: widths[slider.valueAsNumber] });
    },
  });
  slider.value = String(Math.max(0, widths.indexOf(model.get("draw_width"))));
  slider.setAttribute("aria-valuetext", `dₖ = ${model.get("draw_width")}`);
  const shown = h("output", { class: "ctk-width" }, String(model.get("draw_width")));
  const places = Array.from({ length: arrays.draw_on.shape[0] }, (_, i) => String(i));
  const draws = {
    draw_on: matrixTable({ rows: places, columns: places, caption: "divided by √dₖ", kind: "weights" }),
    draw_off: matrixTable({ rows: places, columns: places, caption: "not divided", kind: "weights" }),
  };
  const drawn = h("p", { class: "ctk-drawn" });
  const plots = h("div", { class: "ctk-panels ctk-curves" });
  const table = h("details", { class: "ctk-details" }, h("summary", {}, "The curves as a table"));
  const why = h(
    "div",
    { class: "ctk-why" },
    h("p", { class: "ctk-subtitle" }, "What √dₖ is for: random queries and keys of width dₖ"),
    h("label", { class: "ctk-control ctk-wide" }, h("span", {}, "dₖ"), slider, shown),
    h("div", { class: "ctk-panels" }, ...Object.values(draws).map((d) => h("div", { class: "ctk-panel" }, d.element))),
    drawn,
    plots,
    table,
  );
  body.append(controls, h("div", { class: "ctk-panels" }, ...Object.values(boxes)), reading, theirs, why);

  function line(name, row) {
    const { values, shape } = arrays[name];
    return [...values.subarray(row * shape[1], (row + 1) * shape[1])];
  }

  function mark(row, aloud) {
    marked = row;
    for (const panel of Object.values(panels)) panel.mark(row);
    const name = arrays.their_weights ? "their_weights" : "weights";
    const weights = line(name, row);
    const highest = Math.log(tokensK.length);
    const parts = tokensK.map((token, i) => [token, weights[i]]).sort((a, b) => b[1] - a[1]);
    const most = parts.slice(0, 3).map(([token, w]) => `${token} ${written(w)}`).join(", ");
    const entropy = arrays.entropy.values[row];
    const gradient = arrays.gradient.values[row];
    reading.replaceChildren(
      h("b", {}, `Query “${tokensQ[row]}”`),
      `: scores ${line("scores", row).map((x) => written(x, 1)).join(", ")}; most weight on ${most}; entropy ${written(entropy)} of at most ${written(highest)} nats; gradient ${written(gradient)}.`,
    );
    if (aloud) say(reading.textContent);
  }

  function sums(name) {
    return tokensQ.map((_, row) => written(line(name, row).reduce((a, b) => a + b, 0), 2));
  }

  function draw() {
    arrays = readArrays(model);
    const results = model.get("results");
    const dark = isDark();
    legends.forEach((x) => x.paint());
    const found = results.theirs;
    showProblem(found.problem ?? "");
    boxes.their_weights.hidden = !arrays.their_weights;
    panels.scores.setCaption("1  scores  q·k");
    panels.scaled.setCaption(results.scale ? `2  divided by √${width}` : "2  not divided");
    panels.weights.setCaption("3  softmax: weights");
    if (yours) panels.their_weights.setCaption("3  your weights");
    panels.output.setCaption(arrays.their_output ? "4  your output" : "4  output: weights @ value");
    panels.scores.paint(arrays.scores.values, dark);
    panels.scaled.paint(arrays.scaled.values, dark);
    panels.weights.paint(arrays.weights.values, dark, sums("weights"));
    if (arrays.their_weights) panels.their_weights.paint(arrays.their_weights.values, dark, sums("their_weights"));
    panels.output.paint((arrays.their_output ?? arrays.output).values, dark);
    theirs.hidden = !found.said;
    theirs.className = `ctk-said ${found.right ? "ctk-agrees" : "ctk-differs"}`;
    theirs.textContent = found.said ?? "";
    mark(marked, false);
    drawWhy(results.draw, dark);
  }

  function drawWhy({ width: d, on, off }, dark) {
    draws.draw_on.paint(arrays.draw_on.values, dark);
    draws.draw_off.paint(arrays.draw_off.values, dark);
    drawn.replaceChildren(
      h("b", {}, `At dₖ = ${d}`),
      `, in the rows shown: mean entropy ${written(on[0])} nats divided, ${written(off[0])} not divided; mean gradient ${written(on[1], 3)} divided, ${written(off[1], 3)} not divided.`,
    );
    if (why.dataset.width !== String(d)) say(drawn.textContent);
    why.dataset.width = String(d);
    const { values } = arrays.curves;
    const n = widths.length;
    const curve = (scaled, measure) => [...values.subarray((scaled * 2 + measure) * n, (scaled * 2 + measure + 1) * n)];
    plots.replaceChildren(
      plot("Entropy of a row, in nats", curve(0, 0), curve(1, 0), d),
      plot("Gradient through the softmax", curve(0, 1), curve(1, 1), d),
    );
    if (!table.querySelector("table")) {
      table.append(
        h(
          "table",
          { class: "ctk-plain" },
          h("caption", { class: "ctk-unseen" }, "Entropy and gradient against dₖ"),
          h("thead", {}, h("tr", {}, ...["dₖ", "Entropy, divided", "Entropy, not divided", "Gradient, divided", "Gradient, not divided"].map((x) => h("th", { scope: "col" }, x)))),
          h("tbody", {}, ...widths.map((w, i) => h("tr", {}, h("th", { scope: "row" }, String(w)), ...[curve(0, 0), curve(1, 0), curve(0, 1), curve(1, 1)].map((c) => h("td", {}, written(c[i], 3)))))),
        ),
      );
    }
  }

  function plot(title, on, off, d) {
    const [w, height, left, right, top, bottom] = [360, 196, 38, 100, 24, 32];
    const high = Math.max(...on, ...off) * 1.08;
    const x = (value) => left + ((w - left - right) * Math.log(value / widths[0])) / Math.log(widths[widths.length - 1] / widths[0]);
    const y = (value) => top + (height - top - bottom) * (1 - value / high);
    const svg = s("svg", { class: "ctk-plot", viewBox: `0 0 ${w} ${height}`, role: "img", "aria-label": `${title} against dₖ, from dₖ = ${widths[0]} to ${widths[widths.length - 1]}: divided by √dₖ from ${written(on[0])} to ${written(on[on.length - 1])}; not divided from ${written(off[0])} to ${written(off[off.length - 1])}.` });
    const tick = [0.05, 0.1, 0.2, 0.5, 1].find((t) => high / t <= 5) ?? 1;
    for (let value = 0; value <= high; value += tick) {
      svg.append(
        s("line", { class: "ctk-gridline", x1: left, x2: w - right, y1: y(value), y2: y(value) }),
        s("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, written(value, tick < 0.1 ? 2 : 1)),
      );
    }
    for (const value of [4, 16, 64, 256]) svg.append(s("text", { x: x(value), y: height - bottom + 15, "text-anchor": "middle" }, String(value)));
    svg.append(s("text", { x: x(512), y: height - bottom + 15, "text-anchor": "middle" }, "512"), s("text", { x: (left + w - right) / 2, y: height - 3, "text-anchor": "middle" }, "dₖ"));
    svg.append(s("text", { class: "ctk-plot-title", x: 4, y: 12 }, title));
    svg.append(s("line", { class: "ctk-now", x1: x(d), x2: x(d), y1: top, y2: height - bottom }));
    const path = (values) => `M${values.map((v, i) => `${x(widths[i])} ${y(v)}`).join("L")}`;
    svg.append(s("path", { class: "ctk-on", d: path(on) }), s("path", { class: "ctk-off", d: path(off) }));
    on.forEach((v, i) => svg.append(s("circle", { class: "ctk-on-dot", cx: x(widths[i]), cy: y(v), r: 3 })));
    off.forEach((v, i) => svg.append(s("rect", { class: "ctk-off-dot", x: x(widths[i]) - 3, y: y(v) - 3, width: 6, height: 6 })));
    const last = widths.length - 1;
    svg.append(
      s("text", { class: "ctk-on-name", x: w - right + 8, y: y(on[last]) + 4 }, "● divided"),
      s("text", { class: "ctk-off-name", x: w - right + 8, y: y(off[last]) + 4 }, "■ not divided"),
    );
    return h("div", { class: "ctk-panel" }, svg);
  }

  frame.onTheme(draw);
  onChange(model, ["results", "numbers"], draw);
  draw();
}

export default { render };
