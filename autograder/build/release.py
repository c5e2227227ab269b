"""From staged notebooks to lessons/: nbgrader's own generate_assignment strips the answers."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from autograder.build.notebooks import staged_notebook
from crosstalk.course import Lesson
from crosstalk.places import assets_folder

STUB = "raise NotImplementedError"


class ReleaseError(RuntimeError):
    """nbgrader refused a lesson; the message holds what it said."""


def stills_folder() -> Path:
    """The still pictures of the widgets."""
    return assets_folder() / "figures" / "stills"


def released_notebooks(lessons: list[Lesson]) -> dict[str, str]:
    """The released notebook of each lesson as text, by its place below ``lessons/``.

    Raises:
        ReleaseError: nbgrader refused one.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for lesson in lessons:
            staged = root / "solutions" / lesson.notebook
            staged.parent.mkdir(parents=True)
            nbformat.write(staged_notebook(lesson, stills_folder()), staged)
        _generate(root, lessons)
        return {lesson.notebook: _plain(nbformat.read(root / "lessons" / lesson.notebook, as_version=4))
                for lesson in lessons}  # fmt: skip


def solved_notebook(lesson: Lesson) -> NotebookNode:
    """The lesson with its answers, for validation and for those who teach."""
    return staged_notebook(lesson, stills_folder())


def nbgrader_config(root: Path):
    """nbgrader's settings for a course folder: our folder names, our stub, notebooks only."""
    from traitlets.config import Config

    config = Config()
    config.CourseDirectory.root = str(root)
    config.CourseDirectory.course_id = "crosstalk"
    config.CourseDirectory.source_directory = "solutions"
    config.CourseDirectory.release_directory = "lessons"
    config.ClearSolutions.code_stub = {"python": STUB}
    return config


def _generate(root: Path, lessons: list[Lesson]) -> None:
    from nbgrader.converters import GenerateAssignment
    from nbgrader.coursedir import CourseDirectory

    tools_on_path()
    records: list[str] = []
    log = logging.getLogger("crosstalk.release")
    log.propagate = False
    log.handlers = [_Kept(records)]
    for lesson in lessons:
        config = nbgrader_config(root)
        config.CourseDirectory.assignment_id = lesson.id
        config.CourseDirectory.db_url = f"sqlite:///{root / 'gradebook.db'}"
        converter = GenerateAssignment(coursedir=CourseDirectory(config=config), config=config)
        converter.log = log
        converter.create_assignment = True
        try:
            converter.start()
        except (Exception, SystemExit) as error:
            raise ReleaseError(f"nbgrader refused {lesson.id}: {error}\n" + "\n".join(records)) from None


def tools_on_path() -> None:
    """nbgrader calls ``alembic`` by name: without an activated environment it would not be found."""
    tools = str(Path(sys.executable).parent)
    if tools not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([tools, os.environ.get("PATH", "")])


class _Kept(logging.Handler):
    def __init__(self, records: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())


def _plain(notebook: NotebookNode) -> str:
    """The notebook as text, the same for the same source."""
    notebook.metadata = NotebookNode({key: notebook.metadata[key] for key in ("kernelspec", "language_info")})
    for cell in notebook.cells:
        cell.metadata.get("nbgrader", {}).pop("cell_type", None)
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"
