"""A hint, shown as a sentence."""

from __future__ import annotations

import html
from dataclasses import dataclass

from autograder.report import inline


@dataclass(frozen=True)
class Hint:
    """One hint."""

    sentence: str

    def __repr__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        return f"<p>{inline(html.escape(self.sentence))}</p>"
