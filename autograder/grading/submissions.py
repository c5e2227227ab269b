"""Find and read what was handed in, in nbgrader's layout: ``submitted/STUDENT/LESSON/NAME.ipynb``.

Whoever reads this may be root, and students chose what stands in these folders. So every step down goes
through the descriptor of the folder above, links are not followed, only regular files are opened, and what
is read has a limit. Nothing is unpacked, and nothing outside a submission's own folder is opened.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from autograder.grading.results import Reason
from autograder.grading.shown import listed, shown
from crosstalk.course import Lesson

MAX_NOTEBOOK_BYTES = 20_000_000
MAX_TIMESTAMP_BYTES = 1_000
MAX_ENTRIES = 10_000  # of one folder that are looked at
MAX_STUDENT_NAME = 128  # characters: so wide is the column of nbgrader's gradebook
MAX_NAME_BYTES = 255  # of any file's name

_TIMESTAMP = "timestamp.txt"
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".xz", ".txz", ".zst", ".7z", ".rar")
# How such files begin: an archive may also carry the notebook's name.
_ARCHIVE_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd",
                   b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07")  # fmt: skip
_TAR_MAGIC = slice(257, 262)

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True)
class Submission:
    """A folder that was handed in. With reasons, it cannot be graded as it lies there, and is not read."""

    student: str  # as nbgrader names them; with reasons, fit to be shown
    lesson: str
    folder: Path  # submitted/STUDENT/LESSON
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class Handed:
    """What stood in the folder."""

    content: bytes | None  # the notebook; None: there is nothing to grade, and the reasons say why
    name: str  # the file it was read from, or ""
    timestamp: str  # when it was handed in, ISO, UTC without offset, as nbgrader reads timestamp.txt; or ""
    reasons: tuple[Reason, ...]


def find(submitted: Path, lesson: Lesson, students: list[str] | None = None) -> list[Submission]:
    """The submissions of a lesson, sorted by student.

    Args:
        submitted: the class's folder of submissions; it is trusted, what is in it is not.
        lesson: the lesson.
        students: only these; one without a submission is in the list, with its reason.

    Returns:
        Every folder of the lesson, also those that cannot be graded; these have reasons. A student who has
        handed in nothing is not in it, unless asked for by name.

    Raises:
        OSError: the folder itself cannot be read.
    """
    found: list[Submission] = []
    with _opened(submitted) as root:
        names = sorted(os.listdir(root)) if students is None else list(dict.fromkeys(students))
        for name in names:
            reason = _reason_against(root, name, lesson, asked=students is not None)
            if reason is None:
                continue
            student = name if _is_fit(name) else shown(name)
            found.append(Submission(student, lesson.id, submitted / _inside(name) / lesson.id, reason))
    return found


def read(submission: Submission) -> Handed:
    """Read a submission's notebook and timestamp, and nothing else.

    Returns:
        What was read. Whatever the student did wrong is among its reasons.

    Raises:
        OSError: the file system failed, or this account may not read the folder. That is no fault of the
            student's: try again, and tell the instructor.
    """
    if submission.reasons:
        return Handed(None, "", "", submission.reasons)
    name = f"{submission.lesson[3:]}.ipynb"
    try:
        with (
            _opened(submission.folder.parent.parent) as root,
            _opened(submission.student, root) as student,
            _opened(submission.lesson, student) as folder,
        ):
            return _read(folder, name)
    except (FileNotFoundError, NotADirectoryError):
        gone = Reason("no submission", "The folder was taken away, or replaced by something else, while it was read.")
        return Handed(None, "", "", (gone,))


def _reason_against(root: int, name: str, lesson: Lesson, asked: bool) -> tuple[Reason, ...] | None:
    """Why this entry cannot be graded; () if it can; None if it is no submission of the lesson."""
    if asked and not _is_fit(name):
        return (_odd(name),)
    try:
        status = os.stat(name, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return (_nothing(name, lesson),) if asked else None
    if stat.S_ISLNK(status.st_mode):
        return (_link(name),)
    if stat.S_ISREG(status.st_mode):
        return (_archive(name),) if _is_archive(name) and not name.startswith(".") else None
    if not stat.S_ISDIR(status.st_mode):
        return (_strange(name, status),)
    try:
        with _opened(name, root) as student:
            reason = _reason_against_lesson(student, lesson)
    except (FileNotFoundError, NotADirectoryError):  # changed meanwhile
        return (_nothing(name, lesson),)
    except OSError:  # read() meets it again, and says so
        reason = ()
    if reason is None:
        return (_nothing(name, lesson),) if asked else None
    return reason if _is_fit(name) else (_odd(name), *reason)


def _reason_against_lesson(student: int, lesson: Lesson) -> tuple[Reason, ...] | None:
    try:
        status = os.stat(lesson.id, dir_fd=student, follow_symlinks=False)
    except FileNotFoundError:
        archives = [name for name in _entries(student) if name.startswith(lesson.id) and _is_archive(name)]
        return (_archive(archives[0]),) if archives else None
    if stat.S_ISLNK(status.st_mode):
        return (_link(lesson.id),)
    if not stat.S_ISDIR(status.st_mode):
        return (_strange(lesson.id, status),)
    return ()


def _read(folder: int, name: str) -> Handed:
    reasons: list[Reason] = []
    entries = list(_entries(folder))
    timestamp = _timestamp(folder, reasons)
    strays = [entry for entry in entries if entry not in (name, _TIMESTAMP) and not entry.startswith(".")]
    others = [entry for entry in strays if entry.endswith(".ipynb") and _is_regular(folder, entry)]
    chosen = name
    if not _exists(folder, name):
        if len(others) != 1:
            reasons.insert(0, _no_notebook(name, others, [entry for entry in strays if _is_archive(entry)]))
            return Handed(None, "", timestamp, tuple(reasons))
        chosen = others.pop()
        reasons.append(
            Reason(
                "other name",
                f"The notebook is called {shown(chosen)}. It was graded as the only one there: "
                f"please call it {name} next time.",
            )
        )
    elif others:
        reasons.append(
            Reason(
                "two notebooks",
                f"Beside {name} there was {listed(others)}. Only {name} was graded: hand in one notebook.",
            )
        )
    reasons.extend(_about_strays(folder, [entry for entry in strays if entry not in (chosen, *others)]))
    content = _notebook(folder, chosen, reasons)
    return Handed(content, chosen, timestamp, tuple(reasons))


def _notebook(folder: int, name: str, reasons: list[Reason]) -> bytes | None:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        reasons.insert(0, _link(name) if stat.S_ISLNK(status.st_mode) else _strange(name, status))
        return None
    content, reason = _content(folder, name, MAX_NOTEBOOK_BYTES)
    if content is not None and _starts_as_archive(content):
        content, reason = None, _archive(name)
    if reason:
        reasons.insert(0, reason)
    return content


def _content(folder: int, name: str, most: int) -> tuple[bytes | None, Reason | None]:
    """A regular file's content, or why it is not read."""
    file = os.open(name, _FILE, dir_fd=folder)  # its kind was looked at before: opening a device may already act
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return None, _strange(name, status)
        # Snapshots share files by hard links, so a second link alone says nothing. But a link to a file of
        # somebody else's was not made by who owns this folder: it would hand in what is not theirs.
        if status.st_nlink > 1 and status.st_uid != os.fstat(folder).st_uid:
            return None, Reason(
                "hard link",
                f"{shown(name)} is a second link to a file with another owner, so it was not read: "
                "hand in a copy of the file.",
            )
        if status.st_size > most:
            return None, _too_large(name, status.st_size, most)
        parts, left = [], most + 1  # one more, since it may grow meanwhile
        while left and (part := os.read(file, min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
        return (b"".join(parts), None) if left else (None, _too_large(name, most + 1, most))
    finally:
        os.close(file)


def _timestamp(folder: int, reasons: list[Reason]) -> str:
    if not _exists(folder, _TIMESTAMP):
        return ""
    text = None
    if _is_regular(folder, _TIMESTAMP):
        content, _ = _content(folder, _TIMESTAMP, MAX_TIMESTAMP_BYTES)
        text = None if content is None else _as_utc(content)
    if text is None:
        reasons.append(
            Reason(
                "bad timestamp",
                f"{_TIMESTAMP} does not hold a time, so when this was handed in is not known: write it as "
                "2026-11-23 17:05:00 UTC.",
            )
        )
    return text or ""


def _as_utc(content: bytes) -> str | None:
    """A timestamp as nbgrader would read it, ISO, UTC; "" for an empty file; None if it is none."""
    from nbgrader.utils import parse_utc

    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        return None
    if not text:
        return ""
    # The name of a time zone is looked up as a file, so no path may stand in its place.
    if not re.fullmatch(r"[0-9A-Za-z_:+., /-]{1,100}", text) or re.search(r"\.\.|(?<![0-9A-Za-z])/", text):
        return None
    try:
        return str(parse_utc(text).isoformat())
    except Exception:  # of many kinds, none of them ours
        return None


def _about_strays(folder: int, names: list[str]) -> Iterator[Reason]:
    regular = [name for name in names if _is_regular(folder, name)]
    modules = [name for name in regular if name.endswith(".py")]
    if modules:
        yield Reason(
            "stray file",
            f"{listed(modules)} was not looked at: only the notebook is graded. What an answer needs belongs "
            "into its answer cell.",
        )
    if odd := [name for name in names if name not in regular and not _is_folder(folder, name)]:
        yield Reason("stray file", f"{listed(odd)} was not looked at: it is a link or no file at all.")


def _no_notebook(name: str, notebooks: list[str], archives: list[str]) -> Reason:
    if notebooks:
        return Reason(
            "several notebooks",
            f"There are several notebooks ({listed(notebooks)}), and none is called {name}: give the one that "
            "counts this name, and hand it in again.",
        )
    if archives:
        return _archive(archives[0])
    return Reason("no notebook", f"There is no notebook in the folder: hand in {name}.")


def _archive(name: str) -> Reason:
    return Reason(
        "archive",
        f"{shown(name)} is an archive. Archives are never unpacked here: hand in the notebook itself.",
    )


def _link(name: str) -> Reason:
    return Reason(
        "symbolic link",
        f"{shown(name)} is a symbolic link. Links are not followed: hand in the file or folder itself.",
    )


def _strange(name: str, status: os.stat_result) -> Reason:
    what = next((words for test, words in _KINDS if test(status.st_mode)), "a file")
    wanted = "a file" if name.endswith((".ipynb", _TIMESTAMP)) else "a folder"
    return Reason("not a file" if wanted == "a file" else "not a folder",
                  f"{shown(name)} is {what}, where {wanted} belongs: put {wanted} there.")  # fmt: skip


def _too_large(name: str, size: int, most: int) -> Reason:
    return Reason(
        "too large",
        f"{shown(name)} has {size / 1e6:,.1f} MB or more, and {most / 1e6:,.0f} MB are read at most: clear all "
        "outputs, save, and hand it in again.",
    )


def _nothing(name: str, lesson: Lesson) -> Reason:
    return Reason("no submission", f"{shown(name)} has handed in nothing for {lesson.id}.")


def _odd(name: str) -> Reason:
    return Reason(
        "odd name",
        f"No student can be called {shown(name)}: nbgrader takes up to {MAX_STUDENT_NAME} printable characters, "
        "no dot in front, no blanks at the ends, none of / \\ * ? [ ]. Rename the folder, and grade again.",
    )


def _is_fit(name: str) -> bool:
    """Can nbgrader's gradebook, its globs and its paths take the name?"""
    return (
        0 < len(name) <= MAX_STUDENT_NAME
        and name.isprintable()  # no control characters, no bytes that are not UTF-8
        and len(name.encode()) <= MAX_NAME_BYTES
        and name == name.strip()
        and not name.startswith(".")
        and not set(name) & set("/\\*?[]")
    )


def _inside(name: str) -> str:
    """The name, where it is one and not a path."""
    return name if name not in ("", ".", "..") and "/" not in name and "\0" not in name else "_"


def _entries(folder: int) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for _, entry in zip(range(MAX_ENTRIES), entries, strict=False):
            yield entry.name


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_regular(folder: int, name: str) -> bool:
    return stat.S_ISREG(_mode(folder, name))


def _is_folder(folder: int, name: str) -> bool:
    return stat.S_ISDIR(_mode(folder, name))


def _mode(folder: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


def _is_archive(name: str) -> bool:
    return name.lower().endswith(_ARCHIVES)


def _starts_as_archive(content: bytes) -> bool:
    return content.startswith(_ARCHIVE_STARTS) or content[_TAR_MAGIC] == b"ustar"


@contextmanager
def _opened(path: str | Path, above: int | None = None) -> Iterator[int]:
    """A folder's descriptor. What is below the trusted one is opened from there, and never through a link."""
    flags = _FOLDER if above is not None else _FOLDER & ~os.O_NOFOLLOW
    folder = os.open(path, flags, dir_fd=above)
    try:
        yield folder
    finally:
        os.close(folder)
