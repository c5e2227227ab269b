"""One run of ``crosstalk grade``: what is new is graded, journalled once, and written where nbgrader looks.

The journal decides what has been graded; nbgrader's gradebook and the autograded notebooks are written from it, and
can be written again. So a run may be killed at any moment: the next one goes on where the journal ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

from autograder.grading.cluster import Order, Outcome, Task, grade_all
from autograder.grading.environment import environment
from autograder.grading.gradebook import Writer
from autograder.grading.journal import Journal, digest, key
from autograder.grading.lock import alone
from autograder.grading.results import Graded, Reason
from autograder.grading.submissions import Submission, find, read
from autograder.pack_files import pack_files
from autograder.sandbox.pool import Layers
from crosstalk.course import Lesson

WRITE_EVERY = 20  # results in one transaction


class Timing(NamedTuple):
    """How long a submission took, in seconds."""

    student: str
    total: float
    cells: float  # of which the student's code


@dataclass
class Report:
    """What a run has done so far. It holds little of each submission: there may be very many."""

    to_grade: int = 0
    unchanged: int = 0  # graded before, as they are now
    graded: list[Timing] = field(default_factory=list)
    noted: dict[str, list[Reason]] = field(default_factory=dict)  # student → what was odd about what was graded
    refused: list[Submission] = field(default_factory=list)  # no student's folder that could be graded
    failures: list[Outcome] = field(default_factory=list)  # faults of the machine or of ours
    unwritten: dict[str, str] = field(default_factory=dict)  # student → why the gradebook does not take the result
    stopped: bool = False  # by Ctrl-C, before all was graded

    @property
    def done(self) -> int:
        """How many of those to grade this run is through with."""
        return len(self.graded) + len(self.failures)

    def add(self, graded: Graded) -> None:
        """One more is graded."""
        total, cells = sum(graded.seconds.values()), graded.seconds.get("cells", 0.0)
        self.graded.append(Timing(graded.student, total, cells))
        if graded.reasons:
            self.noted[graded.student] = graded.reasons

    def reasons(self) -> Counter[str]:
        """How many submissions have which kind of reason."""
        kinds = [{reason.kind for reason in reasons} for reasons in self.noted.values()]
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
    layers: Layers = field(default_factory=Layers)
    missing: str = ""
    again: bool = False


@dataclass(frozen=True)
class _Basis:
    """What all verdicts of a run depend on, beside the submission."""

    packs: str
    environment: str

    def task(self, submission: Submission) -> Task:
        """Read a submission. Raises ``OSError`` where the machine fails, or does not let us."""
        handed = read(submission)
        kinds = b"".join(reason.kind.encode() for reason in handed.reasons)
        told = digest(handed.content or b"", handed.timestamp.encode(), kinds)
        known = key(submission.student, submission.lesson, told.encode(), self.packs, self.environment)
        return Task(submission.student, known, handed.content, handed.timestamp, handed.reasons)


def grade(root: Path, submitted: Path, lesson: Lesson, released: NotebookNode, writer: Writer, options: Options,
          told: Callable[[Report], None] = lambda report: None) -> Report:  # fmt: skip
    """Grade the submissions of a lesson that are new or changed.

    Ctrl-C ends it early: what is graded by then is written, and the report says that it was stopped.

    Args:
        root: the class's folder; the journal lies there.
        submitted: its folder of submissions.
        released: the notebook that submissions are rebuilt on.
        writer: into gradebook and autograded notebooks.
        told: is called with the report so far whenever it has changed.

    Raises:
        BusyError: another command is grading in this folder.
        JournalError: the journal cannot be used.
        ClassError, OSError: the class's folder cannot be read or written. What is in the journal by then is not lost.
    """
    with alone(root), Journal.beside(root) as journal:
        report = Report()
        _write(journal, writer, journal.unwritten(), report)  # of a run that was killed
        order = Order(lesson.id, nbformat.writes(released), options.layers, options.missing)
        packs = digest(*(path.read_bytes() for path in pack_files(lesson)), order.released.encode())
        basis = _Basis(packs, environment(options.missing))
        try:
            new = _new(find(submitted, lesson, options.students), lesson.id, basis, journal, writer, options, report)
            report.to_grade = len(new) + len(report.failures)
            told(report)
            if new:
                _grade_new(_tasks(new, basis, report), order, journal, writer, options, report, told)
        except KeyboardInterrupt:
            report.stopped = True
            _write(journal, writer, journal.unwritten(), report)
        return report


def _new(found: Iterable[Submission], lesson: str, basis: _Basis, journal: Journal, writer: Writer, options: Options,
         report: Report) -> list[Submission]:  # fmt: skip
    """What there is to grade; what needs no grading is noted in the report."""
    new: list[Submission] = []
    known: list[Graded] = []
    standing = journal.standing(lesson)
    for submission in found:
        if submission.reasons:
            report.refused.append(submission)
            continue
        try:
            task = basis.task(submission)
        except OSError as error:
            report.failures.append(_unreadable(submission, error))
            continue
        if options.again:
            new.append(submission)
        elif task.key in standing:
            report.unchanged += 1
        elif earlier := journal.graded(task.key):  # handed in again after something else
            report.unchanged += 1
            known.append(earlier)
        else:
            new.append(submission)
    _write(journal, writer, known, report)
    return new


def _tasks(new: Iterable[Submission], basis: _Basis, report: Report) -> Iterator[Task]:
    """Read them once more, each when its turn comes, so that not all are in memory at once."""
    for submission in new:
        try:
            yield basis.task(submission)
        except OSError as error:
            report.failures.append(_unreadable(submission, error))


def _unreadable(submission: Submission, error: OSError) -> Outcome:
    return Outcome(submission.student, None, f"the folder cannot be read: {error}")


def _grade_new(tasks: Iterator[Task], order: Order, journal: Journal, writer: Writer, options: Options,
               report: Report, told: Callable[[Report], None]) -> None:  # fmt: skip
    waiting: list[Graded] = []
    with closing(grade_all(order, tasks, options.workers)) as outcomes:
        for outcome in outcomes:
            if outcome.graded is None:
                report.failures.append(outcome)
            else:
                journal.record(outcome.graded, anew=options.again)
                waiting.append(outcome.graded)
                report.add(outcome.graded)
            if len(waiting) >= WRITE_EVERY:
                _write(journal, writer, waiting, report)
                waiting = []
            told(report)
    _write(journal, writer, waiting, report)


def _write(journal: Journal, writer: Writer, results: Iterable[Graded], report: Report) -> None:
    """Write results into the class's folder, so many at a time that each transaction is short."""
    rest = iter(results)
    while batch := list(islice(rest, WRITE_EVERY)):
        unfit = writer.write(batch)
        journal.mark_written([graded.key for graded in batch if graded.key not in unfit])
        report.unwritten |= {graded.student: unfit[graded.key] for graded in batch if graded.key in unfit}
