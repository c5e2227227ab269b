"""``crosstalk update``: answers and a student's own cells on a newer original; nothing is lost."""

import hashlib
import shutil
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from crosstalk.places import course_folder
from crosstalk.update import update_all

PLACE = Path("01-attention", "attention.ipynb")


def text(kind: str, source: str) -> NotebookNode:
    """A cell with the id that the build would give it."""
    cell_id = f"{kind}-{hashlib.sha256(source.encode()).hexdigest()[:10]}"
    return (new_markdown_cell if kind == "markdown" else new_code_cell)(source, id=cell_id)


def graded(grade_id: str, source: str, **marks: bool) -> NotebookNode:
    all_marks = {"grade": False, "locked": False, "solution": False, "task": False} | marks
    metadata = {"nbgrader": {"grade_id": grade_id, "schema_version": 3, **all_marks}}
    if all_marks["grade"]:
        metadata["nbgrader"]["points"] = 2
    cell_id = f"answer-{grade_id}" if all_marks["solution"] else grade_id
    return new_code_cell(source, id=cell_id, metadata=metadata)


def stub(name: str, said: str = "What it does.") -> NotebookNode:
    return graded(name, f'def {name}(x):\n    """{said}"""\n    raise NotImplementedError', solution=True)


def check(name: str) -> NotebookNode:
    return graded(f"check-{name}", f'check("{name}")', grade=True, locked=True)


def lesson(*cells: NotebookNode) -> NotebookNode:
    return new_notebook(cells=list(cells))


def first_release() -> NotebookNode:
    return lesson(text("markdown", "# Old"), graded("set-up", "import torch", locked=True),
                  stub("f"), check("f"), text("code", "f(1)"), text("markdown", "The end."))  # fmt: skip


def second_release() -> NotebookNode:
    return lesson(text("markdown", "# New"), graded("set-up", "import math, torch", locked=True),
                  stub("f", "Said better."), check("f"), text("markdown", "A new thought."), stub("g"), check("g"),
                  text("code", "f(1)"), text("markdown", "The end."))  # fmt: skip


class Course:
    """A course folder with one lesson, and the student's copy of it."""

    def __init__(self, root: Path) -> None:
        self.original, self.copy = root / "lessons" / PLACE, root / "work" / PLACE
        self.original.parent.mkdir(parents=True)
        self.copy.parent.mkdir(parents=True)
        shutil.copy(course_folder() / "course.toml", root)

    def release(self, notebook: NotebookNode) -> None:
        nbformat.write(notebook, self.original)

    def student_has(self, notebook: NotebookNode) -> None:
        nbformat.write(notebook, self.copy)

    def sources(self) -> list[str]:
        return [cell.source for cell in nbformat.read(self.copy, as_version=4).cells]

    def files(self) -> list[str]:
        return sorted(path.name for path in self.copy.parent.iterdir())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Course:
    made = Course(tmp_path)
    monkeypatch.setenv("CROSSTALK_COURSE", str(tmp_path))
    monkeypatch.setenv("CROSSTALK_WORK", str(tmp_path / "work"))
    made.release(first_release())
    made.student_has(first_release())
    return made


def test_nothing_to_do(folder: Course) -> None:
    before = folder.copy.read_bytes()
    assert list(update_all()) == ["01-attention: your copy is up to date."]
    assert folder.copy.read_bytes() == before
    assert folder.files() == ["attention.ipynb"]


def test_an_answer_moves_and_the_old_file_is_kept(folder: Course) -> None:
    mine = first_release()
    mine.cells[2].source = "def f(x):\n    return 2 * x  # mine"
    mine.cells[2].outputs = []
    folder.student_has(mine)
    before = folder.copy.read_bytes()
    folder.release(second_release())
    [told] = update_all()
    assert told.startswith("01-attention: your answers are now in the newer original")
    expected = [cell.source for cell in second_release().cells]
    expected[2] = "def f(x):\n    return 2 * x  # mine"
    assert folder.sources() == expected
    [aside] = [name for name in folder.files() if name != "attention.ipynb"]
    assert aside in told
    assert (folder.copy.parent / aside).read_bytes() == before
    moved = nbformat.read(folder.copy, as_version=4).cells[2]
    assert moved.id == "answer-f"
    assert moved.metadata.nbgrader.grade_id == "f"
    assert list(update_all()) == ["01-attention: your copy is up to date."]


