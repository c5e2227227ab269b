"""The map of the whole model: one picture, the same in each lesson, with today's parts lit.

``model_map("01-attention")``, the last line of a cell, shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import get_args

from crosstalk import my_model
from crosstalk.course import Part, course
from crosstalk.signs import OWN_COLOUR, TODAY_COLOUR, own_sign, today_sign

TODAY_MARK, OWN_MARK = "◆", "✓"
_WIDTH, _HEIGHT = 624, 512
_LEFT, _RIGHT, _COLUMN = 6, 322, 276  # where the two columns begin, and how wide they are

#: What each part of the picture is called in words.
PART_NAMES: dict[Part, str] = {
    "embedding": "embeddings",
    "positions": "positions",
    "mask": "masks",
    "attention": "attention",
    "heads": "heads",
    "feed-forward": "feed-forward block",
    "norm": "norm",
    "encoder": "encoder",
    "cross-attention": "cross-attention",
    "decoder": "decoder",
    "loss": "loss",
    "decoding": "decoding and search",
}


@dataclass(frozen=True)
class PartState:
    """One part of the model today: whether this lesson works on it, and how much of it is the student's own."""

    today: bool
    own: int  # exercises of this part that have a piece of the student's
    exercises: int  # all that the course has for it so far
    rest: tuple[str, ...] = ()  # the numbers of the lessons that have those not yet the student's own

    @property
    def is_own(self) -> bool:
        """Are all its exercises the student's own?"""
        return 0 < self.exercises == self.own

    @property
    def share(self) -> float:
        """How much of it is the student's own, from 0 to 1."""
        return self.own / self.exercises if self.exercises else 0.0

    @property
    def words(self) -> str:
        """The same in words: ``today, 1 of 3 yours``."""
        own = "✓ yours" if self.is_own else f"{self.own} of {self.exercises} yours" if self.own else ""
        return ", ".join(word for word in ("today" if self.today else "", own) if word)


class ModelMap:
    """The picture for one lesson. A notebook draws it; its plain form is text.

    Attributes:
        lesson: the lesson's id.
        parts: the state of each part, by the names in course.toml.
    """

    def __init__(self, lesson: str, parts: dict[Part, PartState]) -> None:
        self.lesson, self.parts = lesson, parts

    def __repr__(self) -> str:
        lines = [
            "letters → embeddings + positions → encoder layers (self-attention, feed-forward) → memory H",
            "tokens so far → embeddings + positions → decoder layers (causal self-attention; cross-attention, "
            "Q from the decoder, K and V from H; feed-forward) → generator → next token → decoding",
            "in training (teacher forcing): next token and right tokens → loss",
            self.summary(),
        ]
        return "\n".join(lines)

    def summary(self) -> str:
        """What is lit, in one or two sentences."""
        today = [PART_NAMES[part] for part, state in self.parts.items() if state.today]
        said = [f"{TODAY_MARK} Today: {', '.join(today)}." if today else "Today: the whole of it."]
        own = [PART_NAMES[part] for part, state in self.parts.items() if state.is_own]
        begun = [f"{PART_NAMES[part]} ({state.own} of {state.exercises}{self._where(state)})"
                 for part, state in self.parts.items() if state.own and not state.is_own]  # fmt: skip
        said += [f"{OWN_MARK} Yours: {', '.join(own)}."] if own else []
        said += [f"Begun: {', '.join(begun)}."] if begun else []
        return " ".join(said)

    def _where(self, state: PartState) -> str:
        """In which lessons the rest of a part is, when there is nothing more to do for it in this one."""
        if self.lesson[:2] in state.rest or not state.rest:
            return ""
        return f", the rest in lesson{'s' if len(state.rest) > 1 else ''} {' and '.join(state.rest)}"

    def svg(self) -> str:
        """The picture, without script or style sheet; its colours fit a light and a dark page."""
        name = f"crosstalk-map-{self.lesson}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
            f'aria-labelledby="{name}-title {name}-about" fill="none" stroke="currentColor" '
            'style="display:block;width:100%;height:auto;font-family:system-ui,sans-serif">'
            f'<title id="{name}-title">Map of the encoder-decoder model</title>'
            f'<desc id="{name}-about">{escape(repr(self))}</desc>'
            f"<defs>{_pattern(name)}{_arrow_head(name)}</defs>"
            f"{_arrows(name)}{_encoder(self.parts, name)}{_decoder(self.parts, name)}{_legend(name)}</svg>"
        )

    def _repr_html_(self) -> str:
        return (
            '<figure style="margin:0;max-width:640px;color:var(--jp-content-font-color1,inherit)" '
            f'data-crosstalk-map="{escape(self.lesson)}">{self.svg()}'
            '<figcaption style="font-family:var(--jp-content-font-family,system-ui,sans-serif)">'
            f"{escape(self.summary())}</figcaption></figure>"
        )


