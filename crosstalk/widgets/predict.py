"""A question before the answer."""

from __future__ import annotations

import traitlets

from crosstalk.widgets.base import CourseWidget


class Predict(CourseWidget):
    """Ask what will happen, then say why each choice is right or wrong.

    Args:
        question: one or two sentences; `code` and *emphasis* are shown as such.
        choices: ``{text: explanation}``, two or more, in the order shown; each has its explanation.
        right: the text of the right choice.

    ``answers`` holds the choices made so far, in order.

    Raises:
        ValueError: fewer than two choices, one without explanation, or ``right`` is not among them.
    """

    name = "predict"

    question = traitlets.Unicode().tag(sync=True)
    choices = traitlets.List(traitlets.Dict()).tag(sync=True)
    right = traitlets.Int().tag(sync=True)
    answers = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, question: str, choices: dict[str, str], right: str) -> None:
        texts = list(choices)
        if len(texts) < 2:
            raise ValueError("A question needs at least two choices.")
        if right not in choices:
            raise ValueError(f"right={right!r} is none of the choices: {', '.join(map(repr, texts))}.")
        for text, explanation in choices.items():
            if not explanation.strip():
                raise ValueError(f"The choice {text!r} has no explanation: every choice needs its own.")
        super().__init__(
            question=question,
            choices=[{"text": text, "explanation": choices[text]} for text in texts],
            right=texts.index(right),
        )

    def describe(self) -> str:
        lines = [self.question, *(f"  ( ) {choice['text']}" for choice in self.choices)]
        return "\n".join(lines)

    def _still_is_honest(self) -> bool:
        return False
