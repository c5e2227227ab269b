"""Rebuild a submission on the released notebook: of the student's file, only the student's own sources count.

Which cell is an exercise's answer is decided as plain nbgrader and ``check`` would: the cells are taken in
the student's order, of several with one grade_id the last keeps it, locked ones get their released source,
and the answer is what the last cell before the check bound. Nothing is run here.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nbformat import NotebookNode

from autograder.answers import Answer, AnswerError, Executed, answer_among, executed
from autograder.grading.handed_cells import MAX_CODE, HandedCell, UnreadableNotebookError, read_cells
from autograder.grading.plain_source import without_magics
from autograder.grading.results import Reason
from autograder.grading.shown import listed
from crosstalk.course import Lesson

SET_UP = "set-up"
KEPT = "crosstalk"  # a kept cell's metadata say under this key what it is
_FLAGS = ("grade", "solution", "locked", "task", "points")


@dataclass(frozen=True)
class OwnCell:
    """A cell of the instructor's own: neither an exercise of the course, nor its check, nor the set-up."""

    grade_id: str
    index: int  # in the rebuilt notebook's cells
    cell_type: str
    source: str
    solution: bool  # the source is the student's; with a grade, a person gives the points
    grade: bool
    points: float
    untouched: bool  # a solution as it was released, or missing: nbgrader gives 0 without asking a person

    @property
    def runs(self) -> bool:
        """Is it code?"""
        return self.cell_type == "code" and bool(self.source.strip())


@dataclass
class Rebuilt:
    """A submission on the released notebook."""

    notebook: NotebookNode
    answers: dict[str, str] = field(default_factory=dict)  # exercise → the whole answer cell
    problems: dict[str, str] = field(default_factory=dict)  # exercise → why there is no answer to try
    elsewhere: dict[str, frozenset[str]] = field(default_factory=dict)  # exercise → names that other cells bind
    own_cells: list[OwnCell] = field(default_factory=list)  # in order
    reasons: list[Reason] = field(default_factory=list)


def rebuild(released: NotebookNode, content: bytes, lesson: Lesson) -> Rebuilt:
    """A submission's answers, and the notebook to be shown.

    Args:
        released: the notebook as students got it, with nbgrader's metadata; it is trusted and stays as it is.
        content: what was handed in, whatever it is.
        lesson: the lesson, for the names of its exercises. One without a check cell in ``released`` is not there.

    Returns:
        Always a whole notebook, and for each exercise an answer or a problem. Nothing is raised for ``content``.
    """
    try:
        cells, reasons = read_cells(content)
    except UnreadableNotebookError as error:
        return without_answers(released, lesson, error.reason)
    return _Rebuilding(released, cells, lesson, reasons).done()


def without_answers(released: NotebookNode, lesson: Lesson, reason: Reason) -> Rebuilt:
    """What is shown where there is no notebook to take answers from."""
    rebuilt = _Rebuilding(released, [], lesson, []).done()
    rebuilt.problems = dict.fromkeys(rebuilt.problems, reason.sentence)
    rebuilt.reasons = [reason]
    return rebuilt


@dataclass(frozen=True)
class _Placed:
    """A cell of the submission, and where it stands in the released notebook."""

    cell: HandedCell
    at: int | None  # None: it is not from there
    copied: bool = False  # an earlier one with the same grade_id


