"""What the student has done so far: ``work/progress.json``, keyed on exercise and the hash of its cases."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from crosstalk.my_model import keeps_pieces
from crosstalk.places import work_folder, write_atomically


@dataclass
class Progress:
    """One exercise: how often tried, the best points so far on these cases, hints taken."""

    cases: str = ""
    points: float = 0.0
    passed: bool = False
    tries: int = 0  # since the last pass
    hints: int = 0


def read() -> dict[str, Progress]:
    """All that is noted; a file that cannot be read is kept aside and counts as empty."""
    path = work_folder() / "progress.json"
    if not (keeps_pieces() and path.is_file()):
        return {}
    try:
        noted: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {name: Progress(**entry) for name, entry in noted.items()}
    except (ValueError, TypeError, AttributeError):
        aside = path.with_suffix(".unreadable.json")
        path.replace(aside)
        print(f"work/progress.json could not be read; it is kept as {aside.name}, and a new one is begun.")
        return {}


def note_check(name: str, cases: str, points: float, passed: bool) -> Progress:
    """Note a check of an exercise, and return what is now known of it."""
    noted = read()
    entry = noted.get(name, Progress())
    if entry.cases != cases:
        entry = Progress(cases=cases, hints=entry.hints)
    entry.points = max(entry.points, points)
    entry.tries = 0 if passed else entry.tries + 1
    entry.passed = entry.passed or passed
    _write(noted | {name: entry})
    return entry


def note_hint(name: str, shown: int) -> None:
    """Note how many hints of an exercise have been shown."""
    noted = read()
    entry = noted.get(name, Progress())
    entry.hints = shown
    _write(noted | {name: entry})


def _write(noted: dict[str, Progress]) -> None:
    if keeps_pieces():
        content = {name: asdict(entry) for name, entry in noted.items()}
        write_atomically(work_folder() / "progress.json", json.dumps(content, indent=2) + "\n")
