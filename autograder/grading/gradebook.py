"""Verdicts into nbgrader's own gradebook and autograded notebooks, as `nbgrader autograde` leaves them.

nbgrader's converters save one cell at a time, each in a transaction of its own. Here many submissions share one; the
rules are those of its SaveAutoGrades, AssignLatePenalties and Autograde.init_assignment (nbgrader 0.9.6), and its own
functions tell grades, penalties and checksums.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nbformat import from_dict
from nbformat.v4.rwbase import rejoin_lines
from sqlalchemy import select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import selectinload

from autograder.grading.autograded import Autograded
from autograder.grading.class_folder import QUIET, ClassError, gradebook_of, released_assignment
from autograder.grading.results import Graded

if TYPE_CHECKING:
    from nbgrader.api import SubmittedAssignment, SubmittedNotebook
    from nbgrader.coursedir import CourseDirectory

_PATIENCE = 60_000  # milliseconds for which the gradebook waits for formgrader


class UnfitError(ValueError):
    """One verdict does not fit the gradebook; the message says why."""


@dataclass(frozen=True)
class _Lesson:
    """What the gradebook knows of a lesson: ids of rows, by the names of its cells."""

    id: str
    notebook_id: str
    notebook: str
    grade_cells: dict[str, str]
    task_cells: dict[str, str]
    solution_cells: dict[str, str]
    extra: list[str]


@dataclass(frozen=True)
class _Found:
    """What one notebook says, as nbgrader would read it."""

    graded: Graded
    content: bytes
    timestamp: datetime | None
    scores: dict[str, float | None]
    comments: dict[str, str | None]


class Writer:
    """Writes verdicts into one class's folder. A context manager: it holds the gradebook open."""

    def __init__(self, coursedir: CourseDirectory) -> None:
        """See `autograder.grading.class_folder.course_directory`.

        Raises:
            ClassError: there is no gradebook, or it cannot be used.
        """
        from nbgrader.converters import Autograde
        from nbgrader.preprocessors import AssignLatePenalties

        converter = Autograde(coursedir=coursedir, config=coursedir.config, log=QUIET)
        self._coursedir = coursedir
        self._creates_students = converter.create_student
        self._files = Autograded(coursedir, converter)
        self._late = AssignLatePenalties(config=coursedir.config, log=QUIET)
        self._late.init_plugin()
        with ExitStack() as stack:
            self._book = stack.enter_context(gradebook_of(coursedir))
            self._open = stack.pop_all()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def write(self, batch: Iterable[Graded]) -> dict[str, str]:
        """Write the notebooks, then all rows in one transaction; the same again changes nothing.

        Of two verdicts on one student's lesson the later stays.

        Returns:
            For each verdict that could not be written, by its key: why. The others are written.

        Raises:
            ClassError: a lesson was never released, the gradebook cannot be written, or the class's rule for late work
                fails: nothing is in the gradebook then.
            OSError: a file cannot be written: nothing is in the gradebook then.
        """
        refused: dict[str, str] = {}
        session = self._book.db
        try:
            if self._book.engine.dialect.name == "sqlite":
                # Only one can write: who begins to read and then wants to write may find that another did.
                session.execute(text(f"PRAGMA busy_timeout = {_PATIENCE}"))
                session.execute(text("BEGIN IMMEDIATE"))
            lessons: dict[str, _Lesson] = {}
            found: dict[str, dict[str, _Found]] = {}
            for graded in batch:
                if graded.lesson not in lessons:
                    lessons[graded.lesson] = self._lesson(graded.lesson)
                try:
                    found.setdefault(graded.lesson, {})[graded.student] = _read(graded, lessons[graded.lesson])
                except UnfitError as error:
                    refused[graded.key] = str(error)
            for name, ones in found.items():
                self._write_lesson(lessons[name], ones, refused)
            session.commit()
        except DatabaseError as error:
            raise ClassError(
                f"The gradebook of {self._coursedir.root} cannot be written now ({error.orig}): see that no other "
                "program holds it and that there is space left; then run the same command again. Nothing is lost."
            ) from error
        finally:
            session.remove()
        return refused

    def _lesson(self, name: str) -> _Lesson:
        assignment = released_assignment(self._book, self._coursedir, name)
        [notebook] = assignment.notebooks
        return _Lesson(
            id=assignment.id,
            notebook_id=notebook.id,
            notebook=notebook.name,
            grade_cells={cell.name: cell.id for cell in notebook.grade_cells},
            task_cells={cell.name: cell.id for cell in notebook.task_cells},
            solution_cells={cell.name: cell.id for cell in notebook.solution_cells},
            extra=self._files.source_files(name),
        )

    def _write_lesson(self, lesson: _Lesson, found: dict[str, _Found], refused: dict[str, str]) -> None:
        submissions = self._submissions(lesson, found, refused)
        for student, one in found.items():
            if student not in submissions:
                continue
            if not _mirrors(submissions[student], lesson):
                refused[one.graded.key] = (
                    f"The gradebook's rows of {student}'s {one.graded.lesson} are of an earlier release: "
                    "remove that submission in the gradebook, then grade again."
                )
                del submissions[student]
                continue
            self._files.write(student, one.graded.lesson, lesson.notebook, one.content, one.timestamp, lesson.extra)
            if one.timestamp:
                submissions[student].timestamp = one.timestamp
            [notebook] = submissions[student].notebooks
            if one.content:
                _save(notebook, one, lesson)
            else:
                _save_nothing(notebook)
        self._book.db.flush()
        if self._late.enabled:
            for student, submission in submissions.items():
                self._penalize(student, submission)

    def _submissions(
        self, lesson: _Lesson, found: dict[str, _Found], refused: dict[str, str]
    ) -> dict[str, SubmittedAssignment]:
        """The submissions' rows by student, made with all rows below them where they are missing."""
        from nbgrader.api import Comment, Grade, Student, SubmittedAssignment, SubmittedNotebook

        session = self._book.db
        students = set(session.scalars(select(Student.id).where(Student.id.in_(found))))
        below = selectinload(SubmittedAssignment.notebooks)
        rows = session.scalars(
            select(SubmittedAssignment)
            .where(SubmittedAssignment.assignment_id == lesson.id, SubmittedAssignment.student_id.in_(found))
            .options(below.selectinload(SubmittedNotebook.grades), below.selectinload(SubmittedNotebook.comments))
        )
        submissions = {row.student_id: row for row in rows}
        for student, one in found.items():
            if student not in students:
                if not self._creates_students:
                    refused[one.graded.key] = (
                        f"{student} is not in the gradebook, and nbgrader_config.py says not to add students: "
                        f"run `nbgrader db student add`, then grade again."
                    )
                    continue
                session.add(Student(id=student))
            if student not in submissions:
                notebook = SubmittedNotebook(notebook_id=lesson.notebook_id)
                graded = [*lesson.grade_cells.values(), *lesson.task_cells.values()]
                commented = [*lesson.solution_cells.values(), *lesson.task_cells.values()]
                notebook.grades = [Grade(cell_id=cell) for cell in graded]
                notebook.comments = [Comment(cell_id=cell) for cell in commented]
                submissions[student] = SubmittedAssignment(assignment_id=lesson.id, student_id=student)
                submissions[student].notebooks = [notebook]
                session.add(submissions[student])
        return submissions

    def _penalize(self, student: str, submission: SubmittedAssignment) -> None:
        """What nbgrader's AssignLatePenalties does, with the plug-in that the class has configured."""
        [notebook] = submission.notebooks
        notebook.late_submission_penalty = None
        if submission.total_seconds_late > 0:
            late = submission.total_seconds_late
            try:
                penalty = self._late.plugin_inst.late_submission_penalty(student, notebook.score, late)
            except Exception as error:
                raise ClassError(
                    f"The class's own rule for late work, {self._late.plugin_class.__name__}, fails on {student} "
                    f"({error!r}): mend it, then run the same command again. Nothing is lost."
                ) from error
            if penalty is not None:
                notebook.late_submission_penalty = self._late._check_late_penalty(notebook, penalty)


