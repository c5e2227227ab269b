/** Label smoothing: targets, loss, calibration. @param {{model: Model, el: HTMLElement, signal?: AbortSignal}} context */
function render({ model, el, signal }) {
  const { body, say, showProblem } = card(el, signal, {
    title: "Label smoothing: what the loss then wants",
    about:
      "Instead of all probability for the right token, the target gives a little, ε in all, to the others. " +
      "Move ε and see the target, where the loss is lowest, and what ε = 0.1 did to a model that was really trained.",
    kind: "label_smoothing",
  });
  const TELLING = 20; // tokens that a bin needs to be drawn
  const EXPLAINED = ["true class included: PyTorch, Szegedy et al. 2016", "the true class gets none of it", "neither the true class nor padding gets any"];
  const tokens = model.get("tokens");
  const trueClass = model.get("true");
  const variants = model.get("variants");
  const calibration = model.get("calibration");
  const yours = model.get("function_name");
  let arrays = readArrays(model);
  const share = (value) => written(value, 4);

  // -- the target --
  const slider = h("input", {
    type: "range",
    class: "ctk-slider",
    min: 0,
    max: 0.5,
    step: 0.01,
    input: () => {
      showEpsilon(slider.valueAsNumber);
      tell(model, { smoothing: slider.valueAsNumber });
    },
  });
  const shown = h("output", { class: "ctk-epsilon" });
  const kinds = radios("ε is shared out as", variants.map((name) => `\`${name}\``), model.get("variant"), (i) => tell(model, { variant: i }));
  const explained = h("p", { class: "ctk-explained" });
  const bars = h("div", { class: "ctk-scroll ctk-target", tabindex: 0, role: "group", "aria-label": "Target bars" });
  const shares = h("p", { class: "ctk-shares" });

  // -- the loss --
  const losses = h("div", { class: "ctk-panel" });
  const lowest = h("div", { class: "ctk-panel ctk-lowest" });
  const lowestText = h("p", { class: "ctk-said" });
  const theirs = h("p", { class: "ctk-said", hidden: !yours });
  lowest.append(
    lowestText,
    h("p", {}, "The gap is the logit of the right token less that of all others, which are equal here. Without smoothing a larger gap always lowers the loss, so logits grow as long as one trains. With it there is a gap that is large enough: where the softmax gives the right token just its share of the target."),
    theirs,
  );

  body.append(
    h("div", { class: "ctk-controls" }, h("label", { class: "ctk-control ctk-wide" }, h("span", {}, "ε"), slider, shown), kinds),
    explained,
    bars,
    shares,
    h("div", { class: "ctk-part" }, h("p", { class: "ctk-subtitle" }, "The loss against the logit gap"), h("div", { class: "ctk-panels ctk-halves" }, losses, lowest)),
    calibrationPart(),
  );

  function showEpsilon(value) {
    shown.textContent = written(value);
    slider.setAttribute("aria-valuetext", `ε = ${written(value)}`);
  }

  function drawBars(results) {
    const { values } = arrays.shares;
    const [width, height, left, right, top, bottom] = [840, 196, 44, 6, 24, 52];
    const high = 0.0135; // 0.5 over 40 classes, and a little air
    const apart = (width - left - right) / tokens.length;
    const y = (value) => top + (height - top - bottom) * (1 - Math.min(value, high) / high);
    const others = [...new Set([...values].filter((_, i) => i !== trueClass))].map(share).join(" or ");
    const plot = s("svg", { class: "ctk-plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Target: ${tokens[trueClass]} gets ${share(values[trueClass])}, each other token ${others}` });
    for (const value of [0, 0.005, 0.01]) {
      plot.append(
        s("line", { class: "ctk-gridline", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
        s("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, value ? written(value, 3) : "0"),
      );
    }
    tokens.forEach((token, i) => {
      const x = left + i * apart;
      const chosen = i === trueClass;
      plot.append(
        s("rect", { class: chosen ? "ctk-true" : "ctk-other", "data-token": token, x: x + 2.5, width: apart - 5, y: y(values[i]), height: Math.max(0, y(0) - y(values[i])) }),
        s("text", { class: chosen ? "ctk-here" : "", transform: `translate(${x + apart / 2 + 4} ${y(0) + 6}) rotate(-90)`, "text-anchor": "end" }, token),
      );
    });
    const x = left + (trueClass + 0.5) * apart;
    if (values[trueClass] > high) {
      // The one bar that does not fit is broken off, and says how far it would go.
      plot.append(
        s("path", { class: "ctk-break", d: `M${x - 11} ${top + 14}l7 -5l7 5l7 -5` }),
        s("text", { class: "ctk-here", x, y: top - 8, "text-anchor": "middle" }, `↑ ${share(values[trueClass])}, ${Math.round(values[trueClass] / high)} times as high as this picture`),
      );
    }
    bars.replaceChildren(plot);
    explained.textContent = `${variants[results.variant]}: ${EXPLAINED[results.variant]}.`;
    const rest = [...values].reduce((sum, value, i) => sum + (i === trueClass ? 0 : value), 0);
    const ordinary = values[tokens.length - 1];
    shares.replaceChildren(
      `The right token, here ${tokens[trueClass]}, is to get `,
      h("b", { "data-ctk": "share" }, share(values[trueClass])),
      "; each other ",
      h("b", { "data-ctk": "other" }, share(ordinary)),
      values[0] === ordinary ? (ordinary > 0 ? ", also <pad> and <start>, which are never right" : "") : `, but <pad> ${share(values[0])}`,
      `; the others together ${share(rest)}.`,
    );
  }

  function drawLosses(results) {
    const gaps = [...arrays.gaps.values];
    const curves = [
      ["ctk-plain-loss", "ε = 0", [...arrays.plain.values]],
      ["ctk-loss", `ε = ${written(results.smoothing)}`, [...arrays.loss.values]],
    ];
    if (arrays.theirs) curves.push(["ctk-their-loss", "yours", [...arrays.theirs.values]]);
    const [width, height, left, right, top, bottom] = [400, 230, 34, 64, 22, 34];
    const high = 6;
    const [from, to] = [gaps[0], gaps[gaps.length - 1]];
    const x = (gap) => left + ((width - left - right) * (gap - from)) / (to - from);
    const y = (loss) => top + (height - top - bottom) * (1 - Math.min(loss, high) / high);
    const { minimum } = results;
    const where = minimum ? `lowest, ${written(minimum.loss, 3)}, at a gap of ${written(minimum.gap)}` : "falls all the way";
    const plot = s("svg", { class: "ctk-plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Loss against the logit gap from ${written(from, 0)} to ${written(to, 0)} nats, ε = ${written(results.smoothing)}: ${where}` });
    for (let loss = 0; loss <= high; loss += 1) {
      plot.append(
        s("line", { class: "ctk-gridline", x1: left, x2: width - right, y1: y(loss), y2: y(loss) }),
        s("text", { x: left - 5, y: y(loss) + 4, "text-anchor": "end" }, String(loss)),
      );
    }
    for (let gap = from; gap <= to; gap += 2) plot.append(s("text", { x: x(gap), y: height - bottom + 15, "text-anchor": "middle" }, written(gap, 0)));
    plot.append(
      s("text", { class: "ctk-plot-title", x: 2, y: 12 }, "Loss, in nats"),
      s("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "logit gap, in nats"),
    );
    let above = Infinity;
    const named = curves.filter(([kind]) => kind !== "ctk-their-loss" || results.theirs.state === "differs");
    const ends = named.map(([kind, name, values]) => ({ kind, name, y: y(values[values.length - 1]) })).sort((a, b) => b.y - a.y);
    for (const end of ends) {
      if (end.kind === "ctk-loss" && results.smoothing === 0) continue;
      above = Math.min(end.y, above - 14);
      plot.append(s("text", { class: `${end.kind}-name`, x: width - right + 5, y: above + 4 }, end.name));
    }
    for (const [kind, , values] of curves) {
      const points = values.map((loss, i) => [gaps[i], loss]).filter(([, loss]) => Number.isFinite(loss));
      if (points.length) plot.append(s("path", { class: kind, d: `M${points.map(([gap, loss]) => `${x(gap).toFixed(1)} ${y(loss).toFixed(1)}`).join("L")}` }));
    }
    if (minimum && minimum.gap <= to) {
      const [cx, cy] = [x(minimum.gap), y(minimum.loss)];
      plot.append(
        s("line", { class: "ctk-now", x1: cx, x2: cx, y1: cy, y2: height - bottom }),
        s("circle", { class: "ctk-minimum", cx, cy, r: 5 }),
        s("text", { class: "ctk-here", x: cx, y: cy - 10, "text-anchor": "middle" }, `${written(minimum.loss, 3)} at ${written(minimum.gap)}`),
      );
    }
    losses.replaceChildren(plot);
    lowestText.replaceChildren(
      ...(minimum
        ? [h("b", {}, "Lowest at a gap of ", h("span", { "data-ctk": "gap" }, written(minimum.gap))), `: the loss is ${written(minimum.loss, 3)} there, never 0, and the softmax gives the right token ${share(results.share)}.`]
        : [h("b", {}, "No lowest point: "), h("span", { "data-ctk": "gap" }, "∞"), ". The loss falls towards 0 as the gap grows, and never gets there."]),
    );
    const found = results.theirs;
    showProblem(found.state === "problem" ? found.said : "");
    theirs.hidden = !found.state || found.state === "problem";
    theirs.className = `ctk-said ${found.state === "agrees" ? "ctk-agrees" : "ctk-differs"}`;
    theirs.replaceChildren(...inline(found.said ?? ""));
  }

  /** Drawn once: nothing here depends on the slider. */
  function calibrationPart() {
    const { models, differences, words, tokens: count, said } = calibration;
    const names = models.map((each) => `ε = ${String(each.smoothing)}`);
    const thousands = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");
    const figures = [
      ["ece", "ECE", 3],
      ["nll", "NLL, nats a token", 3],
      ["accuracy", "Next token right", 3],
      ["per", "PER, %", 1],
      ["wer", "WER, %", 1],
    ];
    const signed = (value, digits) => `${value >= 0 ? "+" : ""}${written(value, digits)}`;
    const table = h(
      "table",
      { class: "ctk-plain ctk-figures" },
      h("caption", { class: "ctk-unseen" }, "Figures of the two trained models"),
      h("thead", {}, h("tr", {}, ...["", ...names, "Difference"].map((x) => (x ? h("th", { scope: "col" }, x) : h("td", {}))))),
      h(
        "tbody",
        {},
        ...figures.map(([key, name, digits]) => {
          const { value, low, high } = differences[key];
          return h(
            "tr",
            { "data-figure": key },
            h("th", { scope: "row" }, name),
            ...models.map((each) => h("td", {}, written(each[key].value, digits))),
            h("td", {}, signed(value, digits), h("small", {}, `${signed(low, digits)} … ${signed(high, digits)}`)),
          );
        }),
      ),
    );
    const perBin = h(
      "details",
      { class: "ctk-details" },
      h("summary", {}, "The diagram as a table"),
      h(
        "table",
        { class: "ctk-plain" },
        h("caption", { class: "ctk-unseen" }, "Confidence and accuracy in each bin"),
        h("thead", {}, h("tr", {}, ...["Confidence", ...names.flatMap((name) => [`${name}: tokens`, `${name}: right`])].map((x) => h("th", { scope: "col" }, x)))),
        h(
          "tbody",
          {},
          ...models[0].bins.map((_, i, all) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, `${written(i / all.length)} to ${written((i + 1) / all.length)}`),
              ...models.flatMap(({ bins }) => [h("td", {}, thousands(bins[i].count)), h("td", {}, bins[i].count ? written(bins[i].accuracy, 3) : "–")]),
            ),
          ),
        ),
      ),
    );
    return h(
      "div",
      { class: "ctk-part" },
      h("p", { class: "ctk-subtitle" }, "Two models, really trained, alike but for ε"),
      h(
        "div",
        { class: "ctk-panels ctk-halves" },
        h("div", { class: "ctk-panel" }, diagram(models, names)),
        h("div", { class: "ctk-panel ctk-measured" }, h("div", { class: "ctk-scroll" }, table), ...said.map((sentence) => h("p", { class: "ctk-finding" }, sentence))),
      ),
      h(
        "p",
        { class: "ctk-source" },
        `Measured on ${thousands(words)} words (${thousands(count)} tokens) that neither model was trained on. ECE, the expected calibration error, is how far confidence and the share that is right lie apart, over ${models[0].bins.length} bins. Bins of fewer than ${TELLING} tokens are left out of the diagram. Under each difference stands its 95 % interval, from drawing the words anew. Müller et al. 2019 found better calibration with label smoothing, for larger models of images and of translation. Here you see what these two did.`,
      ),
      perBin,
    );
  }

  function diagram(models, names) {
    const [width, height, left, right, top, bottom] = [400, 330, 38, 14, 22, 36];
    const x = (value) => left + (width - left - right) * value;
    const y = (value) => top + (height - top - bottom) * (1 - value);
    const ece = models.map((each, i) => `${names[i]} with calibration error ${written(each.ece.value, 3)}`).join(", ");
    const plot = s("svg", { class: "ctk-plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Reliability diagram: share of right tokens against confidence, ${ece}` });
    for (const value of [0, 0.2, 0.4, 0.6, 0.8, 1]) {
      plot.append(
        s("line", { class: "ctk-gridline", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
        s("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, written(value, 1)),
        s("text", { x: x(value), y: height - bottom + 15, "text-anchor": "middle" }, written(value, 1)),
      );
    }
    plot.append(
      s("text", { class: "ctk-plot-title", x: 2, y: 12 }, "Share that is right"),
      s("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "confidence: the probability of the likeliest token"),
      s("line", { class: "ctk-fair", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }),
      s("text", { class: "ctk-side", x: x(0.3), y: y(0.86) }, "less sure than it may be"),
      s("text", { class: "ctk-side", x: x(0.97), y: y(0.16), "text-anchor": "end" }, "surer than it may be"),
    );
    models.forEach(({ bins }, i) => {
      const points = bins.filter((bin) => bin.count >= TELLING);
      plot.append(s("path", { class: `ctk-model-${i}`, d: `M${points.map((bin) => `${x(bin.confidence)} ${y(bin.accuracy)}`).join("L")}` }));
      for (const bin of points) {
        const at = [x(bin.confidence), y(bin.accuracy)];
        plot.append(
          i === 0
            ? s("circle", { class: "ctk-dot-0", cx: at[0], cy: at[1], r: 4 })
            : s("rect", { class: "ctk-dot-1", x: at[0] - 4, y: at[1] - 4, width: 8, height: 8 }),
        );
      }
    });
    names.forEach((name, i) => {
      const at = y(0.4 - 0.075 * i);
      plot.append(
        i === 0 ? s("circle", { class: "ctk-dot-0", cx: x(0.52), cy: at, r: 4 }) : s("rect", { class: "ctk-dot-1", x: x(0.52) - 4, y: at - 4, width: 8, height: 8 }),
        s("text", { class: `ctk-name-${i}`, x: x(0.52) + 10, y: at + 4 }, `${name}, ECE ${written(models[i].ece.value, 3)}`),
      );
    });
    return plot;
  }

  let saidFor = `${model.get("smoothing")} ${model.get("variant")}`;
  function draw() {
    arrays = readArrays(model);
    const results = model.get("results");
    kinds.querySelectorAll("input").forEach((radio, i) => (radio.checked = i === model.get("variant")));
    slider.value = String(model.get("smoothing"));
    showEpsilon(model.get("smoothing"));
    drawBars(results);
    drawLosses(results);
    const key = `${results.smoothing} ${results.variant}`;
    if (key !== saidFor) say(`ε = ${written(results.smoothing)}, ${variants[results.variant]}. ${shares.textContent} ${lowestText.textContent}`);
    saidFor = key;
  }

  onChange(model, ["results", "numbers"], draw);
  draw();
  // On a narrow page the bars scroll: begin in the middle, where the right token stands.
  requestAnimationFrame(() => (bars.scrollLeft = (bars.scrollWidth - bars.clientWidth) / 2));
}

export default { render };
