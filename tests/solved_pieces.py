"""The code that the solutions show to students, as objects: each lesson's pieces built on those before."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

from autograder import solutions
from crosstalk.course import course


@cache
def solved_pieces(until: int) -> SimpleNamespace:
    """The pieces of lessons 01 to ``until`` by name."""
    pieces: dict[str, Any] = {}
    for lesson in course().ready:
        if not 1 <= lesson.number <= until:
            continue
        notebook = solutions.read_source(lesson)
        namespace: dict[str, Any] = {"__name__": f"solution of {lesson.id}"}
        exec(solutions.setup_source(notebook), namespace)
        namespace |= pieces  # instead of the stand-ins that the set-up cell imported
        for entry in lesson.exercises:
            exec(solutions.answer_source(notebook, entry.name), namespace)
            pieces[entry.name] = namespace[entry.name]
    return SimpleNamespace(**pieces)
