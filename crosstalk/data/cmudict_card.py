"""The figures of the data card, counted from the table, so that the card cannot say something else.

In the card each of them stands between ``<!-- figures: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from crosstalk.data.cmudict import SPLIT_COLUMNS, By
from crosstalk.data.families import (
    DERIVATIONS,
    INFLECTIONS,
    PREFIXES,
    SHORTEST_DERIVED,
    SHORTEST_INFLECTED,
)

PARTS = ("train", "validation", "test")
Rows = list[dict[str, Any]]


def fill(card: str, figures: dict[str, str]) -> str:
    """Put each figure in its place in the card.

    Raises:
        ValueError: the card's places are not the figures' names.
    """
    place = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
    names = [found[1] for found in place.findall(card)]
    if sorted(names) != sorted(figures):
        raise ValueError(
            f"The card has places for {', '.join(names) or 'no figures'}; "
            f"it needs exactly one each for {', '.join(figures)}."
        )
    return place.sub(lambda found: f"{found[1]}{figures[found[2]]}\n{found[3]}", card)


def figures(rows: Rows) -> dict[str, str]:
    """Count everything that the card states, as Markdown by name."""
    return {
        "overview": _overview(rows),
        "counts": _counts(rows),
        "rule": _rule(),
        "families": _families(rows),
        "leakage": _leakage(rows),
        "samples": _samples(rows),
    }


def _overview(rows: Rows) -> str:
    words = [row["word"] for row in rows]
    several = sum(len(row["stressed"]) > 1 for row in rows)
    several_plain = sum(len(row["pronunciations"]) > 1 for row in rows)
    longest = max(words, key=len)
    return _markdown_table(
        ("what", "how many"),
        [
            ("words", _n(len(rows))),
            ("pronunciations with stress marks", _n(sum(len(row["stressed"]) for row in rows))),
            ("pronunciations without", _n(sum(len(row["pronunciations"]) for row in rows))),
            ("words with several pronunciations", f"{_n(several)} ({_share(several, rows)})"),
            ("still several without stress marks", f"{_n(several_plain)} ({_share(several_plain, rows)})"),
            ("words with an apostrophe", _n(sum("'" in word for word in words))),
            ("words with a hyphen", _n(sum("-" in word for word in words))),
            ("words with a dot", _n(sum("." in word for word in words))),
            ("longest word", f"{len(longest)} letters (*{longest}*)"),
            ("most phonemes", _n(max(len(said.split()) for row in rows for said in row["pronunciations"]))),
        ],
    )


def _counts(rows: Rows) -> str:
    lines = []
    for by, column in SPLIT_COLUMNS.items():
        for part in PARTS:
            held = [row for row in rows if row[column] == part]
            said = sum(len(row["pronunciations"]) for row in held)
            groups = {row["family"] for row in held}
            rule = "by family" if by == "family" else "by word"
            lines.append((f"`{column}` ({rule})", part, *map(_n, (len(held), said, len(groups)))))
    return _markdown_table(("column", "part", "words", "pronunciations", "families"), lines)


def _rule() -> str:
    def listed(pieces: Sequence[str], pattern: str) -> str:
        return ", ".join(f"*{pattern.format(piece)}*" for piece in pieces)

    return _markdown_table(
        ("one word is the other with", "letters that must remain"),
        [
            (f"one of the endings {listed(INFLECTIONS, '-{}')}", f"{SHORTEST_INFLECTED} or more"),
            (f"one of the endings {listed(DERIVATIONS, '-{}')}", f"{SHORTEST_DERIVED} or more"),
            (f"one of the beginnings {listed(PREFIXES, '{}-')}", f"{SHORTEST_DERIVED} or more"),
        ],
    )


def _families(rows: Rows) -> str:
    sizes = Counter(row["family"] for row in rows)
    lines = []
    for low, high in ((1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, len(rows))):
        held = [size for size in sizes.values() if low <= size <= high]
        label = str(low) if low == high else f"{low} to {min(high, max(sizes.values()))}"
        lines.append((label, _n(len(held)), _n(sum(held)), _share(sum(held), rows)))
    return _markdown_table(("words in the family", "families", "words", "of all words"), lines)


def _leakage(rows: Rows) -> str:
    measures: list[tuple[str, Callable[[By], float]]] = [
        ("a word of its family", lambda by: _leak_of_families(rows, by)),
        ("a word that only ends differently", lambda by: _leak(rows, by, _leak_of_endings)),
        ("a word that differs by one letter", lambda by: _leak(rows, by, _leak_of_letters)),
    ]
    return _markdown_table(
        ("test words that have in train …", "by family", "random"),
        [(what, *(f"{100 * measure(by):.1f} %" for by in SPLIT_COLUMNS)) for what, measure in measures],
    )


def _leak_of_families(rows: Rows, by: By) -> float:
    train = {row["family"] for row in rows if row[SPLIT_COLUMNS[by]] == "train"}
    test = [row["family"] for row in rows if row[SPLIT_COLUMNS[by]] == "test"]
    return sum(family in train for family in test) / len(test)


def _leak(rows: Rows, by: By, related: Callable[[set[str], list[str]], int]) -> float:
    train = {row["word"] for row in rows if row[SPLIT_COLUMNS[by]] == "train"}
    test = [row["word"] for row in rows if row[SPLIT_COLUMNS[by]] == "test"]
    return related(train, test) / len(test)


def _leak_of_endings(train: set[str], test: list[str], common: int = 4, more: int = 3) -> int:
    """Count test words that become a train word when up to ``more`` letters come or go at the end."""

    def beginnings(word: str) -> list[str]:
        return [word[:end] for end in range(max(common, len(word) - more), len(word))]

    begun = {beginning for word in train for beginning in beginnings(word)}
    return sum(word in begun or not train.isdisjoint(beginnings(word)) for word in test)


def _leak_of_letters(train: set[str], test: list[str]) -> int:
    """Count test words that become a train word when one letter is added, dropped or changed."""

    def dropped(word: str) -> list[str]:
        return [word[:at] + word[at + 1 :] for at in range(len(word))]

    def gapped(word: str) -> list[str]:
        return [f"{word[:at]}_{word[at + 1 :]}" for at in range(len(word))]

    shorter = {less for word in train for less in dropped(word)}
    changed = {gap for word in train for gap in gapped(word)}
    return sum(
        word in shorter or not train.isdisjoint(dropped(word)) or not changed.isdisjoint(gapped(word)) for word in test
    )


def _samples(rows: Rows) -> str:
    """Ten rows by hash, from every part, half of them with several pronunciations."""

    def order(row: dict[str, Any]) -> bytes:
        return hashlib.sha256(f"sample:{row['word']}".encode()).digest()

    lines = []
    for part, count in zip(PARTS, (3, 1, 1), strict=True):
        held = sorted((row for row in rows if row[SPLIT_COLUMNS["family"]] == part), key=order)
        one = [row for row in held if len(row["pronunciations"]) == 1]
        several = [row for row in held if len(row["pronunciations"]) > 1]
        lines += one[:count] + several[:count]
    return _markdown_table(
        ("word", "pronunciations", "stressed", "family", "split", "random_split"),
        [
            (
                row["word"],
                " / ".join(row["pronunciations"]),
                " / ".join(row["stressed"]),
                *(row[column] for column in ("family", *SPLIT_COLUMNS.values())),
            )
            for row in lines
        ],
    )


def _markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def _n(number: int) -> str:
    return f"{number:,}"


def _share(part: int, whole: Sequence[object]) -> str:
    return f"{100 * part / len(whole):.1f} %"
