/** Where the decoder reads. @param {{model: Model, el: HTMLElement, signal?: AbortSignal}} context */
function render({ model, el, signal }) {
  const frame = card(el, signal, {
    title: "Alignment: where the decoder reads",
    about:
      "A weight says where a head reads, not why the model answers as it does. " +
      "To see what matters, change what it may read and let it decode again: that is an intervention.",
    kind: "alignment",
  });
  const { body, say, showProblem, isDark, root } = frame;
  const START = "<start>";
  const [layers, heads] = [model.get("layers"), model.get("heads")];
  const sub = (n) => String(n).replace(/\d/g, (d) => "₀₁₂₃₄₅₆₇₈₉"[Number(d)]);
  let results = model.get("results");
  let weights = null;

  const step = () => Math.max(1, Math.min(model.get("step"), results.after.length));
  const input = (t) => (t === 1 ? START : results.after[t - 2]);
  const which = (head) => (head < 0 ? `mean of the ${heads} heads` : `head ${head}`);
  const whichWeight = () => {
    const head = model.get("head");
    return head < 0 && heads > 1 ? `mean over ${heads} heads of the cross-attention weight, layer\u00a0${model.get("layer")}` : `cross-attention weight, layer\u00a0${model.get("layer")}, head\u00a0${Math.max(0, head)}`;
  };
  /** The weights of step t (from 1) in the layer and head chosen. */
  function row(t) {
    const [, , steps, letters] = weights.shape;
    const from = (head) => ((model.get("layer") * heads + head) * steps + t - 1) * letters;
    const chosen = model.get("head") < 0 ? Array.from({ length: heads }, (_, head) => head) : [model.get("head")];
    return Array.from({ length: letters }, (_, k) => chosen.reduce((sum, head) => sum + weights.values[from(head) + k], 0) / chosen.length);
  }

  // -- the word, and what is shown of it --
  const wordId = freshId("word");
  const wordBox = h("input", { id: wordId, type: "text", class: "ctk-select ctk-type", size: 14, maxlength: 40, autocomplete: "off", autocapitalize: "none", spellcheck: "false", change: () => another() });
  function another() {
    if (wordBox.value !== model.get("word")) tell(model, { word: wordBox.value, knocked: [], forced: [], step: 1 });
  }
  const layerNames = Array.from({ length: layers }, (_, i) => String(i));
  const headNames = [...(heads > 1 ? [which(-1)] : []), ...Array.from({ length: heads }, (_, i) => String(i))];
  const offset = heads > 1 ? 1 : 0;
  const strip = legend("weights", "weight 0", "1", isDark);
  const controls = h(
    "div",
    { class: "ctk-controls" },
    h("span", { class: "ctk-control" }, h("label", { for: wordId }, "Word"), wordBox, button("Decode", another)),
    chooser("Layer", layerNames, model.get("layer"), (i) => tell(model, { layer: i })),
    chooser("Head", headNames, Math.max(0, model.get("head") + offset), (i) => tell(model, { head: i - offset })),
  );

  // -- tokens and letters --
  const track = h("div", { class: "ctk-track", role: "group", "aria-label": "Steps of the decoder" });
  const chips = () => [...track.children];
  const tokens = rove(track, chips, () => chips().length);
  const named = h("p", { class: "ctk-named" });
  const source = h("div", { class: "ctk-source", role: "group", "aria-label": "Letters of the word" });
  const buttons = () => [...source.querySelectorAll("button")];
  const sourceRoving = rove(source, buttons, () => buttons().length);

  // -- interventions --
  const modes = ["knock", "force"];
  const forceLabel = h("span", { class: "ctk-soft" });
  const mode = radios("A click on a letter", ["knocks it out", "forces the weight of a step onto it"], modes.indexOf(model.get("mode")), (i) => {
    tell(model, { mode: modes[i], knocked: [], forced: [] });
    draw();
  });
  const shown = h("output", { class: "ctk-shown" });
  const share = h("input", {
    type: "range",
    class: "ctk-slider",
    min: 0,
    max: 100,
    step: 5,
    input: () => {
      drawShare();
      tell(model, { share: share.valueAsNumber });
    },
  });
  function drawShare() {
    shown.textContent = `${share.valueAsNumber} %`;
    share.setAttribute("aria-valuetext", `${share.valueAsNumber} percent of the weight`);
  }
  const everywhere = toggle("in every layer", false, () => {
    const forced = model.get("forced");
    if (forced.length) tell(model, { forced: force(forced[0], forced[1]) });
    drawStep();
  });
  const everyLayer = everywhere.querySelector("input");
  everyLayer.checked = model.get("forced")[2] === -1;
  const force = (t, letter) => [t, letter, everyLayer.checked ? -1 : model.get("layer"), model.get("head")];
  const undo = button("Undo", () => tell(model, { knocked: [], forced: [] }));
  const forcing = h("span", { class: "ctk-controls ctk-forcing" }, h("label", { class: "ctk-control" }, h("span", {}, "share of the weight"), share, shown), everywhere, forceLabel);
  const act = h("div", {}, h("div", { class: "ctk-controls" }, mode, undo), forcing);
  const compare = h("table", { class: "ctk-matrix ctk-compare" });
  const verdict = h("p", { class: "ctk-verdict" });
  const heading = h("p", { class: "ctk-subtitle" });
  const all = h("div", {});
  body.append(
    controls,
    h("p", { class: "ctk-subtitle" }, "Choose a step: input → predicted token"),
    track,
    named,
    source,
    h("div", { class: "ctk-why" }, h("p", { class: "ctk-subtitle" }, "Intervene"), act, h("div", { class: "ctk-scroll", tabindex: 0, role: "region", "aria-label": "What the model says" }, compare), verdict),
    h("div", { class: "ctk-why" }, heading, all, strip.element),
  );

  function touch(i) {
    if (model.get("mode") === "force") {
      const forced = model.get("forced");
      const same = forced.length && forced[0] === step() && forced[1] === i;
      tell(model, { forced: same ? [] : force(step(), i) });
      return;
    }
    const knocked = model.get("knocked");
    tell(model, { knocked: knocked.includes(i) ? knocked.filter((k) => k !== i) : [...knocked, i] });
  }

  function choose(t, aloud) {
    if (t !== model.get("step")) tell(model, { step: t });
    drawStep();
    if (aloud) say(`${named.textContent} Most on ${mostOf(row(step()))}.`, "step");
  }
  const mostOf = (line) =>
    line
      .map((w, i) => [results.letters[i], w])
      .sort((a, b) => b[1] - a[1])
      .slice(0, 2)
      .map(([letter, w]) => `${letter} ${written(w)}`)
      .join(", ");

  // Elements are made anew only when the tokens or the letters change, so that the focus stays where it is.
  let drawnTokens = "";
  let matrix = null;
  function drawTokens() {
    const key = JSON.stringify([results.after, results.letters]);
    if (key === drawnTokens) return;
    drawnTokens = key;
    track.replaceChildren(
      ...results.after.map((token, i) =>
        h(
          "button",
          { type: "button", class: "ctk-chip", tabindex: -1, "aria-label": `Step ${i + 1}: input ${input(i + 1)}, predicts ${token}`, click: () => choose(i + 1, true), focus: () => choose(i + 1, true) },
          h("span", { class: "ctk-in" }, `${input(i + 1)} →`),
          h("b", {}, token),
        ),
      ),
    );
    matrix = matrixTable({
      caption: "",
      corner: "input → predicted",
      rows: results.after.map((token, i) => `${input(i + 1)} → ${token}`),
      columns: results.letters,
      kind: "weights",
      extra: "sum",
    });
    matrix.lines.forEach((line, i) => line.addEventListener("focus", () => choose(i + 1, true)));
    all.replaceChildren(matrix.element);
  }

  let drawnLetters = "";
  let bars = [];
  function drawLetters() {
    const key = results.letters.join("");
    if (key !== drawnLetters) {
      drawnLetters = key;
      bars = results.letters.map((letter, i) => {
        const bar = h("span", { class: "ctk-upright" });
        const number = h("span", { class: "ctk-weight" });
        const face = h("button", { type: "button", class: "ctk-letter", tabindex: -1, "data-letter": i, click: () => touch(i) }, letter);
        const element = h("div", { class: "ctk-column" }, h("span", { class: "ctk-shaft", "aria-hidden": "true" }, bar), face, number);
        return { bar, number, face, element };
      });
      source.replaceChildren(...bars.map((b) => b.element));
      sourceRoving.select(0);
    }
  }

  function drawStep() {
    const t = step();
    const line = row(t);
    const [forcedStep, forcedLetter, forcedLayer, forcedHead] = results.forced;
    const forcedHere = forcedStep === t && (forcedLayer === -1 || forcedLayer === model.get("layer")) && (forcedHead === -1 || model.get("head") === -1 || forcedHead === model.get("head"));
    tokens.select(t - 1);
    chips().forEach((chip, i) => {
      if (i === t - 1) chip.setAttribute("aria-current", "step");
      else chip.removeAttribute("aria-current");
      chip.classList.toggle("ctk-forced-step", i + 1 === forcedStep);
    });
    named.replaceChildren(
      h("b", {}, `Step ${t}`),
      `: input y${sub(t - 1)} = `,
      h("b", {}, input(t)),
      `, predicts y${sub(t)} = `,
      h("b", {}, results.after[t - 1]),
      `. The bars: ${whichWeight()}${forcedHere ? ", forced" : ""}.`,
    );
    forceLabel.textContent = `A click acts on step ${t}, ${everyLayer.checked ? "every layer" : `layer ${model.get("layer")}`}, ${model.get("head") < 0 ? "all heads" : `head ${model.get("head")}`}.`;
    bars.forEach(({ bar, number, face }, i) => {
      const out = results.knocked.includes(i);
      const onto = results.forced.length > 0 && forcedLetter === i;
      bar.style.height = `${Math.max(0, Math.min(1, line[i])) * 100}%`;
      bar.classList.toggle("ctk-forced", forcedHere && onto);
      number.textContent = brief(line[i], "weights");
      face.classList.toggle("ctk-out", out);
      face.classList.toggle("ctk-onto", onto);
      face.setAttribute("aria-pressed", String(out || onto));
      const state = out ? ", knocked out" : onto ? `, weight of step ${forcedStep} forced onto it` : "";
      face.setAttribute("aria-label", `${results.letters[i]}, place ${i}, weight ${written(line[i])}${state}`);
    });
    matrix.mark(t - 1);
    heading.textContent = `All steps: ${whichWeight()}`;
    matrix.setCaption(heading.textContent);
    root.dataset.step = String(t);
  }

  function drawMatrix() {
    const lines = results.after.map((_, i) => row(i + 1));
    matrix.paint(lines.flat(), isDark(), lines.map((line) => written(line.reduce((a, b) => a + b, 0))));
  }

  const REMARKS = { same: "=", other: "≠ changed", gone: "− gone", added: "+ new" };
  function drawCompare(arrays) {
    const kinds = results.pairs.map(([i, j]) => (j === null ? "gone" : i === null ? "added" : results.before[i] === results.after[j] ? "same" : "other"));
    const share = (values, i) => (i === null ? "" : probability(values[i]));
    const line = (name, cells) => h("tr", { "data-ctk": name.replaceAll(" ", "-") }, h("th", { scope: "row" }, name), ...cells);
    const changed = results.knocked.length + results.forced.length > 0;
    compare.replaceChildren(
      h("caption", {}, "What the model says, and how probable it holds each token"),
      h(
        "tbody",
        {},
        line("as it is", results.pairs.map(([i], c) => h("td", { class: `ctk-token-${kinds[c]}` }, i === null ? "" : kinds[c] === "gone" ? h("s", {}, results.before[i]) : results.before[i]))),
        line("probability", results.pairs.map(([i]) => h("td", { class: "ctk-small" }, share(arrays.before.values, i)))),
        ...(changed
          ? [
              line("now", results.pairs.map(([, j], c) => h("td", { class: `ctk-token-${kinds[c]}` }, j === null ? "" : h("b", {}, results.after[j])))),
              line("probability now", results.pairs.map(([, j]) => h("td", { class: "ctk-small" }, share(arrays.after.values, j)))),
              line("", kinds.map((kind) => h("td", { class: `ctk-sign ctk-sign-${kind}`, "data-kind": kind }, REMARKS[kind]))),
            ]
          : []),
      ),
    );
    compare.querySelectorAll("th:empty").forEach((th) => th.append(h("span", { class: "ctk-unseen" }, "compared")));
    verdict.textContent = results.said;
    undo.disabled = !changed;
    say(`${changed ? `Now ${results.after.join(" ")}. ` : ""}${results.said}`, "verdict");
  }

  function draw() {
    results = model.get("results");
    showProblem(results.problem);
    const arrays = readArrays(model);
    if (document.activeElement !== wordBox) wordBox.value = results.problem ? model.get("word") : results.word;
    for (const part of body.children) part.hidden = !arrays.weights && part !== controls;
    if (!arrays.weights) return;
    weights = arrays.weights;
    strip.paint();
    const [layerBox, headBox] = controls.querySelectorAll("select");
    layerBox.selectedIndex = model.get("layer");
    headBox.selectedIndex = Math.max(0, model.get("head") + offset);
    mode.querySelectorAll("input").forEach((radio, i) => (radio.checked = modes[i] === model.get("mode")));
    forcing.hidden = model.get("mode") !== "force";
    share.value = String(model.get("share"));
    drawShare();
    drawTokens();
    drawLetters();
    drawStep();
    drawMatrix();
    drawCompare(arrays);
    root.dataset.share = String(results.share);
  }

  frame.onTheme(draw);
  onChange(model, ["results", "numbers", "layer", "head", "step", "mode"], draw);
  draw();
}

export default { render };
