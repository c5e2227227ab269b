"""``crosstalk lab``: copy what is missing to work/, and become JupyterLab at the first unfinished lesson.

JupyterLab's root is work/: a student sees their own files and nothing else, and cannot write into an
original by mistake. All ready lessons are copied at once, so that the next is there when this one is done.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import MutableMapping
from pathlib import Path
from urllib.parse import quote

from crosstalk import progress
from crosstalk.course import Course, CourseError, Lesson, course
from crosstalk.places import course_folder, work_folder, write_atomically

# What JupyterLab reads before a person's own settings: no news, no look for updates or extensions, which
# would ask the network, and none of nbgrader's menus, which are for those who teach.
_SETTINGS = Path(__file__).parent / "jupyter"


def start(name: str, args: list[str]) -> None:
    """Open JupyterLab; returns only where the system cannot replace a process.

    Args:
        name: the lesson's id, number or name; empty for the first unfinished one.
        args: further arguments for JupyterLab.

    Raises:
        CourseError: there is no such lesson, or it is only planned.
        FileNotFoundError: the released lessons are missing.
    """
    chosen = chosen_lesson(name)
    copy_lesson(chosen)
    for lesson in course().ready:
        if original_path(lesson).is_file():
            copy_lesson(lesson)
    set_environment(os.environ)
    print(
        f"Lesson {chosen.id[:2]}, {chosen.title}, opens in your browser; the file is "
        f"{work_folder() / chosen.notebook}. To stop, press Ctrl-C here twice.",
        flush=True,
    )
    _become(lab_command(chosen, args))


def chosen_lesson(name: str) -> Lesson:
    """The lesson of that id, number or name; for an empty name the first unfinished one."""
    if not name:
        return first_unfinished(course())
    found = course().lesson(name)
    if found.planned:
        ready = ", ".join(lesson.id for lesson in course().ready)
        raise CourseError(f"Lesson {found.id} is planned and not written yet. You can open: {ready}.")
    return found


def first_unfinished(of: Course) -> Lesson:
    """The first ready lesson with an exercise that has not passed; the last one when all have.

    Raises:
        CourseError: no lesson is ready.
    """
    if not of.ready:
        raise CourseError("No lesson of this course is ready yet: all are planned in course.toml.")
    noted = progress.read()
    for lesson in of.ready:
        for exercise in lesson.exercises:
            if exercise.name not in noted or not noted[exercise.name].passed:
                return lesson
    return of.ready[-1]


def copy_lesson(lesson: Lesson) -> Path:
    """The student's copy of a lesson, made now if there is none; one that is there is left as it is.

    Raises:
        FileNotFoundError: the original is missing.
    """
    copy = work_folder() / lesson.notebook
    if not copy.exists():
        write_atomically(copy, original(lesson))
    return copy


def original_path(lesson: Lesson) -> Path:
    """Where the released notebook of a lesson stands."""
    return course_folder() / "lessons" / lesson.notebook


def original(lesson: Lesson) -> bytes:
    """The released notebook of a lesson.

    Raises:
        FileNotFoundError: it is missing; the message says how to bring it back.
    """
    path = original_path(lesson)
    if not path.is_file():
        raise FileNotFoundError(
            f"lessons/{lesson.notebook} is missing: fetch the course again, or run `crosstalk build`."
        )
    return path.read_bytes()


def set_environment(environment: MutableMapping[str, str]) -> None:
    """What JupyterLab and its kernels need to know, wherever they are started from."""
    tools = str(Path(sys.executable).parent)
    settings = [str(_SETTINGS), *filter(None, [environment.get("JUPYTER_CONFIG_PATH")])]
    environment["PATH"] = os.pathsep.join([tools, environment.get("PATH", "")])
    environment["JUPYTER_CONFIG_PATH"] = os.pathsep.join(settings)
    environment["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not one of the same name at home
    environment["CROSSTALK_WORK"] = str(work_folder())
    environment["CROSSTALK_COURSE"] = str(course_folder())


def lab_command(lesson: Lesson, args: list[str]) -> list[str]:
    """The command line of JupyterLab, open at the student's copy of a lesson."""
    return [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={work_folder()}",
        f"--LabApp.default_url=/lab/tree/{quote(lesson.notebook)}",
        "--ServerApp.log_level=WARN",  # the address is shown even so
        *args,
    ]


def _become(command: list[str]) -> None:
    if os.name != "nt":
        os.execv(command[0], command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for JupyterLab, which gets it too
    sys.exit(subprocess.call(command))
