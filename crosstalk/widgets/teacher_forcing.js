/** What goes into the decoder, and what is asked of it. @param {{model: Model, el: HTMLElement, signal?: AbortSignal}} context */
function render({ model, el, signal }) {
  const { body, say, showProblem } = card(el, signal, {
    title: "Teacher forcing: what goes in, what is asked for",
    about:
      "In training the decoder reads the right pronunciation and is asked for it, all places at once. " +
      "Under the causal mask a place sees its own input and those to its left. Shift the lanes against each other.",
    kind: "teacher_forcing",
  });
  const [START, FOREIGN] = [-1, -2];
  const WIDE = 76; // pixels of one place
  const DEEP = 66; // pixels between the lanes
  const MOST = 14; // tokens shown of what a model says
  const NAMES = ["not shifted", "inputs right by one", "inputs right, labels left"];
  const tokens = model.get("tokens");
  const word = model.get("word");
  const record = model.get("record");
  const { steps, trainings } = record;
  const sub = (n) => String(n).replace(/\d/g, (d) => "₀₁₂₃₄₅₆₇₈₉"[Number(d)]);
  const thousands = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");
  const percent = (x) => `${written(x, x < 99.95 ? 1 : 0)} %`;

  const lane = () => model.get("results").lanes[model.get("shift")];
  const place = () => Math.min(model.get("place"), lane().labels.length - 1);
  const at = () => model.get("at");
  const tokenOf = (origin) => (origin === START ? "<start>" : origin === FOREIGN ? "?" : tokens[origin]);
  const nameOf = (origin) => (origin === START ? "start" : origin === FOREIGN ? "not of the word" : `y${sub(origin + 1)}`);

  // -- the timeline --
  const shifts = radios("Shift", NAMES.map((name, i) => `${i}: ${name}`), model.get("shift"), (i) => tell(model, { shift: i }));
  const timeline = h("div", { class: "ctk-timeline" });
  const reading = h("p", { class: "ctk-reading" });
  const theirs = h("p", { class: "ctk-said", hidden: true });
  let drawnShift = -1;
  const asked = h("div", { class: "ctk-lane", role: "group", "aria-label": "What is asked for, place by place" });
  const places = () => [...asked.querySelectorAll("button")];
  const roving = rove(asked, places, () => places().length);

  // -- what training made of it --
  const slider = h("input", {
    type: "range",
    class: "ctk-slider",
    min: 0,
    max: steps.length - 1,
    step: 1,
    input: () => tell(model, { at: slider.valueAsNumber }),
  });
  const stepShown = h("output", { class: "ctk-step" });
  const curves = h("div", { class: "ctk-curves" });
  const samples = h("div", { class: "ctk-scroll ctk-samples" });
  const summary = h("div", { class: "ctk-scroll" });
  const lesson = h("p", { class: "ctk-lesson" });
  body.append(
    h("div", { class: "ctk-controls" }, shifts),
    h("div", { class: "ctk-scroll" }, timeline),
    reading,
    theirs,
    h(
      "div",
      { class: "ctk-trained" },
      h("p", { class: "ctk-subtitle" }, "Three small models, really trained: same seed, same batches, only the shift differs"),
      h("label", { class: "ctk-control ctk-wide" }, h("span", {}, "After step"), slider, stepShown),
      h("div", { class: "ctk-panels ctk-halves" }, h("div", { class: "ctk-panel" }, curves, summary), h("div", { class: "ctk-panel" }, samples)),
      lesson,
    ),
  );

  /** What the places up to `t` may see says of the label there. */
  function judge(t) {
    const { inputs, labels } = lane();
    const seen = inputs.slice(0, t + 1);
    const label = labels[t];
    return {
      seen,
      label,
      foreign: seen.includes(FOREIGN),
      answer: seen.includes(label),
      future: seen.some((origin) => origin > label),
      missing: Array.from({ length: label }, (_, i) => i).filter((i) => !seen.includes(i)),
      noStart: !seen.includes(START),
    };
  }

  function kindOf(found) {
    if (found.answer) return "answer";
    if (found.future) return "future";
    if (found.foreign) return "foreign";
    return found.missing.length ? "skipped" : found.noStart ? "no-start" : "none";
  }

  function verdict(found) {
    const said = [];
    if (found.answer) said.push("The answer itself is among them: to copy it is all there is to learn.");
    if (found.future) said.push("A token from behind the answer is among them: when the model decodes on its own, that token does not exist yet.");
    if (found.foreign) said.push("A token that is not in the word is among them.");
    if (found.missing.length) {
      const list = found.missing.map((i) => tokens[i]).join(" and ");
      said.push(`${list}, which came before it, ${found.missing.length > 1 ? "are" : "is"} not among them: the place has to look further ahead than the next token.`);
    } else if (!found.answer && !found.future && !found.foreign) {
      if (found.noStart) said.push("The start token is not among them, and decoding begins with it.");
      else said.push(found.seen.length === 1 ? "Only the start token: the letters have to tell." : "All that came before the answer, and nothing from it on: decoding will offer the same.");
    }
    return said.join(" ");
  }

  /** Made anew only when the shift changes, so that the focus stays where it is. */
  function drawLanes() {
    if (drawnShift === model.get("shift")) return;
    drawnShift = model.get("shift");
    const { inputs, labels } = lane();
    const kinds = labels.map((_, t) => kindOf(judge(t)));
    asked.replaceChildren(
      ...labels.map((origin, t) =>
        h(
          "button",
          {
            type: "button",
            class: "ctk-token",
            tabindex: -1,
            "data-place": t,
            "data-finds": kinds[t],
            "aria-label": `Place ${t + 1}: asked for ${tokens[origin]}`,
            click: () => tell(model, { place: t }),
            focus: () => tell(model, { place: t }),
          },
          tokens[origin],
          h("small", {}, nameOf(origin)),
        ),
      ),
    );
    const wide = `${labels.length * WIDE}px`;
    timeline.style.width = wide;
    timeline.replaceChildren(
      h("p", { class: "ctk-lane-name" }, "goes in"),
      h(
        "ol",
        { class: "ctk-lane", "aria-label": "What goes in, place by place" },
        ...inputs.map((origin, t) => h("li", { class: "ctk-token ctk-input", "data-input": t }, tokenOf(origin), h("small", {}, nameOf(origin)))),
      ),
      s("svg", { class: "ctk-arrows", width: labels.length * WIDE, height: DEEP, "aria-hidden": "true" }),
      asked,
      h("p", { class: "ctk-lane-name" }, "is asked for"),
    );
  }

  function drawPlace() {
    const t = place();
    const found = judge(t);
    roving.select(t);
    places().forEach((each, i) => {
      if (i === t) each.setAttribute("aria-current", "true");
      else each.removeAttribute("aria-current");
    });
    const x = (i) => (i + 0.5) * WIDE;
    const arrows = [];
    timeline.querySelectorAll(".ctk-input").forEach((input, i) => {
      const origin = lane().inputs[i];
      const leak = i <= t && origin >= found.label;
      input.dataset.state = i > t ? "hidden" : leak ? "leak" : "seen";
      if (i > t) return;
      const line = { class: leak ? "ctk-leak" : "ctk-seen", "data-from": i, d: `M${x(i)} 3C${x(i)} ${DEEP * 0.6} ${x(t)} ${DEEP * 0.4} ${x(t)} ${DEEP - 9}` };
      arrows.push([leak, s("path", line)]);
    });
    arrows.sort(([a], [b]) => Number(a) - Number(b)); // a leak lies on top
    const leaks = arrows.some(([leak]) => leak);
    timeline.querySelector("svg").replaceChildren(
      ...arrows.map(([, path]) => path),
      s("path", { class: leaks ? "ctk-head ctk-head-leak" : "ctk-head", d: `M${x(t)} ${DEEP - 1}l-5 -9h10z` }),
    );
    const seen = found.seen.map(tokenOf).join(" ");
    reading.dataset.finds = kindOf(found);
    reading.replaceChildren(h("b", {}, `Place ${t + 1} sees ${seen} and is asked for ${tokens[found.label]}.`), ` ${verdict(found)}`);
    say(reading.textContent, "place");
  }

  function drawTheirs() {
    const { state, said } = model.get("results");
    showProblem(state === "problem" ? said : "");
    theirs.hidden = !state || state === "problem" || model.get("shift") === 0; // without a shift it is not called
    theirs.className = `ctk-said ${state === "agrees" ? "ctk-agrees" : "ctk-differs"}`;
    theirs.replaceChildren(...inline(said ?? ""));
  }

  const lossAt = (training) => training.loss[at()];

  function drawCurves() {
    const [width, height, left, right, top, bottom] = [400, 250, 34, 62, 22, 34];
    const last = steps[steps.length - 1];
    const floor = Math.log(record.vocabulary);
    const high = Math.max(floor + 0.3, ...trainings.flatMap((each) => each.curve.slice(1)));
    const x = (step) => left + ((width - left - right) * step) / last;
    const y = (loss) => top + (height - top - bottom) * (1 - Math.min(loss, high) / high);
    const ends = trainings.map((each) => `shift ${each.shift} ends at ${written(each.curve[each.curve.length - 1], 3)}`).join(", ");
    const plot = s("svg", { class: "ctk-plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Training loss against the step, in nats: ${ends}` });
    for (let loss = 0; loss <= high; loss += 1) {
      plot.append(
        s("line", { class: "ctk-gridline", x1: left, x2: width - right, y1: y(loss), y2: y(loss) }),
        s("text", { x: left - 5, y: y(loss) + 4, "text-anchor": "end" }, String(loss)),
      );
    }
    plot.append(
      s("text", { class: "ctk-plot-title", x: 2, y: 12 }, `Training loss in nats, means of ${record.mean_of} steps`),
      s("line", { class: "ctk-chance", x1: left, x2: width - right, y1: y(floor), y2: y(floor) }),
      s("text", { x: width - right - 4, y: y(floor) + 14, "text-anchor": "end" }, `ln ${record.vocabulary} = ${written(floor)}: no idea`),
    );
    const apart = [0, last / 2, last];
    for (const step of apart) plot.append(s("text", { x: x(step), y: height - bottom + 15, "text-anchor": "middle" }, thousands(step)));
    plot.append(s("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "step"));
    plot.append(s("line", { class: "ctk-now", x1: x(steps[at()]), x2: x(steps[at()]), y1: top, y2: height - bottom }));
    // The names at the right ends, pushed apart where the curves end close together.
    const labels = trainings.map((each, i) => ({ i, y: y(each.curve[each.curve.length - 1]) })).sort((a, b) => a.y - b.y);
    for (let k = labels.length - 2; k >= 0; k -= 1) labels[k].y = Math.min(labels[k].y, labels[k + 1].y - 14);
    for (const { i, y: height_ } of labels) {
      const chosen = i === model.get("shift");
      const points = trainings[i].curve.map((loss, k) => `${x(Math.min(last, (k + 0.5) * record.mean_of)).toFixed(1)} ${y(loss).toFixed(1)}`);
      plot.append(
        s("path", { class: `ctk-curve ctk-curve-${i} ${chosen ? "ctk-chosen" : ""}`, d: `M${points.join("L")}` }),
        s("text", { class: `ctk-curve-name-${i} ${chosen ? "ctk-chosen" : ""}`, x: width - right + 5, y: height_ + 4 }, `shift ${i}`),
      );
    }
    curves.replaceChildren(plot);
  }

  function drawSummary() {
    summary.replaceChildren(
      h(
        "table",
        { class: "ctk-plain ctk-figures" },
        h("caption", { class: "ctk-unseen" }, `Loss and error rate of each training after step ${thousands(steps[at()])}`),
        h("thead", {}, h("tr", {}, ...["Shift", "Training loss", "PER on its own"].map((x) => h("th", { scope: "col" }, x)))),
        h(
          "tbody",
          {},
          ...trainings.map((each, i) =>
            h(
              "tr",
              { class: i === model.get("shift") ? "ctk-row-chosen" : "", "data-shift": i },
              h("th", { scope: "row" }, `${i === model.get("shift") ? "▸ " : ""}${i}: ${NAMES[i]}`),
              h("td", {}, written(lossAt(each), 3)),
              h("td", {}, percent(each.per[at()])),
            ),
          ),
        ),
      ),
    );
  }

  function drawSamples() {
    const training = trainings[model.get("shift")];
    const end = "<end>";
    samples.replaceChildren(
      h(
        "table",
        { class: "ctk-plain" },
        h("caption", {}, `Shift ${model.get("shift")} after step ${thousands(steps[at()])}: words it has never seen, decoded greedily`),
        h("thead", {}, h("tr", {}, ...["Word", "It says", "Dictionary"].map((x) => h("th", { scope: "col" }, x)))),
        h(
          "tbody",
          {},
          ...record.words.map((each, i) => {
            const said = training.samples[at()][i];
            const ended = said[said.length - 1] === end;
            const spoken = ended ? said.slice(0, -1) : said;
            const right = ended && each.pronunciations.some((one) => one.join(" ") === spoken.join(" "));
            const shown = spoken.slice(0, MOST).join(" ") + (spoken.length > MOST ? " …" : "");
            const remark = !ended ? ` (no end in ${said.length} tokens)` : spoken.length > MOST ? ` (${spoken.length} tokens)` : spoken.length ? "" : "(ends at once)";
            return h(
              "tr",
              {},
              h("th", { scope: "row" }, each.word),
              h("td", { class: "ctk-it-says" }, h("span", { class: right ? "ctk-agrees" : "" }, shown), remark ? h("span", { class: "ctk-remark" }, remark) : ""),
              h("td", {}, each.pronunciations[0].join(" ")),
            );
          }),
        ),
      ),
    );
  }

  function drawLesson() {
    const least = (of) => trainings.reduce((best, each) => (of(each) < of(best) ? each : best)).shift;
    const [loss, per] = [least(lossAt), least((each) => each.per[at()])];
    lesson.replaceChildren(
      h("b", {}, loss === per ? `Here shift ${loss} has both the lowest loss and the lowest error rate.` : `The lowest loss here is shift ${loss}’s, the lowest error rate shift ${per}’s.`),
      " The loss is measured with the right pronunciation going in; PER is what the model says on its own, from the start token on: " +
        `edits per 100 phonemes over ${record.held_out} words that were not trained on. It passes 100 % where a model says far more than was wanted.`,
    );
  }

  function drawTraining() {
    slider.value = String(at());
    const words = thousands(steps[at()]);
    slider.setAttribute("aria-valuetext", `step ${words}`);
    stepShown.textContent = words;
    drawCurves();
    drawSummary();
    drawSamples();
    drawLesson();
  }

  let saidFor = `${model.get("shift")} ${at()}`;
  function draw() {
    shifts.querySelectorAll("input").forEach((radio, i) => (radio.checked = i === model.get("shift")));
    drawLanes();
    drawPlace();
    drawTheirs();
    drawTraining();
    const key = `${model.get("shift")} ${at()}`;
    if (key !== saidFor) {
      const training = trainings[model.get("shift")];
      say(`Shift ${training.shift} after step ${thousands(steps[at()])}: loss ${written(lossAt(training), 3)}, PER ${percent(training.per[at()])}.`, "training");
    }
    saidFor = key;
  }

  onChange(model, ["shift", "place", "at", "results"], draw);
  draw();
}

export default { render };
