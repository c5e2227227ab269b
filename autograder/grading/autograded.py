"""The files that grading leaves: ``autograded/STUDENT/LESSON``, as `nbgrader autograde` would leave it.

What lies there may be hostile: plain nbgrader copies whatever a student handed in, and lets the student's code run
there. So below the folders' names that come from students and lessons nothing is followed: each step is taken from
an open folder, links are replaced, and what does not belong there is removed. (Files that a student handed in
beside the notebook are not copied; of these, nbgrader would publish them with the feedback.)
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbgrader.converters import Autograde
    from nbgrader.coursedir import CourseDirectory

_SHARED = 0o2770  # what nbgrader adds to folders that instructors share as a group


class Autograded:
    """Writes those files, with the permissions that the class's settings ask for."""

    def __init__(self, coursedir: CourseDirectory, converter: Autograde) -> None:
        self._coursedir = coursedir
        self._permissions = int(str(converter.permissions), 8)
        self._excluded = converter.exclude_overwriting

    def write(
        self, student: str, lesson: str, notebook: str, content: bytes, timestamp: datetime | None, extra: list[str]
    ) -> None:
        """Make the folder anew, each file atomically; the same again gives the same.

        Args:
            notebook: its name, without ``.ipynb``.
            content: nothing for a submission without a notebook.
            timestamp: in UTC, None for none.
            extra: `source_files` of the lesson, copied as nbgrader does.
        """
        files = {f"{notebook}.ipynb": content} if content else {}
        if timestamp:
            files["timestamp.txt"] = _timestamp_text(timestamp)
        source = Path(self._coursedir.format_path(self._coursedir.source_directory, ".", lesson))
        base, parts = self._place(student, lesson)
        with self._folder(base, parts) as folder:
            _remove_others(folder, {*files, *(name for name in extra if os.sep not in name)})
            for name in extra:
                *inner, last = name.split(os.sep)
                with _below(folder, inner, self._share) as there:
                    self._replace(there, last, (source / name).read_bytes())
            for name, text in files.items():
                self._replace(folder, name, text)

    def source_files(self, lesson: str) -> list[str]:
        """The files beside the lesson's source that every submission gets, relative to it: data, pictures."""
        from nbgrader.utils import find_all_files

        source = self._coursedir.format_path(self._coursedir.source_directory, ".", lesson)
        found = find_all_files(source, [*self._coursedir.ignore, "*.ipynb"])
        names = {os.path.relpath(path, source) for path in found}
        return sorted(names - {os.path.normpath(name) for name in self._excluded.get(lesson, [])})

    def _place(self, student: str, lesson: str) -> tuple[Path, list[str]]:
        """The folder up to which the instructor decides, and the names below it."""
        from nbgrader.utils import full_split

        names = {"nbgrader_step": self._coursedir.autograded_directory, "student_id": student, "assignment_id": lesson}
        structure = full_split(self._coursedir.directory_structure)
        first = min(at for at, part in enumerate(structure) if "{student_id}" in part or "{assignment_id}" in part)
        formatted = [part.format(**names) for part in structure]
        return Path(self._coursedir.root, *formatted[:first]), formatted[first:]

    @contextmanager
    def _folder(self, base: Path, parts: list[str]) -> Iterator[int]:
        base.mkdir(parents=True, exist_ok=True)
        outer = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._share(outer)
            with _below(outer, parts) as folder:
                self._share(folder)
                yield folder
        finally:
            os.close(outer)

    def _share(self, folder: int) -> None:
        mode = os.fstat(folder).st_mode
        if self._coursedir.groupshared and mode & _SHARED != _SHARED:
            with suppress(PermissionError):  # another instructor's folder
                os.fchmod(folder, (mode | _SHARED) & 0o2777)

    def _replace(self, folder: int, name: str, content: bytes) -> None:
        unfinished = f".crosstalk-{os.getpid()}.unfinished"
        with suppress(FileNotFoundError):
            os.unlink(unfinished, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(unfinished, flags, 0o600, dir_fd=folder), "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), self._permissions)
        os.replace(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)


@contextmanager
def _below(folder: int, parts: list[str], shared: Callable[[int], None] | None = None) -> Iterator[int]:
    """The folder below an open one; each step is made where it is missing, and where something else has its name."""
    here = os.dup(folder)
    try:
        for part in parts:
            below = _entered(here, part)
            os.close(here)
            here = below
            if shared:
                shared(here)
        yield here
    finally:
        os.close(here)


def _entered(folder: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        pass
    except OSError:  # a link or a file, which nothing of ours puts there
        os.unlink(name, dir_fd=folder)
    os.mkdir(name, dir_fd=folder)
    return os.open(name, flags, dir_fd=folder)


def _remove_others(folder: int, kept: set[str]) -> None:
    """Remove all but the files that are about to be replaced."""
    for name in os.listdir(folder):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=folder)
        elif name not in kept:
            os.unlink(name, dir_fd=folder)


def _timestamp_text(timestamp: datetime) -> bytes:
    """As nbgrader's own exchange writes it."""
    return timestamp.strftime(
        "%Y-%m-%d %H:%M:%S.%f UTC\n" if timestamp.microsecond else "%Y-%m-%d %H:%M:%S UTC\n"
    ).encode()
