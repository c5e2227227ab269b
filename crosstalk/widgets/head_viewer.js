/** All heads of one layer. @param {{model: Model, el: HTMLElement, signal?: AbortSignal}} context */
function render({ model, el, signal }) {
  const frame = card(el, signal, {
    title: model.get("caption") || "The heads of one layer",
    about: "A row is a query, a column a key. Move between heads with the arrow keys; Enter shows one large. In nats: the mean entropy of its rows.",
    kind: "head_viewer",
  });
  const { body, say, showProblem, isDark } = frame;
  const TABLE_FITS = 24; // queries and keys up to which the large head is a table with labels
  const tokensQ = model.get("tokens_q");
  const tokensK = model.get("tokens_k");
  const [queries, keys] = [tokensQ.length, tokensK.length];
  const heads = model.get("results").shape[0];
  const small = Math.max(queries, keys) <= TABLE_FITS;
  const area = queries * keys;
  // What a byte stands for, and its share of the entropy.
  const weightOf = Float64Array.from({ length: 256 }, (_, b) => (b / 255) ** 2);
  const entropyOf = weightOf.map((w) => (w > 0 ? -w * Math.log(w) : 0));
  let weights = new Uint8Array();
  let missing = new Uint8Array();
  let chosen = 0;
  let cursor = [0, 0];

  const layers = model.get("layers");
  const controls = h("div", { class: "ctk-controls" });
  if (layers > 1) {
    controls.append(chooser("Layer", Array.from({ length: layers }, (_, i) => String(i)), model.get("layer"), (i) => tell(model, { layer: i })));
  }
  const strip = legend("weights", "weight 0", "1", isDark);
  controls.append(strip.element);

  const canvases = Array.from({ length: heads }, () => h("canvas", { width: keys, height: queries, "aria-hidden": "true" }));
  const remarks = canvases.map(() => h("span", { class: "ctk-head-remark" }));
  const spreads = canvases.map(() => h("span", { class: "ctk-head-remark", title: "mean entropy of a row" }));
  const buttons = canvases.map((canvas, i) =>
    h("button", { type: "button", class: "ctk-head", "aria-pressed": "false", tabindex: i ? -1 : 0, click: () => choose(i, true) }, canvas, h("b", {}, `head ${i}`), remarks[i], spreads[i]),
  );
  const all = h("div", { class: "ctk-heads", role: "group", "aria-label": "Heads" }, ...buttons);
  rove(all, () => buttons, () => Math.max(1, buttons.filter((b) => b.offsetTop === buttons[0].offsetTop).length));

  const large = small ? smallTable() : bigPicture();
  const reading = h("p", { class: "ctk-reading" });
  const top = h("table", { class: "ctk-plain ctk-top" });
  body.append(controls, all, h("div", { class: "ctk-panels ctk-large" }, large.element, h("div", { class: "ctk-panel ctk-side" }, reading, top)));

  const isMissing = (i) => missing.length > 0 && (missing[i >> 3] & (128 >> (i & 7))) !== 0;
  const weightAt = (head, q, k) => (isMissing(head * area + q * keys + k) ? NaN : weightOf[weights[head * area + q * keys + k]]);

  function smallTable() {
    const table = matrixTable({ caption: "", rows: tokensQ, columns: tokensK, kind: "weights", onRow: (q) => point(q, null, true) });
    return {
      element: h("div", { class: "ctk-panel" }, table.element),
      paint() {
        table.setCaption(`head ${chosen}`);
        table.paint(Array.from({ length: area }, (_, i) => weightAt(chosen, Math.floor(i / keys), i % keys)), isDark());
      },
      mark: (q) => table.mark(q),
    };
  }

  function bigPicture() {
    const canvas = h("canvas", { width: keys, height: queries, "aria-hidden": "true" });
    const hair = h("span", { class: "ctk-hair", "aria-hidden": "true" });
    const name = h("p", { class: "ctk-subtitle" });
    const stage = h("div", { class: "ctk-stage", tabindex: 0, role: "application", "aria-roledescription": "heat map", "aria-label": "Weights of one head: arrow keys move by one place, Page Up and Page Down by ten" }, canvas, hair);
    stage.style.aspectRatio = `${keys} / ${queries}`;
    stage.addEventListener("pointermove", (event) => {
      const box = stage.getBoundingClientRect();
      const limit = (x, n) => Math.max(0, Math.min(n - 1, Math.floor(x)));
      point(limit(((event.clientY - box.top) / box.height) * queries, queries), limit(((event.clientX - box.left) / box.width) * keys, keys), false);
    });
    stage.addEventListener("keydown", (event) => {
      const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-10, 0], PageDown: [10, 0], Home: [0, -keys], End: [0, keys] };
      const move = moves[event.key];
      if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      point(Math.max(0, Math.min(queries - 1, cursor[0] + move[0])), Math.max(0, Math.min(keys - 1, cursor[1] + move[1])), true);
    });
    return {
      element: h("div", { class: "ctk-panel ctk-picture" }, name, stage),
      paint() {
        name.textContent = `head ${chosen}`;
        blit(canvas, chosen);
      },
      mark(q, k) {
        hair.style.left = `${(100 * k) / keys}%`;
        hair.style.top = `${(100 * q) / queries}%`;
        hair.style.width = `${100 / keys}%`;
        hair.style.height = `${100 / queries}%`;
      },
    };
  }

  /** One head onto its canvas, a pixel for each weight. NaN becomes a chequered pattern. */
  function blit(canvas, head) {
    const map = new Uint32Array(colours("weights", isDark()).map(([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0));
    const context = canvas.getContext("2d");
    const image = context.createImageData(keys, queries);
    const pixels = new Uint32Array(image.data.buffer);
    const from = head * area;
    for (let i = 0; i < area; i += 1) pixels[i] = map[weights[from + i]];
    if (missing.length) {
      for (let i = 0; i < area; i += 1) if (isMissing(from + i)) pixels[i] = (Math.floor(i / keys) + i) % 2 ? 0xff888888 : 0xff202020;
    }
    context.putImageData(image, 0, 0);
  }

  /** Where a head mostly looks, in words. */
  function habit(head) {
    let entropy = 0;
    const seen = { itself: 0, "the token before": 0, "the token after": 0, "the first token": 0 };
    let empty = 0;
    for (let q = 0; q < queries; q += 1) {
      const from = head * area + q * keys;
      let best = 0;
      let place = 0;
      for (let k = 0; k < keys; k += 1) {
        const byte = weights[from + k];
        entropy += entropyOf[byte];
        if (byte > best) [best, place] = [byte, k];
      }
      if (best === 0) empty += 1;
      else if (place === q + keys - queries && queries === keys) seen.itself += 1;
      else if (place === q - 1 && queries === keys) seen["the token before"] += 1;
      else if (place === q + 1 && queries === keys) seen["the token after"] += 1;
      else if (place === 0) seen["the first token"] += 1;
    }
    const [name, count] = Object.entries(seen).sort((a, b) => b[1] - a[1])[0];
    const mostly = empty === queries ? "nowhere" : count > 0.5 * queries ? `mostly ${name}` : "no one place";
    return { entropy: entropy / queries, mostly };
  }

  function point(q, k, aloud) {
    const line = Array.from({ length: keys }, (_, i) => weightAt(chosen, q, i));
    const order = line.map((_, i) => i).sort((a, b) => line[b] - line[a] || a - b);
    const at = k ?? order[0];
    cursor = [q, at];
    large.mark(q, at);
    reading.replaceChildren(h("b", {}, `head ${chosen}, query “${tokensQ[q]}”`), ` (place ${q}) → key “${tokensK[at]}” (place ${at}): `, h("b", { "data-ctk": "weight" }, written(line[at])));
    top.replaceChildren(
      h("caption", { class: "ctk-unseen" }, `Largest weights of query ${tokensQ[q]}`),
      h("thead", {}, h("tr", {}, ...["Key", "Place", "Weight"].map((x) => h("th", { scope: "col" }, x)))),
      h("tbody", {}, ...order.slice(0, 6).map((i) => h("tr", {}, h("th", { scope: "row" }, tokensK[i]), h("td", {}, String(i)), h("td", {}, written(line[i]))))),
    );
    if (aloud) say(reading.textContent);
  }

  function choose(head, aloud) {
    chosen = head;
    buttons.forEach((b, i) => b.setAttribute("aria-pressed", String(i === head)));
    large.paint();
    point(cursor[0], small ? null : cursor[1], false);
    if (aloud) say(`Head ${head}, ${remarks[head].textContent}. ${reading.textContent}`);
  }

  function draw() {
    weights = asBytes(model.get("numbers"));
    missing = asBytes(model.get("missing"));
    const { outside, layer } = model.get("results");
    strip.paint();
    let nan = 0;
    for (let i = 0; i < heads * area && missing.length; i += 1) if (isMissing(i)) nan += 1;
    showProblem(
      [
        nan ? `${nan} weights are NaN: they are drawn chequered.` : "",
        outside ? `${outside} weights lie outside 0…1: they are drawn as 0 or 1.` : "",
      ]
        .filter(Boolean)
        .join(" "),
    );
    canvases.forEach(blit);
    remarks.forEach((remark, i) => {
      const { entropy, mostly } = habit(i);
      remark.textContent = mostly;
      spreads[i].textContent = `${written(entropy, 1)} nats`;
    });
    frame.root.dataset.layer = String(layer);
    choose(chosen, false);
  }

  frame.onTheme(draw);
  onChange(model, ["numbers", "missing", "results"], draw);
  draw();
}

export default { render };
