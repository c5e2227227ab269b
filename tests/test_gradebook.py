"""The gradebook and the autograded notebooks: the same as `nbgrader autograde` leaves, row by row and file by file.

One class is autograded by nbgrader itself; then its verdicts are written into a copy of the class as it was before.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.api import Gradebook
from nbgrader.utils import determine_grade, is_grade, is_task

from autograder.build.release import STUB, solved_notebook
from autograder.grading.class_folder import ClassError, course_directory, released
from autograder.grading.gradebook import Writer
from autograder.grading.results import CellResult, Graded
from crosstalk.course import course
from crosstalk.places import course_folder

LESSON = course().lesson("00")
OWN = "instructors-own"  # an assignment with every kind of cell that nbgrader knows
ANSWER = "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION\n"
TESTS = "assert double(1) == 2\n### BEGIN HIDDEN TESTS\nassert double(21) == 42\n### END HIDDEN TESTS"
CONFIG = f"""
c = get_config()
import os, sys
c.CourseDirectory.root = os.path.dirname(os.path.abspath(__file__))
c.CourseDirectory.course_id = "crosstalk"
c.ClearSolutions.code_stub = {{"python": "{STUB}"}}
c.AssignLatePenalties.plugin_class = "autograder.late.LatePolicy"
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
"""

pytestmark = pytest.mark.slow


def marked(cell: NotebookNode, grade_id: str, **marks: Any) -> NotebookNode:
    plain = {"grade": False, "solution": False, "locked": False, "task": False, "schema_version": 3}
    cell.metadata["nbgrader"] = {**plain, "grade_id": grade_id, **marks}
    return cell


def own_notebook() -> NotebookNode:
    return new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        cells=[
            new_markdown_cell("Double, in German: *verdoppeln*."),
            marked(new_code_cell(ANSWER), "double", solution=True),
            marked(new_code_cell(TESTS), "double-tests", grade=True, locked=True, points=2),
            marked(new_code_cell("1.5 if double(2) == 4 else 0.5"), "partial", grade=True, locked=True, points=3),
            marked(new_markdown_cell("Why?"), "why", grade=True, solution=True, points=4),
            marked(new_code_cell("# Draw it."), "drawing", grade=True, solution=True, points=1),
            marked(new_markdown_cell("Do it.\n=== BEGIN MARK SCHEME ===\nwell\n=== END MARK SCHEME ==="), "task",
                   task=True, locked=True, points=5),
        ],
    )  # fmt: skip


def ada(notebook: NotebookNode) -> None:
    """All right and all answered."""
    fill(notebook, double="def double(x):\n    return x + x", why="Because.", drawing="'o'")


def bob(notebook: NotebookNode) -> None:
    """Right where it is shown; persons have graded and commented before."""
    fill(notebook, double="def double(x):\n    return 2")


def cem(notebook: NotebookNode) -> None:
    """Late by a day and a quarter, and noisy in one test."""
    noisy = "import sys\ndef double(x):\n    x == 2 and print('!', file=sys.stderr)\n    return 2 * x"
    fill(notebook, double=noisy, why="So.")


def dee(notebook: NotebookNode) -> None:
    """Late, within an extension, and with nothing answered."""


def eva(notebook: NotebookNode) -> None:
    """Late, with an earlier penalty and an extra point."""
    fill(notebook, double="def double(x):\n    return 2 * x", drawing="1 / 0")


STUDENTS: list[Callable[[NotebookNode], None]] = [ada, bob, cem, dee, eva]


def fill(notebook: NotebookNode, **answers: str) -> None:
    for cell in notebook.cells:
        if (name := cell.metadata.get("nbgrader", {}).get("grade_id")) in answers:
            cell.source = answers[name]


def nbgrader(folder: Path, *arguments: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment["CROSSTALK_COURSE"] = str(course_folder())
    subprocess.run([sys.executable, "-m", "nbgrader", *arguments], cwd=folder, env=environment, check=True,
                   capture_output=True)  # fmt: skip


def book(folder: Path) -> Gradebook:
    return Gradebook(f"sqlite:///{folder / 'gradebook.db'}", "crosstalk")


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class in which two lessons are released, some grades are entered by persons, and nothing is autograded."""
    folder = tmp_path_factory.mktemp("before") / "the class"
    folder.mkdir()
    (folder / "nbgrader_config.py").write_text(CONFIG)
    for place, notebook in {f"{OWN}/own.ipynb": own_notebook(), LESSON.notebook: solved_notebook(LESSON)}.items():
        (folder / "source" / place).parent.mkdir(parents=True)
        nbformat.write(notebook, folder / "source" / place)
    (folder / "source" / OWN / "data").mkdir()
    (folder / "source" / OWN / "data" / "numbers.csv").write_text("1,2\n")
    (folder / "source" / OWN / "picture.svg").write_text("<svg/>\n")
    nbgrader(folder, "generate_assignment", OWN)
    nbgrader(folder, "generate_assignment", LESSON.id)
    for student in STUDENTS:
        notebook = nbformat.read(folder / "release" / OWN / "own.ipynb", as_version=4)
        student(notebook)
        hand_in(folder, student.__name__, f"{OWN}/own.ipynb", notebook)
    for student, late in {"cem": "2026-11-02 18:00:00 UTC", "dee": "2026-11-02 18:00:00.250000 UTC",
                          "eva": "2026-11-03 09:00:00 CET"}.items():  # fmt: skip
        (folder / "submitted" / student / OWN / "timestamp.txt").write_text(f"{late}\n")
    notebook = nbformat.read(folder / "release" / LESSON.notebook, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]  # quicker
    answers = [cell for cell in solved_notebook(LESSON).cells if cell.metadata.get("nbgrader", {}).get("solution")]
    fill(notebook, **{cell.metadata["nbgrader"]["grade_id"]: cell.source for cell in answers})
    hand_in(folder, "ada", LESSON.notebook, notebook)
    with book(folder) as entered:
        entered.update_or_create_assignment(OWN, duedate="2026-11-01 12:00:00 UTC")
        entered.add_student("bob", last_name="Bobson", email="bob@example.org")
        for student in ("bob", "dee", "eva"):
            entered.update_or_create_student(student)
            entered.add_submission(OWN, student)
        entered.find_grade("double-tests", "own", OWN, "bob").manual_score = 1.25
        entered.find_grade("why", "own", OWN, "bob").manual_score = 3
        entered.find_comment("double", "own", OWN, "bob").manual_comment = "Nearly."
        entered.find_comment("double", "own", OWN, "bob").auto_comment = "No response."  # of an earlier run
        entered.find_grade("partial", "own", OWN, "eva").extra_credit = 1
        entered.find_submission_notebook("own", OWN, "eva").late_submission_penalty = 4
        entered.find_submission(OWN, "dee").extension = timedelta(days=5)
        entered.db.commit()
    return folder