class _Rebuilding:
    def __init__(self, released: NotebookNode, cells: list[HandedCell], lesson: Lesson, reasons: list[Reason]) -> None:
        self.released = released
        self.reasons = list(reasons)
        self.at = {_grade_id(cell): index for index, cell in enumerate(released.cells) if _grade_id(cell)}
        self.exercises = [entry.name for entry in lesson.exercises if f"check-{entry.name}" in self.at]
        self.placed = self._placed(cells)
        self.theirs = {each.at: each.cell for each in self.placed if each.at is not None}

    def done(self) -> Rebuilt:
        rebuilt = Rebuilt(NotebookNode(), reasons=self.reasons)
        self._find_answers(rebuilt)
        self._build(rebuilt)
        self._note_missing(rebuilt)
        self._note_changes()
        return rebuilt

    # Which cell is which.

    def _placed(self, cells: list[HandedCell]) -> list[_Placed]:
        last = {cell.grade_id: cell for cell in cells if cell.grade_id in self.at}
        free = _Unmarked(self.released)
        placed = []
        for cell in cells:
            if cell.grade_id not in self.at:
                placed.append(_Placed(cell, free.take(cell)))
            elif last[cell.grade_id] is cell:
                placed.append(_Placed(cell, self.at[cell.grade_id]))
            else:
                placed.append(_Placed(cell, None, copied=True))
        return placed

    def _source(self, index: int) -> str | None:
        """The source that counts of a released cell; None: it is the student's to write, and there is none."""
        mine, theirs = self.released.cells[index], self.theirs.get(index)
        if not _is_students(mine):
            return str(mine.source)
        if theirs is None or (mine.cell_type == "code" and _is_too_long(theirs)):
            return None if _flag(mine, "solution") else str(mine.source)
        return theirs.source

    # The answers.

    def _find_answers(self, rebuilt: Rebuilt) -> None:
        history, checks = self._history()
        for name in self.exercises:
            own = self.theirs.get(self.at[name]) if name in self.at else None
            if own is not None and _is_too_long(own):
                rebuilt.problems[name] = (
                    f"The cell with `{name}` has more than {MAX_CODE:,} characters: make it shorter."
                )
                continue
            before = history[: checks.get(name, len(history))]
            try:
                answer = _answer(name, before, own)
            except AnswerError as error:
                rebuilt.problems[name] = str(error)
            else:
                rebuilt.answers[name] = answer.source
                rebuilt.elsewhere[name] = answer.elsewhere

    def _history(self) -> tuple[list[Executed], dict[str, int]]:
        """The cells in the order in which plain nbgrader would run them, and how many stand before each check."""
        history: list[Executed] = []
        checks: dict[str, int] = {}
        for each in self.placed:
            cell_type, source = each.cell.cell_type, each.cell.source
            if each.at is not None and (grade_id := _grade_id(self.released.cells[each.at])):
                mine = self.released.cells[each.at]
                cell_type = mine.cell_type
                source = each.cell.source if _flag(mine, "solution") else mine.source
                if grade_id.startswith("check-"):
                    checks[grade_id.removeprefix("check-")] = len(history)
            if cell_type == "code" and source.strip() and len(source) <= MAX_CODE:
                history.append(executed(len(history) + 1, source.rstrip("\n")))
        return history, checks

    def _note_missing(self, rebuilt: Rebuilt) -> None:
        missing = [name for name in self.exercises if self.at.get(name) not in self.theirs]
        for names, said in (
            ([name for name in missing if name in rebuilt.answers], "what another cell defines was graded instead"),
            ([name for name in missing if name in rebuilt.problems], "there was nothing to grade"),
        ):
            if names:
                self.reasons.append(
                    Reason(
                        "missing cell",
                        f"Without its answer cell: {listed(names)}; {said}. Take the lesson's notebook anew, and put "
                        "each answer into its cell.",
                    )
                )

    # The notebook.

    def _build(self, rebuilt: Rebuilt) -> None:
        ids = _Ids(self.released)
        cells: list[NotebookNode] = []
        after = self._kept_after()
        for index in range(-1, len(self.released.cells)):
            if index >= 0:
                cell = self._rebuilt_cell(index, ids, rebuilt)
                if own := self._own(index, cell, len(cells)):
                    rebuilt.own_cells.append(own)
                cells.append(cell)
            cells.extend(_kept(each, ids) for each in after.get(index, []))
        rebuilt.notebook = NotebookNode(
            cells=cells, metadata=copy.deepcopy(self.released.metadata), nbformat=4, nbformat_minor=5
        )

    def _kept_after(self) -> dict[int, list[_Placed]]:
        """The student's own cells, by the released cell that they stand behind (-1: at the top)."""
        after: dict[int, list[_Placed]] = {}
        last = -1
        for each in self.placed:
            if each.at is None:
                after.setdefault(last, []).append(each)
            else:
                last = each.at
        return after

    def _rebuilt_cell(self, index: int, ids: _Ids, rebuilt: Rebuilt) -> NotebookNode:
        mine, theirs = self.released.cells[index], self.theirs.get(index)
        source, metadata = self._source(index), copy.deepcopy(dict(mine.metadata))
        attachments = mine.get("attachments")
        if source is None:
            source = rebuilt.answers.get(_grade_id(mine), _missing(mine))
        elif theirs is not None and _is_students(mine):
            attachments = theirs.attachments
            if not _grade_id(mine) and source != mine.source:
                metadata[KEPT] = "edited by the student; not run"
        return _node(mine.cell_type, ids.of(index), metadata, source, attachments)

    def _own(self, index: int, cell: NotebookNode, place: int) -> OwnCell | None:
        mine = self.released.cells[index]
        grade_id = _grade_id(mine)
        known = {SET_UP, *self.exercises, *(f"check-{name}" for name in self.exercises)}
        if not grade_id or grade_id in known or not any(_flag(mine, flag) for flag in _FLAGS[:4]):
            return None
        solution = _flag(mine, "solution")
        return OwnCell(
            grade_id,
            place,
            mine.cell_type,
            cell.source if index in self.theirs or not solution else "",
            solution,
            _flag(mine, "grade"),
            _points(mine),
            untouched=solution and (index not in self.theirs or _is_untouched(mine, cell)),
        )

    # What an instructor should know.

    def _note_changes(self) -> None:
        copies = Counter(each.cell.grade_id for each in self.placed if each.copied)
        for grade_id, count in list(copies.items())[:5]:
            self.reasons.append(
                Reason(
                    "duplicate cell",
                    f"There are {count + 1} cells with the id `{grade_id}`. Only the last is taken for it: delete the "
                    "others, and make new cells instead of copying these.",
                )
            )
        strange = [each.cell for each in self.placed if each.at is None and not each.copied and each.cell.marks]
        if named := [cell.grade_id or f"cell {cell.number}" for cell in strange if _claims(cell)]:
            self.reasons.append(
                Reason(
                    "foreign cell",
                    f"Not of this lesson, though marked as graded: {listed(named)}. It was kept to be read, and "
                    "neither run nor graded: put answers into the lesson's own cells.",
                )
            )
        changed, marked = [], []
        for each in self.placed:
            mine = self.released.cells[each.at] if each.at is not None else None
            if mine is None or not _grade_id(mine):
                continue
            if not _is_students(mine) and each.cell.source.strip() != mine.source.strip():
                changed.append(_grade_id(mine))
            if _marks_differ(each.cell, mine):
                marked.append(_grade_id(mine))
        if changed:
            self.reasons.append(
                Reason("changed cell", f"Locked, but changed: {listed(changed)}. The released source was used.")
            )
        if marked:
            self.reasons.append(
                Reason(
                    "changed metadata",
                    f"Points or marks of {listed(marked)} were changed. The released ones were used.",
                )
            )


