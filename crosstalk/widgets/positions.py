"""Sinusoidal positions: the table, what their dot products tell, and what a word is without them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import traitlets
from torch import Tensor

from crosstalk.widgets import student
from crosstalk.widgets.base import CourseWidget
from crosstalk.widgets.packing import pack

LENGTHS = (16, 96)  # positions of the table, fewest and most
WIDTHS = (4, 8, 16, 32, 64, 128)  # d_model
LONGEST_WORD = 12
CLOSE = 1e-4  # two numbers of the table, or two vectors, are the same when they differ by no more than this


def formula(length: int, d_model: int) -> Tensor:
    """The table of Vaswani et al. (2017, section 3.5), (length, d_model), in float64, to compare with."""
    places = torch.arange(length, dtype=torch.float64)
    table = torch.empty(length, d_model, dtype=torch.float64)
    for column in range(d_model):
        angle = places / 10_000 ** ((column - column % 2) / d_model)
        table[:, column] = angle.cos() if column % 2 else angle.sin()
    return table


def embeddings(word: str, d_model: int) -> Tensor:
    """A random vector for each letter, the same for the same letter, (letters, d_model).

    Normal with standard deviation 1: what a fresh TokenEmbedding gives, d_model^-½ times √d_model.
    """
    drawn = torch.randn(26, d_model, generator=torch.Generator().manual_seed(d_model), dtype=torch.float64)
    return torch.stack([drawn[ord(letter) % 26] for letter in word])


def letters_in_order(word: str, rearranged: str) -> list[int]:
    """Where each letter of ``rearranged`` stood in ``word``; equal letters keep their order.

    Raises:
        ValueError: it is not made of the same letters.
    """
    if Counter(word) != Counter(rearranged):
        raise ValueError(f"{rearranged!r} is not made of the letters of {word!r}: give an anagram of it.")
    left = {letter: [i for i, other in enumerate(word) if other == letter] for letter in word}
    return [left[letter].pop(0) for letter in rearranged]


def spread_by_offset(products: Tensor) -> tuple[float, int]:
    """How far the dot products of pairs equally far apart lie from each other: the largest range, and its offset.

    Args:
        products: (length, length), symmetric.
    """
    diagonals = [products.diagonal(offset) for offset in range(len(products))]
    ranges = torch.stack([diagonal.max() - diagonal.min() for diagonal in diagonals])
    return float(ranges.max()), int(ranges.argmax())


class Positions(CourseWidget):
    """The student's table of positions, its dot products, and letters to move.

    Args:
        sinusoidal_positions: the student's ``sinusoidal_positions(length, d_model)`` → (length, d_model).
        word: its letters can be moved; 2 to 12 letters a to z.
        anagram: the same letters in another order, offered on a button.

    ``order`` says where each letter stood in ``word``, as the letters stand now.

    Raises:
        ValueError: a word with other characters, too short or too long; no anagram.
    """

    name = "positions"

    function_name = traitlets.Unicode().tag(sync=True)
    word = traitlets.Unicode().tag(sync=True)
    anagram = traitlets.List(traitlets.Int()).tag(sync=True)
    lengths = traitlets.List(list(LENGTHS)).tag(sync=True)
    widths = traitlets.List(list(WIDTHS)).tag(sync=True)
    length = traitlets.Int(48).tag(sync=True)
    d_model = traitlets.Int(64).tag(sync=True)
    place = traitlets.Int(8).tag(sync=True)
    order = traitlets.List(traitlets.Int()).tag(sync=True)
    with_positions = traitlets.Bool(True).tag(sync=True)

    def __init__(self, sinusoidal_positions: Callable[..., Any], word: str = "listen", anagram: str = "") -> None:
        word, anagram = word.lower(), anagram.lower()
        if not (2 <= len(word) <= LONGEST_WORD and word.isascii() and word.isalpha()):
            raise ValueError(f"{word!r} cannot be used here: give a word of 2 to {LONGEST_WORD} letters a to z.")
        if word == "listen" and not anagram:
            anagram = "silent"
        self._function = sinusoidal_positions
        super().__init__(
            function_name=student.name_of(sinusoidal_positions),
            word=word,
            anagram=letters_in_order(word, anagram) if anagram else [],
            order=list(range(len(word))),
        )
        self.observe(lambda _: self._compute(), ["length", "d_model", "order", "with_positions"])
        self._compute()

    @traitlets.validate("order")
    def _whole_order(self, proposal: Any) -> list[int]:
        order: list[int] = proposal["value"]
        if sorted(order) != list(range(len(self.word))):
            raise traitlets.TraitError(f"An order holds each number from 0 to {len(self.word) - 1} once.")
        return order

    @traitlets.validate("d_model")
    def _known_width(self, proposal: Any) -> int:
        if proposal["value"] not in WIDTHS:
            raise traitlets.TraitError(f"d_model is one of {', '.join(map(str, WIDTHS))} here.")
        return int(proposal["value"])

    @traitlets.validate("length")
    def _known_length(self, proposal: Any) -> int:
        if not LENGTHS[0] <= proposal["value"] <= LENGTHS[1]:
            raise traitlets.TraitError(f"The length is {LENGTHS[0]} to {LENGTHS[1]} here.")
        return int(proposal["value"])

    def arrangement(self) -> str:
        """The word as its letters stand now."""
        return "".join(self.word[i] for i in self.order)

    def _call(self) -> student.Outcome:
        """The student's table, (length, d_model) in float64, or why there is none."""
        name, shape = self.function_name, (self.length, self.d_model)
        outcome = student.call(self._function, *shape)
        if outcome.problem:
            return outcome
        table = outcome.value
        if not isinstance(table, Tensor):
            got = "None" if table is None else f"a {type(table).__name__}"
            return student.Outcome(problem=f"`{name}` returned {got}; a tensor is wanted.")
        if tuple(table.shape) != shape:
            return student.Outcome(
                problem=f"`{name}({self.length}, {self.d_model})` returned shape {student.shape_text(table.shape)}; "
                f"{student.shape_text(shape)} is wanted."
            )
        if not table.is_floating_point():
            return student.Outcome(problem=f"`{name}` returned {table.dtype}; floats are wanted.")
        if not bool(table.isfinite().all()):
            row, column = (~table.isfinite()).nonzero()[0].tolist()
            return student.Outcome(
                problem=f"`{name}` returned {float(table[row, column])} at position {row}, dimension {column}; "
                "finite numbers are wanted."
            )
        return student.Outcome(value=table.detach().cpu().double())

    def _compute(self) -> None:
        outcome = self._call()
        table: Tensor | None = outcome.value
        arrays: dict[str, Tensor] = {}
        results: dict[str, Any] = {"length": self.length, "d_model": self.d_model, "problem": outcome.problem}
        if table is not None:
            products = table @ table.T  # (length, length)
            arrays |= {"table": table, "products": products}
            results |= self._say_table(table, products)
        results["letters"] = self._letters(table, arrays)
        layout, numbers = pack(**arrays)
        self._send_results({**results, "arrays": layout}, numbers)

    def _say_table(self, table: Tensor, products: Tensor) -> dict[str, Any]:
        gap = (table - formula(*table.shape)).abs()
        if float(gap.max()) <= 1e-3:  # float32 angles of long tables are that far off
            said = "Your table is the formula's: sines in the even dimensions, cosines in the odd ones."
        else:
            row, column = divmod(int(gap.argmax()), table.shape[1])
            said = (
                f"Your table differs from the formula's, most at position {row}, dimension {column}: "
                f"{float(table[row, column]):.2f} instead of {float(formula(*table.shape)[row, column]):.2f}."
            )
        spread, offset = spread_by_offset(products)
        by_offset = spread <= CLOSE * self.d_model
        if by_offset:
            curves = "All curves lie on each other: the dot product depends on the offset alone."
        else:
            diagonal = products.diagonal(offset)
            curves = (
                f"The curves do not lie on each other: two positions {offset} apart have dot products from "
                f"{float(diagonal.min()):.1f} to {float(diagonal.max()):.1f}, depending on where they stand."
            )
        return {"right": float(gap.max()) <= 1e-3, "said": said, "by_offset": by_offset, "curves": curves}

    def _letters(self, table: Tensor | None, arrays: dict[str, Tensor]) -> dict[str, Any]:
        """The vectors of the letters, as they stood and as they stand, and how many of them are new."""
        count = len(self.word)
        before = embeddings(self.word, self.d_model)  # (letters, d_model)
        now = before[self.order]
        added = self.with_positions and table is not None
        if added and table is not None:
            before, now = before + table[:count], now + table[:count]
        moved = (now - before[self.order]).norm(dim=-1)  # (letters,)
        closest = torch.cdist(now, before, compute_mode="donot_use_mm_for_euclid_dist").amin(dim=-1)
        new = int((closest > CLOSE).sum())
        arrays |= {"before": before, "now": now, "moved": moved}
        return {
            "order": list(self.order),
            "with_positions": added,
            "new": new,
            "said": self._say_letters(new, added),
        }

    def _say_letters(self, new: int, added: bool) -> str:
        count, now = len(self.word), self.arrangement()
        if now == self.word:
            return f"“{now}” stands as it did: all {count} vectors are where they were. Move a letter."
        if not new and added:
            return f"“{now}” has the same {count} vectors as “{self.word}”, although positions are added."
        if not new:
            return (
                f"“{now}” has the same {count} vectors as “{self.word}”, in another order: "
                "an encoder gives each letter the same row of the memory in both words."
            )
        kept = count - new
        both = "" if not kept else ", 1 does" if kept == 1 else f", {kept} do"
        return f"{new} of the {count} vectors of “{now}” do not occur in “{self.word}”{both}: the model sees two words."

    def describe(self) -> str:
        found = self.results
        said = found["problem"] or f"{found['said']} {found['curves']}"
        return (
            f"Positional encodings of {self.length} positions, d_model = {self.d_model}. {said} "
            f"The letters of “{self.word}” stand as “{self.arrangement()}”, positions "
            f"{'added' if found['letters']['with_positions'] else 'not added'}: {found['letters']['said']}"
        )
