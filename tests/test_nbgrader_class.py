"""A class graded with plain nbgrader: its own commands, in a folder made by `crosstalk classroom`.

The scores are those that the gradebook holds and `nbgrader export` writes. One run of each command serves all
tests of this file.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from nbgrader.api import Gradebook

from autograder import solutions
from autograder.build.freeze import right_source, wrong_source
from autograder.classroom import BUNDLE, ClassroomError, bundle, classroom
from autograder.exercise import exercises_of
from autograder.judge import same_observation
from autograder.packs import PackError, from_file, visible_pack
from crosstalk.course import course
from crosstalk.places import course_folder

LESSON = course().lesson("01")
POINTS = {entry.name: entry.points for entry in LESSON.exercises}
NOTHING = dict.fromkeys(POINTS, 0.0)
BROKEN = "broken"
# What each exercise of a submission is worth: points, or the known mistake that decides how many.
Earned = dict[str, float | str]

pytestmark = pytest.mark.slow


def solution(name: str) -> str:
    return solutions.answer_source(solutions.read_source(LESSON), name)


def mistaken(name: str, mistake: str) -> str:
    """An answer with a known misconception."""
    exercise = exercises_of(LESSON)[name]
    index = next(index for index, wrong in enumerate(exercise.wrong) if wrong.name == mistake)
    return wrong_source(exercise, index, solution(name))


def points_of(name: str, mistake: str, hidden: Path) -> float:
    """What that answer is worth, by the packs alone: the share of cases on which it gives what is right in both."""
    results = []
    for pack in (visible_pack(LESSON), from_file(hidden / f"{LESSON.id}.safetensors")):
        cases = pack.exercises[name].cases
        [seen] = [wrong.observations for wrong in pack.exercises[name].mistakes if wrong.name == mistake]
        results.append([same_observation(case.expected, one) for case, one in zip(cases, seen, strict=True)])
    together = [all(drawn) for drawn in zip(*results, strict=True)]
    return round(POINTS[name] * sum(together) / len(together), 2)


def answer(notebook: NotebookNode, name: str) -> NotebookNode:
    return next(cell for cell in notebook.cells if cell.id == f"answer-{name}")


def insert_before(notebook: NotebookNode, name: str, source: str) -> None:
    notebook.cells.insert(notebook.cells.index(answer(notebook, name)), new_code_cell(source))


def insert_after(notebook: NotebookNode, name: str, source: str) -> None:
    notebook.cells.insert(notebook.cells.index(answer(notebook, name)) + 1, new_code_cell(source))


def solve(notebook: NotebookNode, *names: str) -> None:
    for name in names or POINTS:
        answer(notebook, name).source = solution(name)


def right(notebook: NotebookNode) -> Earned:
    """The whole lesson, with all its text, examples and widgets."""
    solve(notebook)
    return POINTS


def stub(notebook: NotebookNode) -> Earned:
    return NOTHING


def half_right(notebook: NotebookNode) -> Earned:
    solve(notebook, "softmax", "merge_heads")
    return NOTHING | {name: POINTS[name] for name in ("softmax", "merge_heads")}


def known_mistakes(notebook: NotebookNode) -> Earned:
    """One misconception an exercise; the softmax that is wrong must not spoil the attention that uses it."""
    chosen = {"softmax": "ignores_dim", "scaled_dot_product_attention": "not_scaled", "split_heads": "view_straight"}
    solve(notebook)
    for name, mistake in chosen.items():
        answer(notebook, name).source = mistaken(name, mistake)
    return POINTS | chosen


def earlier_exercise_wrong(notebook: NotebookNode) -> Earned:
    """A correct attention on top of a softmax that is not: it is judged with the stand-in."""
    solve(notebook)
    answer(notebook, "softmax").source = mistaken("softmax", "not_divided")
    return POINTS | {"softmax": "not_divided"}


def helper_elsewhere(notebook: NotebookNode) -> Earned:
    solve(notebook)
    insert_before(notebook, "split_heads", "def cut(states, heads):\n    return states.unflatten(-1, (heads, -1))")
    answer(
        notebook, "split_heads"
    ).source = "def split_heads(states, heads):\n    return cut(states, heads).transpose(1, 2)"
    return POINTS | {"split_heads": 0.0}


def answer_elsewhere(notebook: NotebookNode) -> Earned:
    """The right answer, but in a cell of the student's own behind the answer cell."""
    solve(notebook)
    answer(notebook, "softmax").source = "# see below"
    insert_after(notebook, "softmax", solution("softmax"))
    return POINTS | {"softmax": 0.0}


