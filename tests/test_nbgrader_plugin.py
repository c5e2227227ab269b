"""One line in nbgrader_config.py, and nbgrader's own command and formgrader's button grade in the sandbox."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.apps import AutogradeApp
from nbgrader.apps.api import NbGraderAPI

from autograder import solutions
from autograder.build.release import solved_notebook
from autograder.classroom import settings
from crosstalk.course import course
from crosstalk.places import course_folder

LESSON = course().lesson("00")
[EXERCISE] = LESSON.exercises
OFF = "# c.Autograde.exporter_class"
Handed = Callable[[NotebookNode], str]

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]


def answer(notebook: NotebookNode) -> NotebookNode:
    return next(cell for cell in notebook.cells if cell.id == f"answer-{EXERCISE.name}")


def solved(notebook: NotebookNode) -> str:
    answer(notebook).source = solutions.answer_source(solutions.read_source(LESSON), EXERCISE.name)
    return nbformat.writes(notebook)


def copied(notebook: NotebookNode) -> str:
    """The right answer, and copies of all graded cells in front: nbgrader gives the whole class up for that."""
    copies = [nbformat.from_dict(cell) for cell in notebook.cells if "nbgrader" in cell.metadata]
    for number, cell in enumerate(copies):
        cell["id"] = f"copy-{number}"
    text = nbformat.reads(solved(notebook), as_version=4)
    text.cells[:0] = copies
    return nbformat.writes(text)


def leaving(notebook: NotebookNode) -> str:
    """An answer that ends the process which tries it."""
    answer(notebook).source = "import os\nos._exit(0)"
    return nbformat.writes(notebook)


HANDED: dict[str, tuple[Handed, float]] = {
    "a_copies": (copied, EXERCISE.points),
    "b_not_a_notebook": (lambda notebook: "It is in the other file.", 0),
    "c_breaks_off": (lambda notebook: solved(notebook)[:5000], 0),
    "d_leaves": (leaving, 0),
    "e_as_released": (nbformat.writes, 0),
    "f_right": (solved, EXERCISE.points),
}


def nbgrader(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of nbgrader in the class's folder."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment |= {"CROSSTALK_COURSE": str(course_folder()), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip


def scores(folder: Path) -> dict[str, float]:
    """What the gradebook holds."""
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        return {one.student.id: one.score for one in book.assignment_submissions(LESSON.id)}


@pytest.fixture
def classroom(tmp_path: Path) -> Path:
    """A class that has handed in, with the line that is off as the file is made."""
    text = settings(course().ready)
    assert text.count(OFF) == 1
    (tmp_path / "nbgrader_config.py").write_text(text)
    source = tmp_path / "source" / LESSON.notebook
    source.parent.mkdir(parents=True)
    nbformat.write(solved_notebook(LESSON), source)
    assert nbgrader(tmp_path, "generate_assignment", LESSON.id).returncode == 0
    released = course_folder() / "lessons" / LESSON.notebook
    for student, (made, _) in HANDED.items():
        place = tmp_path / "submitted" / student / LESSON.notebook
        place.parent.mkdir(parents=True)
        place.write_text(made(nbformat.read(released, as_version=4)), encoding="utf-8")
    return tmp_path


def test_one_line_makes_nbgraders_command_and_formgraders_button_use_the_sandbox(
    classroom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = classroom / "not-of-the-submission.txt"
    secret.write_text("secret")
    (classroom / "submitted" / "f_right" / LESSON.id / "data.txt").symlink_to(secret)
    config = classroom / "nbgrader_config.py"

    plain = nbgrader(classroom, "autograde", LESSON.id, "--student=[ab]*")
    assert plain.returncode == 1 and "b_not_a_notebook" not in scores(classroom), plain.stderr

    config.write_text(config.read_text().replace(OFF, OFF.removeprefix("# ")))
    done = nbgrader(classroom, "autograde", LESSON.id)
    assert done.returncode == 0, done.stderr
    assert scores(classroom) == {student: points for student, (_, points) in HANDED.items()}
    assert "Sanitizing" not in done.stderr  # nothing of nbgrader's own way is left
    autograded = classroom / "autograded"
    assert {path.name for path in autograded.rglob("*") if path.is_file()} == {f"{LESSON.name}.ipynb"}

    # Formgrader's button, for one student who has handed in anew.
    released = course_folder() / "lessons" / LESSON.notebook
    late = classroom / "submitted" / "e_as_released" / LESSON.notebook
    late.write_text(solved(nbformat.read(released, as_version=4)))
    monkeypatch.chdir(classroom)
    monkeypatch.setenv("CROSSTALK_COURSE", str(course_folder()))
    app = AutogradeApp()
    app.initialize([])
    said = NbGraderAPI(app.coursedir, parent=app).autograde(LESSON.id, "e_as_released")
    assert said["success"], said
    assert scores(classroom)["e_as_released"] == EXERCISE.points

    told = nbgrader(classroom, "generate_feedback", LESSON.id)
    assert told.returncode == 0, told.stderr
    page = (classroom / "feedback" / "b_not_a_notebook" / LESSON.id / f"{LESSON.name}.html").read_text("utf-8")
    assert "What was noted when this was graded" in page and "Content-Security-Policy" in page


def test_what_the_command_cannot_do_is_said(classroom: Path) -> None:
    config = classroom / "nbgrader_config.py"
    config.write_text(config.read_text().replace(OFF, OFF.removeprefix("# ")))
    (classroom / "release" / LESSON.notebook).unlink()
    failed = nbgrader(classroom, "autograde", LESSON.id, "--student=f_right")
    assert failed.returncode == 1
    assert "is missing: run `nbgrader generate_assignment" in failed.stderr
    assert scores(classroom) == {}