def _answer(name: str, history: Sequence[Executed], own: HandedCell | None) -> Answer:
    """As `autograder.answers.find_answer` decides under nbgrader: where no cell is the answer cell, any may be it."""

    def counts(cell: Executed) -> bool:
        return own is None or cell.source.strip() == own.source.strip()

    return answer_among(name, history, counts, without_magics)


class _Unmarked:
    """The released cells without a grade_id, each to be found once: by its id, or by what it says."""

    def __init__(self, released: NotebookNode) -> None:
        plain = [(index, cell) for index, cell in enumerate(released.cells) if not _grade_id(cell)]
        self._by_id = {(cell.cell_type, cell.get("id")): index for index, cell in plain if cell.get("id")}
        self._by_source: dict[tuple[str, str], list[int]] = {}
        for index, cell in reversed(plain):
            self._by_source.setdefault((cell.cell_type, cell.source), []).append(index)
        self._taken: set[int] = set()

    def take(self, cell: HandedCell) -> int | None:
        index = self._by_id.get((cell.cell_type, cell.cell_id))
        if index is None or index in self._taken:
            same = self._by_source.get((cell.cell_type, cell.source), [])
            while same and same[-1] in self._taken:
                same.pop()
            index = same[-1] if same else None
        if index is not None:
            self._taken.add(index)
        return index