def loud(notebook: NotebookNode) -> Earned:
    """Right answers that print, warn and write to stderr, which costs all points where it reaches the notebook."""
    solve(notebook)
    noise = (
        "    import os, sys, warnings\n    warnings.warn('careful')\n    print('here ' * 20_000)\n"
        "    print('and there', file=sys.stderr)\n    os.write(2, b'and below')\n"
    )
    head, body = solution("merge_heads").split("\n", 1)
    answer(notebook, "merge_heads").source = f"{head}\n{noise}{body}"
    insert_before(notebook, "softmax", "import warnings\nwarnings.warn('a cell of my own')")
    return POINTS


def written_otherwise(notebook: NotebookNode) -> Earned:
    """Another right way for each exercise."""
    for name, exercise in exercises_of(LESSON).items():
        answer(notebook, name).source = right_source(exercise, 0, solution(name))
    return POINTS


def raises(notebook: NotebookNode) -> Earned:
    """An answer cell that stops, and cells of the student's own that do; the others count."""
    solve(notebook)
    answer(notebook, "split_heads").source = "raise RuntimeError('no idea')"
    answer(notebook, "merge_heads").source = "def merge_heads(states:"
    insert_before(notebook, "softmax", "1 / 0")
    return POINTS | {"split_heads": 0.0, "merge_heads": 0.0}


def only_graded(notebook: NotebookNode) -> None:
    """Leave out the cells that nbgrader does not mark, as any student may: the run takes a tenth of the time."""
    notebook.cells = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]


STUDENTS: list[Callable[[NotebookNode], Earned]] = [
    right, stub, half_right, known_mistakes, earlier_exercise_wrong, helper_elsewhere, answer_elsewhere, loud,
    written_otherwise, raises,
]  # fmt: skip


@dataclass
class Class:
    """The folder after grading, what each student should have, and what nbgrader said."""

    folder: Path
    work: Path
    expected: dict[str, dict[str, float]]
    commands: dict[str, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Class:
    folder = tmp_path_factory.mktemp("class") / "the class"  # a space, as instructors have them
    work = tmp_path_factory.mktemp("work")
    list(classroom(folder, "a class of 2026"))
    trap = work / "my_model" / "softmax.py"  # a piece that must not be taken
    trap.parent.mkdir()
    trap.write_text("raise SystemExit('a piece was loaded while graded')\n")
    found = Class(folder, work, {}, {})

    def nbgrader(command: str, *args: str) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        environment |= {"CROSSTALK_WORK": str(work), "CROSSTALK_COURSE": str(course_folder())}
        environment["PATH"] = os.defpath  # as where nobody has activated the environment
        found.commands[command] = subprocess.run(
            [sys.executable, "-m", "nbgrader", command, *args],
            cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8",
        )  # fmt: skip

    nbgrader("generate_assignment", LESSON.id)
    # What students hand in began as the course's own released lesson, not as nbgrader's copy of it.
    released = course_folder() / "lessons" / LESSON.notebook
    for student in STUDENTS:
        notebook = nbformat.read(released, as_version=4)
        if student is not right:
            only_graded(notebook)
        found.expected[student.__name__] = {
            name: points_of(name, earned, folder / "hidden") if isinstance(earned, str) else earned
            for name, earned in student(notebook).items()
        }
        hand_in(folder, student.__name__, nbformat.writes(notebook))
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        book.update_or_create_assignment(LESSON.id, duedate="2026-11-01 12:00:00 UTC")
    timestamp = folder / "submitted" / half_right.__name__ / LESSON.id / "timestamp.txt"
    timestamp.write_text("2026-11-02 18:00:00 UTC\n")  # late by a day and a quarter
    hand_in(folder, BROKEN, released.read_text(encoding="utf-8")[:5_000])
    nbgrader("autograde", LESSON.id)
    nbgrader("generate_feedback", LESSON.id)
    nbgrader("export")
    return found


def hand_in(folder: Path, student: str, content: str) -> None:
    path = folder / "submitted" / student / LESSON.notebook
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="utf-8")


def gradebook(graded: Class) -> Gradebook:
    return Gradebook(f"sqlite:///{graded.folder / 'gradebook.db'}")


def test_what_nbgrader_releases_is_what_the_course_releases(graded: Class) -> None:
    assert graded.commands["generate_assignment"].returncode == 0, graded.commands["generate_assignment"].stderr
    theirs = nbformat.read(graded.folder / "release" / LESSON.notebook, as_version=4)
    ours = nbformat.read(course_folder() / "lessons" / LESSON.notebook, as_version=4)
    assert [(cell.id, cell.source) for cell in theirs.cells] == [(cell.id, cell.source) for cell in ours.cells]


