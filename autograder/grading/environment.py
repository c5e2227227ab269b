"""What a verdict depends on beside the submission and the packs, as one hash."""

from __future__ import annotations

import json
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

import autograder
import crosstalk
from autograder.grading.journal import digest
from crosstalk.course import course

_LIBRARIES = ("torch", "numpy", "nbgrader")
# What a student's code cannot meet and what no verdict comes from. Exercises and the build decide packs, and those
# have a hash of their own.
_WITHOUT = ("autograder/build", "autograder/exercises", "crosstalk/widgets")


def environment(assurance: str = "") -> str:
    """A hash of the Python, the libraries, our own sources and course.toml's limits and points.

    Args:
        assurance: `Graded.assurance`, so that what was graded with a layer missing is graded anew once it is there.
    """
    limits = course().limits.model_dump()
    exercises = [entry.model_dump(include={"name", "points", "seconds"})
                 for lesson in course().lessons for entry in lesson.exercises]  # fmt: skip
    plain = json.dumps([limits, exercises, assurance], sort_keys=True)
    return digest(_installed().encode(), plain.encode())


@cache
def _installed() -> str:
    parts = [platform.python_implementation(), platform.python_version(), platform.machine()]
    parts += [f"{name} {version(name)}" for name in _LIBRARIES]
    return digest(*(part.encode() for part in parts), *_sources())


def _sources() -> list[bytes]:
    found = []
    for package in (autograder, crosstalk):
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            place = path.relative_to(folder.parent)
            if not any(place.is_relative_to(other) for other in _WITHOUT):
                found += [place.as_posix().encode(), path.read_bytes()]
    return found