def _read(graded: Graded, lesson: _Lesson) -> _Found:
    """Read the notebook as nbgrader's SaveAutoGrades does, and see that it says what the verdict says."""
    from nbgrader.utils import parse_utc

    whose = f"{graded.student}'s {graded.lesson}"
    try:
        graded.student.encode()
    except UnicodeEncodeError:
        raise UnfitError(
            f"The folder name {graded.student!a} is no text that the gradebook can keep: rename it, then grade again."
        ) from None
    if graded.student in ("", ".", "..") or len(graded.student) > 128 or set(graded.student) & {"/", "\0"}:
        raise UnfitError(f"{graded.student!r} cannot be a student's name in the gradebook: rename the folder.")
    try:
        timestamp = parse_utc(graded.timestamp) if graded.timestamp else None
    except ValueError:
        raise UnfitError(f"The time {graded.timestamp!r} of {whose} cannot be read: mend its timestamp.txt.") from None
    if not graded.notebook:
        return _Found(graded, b"", timestamp, {}, {})
    try:
        content = graded.notebook.encode()
        scores, comments = _scores_and_comments(json.loads(graded.notebook)["cells"], lesson)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnfitError(f"The graded notebook of {whose} cannot be read ({error!r}).") from error
    for cell in graded.cells:
        if cell.grade_id in scores and scores[cell.grade_id] != cell.points:
            raise UnfitError(
                f"{cell.grade_id} of {whose} has {cell.points} points by its verdict, but nbgrader would read "
                f"{scores[cell.grade_id]} from the graded notebook."
            )
    return _Found(graded, content, timestamp, scores, comments)