def test_each_exercise_has_exactly_the_points_it_earns(graded: Class) -> None:
    found = {}
    with gradebook(graded) as book:
        for student in graded.expected:
            notebook = book.find_submission_notebook(LESSON.name, LESSON.id, student)
            found[student] = {grade.name.removeprefix("check-"): grade.score for grade in notebook.grades}
    assert found == graded.expected


def test_nothing_waits_for_a_person(graded: Class) -> None:
    with gradebook(graded) as book:
        waiting = [student for student in graded.expected
                   if book.find_submission(LESSON.id, student).needs_manual_grade]  # fmt: skip
    assert waiting == []


def test_known_mistakes_cost_something_but_not_all(graded: Class) -> None:
    """So that the scores asserted above can tell partial credit from none and from all."""
    assert 0 < graded.expected["known_mistakes"]["softmax"] < POINTS["softmax"]


def test_hidden_cases_count_and_are_not_shown(graded: Class) -> None:
    told = (graded.folder / "feedback" / "known_mistakes" / LESSON.id / f"{LESSON.name}.html").read_text("utf-8")
    assert "a hidden case" in told
    assert "This case is not shown." in told


def test_a_broken_notebook_costs_only_itself(graded: Class) -> None:
    run = graded.commands["autograde"]
    assert run.returncode != 0  # nbgrader tells of it
    assert BROKEN in run.stderr
    with gradebook(graded) as book:
        assert [s.student_id for s in book.find_assignment(LESSON.id).submissions if s.score is None] == []
    done = {path.name for path in (graded.folder / "autograded").iterdir() if (path / LESSON.notebook).is_file()}
    assert done == set(graded.expected)


def test_who_is_late_loses_what_course_toml_says(graded: Class) -> None:
    earned = sum(graded.expected["half_right"].values())
    with gradebook(graded) as book:
        late = book.find_submission_notebook(LESSON.name, LESSON.id, "half_right").late_submission_penalty
        in_time = book.find_submission_notebook(LESSON.name, LESSON.id, "right").late_submission_penalty
    assert late == pytest.approx(0.2 * earned)
    assert in_time is None


def test_export_has_the_sums(graded: Class) -> None:
    assert graded.commands["export"].returncode == 0, graded.commands["export"].stderr
    with (graded.folder / "grades.csv").open(encoding="utf-8") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    sums = {student: pytest.approx(sum(points.values())) for student, points in graded.expected.items()}
    sums["half_right"] = pytest.approx(0.8 * sum(graded.expected["half_right"].values()))  # handed in late
    assert {student: float(rows[student]["score"]) for student in sums} == sums
    assert {float(row["max_score"]) for row in rows.values()} == {LESSON.points}


def test_feedback_names_the_misconceptions(graded: Class) -> None:
    feedback = graded.folder / "feedback" / "known_mistakes" / LESSON.id / f"{LESSON.name}.html"
    told = feedback.read_text(encoding="utf-8")
    assert "always go along the last dimension" in told
    assert "The scores are not scaled" in told
    assert 'data-crosstalk-verdict="split_heads"' in told


def test_feedback_tells_of_helpers_and_answers_in_other_cells(graded: Class) -> None:
    told = {student: (graded.folder / "feedback" / student / LESSON.id / f"{LESSON.name}.html").read_text("utf-8")
            for student in ("helper_elsewhere", "answer_elsewhere")}  # fmt: skip
    assert "<code>cut</code> is defined in another cell" in told["helper_elsewhere"]
    assert "Only the answer cell counts" in told["answer_elsewhere"]


def test_feedback_for_a_right_answer_carries_no_solution_but_the_students_own(graded: Class) -> None:
    told = (graded.folder / "feedback" / "right" / LESSON.id / f"{LESSON.name}.html").read_text("utf-8")
    assert "all points" not in told  # else this test looks at the wrong words
    assert "Right answers to compare with" not in told


def test_grading_keeps_and_takes_no_pieces(graded: Class) -> None:
    assert sorted(str(path.relative_to(graded.work)) for path in graded.work.rglob("*")) == [
        "my_model",
        os.path.join("my_model", "softmax.py"),
    ]


# --- the same class, graded by `crosstalk grade`


