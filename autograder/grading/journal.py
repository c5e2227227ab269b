"""The journal: every verdict is written down once, before anything is done with it.

A verdict is known by a hash of all that it depends on, so that an unchanged submission is not run again, and a run
that was killed goes on where it was. Writing down a verdict and writing it into the class's folder are two steps;
the journal knows which verdicts the folder still lacks, and writing those again does no harm.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    delete,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError, SQLAlchemyError

from autograder.grading.results import Graded

VERSION = 1  # of the tables below
_PATIENCE = 30_000  # milliseconds for which SQLite waits for another process

_TABLES = MetaData()
_JOURNAL = Table("crosstalk_journal", _TABLES, Column("version", Integer, nullable=False))
_VERDICTS = Table(
    "crosstalk_verdict",
    _TABLES,
    Column("number", Integer, primary_key=True),  # in the order in which they were written down
    Column("key", String(64), nullable=False, unique=True),
    Column("student", Text, nullable=False),
    Column("lesson", Text, nullable=False),
    Column("state", String(8), nullable=False),
    Column("graded", Text, nullable=False),  # `Graded.to_json`
    Index("crosstalk_verdict_of", "lesson", "student"),
    Index("crosstalk_verdict_state", "state"),
)
# A verdict's states: written down only; what the class's folder holds now; overtaken by another of the same student.
_NEW, _STANDING, _REPLACED = "new", "standing", "replaced"


class JournalError(RuntimeError):
    """The journal cannot be used; the message says why and what to do."""


def digest(*parts: bytes) -> str:
    """A hash of several pieces, which also tells where one ends and the next begins."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


def key(student: str, lesson: str, content: bytes, packs: str, environment: str) -> str:
    """By what the journal knows a verdict.

    Args:
        content: the submission's bytes, as handed in.
        packs: a hash of what it is judged by: the packs, and the released notebook with the instructor's own cells.
        environment: `autograder.grading.environment.environment`.
    """
    names = (_storable(name).encode() for name in (student, lesson, packs, environment))
    return digest(*names, content)


class Journal:
    """The journal of one class, in any database that SQLAlchemy reaches.

    Raises:
        JournalError: by every method, where the database is damaged, of another version or out of reach.
    """

    def __init__(self, url: str) -> None:
        """Open the journal, or begin one. The URL is SQLAlchemy's, see `beside` for a folder's own."""
        self._shown = url
        with self._said_clearly():
            self._engine = create_engine(url)
            self._shown = self._engine.url.database or self._engine.url.render_as_string()
            if self._engine.dialect.name == "sqlite":
                event.listen(self._engine, "connect", _prepare_sqlite)
            _TABLES.create_all(self._engine)
            with self._engine.begin() as connection:
                # A kill may have come after the tables were made: the version is looked for by itself.
                version = connection.execute(select(_JOURNAL.c.version)).scalar()
                if version is None:
                    connection.execute(insert(_JOURNAL).values(version=VERSION))
        if version not in (None, VERSION):
            raise JournalError(
                f"The journal {self._shown} has version {version}, and this crosstalk reads version {VERSION}: "
                "grade with the crosstalk that wrote it, or move it away to have everything graded anew."
            )

    @classmethod
    def beside(cls, folder: Path) -> Journal:
        """The journal of a class's folder: ``grading.db`` in it."""
        return cls(f"sqlite:///{(folder / 'grading.db').absolute()}")

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def graded(self, key: str) -> Graded | None:
        """The verdict of that key, or None where it was never written down."""
        with self._transaction() as connection:
            text = connection.execute(select(_VERDICTS.c.graded).where(_VERDICTS.c.key == key)).scalar()
        return None if text is None else self._read(text)

    def record(self, graded: Graded, anew: bool = False) -> bool:
        """Write down a verdict, once; when this returns, it outlasts a kill and a power cut.

        Args:
            anew: it was asked for although there is one: it takes the place of that.

        Returns:
            False where a verdict of that key is there already; that one stays.
        """
        student, lesson = _storable(graded.student), _storable(graded.lesson)
        row = insert(_VERDICTS).values(
            key=graded.key, student=student, lesson=lesson, state=_NEW, graded=graded.to_json()
        )
        overtaken = (
            update(_VERDICTS)
            .where(_VERDICTS.c.lesson == lesson, _VERDICTS.c.student == student, _VERDICTS.c.state == _NEW)
            .values(state=_REPLACED)
        )
        try:
            with self._transaction() as connection:
                connection.execute(overtaken)
                if anew:
                    connection.execute(delete(_VERDICTS).where(_VERDICTS.c.key == graded.key))
                connection.execute(row)
        except IntegrityError:
            return False
        return True

    def unwritten(self) -> Iterator[Graded]:
        """The verdicts that were written down and never into the class's folder, oldest first, one at a time."""
        with self._transaction() as connection:
            rows = select(_VERDICTS.c.key).where(_VERDICTS.c.state == _NEW).order_by(_VERDICTS.c.number)
            keys = connection.execute(rows).scalars().all()
        for one in keys:
            if graded := self.graded(one):
                yield graded

    def mark_written(self, keys: Iterable[str]) -> None:
        """Note that the class's folder now holds these verdicts, in this order, each in place of an earlier one."""
        with self._transaction() as connection:
            for one in keys:
                named = select(_VERDICTS.c.lesson, _VERDICTS.c.student).where(_VERDICTS.c.key == one)
                lesson, student = connection.execute(named).one()
                same = (_VERDICTS.c.lesson == lesson, _VERDICTS.c.student == student)
                earlier = update(_VERDICTS).where(*same, _VERDICTS.c.state == _STANDING)
                connection.execute(earlier.values(state=_REPLACED))
                connection.execute(update(_VERDICTS).where(_VERDICTS.c.key == one).values(state=_STANDING))

    def standing(self, lesson: str) -> set[str]:
        """The keys of the verdicts that the class's folder holds now, one a student."""
        rows = select(_VERDICTS.c.key).where(_VERDICTS.c.lesson == _storable(lesson), _VERDICTS.c.state == _STANDING)
        with self._transaction() as connection:
            return set(connection.execute(rows).scalars())

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._said_clearly(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _said_clearly(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except OperationalError as error:
            raise JournalError(
                f"The journal {self._shown} cannot be used now ({error.orig}): see that its folder can be written, "
                "has space left, and that nothing else holds it; then run the same command again."
            ) from error
        except DatabaseError as error:
            raise self._damaged(str(error.orig)) from error
        except SQLAlchemyError as error:
            raise JournalError(f"The journal {self._shown} cannot be opened: {error}.") from error

    def _read(self, text: str) -> Graded:
        try:
            return Graded.from_json(text)
        except (ValueError, TypeError, KeyError) as error:
            raise self._damaged(f"a verdict cannot be read: {error}") from error

    def _damaged(self, how: str) -> JournalError:
        return JournalError(
            f"The journal {self._shown} is damaged ({how}): move it away, and the next run grades everything anew; "
            "the gradebook keeps what persons have entered."
        )


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # in WAL mode the default loses the last ones with the power


def _storable(name: str) -> str:
    """A name as a database can keep it: bytes of a folder's name that are no text are spelt out."""
    return name.encode("utf-8", "backslashreplace").decode()
