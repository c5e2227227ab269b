"""One run of ``crosstalk grade``: what is new is graded, journalled once, and written where nbgrader looks.

The journal decides what has been graded; nbgrader's gradebook and the autograded notebooks are written from it, and
can be written again. So a run may be killed at any moment: the next one goes on where the journal ends.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from autograder.grading.cluster import Order, Outcome, Task, grade_all
from autograder.grading.environment import environment
from autograder.grading.gradebook import Writer
from autograder.grading.journal import Journal, digest, key
from autograder.grading.lock import alone
from autograder.grading.results import Graded
from autograder.grading.submissions import Submission, find, read
from autograder.packs import pack_files
from autograder.sandbox.pool import Layers
from crosstalk.course import Lesson

WRITE_EVERY = 20  # results in one transaction


@dataclass
class Report:
    """What a run has done so far."""

    to_grade: int = 0
    unchanged: int = 0
    graded: list[Graded] = field(default_factory=list)  # without their notebooks, which would fill the memory
    refused: list[Submission] = field(default_factory=list)  # no student's folder that could be graded
    failures: list[Outcome] = field(default_factory=list)  # faults of the machine or of ours
    unwritten: dict[str, str] = field(default_factory=dict)  # student → why the gradebook does not take the result

    def reasons(self) -> Counter[str]:
        """How many submissions have which kind of reason."""
        kinds = [{reason.kind for reason in graded.reasons} for graded in self.graded]
        kinds += [{reason.kind for reason in submission.reasons} for submission in self.refused]
        return Counter(kind for each in kinds for kind in each)


@dataclass(frozen=True)
class Options:
    """How a run grades.

    Args:
        students: only these; all if None.
        workers: processes that grade.
        layers, missing: of the sandbox (see `autograder.grading.grader.Grader`).
        again: grade what is unchanged, too.
    """

    students: list[str] | None = None
    workers: int = 1
    layers: Layers = dataclasses.field(default_factory=Layers)
    missing: str = ""
    again: bool = False


def grade(root: Path, submitted: Path, lesson: Lesson, released: NotebookNode, writer: Writer, options: Options,
          told: Callable[[Report], None] = lambda report: None) -> Report:  # fmt: skip
    """Grade the submissions of a lesson that are new or changed.

    Args:
        root: the class's folder; the journal lies there.
        submitted: its folder of submissions.
        released: the notebook that submissions are rebuilt on.
        writer: into gradebook and autograded notebooks.
        told: is called with the report so far whenever it has changed.

    Raises:
        BusyError: another command is grading in this folder.
        JournalError: the journal cannot be used.
    """
    with alone(root), Journal.beside(root) as journal:
        report = Report()
        _write(journal, writer, list(journal.unwritten()), report)  # of a run that was killed
        order = Order(lesson.id, nbformat.writes(released), options.layers, options.missing)
        tasks = _tasks(submitted, lesson, order, journal, options, report)
        report.to_grade = len(tasks)
        told(report)
        waiting: list[Graded] = []
        try:
            for outcome in grade_all(order, tasks, options.workers) if tasks else ():
                if outcome.graded is None:
                    report.failures.append(outcome)
                else:
                    journal.record(outcome.graded)
                    waiting.append(outcome.graded)
                    report.graded.append(dataclasses.replace(outcome.graded, notebook=""))
                if len(waiting) >= WRITE_EVERY:
                    _write(journal, writer, waiting, report)
                    waiting = []
                told(report)
        finally:  # when it is interrupted, too
            _write(journal, writer, waiting, report)
        return report


def _tasks(submitted: Path, lesson: Lesson, order: Order, journal: Journal, options: Options,
           report: Report) -> list[Task]:  # fmt: skip
    """What there is to grade; what needs no grading is noted in the report."""
    packs = digest(*(path.read_bytes() for path in pack_files(lesson)), order.released.encode())
    here = environment(options.missing)
    standing = journal.standing(lesson.id)
    tasks = []
    for submission in find(submitted, lesson, options.students):
        if submission.reasons:
            report.refused.append(submission)
            continue
        handed = read(submission)
        content = handed.content or b""
        told = digest(content, handed.timestamp.encode(), b"".join(reason.kind.encode() for reason in handed.reasons))
        known = key(submission.student, lesson.id, told.encode(), packs, here)
        if known in standing and not options.again:
            report.unchanged += 1
        else:
            tasks.append(Task(submission.student, known, handed.content, handed.timestamp, handed.reasons))
    return tasks


def _write(journal: Journal, writer: Writer, results: list[Graded], report: Report) -> None:
    if not results:
        return
    unfit = writer.write(results)
    journal.mark_written([graded.key for graded in results if graded.key not in unfit])
    report.unwritten |= {graded.student: unfit[graded.key] for graded in results if graded.key in unfit}
