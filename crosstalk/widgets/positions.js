/** Positions: the table, its dot products, and letters to move. @param {{model: Model, el: HTMLElement, signal?: AbortSignal}} context */
function render({ model, el, signal }) {
  const frame = card(el, signal, {
    title: "Positions",
    about: `A row of the heat map is a position, as your \`${model.get("function_name")}(length, d_model)\` gives it. Point at the map, or move in it with the arrow keys.`,
    kind: "positions",
  });
  const { body, say, showProblem, isDark } = frame;
  const TABLE_REACH = 10; // offsets that the table of dot products shows, to either side
  const SAME = 1e-4; // vectors closer than this are the same, as for Python
  const word = [...model.get("word")];
  const anagram = model.get("anagram");
  const widths = model.get("widths");
  const [shortest, longest] = model.get("lengths");
  const spelt = (order) => order.map((i) => word[i]).join("");
  let arrays = readArrays(model);
  let results = model.get("results");
  let column = 0;
  let order = [...model.get("order")];
  const place = () => Math.min(model.get("place"), results.length - 1);

  // -- sliders --
  function slider(label, [min, max], value, words, onMove) {
    const shown = h("output", { class: "ctk-shown" });
    const input = h("input", {
      type: "range",
      class: "ctk-slider",
      min,
      max,
      step: 1,
      input: () => {
        show();
        onMove(input.valueAsNumber);
      },
    });
    const show = () => {
      shown.textContent = words(input.valueAsNumber);
      input.setAttribute("aria-valuetext", words(input.valueAsNumber));
    };
    const set = (now, highest = max) => {
      input.max = String(highest);
      input.value = String(now);
      show();
    };
    set(value);
    return { element: h("label", { class: "ctk-control" }, h("span", {}, label), input, shown), set };
  }
  const sliders = {
    length: slider("length", [shortest, longest], model.get("length"), String, (n) => tell(model, { length: n })),
    width: slider("d_model", [0, widths.length - 1], widths.indexOf(model.get("d_model")), (i) => String(widths[i]), (i) => tell(model, { d_model: widths[i] })),
    place: slider("position p", [0, longest - 1], 0, String, (p) => point(p, column, true)),
  };

  // -- the heat map and the curves --
  const canvas = h("canvas", { "aria-hidden": "true" });
  const hair = h("span", { class: "ctk-hair", "aria-hidden": "true" });
  const band = h("span", { class: "ctk-band", "aria-hidden": "true" });
  const stage = h("div", { class: "ctk-stage", tabindex: 0, role: "application", "aria-roledescription": "heat map", "aria-label": "Positions by dimensions: arrow keys move by one, Page Up and Page Down by ten positions" }, canvas, band, hair);
  const within = (x, n) => Math.max(0, Math.min(n - 1, Math.floor(x)));
  function pointAt(event) {
    const box = stage.getBoundingClientRect();
    const [rows, columns] = arrays.table.shape;
    point(within(((event.clientY - box.top) / box.height) * rows, rows), within(((event.clientX - box.left) / box.width) * columns, columns), false);
  }
  stage.addEventListener("pointerdown", pointAt);
  stage.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse") pointAt(event);
  });
  stage.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-10, 0], PageDown: [10, 0], Home: [0, -Infinity], End: [0, Infinity] };
    const move = moves[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    stop(event);
    const [rows, columns] = arrays.table.shape;
    point(within(place() + move[0], rows), within(column + move[1], columns), true);
  });
  function stop(event) {
    event.preventDefault();
    event.stopPropagation();
  }
  const heading = h("p", { class: "ctk-subtitle" });
  const strip = legend("signed", "−1", "1", isDark);
  const lastColumn = h("span", {});
  const curves = h("div", { class: "ctk-curves" });
  const reading = h("p", { class: "ctk-reading" });
  const judged = h("p", { class: "ctk-said" });
  const offsets = h("p", { class: "ctk-said" });
  const details = h("details", { class: "ctk-details", toggle: () => drawTable() }, h("summary", {}, "The dot products of position p as a table"));
  const tables = h(
    "div",
    { "data-ctk": "table" },
    h("div", { class: "ctk-controls ctk-sliders" }, sliders.length.element, sliders.width.element, sliders.place.element),
    h(
      "div",
      { class: "ctk-panels ctk-halves" },
      h("div", { class: "ctk-panel" }, heading, stage, h("div", { class: "ctk-under", "aria-hidden": "true" }, h("span", {}, "dimension 0"), strip.element, lastColumn)),
      h("div", { class: "ctk-panel" }, curves),
    ),
    reading,
    judged,
    offsets,
    details,
  );

  // -- the letters --
  const slots = word.map((_, i) => h("button", { type: "button", class: "ctk-slot", tabindex: -1, "data-slot": i, click: (event) => press(i, event) }));
  const row = h("div", { class: "ctk-word", role: "group", "aria-label": "Letters to move" }, ...slots);
  let held = -1; // the place of the letter in the hand
  let drag = null; // {from, began}, while a pointer is down on a letter

  function hold(i) {
    held = i;
    drawWord();
  }
  function carry(from, to) {
    const next = [...order];
    next.splice(to, 0, ...next.splice(from, 1));
    return next;
  }
  function arrange(next, words) {
    order = next;
    drawWord();
    tell(model, { order: [...order] });
    say(`${words}: ${spelt(order)}.`, "act");
  }
  /** Click, Enter or space: take a letter into the hand, or put it down here. */
  function press(i, event) {
    if (drag?.began && event.detail > 0) return; // the click that ends a drag; from a keyboard detail is 0
    if (held < 0) {
      hold(i);
      say(`${word[order[i]]} at place ${i}, picked up: the arrow keys move it, space puts it down.`, "act");
      return;
    }
    const from = held;
    held = -1;
    if (from !== i) arrange(carry(from, i), `${word[order[from]]} moved to place ${i}`);
    else {
      drawWord();
      say(`${word[order[i]]} put down at place ${i}: ${spelt(order)}.`, "act");
    }
  }
  // A letter in the hand goes with the arrow keys; without one they move the focus.
  row.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, Home: -word.length, End: word.length };
    if (held < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") hold(-1);
    else if (steps[event.key]) {
      const to = within(held + steps[event.key], word.length);
      const from = held;
      held = to;
      if (to !== from) arrange(carry(from, to), `${word[order[from]]} moved to place ${to}`);
      roving.focus(to);
    } else return;
    event.stopImmediatePropagation();
    stop(event);
  });
  const roving = rove(row, () => slots, () => slots.length);
  roving.select(0);
  row.addEventListener("pointerdown", (event) => {
    const from = slots.indexOf(event.target);
    drag = from < 0 || event.button !== 0 ? null : { from, began: false };
  });
  row.addEventListener("pointermove", (event) => {
    if (!drag || !(event.buttons & 1)) return;
    const gap = (slot) => {
      const box = slot.getBoundingClientRect();
      return Math.hypot(event.clientX - (box.left + box.right) / 2, event.clientY - (box.top + box.bottom) / 2);
    };
    const to = slots.reduce((best, slot, i) => (gap(slot) < gap(slots[best]) ? i : best), 0);
    if (to === drag.from) return;
    if (!drag.began) row.setPointerCapture(event.pointerId);
    drag.began = true;
    const from = drag.from;
    held = drag.from = to;
    arrange(carry(from, to), `${word[order[from]]} moved to place ${to}`);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    row.addEventListener(end, () => {
      if (drag?.began) hold(-1);
    });
  }
  const asItWas = word.map((_, i) => i);
  const backwards = [...asItWas].reverse();
  const presets = [["as it was", asItWas]];
  if (spelt(anagram) !== spelt(backwards)) presets.push(["reversed", backwards]);
  if (anagram.length) presets.push([spelt(anagram), anagram]);
  const added = toggle("add the positions", model.get("with_positions"), (on) => tell(model, { with_positions: on }));
  const vectors = h("table", { class: "ctk-bars ctk-vectors" });
  const verdict = h("p", { class: "ctk-verdict" });
  const letters = h(
    "div",
    { class: "ctk-why" },
    h("p", { class: "ctk-subtitle" }, `What the encoder receives: move the letters of “${word.join("")}”`),
    h("p", { class: "ctk-about" }, "Drag a letter. Or press space on it, move it with the arrow keys, and press space again. The embeddings are random, as before training."),
    h("div", { class: "ctk-controls" }, row, h("span", { class: "ctk-control" }, ...presets.map(([name, to]) => button(name, () => arrange([...to], name)))), added),
    h("div", { class: "ctk-scroll" }, vectors),
    verdict,
  );
  body.append(tables, letters);

  function drawWord() {
    slots.forEach((slot, i) => {
      slot.textContent = word[order[i]];
      slot.classList.toggle("ctk-held", i === held);
      slot.setAttribute("aria-pressed", String(i === held));
      slot.setAttribute("aria-label", `${word[order[i]]}, place ${i}`);
    });
  }

  /** Values onto a canvas, a pixel each; `largest` gets the strongest colour. */
  function blit(target, values, [rows, columns], largest) {
    [target.width, target.height] = [columns, rows];
    const map = new Uint32Array(colours("signed", isDark()).map(([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0));
    const context = target.getContext("2d");
    const image = context.createImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < values.length; i += 1) pixels[i] = map[Math.round(255 * Math.min(1, Math.max(0, 0.5 + values[i] / largest / 2)))];
    context.putImageData(image, 0, 0);
  }
  const largestOf = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);

  // The lines of the plot that stay while p moves, and how to place a point; made when the table changes.
  let plot = null;
  function drawCurves() {
    const [w, height, left, right, top, bottom] = [400, 280, 40, 10, 42, 36];
    const { values } = arrays.products;
    const n = results.length;
    const reach = n - 1;
    const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    const low = Math.min(0, values.reduce((a, b) => Math.min(a, b), Infinity));
    const span = Math.max(high - low, 1e-6);
    const x = (offset) => left + ((w - left - right) * (offset + reach)) / (2 * reach);
    const y = (value) => top + ((height - top - bottom) * (high + 0.04 * span - value)) / (1.08 * span);
    const path = (p) => `M${Array.from({ length: n }, (_, k) => `${x(k - p).toFixed(1)} ${y(values[p * n + k]).toFixed(1)}`).join("L")}`;
    const svg = s("svg", { class: "ctk-plot", viewBox: `0 0 ${w} ${height}`, role: "img" });
    const tick = [1, 2, 5].flatMap((m) => [0.1, 1, 10, 100].map((ten) => m * ten)).sort((a, b) => a - b).find((t) => span / t <= 6) ?? span;
    for (let value = Math.ceil(low / tick) * tick; value <= high + 1e-9; value += tick) {
      svg.append(
        s("line", { class: "ctk-gridline", x1: left, x2: w - right, y1: y(value), y2: y(value) }),
        s("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, written(value, tick < 1 ? 1 : 0)),
      );
    }
    const far = [5, 10, 20, 40].find((t) => reach / t <= 3) ?? 40;
    for (let offset = -Math.floor(reach / far) * far; offset <= reach; offset += far) {
      svg.append(s("text", { x: x(offset), y: height - bottom + 16, "text-anchor": "middle" }, written(offset, 0)));
    }
    const now = s("path", { class: "ctk-now" });
    const dot = s("circle", { class: "ctk-now-dot", r: 4.5 });
    const name = s("text", { class: "ctk-now-name", x: left, y: 32 });
    svg.append(
      s("line", { class: "ctk-axis", x1: x(0), x2: x(0), y1: top, y2: height - bottom }),
      s("path", { class: "ctk-others", d: Array.from({ length: n }, (_, p) => path(p)).join("") }),
      now,
      dot,
      s("text", { class: "ctk-plot-title", x: 4, y: 13 }, "Dot product of position p and position p + offset"),
      name,
      s("text", { class: "ctk-others-name", x: w - right, y: 32, "text-anchor": "end" }, "━ every other position"),
      s("text", { x: (left + w - right) / 2, y: height - 4, "text-anchor": "middle" }, "offset"),
    );
    curves.replaceChildren(svg);
    plot = { svg, now, dot, name, path, x, y };
  }

  function point(p, at, aloud) {
    const [rows, columns] = arrays.table.shape;
    column = Math.min(at, columns - 1);
    if (p !== model.get("place")) tell(model, { place: p });
    sliders.place.set(p, rows - 1);
    Object.assign(band.style, { top: `${(100 * p) / rows}%`, height: `${100 / rows}%` });
    Object.assign(hair.style, { left: `${(100 * column) / columns}%`, top: `${(100 * p) / rows}%`, width: `${100 / columns}%`, height: `${100 / rows}%` });
    const product = (k) => arrays.products.values[p * rows + k];
    plot.now.setAttribute("d", plot.path(p));
    plot.dot.setAttribute("cx", plot.x(0));
    plot.dot.setAttribute("cy", plot.y(product(p)));
    plot.name.textContent = `━ position p = ${p}`;
    const others = [1, 10].map((offset) => [p + offset, offset]).filter(([k]) => k < rows);
    const products = others.map(([k, offset]) => `${written(product(k), 1)} with position ${k} (offset ${offset})`);
    plot.svg.setAttribute("aria-label", `Dot product of position ${p}: ${[`${written(product(p), 1)} with itself`, ...products].join(", ")}.`);
    reading.replaceChildren(
      h("b", {}, `Position ${p}`),
      `, dimension ${column}: `,
      h("b", { "data-ctk": "value" }, written(arrays.table.values[p * columns + column])),
      `. Its dot product is ${[`${written(product(p), 1)} with itself`, ...products].join(", ")}.`,
    );
    if (aloud) say(reading.textContent, "reading");
    drawTable();
  }

  function drawTable() {
    details.querySelector("table")?.remove();
    if (!details.open) return;
    const [n, p] = [results.length, place()];
    const near = Array.from({ length: 2 * TABLE_REACH + 1 }, (_, i) => i - TABLE_REACH).filter((offset) => p + offset >= 0 && p + offset < n);
    details.append(
      h(
        "table",
        { class: "ctk-plain" },
        h("caption", { class: "ctk-unseen" }, `Dot products of position ${p} with those up to ${TABLE_REACH} away`),
        h("thead", {}, h("tr", {}, ...["Offset", "Position", "Dot product"].map((x) => h("th", { scope: "col" }, x)))),
        h("tbody", {}, ...near.map((offset) => h("tr", {}, h("th", { scope: "row" }, written(offset, 0)), h("td", {}, String(p + offset)), h("td", {}, written(arrays.products.values[p * n + p + offset], 2))))),
      ),
    );
  }

  function drawLetters() {
    const { before, now, moved } = arrays;
    const width = results.d_model;
    const largest = Math.max(largestOf(before.values), largestOf(now.values));
    const farthest = Math.max(1e-9, ...moved.values);
    const arranged = results.letters.order;
    const vector = (source, i) => source.values.subarray(i * width, (i + 1) * width);
    const strip = (values, most = largest) => {
      const picture = h("canvas", { class: "ctk-vector", "aria-hidden": "true" });
      blit(picture, values, [1, width], most);
      return picture;
    };
    const changes = arranged.map((from, i) => vector(now, i).map((value, k) => value - vector(before, from)[k]));
    const largestChange = Math.max(SAME, ...changes.map(largestOf));
    vectors.replaceChildren(
      h("caption", {}, `The vector of each letter, ${results.letters.with_positions ? "embedding + position" : "embedding alone"}, and what has changed since “${word.join("")}”`),
      h("thead", {}, h("tr", {}, ...["Place", "Letter", "Vector now", "As it was", "Difference", "Distance"].map((x, i) => h("th", { scope: "col", class: i === 3 ? "ctk-spare" : null, colspan: i === 5 ? 3 : null }, x)))),
      h(
        "tbody",
        {},
        ...arranged.map((from, i) => {
          const far = moved.values[i];
          const same = far <= SAME;
          const bar = h("span", { class: "ctk-bar" });
          bar.style.width = `${(100 * far) / farthest}%`;
          return h(
            "tr",
            { "data-moved": same ? "same" : "new" },
            h("td", {}, String(i)),
            h("th", { scope: "row" }, word[from]),
            h("td", {}, strip(vector(now, i))),
            h("td", { class: "ctk-spare" }, strip(vector(before, from))),
            h("td", {}, strip(changes[i], largestChange)),
            h("td", { class: "ctk-number" }, written(far)),
            h("td", { class: "ctk-bar-cell" }, same ? "" : bar),
            h("td", { class: "ctk-remark" }, `${from === i ? "stayed" : `was at place ${from}`}${same ? ": same vector" : ""}`),
          );
        }),
      ),
    );
    verdict.textContent = results.letters.said;
    say(verdict.textContent, "letters");
  }

  function draw() {
    arrays = readArrays(model);
    results = model.get("results");
    showProblem(results.problem);
    tables.hidden = Boolean(results.problem);
    strip.paint();
    sliders.length.set(model.get("length"));
    sliders.width.set(widths.indexOf(model.get("d_model")));
    const box = added.querySelector("input");
    box.checked = results.letters.with_positions;
    box.disabled = Boolean(results.problem);
    if (held < 0) order = [...model.get("order")];
    drawWord();
    if (arrays.table) {
      const [rows, columns] = arrays.table.shape;
      heading.textContent = `${rows} positions × ${columns} dimensions`;
      lastColumn.textContent = String(columns - 1);
      blit(canvas, arrays.table.values, arrays.table.shape, Math.max(1, largestOf(arrays.table.values)));
      judged.className = `ctk-said ${results.right ? "ctk-agrees" : "ctk-differs"}`;
      judged.textContent = results.said;
      offsets.className = `ctk-said ${results.by_offset ? "ctk-agrees" : "ctk-differs"}`;
      offsets.textContent = results.curves;
      drawCurves();
      point(place(), column, false);
      say(`${heading.textContent}. ${results.said} ${results.curves}`, "table");
    }
    drawLetters();
  }

  frame.onTheme(draw);
  onChange(model, ["results", "numbers"], draw);
  draw();
}

export default { render };
