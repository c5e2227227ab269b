"""Notebooks as students hand them in, honest or not, and graders that grade them by hidden packs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import nbformat
from nbformat import NotebookNode

from autograder import solutions
from autograder.build.freeze import freeze
from autograder.grading import conversation
from autograder.grading.grader import Grader
from autograder.grading.results import Graded
from autograder.packs import save_pack
from crosstalk.course import Course, Lesson, course
from crosstalk.places import course_folder

HANGING = 1.0  # seconds that an answer may take where a test waits for the end of them


@cache
def lesson_called(lesson_id: str) -> Lesson:
    """A lesson by its id."""
    return next(lesson for lesson in course().lessons if lesson.id == lesson_id)


@cache
def solution(exercise: str) -> str:
    """A right answer to an exercise."""
    lesson, _ = course().find(exercise)
    return solutions.answer_source(solutions.read_source(lesson), exercise)


def released(lesson: Lesson) -> NotebookNode:
    """The lesson's notebook as students get it."""
    return nbformat.read(course_folder() / "lessons" / lesson.notebook, as_version=4)


def cell(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    """The cell with a grade_id."""
    return next(each for each in notebook.cells if each.metadata.get("nbgrader", {}).get("grade_id") == grade_id)


def with_answers(lesson: Lesson, answers: Mapping[str, str]) -> NotebookNode:
    """The released notebook with some answers; all other cells are as they were released."""
    notebook = released(lesson)
    for exercise, source in answers.items():
        cell(notebook, exercise).source = source
    return notebook


def with_nothing_but(lesson: Lesson, exercise: str, source: str) -> NotebookNode:
    """The released notebook with one answer and all other answer cells empty, so that none but this is tried."""
    return with_answers(lesson, {entry.name: "" for entry in lesson.exercises} | {exercise: source})


def honest(lesson: Lesson) -> NotebookNode:
    """The released notebook with all answers right."""
    return with_answers(lesson, {entry.name: solution(entry.name) for entry in lesson.exercises})


def content(notebook: NotebookNode) -> bytes:
    """A notebook's bytes."""
    return nbformat.writes(notebook).encode()


def score(graded: Graded) -> float:
    """All points that were given without a person."""
    return sum(each.points or 0.0 for each in graded.cells)


def told(graded: Graded) -> str:
    """Everything that a student gets to read."""
    return "\n".join([
        graded.notebook,
        *(f"{each.text} {each.html} {each.named}" for each in graded.cells),
        *(f"{reason.kind} {reason.sentence}" for reason in graded.reasons),
    ])  # fmt: skip


@contextmanager
def grader(lesson: Lesson, folder: Path, seed: str, edit: Callable[[NotebookNode], None] | None = None
           ) -> Iterator[Grader]:  # fmt: skip
    """A grader with a hidden pack of its own, if there is a seed to draw one from.

    Args:
        edit: what an instructor has changed in the released notebook.
    """
    notebook = released(lesson)
    if edit:
        edit(notebook)
    environment = {name: value for name, value in os.environ.items() if name != "CROSSTALK_HIDDEN_PACKS"}
    if seed:
        save_pack(freeze(lesson, seed), folder)
        environment["CROSSTALK_HIDDEN_PACKS"] = str(folder)
    with mock.patch.dict(os.environ, environment, clear=True):
        made = Grader(lesson, notebook)
        made.__enter__()
    try:
        yield made
    finally:
        made.__exit__(None, None, None)


@contextmanager
def answers_may_take(seconds: float = HANGING) -> Iterator[None]:
    """Answers get so many seconds and not as many as course.toml says, so that tests of those that hang are quick."""
    limits = course().limits.model_copy(update={"seconds": seconds})
    hurried: Course = course().model_copy(update={"limits": limits})
    with (
        mock.patch.object(conversation, "course", lambda: hurried),
        mock.patch("autograder.judging.course", lambda: hurried),
        mock.patch.object(conversation, "GRACE_SECONDS", 0.5),
    ):
        yield
