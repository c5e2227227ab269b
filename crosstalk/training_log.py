"""What a training leaves behind: its losses, and what the model said on the way, drawn as a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape

from crosstalk.data.cmudict import PHONEMES
from crosstalk.signs import OWN_COLOUR

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 560, 200, 34, 22
_POINTS = 280  # drawn at most; each is the mean of its stretch of steps


@dataclass
class TrainingLog:
    """The course of one training.

    Attributes:
        steps: where it ends.
        losses: of each step so far, in nats per token.
        said: at some steps, what the model said for some words: step → word → phonemes.
    """

    steps: int
    losses: list[float] = field(default_factory=list)
    said: dict[int, dict[str, str]] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """How many steps are done."""
        return len(self.losses)

    def smoothed(self, points: int = _POINTS) -> list[tuple[float, float]]:
        """The curve in at most ``points`` points: the middle and the mean loss of each stretch of steps."""
        width = max(1, math.ceil(self.step / points))
        stretches = [self.losses[begin : begin + width] for begin in range(0, self.step, width)]
        return [(width * index + len(each) / 2, sum(each) / len(each)) for index, each in enumerate(stretches)]

    def __repr__(self) -> str:
        if not self.losses:
            return f"no step yet of {self.steps:,}"
        recent = self.losses[-max(1, min(100, self.step // 10)) :]
        return f"step {self.step:,} of {self.steps:,}: loss {sum(recent) / len(recent):.3f}"

    def _repr_html_(self) -> str:
        return f'<div style="max-width:{_WIDTH}px">{self.curve()}{self.table()}</div>'

    def curve(self) -> str:
        """The loss curve as SVG, with the loss of guessing, ln V, as a dashed line."""
        guess = math.log(len(PHONEMES))
        points = [(step, loss) for step, loss in self.smoothed() if math.isfinite(loss)]
        top = min(max([guess + 0.4, *(loss for _, loss in points)]), 8.0)
        right, base = _WIDTH - 6, _HEIGHT - _BOTTOM

        def place(step: float, loss: float) -> str:
            x = _LEFT + (right - _LEFT) * step / max(self.steps, 1)
            return f"{x:.1f},{base - (base - 6) * min(loss, top) / top:.1f}"

        marks = "".join(
            f'<text x="{_LEFT - 5}" y="{place(0, loss).split(",")[1]}" dy="4" text-anchor="end">{loss}</text>'
            for loss in range(0, math.floor(top) + 1)
        )
        guessed = place(0, guess).split(",")[1]
        return (
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" style="display:block;width:100%;height:auto" '
            'font-family="system-ui,sans-serif" font-size="11" fill="currentColor">'
            f"<title>{escape(repr(self))}</title>{marks}"
            f'<path d="M{_LEFT},6 V{base} H{right}" fill="none" stroke="currentColor" opacity="0.6"/>'
            f'<path d="M{_LEFT},{guessed} H{right}" fill="none" stroke="currentColor" stroke-dasharray="4 4" '
            f'opacity="0.6"/><text x="{right}" y="{guessed}" dy="-4" text-anchor="end">ln V: guessing</text>'
            f'<text x="{_LEFT}" y="{_HEIGHT - 6}">loss (nats per token) against steps</text>'
            f'<text x="{right}" y="{_HEIGHT - 6}" text-anchor="end">{self.steps:,}</text>'
            f'<polyline points="{" ".join(place(*point) for point in points)}" fill="none" stroke="{OWN_COLOUR}" '
            'stroke-width="2" stroke-linejoin="round"/></svg>'
        )

    def table(self) -> str:
        """What the model said, a row for each step at which it was asked."""
        if not self.said:
            return ""
        words = list(next(iter(self.said.values())))
        head = "".join(f'<th style="text-align:left">{escape(word)}</th>' for word in ("step", *words))
        rows = "".join(
            f"<tr><td>{step:,}</td>"
            + "".join(f'<td style="text-align:left">{escape(said.get(word, ""))}</td>' for word in words)
            + "</tr>"
            for step, said in self.said.items()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
