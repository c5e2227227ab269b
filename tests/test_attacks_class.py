"""A class with many hostile submissions among honest ones, graded by one command.

The honest ones have all their points, each hostile one has its own reason and what it fairly earned, and nobody's
folder, name or file has touched anything.
"""

from __future__ import annotations

import copy
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from attacks.handing_in import cell, content, honest, lesson_called, released, with_answers
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from nbgrader.api import Gradebook
from ordinary_user import run_as_ordinary_user

from autograder.classroom import classroom
from autograder.grading.class_folder import course_directory
from autograder.grading.class_folder import released as released_in
from autograder.grading.gradebook import Writer
from autograder.grading.run import Options, Report, grade
from crosstalk.places import course_folder

LESSON = lesson_called("00-start-here")
[ENTRY] = LESSON.exercises
NAME = f"{LESSON.name}.ipynb"
RIGHT = content(honest(LESSON))
MOST = LESSON.points

pytestmark = [
    pytest.mark.slow,
    pytest.mark.sandbox,
]


@dataclass(frozen=True)
class Handed:
    """How something is handed in, and what must come of it."""

    make: Callable[[Path], None]  # given the submission's folder, which exists
    kind: str  # of the reason that must be recorded; "": none
    points: float


def file(made: bytes, kind: str, points: float = 0.0, **others: bytes) -> Handed:
    """A notebook's bytes, and other files beside."""

    def make(folder: Path) -> None:
        (folder / NAME).write_bytes(made)
        for name, inside in others.items():
            (folder / name.replace("__", ".")).write_bytes(inside)

    return Handed(make, kind, points)


def edited(edit: Callable[[NotebookNode], None], kind: str, points: float) -> Handed:
    """An honest notebook after some change."""
    notebook = honest(LESSON)
    edit(notebook)
    return file(content(notebook), kind, points)


def answer(source: str, kind: str) -> Handed:
    return file(content(with_answers(LESSON, {ENTRY.name: source})), kind)


def made_by(action: Callable[[Path], object], kind: str, points: float = 0.0) -> Handed:
    """What stands at the notebook's place is made otherwise."""
    return Handed(lambda folder: (action(folder / NAME), None)[1], kind, points)


def sparse(path: Path) -> None:
    with path.open("wb") as out:
        out.truncate(200_000_000)


