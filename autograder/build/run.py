"""Build everything, or compare what is there with what a build would give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from autograder.build.freeze import FreezeError, freeze, source_hash
from autograder.build.release import ReleaseError, released_notebooks
from autograder.compare import same
from autograder.exercise import ExerciseError
from autograder.packs import Pack, PackError, from_file, save_pack
from autograder.solutions import SourceError
from crosstalk.course import Lesson
from crosstalk.places import assets_folder, course_folder, write_atomically


class BuildError(RuntimeError):
    """The build stopped; the message says where and why."""


_FAULTS = (FreezeError, ReleaseError, ExerciseError, SourceError, PackError)


def build_all(lessons: list[Lesson]) -> Iterator[str]:
    """Build lessons and their packs; yields a line for each file that changed."""
    try:
        for lesson in lessons:
            path = assets_folder() / "packs" / f"{lesson.id}.safetensors"
            if stale := _pack_fault(lesson, path):
                save_pack(freeze(lesson), path.parent)
                yield f"froze {path.name} ({stale})"
        for place, content in released_notebooks(lessons).items():
            path = course_folder() / "lessons" / place
            if not path.is_file() or path.read_text(encoding="utf-8") != content:
                write_atomically(path, content)
                yield f"wrote lessons/{place}"
    except _FAULTS as error:
        raise BuildError(str(error)) from error
    yield f"{len(lessons)} lessons built."


def compare_all(lessons: list[Lesson]) -> list[str]:
    """What a build would change, a line each: notebooks exactly, packs by source, inputs and outputs."""
    stale = []
    try:
        for lesson in lessons:
            path = assets_folder() / "packs" / f"{lesson.id}.safetensors"
            if fault := _pack_fault(lesson, path) or _outputs_fault(from_file(path), freeze(lesson)):
                stale.append(f"assets/packs/{path.name}: {fault}; run `crosstalk build`")
        for place, content in released_notebooks(lessons).items():
            path = course_folder() / "lessons" / place
            if not path.is_file() or path.read_text(encoding="utf-8") != content:
                stale.append(f"lessons/{place} is not what its source says; run `crosstalk build`")
    except _FAULTS as error:
        raise BuildError(str(error)) from error
    return stale


def _pack_fault(lesson: Lesson, path: Path) -> str:
    if not path.is_file():
        return "it is missing"
    try:
        kept = from_file(path)
    except PackError:
        return "it cannot be read"
    return "" if kept.source_hash == source_hash(lesson) else "its source has changed"


def _outputs_fault(kept: Pack, fresh: Pack) -> str:
    """Inputs are compared exactly (by hash), outputs within tolerance: floats differ between processors."""
    for name, exercise in fresh.exercises.items():
        old = kept.exercises[name]
        if old.cases_hash != exercise.cases_hash:
            return f"the inputs of {name} have changed"
        for before, now in zip(old.cases, exercise.cases, strict=True):
            if not same(now.expected, before.expected):
                return f"what is expected of {name}, {now.title!r}, has changed"
    return ""