def hand_in(folder: Path, student: str, place: str, notebook: NotebookNode) -> None:
    path = folder / "submitted" / student / place
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)


@dataclass
class Classes:
    theirs: Path
    ours: Path
    batch: list[Graded]


@pytest.fixture(scope="module")
def classes(before: Path, tmp_path_factory: pytest.TempPathFactory) -> Classes:
    """The class after nbgrader, the class after our writer, and what that was given."""
    theirs, ours = (copied(before, tmp_path_factory.mktemp(name)) for name in ("theirs", "ours"))
    nbgrader(theirs, "autograde", OWN)
    nbgrader(theirs, "autograde", LESSON.id)
    batch = [verdict(path, theirs) for path in sorted((theirs / "autograded").glob("*/*/*.ipynb"))]
    assert len(batch) == len(STUDENTS) + 1
    assert write(ours, batch) == {}
    return Classes(theirs, ours, batch)


@pytest.fixture
def ours(classes: Classes, tmp_path: Path) -> Path:
    """A copy of the class after our writer, to be changed."""
    return copied(classes.ours, tmp_path)


def copied(folder: Path, into: Path) -> Path:
    return Path(shutil.copytree(folder, into / "the class"))


def verdict(path: Path, folder: Path) -> Graded:
    """What nbgrader found, as a verdict of ours."""
    student, lesson = path.parts[-3:-1]
    notebook = nbformat.read(path, as_version=4)
    cells = []
    for cell in notebook.cells:
        if is_grade(cell):
            points, most = determine_grade(cell)
            cells.append(CellResult(cell.metadata.nbgrader.grade_id, points, most, str(points)))
        elif is_task(cell):
            cells.append(CellResult(cell.metadata.nbgrader.grade_id, None, cell.metadata.nbgrader.points, ""))
    with book(folder) as entered:
        timestamp = entered.find_submission(lesson, student).timestamp
    when = timestamp.isoformat() + "+00:00" if timestamp else ""
    return Graded(student, lesson, f"{student}/{lesson}", when, cells, [], path.read_text(encoding="utf-8"))