def test_an_unwritten_answer_takes_the_newer_stub_but_a_remark_is_a_beginning(folder: Course) -> None:
    folder.release(second_release())
    list(update_all())
    assert '"""Said better."""' in folder.sources()[2]
    begun = first_release()
    begun.cells[2].source += "  # first the maximum, then …"
    folder.student_has(begun)
    list(update_all())
    assert folder.sources()[2] == begun.cells[2].source


def test_own_and_changed_cells_stay_where_they_were(folder: Course) -> None:
    mine = first_release()
    mine.cells[4].source = "f(1000)  # what then?"
    mine.cells.insert(3, new_code_cell("f(3)"))
    mine.cells.insert(4, new_markdown_cell("A note of mine."))
    mine.cells.insert(0, new_markdown_cell("Ada's copy"))
    folder.student_has(mine)
    assert list(update_all()) == ["01-attention: your copy is up to date."]
    folder.release(second_release())
    list(update_all())
    assert folder.sources() == [
        "Ada's copy",
        "# New",
        "import math, torch",
        second_release().cells[2].source,
        "f(3)",
        "A note of mine.",
        'check("f")',
        "A new thought.",
        second_release().cells[5].source,
        'check("g")',
        "f(1000)  # what then?",
        "The end.",
    ]
    assert list(update_all()) == ["01-attention: your copy is up to date."]


def test_a_changed_cell_that_is_gone_from_the_original_is_kept_as_the_students_own(folder: Course) -> None:
    mine = first_release()
    mine.cells[0].source = "# Old, with a remark"
    folder.student_has(mine)
    folder.release(second_release())
    list(update_all())
    assert folder.sources()[:2] == ["# Old, with a remark", "# New"]


def test_an_answer_without_an_exercise_comes_to_the_end(folder: Course) -> None:
    mine = first_release()
    mine.cells[2].source = "def f(x):\n    return x"
    folder.student_has(mine)
    folder.release(lesson(text("markdown", "# New"), graded("set-up", "import torch", locked=True), stub("g")))
    list(update_all())
    *_, heading, last = nbformat.read(folder.copy, as_version=4).cells
    assert heading.source.startswith("## From your earlier copy")
    assert last.source == "def f(x):\n    return x"
    assert "nbgrader" not in last.metadata
    assert list(update_all()) == ["01-attention: your copy is up to date."]


def test_of_a_duplicated_answer_cell_the_first_counts_and_the_other_is_kept(folder: Course) -> None:
    mine = first_release()
    mine.cells[2].source = "def f(x):\n    return x"
    again = graded("f", "def f(x):\n    return -x", solution=True)
    again.id = "0000aaaa"
    mine.cells.insert(2, again)
    folder.student_has(mine)
    folder.release(second_release())
    list(update_all())
    cells = nbformat.read(folder.copy, as_version=4).cells
    assert [cell.source for cell in cells[2:4]] == ["def f(x):\n    return -x", "def f(x):\n    return x"]
    assert [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in cells[2:4]] == [None, "f"]


def test_cells_whose_ids_were_lost_are_known_by_their_text(folder: Course) -> None:
    mine = first_release()
    mine.cells[2].source = "def f(x):\n    return x"
    for index, cell in enumerate(mine.cells):
        cell.id = f"lost-{index}"
    folder.student_has(mine)
    list(update_all())
    expected = [cell.source for cell in first_release().cells]
    expected[2] = "def f(x):\n    return x"
    assert folder.sources() == expected


@pytest.mark.parametrize("content", ['{"cells": [', "", "[]", '{"nbformat": 4, "cells": 3}', "\x00"])
def test_a_broken_copy_is_told_and_left_alone(folder: Course, content: str) -> None:
    folder.copy.write_text(content)
    folder.release(second_release())
    [told] = update_all()
    assert "cannot be read as a notebook and is left as it is" in told
    assert "\n" not in told
    assert folder.copy.read_text() == content
    assert folder.files() == ["attention.ipynb"]


def test_two_updates_on_one_day_keep_both_old_files(folder: Course) -> None:
    folder.release(second_release())
    list(update_all())
    folder.release(first_release())
    list(update_all())
    assert len(folder.files()) == 3


def test_without_copies_it_says_so(folder: Course) -> None:
    folder.copy.unlink()
    assert list(update_all()) == ["There are no copies to update yet: `crosstalk lab` makes them."]
