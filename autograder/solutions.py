"""Read solutions/: each lesson's one source, a notebook in jupytext's py:percent form.

Three kinds of code cells are marked in the source; the build writes nbgrader's metadata from the marks:
``# %% setup=true``, ``# %% answer="softmax"`` and ``# %% check="softmax"``.
"""

from __future__ import annotations

import re
from pathlib import Path

from nbformat import NotebookNode

from crosstalk.course import Lesson
from crosstalk.places import course_folder

_MARKS = re.compile(r"^\s*### (BEGIN|END) SOLUTION\s*$\n?", re.MULTILINE)


class SourceError(ValueError):
    """A lesson's source does not fit; the message names the file and the cell."""


def source_file(lesson: Lesson) -> Path:
    """``solutions/NN-name.py``."""
    return course_folder() / "solutions" / f"{lesson.id}.py"


def read_source(lesson: Lesson) -> NotebookNode:
    """The source as a notebook.

    Raises:
        SourceError: it is missing, or its cells are not those that course.toml asks for.
    """
    import jupytext

    path = source_file(lesson)
    if not path.is_file():
        raise SourceError(f"solutions/{path.name} is missing: write the lesson, or set planned = true in course.toml")
    notebook = jupytext.read(path, fmt="py:percent")
    if len(_marked(notebook, "setup")) != 1:
        raise SourceError(f"solutions/{path.name} needs exactly one cell marked `# %% setup=true`")
    for mark in ("answer", "check"):
        found = [cell.metadata[mark] for cell in _marked(notebook, mark)]
        wanted = [entry.name for entry in lesson.exercises]
        if found != wanted:
            raise SourceError(f"solutions/{path.name} has {mark} cells for {found}, course.toml lists {wanted}")
    return notebook


def setup_source(notebook: NotebookNode) -> str:
    """The source of the set-up cell."""
    return _marked(notebook, "setup")[0].source


def answer_source(notebook: NotebookNode, name: str) -> str:
    """The solution of an exercise: its answer cell, without the marks around what is stripped."""
    cell = next(cell for cell in _marked(notebook, "answer") if cell.metadata["answer"] == name)
    return _MARKS.sub("", cell.source)


def _marked(notebook: NotebookNode, mark: str) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and mark in cell.metadata]
