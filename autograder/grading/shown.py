"""Names that a student chose, made fit for a sentence, a table and a log."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 60  # characters of one name


def shown(name: str) -> str:
    """A name without what could move a cursor, turn the direction of writing or fill a page."""
    plain = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in name)
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 1] + "…"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Several names in a sentence: "a, b, c and 4 more"."""
    first = [shown(name) for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(first)} and {len(names) - most} more"
    return " and ".join([*([", ".join(first[:-1])] if first[1:] else []), *first[-1:]])
