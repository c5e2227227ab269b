"""Where the course, its assets and the student's own files are."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

_PACKAGED = Path(__file__).parent / "_course"  # filled in the wheel only, see pyproject.toml


@cache
def _upward(start: str) -> Path | None:
    for folder in (Path(start), *Path(start).parents):
        if (folder / "course.toml").is_file():
            return folder
    return None


@cache
def _named(folder: str) -> Path:
    if not (Path(folder) / "course.toml").is_file():
        raise FileNotFoundError(
            f"CROSSTALK_COURSE is {folder!r}, but there is no course.toml in it: "
            "set it to the course's folder, or unset it."
        )
    return Path(folder).resolve()


def course_folder() -> Path:
    """The folder that holds course.toml.

    ``CROSSTALK_COURSE`` if it is set, else the first folder upward from the working directory (nbgrader
    runs notebooks in ``autograded/STUDENT/LESSON``), else the checkout this package is installed from,
    else the copy inside the installed package.

    Raises:
        FileNotFoundError: there is none; the message says what to do.
    """
    if named := os.environ.get("CROSSTALK_COURSE"):
        return _named(named)
    for start in (os.getcwd(), os.path.dirname(__file__)):
        if found := _upward(start):
            return found
    if (_PACKAGED / "course.toml").is_file():
        return _PACKAGED
    raise FileNotFoundError(
        "No course.toml here or in a folder above: change into the course's folder, or set CROSSTALK_COURSE to it."
    )


def assets_folder() -> Path:
    """The folder with data, packs and figures."""
    return course_folder() / "assets"


def work_folder() -> Path:
    """The folder of the student's own copies, pieces and progress (it may not exist yet).

    ``CROSSTALK_WORK`` if it is set, else ``work/`` in the course's folder, else, where the course is the
    copy inside the installed package, ``work/`` in the working directory.
    """
    named = os.environ.get("CROSSTALK_WORK")
    if named:
        return Path(named).resolve()
    course = course_folder()
    return (Path.cwd() if course == _PACKAGED else course) / "work"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path`` so that a reader, or a crash, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