def bomb() -> bytes:
    """A hundred megabytes of zeros in a hundred kilobytes, under a name that leads outside."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"../../../{NAME}", bytes(100_000_000))
    return packed.getvalue()


def copied(notebook: NotebookNode) -> None:
    notebook.cells.append(copy.deepcopy(cell(notebook, ENTRY.name)))
    notebook.cells[-1].id = "a-copy"
    notebook.cells[-1].source = f"{ENTRY.name} = 2.0"


def removed(notebook: NotebookNode) -> None:
    notebook.cells.remove(cell(notebook, ENTRY.name))


def foreign(notebook: NotebookNode) -> None:
    added = new_code_cell("100.0")
    added.metadata["nbgrader"] = {"grade": True, "grade_id": "mine", "points": 100, "schema_version": 3,
                                  "locked": False, "solution": False, "task": False, "cell_type": "code"}  # fmt: skip
    notebook.cells.append(added)


def check_changed(notebook: NotebookNode) -> None:
    cell(notebook, ENTRY.name).source = f"{ENTRY.name} = None"
    cell(notebook, f"check-{ENTRY.name}").source = "2.0"


def other_schema(notebook: NotebookNode) -> None:
    cell(notebook, ENTRY.name).metadata.nbgrader.schema_version = 99


def other_kernel(notebook: NotebookNode) -> None:
    notebook.metadata.kernelspec = {"name": "bash", "display_name": "Bash", "language": "bash"}


def shell_cells(notebook: NotebookNode) -> None:
    notebook.cells.insert(0, new_code_cell("%%bash\ntouch /tmp/left-by-a-shell-cell"))
    notebook.cells.insert(0, new_code_cell("!touch /tmp/left-by-a-shell-cell"))


def unchanged(notebook: NotebookNode) -> None:
    pass


STRAY = b"raise SystemExit('a stray module was loaded')"
HANDED = {
    "honest-1": edited(unchanged, "", MOST),
    "honest-2": edited(unchanged, "", MOST),
    "nothing-done": file(content(released(LESSON)), ""),
    "too-large": made_by(sparse, "too large"),
    "deep": file(b'{"cells":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nested too deep"),
    "pipe": made_by(os.mkfifo, "not a file"),
    "link": made_by(lambda path: path.symlink_to("/etc/shadow"), "symbolic link"),
    "link-to-another": made_by(lambda path: path.symlink_to(f"../../honest-1/{LESSON.id}/{NAME}"), "symbolic link"),
    "folder": made_by(Path.mkdir, "not a file"),
    "zip-bomb": file(bomb(), "archive"),
    "zip-bomb-beside": file(RIGHT, "", MOST, all__zip=bomb()),
    "zip-only": made_by(lambda path: path.with_name("all.zip").write_bytes(bomb()), "archive"),
    "torch-beside": file(RIGHT, "stray file", MOST, torch__py=STRAY, json__py=STRAY, sitecustomize__py=STRAY),
    "two-notebooks": file(RIGHT, "two notebooks", MOST, other__ipynb=RIGHT),
    "several-notebooks": made_by(
        lambda path: [path.with_name(name).write_bytes(RIGHT) for name in ("a.ipynb", "b.ipynb")], "several notebooks"
    ),
    "odd-file-name": made_by(
        lambda path: path.with_name(os.fsdecode(b"\xff\n.ipynb")).write_bytes(RIGHT), "other name", MOST
    ),
    "empty-folder": made_by(lambda path: None, "no notebook"),
    "empty-file": file(b"", "empty file"),
    "not-json": file(b"\x89PNG\r\n" + bytes(100), "not UTF-8"),
    "cut-short": file(RIGHT[: len(RIGHT) // 2], "truncated"),
    "copied-cell": edited(copied, "duplicate cell", 0.0),
    "removed-cell": edited(removed, "missing cell", 0.0),
    "foreign-cell": edited(foreign, "foreign cell", MOST),
    "changed-check": edited(check_changed, "changed cell", 0.0),
    "other-schema-of-cells": edited(other_schema, "", MOST),  # metadata are the released ones, whatever theirs say
    "other-schema": file(b'{"cells": {"answer": 2.0}, "nbformat": 4}', "wrong schema"),
    "other-version": file(RIGHT.replace(b'"nbformat": 4', b'"nbformat": 99'), "wrong version"),
    "other-kernel": edited(other_kernel, "wrong kernel", MOST),
    "shell-cells": edited(shell_cells, "", MOST),
    "shell-answer": answer("%%bash\ntouch /tmp/left-by-a-shell-cell", ""),
    "shell-line": answer(f"!touch /tmp/left-by-a-shell-cell\ndef {ENTRY.name}(a, b): return a.sum()", ""),
    "exits": answer(f"import os\ndef {ENTRY.name}(a, b): os._exit(0)", "ended the process"),
    "crashes": answer(f"import ctypes\ndef {ENTRY.name}(a, b): ctypes.string_at(0)", "ended the process"),
    "floods": answer(
        f"import os\nfor number in range(99):\n    try: os.write(number, b'2.0' * 99)\n    except OSError: pass\n"
        f"def {ENTRY.name}(a, b): return a.sum()", "said too much"
    ),
    "honest-3": edited(unchanged, "", MOST),
}  # fmt: skip
if os.geteuid() == 0:
    HANDED["device"] = made_by(lambda path: os.mknod(path, 0o20666, os.makedev(1, 5)), "not a file")

# No student's folder at all: nothing of them can be graded, and each is told.
REFUSED = {
    b"..dots": "odd name", b"ann\xff": "odd name", b"a\nb": "odd name", b"a-link": "symbolic link",
    b"a-pipe": "not a folder", b"links-the-lesson": "symbolic link", b"all.zip": "archive",
}  # fmt: skip


def hand_in(submitted: Path) -> None:
    for student, handed in HANDED.items():
        folder = submitted / student / LESSON.id
        folder.mkdir(parents=True)
        handed.make(folder)
    for name in (b"..dots", b"ann\xff", b"a\nb"):
        folder = submitted / os.fsdecode(name) / LESSON.id
        folder.mkdir(parents=True)
        (folder / NAME).write_bytes(RIGHT)
    (submitted / "a-link").symlink_to(submitted / "honest-1")
    os.mkfifo(submitted / "a-pipe")
    (submitted / "links-the-lesson").mkdir()
    (submitted / "links-the-lesson" / LESSON.id).symlink_to("/etc")
    (submitted / "all.zip").write_bytes(bomb())


@dataclass
class Class:
    """The folder after grading, and what came of it."""

    folder: Path
    first: Report
    again: Report


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Class:
    folder = tmp_path_factory.mktemp("class")
    list(classroom(folder))
    subprocess.run(
        [sys.executable, "-m", "nbgrader", "generate_assignment", LESSON.id], cwd=folder, check=True,
        env=os.environ | {"CROSSTALK_COURSE": str(course_folder())}, capture_output=True,
    )  # fmt: skip
    hand_in(folder / "submitted")
    first, again = graded_in(folder), graded_in(folder)
    return Class(folder, first, again)


def graded_in(folder: Path) -> Report:
    coursedir = course_directory(folder)
    with Writer(coursedir) as writer:
        return grade(folder, folder / "submitted", LESSON, released_in(coursedir, LESSON.id), writer, Options())


def test_nothing_is_lost(graded: Class) -> None:
    assert graded.first.failures == [] and graded.first.unwritten == {}
    assert {each.student for each in graded.first.graded} == set(HANDED)
    assert len(graded.first.graded) == len(HANDED) and len(graded.first.refused) == len(REFUSED)


@pytest.mark.parametrize("student", HANDED)
def test_has_its_reason_and_what_it_earned(graded: Class, student: str) -> None:
    reasons, expected = graded.first.noted.get(student, []), HANDED[student]
    kinds = {reason.kind for reason in reasons}
    assert expected.kind in kinds if expected.kind else kinds == set(), reasons
    with Gradebook(f"sqlite:///{graded.folder / 'gradebook.db'}") as book:
        assert book.find_submission(LESSON.id, student).score == expected.points
    assert (graded.folder / "autograded" / student / LESSON.id / NAME).is_file()


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused(graded: Class, name: bytes) -> None:
    fit = os.fsdecode(name).isprintable()
    kinds = [reason.kind for each in graded.first.refused for reason in each.reasons
             if each.folder.name == os.fsdecode(name) or os.fsdecode(name) in each.folder.parts or not fit]  # fmt: skip
    assert REFUSED[name] in kinds


def test_nothing_else_is_written(graded: Class) -> None:
    """No file that was handed in, or that a link led to, stands anywhere in the class's folder but where it was."""
    made = {path.name for path in (graded.folder / "autograded").rglob("*") if not path.is_dir()}
    assert made == {NAME}
    assert not Path("/tmp/left-by-a-shell-cell").exists()
    assert not (graded.folder.parent / NAME).exists()
    told = [path.read_text("utf-8") for path in (graded.folder / "autograded").rglob(NAME)]
    assert not any(line in text for text in told for line in Path("/etc/passwd").read_text().splitlines())


def test_a_second_run_grades_nothing_again(graded: Class) -> None:
    assert graded.again.to_grade == 0 and graded.again.unchanged == len(HANDED)


if os.geteuid() == 0:

    def test_all_this_as_an_ordinary_user() -> None:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "not ordinary"]
        done = run_as_ordinary_user(command)
        assert done.returncode == 0, done.stdout
        assert "passed" in done.stdout and "skipped" not in done.stdout