@pytest.fixture(scope="module")
def sandboxed(graded: Class, tmp_path_factory: pytest.TempPathFactory) -> Class:
    """The same submissions in a folder of their own, with a gradebook of its own."""
    folder = tmp_path_factory.mktemp("sandboxed") / "the class"
    for name in ("source", "hidden", "submitted"):
        shutil.copytree(graded.folder / name, folder / name)
    shutil.copy(graded.folder / "nbgrader_config.py", folder)
    found = Class(folder, graded.work, graded.expected, {})
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment |= {"CROSSTALK_WORK": str(graded.work), "CROSSTALK_COURSE": str(course_folder()), "COLUMNS": "120"}

    def run(module: str, command: str, *arguments: str) -> None:
        found.commands[command] = subprocess.run(
            [sys.executable, "-m", module, command, *arguments],
            cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8",
        )  # fmt: skip

    run("nbgrader", "generate_assignment", LESSON.id)
    with gradebook(found) as book:
        book.update_or_create_assignment(LESSON.id, duedate="2026-11-01 12:00:00 UTC")
    run("crosstalk", "grade", LESSON.id, "--workers", "2")
    run("nbgrader", "generate_feedback", LESSON.id)
    run("nbgrader", "export")
    return found


def points_in_the_book(graded: Class) -> dict[str, tuple]:
    """Of each student: points by cell, what a person still has to look at, and the penalty for being late."""
    found = {}
    with gradebook(graded) as book:
        for student in graded.expected:
            notebook = book.find_submission_notebook(LESSON.name, LESSON.id, student)
            grades = {grade.name: (grade.auto_score, grade.needs_manual_grade) for grade in notebook.grades}
            found[student] = grades, notebook.late_submission_penalty, notebook.score
    return found


@pytest.mark.sandbox
def test_the_sandbox_gives_the_same_gradebook_as_plain_nbgrader(graded: Class, sandboxed: Class) -> None:
    assert sandboxed.commands["grade"].returncode == 0, sandboxed.commands["grade"].stdout
    assert points_in_the_book(sandboxed) == points_in_the_book(graded)


@pytest.mark.sandbox
def test_the_sandbox_gives_the_same_sums_for_export(graded: Class, sandboxed: Class) -> None:
    tables = []
    for each in (graded, sandboxed):
        with (each.folder / "grades.csv").open(encoding="utf-8") as file:
            rows = {row["student_id"]: row for row in csv.DictReader(file) if row["student_id"] in each.expected}
        tables.append({student: (row["score"], row["max_score"], row["raw_score"], row["late_submission_penalty"])
                       for student, row in rows.items()})  # fmt: skip
    assert tables[0] == tables[1]
    assert len(tables[0]) == len(STUDENTS)


@pytest.mark.sandbox
def test_the_sandbox_gives_a_broken_notebook_nothing_and_says_why(sandboxed: Class) -> None:
    with gradebook(sandboxed) as book:
        assert book.find_submission_notebook(LESSON.name, LESSON.id, BROKEN).score == 0
    assert f"{BROKEN}: " in sandboxed.commands["grade"].stdout
    told = (sandboxed.folder / "feedback" / BROKEN / LESSON.id / f"{LESSON.name}.html").read_text("utf-8")
    assert "The file breaks off in the middle" in told


@pytest.mark.sandbox
def test_feedback_from_the_sandbox_names_the_misconceptions(sandboxed: Class) -> None:
    told = (sandboxed.folder / "feedback" / "known_mistakes" / LESSON.id / f"{LESSON.name}.html").read_text("utf-8")
    assert "always go along the last dimension" in told
    assert "The scores are not scaled" in told
    assert "This case is not shown." in told
    assert "Content-Security-Policy" in told


@pytest.mark.sandbox
def test_a_second_run_of_the_sandbox_grades_nothing_anew(sandboxed: Class) -> None:
    environment = os.environ | {"CROSSTALK_COURSE": str(course_folder()), "COLUMNS": "120"}
    again = subprocess.run([sys.executable, "-m", "crosstalk", "grade", LESSON.id], cwd=sandboxed.folder,
                           env=environment, capture_output=True, text=True, encoding="utf-8")  # fmt: skip
    unchanged = next(line for line in again.stdout.splitlines() if "unchanged" in line)
    assert str(len(STUDENTS) + 1) in unchanged.split()


# --- the folder itself, and what students get


def test_a_classroom_can_be_made_again_and_keeps_what_was_changed(tmp_path: Path) -> None:
    list(classroom(tmp_path / "class"))
    config = tmp_path / "class" / "nbgrader_config.py"
    config.write_text(config.read_text() + "# mine\n")
    first, *sources, last = classroom(tmp_path / "class")
    assert config.read_text().endswith("# mine\n")
    assert first.startswith(f"left {config} as it is")
    assert all("is as it should be" in line for line in sources)
    assert len(sources) == len(course().ready)
    assert last == f"wrote {tmp_path / 'class' / BUNDLE}"


