"""Grade one submission after another: rebuild it, have it tried in the sandbox, write the verdicts into it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import nbformat
import torch
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook, new_output

from autograder.grading.conversation import Judged, Talk
from autograder.grading.rebuild import Rebuilt, rebuild, without_answers
from autograder.grading.results import CellResult, Graded, Reason
from autograder.grading.safe_html import cleaned
from autograder.grading.zygotes import new_slots, zygote_for
from autograder.packs import ExercisePack, packs_of, visible_pack
from autograder.report import html
from autograder.sandbox import cgroups
from autograder.sandbox.own_cells import OwnCell
from autograder.sandbox.pool import Layers, SandboxError, Zygote
from crosstalk.course import Lesson

_ATTEMPTS = 3  # at a submission, where the sandbox itself failed


@dataclass
class Grader:
    """Grades the submissions of one lesson, as a context; not for two threads at once.

    Args:
        lesson: whose submissions come.
        released: the notebook they are rebuilt on, with the instructor's own cells.
        layers: of the sandbox; all, unless an instructor has said ``--unsafe``.
        missing: a sentence that names what is missing of the sandbox, or "": every result carries it.
        slots, zygote: where they have been made already; the grader ends them. It makes its own otherwise.
    """

    lesson: Lesson
    released: NotebookNode
    layers: Layers = field(default_factory=Layers)
    missing: str = ""
    slots: Sequence[cgroups.Slot] = ()
    zygote: Zygote | None = None
    _packs: Mapping[str, Sequence[ExercisePack]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        torch.set_num_threads(1)  # what is compared is tiny, and other graders want the other cores
        self._packs = {entry.name: packs_of(entry.name) for entry in self.lesson.exercises}
        self.slots = self.slots or new_slots()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()
        for slot in self.slots:
            slot.close()

    def grade(self, student: str, content: bytes | None, timestamp: str = "", key: str = "",
              reasons: Sequence[Reason] = ()) -> Graded:  # fmt: skip
        """Grade one notebook.

        Args:
            student: who handed it in.
            content: the notebook's bytes, whatever they are; None where there is none, and ``reasons`` say why.
            timestamp: when it was handed in.
            key: the journal's.
            reasons: what was noted when it was read.

        Raises:
            SandboxError: the sandbox failed time and again, which is no fault of the submission's.
        """
        started = time.perf_counter()
        rebuilt = self._rebuilt(content, reasons)
        read = time.perf_counter() - started
        for attempt in range(_ATTEMPTS):
            try:
                talk = Talk(self.lesson, self._packs, self._setup(), self._started(), f"{key} {student}", self.slots)
                judged, shown = talk.judge(rebuilt.answers, rebuilt.problems, rebuilt.elsewhere, _in_order(rebuilt))
                break
            except SandboxError:
                self._close()
                if attempt + 1 == _ATTEMPTS:
                    raise
        began = time.perf_counter()
        notebook = cleaned(rebuilt.notebook, self.released)
        of_answers = (each.reason for each in judged.values() if each.reason)
        noted = list(dict.fromkeys([*reasons, *rebuilt.reasons, *of_answers]))
        cells = _filled_in(notebook, judged, {each.grade_id: each.outputs for each in shown}, noted)
        _tell(notebook, noted, self.missing)
        written = nbformat.writes(notebook, version=4)
        ended = time.perf_counter()
        seconds = {"read": read, **talk.seconds, "notebook": ended - began}
        seconds["other"] = ended - started - sum(seconds.values())
        return Graded(student, self.lesson.id, key, timestamp, cells, noted, written, seconds, self.missing)

    def _rebuilt(self, content: bytes | None, reasons: Sequence[Reason]) -> Rebuilt:
        if content is None:
            return without_answers(self.released, self.lesson, reasons[0])
        return rebuild(self.released, content, self.lesson)

    def _setup(self) -> str:
        return visible_pack(self.lesson).setup

    def _started(self) -> Zygote:
        if self.zygote is None:
            self.zygote = zygote_for(self.lesson, self.released, self.layers, self.slots)
        self.zygote.start()
        return self.zygote

    def _close(self) -> None:
        if self.zygote:
            self.zygote.close()
            self.zygote = None


def _in_order(rebuilt: Rebuilt) -> list[OwnCell]:
    """The cells that run together where an instructor has added some: answers and those cells, as they stand."""
    own = {cell.grade_id for cell in rebuilt.own_cells if cell.runs}
    found = []
    for cell in rebuilt.notebook.cells:
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        if cell.cell_type == "code" and (grade_id in rebuilt.answers or grade_id in own):
            found.append(OwnCell(grade_id, cell.source, grade_id in own))
    return found


def _filled_in(notebook: NotebookNode, judged: Mapping[str, Judged],
               outputs: Mapping[str, list[NotebookNode]], noted: list[Reason]) -> list[CellResult]:  # fmt: skip
    """Give each graded cell what came of it, as if it had run there; what is odd about that is added to ``noted``."""
    results = []
    for count, cell in enumerate(notebook.cells, start=1):
        settings = cell.metadata.get("nbgrader", {})
        grade_id, name = settings.get("grade_id", ""), settings.get("grade_id", "").removeprefix("check-")
        found = judged.get(name) if grade_id.startswith("check-") and settings.get("grade") else None
        if found:
            data = {"text/plain": repr(found.verdict), "text/html": html(found.verdict)}
            cell.execution_count = count
            result = {"output_type": "execute_result", "data": data, "execution_count": count, "metadata": {}}
            cell.outputs = [nbformat.from_dict(result)]
            results.append(CellResult(grade_id, found.verdict.points, settings["points"], data["text/plain"],
                                      data["text/html"], found.verdict.mistake, found.lower_assurance))  # fmt: skip
            continue
        if grade_id in outputs:
            cell.execution_count, cell.outputs = count, outputs[grade_id]
        if settings.get("grade"):
            from nbgrader.utils import determine_grade  # a second to import, and most lessons have no such cell

            try:
                points, most = determine_grade(cell)
            except (KeyError, ValueError):  # the output is empty, or above the maximum: plain nbgrader goes no further
                said = f"What `{grade_id}` gave is no number of points from 0 to {settings['points']:g}: it counts 0."
                noted.append(Reason("impossible points", said))
                cell.outputs = [new_output("error", ename="ImpossiblePoints", evalue=said, traceback=[said])]
                points, most = determine_grade(cell)
            results.append(CellResult(grade_id, points, most, "", lower_assurance=True))
    return results


def _tell(notebook: NotebookNode, reasons: Sequence[Reason], missing: str) -> None:
    """Say at the top of the notebook what did not count as it was handed in, and what the sandbox lacked."""
    told = [f"- {reason.sentence}" for reason in reasons] + ([f"- {missing}"] if missing else [])
    if told:
        cell = new_markdown_cell("\n".join(["**What was noted when this was graded**", "", *told]))
        cell.id = "noted-when-graded"  # names that students chose stand in it
        notebook.cells.insert(0, cleaned(new_notebook(cells=[cell])).cells[0])
