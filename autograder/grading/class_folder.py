"""A class's folder as nbgrader sees it: its settings, and which notebook a lesson was released with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbformat import NotebookNode
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError

if TYPE_CHECKING:
    from nbgrader.api import Assignment, Gradebook
    from nbgrader.coursedir import CourseDirectory

# nbgrader's parts log each cell they restore; what matters of it is said by errors and reasons.
QUIET = logging.getLogger("crosstalk.nbgrader")
QUIET.propagate = False
QUIET.addHandler(logging.NullHandler())


class ClassError(RuntimeError):
    """The class's folder is not as grading needs it; the message says what to do."""


def course_directory(root: Path) -> CourseDirectory:
    """nbgrader's view of a class's folder; its ``config`` holds all settings, as `nbgrader autograde` reads them.

    Raises:
        ClassError: there is no nbgrader_config.py.
    """
    from nbgrader.apps import AutogradeApp

    if not (root / "nbgrader_config.py").is_file():
        raise ClassError(
            f"There is no nbgrader_config.py in {root.absolute()}: change into the class's folder, "
            "or make one with `crosstalk classroom FOLDER`."
        )
    app = AutogradeApp(log=QUIET, raise_config_file_errors=True)
    try:
        app.initialize([], root=str(root.absolute()))
    except (Exception, SystemExit) as error:
        why = error.__context__ if isinstance(error, SystemExit) and error.__context__ else error
        raise ClassError(f"nbgrader_config.py in {root.absolute()} cannot be read: {why!r}. Mend it first.") from error
    app.coursedir.config = app.config  # it has its values already; whoever is made from it gets the rest
    return app.coursedir


@contextmanager
def gradebook_of(coursedir: CourseDirectory) -> Iterator[Gradebook]:
    """nbgrader's gradebook of the class, which must exist.

    Raises:
        ClassError: no lesson was ever released here, or the gradebook cannot be read or written now.
    """
    from nbgrader.api import Gradebook

    url = make_url(coursedir.db_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise ClassError(
            f"There is no gradebook in {coursedir.root}: release a lesson first, with "
            "`nbgrader generate_assignment LESSON` in that folder."
        )
    try:
        with Gradebook(coursedir.db_url, coursedir.course_id) as book:
            yield book
    except DatabaseError as error:
        raise ClassError(
            f"The gradebook of {coursedir.root} cannot be used now ({error.orig}): see that no other program holds it "
            "and that there is space left; then run the same command again. Nothing of this step was written to it."
        ) from error


def released_assignment(book: Gradebook, coursedir: CourseDirectory, lesson: str) -> Assignment:
    """The lesson in the gradebook, with its one notebook.

    Raises:
        ClassError: it was never released, or has several notebooks.
    """
    from nbgrader.api import MissingEntry

    try:
        assignment = book.find_assignment(lesson)
    except MissingEntry:
        assignment = None
    if assignment is None or not assignment.notebooks:
        raise ClassError(
            f"{lesson} was never released to this class: run `nbgrader generate_assignment {lesson}` "
            f"in {coursedir.root} first."
        )
    if len(assignment.notebooks) > 1:
        names = ", ".join(notebook.name for notebook in assignment.notebooks)
        raise ClassError(
            f"{lesson} has {len(assignment.notebooks)} notebooks ({names}), and crosstalk grades lessons of one: "
            f"use `nbgrader autograde {lesson}` for it, or take out the others and release it anew."
        )
    return assignment


def released(coursedir: CourseDirectory, lesson: str) -> NotebookNode:
    """The notebook that submissions of a lesson are rebuilt on.

    It is the released one, with the instructor's own cells; locked cells are as the gradebook keeps them, hidden
    tests included, so it is not for students.

    Raises:
        ClassError: the lesson was never released, or its files and the gradebook disagree.
    """
    from nbgrader.preprocessors import CheckCellMetadata, ClearOutput, OverwriteCells, OverwriteKernelspec

    with gradebook_of(coursedir) as book:
        notebook = released_assignment(book, coursedir, lesson).notebooks[0]
        name, known = notebook.name, {cell.name for cell in notebook.source_cells}
    path = Path(coursedir.format_path(coursedir.release_directory, ".", lesson)) / f"{name}.ipynb"
    again = f"run `nbgrader generate_assignment {lesson} --force` in {coursedir.root}."
    try:
        found = nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise ClassError(f"The released notebook {path} is missing: {again}") from None
    except Exception as error:
        raise ClassError(f"The released notebook {path} cannot be read ({error}): {again}") from error
    resources = {"nbgrader": {"notebook": name, "assignment": lesson, "db_url": coursedir.db_url}}
    for part in (ClearOutput, OverwriteKernelspec, OverwriteCells, CheckCellMetadata):
        found, resources = part(config=coursedir.config, log=QUIET).preprocess(found, resources)
    ids = [cell.metadata.nbgrader.get("grade_id") for cell in found.cells if "nbgrader" in cell.metadata]
    if sorted(map(str, ids)) != sorted(known):
        raise ClassError(f"The released notebook {path} has other cells than the gradebook knows: {again}")
    return found
