/** Loss curves and what stands beside them. @param {{model: Model, el: HTMLElement, signal?: AbortSignal}} context */
function render({ model, el, signal }) {
  const results = model.get("results");
  const own = Boolean(results.findings);
  const { body, say } = card(el, signal, {
    title: own ? "Curve doctor: your loss in plain words" : "Curve doctor: the patients",
    about: own
      ? "The curve of your own training, and what it is likely to mean."
      : "Look at a curve first and make a guess. Then ask for evidence, one piece at a time.",
    kind: "curve_doctor",
  });
  const arrays = readArrays(model);
  const { every } = results;
  const healthy = own ? null : results.patients[0];
  const others = own ? [] : results.patients.slice(1);
  const patient = () => others[Math.max(0, Math.min(model.get("chosen"), others.length - 1))];
  const losses = (name) => arrays[name ? `${name} losses` : "losses"].values;
  const heldOut = (name) => arrays[name ? `${name} validation` : "validation"].values;
  const mine = () => (own ? "" : patient().name);
  const steps = () => losses(mine()).length * every;
  const per = (share, digits = 0) => `${written(100 * share, digits)} %`;
  const counted = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");

  // ---- the curve

  const plot = h("div", { class: "ctk-curves" });
  const reading = h("p", { class: "ctk-reading" });
  const slider = h("input", {
    type: "range",
    min: 0,
    class: "ctk-range",
    "aria-label": "Read the curve at a step",
    input: () => tell(model, { point: Number(slider.value) }),
  });
  const point = () => {
    const last = losses(mine()).length - 1;
    return model.get("point") < 0 ? last : Math.min(model.get("point"), last);
  };
  const validationStep = (i, count) => (own ? (steps() * i) / Math.max(1, count - 1) : i === 0 ? 1 : i * results.checked);

  /** The path of a curve, begun anew after each number that cannot be drawn. */
  function path(values, at, x, y) {
    let d = "";
    let pen = "M";
    values.forEach((value, i) => {
      if (Number.isFinite(value)) {
        d += `${pen}${x(at(i)).toFixed(1)} ${y(value).toFixed(1)}`;
        pen = "L";
      } else pen = "M";
    });
    return d;
  }

  function drawPlot() {
    const [width, height, left, right, top, bottom] = [460, 262, 36, 12, 12, 36];
    const lines = [{ kind: "mine", name: own ? "training loss" : `patient ${mine()}`, values: losses(mine()), at: (i) => (i + 0.5) * every }];
    if (!own && model.get("with_healthy")) lines.push({ kind: "healthy", name: "healthy", values: losses("healthy"), at: lines[0].at });
    if (model.get("with_validation") && heldOut(mine()).length) {
      const values = heldOut(mine());
      lines.push({ kind: "held", name: "held-out words", values, at: (i) => validationStep(i, values.length) });
    }
    const finite = lines.flatMap((line) => [...line.values]).filter(Number.isFinite);
    const highest = Math.max(1.15 * results.guess, ...finite.slice(0, 5000));
    const tick = [0.5, 1, 2, 5, 10, 20, 50, 100, 1000].find((t) => highest / t <= 6) ?? 10000;
    const x = (step) => left + ((width - left - right) * step) / steps();
    const y = (loss) => top + (height - top - bottom) * (1 - Math.min(loss, highest) / highest);
    const spoken = lines.map((line) => {
      const first = line.values[0];
      const last = line.values[line.values.length - 1];
      return `${line.name} from ${written(first)} to ${written(last)}`;
    });
    const svg = s("svg", { class: "ctk-plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Loss over ${counted(steps())} steps: ${spoken.join("; ")}` });
    for (let value = 0; value <= highest; value += tick) {
      svg.append(
        s("line", { class: "ctk-gridline", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
        s("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, written(value, tick < 1 ? 1 : 0)),
      );
    }
    const stride = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000].find((t) => steps() / t <= 6) ?? 100000;
    for (let step = 0; step <= steps(); step += stride) {
      svg.append(s("text", { x: x(step), y: height - bottom + 16, "text-anchor": step === 0 ? "start" : x(step) > width - 30 ? "end" : "middle" }, counted(step)));
    }
    svg.append(s("text", { x: width - right, y: height - 4, "text-anchor": "end" }, "steps"), s("text", { x: left, y: height - 4 }, "loss, nats per token"));
    const guides = [[results.guess, `ln ${results.vocabulary} = ${written(results.guess)}: knows nothing`]];
    if (own) guides.push([results.floor, `${written(results.floor)}: least with a softmax too many`]);
    for (const [value, words] of guides) {
      svg.append(
        s("line", { class: "ctk-guide", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
        s("text", { class: "ctk-guide-words", x: width - right, y: y(value) - 4, "text-anchor": "end" }, words),
      );
    }
    for (const line of [...lines].reverse()) svg.append(s("path", { class: `ctk-line ctk-line-${line.kind}`, d: path(line.values, line.at, x, y) }));
    const at = point();
    svg.append(s("line", { class: "ctk-cursor", x1: x((at + 0.5) * every), x2: x((at + 0.5) * every), y1: top, y2: height - bottom }));
    const keys = lines.map((line) => h("span", { class: "ctk-key" }, h("span", { class: `ctk-dash ctk-dash-${line.kind}` }), line.name));
    plot.replaceChildren(svg, h("p", { class: "ctk-keys" }, ...keys));
    const from = at * every + 1;
    const where = every > 1 ? `steps ${counted(from)} to ${counted(from + every - 1)}` : `step ${counted(from)}`;
    const parts = lines.filter((line) => line.kind !== "held").map((line) => `${line.name} ${written(line.values[at])}`);
    const words = `At ${where}: ${parts.join(", ")}.`;
    reading.textContent = words;
    slider.max = String(losses(mine()).length - 1);
    slider.value = String(at);
    slider.setAttribute("aria-valuetext", words);
    return words;
  }

  const validationToggle = toggle("loss on held-out words", model.get("with_validation"), (on) => tell(model, { with_validation: on }));
  const left = h("div", { class: "ctk-panel ctk-left" }, plot, slider, reading);
  const rightSide = h("div", { class: "ctk-panel ctk-right" });

  // ---- a training of one's own: the reading

  if (own) {
    const list = results.findings.map((finding) =>
      h("li", {}, h("p", { class: "ctk-seen" }, ...inline(finding.seen)), h("p", {}, ...inline(finding.likely)), h("p", {}, h("b", {}, "To find out: "), ...inline(finding.ask))),
    );
    rightSide.append(h("ol", { class: "ctk-findings" }, ...list), h("p", { class: "ctk-about" }, results.remark));
    if (heldOut("").length) body.append(h("div", { class: "ctk-controls" }, validationToggle));
    body.append(h("div", { class: "ctk-panels" }, left, rightSide));
    onChange(model, ["point", "with_validation"], () => say(drawPlot()));
    drawPlot();
    return;
  }

  // ---- the patients: samples and evidence

  const evidence = {
    forced: ["right tokens, forced and free", (p) => [
      ["right tokens when fed the right prefix, as its own code measures it", per(p.forced)],
      ["edits per 100 phonemes when it speaks on its own (PER)", written(p.per, 0)],
    ]],
    ends: ["how long it speaks", (p) => [
      ["phonemes it says to a word", `${written(p.length, 1)}, right are ${written(p.true_length, 1)}`],
      ["words after which it says the end token", per(p.ended)],
    ]],
    different: ["does it listen", (p) => [[`different things it says to ${p.words} different words`, counted(p.different)]]],
    moved: ["how far the weights went", (p) => Object.entries(p.moved).map(([part, way]) => [`${part}: way from its start, against its size then`, per(way)])],
  };
  const chosen = radios("Patient", others.map((p) => p.name), model.get("chosen"), (i) => tell(model, { chosen: i }));
  const beside = toggle("healthy one beside it", model.get("with_healthy"), (on) => tell(model, { with_healthy: on }));
  const sampledSteps = Object.keys(healthy.samples).map(Number);
  const when = radios("Samples after step", sampledSteps.map(counted), model.get("sampled"), (i) => tell(model, { sampled: i }));
  const samples = h("table", { class: "ctk-plain ctk-samples" });
  const asks = Object.entries(evidence).map(([key, [label]]) => {
    const box = toggle(label, model.get("asked").includes(key), (on) => {
      const left = model.get("asked").filter((other) => other !== key);
      tell(model, { asked: on ? [...left, key] : left });
    });
    box.dataset.ctk = key;
    return box;
  });
  const figures = h("div", {});
  rightSide.append(when, h("div", { class: "ctk-scroll" }, samples));
  body.append(
    h("div", { class: "ctk-controls" }, chosen, beside, validationToggle),
    h("div", { class: "ctk-panels" }, left, rightSide),
    h("fieldset", { class: "ctk-radios ctk-asks" }, h("legend", {}, "Ask for"), ...asks),
    figures,
  );

  function heads(...names) {
    return h("thead", {}, h("tr", {}, ...names.map((name) => h("th", { scope: "col" }, name))));
  }

  function drawSamples() {
    const step = String(sampledSteps[model.get("sampled")]);
    const p = patient();
    const rows = results.words.map(({ word, right }, i) => {
      const said = p.samples[step][i];
      return h("tr", {}, h("th", { scope: "row" }, word), h("td", {}, right), h("td", { class: "ctk-says" }, said || "(nothing)"));
    });
    samples.replaceChildren(
      h("caption", {}, `What patient ${p.name} says on its own, after ${counted(Number(step))} steps`),
      heads("word", "dictionary", `patient ${p.name}`),
      h("tbody", {}, ...rows),
    );
  }

  function drawFigures() {
    const asked = Object.keys(evidence).filter((key) => model.get("asked").includes(key));
    figures.replaceChildren();
    if (!asked.length) return;
    const p = patient();
    const rows = asked.flatMap((key) => {
      const theirs = evidence[key][1](healthy);
      return evidence[key][1](p).map(([what, value], i) => h("tr", {}, h("th", { scope: "row" }, what), h("td", {}, value), h("td", {}, theirs[i][1])));
    });
    figures.append(
      h(
        "table",
        { class: "ctk-plain" },
        h("caption", { class: "ctk-unseen" }, `Evidence on patient ${p.name}`),
        heads(`at the end, on ${p.words} words never seen`, `patient ${p.name}`, "healthy"),
        h("tbody", {}, ...rows),
      ),
    );
  }

  function draw() {
    const words = drawPlot();
    drawSamples();
    drawFigures();
    const p = patient();
    say(`Patient ${p.name}. ${words} The first loss was ${written(p.first)}.`);
  }

  onChange(model, ["chosen", "sampled", "asked", "with_healthy", "with_validation", "point"], draw);
  draw();
}

export default { render };