def write(folder: Path, batch: list[Graded]) -> dict[str, str]:
    with Writer(course_directory(folder)) as writer:
        return writer.write(batch)


_ROWS = {
    "course": "SELECT id FROM course",
    "student": "SELECT id, first_name, last_name, email, lms_user_id FROM student",
    "assignment": "SELECT name, duedate, course_id FROM assignment",
    "notebook": "SELECT n.name, a.name, kernelspec FROM notebook n JOIN assignment a ON a.id = assignment_id",
    "base_cell": "SELECT c.name, c.type, n.name FROM base_cell c JOIN notebook n ON n.id = notebook_id",
    "grade_cells": "SELECT c.name, max_score, cell_type FROM grade_cells JOIN base_cell c USING (id)",
    "solution_cells": "SELECT c.name FROM solution_cells JOIN base_cell c USING (id)",
    "task_cells": "SELECT c.name, max_score, cell_type FROM task_cells JOIN base_cell c USING (id)",
    "source_cell": "SELECT name, cell_type, locked, source, checksum FROM source_cell",
    "submitted_assignment": "SELECT student_id, a.name, timestamp, extension FROM submitted_assignment"
    " JOIN assignment a ON a.id = assignment_id",
    "submitted_notebook": "SELECT student_id, n.name, flagged, late_submission_penalty FROM submitted_notebook s"
    " JOIN submitted_assignment a ON a.id = s.assignment_id JOIN notebook n ON n.id = s.notebook_id",
    "grade": "SELECT student_id, c.name, c.type, auto_score, manual_score, extra_credit, needs_manual_grade FROM grade"
    " JOIN submitted_notebook s ON s.id = grade.notebook_id JOIN submitted_assignment a ON a.id = s.assignment_id"
    " JOIN base_cell c ON c.id = cell_id",
    "comment": "SELECT student_id, c.name, c.type, auto_comment, manual_comment FROM comment"
    " JOIN submitted_notebook s ON s.id = comment.notebook_id JOIN submitted_assignment a ON a.id = s.assignment_id"
    " JOIN base_cell c ON c.id = cell_id",
    "alembic_version": "SELECT version_num FROM alembic_version",
}


