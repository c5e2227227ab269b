"""``crosstalk update``: move a student's answers, and cells of their own, onto a newer original of a lesson.

What is whose is read off the cells alone. An answer is known by its grade_id. Any other cell of an original
has an id made from its text, so an id that does not fit the text tells that the student changed it, and an
id that the newer original lacks, but that fits, tells that the course changed it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from crosstalk.course import Lesson, course
from crosstalk.lab import original
from crosstalk.places import work_folder, write_atomically

if TYPE_CHECKING:
    from nbformat import NotebookNode

_ID_FROM_TEXT = re.compile(r"(?:code|markdown)-([0-9a-f]{10})(?:-\d+)?")
_HEADING = (
    "## From your earlier copy\n\n"
    "The lesson has no place for these cells any more. They are yours: keep them or delete them."
)


class NotebookError(ValueError):
    """A notebook cannot be read; the message says why."""


def update_all() -> Iterator[str]:
    """Bring each copy in work/ up to date; yields a sentence for each that is not, or cannot be."""
    lessons = [lesson for lesson in course().ready if (work_folder() / lesson.notebook).is_file()]
    if not lessons:
        yield "There are no copies to update yet: `crosstalk lab` makes them."
    for lesson in lessons:
        try:
            yield _update(lesson)
        except NotebookError as error:
            yield str(error)


def moved(copy: NotebookNode, newer: NotebookNode) -> NotebookNode:
    """The newer original with what is the student's in the copy.

    Answers take the place of the stubs, cells of the student's own stay behind the cell that they stood
    behind, and answers that the newer original has no place for come to the end, under a heading.
    """
    from nbformat.v4 import new_markdown_cell

    stubs = {grade_id: cell for cell in newer.cells if (grade_id := _answers(cell))}
    kept = {cell.id for cell in newer.cells}
    there = {cell.id for cell in copy.cells} & kept
    # Where a program has given the cells other ids, their text still tells them.
    by_text = {_hash(cell.source): cell.id for cell in newer.cells if cell.id not in there}
    answered = _answer_cells(copy)
    changed: dict[str, NotebookNode] = {}  # id in the newer original → the student's cell in its place
    behind: dict[str, list[NotebookNode]] = {"": []}  # the same → the student's own cells behind it
    homeless: list[NotebookNode] = []
    place = ""  # the newer original's cell that was passed last
    for cell in copy.cells:
        grade_id = _answers(cell)
        if grade_id and cell is answered[grade_id]:
            if grade_id in stubs:
                place = stubs[grade_id].id
                if not _is_stub(cell.source, stubs[grade_id].source):
                    changed[place] = cell
            elif not _is_stub(cell.source, ""):
                homeless.append(cell)
        elif not grade_id and "nbgrader" in cell.metadata:  # set-up and checks are the course's
            place = cell.id if cell.id in kept else place
        elif not grade_id and cell.id in kept:
            place = cell.id
            changed[place] = cell
        elif not grade_id and _hash(cell.source) in by_text:
            place = by_text.pop(_hash(cell.source))
        elif grade_id or not _is_original(cell):
            behind.setdefault(place, []).append(cell)
    cells = _own(behind[""])
    for cell in newer.cells:
        if cell.id in changed:
            cell.source = changed[cell.id].source
        cells += [cell, *_own(behind.get(cell.id, []))]
    if homeless and not any(cell.source == _HEADING for cell in cells):
        cells.append(new_markdown_cell(_HEADING))
    result = newer.copy()
    result.cells = [*cells, *_own(homeless)]
    return result


def _own(cells: list[NotebookNode]) -> list[NotebookNode]:
    """Cells of the student's own, which nbgrader does not count."""
    for cell in cells:
        cell.metadata.pop("nbgrader", None)
    return cells


def _update(lesson: Lesson) -> str:
    import nbformat

    path = work_folder() / lesson.notebook
    try:
        content, newest = path.read_bytes(), original(lesson)
        copy = _read(content, f"{path} cannot be read as a notebook")
        newer = _read(newest, f"lessons/{lesson.notebook} cannot be read as a notebook")
    except OSError as error:
        raise NotebookError(f"{lesson.id} is left as it is: {error}") from None
    result = moved(copy, newer)
    if list(map(_content, result.cells)) == list(map(_content, copy.cells)):
        return f"{lesson.id}: your copy is up to date."
    aside = _free_name(path)
    write_atomically(aside, content)
    write_atomically(path, nbformat.writes(result, version=4).rstrip("\n") + "\n")
    return (
        f"{lesson.id}: your answers are now in the newer original; your file as it was is kept as {aside.name}. "
        "If it is open in JupyterLab, choose File > Reload Notebook from Disk."
    )


def _read(content: bytes, fault: str) -> NotebookNode:
    import nbformat

    try:
        notebook = nbformat.reads(content.decode("utf-8"), as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises KeyError, AttributeError and more, as the file has it
        what = "it is cut short or no JSON" if isinstance(error, json.JSONDecodeError) else str(error)
        raise NotebookError(f"{fault} and is left as it is: {what.splitlines()[0][:200]}.") from None
    return notebook


def _free_name(path: Path) -> Path:
    """A name beside it that is not taken, with today's date in it."""
    dated = f"{path.stem}.before-{date.today().isoformat()}"
    names = [dated, *(f"{dated}-{count}" for count in range(2, 1000))]
    return next(free for name in names if not (free := path.with_name(name + path.suffix)).exists())


def _answers(cell: NotebookNode) -> str:
    """The grade_id of an answer cell, or ""."""
    marks = cell.metadata.get("nbgrader", {})
    return marks.get("grade_id", "") if marks.get("solution") else ""


def _answer_cells(copy: NotebookNode) -> dict[str, NotebookNode]:
    """The answer cell of each grade_id; of several (a cell was duplicated) the one with the build's id."""
    found: dict[str, NotebookNode] = {}
    for cell in copy.cells:
        grade_id = _answers(cell)
        if grade_id and (grade_id not in found or cell.id == f"answer-{grade_id}"):
            found[grade_id] = cell
    return found


def _is_stub(source: str, newer_stub: str) -> bool:
    """Has nobody written anything into this answer cell?"""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return False
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    statements = [node for function in functions for node in function.body]
    remarks = {line.strip() for line in source.splitlines() if "#" in line}
    return (
        bool(functions)
        and all(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)
        and all(_is_raise(node) or _is_docstring(node) for node in statements)
        and remarks <= {line.strip() for line in newer_stub.splitlines()}
    )


def _is_raise(node: ast.stmt) -> bool:
    return isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and node.exc.id == "NotImplementedError"


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_original(cell: NotebookNode) -> bool:
    """Is it a cell of some original, as the build wrote it?"""
    return (from_text := _ID_FROM_TEXT.fullmatch(cell.id)) is not None and from_text[1] == _hash(cell.source)


def _hash(source: str) -> str:
    """As in the ids that the build gives (`autograder.build.notebooks`)."""
    return hashlib.sha256(source.encode()).hexdigest()[:10]


def _content(cell: NotebookNode) -> tuple[object, ...]:
    """What of a cell counts: outputs and the like don't."""
    return cell.cell_type, cell.id, cell.source, cell.metadata.get("nbgrader"), cell.get("attachments")
