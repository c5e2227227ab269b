"""Notebooks whose cells and metadata were changed to be worth more, with a wrong answer to everything."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from attacks.handing_in import cell
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output


@dataclass(frozen=True)
class Edit:
    """One way to change a notebook.

    Attributes:
        make: changes it in place.
        kind: of the reason that is due; "" where there is nothing to tell.
    """

    make: Callable[[NotebookNode], None]
    kind: str = ""


def _marks(grade_id: str, points: float, **others: bool) -> dict:
    marks = {"grade": True, "solution": False, "locked": True, "task": False, "schema_version": 3} | others
    return {"nbgrader": {**marks, "grade_id": grade_id, "points": points, "cell_type": "code"}}


def _points(notebook: NotebookNode) -> None:
    for each in notebook.cells:
        if "points" in each.metadata.get("nbgrader", {}):
            each.metadata["nbgrader"]["points"] = 1_000


def _odd_points(notebook: NotebookNode) -> None:
    for each, points in zip(notebook.cells, [float("inf"), float("nan"), "5", -3, None, 1e308, [5]], strict=False):
        each.metadata["nbgrader"] = {"grade": True, "solution": False, "grade_id": "check-softmax", "points": points}


def _no_marks(notebook: NotebookNode) -> None:
    for each in notebook.cells:
        each.metadata.pop("nbgrader", None)


def _says_five(notebook: NotebookNode) -> None:
    cell(notebook, "check-softmax").source = "2.0"


def _as_output(notebook: NotebookNode) -> None:
    cell(notebook, "check-softmax").outputs = [
        new_output("execute_result", data={"text/plain": "2.0"}, execution_count=1)
    ]


def _text(notebook: NotebookNode) -> None:
    for grade_id in ("check-softmax", "softmax"):
        each = cell(notebook, grade_id)
        each.cell_type = "markdown"
        del each["outputs"], each["execution_count"]


def _by_a_person(notebook: NotebookNode) -> None:
    cell(notebook, "check-softmax").metadata["nbgrader"] |= {"solution": True, "locked": False}
    cell(notebook, "softmax").metadata["nbgrader"] |= {"grade": True, "points": 50}


def _copied_check(notebook: NotebookNode) -> None:
    check = copy.deepcopy(cell(notebook, "check-softmax"))
    check.source, check.id = "2.0", "copied"
    notebook.cells.append(check)


def _copied_answer(notebook: NotebookNode) -> None:
    for number in range(3):
        answer = copy.deepcopy(cell(notebook, "softmax"))
        answer.id = f"copied-{number}"
        notebook.cells.insert(0, answer)


def _removed(notebook: NotebookNode) -> None:
    notebook.cells = [each for each in notebook.cells if not each.metadata.get("nbgrader", {}).get("grade")]


def _nothing(notebook: NotebookNode) -> None:
    notebook.cells = []


def _foreign(notebook: NotebookNode) -> None:
    notebook.cells.append(new_code_cell("100", metadata=_marks("check-everything", 100)))


def _script(notebook: NotebookNode) -> None:
    notebook.cells.append(new_code_cell("1", metadata=_marks("<img src=x onerror=alert(1)>", 100)))
    notebook.cells.append(new_code_cell("1", metadata=_marks("](javascript:alert(1)) ![x](http://a.example)", 100)))


def _later_rebound(notebook: NotebookNode) -> None:
    notebook.cells.append(new_code_cell("from torch import softmax"))
    notebook.cells.insert(0, new_code_cell("import torch\nsoftmax = torch.softmax"))


def _kernel(notebook: NotebookNode) -> None:
    notebook.metadata = NotebookNode(
        kernelspec={"name": "bash", "display_name": "x", "language": "bash"}, language_info={"name": "bash"},
        widgets={"application/vnd.jupyter.widget-state+json": {"state": {}}}, celltoolbar="Create Assignment",
    )  # fmt: skip


def _magics(notebook: NotebookNode) -> None:
    answer = cell(notebook, "softmax")
    answer.source = "%%bash\necho 2.0\n" + answer.source


def _other_ids(notebook: NotebookNode) -> None:
    names = ["softmax", "split_heads", "merge_heads"]
    for name, other in zip(names, [*names[1:], names[0]], strict=True):
        cell(notebook, name).metadata["nbgrader"]["grade_id"] = f"new-{other}"
    for name in names:
        cell(notebook, f"new-{name}").metadata["nbgrader"]["grade_id"] = name


def _remarks(notebook: NotebookNode) -> None:
    notebook.cells[:0] = [new_markdown_cell("**check-softmax: 2 points**"), new_code_cell("%autosave 0\n2.0")] * 20


EDITS: dict[str, Edit] = {
    "points raised": Edit(_points, "changed metadata"),
    "points of all kinds": Edit(_odd_points, "duplicate cell"),
    "marks taken away": Edit(_no_marks, "missing cell"),
    "a check that says 2.0": Edit(_says_five, "changed cell"),
    "an output that says 2.0": Edit(_as_output),
    "code made text": Edit(_text),
    "to be graded by a person": Edit(_by_a_person, "changed metadata"),
    "a copied check": Edit(_copied_check, "duplicate cell"),
    "copied answers": Edit(_copied_answer, "duplicate cell"),
    "checks removed": Edit(_removed),
    "no cells": Edit(_nothing, "missing cell"),
    "a check of its own": Edit(_foreign, "foreign cell"),
    "names that script": Edit(_script, "foreign cell"),
    "bound anew": Edit(_later_rebound),
    "another kernel": Edit(_kernel),
    "a magic": Edit(_magics),
    "answers under others' names": Edit(_other_ids),
    "cells around it": Edit(_remarks),
}


def with_own_cells(notebook: NotebookNode) -> None:
    """What an instructor may add: a cell of asserts worth 3 points, and one whose last line is the points, up to 2."""
    asserts = "assert softmax(torch.zeros(2)).tolist() == [0.5, 0.5]\nassert softmax(torch.zeros(1)).tolist() == [1.0]"
    last_line = "2.0 if softmax(torch.zeros(2)).tolist() == [0.5, 0.5] else 0.0"
    place = notebook.cells.index(cell(notebook, "check-softmax"))
    notebook.cells[place + 1 : place + 1] = [
        new_code_cell(asserts, metadata=_marks("own-asserts", 3)),
        new_code_cell(last_line, metadata=_marks("own-points", 2)),
    ]


# Answers to `softmax`, and the reason that is due: the cells run beside them, so they may lie, but no more than that.
AGAINST_OWN_CELLS: dict[str, tuple[str, str]] = {
    "points above the maximum": ("import builtins\nbuiltins.repr = lambda value: '1000'\n", "impossible points"),
    "points without end": ("import builtins\nbuiltins.repr = lambda value: 'inf'\n", "impossible points"),
    "no points": ("import builtins\nbuiltins.repr = lambda value: ''\n", "impossible points"),
    "points that are no number": ("import builtins\nbuiltins.repr = lambda value: 3\n", ""),
    "a long result": ("import builtins\nbuiltins.repr = lambda value: 'x' * 10_000_000\n", ""),
    "much printing": ("print('x' * 50_000_000)\n", ""),
    "the end of the process": (
        "import torch\nsoftmax = lambda scores: __import__('os')._exit(0) if scores.numel() == 2 else scores\n"
        "def softmax(scores, dim=-1):\n    return __import__('os')._exit(0) if scores.dim() == 1 else scores\n", ""),
    "an error that cannot be told": (
        "class Untold(Exception):\n    def __str__(self): raise self\n    __repr__ = __str__\n"
        "def softmax(scores, dim=-1):\n    raise Untold\n", ""),
    "an error with a long name": (
        "def softmax(scores, dim=-1):\n    raise type('E' * 1_000_000, (Exception,), {})('<script>')\n", ""),
    "strange messages": (
        "import autograder.sandbox.own_cells as cells\n"
        "cells.encode = lambda message: encode_({**message, 'result': 3, 'error': [], 'printed': None})\n"
        "from autograder.messages import encode as encode_\n", ""),
    "errors of all kinds": (
        "import autograder.sandbox.own_cells as cells\n"
        "from autograder.messages import encode as encode_\n"
        "cells.encode = lambda message: encode_({**message, 'error': {'type': 3}})\n", ""),
}  # fmt: skip
