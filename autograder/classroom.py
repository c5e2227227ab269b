"""``crosstalk classroom FOLDER``: a folder in which plain nbgrader works, and what the students get.

    FOLDER/nbgrader_config.py      nbgrader's settings
    FOLDER/source/                 the lessons with answers, as nbgrader wants them
    FOLDER/for-students.zip        the course without answers
    FOLDER/hidden/                 hidden packs, where a seed was given

It can be run again after the course has changed; what the instructor has changed in the folder stays.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat

from autograder.build.freeze import VISIBLE, freeze
from autograder.build.release import STUB, solved_notebook
from autograder.packs import PackError, from_file, save_pack
from autograder.solutions import SourceError
from crosstalk.course import Lesson, course
from crosstalk.places import course_folder, write_atomically

BUNDLE = "for-students.zip"
# What students get, and of that what they don't. Tests and benchmarks need the answers, so they stay too.
_GIVEN = ("README.md", "LICENSE", "course.py", "course.toml", "pyproject.toml", "requirements", "crosstalk",
          "autograder", "assets", "lessons")  # fmt: skip
_WITHHELD = ("autograder/exercises", "assets/packs", "lessons")  # packs and lessons come one by one
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same files give the same bundle

_CONFIG = '''\
"""nbgrader's settings for this class, made by `crosstalk classroom`. Change them as you like."""

import os
import sys
from pathlib import Path

c = get_config()  # noqa: F821 (nbgrader gives it)

HERE = Path(__file__).resolve().parent

c.CourseDirectory.root = str(HERE)
c.CourseDirectory.course_id = "crosstalk"
c.ClearSolutions.code_stub = {{"python": "{stub}"}}
c.Execute.timeout = {seconds}  # of one cell; a check stops an answer by itself before that
c.AssignLatePenalties.plugin_class = "autograder.late.LatePolicy"  # what course.toml says under [late]

# What students write is shown, and never run, by feedback and by formgrader's pages.
c.GenerateFeedback.exporter_class = "autograder.grading.feedback.Feedback"
c.HTMLExporter.preprocessors = ["autograder.grading.safe_html.CleanedCells"]
c.CleanedCells.released = str(HERE / "release")  # what you have written there yourself is shown as it is
c.HTMLExporter.exclude_anchor_links = True  # a heading must not take the id of a field for points

# This line makes `nbgrader autograde` and formgrader's button grade in the sandbox, as `crosstalk grade` does.
# c.Autograde.exporter_class = "autograder.grading.nbgrader_plugin.InSandbox"

# nbgrader calls its tools by name, also where the environment is not activated.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

# Answers are also tried on the hidden packs, where there are some: see `crosstalk classroom --seed`.
if (HERE / "hidden").is_dir():
    os.environ.setdefault("CROSSTALK_HIDDEN_PACKS", str(HERE / "hidden"))
'''


class ClassroomError(ValueError):
    """The classroom cannot be made; the message says why."""


def classroom(folder: Path, seed: str = "") -> Iterator[str]:
    """Make a folder for a class; yields a line for each file.

    Args:
        folder: made if it is not there.
        seed: the class's own words from which hidden packs are drawn; none for no hidden packs.

    Raises:
        ClassroomError: this copy of the course has no answers, or a pack that students get is hidden.
    """
    lessons = course().ready
    if folder.resolve().is_relative_to(course_folder()):
        raise ClassroomError(
            f"{folder} is inside the course's own folder: choose one outside, so that grades and "
            "submissions never meet `git pull`."
        )
    if seed == VISIBLE:
        raise ClassroomError("This seed gives the cases that students have: choose words of your own.")
    try:
        solved = {lesson.notebook: nbformat.writes(solved_notebook(lesson), version=4) for lesson in lessons}
        given = bundle(lessons)
    except (SourceError, PackError) as error:
        raise ClassroomError(f"A classroom is made from the course's sources: {error}.") from None
    yield _written(folder / "nbgrader_config.py", settings(lessons))
    for place, content in solved.items():
        yield _written(folder / "source" / place, content + "\n")
    for lesson in lessons if seed else []:
        if lesson.exercises:
            yield f"wrote {save_pack(freeze(lesson, seed), folder / 'hidden')}"
    write_atomically(folder / BUNDLE, given)
    yield f"wrote {folder / BUNDLE}"


def settings(lessons: list[Lesson]) -> str:
    """The text of nbgrader_config.py for a class that has these lessons."""
    longest = max([course().limits.seconds, *(e.seconds or 0 for lesson in lessons for e in lesson.exercises)])
    return _CONFIG.format(stub=STUB, seconds=round(2 * longest) + 60)


def bundle(lessons: list[Lesson]) -> bytes:
    """The course without answers, known mistakes and hidden packs, as the content of a zip file.

    Raises:
        PackError: a pack that would go to students is missing, broken or hidden.
    """
    root = course_folder()
    files = [path for name in _GIVEN for path in _files(root / name) if not _is_withheld(path.relative_to(root))]
    for lesson in lessons:
        files.append(root / "lessons" / lesson.notebook)
        pack = root / "assets" / "packs" / f"{lesson.id}.safetensors"
        if lesson.exercises:
            if any(exercise.hidden for exercise in from_file(pack).exercises.values()):
                raise PackError(f"The pack {pack.name} in assets/packs is a hidden one: run `crosstalk build`.")
            files.append(pack)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files):
            place = zipfile.ZipInfo(f"crosstalk/{path.relative_to(root).as_posix()}", _LONG_AGO)
            place.external_attr = 0o644 << 16
            archive.writestr(place, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]


def _is_withheld(place: Path) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in place.parts)
    return hidden or any(place.is_relative_to(withheld) for withheld in _WITHHELD)


def _written(path: Path, content: str) -> str:
    """Write a file, unless there is one that somebody may have changed."""
    if not path.exists():
        write_atomically(path, content)
        return f"wrote {path}"
    if path.read_text(encoding="utf-8") == content:
        return f"{path} is as it should be"
    return f"left {path} as it is, though it differs from the course's: move it away to have it made anew"
