"""From a lesson's source to the notebook that is staged for nbgrader: ids, metadata, points, still pictures."""

from __future__ import annotations

import ast
import base64
import hashlib
from pathlib import Path

from nbformat import NotebookNode

from autograder.answers import answer_cell_id
from autograder.solutions import SourceError, read_source
from crosstalk.course import Lesson

_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def staged_notebook(lesson: Lesson, stills: Path) -> NotebookNode:
    """The lesson with its answers, as nbgrader takes it.

    Args:
        stills: the folder with the still pictures. A markdown cell that shows ``attachment:NAME.png`` gets
            NAME.png from it, so that the notebook is whole without a kernel and without other files.
    """
    notebook = read_source(lesson)
    points = {entry.name: entry.points for entry in lesson.exercises}
    used: set[str] = set()
    for cell in notebook.cells:
        cell.id = _cell_id(cell, used)
        metadata: dict = {}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            if "setup" in cell.metadata:
                metadata["nbgrader"] = _nbgrader("set-up", locked=True)
            elif name := cell.metadata.get("answer"):
                metadata["nbgrader"] = _nbgrader(name, solution=True)
            elif name := cell.metadata.get("check"):
                metadata["nbgrader"] = _nbgrader(f"check-{name}", grade=True, locked=True, points=points[name])
            elif _only_asks(cell.source):  # its source holds the answer
                metadata["jupyter"] = {"source_hidden": True}
        else:
            _attach_stills(cell, stills, lesson)
        if tags := cell.metadata.get("tags"):
            metadata["tags"] = list(tags)
        cell.metadata = NotebookNode(metadata)
    notebook.metadata = NotebookNode({"kernelspec": _KERNEL, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def _only_asks(source: str) -> bool:
    """Is the cell a `Predict` question and nothing else but imports?"""
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # a cell with magics
        return False
    others = [each for each in statements if not isinstance(each, ast.Import | ast.ImportFrom)]
    return len(others) == 1 and ast.unparse(others[0]).startswith("Predict(")


def _nbgrader(grade_id: str, *, grade: bool = False, locked: bool = False, solution: bool = False,
              points: float | None = None) -> dict:  # fmt: skip
    metadata = {"grade": grade, "grade_id": grade_id, "locked": locked, "schema_version": 3,
                "solution": solution, "task": False}  # fmt: skip
    return metadata if points is None else metadata | {"points": points}


def _cell_id(cell: NotebookNode, used: set[str]) -> str:
    """An id derived from what the cell is, so that a build of the same source gives the same notebook."""
    if name := cell.metadata.get("answer"):
        wanted = answer_cell_id(name)
    elif name := cell.metadata.get("check"):
        wanted = f"check-{name}"
    elif "setup" in cell.metadata:
        wanted = "set-up"
    else:
        wanted = f"{cell.cell_type}-{hashlib.sha256(cell.source.encode()).hexdigest()[:10]}"
    unique, count = wanted, 1
    while unique in used:
        count += 1
        unique = f"{wanted}-{count}"
    used.add(unique)
    return unique


def _attach_stills(cell: NotebookNode, stills: Path, lesson: Lesson) -> None:
    names = [part.partition(")")[0] for part in cell.source.split("(attachment:")[1:]]
    for name in names:
        path = stills / name
        if not path.is_file():
            raise SourceError(
                f"solutions/{lesson.id}.py shows attachment:{name}, but there is no {path.name} in {stills.name}/"
            )
        picture = base64.b64encode(path.read_bytes()).decode()
        cell.setdefault("attachments", NotebookNode())[name] = {"image/png": picture}
