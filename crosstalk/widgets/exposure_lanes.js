/** Gold, teacher-forced, free-running. @param {{model: Model, el: HTMLElement, signal?: AbortSignal}} context */
function render({ model, el, signal }) {
  const { body, say, showProblem, root } = card(el, signal, {
    title: "Exposure lanes: given the right tokens, and left alone",
    about:
      "Teacher-forced, each step reads the right token before it; free-running, it reads the model's own. " +
      "Put a wrong token into both, and see which of them finds back.",
    kind: "exposure_lanes",
  });
  const SIGNS = { right: "✓", wrong: "✗", "put in": "!", missing: "−", extra: "+" };
  const NAMES = { forced: "teacher-forced", free: "free-running" };
  const WAYS = ["same", "aligned"];
  const way = () => WAYS[Number(model.get("aligned"))];
  let results = model.get("results");

  // -- the word --
  const wordId = freshId("word");
  const wordBox = h("input", { id: wordId, type: "text", class: "ctk-select ctk-type", size: 14, maxlength: 40, autocomplete: "off", autocapitalize: "none", spellcheck: "false", change: () => another() });
  function another() {
    if (wordBox.value !== model.get("word")) tell(model, { word: wordBox.value, step: 0, chosen: 0 });
  }
  const goldChoice = h("span", {});
  const controls = h("div", { class: "ctk-controls" }, h("span", { class: "ctk-control" }, h("label", { for: wordId }, "Word"), wordBox, button("Show", another)), goldChoice);

  // -- the wrong token --
  const shown = h("output", { class: "ctk-value" });
  let asked = null; // a step that Python has not answered yet: an older answer must not move the slider back
  const slider = h("input", {
    type: "range",
    class: "ctk-slider",
    "data-ctk": "step",
    min: 0,
    max: 1,
    step: 1,
    input: () => {
      asked = slider.valueAsNumber;
      nameStep(asked);
      tell(model, { step: asked });
    },
  });
  const nameStep = (step) => {
    shown.textContent = step ? `step ${step}` : "nowhere";
    slider.setAttribute("aria-valuetext", shown.textContent);
  };
  const seedId = freshId("seed");
  const seed = h("input", {
    id: seedId,
    type: "number",
    class: "ctk-select ctk-seed",
    min: 0,
    max: 9999,
    step: 1,
    change: () => {
      const chosen = Number.isInteger(seed.valueAsNumber) && seed.valueAsNumber >= 0 ? seed.valueAsNumber : 0;
      seed.value = String(chosen);
      tell(model, { seed: chosen });
    },
  });
  const align = toggle("edit-aligned", model.get("aligned"), (on) => tell(model, { aligned: on }));
  const putting = h(
    "div",
    { class: "ctk-controls" },
    h("label", { class: "ctk-control ctk-setting" }, h("span", {}, "A wrong token at"), slider, shown),
    h("span", { class: "ctk-control" }, h("label", { for: seedId }, "seed"), seed, button("Another", () => tell(model, { seed: model.get("seed") + 1 }))),
    align,
  );

  // -- the lanes --
  const lanes = h("table", { class: "ctk-lanes" });
  const verdict = h("p", { class: "ctk-verdict" });

  // -- many words --
  const plot = h("div", { class: "ctk-panel ctk-plotted" });
  const found = h("p", { class: "ctk-found" });
  const figures = h("div", { class: "ctk-panel ctk-figures" });
  const wrongWithFigures = h("p", { class: "ctk-said ctk-differs", hidden: true });
  const ask = button(`Measure ${model.get("words")} held-out words`, () => {
    ask.disabled = true;
    ask.textContent = "Measuring …";
    // The page paints this before Python is busy.
    requestAnimationFrame(() => tell(model, { asked: true }));
  }, { class: "ctk-button ctk-main" });
  const many = h(
    "div",
    { class: "ctk-part" },
    h("p", { class: "ctk-subtitle" }, "Many words: right how often, so many steps after the wrong token"),
    h("p", { class: "ctk-about" }, "Words of the dictionary's test part with one listed pronunciation; in each, one step is drawn and gets a wrong token, in both modes."),
    ask,
    wrongWithFigures,
    h("div", { class: "ctk-panels ctk-halves" }, plot, figures),
    found,
  );
  const scroll = h("div", { class: "ctk-scroll", tabindex: 0, role: "region", "aria-label": "The three lanes" }, lanes);
  body.append(controls, putting, scroll, verdict, many);

  let drawnGolds = "";
  function drawGolds() {
    const key = JSON.stringify([results.golds, results.chosen]);
    if (key === drawnGolds) return;
    drawnGolds = key;
    goldChoice.replaceChildren(...(results.golds.length > 1 ? [chooser("Gold", results.golds, results.chosen, (i) => tell(model, { chosen: i, step: 0 }))] : []));
  }

  function drawLanes(arrays) {
    const pairs = results.pairs[way()];
    const marks = results.marks[way()];
    const known = results.gold.length > 0;
    const stepOf = ([mine, own]) => (known ? mine : own);
    const cell = (mode, place, mark) => {
      if (place === null) return h("td", { class: mark ? `ctk-is-${mark}` : "ctk-empty", "data-mark": mark }, h("b", {}, mark === "missing" ? "–" : ""), mark ? h("small", {}, `${SIGNS[mark]} ${mark}`) : "");
      const number = h("span", { class: "ctk-p" }, probability(arrays[mode].values[place]));
      return h("td", { class: `ctk-is-${mark.replace(" ", "-") || "plain"}`, "data-mark": mark }, h("b", {}, results.tokens[mode][place]), mark ? h("small", {}, `${SIGNS[mark]} ${mark}`) : "", number);
    };
    const row = (name, mode, at) =>
      h("tr", { "data-lane": mode }, h("th", { scope: "row" }, name), ...pairs.map((pair, c) => cell(mode, pair[at], marks[mode][c])));
    lanes.replaceChildren(
      h("caption", { class: "ctk-unseen" }, `What is right and what the model says of ${results.word}, step by step`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "step"), ...pairs.map((pair) => h("th", { scope: "col", "data-step": stepOf(pair) === null ? "" : stepOf(pair) + 1 }, stepOf(pair) === null ? "·" : String(stepOf(pair) + 1))))),
      h(
        "tbody",
        {},
        ...(known
          ? [
              h("tr", { "data-lane": "gold" }, h("th", { scope: "row" }, "gold"), ...pairs.map(([mine]) => h("td", { class: mine === null ? "ctk-empty" : "ctk-gold" }, mine === null ? "" : h("b", {}, results.gold[mine])))),
              row(NAMES.forced, "forced", 0),
            ]
          : []),
        row(NAMES.free, "free", 1),
      ),
    );
  }

  let drawnFigures = "";
  function drawMeasured() {
    const measured = model.get("measured");
    const key = `${way()} ${JSON.stringify(measured)}`;
    if (key === drawnFigures) return;
    drawnFigures = key;
    const done = Array.isArray(measured.curves);
    ask.hidden = done || Boolean(measured.problem);
    wrongWithFigures.hidden = !measured.problem;
    wrongWithFigures.replaceChildren(...inline(measured.problem ?? ""));
    plot.hidden = figures.hidden = found.hidden = !done;
    if (!done) return;
    const curves = measured.curves.filter((each) => each.way === way());
    plot.replaceChildren(drawPlot(curves, measured));
    found.textContent = measured.said[way()];
    const percent = (share) => written(100 * share, 1);
    const heading = (mode, put) => `${NAMES[mode]}, ${put ? "wrong token" : "without"}`;
    figures.replaceChildren(
      h(
        "table",
        { class: "ctk-plain", "data-way": way() },
        h("caption", {}, `Right, in % of ${measured.words} words, with 95 % intervals`),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "steps after"), ...curves.filter((each) => each.put).map(({ mode }) => h("th", { scope: "col" }, heading(mode, true))))),
        h(
          "tbody",
          {},
          ...Array.from({ length: measured.after }, (_, i) =>
            h("tr", {}, h("th", { scope: "row" }, String(i + 1)), ...curves.filter((each) => each.put).map(({ shares, bands }) => h("td", {}, `${percent(shares[i])} `, h("small", {}, `${percent(bands[i][0])} … ${percent(bands[i][1])}`)))),
          ),
        ),
      ),
    );
  }

  function drawPlot(curves, { after, words }) {
    const [width, height, left, right, top, bottom] = [436, 270, 34, 124, 24, 34];
    const x = (distance, mode) => left + 16 + ((width - left - right - 24) * (distance - 1)) / (after - 1) + (mode === "free" ? 5 : -5);
    const y = (share) => top + (height - top - bottom) * (1 - share);
    const ends = curves.map(({ mode, put, shares }) => `${NAMES[mode]} ${put ? "with" : "without"} the wrong token ${shares.map((share) => written(share)).join(", ")}`);
    const svg = s("svg", { class: "ctk-plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Share of ${words} words that are right 1 to ${after} steps after: ${ends.join("; ")}` });
    for (let share = 0; share <= 10; share += 2) {
      svg.append(
        s("line", { class: "ctk-gridline", x1: left, x2: width - right, y1: y(share / 10), y2: y(share / 10) }),
        s("text", { x: left - 5, y: y(share / 10) + 4, "text-anchor": "end" }, String(10 * share)),
      );
    }
    for (let distance = 1; distance <= after; distance += 1) svg.append(s("text", { x: (x(distance, "free") + x(distance, "forced")) / 2, y: height - bottom + 15, "text-anchor": "middle" }, String(distance)));
    svg.append(
      s("text", { class: "ctk-plot-title", x: 2, y: 12 }, `Right, %, ${way() === "aligned" ? "free-running edit-aligned" : "same index"}`),
      s("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "steps after the wrong token"),
    );
    const labels = [];
    for (const { mode, put, shares, bands } of [...curves].sort((a, b) => Number(a.put) - Number(b.put))) {
      const kind = `ctk-${mode}-${put ? "put" : "clean"}`;
      svg.append(s("path", { class: `ctk-curve ${kind}`, "data-curve": `${mode} ${put}`, d: `M${shares.map((share, i) => `${x(i + 1, mode).toFixed(1)} ${y(share).toFixed(1)}`).join("L")}` }));
      labels.push({ kind, y: y(shares[after - 1]), text: put ? NAMES[mode] : `${mode === "forced" ? "forced" : "free"}, without` });
      if (!put) continue;
      shares.forEach((share, i) => {
        const at = x(i + 1, mode);
        svg.append(
          s("line", { class: `ctk-band ${kind}`, x1: at, x2: at, y1: y(bands[i][0]), y2: y(bands[i][1]) }),
          mode === "forced" ? s("circle", { class: `ctk-dot ${kind}`, cx: at, cy: y(share), r: 4 }) : s("rect", { class: `ctk-dot ${kind}`, x: at - 4, y: y(share) - 4, width: 8, height: 8 }),
        );
      });
    }
    let above = -Infinity;
    labels.sort((a, b) => a.y - b.y);
    for (const label of labels) {
      above = Math.max(label.y, above + 15);
      svg.append(s("text", { class: `ctk-label ${label.kind}`, x: width - right + 8, y: above + 4 }, label.text));
    }
    return svg;
  }

  let drawnWord = "";
  function draw() {
    results = model.get("results");
    showProblem(results.problem);
    const arrays = readArrays(model);
    for (const part of [putting, scroll, verdict, many]) part.hidden = !arrays.free;
    if (document.activeElement !== wordBox) wordBox.value = results.problem ? model.get("word") : results.word;
    if (!arrays.free) return;
    slider.max = String(Math.max(1, results.steps));
    if (asked === results.step || results.word !== drawnWord) asked = null;
    drawnWord = results.word;
    if (asked === null) {
      slider.value = String(results.step);
      nameStep(results.step);
    }
    if (document.activeElement !== seed) seed.value = String(results.seed);
    align.querySelector("input").checked = model.get("aligned");
    drawGolds();
    drawLanes(arrays);
    verdict.textContent = results.said[way()];
    drawMeasured();
    root.dataset.step = String(results.step);
    root.dataset.way = way();
    say(results.said[way()], "verdict");
  }

  onChange(model, ["results", "numbers", "aligned", "measured"], draw);
  draw();
}

export default { render };
