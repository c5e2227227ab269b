/** What the next token is drawn from. @param {{model: Model, el: HTMLElement, signal?: AbortSignal}} context */
function render({ model, el, signal }) {
  const { body, say, showProblem, root } = card(el, signal, {
    title: "Sampling table: what the next token is drawn from",
    about:
      "All tokens in the order of their logits. Temperature divides the logits; top-k and top-p strike tokens out; what is left is renormalised and drawn from. " +
      "Choose a token to go on with it, Backspace takes it back.",
    kind: "sampling_table",
  });
  const tokens = model.get("tokens");
  const V = tokens.length;
  const MADE = ["kept", "top-k", "top-p"];
  const TIMES = [10, 100, 1000];
  const thousands = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");
  let results = model.get("results");

  // -- the word and its prefix --
  const wordId = freshId("word");
  const wordBox = h("input", { id: wordId, type: "text", class: "ctk-select ctk-type", size: 14, maxlength: 40, autocomplete: "off", autocapitalize: "none", spellcheck: "false", change: () => another() });
  function another() {
    if (wordBox.value !== model.get("word")) tell(model, { word: wordBox.value, prefix: [] });
  }
  const prefix = h("ol", { class: "ctk-prefix", "aria-label": "Tokens so far" });
  const back = button("Take back", takeBack);
  function takeBack() {
    const now = model.get("prefix");
    if (now.length) tell(model, { prefix: now.slice(0, -1) });
  }
  root.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement && event.target.type !== "range";
    if (event.key !== "Backspace" || typing) return;
    event.preventDefault();
    event.stopPropagation();
    takeBack();
  });

  // -- temperature, k, p --
  /** @returns {{element: HTMLElement, show(value: number): void}} */
  function slider(label, trait, { min, max, step }, words) {
    let asked = null; // a value that Python has not answered yet: an older answer must not move the slider back
    const shown = h("output", { class: "ctk-value" });
    const range = h("input", {
      type: "range",
      class: "ctk-slider",
      "data-ctk": trait,
      min,
      max,
      step,
      input: () => {
        asked = range.valueAsNumber;
        name(asked);
        tell(model, { [trait]: asked });
      },
    });
    const name = (value) => {
      shown.textContent = words(value);
      range.setAttribute("aria-valuetext", words(value));
    };
    return {
      element: h("label", { class: "ctk-control ctk-setting" }, h("span", {}, label), range, shown),
      show(value) {
        if (asked !== null && asked !== value) return;
        asked = null;
        range.value = String(value);
        name(value);
      },
    };
  }
  const sliders = [
    slider("temperature", "temperature", { min: 0.1, max: 3, step: 0.05 }, (value) => written(value)),
    slider("top-k", "k", { min: 1, max: V, step: 1 }, (value) => (value === V ? "off" : `k = ${value}`)),
    slider("top-p", "p", { min: 0.05, max: 1, step: 0.01 }, (value) => (value === 1 ? "off" : `p = ${written(value)}`)),
  ];

  // -- draws --
  let times = Math.max(0, TIMES.indexOf(model.get("draws") || 100));
  const seedId = freshId("seed");
  const seed = h("input", { id: seedId, type: "number", class: "ctk-select ctk-seed", min: 0, max: 9999, step: 1, change: () => model.get("draws") && drawNow() });
  seed.value = String(model.get("seed"));
  function drawNow() {
    const chosen = Number.isInteger(seed.valueAsNumber) && seed.valueAsNumber >= 0 ? seed.valueAsNumber : 0;
    seed.value = String(chosen);
    tell(model, { draws: TIMES[times], seed: chosen });
  }
  const drawing = h(
    "div",
    { class: "ctk-controls" },
    button("Draw", drawNow, { class: "ctk-button ctk-main" }),
    chooser("how often", TIMES.map(thousands), times, (i) => {
      times = i;
      if (model.get("draws")) drawNow();
    }),
    h("span", { class: "ctk-control" }, h("label", { for: seedId }, "seed"), seed),
  );

  // -- the table --
  const heads = ["token", "logit", "", "probability", "filter", "drawn from", "draws"].map((text) => h("th", { scope: "col" }, text));
  const rowsOf = h("tbody", {});
  const table = h("table", { class: "ctk-tokens" }, h("caption", { class: "ctk-unseen" }, "All tokens, the likeliest first"), h("thead", {}, h("tr", {}, ...heads)), rowsOf);
  const scroll = h("div", { class: "ctk-scroll ctk-window" }, table);
  const buttons = () => [...rowsOf.querySelectorAll("button")];
  const roving = rove(rowsOf, buttons, () => 1);
  const verdict = h("p", { class: "ctk-verdict" });
  const key = h("p", { class: "ctk-key" }, "The bar is what is drawn from; the upright mark is the probability before the filters. “◂ listed” marks a token with which the dictionary goes on.");
  body.append(
    h("div", { class: "ctk-controls" }, h("span", { class: "ctk-control" }, h("label", { for: wordId }, "Word"), wordBox, button("Show", another)), h("span", { class: "ctk-control ctk-so-far" }, prefix, back)),
    h("div", { class: "ctk-controls" }, ...sliders.map((each) => each.element)),
    drawing,
    verdict,
    scroll,
    key,
  );

  function append(token) {
    if (!results.full && !results.ended) tell(model, { prefix: [...model.get("prefix"), token] });
  }

  // Rows are made anew only when the step changes, so that the focus stays where it is.
  let drawnStep = "";
  let rows = [];
  function drawRows() {
    const step = JSON.stringify([results.word, results.prefix]);
    if (step === drawnStep) return;
    drawnStep = step;
    const focused = rowsOf.contains(document.activeElement);
    rows = results.order.map((token) => {
      const cells = Array.from({ length: 5 }, () => h("td", {}));
      const bar = h("span", { class: "ctk-bar" });
      const tick = h("span", { class: "ctk-tick" });
      const number = h("span", { class: "ctk-number" });
      const face = h("button", { type: "button", class: "ctk-pick", tabindex: -1, click: () => append(token), disabled: results.full || results.ended }, tokens[token]);
      const listed = results.listed.includes(token) ? h("small", { class: "ctk-listed" }, "◂ listed") : "";
      const wide = h("td", { class: "ctk-final" }, h("span", { class: "ctk-shaft" }, bar, tick), number);
      const line = h("tr", { "data-token": tokens[token] }, h("th", { scope: "row" }, face, listed), ...cells.slice(0, 4), wide, cells[4]);
      return { token, line, cells, bar, tick, number, face };
    });
    rowsOf.replaceChildren(...rows.map((row) => row.line));
    roving.select(0);
    scroll.scrollTop = 0;
    if (focused) {
      if (results.ended) back.focus();
      else roving.focus(0);
    }
  }

  function drawCells({ logits, scaled, before, shares }) {
    heads[2].textContent = `÷ ${written(results.settings[0])}`;
    heads[6].textContent = results.counts.length ? `of ${thousands(results.settings[3])}` : "draws";
    for (const { token, line, cells, bar, tick, number, face } of rows) {
      const made = MADE[results.filters[token]];
      const share = shares.values[token];
      line.dataset.made = made;
      line.classList.toggle("ctk-struck", made !== "kept");
      const texts = [
        written(logits.values[token]),
        written(scaled.values[token]),
        probability(before.values[token]),
        made === "kept" ? "kept" : `✕ ${made}`,
        results.counts.length ? thousands(results.counts[token]) : "–",
      ];
      texts.forEach((text, i) => {
        if (cells[i].textContent !== text) cells[i].textContent = text;
      });
      bar.style.width = `${100 * Math.min(1, Math.max(0, share || 0))}%`;
      tick.style.left = `${100 * Math.min(1, before.values[token])}%`;
      number.textContent = Number.isNaN(share) ? "–" : probability(share);
      face.setAttribute("aria-label", `${tokens[token]}: go on with it`);
    }
  }

  function drawPrefix(chosen) {
    const chip = (text, below, label) => h("li", { "aria-label": label }, h("b", {}, text), h("small", {}, below));
    prefix.replaceChildren(
      chip("<start>", "", "start"),
      ...results.prefix.map((token, i) => chip(tokens[token], probability(chosen.values[i]), `${tokens[token]}, probability ${probability(chosen.values[i])} at temperature 1`)),
    );
    back.disabled = !results.prefix.length;
  }

  function draw() {
    results = model.get("results");
    showProblem(results.problem);
    if (document.activeElement !== wordBox) wordBox.value = results.said && !results.problem ? results.word : model.get("word");
    const arrays = readArrays(model);
    for (const part of [...body.children].slice(1)) part.hidden = !arrays.logits;
    if (!arrays.logits) return;
    sliders.forEach((each, i) => each.show(results.settings[i]));
    drawPrefix(arrays.chosen);
    drawRows();
    drawCells(arrays);
    scroll.hidden = key.hidden = results.ended;
    const goldEnd = results.known ? "" : ` “${results.word}” is not in the dictionary, so no token is marked as listed.`;
    const full = results.full && !results.ended ? " The prefix is as long as this table goes." : "";
    verdict.textContent = `${results.said}${full}${goldEnd}`;
    [root.dataset.temperature, root.dataset.k, root.dataset.p] = results.settings.map(String);
    say(`${results.prefix.map((token) => tokens[token]).join(" ")} ${results.said}`, "verdict");
  }

  onChange(model, ["results", "numbers"], draw);
  draw();
}

export default { render };
