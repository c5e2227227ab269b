"""A text to send to a teacher: the answer, the verdict, versions; nothing private."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from pathlib import Path

import nbformat

from crosstalk.course import course
from crosstalk.places import course_folder, work_folder

_PACKAGES = ("crosstalk-course", "torch", "numpy", "jupyterlab", "notebook", "ipykernel", "nbgrader")


class NoAnswer(FileNotFoundError):
    """There is no saved answer to report on; the message says what to do."""


def help_report(name: str) -> str:
    """The report on an exercise, as plain text, from the saved copy of the lesson in work/.

    Paths below the home and course folders are shortened, so that no user name stands in it.

    Raises:
        NoAnswer: the lesson has not been opened, or cannot be read.
    """
    from autograder.judging import judge_source

    answer = saved_answer(name)
    verdict = judge_source(name, answer, own_pieces=True)
    versions = [f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"]
    versions += [f"{package} {version(package)}" for package in _PACKAGES]
    text = "\n".join([f"Exercise: {name}", "", "My answer:", "", answer.strip(), "", "What check says:", "",
                      verdict.text(), "", *versions])  # fmt: skip
    private = {
        str(course_folder()): "COURSE",
        str(work_folder()): "WORK",
        sys.prefix: "ENVIRONMENT",
        str(Path.home()): "HOME",
    }
    for path, shown in sorted(private.items(), key=lambda item: -len(item[0])):
        if len(path) > 1:
            text = text.replace(path, shown)
    return text


def saved_answer(name: str) -> str:
    """The answer cell of an exercise, as last saved in work/.

    Raises:
        NoAnswer: the lesson has not been opened, or cannot be read.
    """
    lesson, _ = course().find(name)
    path = work_folder() / lesson.notebook
    if not path.is_file():
        raise NoAnswer(
            f"work/{lesson.notebook} is not there yet: open the lesson with `crosstalk lab --lesson {lesson.name}`."
        )
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:
        raise NoAnswer(f"work/{lesson.notebook} cannot be read as a notebook ({type(error).__name__}): "
                       "restore it from a checkpoint, or move it away and open the lesson anew.") from None  # fmt: skip
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == name:
            return cell.source
    raise NoAnswer(
        f"work/{lesson.notebook} has no answer cell for {name} any more: run `crosstalk update` to get it back."
    )