class _Ids:
    """An id for every cell, none twice."""

    def __init__(self, released: NotebookNode) -> None:
        self._released = [cell.get("id") or "" for cell in released.cells]
        self._used = set(self._released)
        self._count = 0

    def of(self, index: int) -> str:
        return self._released[index] or self.new("released")

    def new(self, kind: str) -> str:
        while True:
            self._count += 1
            if (made := f"{kind}-{self._count}") not in self._used:
                return made


def _kept(each: _Placed, ids: _Ids) -> NotebookNode:
    """A cell that is not of the lesson, to be read only."""
    cell, source, cell_type = each.cell, each.cell.source, each.cell.cell_type
    if cell_type == "raw":  # it would go into a page as it stands: quoted, it can be read and does nothing
        cell_type, source = "markdown", "\n".join(f"    {line}" for line in source.splitlines())
    said = "a copy of another cell; not run" if each.copied else "added by the student; not run"
    return _node(cell_type, ids.new("kept"), {KEPT: said}, source, cell.attachments)


def _node(
    cell_type: str, cell_id: str, metadata: dict[str, Any], source: str, attachments: dict | None
) -> NotebookNode:
    plain: dict[str, Any] = {"cell_type": cell_type, "id": cell_id, "metadata": metadata, "source": source}
    if cell_type == "code":
        plain |= {"outputs": [], "execution_count": None}
    elif attachments:
        plain["attachments"] = attachments
    return NotebookNode(plain)


def _missing(mine: NotebookNode) -> str:
    said = "This cell was missing from what was handed in, or too long."
    return f"# {said}" if mine.cell_type == "code" else said


def _marks(mine: NotebookNode) -> dict[str, Any]:
    return mine.metadata.get("nbgrader", {})


def _grade_id(mine: NotebookNode) -> str:
    return str(_marks(mine).get("grade_id", ""))


def _flag(mine: NotebookNode, flag: str) -> bool:
    return bool(_marks(mine).get(flag, False))


def _points(mine: NotebookNode) -> float:
    return float(_marks(mine).get("points", 0))


def _is_students(mine: NotebookNode) -> bool:
    """Is the source the student's to write? Answers, and code that is only there to be played with."""
    return _flag(mine, "solution") or (not _grade_id(mine) and mine.cell_type == "code")


def _is_untouched(mine: NotebookNode, cell: NotebookNode) -> bool:
    """As nbgrader tells it: by the checksum of the release, where there is one."""
    from nbgrader.utils import compute_checksum

    if checksum := _marks(mine).get("checksum"):
        return bool(compute_checksum(cell) == checksum)
    return bool(cell.source == mine.source)


def _is_too_long(cell: HandedCell) -> bool:
    """For code; the cell may be handed in as text, of which more is read."""
    return cell.too_long or len(cell.source) > MAX_CODE


def _claims(cell: HandedCell) -> bool:
    return bool(cell.grade_id) or any(cell.marks.get(flag) for flag in _FLAGS)


def _marks_differ(cell: HandedCell, mine: NotebookNode) -> bool:
    return any(flag in cell.marks and cell.marks[flag] != _marks(mine).get(flag, 0) for flag in _FLAGS)