def model_map(today: str) -> ModelMap:
    """The map of the model for a lesson.

    Args:
        today: the lesson's id, number or name: its exercises say which parts are lit.

    Raises:
        CourseError: there is no such lesson.
    """
    lesson = course().lesson(today)
    lit = {entry.part for entry in lesson.exercises}
    places: dict[Part, list[tuple[str, bool]]] = {part: [] for part in get_args(Part)}
    for each in course().lessons:
        for entry in each.exercises:
            places[entry.part].append((each.id[:2], my_model.is_own(entry.name)))
    return ModelMap(
        lesson.id,
        {
            part: PartState(part in lit, sum(own for _, own in found), len(found),
                            tuple(dict.fromkeys(number for number, own in found if not own)))
            for part, found in places.items()
        },
    )  # fmt: skip


# --- the two columns -------------------------------------------------------------------------------------------


def _encoder(parts: dict[Part, PartState], name: str) -> str:
    x = _LEFT
    return "".join([
        _data(x, 6, "spelling x: c a t"),
        _embedding(parts, name, x, 54),
        _frame(parts["encoder"], name, x, 98, 150, "encoder × N"),
        _chip(parts["norm"], name, x + 198, 106, 70, "norm", height=26),
        _words(x + 8, 158, "self-attention"),
        _heads(parts, name, x, 166),
        _wide(parts["feed-forward"], name, x + 8, 210, _COLUMN - 16, "feed-forward"),
        _data(x, 260, "memory H"),
        _words(x, 366, "in training: teacher forcing", size=16),
        _wide(parts["loss"], name, x, 376, _COLUMN, "loss"),
        _data(x, 420, "right tokens y: K AE T end"),
    ])  # fmt: skip


def _decoder(parts: dict[Part, PartState], name: str) -> str:
    x = _RIGHT
    return "".join([
        _data(x, 6, "tokens so far: start K AE"),
        _embedding(parts, name, x, 54),
        _frame(parts["decoder"], name, x, 98, 226, "decoder × N"),
        _chip(parts["norm"], name, x + 198, 106, 70, "norm", height=26),
        _words(x + 8, 158, "causal self-attention"),
        _heads(parts, name, x, 166),
        _frame(parts["cross-attention"], name, x + 4, 213, 62, "cross-attention", inset=4),
        _heads(parts, name, x, 240),
        _wide(parts["feed-forward"], name, x + 8, 286, _COLUMN - 16, "feed-forward"),
        _wide(parts["decoder"], name, x, 334, _COLUMN, "generator"),
        _data(x, 376, "next token: P(y_t | y_<t, x)"),
        _wide(parts["decoding"], name, x, 420, _COLUMN, "decoding"),
    ])  # fmt: skip


def _embedding(parts: dict[Part, PartState], name: str, x: int, y: int) -> str:
    half = (_COLUMN - 22) // 2
    return (
        _chip(parts["embedding"], name, x, y, half, "embedding")
        + _words(x + half + 11, y + 21, "+", anchor="middle")
        + _chip(parts["positions"], name, x + half + 22, y, half, "positions")
    )


def _heads(parts: dict[Part, PartState], name: str, x: int, y: int) -> str:
    """The three parts that every attention is made of."""
    return (
        _chip(parts["attention"], name, x + 8, y, 104, "attention")
        + _chip(parts["heads"], name, x + 117, y, 76, "heads")
        + _chip(parts["mask"], name, x + 198, y, 70, "mask")
    )


# --- shapes ----------------------------------------------------------------------------------------------------


def _words(x: float, y: float, text: str, *, anchor: str = "start", size: int = 17, weight: int = 400) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="currentColor" stroke="none">{escape(text)}</text>'
    )


def _data(x: int, y: int, text: str) -> str:
    """What flows, not a part: no corners."""
    box = f'<rect x="{x}" y="{y}" width="{_COLUMN}" height="32" rx="16" stroke-dasharray="2 3"/>'
    return box + _words(x + _COLUMN / 2, y + 22, text, anchor="middle")


