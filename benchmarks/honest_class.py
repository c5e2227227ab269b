"""Submissions as an honest class hands them in: right, wrong and unfinished in many ways, with cells of one's own.

Drawn from the banks of right variants and known mistakes, the same for the same seed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from autograder import solutions
from autograder.build.freeze import right_source, wrong_source
from autograder.build.release import solved_notebook
from autograder.classroom import settings
from autograder.exercise import exercises_of
from crosstalk.course import Lesson
from crosstalk.places import course_folder, write_atomically

NOTE = "My notes: check the shapes first, then the mask. $Q K^\\top$ has queries in its rows."
SCRATCH = "example = torch.arange(6.0).view(2, 3)\nexample @ example.T"


def release(folder: Path, lesson: Lesson) -> NotebookNode:
    """Release a lesson to a class's folder that has nothing yet; what students get."""
    (folder / "nbgrader_config.py").write_text(settings([lesson]), encoding="utf-8")
    source = folder / "source" / lesson.notebook
    source.parent.mkdir(parents=True)
    nbformat.write(solved_notebook(lesson), source)
    environment = {**os.environ, "CROSSTALK_COURSE": str(course_folder())}
    subprocess.run([sys.executable, "-m", "nbgrader", "generate_assignment", lesson.id], cwd=folder, env=environment,
                   check=True, capture_output=True)  # fmt: skip
    return nbformat.read(folder / "release" / lesson.notebook, as_version=4)


def hand_in(folder: Path, lesson: Lesson, released: NotebookNode, count: int, seed: int = 0) -> None:
    """Write so many submissions into ``folder``, in nbgrader's layout."""
    for student, notebook in submissions(lesson, released, count, seed):
        write_atomically(folder / student / lesson.notebook, nbformat.writes(notebook))


def submissions(lesson: Lesson, released: NotebookNode, count: int,
                seed: int = 0) -> Iterator[tuple[str, NotebookNode]]:  # fmt: skip
    """Students' names and what each hands in."""
    source, exercises = solutions.read_source(lesson), exercises_of(lesson)
    answers = {name: solutions.answer_source(source, name) for name in exercises}
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        notebook = nbformat.from_dict(released)
        skill = draw.random()  # of this student
        for name, exercise in exercises.items():
            cell = next(cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == name)
            kind = draw.random()
            if kind < 0.15 + 0.6 * skill:
                cell.source = answers[name]
            elif kind < 0.35 + 0.5 * skill and exercise.right:
                cell.source = right_source(exercise, draw.randrange(len(exercise.right)), answers[name])
            elif kind < 0.95:
                cell.source = wrong_source(exercise, draw.randrange(len(exercise.wrong)), answers[name])
        if draw.random() < 0.3:
            place = draw.randrange(len(notebook.cells))
            notebook.cells[place:place] = [new_markdown_cell(NOTE), new_code_cell(SCRATCH)]
        yield f"student{number:05}", notebook
