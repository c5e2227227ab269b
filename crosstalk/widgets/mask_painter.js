/** Paint a mask and see what comes of it. @param {{model: Model, el: HTMLElement, signal?: AbortSignal}} context */
function render({ model, el, signal }) {
  const frame = card(el, signal, {
    title: "Paint a mask",
    about:
      "A row is a query, a column a key; ● means the query may attend to the key. " +
      "Click or drag, or move with the arrow keys and press space.",
    kind: "mask_painter",
  });
  const { body, say, showProblem, isDark } = frame;
  const tokensQ = model.get("tokens_q");
  const tokensK = model.get("tokens_k");
  const [queries, keys] = [tokensQ.length, tokensK.length];
  const yours = model.get("attention_name");
  let mask = [...model.get("mask")];

  // -- the mask --
  const cells = [];
  const lines = tokensQ.map((name, row) => {
    const line = h("tr", { role: "row" }, h("th", { role: "rowheader", scope: "row", title: name }, name));
    for (let column = 0; column < keys; column += 1) {
      const cell = h("td", { role: "gridcell", tabindex: -1, class: "ctk-paint" });
      cell.dataset.cell = String(row * keys + column);
      cells.push(cell);
      line.append(cell);
    }
    return line;
  });
  const grid = h(
    "table",
    { role: "grid", class: "ctk-matrix ctk-mask" },
    h("caption", {}, "the mask"),
    h(
      "thead",
      { role: "rowgroup" },
      h("tr", { role: "row" }, h("th", { role: "columnheader", scope: "col" }, "q \\ k"), ...tokensK.map((name) => h("th", { role: "columnheader", scope: "col", title: name }, name))),
    ),
    h("tbody", { role: "rowgroup" }, ...lines),
  );
  const roving = rove(grid, () => cells, () => keys);
  roving.select(0);
  const at = (target) => {
    const cell = target instanceof Element ? target.closest("[data-cell]") : null;
    return cell ? Number(cell.dataset.cell) : -1;
  };
  const where = (i) => `query ${tokensQ[Math.floor(i / keys)]}, key ${tokensK[i % keys]}`;
  let brush = "";
  let dabbed = false;
  grid.addEventListener("pointerdown", (event) => {
    const i = at(event.target);
    dabbed = event.pointerType !== "touch"; // a finger may be about to scroll: wait for its click
    if (i < 0 || event.button !== 0 || !dabbed) return;
    brush = mask[i] === "1" ? "0" : "1";
    dab(i);
  });
  grid.addEventListener("pointerover", (event) => {
    if (brush && event.buttons & 1) dab(at(event.target));
  });
  const lift = () => (brush = "");
  window.addEventListener("pointerup", lift);
  signal?.addEventListener("abort", () => window.removeEventListener("pointerup", lift));
  grid.addEventListener("click", (event) => {
    if (!dabbed) turn(at(event.target));
    dabbed = false;
  });
  grid.addEventListener("keydown", (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    const i = at(event.target);
    if (i < 0) return;
    event.preventDefault();
    event.stopPropagation();
    turn(i);
    say(`${where(i)}: ${mask[i] === "1" ? "may attend" : "hidden"}.`, "act");
  });
  function turn(i) {
    if (i < 0) return;
    brush = mask[i] === "1" ? "0" : "1";
    dab(i);
    brush = "";
  }
  function dab(i) {
    if (i < 0 || mask[i] === brush) return;
    mask[i] = brush;
    drawMask();
    tell(model, { mask: mask.join("") });
  }
  function fill(words, rule) {
    mask = mask.map((old, i) => (rule(Math.floor(i / keys), i % keys, old === "1") ? "1" : "0"));
    drawMask();
    tell(model, { mask: mask.join("") });
    say(`${words}.`, "act");
  }
  function drawMask() {
    cells.forEach((cell, i) => {
      const open = mask[i] === "1";
      cell.classList.toggle("ctk-open", open);
      cell.textContent = open ? "●" : "";
      cell.setAttribute("aria-label", `${where(i)}: ${open ? "may attend" : "hidden"}`);
    });
  }

  // -- controls --
  const count = h("input", { type: "number", class: "ctk-select ctk-count", min: 1, max: keys, value: Math.min(2, keys), "aria-label": "number of padded keys" });
  const padded = () => Math.max(1, Math.min(keys, Math.round(count.valueAsNumber) || 1));
  const heads = model.get("heads");
  const controls = h(
    "div",
    { class: "ctk-controls" },
    button("all", () => fill("Everything may be attended to", () => true)),
    button("causal", () => fill("Causal: nobody attends to a later token", (q, k) => k <= q + keys - queries)),
    button("none", () => fill("Nothing may be attended to", () => false)),
    h(
      "span",
      { class: "ctk-control" },
      button("hide padding:", () => fill(`The last ${padded()} keys are hidden`, (q, k, old) => old && k < keys - padded())),
      "last",
      count,
      "keys",
    ),
  );
  const order = radios("Mask", ["before the softmax", "after the softmax"], model.get("before") ? 0 : 1, (i) => tell(model, { before: i === 0 }));
  const second = h("div", { class: "ctk-controls" }, order);
  if (heads > 1) second.append(chooser("Head", Array.from({ length: heads }, (_, i) => String(i)), model.get("head"), (i) => tell(model, { head: i })));

  // -- weights --
  const weights = matrixTable({ caption: "the weights", rows: tokensQ, columns: tokensK, kind: "weights", extra: "sum" });
  const strip = legend("weights", "weight 0", "1", isDark);
  second.append(strip.element);
  const said = h("p", { class: "ctk-said" });

  // -- influence --
  const edit = chooser("Replace token", tokensK.map((name, i) => `${i}: ${name}`), model.get("edited"), (i) => tell(model, { edited: i }));
  const bars = h("table", { class: "ctk-bars ctk-influence" });
  const moved = h("p", { class: "ctk-said" });
  body.append(
    controls,
    second,
    h("div", { class: "ctk-panels" }, h("div", { class: "ctk-panel" }, h("div", { class: "ctk-scroll" }, grid)), h("div", { class: "ctk-panel" }, weights.element)),
    said,
    h("div", { class: "ctk-why" }, h("p", { class: "ctk-subtitle" }, "Who notices, when a token is replaced by another?"), h("div", { class: "ctk-controls" }, edit), bars, moved),
  );

  const REMARKS = {
    still: "does not move",
    own: "its own token was replaced",
    allowed: "moves: it may read the token",
    future: "moves: the mask lets it read a later token",
    hidden: "⚠ illegal: hidden from it, yet it moves",
    nan: "NaN",
  };

  function draw() {
    const results = model.get("results");
    if (mask.join("") !== model.get("mask")) {
      mask = [...model.get("mask")];
      drawMask();
    }
    strip.paint();
    showProblem(results.problem ?? "");
    const arrays = readArrays(model);
    weights.element.hidden = !arrays.weights;
    said.hidden = !arrays.weights;
    if (arrays.weights) drawWeights(arrays, results);
    bars.hidden = moved.hidden = !arrays.moved;
    if (arrays.moved) drawMoved([...arrays.moved.values], results);
  }

  function drawWeights(arrays, results) {
    const source = results.before ? (yours ? `your \`${yours}\`` : "mask before the softmax") : "mask after the softmax";
    weights.setCaption(`the weights: ${source}`);
    const sums = [...arrays.sums.values];
    const empty = tokensQ.map((_, q) => !mask.slice(q * keys, (q + 1) * keys).includes("1"));
    const off = sums.map((sum, q) => !empty[q] && !(Math.abs(sum - 1) < 1e-3));
    weights.paint(arrays.weights.values, isDark(), sums.map((sum, q) => written(sum) + (empty[q] ? " empty" : off[q] ? " ≠ 1" : "")));
    const sentences = [];
    const wrong = off.filter(Boolean).length;
    if (sums.some(Number.isNaN)) sentences.push("There is NaN among the weights.");
    if (wrong) {
      sentences.push(`${wrong} of ${queries} rows do not sum to 1.`);
      if (!results.before) sentences.push("The hidden keys took their share before they were hidden.");
    } else if (!empty.every(Boolean)) {
      sentences.push(empty.some(Boolean) ? "Every other row sums to 1." : "Every row sums to 1.");
    }
    const names = tokensQ.filter((_, q) => empty[q]);
    if (names.length) {
      const first = sums[empty.indexOf(true)];
      const what = Number.isNaN(first) ? "0/0, NaN" : Math.abs(first) < 1e-6 ? "all weights 0" : "yet it has weights";
      sentences.unshift(`${names.length === 1 ? `The row of “${names[0]}” is` : `${names.length} rows are`} empty: ${what}.`);
    }
    const good = !wrong && !sums.some(Number.isNaN);
    said.className = `ctk-said ${good ? "ctk-agrees" : "ctk-differs"}`;
    said.textContent = sentences.join(" ");
    say(said.textContent, "weights");
  }

  function drawMoved(changes, results) {
    const largest = Math.max(1e-9, ...changes.filter(Number.isFinite));
    const token = tokensK[results.edited];
    bars.replaceChildren(
      h("caption", {}, `How far each output row moves when “${token}” (place ${results.edited}) is replaced`),
      h("thead", { class: "ctk-unseen" }, h("tr", {}, ...["Query", "Bar", "Change", "Remark"].map((x) => h("th", { scope: "col" }, x)))),
      h(
        "tbody",
        {},
        ...changes.map((change, q) => {
          const verdict = results.rows[q];
          const bar = h("span", { class: "ctk-bar" });
          bar.style.width = `${Number.isNaN(change) ? 0 : (100 * change) / largest}%`;
          return h(
            "tr",
            { class: `ctk-moved-${verdict}`, "data-verdict": verdict },
            h("th", { scope: "row" }, tokensQ[q]),
            h("td", { class: "ctk-bar-cell" }, verdict === "still" ? "" : bar),
            h("td", {}, written(verdict === "still" ? 0 : change, 3)),
            h("td", { class: "ctk-remark" }, REMARKS[verdict]),
          );
        }),
      ),
    );
    const illegal = results.rows.filter((v) => v === "hidden").length;
    const all = results.rows.filter((v) => v !== "still").length;
    moved.className = `ctk-said ${illegal ? "ctk-differs" : "ctk-agrees"}`;
    moved.textContent = `${all} of ${queries} rows move, ${illegal || "none"} of them illegally.`;
    say(`Replacing ${token}: ${moved.textContent}`, "moved");
  }

  drawMask();
  frame.onTheme(draw);
  onChange(model, ["results", "numbers", "mask"], draw);
  draw();
}

export default { render };