def _box(state: PartState, name: str, x: float, y: float, width: float, height: float) -> str:
    """A part's rectangle: as much of it tinted as is the student's own, hatched and framed if it is today's."""
    at = f'x="{x:g}" y="{y:g}" height="{height:g}" rx="5"'
    layers = []
    if state.own:
        layers.append(
            f'<rect {at} width="{width * state.share:g}" fill="{OWN_COLOUR}" fill-opacity=".3" stroke="none"/>'
        )
    if state.today:
        layers.append(f'<rect {at} width="{width:g}" fill="url(#{name}-hatch)" stroke="none"/>')
    line = (
        f'stroke="{TODAY_COLOUR}" stroke-width="3.5"'
        if state.today
        else f'stroke="{OWN_COLOUR}" stroke-width="2.5"'
        if state.is_own
        else 'stroke-opacity=".55"'
    )
    return "".join(layers) + f'<rect {at} width="{width:g}" {line}/>'


def _part(state: PartState, label: str, inside: str) -> str:
    said = f"{label}: {state.words}" if state.words else label
    return f"<g><title>{escape(said)}</title>{inside}</g>"


def _badges(state: PartState, right: float, y: float) -> str:
    """The signs on a part's lower edge, from its right end."""
    signs = [own_sign] * state.is_own + [today_sign] * state.today
    return "".join(sign(right - 12 - 19 * index, y) for index, sign in enumerate(signs))


def _chip(state: PartState, name: str, x: float, y: float, width: float, label: str, *, height: int = 30) -> str:
    text = _words(x + width / 2, y + height / 2 + 5, label, anchor="middle", size=16)
    return _part(state, label, _box(state, name, x, y, width, height) + text + _badges(state, x + width, y + height))


def _wide(state: PartState, name: str, x: float, y: float, width: float, label: str) -> str:
    """A part with room for its state in words."""
    text = _words(x + 10, y + 21, label)
    said = _words(x + width - 10, y + 21, state.words, anchor="end", size=15)
    return _part(state, label, _box(state, name, x, y, width, 30) + text + (said if state.words else ""))


def _frame(state: PartState, name: str, x: float, y: float, height: float, label: str, *, inset: int = 0) -> str:
    """A part that holds others: only its edge and its name are lit, so that what is inside can be read."""
    width = _COLUMN - 2 * inset
    line = (
        f'stroke="{TODAY_COLOUR}" stroke-width="3.5"'
        if state.today
        else f'stroke="{OWN_COLOUR}" stroke-width="3"'
        if state.is_own
        else 'stroke-opacity=".55"'
    )
    box = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8" {line}/>'
    text = _words(x + (4 if inset else 8), y + (20 if inset else 25), label, weight=400 if inset else 600)
    return _part(state, label, box + text + _badges(state, x + width, y + height))


def _pattern(name: str) -> str:
    return (
        f'<pattern id="{name}-hatch" width="8" height="8" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><line x1="0" y1="0" x2="0" y2="8" stroke="{TODAY_COLOUR}" '
        'stroke-opacity=".38" stroke-width="3"/></pattern>'
    )


def _arrow_head(name: str) -> str:
    return (
        f'<marker id="{name}-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 8 4 0 8z" fill="currentColor" '
        'stroke="none"/></marker>'
    )


def _arrows(name: str) -> str:
    head = f'marker-end="url(#{name}-head)" stroke-opacity=".8" stroke-width="1.5"'
    encoder, decoder = _LEFT + _COLUMN // 2, _RIGHT + _COLUMN // 2
    edge, far = _LEFT + _COLUMN, _RIGHT + _COLUMN
    downward = [(encoder, 38, 53), (encoder, 84, 97), (encoder, 196, 209), (encoder, 248, 259),
                (decoder, 38, 53), (decoder, 84, 97), (decoder, 196, 212), (decoder, 275, 285),
                (decoder, 324, 333), (decoder, 364, 375), (decoder, 408, 419)]  # fmt: skip
    paths = [f"M{x} {top}V{bottom}" for x, top, bottom in downward]
    paths.append(f"M{edge} 276H{edge + 16}V255H{_RIGHT + 3}")  # H to cross-attention
    paths.append(f"M{_RIGHT} 392H{edge + 1}")  # the distribution to the loss
    paths.append(f"M{encoder} 420V407")  # the right tokens to the loss
    paths.append(f"M{far} 435H{far + 14}V22H{far + 1}")  # the token chosen goes in again
    return (
        "".join(f'<path d="{path}" {head}/>' for path in paths)
        + _words(edge + 2, 247, "K, V", size=16)
        + _words(decoder + 9, 209, "Q", size=14)
    )


def _legend(name: str) -> str:
    items = [(6, PartState(True, 0, 1), "today"), (150, PartState(False, 1, 1), "yours"),
             (294, PartState(False, 0, 1), "not yet yours")]  # fmt: skip
    return "".join(
        _box(state, name, x + 2, 474, 34, 24) + _badges(state, x + 36, 498) + _words(x + 50, 492, said)
        for x, state, said in items
    )
