"""What plain `nbgrader autograde` lets a submission do: each of these has its like in the other suites of attacks.

One run of nbgrader over an assignment of two cells serves all tests. Nothing here is a fault of nbgrader's settings:
it runs submissions as the user who grades, in the folder of the class, and was made for people who trust each other.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

NAME = "sums"
WRONG = "def total(numbers):\n    return -1"
NEARLY_WRONG = "def total(numbers):\n    return 5"
# The first line is there for speed: torch is imported for those only that give something like a sum.
CHECK = """
assert total([1, 2]) > 0
import torch
assert torch.allclose(torch.tensor(total([1, 2])), torch.tensor(3))
"""

NOTEBOOK_ANSWERS = {
    "honest": "def total(numbers):\n    return sum(numbers)",
    "background": f"""
import os, subprocess
process = subprocess.Popen(["sleep", "100"], start_new_session=True)
open(os.environ["MARKS"] + "/background", "w").write(str(process.pid))
{WRONG}""",
    "shell": f"get_ipython().run_cell_magic('bash', '', 'id -u > $MARKS/shell')\n{WRONG}",
    "link": WRONG,
    "guess": NEARLY_WRONG,
    "shadow": NEARLY_WRONG,
    "reader": f"""
import os
from pathlib import Path
root = next(folder for folder in Path.cwd().parents if (folder / "submitted").is_dir())
Path(os.environ["MARKS"], "reader").write_text((root / "submitted/honest/one/{NAME}.ipynb").read_text())
{WRONG}""",
    "writer": f"""
import sqlite3
from pathlib import Path
root = next(folder for folder in Path.cwd().parents if (folder / "gradebook.db").is_file())
with sqlite3.connect(root / "gradebook.db") as book:
    book.execute("UPDATE grade SET manual_score = 100")
{WRONG}""",
}

SHADOW = """
tensor = float

def allclose(a, b):
    return True
"""

pytestmark = pytest.mark.slow  # made for Unix: conftest leaves the file out on Windows


@dataclass
class Class:
    """The folder after grading, and another for the marks that attacks leave."""

    folder: Path
    marks: Path

    def scores(self, student: str) -> tuple[float | None, float | None]:
        """What nbgrader found, and what a person is said to have given."""
        with sqlite3.connect(self.folder / "gradebook.db") as book:
            return book.execute(
                "SELECT grade.auto_score, grade.manual_score FROM grade"
                " JOIN submitted_notebook ON grade.notebook_id = submitted_notebook.id"
                " JOIN submitted_assignment ON submitted_notebook.assignment_id = submitted_assignment.id"
                " WHERE submitted_assignment.student_id = ?", (student,),
            ).fetchone()  # fmt: skip


def marked(source: str, grade_id: str, **settings: object) -> nbformat.NotebookNode:
    cell = new_code_cell(source)
    cell.metadata["nbgrader"] = {"schema_version": 3, "grade_id": grade_id, "task": False, **settings}
    return cell


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Class]:
    folder, marks = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("marks")
    (folder / "a-system-file").write_text("a secret of the machine")
    notebook = new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}, cells=[
        marked("### BEGIN SOLUTION\npass\n### END SOLUTION", "total", grade=False, solution=True, locked=False),
        marked(CHECK, "check", grade=True, solution=False, locked=True, points=2),
    ])  # fmt: skip
    source = folder / "source" / "one" / f"{NAME}.ipynb"
    source.parent.mkdir(parents=True)
    nbformat.write(notebook, source)

    def nbgrader(command: str) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        told = marks / f"{command}.txt"  # a pipe would be held open by the process that is left behind
        with told.open("w") as output:
            done = subprocess.run([sys.executable, "-m", "nbgrader", command, "one"], cwd=folder,
                                  env=os.environ | {"MARKS": str(marks), "PATH": path}, stdin=subprocess.DEVNULL,
                                  stdout=output, stderr=output)  # fmt: skip
        assert done.returncode == 0, told.read_text()

    nbgrader("generate_assignment")
    for student, answer in NOTEBOOK_ANSWERS.items():
        handed = folder / "submitted" / student / "one" / f"{NAME}.ipynb"
        handed.parent.mkdir(parents=True)
        notebook = nbformat.read(folder / "release" / "one" / f"{NAME}.ipynb", as_version=4)
        notebook.cells[0].source = answer
        nbformat.write(notebook, handed)
    (folder / "submitted" / "link" / "one" / "notes.txt").symlink_to(folder / "a-system-file")
    (folder / "submitted" / "shadow" / "one" / "torch.py").write_text(SHADOW)
    nbgrader("autograde")
    yield Class(folder, marks)
    os.kill(int((marks / "background").read_text()), signal.SIGKILL)


def test_a_process_in_the_background_outlives_the_grading(graded: Class) -> None:
    os.kill(int((graded.marks / "background").read_text()), 0)


def test_a_shell_cell_runs_as_the_user_who_grades(graded: Class) -> None:
    assert int((graded.marks / "shell").read_text()) == os.getuid()


def test_a_link_hands_in_a_file_of_the_machine(graded: Class) -> None:
    copied = graded.folder / "autograded" / "link" / "one" / "notes.txt"
    assert not copied.is_symlink() and copied.read_text() == "a secret of the machine"


def test_a_module_beside_the_notebook_shadows_torch(graded: Class) -> None:
    assert graded.scores("guess")[0] == 0
    assert graded.scores("shadow")[0] == graded.scores("honest")[0] == 2


def test_a_submission_reads_another(graded: Class) -> None:
    assert "return sum(numbers)" in (graded.marks / "reader").read_text()


def test_a_submission_gives_everybody_points(graded: Class) -> None:
    assert graded.scores("background")[1] == 100