def rows(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every table of a gradebook, with names in place of the random ids."""
    connection = sqlite3.connect(folder / "gradebook.db")
    found = {name: sorted(connection.execute(query), key=repr) for name, query in _ROWS.items()}
    for name in found:  # no row is lost by the joins
        [count] = connection.execute(f"SELECT count(*) FROM {name}").fetchone()
        assert len(found[name]) == count, name
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert names == set(found)
    return found


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.relative_to(folder).as_posix(): (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
            for path in sorted((folder / "autograded").rglob("*")) if path.is_file()}  # fmt: skip


def snapshot(folder: Path) -> tuple[dict[str, list[tuple[Any, ...]]], dict[str, tuple[int, bytes]]]:
    return rows(folder), files(folder)


def test_the_gradebook_is_what_nbgrader_leaves(classes: Classes) -> None:
    theirs, ours = rows(classes.theirs), rows(classes.ours)
    for table in theirs:
        assert ours[table] == theirs[table], table


def test_the_files_are_what_nbgrader_leaves(classes: Classes) -> None:
    theirs, ours = files(classes.theirs), files(classes.ours)
    # The one timestamp that was not in UTC is written in UTC: the verdict knows the moment, not the words.
    odd = f"autograded/eva/{OWN}/timestamp.txt"
    assert theirs.pop(odd)[1] == b"2026-11-03 09:00:00 CET\n"
    assert ours.pop(odd) == (0o444, b"2026-11-03 08:00:00 UTC\n")
    assert ours == theirs


def test_the_class_above_has_every_kind_of_grade(classes: Classes) -> None:
    """Otherwise the two tests above compare little."""
    with book(classes.ours) as found:
        grades = [grade for grade in found.find_submission_notebook("own", OWN, "bob").grades]
        assert {grade.name: (grade.auto_score, grade.manual_score, grade.needs_manual_grade) for grade in grades} == {
            "double-tests": (0.0, 1.25, True),  # a hidden test fails
            "partial": (0.5, None, False),
            "why": (0.0, 3.0, True),
            "drawing": (0.0, None, False),
            "task": (None, None, True),
        }
        assert found.find_comment("double", "own", OWN, "bob").auto_comment is None
        assert found.find_comment("drawing", "own", OWN, "bob").auto_comment == "No response."
        late = {student: found.find_submission_notebook("own", OWN, student).late_submission_penalty
                for student in ("ada", "cem", "dee", "eva")}  # fmt: skip
        assert late["ada"] is late["dee"] is None
        assert late["cem"] == 0.4 and late["eva"] > 0
        assert found.find_submission(LESSON.id, "ada").score == LESSON.points


def test_writing_again_changes_nothing(classes: Classes, ours: Path) -> None:
    was = snapshot(ours)
    assert write(ours, classes.batch) == {}
    assert snapshot(ours) == was


def test_nbgrader_makes_feedback_and_exports_from_what_was_written(ours: Path) -> None:
    nbgrader(ours, "generate_feedback", OWN)
    nbgrader(ours, "export")
    assert "Nearly." in (ours / "feedback" / "bob" / OWN / "own.html").read_text(encoding="utf-8")
    assert (ours / "grades.csv").read_text(encoding="utf-8").count(OWN) == len(STUDENTS)


def test_a_later_verdict_replaces_an_earlier_one(classes: Classes, ours: Path) -> None:
    by = {one.key: one for one in classes.batch}
    changed = replace(by[f"ada/{OWN}"], student="dee", timestamp="")
    assert write(ours, [by[f"dee/{OWN}"], changed]) == {}
    with book(ours) as found:
        assert {grade.name: grade.auto_score for grade in found.find_submission_notebook("own", OWN, "dee").grades} == {
            "double-tests": 2, "partial": 1.5, "why": None, "drawing": None, "task": None,
        }  # fmt: skip
    assert (ours / "autograded" / "dee" / OWN / "own.ipynb").read_text(encoding="utf-8") == changed.notebook
    assert not (ours / "autograded" / "dee" / OWN / "timestamp.txt").exists()


def test_a_submission_without_a_notebook_is_zero_and_waits_for_nobody(classes: Classes, ours: Path) -> None:
    late = "2026-11-09T00:00:00+00:00"
    nothing = [Graded(student, OWN, student, late, [], [], "") for student in ("ada", "new")]
    assert write(ours, nothing) == {}
    with book(ours) as found:
        for student in ("ada", "new"):
            submission = found.find_submission(OWN, student)
            assert (submission.score, submission.needs_manual_grade) == (0, False)
            assert not submission.late_submission_penalty
    assert sorted(path.name for path in (ours / "autograded" / "ada" / OWN).iterdir()) == [
        "data", "picture.svg", "timestamp.txt",
    ]  # fmt: skip


def test_verdicts_that_fit_no_gradebook_cost_only_themselves(classes: Classes, ours: Path) -> None:
    one = next(found for found in classes.batch if found.key == f"ada/{OWN}")
    plain = json.loads(one.notebook)
    twice, without = json.dumps(plain | {"cells": plain["cells"] * 2}), json.dumps(plain | {"cells": []})
    more = [replace(cell, points=3.0) if cell.grade_id == "partial" else cell for cell in one.cells]
    unfit = {
        "name": replace(one, student=os.fsdecode(b"ad\xe9")),
        "path": replace(one, student="../../ada"),
        "long": replace(one, student="a" * 129),
        "time": replace(one, timestamp="yesterday"),
        "json": replace(one, notebook=one.notebook[:-100]),
        "list": replace(one, notebook="[]"),
        "deep": replace(one, notebook="[" * 100_000),
        "half": replace(one, notebook='{"cells": ["\udc00"]}'),
        "twice": replace(one, notebook=twice),
        "without": replace(one, notebook=without),
        "points": replace(one, cells=more),
    }
    was = snapshot(ours)
    refused = write(ours, [replace(bad, key=name) for name, bad in unfit.items()] + [replace(one, student="fay")])
    assert set(refused) == set(unfit)
    assert "3.0 points by its verdict, but nbgrader would read 1.5" in refused["points"]
    assert "rename it" in refused["name"]
    now = snapshot(ours)
    assert {row for row in now[0]["grade"] if row[0] != "fay"} == set(was[0]["grade"])
    assert {row[0] for row in now[0]["submitted_assignment"]} - {row[0] for row in was[0]["submitted_assignment"]} == {
        "fay"
    }
    assert {place: found for place, found in now[1].items() if "/fay/" not in place} == was[1]


@pytest.mark.parametrize("level", ["student", "lesson", "notebook", "timestamp", "folder", "fifo"])
def test_links_and_other_things_in_autograded_are_replaced_and_not_followed(
    level: str, classes: Classes, ours: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / OWN).mkdir(parents=True)
    victim = outside / OWN / "own.ipynb"
    victim.write_text("untouched")
    (outside / OWN / "mine.txt").write_text("untouched")
    student = ours / "autograded" / "cem"
    notebook, timestamp = student / OWN / "own.ipynb", student / OWN / "timestamp.txt"
    if level == "student":
        shutil.rmtree(student)
        student.symlink_to(outside)
    elif level == "lesson":
        shutil.rmtree(student / OWN)
        (student / OWN).symlink_to(outside / OWN)
    elif level == "folder":
        notebook.unlink()
        notebook.mkdir()
        (notebook / "link").symlink_to(outside)
    elif level == "fifo":
        notebook.unlink()
        os.mkfifo(notebook)
    else:
        path = notebook if level == "notebook" else timestamp
        path.unlink()
        path.symlink_to(victim)
    (student / OWN / "torch.py").symlink_to(victim)
    if level in ("student", "lesson"):
        (outside / OWN / "torch.py").unlink()
    [one] = [found for found in classes.batch if found.key == f"cem/{OWN}"]
    assert write(ours, [one]) == {}
    assert {path.name: path.read_text() for path in (outside / OWN).iterdir()} == {
        "own.ipynb": "untouched", "mine.txt": "untouched",
    }  # fmt: skip
    left = {place: found for place, found in files(ours).items() if f"/cem/{OWN}/" in place}
    assert left == {place: found for place, found in files(classes.ours).items() if f"/cem/{OWN}/" in place}
    assert not any(path.is_symlink() for path in (student, *student.rglob("*")))


def test_a_group_of_instructors_shares_what_is_written(before: Path, classes: Classes, tmp_path: Path) -> None:
    folder = copied(before, tmp_path)
    with (folder / "nbgrader_config.py").open("a") as file:
        file.write("c.CourseDirectory.groupshared = True\n")
    [one] = [found for found in classes.batch if found.key == f"ada/{OWN}"]
    write(folder, [one])
    there = folder / "autograded" / "ada" / OWN
    assert stat.S_IMODE((there / "own.ipynb").stat().st_mode) == 0o664
    for shared in (folder / "autograded", there, there / "data"):
        assert shared.stat().st_mode & 0o2770 == 0o2770


def test_students_are_not_made_where_the_class_says_so(before: Path, classes: Classes, tmp_path: Path) -> None:
    folder = copied(before, tmp_path)
    with (folder / "nbgrader_config.py").open("a") as file:
        file.write("c.Autograde.create_student = False\n")
    refused = write(folder, [one for one in classes.batch if one.lesson == OWN])
    assert set(refused) == {f"ada/{OWN}", f"cem/{OWN}"}
    assert not (folder / "autograded" / "ada").exists()


def test_a_rule_for_late_work_that_fails_is_named(
    before: Path, classes: Classes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(before, tmp_path)
    (tmp_path / "a_rule_of_our_own.py").write_text(
        "from nbgrader.plugins import BasePlugin\n"
        "class Rule(BasePlugin):\n"
        "    def late_submission_penalty(self, student_id, score, total_seconds_late):\n"
        "        return 1 / 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with (folder / "nbgrader_config.py").open("a") as file:
        file.write("c.AssignLatePenalties.plugin_class = 'a_rule_of_our_own.Rule'\n")
    was = rows(folder)
    with pytest.raises(ClassError, match=r"Rule, fails on cem .*ZeroDivisionError"):
        write(folder, [one for one in classes.batch if one.student in ("ada", "cem")])
    assert rows(folder) == was


def test_what_another_program_writes_meanwhile_is_kept(classes: Classes, ours: Path) -> None:
    """Formgrader saves a score between two batches of one command."""
    [one] = [found for found in classes.batch if found.key == f"ada/{OWN}"]
    with Writer(course_directory(ours)) as writer:
        writer.write([one])
        with book(ours) as entered:
            entered.find_grade("why", "own", OWN, "ada").manual_score = 2.5
            entered.db.commit()
        writer.write([one])
    with book(ours) as found:
        grade = found.find_grade("why", "own", OWN, "ada")
        assert (grade.auto_score, grade.manual_score, grade.needs_manual_grade) == (None, 2.5, True)


def test_a_file_that_cannot_be_written_leaves_the_gradebook_alone(
    before: Path, classes: Classes, tmp_path: Path
) -> None:
    folder = copied(before, tmp_path)
    (folder / "autograded").write_text("in the way")
    was = rows(folder)
    with pytest.raises(OSError):
        write(folder, classes.batch)
    assert rows(folder) == was


# --- the released notebook


@pytest.fixture
def class_folder(before: Path, tmp_path: Path) -> Path:
    return copied(before, tmp_path)


def test_the_released_notebook_has_the_hidden_tests_and_no_solution(class_folder: Path) -> None:
    found = released(course_directory(class_folder), OWN)
    cells = {cell.metadata.nbgrader.grade_id: cell for cell in found.cells if "nbgrader" in cell.metadata}
    assert cells["double-tests"].source == TESTS
    assert "return 2 * x" not in cells["double"].source and STUB in cells["double"].source
    assert found.metadata.kernelspec.name == "python3"
    assert "### BEGIN HIDDEN" not in (class_folder / "release" / OWN / "own.ipynb").read_text()
    theirs = nbformat.read(class_folder / "release" / OWN / "own.ipynb", as_version=4)
    assert [cell.source for cell in found.cells if cell.metadata.get("nbgrader", {}).get("grade_id") != "double-tests"
            and not cell.metadata.get("nbgrader", {}).get("task")] == [
        cell.source for cell in theirs.cells if cell.metadata.get("nbgrader", {}).get("grade_id") != "double-tests"
        and not cell.metadata.get("nbgrader", {}).get("task")]  # fmt: skip


def test_a_lesson_that_was_never_released_gets_a_sentence(class_folder: Path, classes: Classes) -> None:
    with pytest.raises(ClassError, match=r"02-masking was never released .*`nbgrader generate_assignment 02-masking`"):
        released(course_directory(class_folder), "02-masking")
    with pytest.raises(ClassError, match="02-masking was never released"):
        write(class_folder, [*classes.batch, replace(classes.batch[0], lesson="02-masking")])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path: path.unlink(), "is missing: run `nbgrader generate_assignment"),
        (lambda path: path.write_text("{"), "cannot be read"),
        (lambda path: nbformat.write(new_notebook(), path), "has other cells than the gradebook"),
    ],
)
def test_a_spoilt_release_gets_a_sentence(spoil: Callable[[Path], Any], sentence: str, class_folder: Path) -> None:
    path = class_folder / "release" / OWN / "own.ipynb"
    spoil(path)
    with pytest.raises(ClassError, match=sentence):
        released(course_directory(class_folder), OWN)


def test_a_folder_that_is_no_class_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ClassError, match=r"There is no nbgrader_config\.py in .*`crosstalk classroom FOLDER`"):
        course_directory(tmp_path)
    (tmp_path / "nbgrader_config.py").write_text(CONFIG)
    with pytest.raises(ClassError, match="There is no gradebook in"):
        released(course_directory(tmp_path), OWN)
    assert not (tmp_path / "gradebook.db").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [("1 / 0", "ZeroDivisionError"), ("c = get_config()\nc.CourseDirectory.root = 3", "TraitError")],
)
def test_settings_that_cannot_be_read_get_a_sentence(content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "nbgrader_config.py").write_text(content)
    with pytest.raises(ClassError, match=f"cannot be read: {told}"):
        course_directory(tmp_path)


def test_a_lesson_with_two_notebooks_gets_a_sentence(class_folder: Path) -> None:
    with book(class_folder) as found:
        found.add_notebook("second", OWN)
    with pytest.raises(ClassError, match=r"has 2 notebooks \(own, second\)"):
        released(course_directory(class_folder), OWN)


def test_a_damaged_gradebook_gets_a_sentence(class_folder: Path) -> None:
    (class_folder / "gradebook.db").write_bytes(b"no grades" * 1000)
    with pytest.raises(ClassError, match="cannot be used now"):
        released(course_directory(class_folder), OWN)
