/** A decode, step by step. @param {{model: Model, el: HTMLElement, signal?: AbortSignal}} context */
function render({ model, el, signal }) {
  const { body, say, showProblem, root } = card(el, signal, {
    title: "Decode step by step: what is computed, and what is computed again",
    about:
      "Each step gives one token. Without a cache the decoder goes through the whole prefix again at every step. " +
      "With one it computes the newest token and reads the keys and values of the others.",
    kind: "decode_steps",
  });
  const START = "<start>";
  const PARTS = [
    ["projections", "projections"],
    ["attention", "attention"],
    ["feed_forward", "feed-forward"],
    ["generator", "generator"],
  ];
  // A sign beside the colour, and the words for it.
  const STATES = {
    new: ["●", "computed now"],
    again: ["↻", "computed again: the same numbers as before"],
    read: ["▤", "keys and values read from the cache"],
    done: ["·", "computed earlier, not needed now"],
    kept: ["✓", "computed once, read by the decoder"],
    none: ["", "not there yet"],
  };
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let results = model.get("results");

  const way = () => (model.get("cached") && results.ways.cached ? "cached" : "plain");
  const run = () => results.ways[way()];
  const last = () => run().tokens.length;
  const step = () => Math.max(0, Math.min(model.get("step"), last()));
  const mega = (flops) => written(flops / 1e6, 2);
  const kilo = (bytes) => written(bytes / 1024, 1);
  const upTo = (list, t) => list.slice(0, t + 1).reduce((a, b) => a + b, 0);

  // -- controls --
  const wordId = freshId("word");
  const wordBox = h("input", { id: wordId, type: "text", class: "ctk-select ctk-type", size: 14, maxlength: 40, autocomplete: "off", autocapitalize: "none", spellcheck: "false", change: () => another() });
  function another() {
    if (wordBox.value !== model.get("word")) tell(model, { word: wordBox.value, step: 0 });
  }
  const cacheSwitch = toggle("cache of keys and values", model.get("cached"), (on) => tell(model, { cached: on }));
  const slider = h("input", { type: "range", class: "ctk-slider", "data-ctk": "step", min: 0, step: 1, input: () => go(slider.valueAsNumber) });
  const shown = h("output", { class: "ctk-shown" });
  const back = button("← Back", () => go(step() - 1));
  const forward = button("Step →", () => go(step() + 1), { class: "ctk-button ctk-main" });
  const controls = h(
    "div",
    { class: "ctk-controls" },
    h("span", { class: "ctk-control" }, h("label", { for: wordId }, "Word"), wordBox, button("Decode", another)),
    cacheSwitch,
  );
  const stepper = h("div", { class: "ctk-controls" }, back, forward, h("label", { class: "ctk-control ctk-wide" }, h("span", {}, "step"), slider, shown));

  function go(t) {
    if (t < 0 || t > last()) return;
    tell(model, { step: t });
  }

  // -- the picture --
  const named = h("p", { class: "ctk-named" });
  const source = h("table", { class: "ctk-matrix ctk-places" });
  const target = h("table", { class: "ctk-matrix ctk-places" });
  const scroller = (table, label) => h("div", { class: "ctk-scroll ctk-panel", tabindex: 0, role: "region", "aria-label": label }, table);
  const key = h(
    "p",
    { class: "ctk-key" },
    ...["new", "again", "read", "kept", "done"].map((state) => h("span", {}, h("span", { class: "ctk-cell ctk-sample", "data-state": state, "aria-hidden": "true" }, STATES[state][0]), STATES[state][1])),
  );
  const pieces = h("p", { class: "ctk-soft" });
  const same = h("p", { class: "ctk-said" });
  const chart = h("div", { class: "ctk-chart" });
  const costs = h("div", { class: "ctk-scroll", tabindex: 0, role: "region", "aria-label": "What the steps cost" });
  const verdict = h("p", { class: "ctk-verdict" });
  const picture = h("div", { class: "ctk-panels" }, scroller(target, "The decoder’s places"), scroller(source, "The word’s places"));
  body.append(
    controls,
    stepper,
    named,
    picture,
    key,
    same,
    pieces,
    h("div", { class: "ctk-why" }, h("div", { class: "ctk-panels ctk-halves" }, h("div", { class: "ctk-panel" }, chart), h("div", { class: "ctk-panel" }, costs)), verdict),
  );

  const input = (place) => (place === 0 ? START : run().tokens[place - 1]);

  /** What becomes of place p of the decoder's layers at step t. */
  function inDecoder(p, t) {
    if (p >= t) return "none";
    if (p < t - run().taken[t - 1]) return "read";
    return p === t - 1 ? "new" : "again";
  }

  /** The generator's logits of place p: only the newest are ever used. */
  function inGenerator(p, t) {
    const state = inDecoder(p, t);
    return state === "read" ? "done" : state;
  }

  const inEncoder = (t) => (t === 0 ? "new" : "done");
  const inMemory = (t) => (t === 0 ? "none" : t === 1 ? "new" : way() === "cached" ? "read" : "again");

  let drawn = { now: "", from: null };
  function table(element, caption, corner, columns, lines) {
    const flash = [];
    const rows = lines.map(([name, kind, states]) =>
      h(
        "tr",
        { "data-row": kind },
        h("th", { scope: "row" }, name),
        ...states.map((state, i) => {
          const [sign, words] = STATES[state];
          const cell = h("td", { class: "ctk-cell", "data-state": state, title: `${columns[i]}: ${words}` }, h("span", { "aria-hidden": "true" }, sign), h("span", { class: "ctk-unseen" }, words));
          if (state === "new" || state === "again") flash.push(cell);
          return cell;
        }),
      ),
    );
    element.replaceChildren(
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "ctk-corner" }, corner), ...columns.map((column) => h("th", { scope: "col", title: column }, column)))),
      h("tbody", {}, ...rows),
    );
    return flash;
  }

  const downTo = (layers) => Array.from({ length: layers }, (_, i) => layers - i);
  function drawPicture() {
    const t = step();
    const now = `${way()} ${t}`;
    if (now === drawn.now && results === drawn.from) return; // what lights up goes on
    const places = Array.from({ length: last() }, (_, p) => p);
    const flash = [
      ...table(target, "Decoder: a column for each input token", "layer", places.map(input), [
        ["logits", "generator", places.map((p) => inGenerator(p, t))],
        ...downTo(results.decoder_layers).map((layer) => [`layer ${layer}`, "decoder", places.map((p) => inDecoder(p, t))]),
      ]),
      ...table(source, "Word: a column for each letter", "part", results.letters, [
        ...downTo(results.decoder_layers).map((layer) => [`keys, values for layer ${layer}`, "memory", results.letters.map(() => inMemory(t))]),
        ["memory", "top", results.letters.map(() => (t === 0 ? "new" : inMemory(t) === "read" ? "done" : "kept"))],
        ...downTo(results.encoder_layers).map((layer) => [`encoder layer ${layer}`, "encoder", results.letters.map(() => inEncoder(t))]),
      ]),
    ];
    // The first picture does not light up: nothing has happened yet.
    if (drawn.from && !still.matches) {
      for (const cell of flash) cell.animate([{ filter: "brightness(1.6) saturate(2)", transform: "scale(1.25)" }, {}], { duration: 450, easing: "ease-out" });
    }
    drawn = { now, from: results };
  }

  function words() {
    const t = step();
    if (t === 0) return ["Step 0", `: the encoder reads all ${results.letters.length} letters of “${results.word}”, once. Its memory stays for the whole decode.`];
    const taken = run().taken[t - 1];
    const places = (n) => (n === 1 ? "1 place" : `${n} places`);
    const kept =
      way() === "cached"
        ? t === 1
          ? "The memory’s keys and values are made now, and kept."
          : `Keys and values of ${places(t - taken)} before it, and of the memory, are read from the cache.`
        : t === 1
          ? "Nothing is kept."
          : `${taken - 1} of them, and the memory’s keys and values, had been computed before.`;
    return [`Step ${t} of ${last()}`, `: the newest token is ${input(t - 1)}, the next is ${run().tokens[t - 1]}. The decoder computes ${places(taken)}. ${kept}`];
  }

  // -- costs --
  function drawChart() {
    const t = step();
    const shownRun = run();
    const other = results.ways[way() === "cached" ? "plain" : "cached"];
    const all = [...shownRun.costs, ...(other?.costs ?? [])].map((cost) => cost.flops);
    const high = Math.max(...all);
    const [width, height, left, top, bottom] = [420, 220, 40, 24, 34];
    const count = Math.max(shownRun.costs.length, other?.costs.length ?? 0);
    const wide = (width - left - 4) / count;
    const y = (flops) => top + (height - top - bottom) * (1 - flops / high);
    const plot = s("svg", { class: "ctk-plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `MFLOP of each step: ${shownRun.costs.map((cost, i) => `step ${i} ${mega(cost.flops)}`).join(", ")}` });
    const nice = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((unit) => high / 1e6 / unit <= 5) ?? high / 4e6;
    for (let line = 0; line * 1e6 <= high; line += nice) {
      plot.append(
        s("line", { class: "ctk-gridline", x1: left, x2: width - 4, y1: y(line * 1e6), y2: y(line * 1e6) }),
        s("text", { x: left - 5, y: y(line * 1e6) + 4, "text-anchor": "end" }, String(Number(line.toFixed(1)))),
      );
    }
    plot.append(s("text", { class: "ctk-plot-title", x: 2, y: 12 }, `MFLOP of each step, ${way() === "cached" ? "with" : "without"} the cache`));
    for (let i = 0; i < count; i += 1) {
      const x = left + i * wide + wide * 0.12;
      const beside = other?.costs[i] && i > 0;
      const thick = wide * (beside ? 0.46 : 0.76);
      const cost = shownRun.costs[i];
      if (i === t) plot.append(s("rect", { class: "ctk-now", x: left + i * wide, y: top - 4, width: wide, height: height - top - bottom + 22, rx: 3 }));
      if (cost) {
        let sum = 0;
        PARTS.forEach(([part], k) => {
          if (cost[part]) plot.append(s("rect", { class: `ctk-part-${k}`, x, width: thick, y: y(sum + cost[part]), height: y(sum) - y(sum + cost[part]), "data-step": i, "data-part": part }));
          sum += cost[part];
        });
      }
      if (beside) plot.append(s("rect", { class: "ctk-other", x: x + wide * 0.5, width: wide * 0.26, y: y(other.costs[i].flops), height: y(0) - y(other.costs[i].flops) }));
      if (i === 0 || count <= 13 || i % 2 === 0) plot.append(s("text", { x: left + (i + 0.5) * wide, y: height - bottom + 14, "text-anchor": "middle" }, i === 0 ? "enc." : String(i)));
    }
    plot.append(s("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, "step"));
    const names = PARTS.map(([, name], k) => h("span", {}, h("span", { class: `ctk-patch ctk-patch-${k}` }), name));
    if (other) names.push(h("span", {}, h("span", { class: "ctk-patch ctk-patch-other" }), `${way() === "cached" ? "without" : "with"} the cache`));
    chart.replaceChildren(plot, h("p", { class: "ctk-key" }, ...names));
  }

  function drawCosts() {
    const t = step();
    const ways = ["cached", "plain"].filter((name) => results.ways[name]);
    const label = { cached: "with cache", plain: "without" };
    const at = (name, of) => {
      const found = results.ways[name].costs;
      return t < found.length ? of(found[t]) : 0;
    };
    const lines = [
      ...PARTS.map(([part, name]) => [`${name}, MFLOP`, part, (cost) => cost[part], mega]),
      ["all work, MFLOP", "flops", (cost) => cost.flops, mega],
      ["read from cache, KiB", "read", (cost) => cost.read, kilo],
      ["written to cache, KiB", "written", (cost) => cost.written, kilo],
    ];
    const row = (name, part, cells) => h("tr", { "data-row": part }, h("th", { scope: "row" }, name), ...cells);
    const cell = (name, when, text) => h("td", { "data-col": `${when}-${name}`, class: name === way() ? "ctk-chosen" : "" }, text);
    costs.replaceChildren(
      h(
        "table",
        { class: "ctk-plain ctk-figures" },
        h("caption", {}, "Work counted from the model’s sizes, a multiply-add as two FLOP; time measured"),
        h(
          "thead",
          {},
          h("tr", {}, h("td", {}), h("th", { scope: "colgroup", colspan: ways.length }, t ? `step ${t}` : "encoder"), h("th", { scope: "colgroup", colspan: ways.length }, t ? `encoder and steps 1 to ${t}` : "so far")),
          h("tr", {}, h("td", {}), ...[0, 1].flatMap(() => ways.map((name) => h("th", { scope: "col" }, label[name])))),
        ),
        h(
          "tbody",
          {},
          ...lines.map(([name, part, of, format]) =>
            row(name, part, [...ways.map((each) => cell(each, "step", format(at(each, of)))), ...ways.map((each) => cell(each, "sum", format(upTo(results.ways[each].costs.map(of), t))))]),
          ),
          row("measured, ms", "ms", [...ways.map((each) => cell(each, "step", written(results.ways[each].ms[t] ?? 0, 2))), ...ways.map((each) => cell(each, "sum", written(upTo(results.ways[each].ms, t), 2)))]),
        ),
      ),
    );
  }

  function drawVerdict() {
    const { plain, cached } = results.ways;
    const whole = (each) => upTo(each.costs.map((cost) => cost.flops), each.costs.length);
    const runs = `median of ${results.runs === 1 ? "one decode" : `${results.runs} decodes`}`;
    if (!cached) {
      verdict.textContent = `The whole decode: ${mega(whole(plain))} MFLOP, ${written(plain.ms_whole)} ms (${runs}).`;
      return;
    }
    const [work, time] = [whole(plain) / whole(cached), plain.ms_whole / cached.ms_whole];
    const note = time < 0.8 * work ? " At such sizes an operation takes time to start, however little it computes." : "";
    verdict.textContent =
      `The whole decode, encoder included: ${mega(whole(cached))} MFLOP with the cache, ${mega(whole(plain))} without, ${written(work, 1)} times as much. ` +
      `Measured here: ${written(cached.ms_whole)} ms with it, ${written(plain.ms_whole)} without, ${written(time, 1)} times as long (${runs}).${note}`;
  }

  function draw() {
    results = model.get("results");
    showProblem(results.problem);
    if (document.activeElement !== wordBox) wordBox.value = results.problem || !results.word ? model.get("word") : results.word;
    for (const part of body.children) part.hidden = !results.ways && part !== controls;
    if (!results.ways) return;
    const box = cacheSwitch.querySelector("input");
    box.checked = way() === "cached";
    box.disabled = !results.ways.cached;
    const t = step();
    slider.max = String(last());
    slider.value = String(t);
    slider.setAttribute("aria-valuetext", t ? `step ${t} of ${last()}` : "the encoder");
    shown.textContent = `${t} of ${last()}`;
    back.disabled = t === 0;
    forward.disabled = t === last();
    const [head, rest] = words();
    named.replaceChildren(h("b", {}, head), rest);
    pieces.replaceChildren(...inline(results.pieces));
    same.hidden = !results.same.said;
    same.className = `ctk-said ${results.same.state === "agrees" ? "ctk-agrees" : "ctk-differs"}`;
    same.replaceChildren(...inline(results.same.said));
    drawPicture();
    drawChart();
    drawCosts();
    drawVerdict();
    say(`${head}${rest}`, "step");
    root.dataset.step = String(t);
    root.dataset.way = way();
  }

  onChange(model, ["results", "step", "cached"], draw);
  draw();
}

export default { render };
