/** log P(y|x), token by token. @param {{model: Model, el: HTMLElement, signal?: AbortSignal}} context */
function render({ model, el, signal }) {
  const { body, say, showProblem } = card(el, signal, {
    title: "One word, token by token",
    about:
      "The model names one token at a time, each given the word and the tokens before it. " +
      "Step through with the arrow keys or the space bar and watch the product shrink.",
    kind: "factorisation",
  });
  const SHOWN = 6; // tokens of the distribution
  const examples = model.get("examples");
  const numbers = asFloats(model.get("numbers"));
  const end = model.get("end");
  const words = [...new Set(examples.map((e) => e.word))];
  const sub = (n) => String(n).replace(/\d/g, (d) => "₀₁₂₃₄₅₆₇₈₉"[Number(d)]);

  const example = () => examples[model.get("chosen")];
  const canDropEnd = (e) => e.tokens.length > 1 && e.tokens[e.tokens.length - 1] === end;
  const counted = (e) => e.tokens.length - (canDropEnd(e) && !model.get("with_end") ? 1 : 0);
  const row = (e, t) => numbers.subarray(e.start + t * e.vocabulary.length, e.start + (t + 1) * e.vocabulary.length);
  const steps = (e) => e.target.slice(0, counted(e)).map((id, t) => row(e, t)[id]);
  const total = (logs) => logs.reduce((a, b) => a + b, 0);
  const current = () => Math.max(1, Math.min(model.get("step"), counted(example())));

  const choose = (index) => tell(model, { chosen: index, step: 1 });
  const word = chooser("Word", words, words.indexOf(example().word), (i) =>
    choose(examples.findIndex((e) => e.word === words[i])),
  );
  const which = h("span", {});
  const withEnd = toggle(`count the end token \`${end}\``, model.get("with_end"), (on) => tell(model, { with_end: on }));
  const controls = h("div", { class: "ctk-controls" }, word, which, withEnd);

  const track = h("div", { class: "ctk-track", role: "group", "aria-label": "Tokens of the pronunciation" });
  const back = button("← Back", () => go(current() - 1));
  const next = button("Next →", () => go(current() + 1));
  const place = h("span", { class: "ctk-place" });
  const chips = () => [...track.querySelectorAll("button")];
  const roving = rove(track, chips, () => chips().length);
  track.addEventListener("keydown", (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
    go(current() === counted(example()) ? 1 : current() + 1, true);
  });

  const bars = h("table", { class: "ctk-bars" });
  const stairs = h("div", { class: "ctk-stairs" });
  const sum = h("div", { class: "ctk-sum" });
  const theirs = h("p", { class: "ctk-said", hidden: true });
  const rivals = h("div", {});
  const table = h("details", { class: "ctk-details" }, h("summary", {}, "All steps as a table"));
  body.append(
    controls,
    h("div", { class: "ctk-controls ctk-steps" }, track, h("span", { class: "ctk-control" }, back, next, place)),
    h("div", { class: "ctk-panels ctk-halves" }, h("div", { class: "ctk-panel" }, bars), h("div", { class: "ctk-panel" }, stairs)),
    sum,
    theirs,
    rivals,
    table,
  );

  function go(step, focus = false) {
    const to = Math.max(1, Math.min(step, counted(example())));
    tell(model, { step: to });
    if (focus) roving.focus(to - 1);
  }

  /** The chips are made anew only when the word or the switch changes, so the focus stays where it is. */
  let drawnFor = "";
  function drawTrack() {
    const e = example();
    const key = `${model.get("chosen")} ${model.get("with_end")}`;
    if (drawnFor === key) return;
    drawnFor = key;
    track.replaceChildren(
      ...e.tokens.slice(0, counted(e)).map((token, t) =>
        h("button", { type: "button", class: "ctk-chip", tabindex: -1, click: () => go(t + 1), focus: () => go(t + 1) }, token),
      ),
    );
    const siblings = examples.map((x, i) => [x, i]).filter(([x]) => x.word === e.word);
    which.replaceChildren();
    if (siblings.length > 1) {
      const names = siblings.map(([x]) => x.label || x.tokens.join(" "));
      const at = siblings.findIndex(([, i]) => i === model.get("chosen"));
      which.append(chooser("Pronunciation", names, at, (i) => choose(siblings[i][1])));
    }
    word.querySelector("select").selectedIndex = words.indexOf(e.word);
    const box = withEnd.querySelector("input");
    box.checked = model.get("with_end");
    box.disabled = !canDropEnd(e);
  }

  function draw() {
    drawTrack();
    const e = example();
    const step = current();
    const logs = steps(e);
    roving.select(step - 1);
    chips().forEach((chip, i) => {
      chip.classList.toggle("ctk-reached", i < step);
      if (i === step - 1) chip.setAttribute("aria-current", "step");
      else chip.removeAttribute("aria-current");
    });
    back.disabled = step === 1;
    next.disabled = step === logs.length;
    place.textContent = `token ${step} of ${logs.length}`;
    drawBars(e, step);
    drawStairs(e, logs, step);
    drawSum(e, logs, step);
    drawRivals(e);
    drawTable(e, logs);
    drawTheirs();
    const p = Math.exp(logs[step - 1]);
    say(
      `Token ${step} of ${logs.length}, ${e.tokens[step - 1]}: probability ${probability(p)}. ` +
        `Log P so far ${written(total(logs.slice(0, step)), 3)}.`,
    );
  }

  function drawBars(e, step) {
    const probabilities = [...row(e, step - 1)].map(Math.exp);
    const gold = e.target[step - 1];
    const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
    const shown = order.slice(0, SHOWN);
    if (!shown.includes(gold)) shown[SHOWN - 1] = gold;
    const before = e.tokens.slice(0, step - 1).join(" ");
    const caption = before ? `after “${before}”` : "before any token";
    bars.replaceChildren(
      h("caption", {}, h("span", { class: "ctk-formula" }, ...(step === 1 ? ["P(y₁ | x)"] : [`P(y${sub(step)} | y`, h("sub", {}, `<${step}`), ", x)"])), ` for “${e.word}”, ${caption}`),
      h("thead", { class: "ctk-unseen" }, h("tr", {}, ...["Token", "Bar", "Probability", "Remark"].map((t) => h("th", { scope: "col" }, t)))),
      h(
        "tbody",
        {},
        ...shown.map((id) => {
          const bar = h("span", { class: "ctk-bar" });
          bar.style.width = `${Math.max(0.5, 100 * probabilities[id])}%`;
          const rank = order.indexOf(id) + 1;
          const remark = id === gold ? (rank > SHOWN ? `◀ this word’s, ranked ${rank}` : "◀ this word’s") : "";
          return h(
            "tr",
            { class: id === gold ? "ctk-gold" : "" },
            h("th", { scope: "row" }, e.vocabulary[id]),
            h("td", { class: "ctk-bar-cell" }, bar),
            h("td", {}, probability(probabilities[id])),
            h("td", { class: "ctk-remark" }, remark),
          );
        }),
      ),
    );
  }

  function drawStairs(e, logs, step) {
    const [width, height, left, right, top, bottom] = [360, 216, 44, 10, 12, 34];
    const sums = [0];
    for (const log of logs) sums.push(sums[sums.length - 1] + log);
    const finite = sums.filter(Number.isFinite);
    const low = Math.min(-0.05, ...finite);
    const tick = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50].find((x) => -low / x <= 4.5) ?? 100;
    const floor = Math.ceil((-low / tick) * 1.02) * tick;
    const x = (t) => left + ((width - left - right) * t) / logs.length;
    const y = (value) => top + ((height - top - bottom) * (Number.isNaN(value) ? floor : Math.min(floor, -value))) / floor;
    const path = (count) => {
      let d = `M${x(0)} ${y(0)}`;
      for (let t = 1; t <= count; t += 1) d += `V${y(sums[t])}H${x(t)}`;
      return d;
    };
    const words = logs.map((_, t) => `${e.tokens[t]} ${written(sums[t + 1], 2)}`).join(", ");
    const plot = s("svg", { class: "ctk-plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Staircase of log P after each token: ${words}` });
    for (let value = 0; value <= floor + 1e-9; value += tick) {
      plot.append(
        s("line", { class: "ctk-gridline", x1: left, x2: width - right, y1: y(-value), y2: y(-value) }),
        s("text", { x: left - 5, y: y(-value) + 4, "text-anchor": "end" }, written(-value, tick < 0.1 ? 2 : tick < 1 ? 1 : 0)),
      );
    }
    plot.append(
      s("path", { class: "ctk-stair-later", d: path(logs.length) }),
      s("path", { class: "ctk-stair", d: path(step) }),
      s("circle", { class: "ctk-stair-dot", cx: x(step), cy: y(sums[step]), r: 4.5 }),
    );
    const near = y(sums[step]) < top + 24 ? 16 : -9;
    plot.append(s("text", { class: "ctk-stair-value", x: Math.min(x(step), width - 40), y: y(sums[step]) + near, "text-anchor": "middle" }, written(sums[step], 2)));
    logs.forEach((_, t) => {
      plot.append(s("text", { class: t === step - 1 ? "ctk-here" : "", x: (x(t) + x(t + 1)) / 2, y: height - bottom + 16, "text-anchor": "middle" }, e.tokens[t]));
    });
    plot.append(s("text", { x: left, y: height - 3 }, "log P of the tokens so far, in nats"));
    stairs.replaceChildren(plot);
  }

  function drawSum(e, logs, step) {
    const parts = logs.slice(0, step);
    const log = total(parts);
    const terms = parts.map((value, i) => (i ? `${value <= 0 ? "− " : "+ "}${written(Math.abs(value), 2)}` : written(value, 2)));
    const done = step === logs.length;
    const chain = (text) => (step === 1 ? [] : [text, " = "]);
    const what = done ? `P(${e.word} → ${e.tokens.slice(0, step).join(" ")})` : step === 1 ? "P of the first token" : `P of the first ${step} tokens`;
    sum.replaceChildren(
      h("p", {}, h("b", {}, what), " = ", ...chain(parts.map((v) => probability(Math.exp(v))).join(" × ")), h("b", { "data-ctk": "product" }, probability(Math.exp(log)))),
      h("p", {}, h("b", {}, "log P"), " = ", ...chain(terms.join(" ")), h("b", { "data-ctk": "sum" }, written(log, 4))),
    );
  }

  function drawRivals(e) {
    const same = examples.filter((x) => x.word === e.word);
    rivals.replaceChildren();
    if (same.length < 2) return;
    rivals.append(
      h(
        "table",
        { class: "ctk-plain" },
        h("caption", { class: "ctk-unseen" }, `Pronunciations of ${e.word}`),
        h("thead", {}, h("tr", {}, ...["Pronunciation", "Tokens", "log P", "P"].map((t) => h("th", { scope: "col" }, t)))),
        h(
          "tbody",
          {},
          ...same.map((x) => {
            const log = total(steps(x));
            const name = `${x.label ? `${x.label}: ` : ""}${x.tokens.slice(0, counted(x)).join(" ")}`;
            return h("tr", {}, h("th", { scope: "row" }, x === e ? `▸ ${name}` : name), h("td", {}, String(counted(x))), h("td", {}, written(log, 3)), h("td", {}, probability(Math.exp(log))));
          }),
        ),
      ),
    );
  }

  function drawTable(e, logs) {
    let running = 0;
    const lines = logs.map((log, t) => {
      running += log;
      return h("tr", {}, h("td", {}, String(t + 1)), h("th", { scope: "row" }, e.tokens[t]), ...[probability(Math.exp(log)), written(log, 4), written(running, 4)].map((x) => h("td", {}, x)));
    });
    table.querySelector("table")?.remove();
    table.append(
      h(
        "table",
        { class: "ctk-plain" },
        h("caption", { class: "ctk-unseen" }, `Steps of ${e.word}`),
        h("thead", {}, h("tr", {}, ...["t", "Token", "P", "log P", "Sum so far"].map((x) => h("th", { scope: "col" }, x)))),
        h("tbody", {}, ...lines),
      ),
    );
  }

  function drawTheirs() {
    const { state, said, about } = model.get("results");
    showProblem(state === "problem" ? said : "");
    const fresh = about && about[0] === model.get("chosen") && about[1] === model.get("with_end");
    theirs.hidden = !state || state === "problem";
    theirs.className = `ctk-said ${state === "agrees" ? "ctk-agrees" : "ctk-differs"}`;
    const whole = current() === counted(example()) ? "" : " (Step to the last token to see that sum.)";
    theirs.replaceChildren(...(fresh ? inline(said + whole) : []));
  }

  onChange(model, ["chosen", "with_end", "step", "results"], draw);
  draw();
}

export default { render };