def test_the_seed_of_the_visible_packs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClassroomError, match="choose words of your own"):
        list(classroom(tmp_path, "visible"))


def test_a_classroom_inside_the_course_is_refused() -> None:
    with pytest.raises(ClassroomError, match="choose one outside"):
        list(classroom(course_folder() / "class"))


def test_a_class_has_hidden_packs_of_its_own(graded: Class, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = course().model_copy(update={"lessons": [LESSON]})  # freezing the others takes a minute
    monkeypatch.setattr("autograder.classroom.course", lambda: short)
    list(classroom(tmp_path, "another class"))
    packs = [from_file(folder / "hidden" / f"{LESSON.id}.safetensors").exercises
             for folder in (graded.folder, tmp_path)]  # fmt: skip
    assert all(exercise.hidden for pack in packs for exercise in pack.values())
    assert packs[0]["softmax"].cases_hash != packs[1]["softmax"].cases_hash


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The students' bundle, unpacked."""
    folder = tmp_path_factory.mktemp("bundle")
    (folder / BUNDLE).write_bytes(bundle(course().ready))
    with zipfile.ZipFile(folder / BUNDLE) as archive:
        archive.extractall(folder)
    return folder / "crosstalk"


def test_a_bundle_carries_no_answer_and_no_known_mistake(given: Path) -> None:
    places = {path.relative_to(given).as_posix() for path in given.rglob("*") if path.is_file()}
    assert [place for place in places if place.startswith(("solutions/", "tests/", "benchmarks/", "work/"))] == []
    assert [place for place in places if place.startswith("autograder/exercises/")] == []
    lessons, rest = readable(given)
    for lesson in course().ready:
        for name, exercise in exercises_of(lesson).items():
            told = solutions.answer_source(solutions.read_source(lesson), name)
            bank = [wrong_source(exercise, index, told) for index in range(len(exercise.wrong))]
            bank += [right_source(exercise, index, told) for index in range(len(exercise.right))]
            assert not stands_in(told, lessons)
            assert [code for code in (told, *bank) if stands_in(code, rest)] == []


def stands_in(code: str, text: str) -> bool:
    """Is this code in the text, but for its first line, the signature, which a stub has too?"""
    return f"\n{code.strip().partition(chr(10))[2]}\n" in text


def readable(folder: Path) -> tuple[str, str]:
    """The cells of all lessons in a bundle, and the text of all its other files.

    Lessons show some mistakes on purpose, so they are looked through for answers only. The stand-ins are left
    out: later lessons cannot be done without them, so students have them by design.
    """
    lessons, rest = [], []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".ipynb":
            lessons += [f"\n{cell.source}\n" for cell in nbformat.read(path, as_version=4).cells]
        elif path.is_file() and "stand_ins" not in path.parts:
            rest.append(path.read_text(encoding="utf-8", errors="replace"))
    return "\n".join(lessons), "\n".join(rest)


def test_a_bundle_carries_visible_packs_only(given: Path) -> None:
    packs = list(given.rglob("packs/*.safetensors"))
    models = {path for path in given.rglob("*.safetensors") if path not in packs}
    assert models == set(given.rglob("assets/checkpoints/*.safetensors"))
    assert {path.stem for path in packs} == {lesson.id for lesson in course().ready if lesson.exercises}
    assert not any(exercise.hidden for path in packs for exercise in from_file(path).exercises.values())


def test_a_hidden_pack_among_the_visible_ones_is_refused(
    graded: Class, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "course"
    (fake / "assets").mkdir(parents=True)
    (fake / "course.toml").write_bytes((course_folder() / "course.toml").read_bytes())
    (fake / "assets" / "packs").symlink_to(graded.folder / "hidden")
    monkeypatch.setenv("CROSSTALK_COURSE", str(fake))
    with pytest.raises(PackError, match="is a hidden one"):
        bundle([LESSON])


def test_with_a_bundle_a_student_can_work(given: Path, tmp_path: Path) -> None:
    """The bundle's own packages judge an answer and keep it; there is no solution to compare with."""
    code = (
        "import autograder.notebook as notebook\n"
        "from autograder.answers import Answer\n"
        f"notebook.find_answer = lambda name: Answer({solution('softmax')!r}, frozenset())\n"
        "verdict = notebook.check('softmax')\n"
        "print(notebook.__file__, verdict.passed, verdict.solutions)\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "CROSSTALK_"))}
    environment |= {"PYTHONPATH": str(given), "CROSSTALK_WORK": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], cwd=given, env=environment, capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == f"{given / 'autograder' / 'notebook.py'} True []", run.stdout + run.stderr
    assert (tmp_path / "my_model" / "softmax.py").is_file()
