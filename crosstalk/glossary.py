"""The glossary and the table of symbols: one exact sentence each, and the lesson that introduces it.

The sentences stand in glossary.toml beside this file.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

from crosstalk.course import course


class GlossaryError(LookupError):
    """The glossary has no such term; the message names those that are near."""


@dataclass(frozen=True)
class Entry:
    """One term or sign."""

    name: str
    sentence: str
    lesson: str
    also: tuple[str, ...] = ()

    def __repr__(self) -> str:
        other = f" (also {', '.join(self.also)})" if self.also else ""
        return f"{self.name}{other}: {self.sentence} [{_place(self.lesson)}]"

    def _repr_html_(self) -> str:
        other = f" (also {escape(', '.join(self.also))})" if self.also else ""
        said = f"<strong>{escape(self.name)}</strong>{other}: {escape(self.sentence)}"
        return f"<p>{said} <em>{_place(self.lesson)}</em></p>"


class Glossary:
    """All terms, or all signs and terms. A notebook draws tables; the plain form is text.

    Attributes:
        symbols: the signs and the words of shapes, in the order in which lessons bring them.
        terms: the terms, in alphabetical order.
    """

    def __init__(self, symbols: Sequence[Entry], terms: Sequence[Entry]) -> None:
        self.symbols, self.terms = list(symbols), sorted(terms, key=lambda entry: entry.name.lower())

    def __repr__(self) -> str:
        return "\n".join(["Symbols", *map(repr, self.symbols), "", "Terms", *map(repr, self.terms)])

    def _repr_html_(self) -> str:
        return (
            "<div data-crosstalk-glossary>"
            + _table("Symbols and shapes", self.symbols, folded=False)
            + _table(f"Terms, {len(self.terms)} of them", self.terms, folded=True)
            + "</div>"
        )


def glossary(term: str | None = None) -> Glossary | Entry:
    """The whole glossary, or one entry of it.

    Args:
        term: a term, a sign, or another name of one (``"memory"``, ``"H"``, ``"<end>"``); capitals do not matter.

    Raises:
        GlossaryError: there is no such entry.
    """
    symbols, terms = _read()
    if term is None:
        return Glossary(symbols, terms)
    exactly: dict[str, Entry] = {}
    in_small: dict[str, Entry] = {}
    for entry in (*symbols, *terms):
        for name in _names(entry):
            exactly.setdefault(name, entry)
            in_small.setdefault(name.lower(), entry)
    wanted = term.strip()
    if found := exactly.get(wanted) or in_small.get(wanted.lower()):
        return found
    near = difflib.get_close_matches(wanted.lower(), in_small, n=3)
    told = f"Near it are: {', '.join(near)}." if near else "`glossary()` shows all there are."
    raise GlossaryError(f"The glossary has no {term!r}. {told}")


@cache
def _read() -> tuple[list[Entry], list[Entry]]:
    data = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    symbols = [Entry(each["sign"], each["sentence"], each["lesson"]) for each in data["symbols"]]
    terms = [
        Entry(each["name"], each["sentence"], each["lesson"], tuple(each.get("also", ()))) for each in data["terms"]
    ]
    return symbols, terms


def _names(entry: Entry) -> list[str]:
    """What an entry may be asked for by: its name, each of several signs, its other names."""
    return [entry.name, *(sign.strip() for sign in entry.name.split(", ")), *entry.also]


def _place(lesson_id: str) -> str:
    lesson = course().lesson(lesson_id)
    return f"lesson {lesson.id[:2]}{', planned' if lesson.planned else ''}"


def _table(title: str, entries: Sequence[Entry], *, folded: bool) -> str:
    left = 'style="text-align:left"'
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left;white-space:nowrap">{escape(entry.name)}</th>'
        f'<td {left}>{escape(entry.sentence)}</td><td style="text-align:left;white-space:nowrap">'
        f"{_place(entry.lesson)}</td></tr>"
        for entry in entries
    )
    head = "".join(f'<th scope="col" {left}>{said}</th>' for said in ("name", "what it is", "from"))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    opened = "" if folded else " open"
    return f"<details{opened}><summary><strong>{escape(title)}</strong></summary>{table}</details>"
