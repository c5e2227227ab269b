/** A beam search as a tree. @param {{model: Model, el: HTMLElement, signal?: AbortSignal}} context */
function render({ model, el, signal }) {
  const { body, say, showProblem, root } = card(el, signal, {
    title: "Beam search: what was kept, what was dropped",
    about:
      "A column for each step, its expansions in the order of log P, the likeliest on top. The line is the width of the beam: " +
      "what stands below it is dropped for good, whatever would have come after it.",
    kind: "beam_tree",
  });
  const [WIDE, HIGH, GAP, LEFT, TOP, CUT] = [78, 40, 26, 82, 26, 18]; // pixels: a node, between columns, the root, the head, the line
  const KINDS = {
    kept: "kept",
    finished: "finished",
    unfinished: "not finished when the steps ran out",
    pruned: "dropped",
  };
  let results = model.get("results");
  let chosen = ""; // key of the node that is told about: the end of what is returned,
  let picked = false; // until another is picked
  let nodes = new Map(); // by key: {node, level, x, y, face, edge}

  const ofTotal = (value) => written(value, Math.abs(value) < 0.1 && value !== 0 ? 4 : 2);
  const power = () => (results.alpha ? `log P / length^${written(results.alpha, 1)}` : "log P");

  // -- controls --
  const wordId = freshId("word");
  const wordBox = h("input", { id: wordId, type: "text", class: "ctk-select ctk-type", size: 14, maxlength: 40, autocomplete: "off", autocapitalize: "none", spellcheck: "false", change: () => another() });
  function another() {
    if (wordBox.value !== model.get("word")) tell(model, { word: wordBox.value });
  }
  function range(label, name, min, max, step, text) {
    const shown = h("output", { class: "ctk-shown" });
    const slider = h("input", {
      type: "range",
      class: "ctk-slider",
      "data-ctk": name,
      min,
      max,
      step,
      input: () => {
        show(slider.valueAsNumber);
        tell(model, { [name]: slider.valueAsNumber });
      },
    });
    function show(value) {
      slider.value = String(value);
      shown.textContent = text(value);
      slider.setAttribute("aria-valuetext", text(value));
    }
    return { element: h("label", { class: "ctk-control" }, h("span", {}, label), slider, shown), show };
  }
  const width = range("beam width", "width", 1, 8, 1, String);
  const alpha = range("length penalty α", "alpha", 0, 2, 0.1, (value) => written(value, 1));
  const controls = h(
    "div",
    { class: "ctk-controls" },
    h("span", { class: "ctk-control" }, h("label", { for: wordId }, "Word"), wordBox, button("Search", another)),
    width.element,
    alpha.element,
  );

  // -- the tree and what it says --
  const said = h("div", { class: "ctk-verdict" });
  const differs = h("p", { class: "ctk-said ctk-differs", hidden: true });
  const canvas = h("div", { class: "ctk-tree", role: "group", "aria-label": "The tree: arrow keys go to the parent, the best expansion, and up and down in a step" });
  const scroll = h("div", { class: "ctk-scroll" }, canvas);
  const told = h("p", { class: "ctk-told" });
  const key = h(
    "p",
    { class: "ctk-key" },
    ...[
      ["kept", "", "N", "kept"],
      ["finished", "", "<end>", "finished"],
      ["pruned", "", "N", "dropped"],
      ["finished", "ctk-best", "★ N", "what the search returns"],
      ["kept", "ctk-gold", "◆ N", "listed pronunciation"],
    ].map(([kind, marks, text, name]) => h("span", {}, h("span", { class: `ctk-node ctk-sample ${marks}`, "data-kind": kind, "aria-hidden": "true" }, text), name)),
  );
  const list = h("div", { class: "ctk-scroll", tabindex: 0, role: "region", "aria-label": "What is complete" });
  body.append(controls, said, differs, scroll, told, key, h("div", { class: "ctk-why" }, list));

  const marksOf = (node) => `${node.best ? "★" : ""}${node.gold ? "◆" : ""}` + (node.best || node.gold ? "\u2009" : "");
  function inWords(node, level) {
    const marks = [node.best ? "what the search returns" : "", node.gold ? "listed pronunciation" : ""].filter(Boolean).join(", ");
    const end = node.kind === "finished" || node.kind === "unfinished" ? ` Score: ${power()} = ${ofTotal(node.score)}.` : "";
    return (
      `Step ${level + 1}: ${node.token}${node.path.includes(" ") ? ` after ${node.path.split(" ").slice(0, -1).join(" ")}` : ""}. ` +
      `log p of the token ${ofTotal(node.log_prob)} (p = ${probability(Math.exp(node.log_prob))}), log P so far ${ofTotal(node.total)}. ` +
      `Number ${node.rank} of ${results.levels[level].expansions} expansions, ${KINDS[node.kind]}${marks ? `; ${marks}` : ""}.${end}`
    );
  }

  function choose(key_, aloud) {
    const found = nodes.get(key_);
    if (!found) return;
    chosen = key_;
    const line = new Set();
    for (let at = found; at; at = nodes.get(at.node.parent)) line.add(at.node.key);
    for (const [key, each] of nodes) {
      each.face.classList.toggle("ctk-on-path", line.has(key));
      each.edge?.classList.toggle("ctk-on-path", line.has(key));
      each.face.tabIndex = key === chosen ? 0 : -1;
      if (key === chosen) each.face.setAttribute("aria-current", "true");
      else each.face.removeAttribute("aria-current");
    }
    told.textContent = inWords(found.node, found.level);
    told.dataset.key = key_;
    root.dataset.chosen = key_;
    if (aloud) say(told.textContent, "node");
  }

  function pick(key_, aloud) {
    picked = true;
    choose(key_, aloud);
  }

  let pointed = "";
  canvas.addEventListener("pointermove", (event) => {
    // A tree that is drawn anew or scrolled under a resting pointer sends such events too.
    const here = `${event.clientX} ${event.clientY}`;
    if (here === pointed) return;
    pointed = here;
    const key = event.target.closest("button")?.dataset.key;
    if (key && key !== chosen) pick(key, false);
  });
  canvas.addEventListener("keydown", (event) => {
    const here = nodes.get(event.target.dataset?.key);
    if (!here || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = [...nodes.values()];
    const children = all.filter((each) => each.node.parent === here.node.key);
    const column = all.filter((each) => each.level === here.level);
    const at = column.indexOf(here);
    const moves = {
      ArrowRight: () => children[0],
      ArrowLeft: () => nodes.get(here.node.parent),
      ArrowDown: () => column[at + 1],
      ArrowUp: () => column[at - 1],
      Home: () => column[0],
      End: () => column[column.length - 1],
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    moves[event.key]()?.face.focus();
  });

  const numberOf = (node) => ofTotal(node.kind === "finished" || node.kind === "unfinished" ? node.score : node.total);

  /** What of a node changes with the length penalty: its score, and whether it is on the way to what is returned. */
  function dress(each) {
    const { node, level, face, edge } = each;
    const [name, number] = face.children;
    face.className = `ctk-node${node.best ? " ctk-best" : ""}${node.gold ? " ctk-gold" : ""}`;
    edge?.setAttribute("class", `ctk-edge${node.best ? " ctk-best" : ""}${node.gold ? " ctk-gold" : ""}`);
    const far = node.rank > results.width + 3 && node.kind === "pruned" ? `no. ${node.rank}: ` : "";
    const texts = [`${marksOf(node)}${node.token}`, `${far}${numberOf(node)}`, inWords(node, level)];
    if (name.textContent !== texts[0]) name.textContent = texts[0];
    if (number.textContent !== texts[1]) number.textContent = texts[1];
    if (face.getAttribute("aria-label") !== texts[2]) face.setAttribute("aria-label", texts[2]);
  }

  let drawn = "";
  function drawTree() {
    const shape = JSON.stringify([results.word, results.width, results.levels.map((level) => level.nodes.map((node) => [node.key, node.kind, node.rank]))]);
    if (shape === drawn) {
      for (const level of results.levels) for (const node of level.nodes) nodes.get(node.key).node = node;
    } else {
      drawn = shape;
      layOut();
    }
    for (const each of nodes.values()) dress(each);
    // What matters is drawn last, over the rest.
    const weight = ({ node }) => (node.best ? 4 : 0) + (node.gold ? 2 : 0) + (node.kind === "pruned" ? 0 : 1);
    const edges = [...nodes.values()].filter((each) => each.edge).sort((a, b) => weight(a) - weight(b));
    canvas.querySelector("g").replaceChildren(...edges.map((each) => each.edge));
  }

  function layOut() {
    const focused = canvas.contains(document.activeElement) ? document.activeElement.dataset.key : "";
    nodes = new Map();
    let rows = 1;
    const place = (level, row, cut) => [LEFT + level * (WIDE + GAP), TOP + row * HIGH + (cut ? CUT : 0)];
    results.levels.forEach((each, level) => {
      each.nodes.forEach((node, row) => {
        const cut = node.rank > results.width;
        // A step with fewer nodes above the line leaves their places empty.
        const at = cut ? Math.max(row, results.width) : row;
        const [x, y] = place(level, at, cut);
        rows = Math.max(rows, at + 1);
        const face = h(
          "button",
          {
            type: "button",
            tabindex: -1,
            "data-key": node.key,
            "data-step": level + 1,
            "data-kind": node.kind,
            "data-rank": node.rank,
            style: `left: ${x}px; top: ${y}px`,
            click: () => pick(node.key, true),
            focus: () => pick(node.key, true),
          },
          h("b", {}),
          h("small", {}),
        );
        const parent = level === 0 ? { x: LEFT - GAP - WIDE, y: TOP } : nodes.get(node.parent);
        let edge = null;
        if (parent) {
          const [x1, y1, x2, y2] = [parent.x + WIDE, parent.y + 16, x, y + 16];
          const middle = (x1 + x2) / 2;
          edge = s("path", { "data-kind": node.kind, d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}` });
        }
        nodes.set(node.key, { node, level, x, y, face, edge });
      });
    });
    const wide = LEFT + results.levels.length * (WIDE + GAP);
    const high = TOP + rows * HIGH + CUT;
    const line = TOP + results.width * HIGH + CUT / 2 - 3;
    const picture = s(
      "svg",
      { class: "ctk-edges", width: wide, height: high, "aria-hidden": "true" },
      s("line", { class: "ctk-cut", x1: 0, x2: wide, y1: line, y2: line }),
      s("text", { class: "ctk-cut-name", x: 2, y: line - 5 }, `width ${results.width}`),
      ...results.levels.map((_, level) => s("text", { class: "ctk-head", x: place(level, 0)[0] + WIDE / 2, y: 14, "text-anchor": "middle" }, `step ${level + 1}`)),
      s("g"),
    );
    canvas.style.width = `${wide}px`;
    canvas.style.height = `${high}px`;
    const all = [...nodes.values()];
    canvas.replaceChildren(picture, h("span", { class: "ctk-root", style: `left: 0; top: ${TOP}px` }, "<start>"), ...all.map((each) => each.face));
    if (focused) (nodes.get(chosen) ?? all[0])?.face.focus();
  }

  function drawList() {
    const { complete, finished } = results;
    const what = finished ? `Finished: ${finished}${finished > complete.length ? `, the best ${complete.length} of them` : ""}` : "None finished; what there is";
    list.replaceChildren(
      h(
        "table",
        { class: "ctk-plain" },
        h("caption", {}, `${what}, by score = ${power()}`),
        h("thead", {}, h("tr", {}, ...["", "Tokens", "log P", "length", "score"].map((name) => (name ? h("th", { scope: "col" }, name) : h("td", {}))))),
        h(
          "tbody",
          {},
          ...complete.map((each, i) =>
            h(
              "tr",
              { "data-best": String(each.best), "data-gold": String(each.gold) },
              h("td", {}, `${i + 1}`),
              h("th", { scope: "row" }, h("span", { "aria-hidden": "true" }, marksOf(each)), each.tokens, h("span", { class: "ctk-unseen" }, `${each.best ? ", what the search returns" : ""}${each.gold ? ", listed" : ""}`)),
              h("td", {}, ofTotal(each.total)),
              h("td", {}, String(each.length)),
              h("td", {}, ofTotal(each.score)),
            ),
          ),
        ),
      ),
    );
  }

  function draw() {
    results = model.get("results");
    showProblem(results.problem);
    if (document.activeElement !== wordBox) wordBox.value = results.problem || !results.word ? model.get("word") : results.word;
    width.show(model.get("width"));
    alpha.show(model.get("alpha"));
    for (const part of body.children) part.hidden = !results.levels && part !== controls;
    if (!results.levels) return;
    said.replaceChildren(...[results.greedy, results.beam, results.gold].map((text) => h("p", {}, text)));
    differs.hidden = !results.differs;
    differs.textContent = results.differs;
    if (results.word !== root.dataset.word) picked = false;
    drawTree();
    if (!picked || !nodes.has(chosen)) chosen = ([...nodes.values()].filter((each) => each.node.best).pop() ?? [...nodes.values()][0])?.node.key;
    choose(chosen, false);
    drawList();
    say(`${results.beam} ${results.gold} ${results.differs}`, "verdict");
    root.dataset.width = String(results.width);
    root.dataset.alpha = String(results.alpha);
    root.dataset.word = results.word;
  }

  onChange(model, ["results"], draw);
  draw();
}

export default { render };
