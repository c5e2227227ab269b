/** A question before the answer. @param {{model: Model, el: HTMLElement, signal?: AbortSignal}} context */
function render({ model, el, signal }) {
  const { body, say } = card(el, signal, { title: "Predict, then see", kind: "predict" });
  const choices = model.get("choices");
  const right = model.get("right");
  const name = freshId("choice");
  const told = freshId("told");
  let chosen = -1;

  const marks = choices.map(() => h("span", { class: "ctk-mark" }));
  const inputs = choices.map((_, i) =>
    h("input", {
      type: "radio",
      name,
      value: i,
      change: () => {
        chosen = i;
        answer.disabled = false;
      },
    }),
  );
  const rows = choices.map(({ text }, i) =>
    h("label", { class: "ctk-choice" }, inputs[i], h("span", {}, ...inline(text)), marks[i]),
  );
  const answer = button("Answer", () => tryOut(chosen), { class: "ctk-button ctk-main", disabled: true });
  const said = h("div", { class: "ctk-told", id: told });
  const others = h("details", { class: "ctk-details", hidden: true }, h("summary", {}, "What about the other choices?"));
  const list = h("ul", { class: "ctk-others" });
  choices.forEach(({ text, explanation }, i) => {
    if (i !== right) list.append(h("li", {}, h("b", {}, ...inline(text)), ": ", ...inline(explanation)));
  });
  others.append(list);

  function tryOut(index) {
    const good = index === right;
    tell(model, { answers: [...model.get("answers"), choices[index].text] });
    show(index);
    say(`${good ? "Correct." : "Not this one."} ${choices[index].explanation}`);
  }

  function show(index) {
    const good = index === right;
    marks[index].textContent = good ? "✓ right" : "✗ not this one";
    rows[index].classList.add(good ? "ctk-right" : "ctk-wrong");
    said.className = `ctk-told ${good ? "ctk-right" : "ctk-wrong"}`;
    said.replaceChildren(
      h("p", { class: "ctk-verdict" }, good ? "✓ Correct" : "✗ Not this one"),
      h("p", {}, ...inline(choices[index].explanation)),
      ...(good ? [] : [h("p", { class: "ctk-about" }, "Choose again if you like.")]),
    );
    others.hidden = !good;
  }

  body.append(
    h(
      "fieldset",
      { class: "ctk-question", "aria-describedby": told },
      h("legend", {}, ...inline(model.get("question"))),
      ...rows,
    ),
    answer,
    said,
    others,
  );
  // A second view of the same question shows what was answered.
  for (const text of model.get("answers")) show(choices.findIndex((choice) => choice.text === text));
}

export default { render };