def _scores_and_comments(cells: list[Any], lesson: _Lesson) -> tuple[dict[str, float | None], dict[str, str | None]]:
    """Points and automatic comments by cell.

    Raises:
        ValueError: the graded cells are not exactly the lesson's, or one says nothing that nbgrader understands.
    """
    from nbgrader.utils import compute_checksum, determine_grade, is_grade, is_solution, is_task

    scores: list[tuple[str, float | None]] = []
    comments: list[tuple[str, str | None]] = []
    marked = [cell for cell in cells if cell["metadata"].get("nbgrader")]
    for cell in rejoin_lines(from_dict({"cells": marked})).cells:
        marks = cell.metadata.nbgrader
        if is_grade(cell):
            points, _ = determine_grade(cell, QUIET)
            scores.append((marks.grade_id, points))
        if is_solution(cell) or is_task(cell):
            untouched = not is_task(cell) and marks.get("checksum") == compute_checksum(cell)
            comments.append((marks.grade_id, "No response." if untouched else None))
    if sorted(name for name, _ in scores) != sorted(lesson.grade_cells):
        raise ValueError(f"its graded cells are not those of the gradebook, {', '.join(lesson.grade_cells)}")
    if sorted(name for name, _ in comments) != sorted({**lesson.solution_cells, **lesson.task_cells}):
        raise ValueError("its answer cells are not those of the gradebook")
    return dict(scores), dict(comments)


def _mirrors(submission: SubmittedAssignment, lesson: _Lesson) -> bool:
    """Has the submission a row for each cell of the lesson? nbgrader makes them once and never again."""
    if [notebook.notebook_id for notebook in submission.notebooks] != [lesson.notebook_id]:
        return False
    [notebook] = submission.notebooks
    grades = {grade.cell_id for grade in notebook.grades}
    comments = {comment.cell_id for comment in notebook.comments}
    return grades >= {*lesson.grade_cells.values(), *lesson.task_cells.values()} and comments >= {
        *lesson.solution_cells.values(),
        *lesson.task_cells.values(),
    }


def _save(notebook: SubmittedNotebook, one: _Found, lesson: _Lesson) -> None:
    grades = {grade.cell_id: grade for grade in notebook.grades}
    for name, points in one.scores.items():
        grade = grades[lesson.grade_cells[name]]
        grade.auto_score = points
        # An earlier score by a person stays, and is to be looked at again.
        grade.needs_manual_grade = grade.manual_score is not None or points is None
    comments = {comment.cell_id: comment for comment in notebook.comments}
    for name, told in one.comments.items():
        comments[lesson.task_cells.get(name) or lesson.solution_cells[name]].auto_comment = told


def _save_nothing(notebook: SubmittedNotebook) -> None:
    """No notebook was handed in that could be graded: zero, as nbgrader gives for a missing one."""
    for grade in notebook.grades:
        grade.auto_score = 0
        grade.needs_manual_grade = False
