"""``crosstalk lab``: which lesson, which copy, which command. tests/test_lab_browser.py tries JupyterLab itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crosstalk import lab, progress
from crosstalk.course import CourseError, Lesson, course
from crosstalk.places import course_folder


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CROSSTALK_WORK", str(tmp_path / "work"))
    return tmp_path / "work"


def pass_all(lesson: Lesson) -> None:
    for exercise in lesson.exercises:
        progress.note_check(exercise.name, "cases", exercise.points, passed=True)


def test_a_copy_is_the_original_and_is_never_overwritten(work: Path) -> None:
    lesson = course().lesson("01")
    copy = lab.copy_lesson(lesson)
    assert copy == work / lesson.notebook
    assert copy.read_bytes() == lab.original(lesson)
    copy.write_text("my own")
    lab.copy_lesson(lesson)
    assert copy.read_text() == "my own"


def test_a_missing_original_is_told(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "course.toml").write_bytes((course_folder() / "course.toml").read_bytes())
    monkeypatch.setenv("CROSSTALK_COURSE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="is missing: fetch the course again"):
        lab.copy_lesson(course().lesson("01"))


def test_the_first_unfinished_lesson_opens(work: Path) -> None:
    ready = course().ready
    opened = [lab.chosen_lesson("")]
    for lesson in ready:
        pass_all(lesson)
        opened.append(lab.chosen_lesson(""))
    assert opened == [*ready, ready[-1]]


def test_a_lesson_with_one_exercise_left_is_unfinished(work: Path) -> None:
    lesson = next(lesson for lesson in course().ready if len(lesson.exercises) > 1)
    for before in course().ready[: course().ready.index(lesson)]:
        pass_all(before)
    for exercise in lesson.exercises[:-1]:
        progress.note_check(exercise.name, "cases", exercise.points, passed=True)
    progress.note_check(lesson.exercises[-1].name, "cases", 0.5, passed=False)
    assert lab.chosen_lesson("") == lesson


@pytest.mark.parametrize("name", ["01-attention", "01", "attention"])
def test_a_lesson_can_be_named_in_three_ways(name: str) -> None:
    assert lab.chosen_lesson(name).id == "01-attention"


def test_unknown_and_planned_lessons_are_one_sentence() -> None:
    with pytest.raises(CourseError, match=r"There is no lesson 'attenton'\. There are: 00-start-here, "):
        lab.chosen_lesson("attenton")
    planned = next(lesson for lesson in course().lessons if lesson.planned)
    with pytest.raises(CourseError, match=rf"Lesson {planned.id} is planned and not written yet\."):
        lab.chosen_lesson(planned.id)


def test_the_environment_tells_kernels_where_everything_is(work: Path) -> None:
    environment = {"PATH": "elsewhere", "JUPYTER_CONFIG_PATH": "theirs"}
    lab.set_environment(environment)
    assert environment["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "elsewhere"]
    assert environment["CROSSTALK_COURSE"] == str(course_folder())
    assert environment["CROSSTALK_WORK"] == str(work.resolve())
    first, second = environment["JUPYTER_CONFIG_PATH"].split(os.pathsep)
    assert second == "theirs"
    off = json.loads(Path(first, "labconfig", "page_config.json").read_text())["disabledExtensions"]
    assert off["@jupyterlab/apputils-extension:announcements"] is True


# Takes the place of JupyterLab: says how it was called.
STAND_IN = """
import json, os, sys
print(json.dumps({"args": sys.argv[1:], "work": os.environ["CROSSTALK_WORK"]}))
"""


def run_lab(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """``python -m crosstalk lab`` with another module in the place of jupyterlab."""
    (folder / "jupyterlab.py").write_text(STAND_IN)
    environment = {**os.environ, "PYTHONPATH": str(folder), "CROSSTALK_WORK": str(folder / "my work")}
    environment.pop("PYTEST_CURRENT_TEST", None)
    return subprocess.run(
        [sys.executable, "-m", "crosstalk", "lab", *args],
        cwd=course_folder(), env=environment, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip


def test_the_command_starts_jupyterlab_and_passes_on_what_it_does_not_know(tmp_path: Path) -> None:
    run = run_lab(tmp_path, "--lesson", "01", "--no-browser", "--port=9999")
    assert run.returncode == 0, run.stderr
    told, called = run.stdout.splitlines()
    work = tmp_path / "my work"
    assert told.startswith("Lesson 01, Attention, opens in your browser; the file is ")
    assert str(work.resolve() / "01-attention" / "attention.ipynb") in told
    assert "To stop, press Ctrl-C here twice." in told
    seen = json.loads(called)
    assert seen["args"][0] == f"--ServerApp.root_dir={work.resolve()}"
    assert seen["args"][1] == "--LabApp.default_url=/lab/tree/01-attention/attention.ipynb"
    assert seen["args"][-2:] == ["--no-browser", "--port=9999"]
    assert seen["work"] == str(work.resolve())
    assert sorted(path.parent.name for path in work.glob("*/*.ipynb")) == [
        lesson.id for lesson in course().ready if lab.original_path(lesson).is_file()
    ]


def test_the_command_tells_of_an_unknown_lesson_and_starts_nothing(tmp_path: Path) -> None:
    run = run_lab(tmp_path, "--lesson", "99")
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.startswith("There is no lesson '99'.")
    assert len(run.stderr.splitlines()) == 1


def test_the_way_to_jupyterlab_imports_neither_torch_nor_jupyter() -> None:
    """It is to start at once; torch alone takes seconds."""
    code = (
        "import os, sys; sys.argv = ['crosstalk', 'lab', '--lesson', '01']\n"
        "import crosstalk.lab as lab; lab._become = lab.copy_lesson = lambda _: None\n"
        "import crosstalk.cli\n"
        "try: crosstalk.cli.main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'nbformat', 'nbgrader', 'jupyter_server') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=course_folder(), capture_output=True, text=True)
    assert run.stdout.splitlines()[-1:] == ["[]"], run.stdout + run.stderr
