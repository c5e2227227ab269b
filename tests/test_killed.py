"""Whatever is killed whenever: each submission is graded once, and as if nobody had been killed."""

from __future__ import annotations

import errno
import itertools
import json
import multiprocessing
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import dask
import nbformat
import pytest
from honest_class import release
from killing import children
from nbformat import NotebookNode
from ordinary_user import run_as_ordinary_user
from test_gradebook import files, rows

from autograder import solutions
from autograder.build.freeze import wrong_source
from autograder.exercise import exercises_of
from autograder.grading import journal as journal_module
from autograder.grading import run as grading_run
from autograder.grading.autograded import Autograded
from autograder.grading.cluster import Order, Outcome, Task, grade_all
from autograder.grading.command import GradingError, run
from autograder.grading.gradebook import Writer
from autograder.grading.grader import Grader
from autograder.grading.journal import Journal
from autograder.grading.results import Graded
from autograder.grading.submissions import Handed, Submission, read
from autograder.sandbox.pool import Layers
from crosstalk.course import course
from crosstalk.places import assets_folder, course_folder

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

LESSON = course().lesson("00")
NAME = "sequence_log_prob"
SLEEP = "    import time\n    time.sleep(0.04)\n"
SEED = 5
SMALL = ["right00", "right01", "wrong0", "wrong1", "leaving", "nothing"]


def answers() -> dict[str, str | None]:
    """The answer of each student of a class; None for one whose folder is empty."""
    right = solutions.answer_source(solutions.read_source(LESSON), NAME)
    exercise = exercises_of(LESSON)[NAME]
    signature, _, body = right.partition("\n")
    slow = f"{signature}\n{SLEEP}{body}"
    found: dict[str, str | None] = {f"right{number:02}": f"{slow}\n# {number}" for number in range(20)}
    found |= {f"wrong{number}": wrong_source(exercise, number, right) for number in range(5)}
    found["endless"] = f"{signature}\n    while True:\n        pass"
    found["leaving"] = f"{signature}\n    import os\n    os._exit(3)"
    found["unwritten"] = f"{signature}\n    raise NotImplementedError"
    found["nothing"] = None
    return found


@pytest.fixture(scope="module")
def short_course() -> Iterator[Path]:
    """The course with the first lesson's pack alone, and with less time for an answer.

    Not below /tmp: there the sandbox has a folder of its own.
    """
    folder = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="crosstalk-course-"))
    folder.chmod(0o755)
    text = (course_folder() / "course.toml").read_text(encoding="utf-8")
    shorter = text.replace("seconds = 20.0", "seconds = 5.0")
    assert shorter != text
    (folder / "course.toml").write_text(shorter, encoding="utf-8")
    pack = f"{LESSON.id}.safetensors"
    (folder / "assets" / "packs").mkdir(parents=True)
    (folder / "assets" / "data").mkdir()
    shutil.copy(assets_folder() / "packs" / pack, folder / "assets" / "packs" / pack)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class to which the lesson was released, and nobody has handed in anything."""
    folder = tmp_path_factory.mktemp("class")
    release(folder, LESSON)
    return folder


def hand_in(folder: Path, student: str, answer: str | None) -> None:
    place = folder / "submitted" / student / LESSON.notebook
    place.parent.mkdir(parents=True, exist_ok=True)
    if answer is not None:
        notebook: NotebookNode = nbformat.read(folder / "release" / LESSON.notebook, 4)
        [cell] = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == NAME]
        cell.source = answer
        nbformat.write(notebook, place)


def verdicts(folder: Path) -> dict[str, Any]:
    """What the journal says, by key, without how long it took; each has to be there once, and none may wait."""
    with sqlite3.connect(folder / "grading.db") as connection:
        found = connection.execute("SELECT key, state, graded FROM crosstalk_verdict").fetchall()
    assert len({key for key, _, _ in found}) == len(found)
    assert {state for _, state, _ in found} <= {"standing", "replaced"}
    plain = {key: (state, json.loads(text)) for key, state, text in found}
    for _, graded in plain.values():
        del graded["seconds"]
    return plain


USERS = ["as it is", "as an ordinary user"] if os.geteuid() == 0 else ["as it is"]


@pytest.mark.parametrize("user", USERS)
def test_kills_at_any_moment_change_nothing(user: str, released: Path, short_course: Path, tmp_path: Path) -> None:
    """The rest is graded by the next run, nothing twice, nothing stays behind, and no honest student is blamed."""
    folder, calm = tmp_path / "killed", tmp_path / "calm"
    shutil.copytree(released, folder)
    shutil.copytree(released, calm)
    for student, answer in answers().items():
        hand_in(folder, student, answer)
    kills = 50 if user == USERS[0] else 15
    line = [sys.executable, str(Path(__file__).with_name("killing.py")), str(folder), str(calm), str(kills), str(SEED)]
    environment = {"CROSSTALK_COURSE": str(short_course), "OMP_NUM_THREADS": "1"}
    if user == "as an ordinary user":
        for path in (tmp_path, *tmp_path.rglob("*")):
            os.chown(path, 1000, 1000)
        ended = run_as_ordinary_user(line, environment=environment, readable=[tmp_path, short_course], timeout=1_800)
    else:
        ended = subprocess.run(line, env={**os.environ, **environment}, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, timeout=1_800)  # fmt: skip
    print(ended.stdout)
    assert ended.returncode == 0, (folder / "said.txt").read_text()
    found = json.loads(ended.stdout.splitlines()[-1])

    assert sum(found["kills"].values()) >= kills
    assert set(found["kills"]) >= {"command", "worker", "launcher", "zygote", "child"}
    assert (found["calm"], found["left over"], found["groups"]) == (0, 0, [])
    of_killed, of_calm = verdicts(folder), verdicts(calm)
    assert len(of_killed) == found["verdicts"]
    standing = {key: graded for key, (state, graded) in of_killed.items() if state == "standing"}
    assert standing == {key: graded for key, (_, graded) in of_calm.items()}
    assert len(standing) == len(answers())
    for graded in standing.values():
        assert bool(graded["reasons"]) == (graded["student"] in ("leaving", "nothing"))
    assert rows(folder) == rows(calm)
    assert files(folder) == files(calm)
    for student in answers():
        nbformat.validate(nbformat.read(folder / "autograded" / student / LESSON.notebook, 4))


# --- the same, step by step: what the sandbox would give is given from memory


@pytest.fixture(scope="module")
def calm(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small class that was graded without any disturbance."""
    folder = tmp_path_factory.mktemp("calm") / "class"
    shutil.copytree(released, folder)
    for student in SMALL:
        hand_in(folder, student, answers()[student])
    assert run(folder, LESSON.id, None, workers=2, again=False, unsafe=False)
    return folder


@dataclass
class Replay:
    """Stands in for the workers: gives what they gave to the calm class."""

    known: dict[str, Graded]
    asked: list[str] = field(default_factory=list)
    failing: str = ""  # this student's submission meets a fault of the machine

    def __call__(self, order: Order, tasks: Iterable[Task], workers: int) -> Generator[Outcome, None, None]:
        for task in tasks:
            self.asked.append(task.student)
            if task.student == self.failing:
                yield Outcome(task.student, None, "SandboxError: no space left on device")
                continue
            graded = self.known.get(task.key) or next(one for one in self.known.values() if one.student == task.student)
            yield Outcome(task.student, replace(graded, key=task.key, timestamp=task.timestamp))


@pytest.fixture
def replay(calm: Path, monkeypatch: pytest.MonkeyPatch) -> Replay:
    with sqlite3.connect(calm / "grading.db") as connection:
        found = [Graded.from_json(text) for (text,) in connection.execute("SELECT graded FROM crosstalk_verdict")]
    assert {graded.student for graded in found} == set(SMALL)
    stand_in = Replay({graded.key: graded for graded in found})
    monkeypatch.setattr(grading_run, "grade_all", stand_in)
    monkeypatch.setattr(grading_run, "WRITE_EVERY", 2)
    return stand_in


@pytest.fixture
def folder(calm: Path, released: Path, tmp_path: Path) -> Path:
    """The same class before it was graded."""
    copied = tmp_path / "class"
    shutil.copytree(released, copied)
    shutil.copytree(calm / "submitted", copied / "submitted")
    return copied


def again(folder: Path, **options: Any) -> bool:
    return run(folder, LESSON.id, **({"students": None, "workers": 1, "again": False, "unsafe": False} | options))


def assert_like(folder: Path, calm: Path) -> None:
    assert verdicts(folder) == verdicts(calm)
    assert rows(folder) == rows(calm)
    assert files(folder) == files(calm)


def killed_at(place: type, name: str, call: int, after: bool) -> Callable[[pytest.MonkeyPatch], None]:
    """Have this process end at some call of a method, before or after it does its work."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        works, calls = getattr(place, name), itertools.count(1)

        def dying(*arguments: Any, **named: Any) -> Any:
            now = next(calls) == call
            if now and not after:
                os._exit(9)
            result = works(*arguments, **named)
            if now:
                os._exit(9)
            return result

        monkeypatch.setattr(place, name, dying)

    return patch


MOMENTS = {
    "before the first verdict is in the journal": killed_at(Journal, "record", 1, after=False),
    "between journal and folder": killed_at(Writer, "write", 2, after=False),
    "in the middle of the files": killed_at(Autograded, "write", 3, after=True),
    "in the middle of a file": killed_at(Autograded, "_replace", 3, after=False),
    "between the rows and the journal": killed_at(Writer, "write", 2, after=True),
    "after the second batch": killed_at(Journal, "mark_written", 2, after=True),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_each_step_the_next_run_does_the_rest(moment: str, folder: Path, calm: Path, replay: Replay,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    if (pid := os.fork()) == 0:
        try:
            MOMENTS[moment](monkeypatch)
            again(folder)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    with Journal.beside(folder) as journal:
        there = {one.student for one in replay.known.values() if journal.graded(one.key)}
    assert again(folder)
    assert sorted(replay.asked) == sorted(set(SMALL) - there)
    assert_like(folder, calm)


def test_what_is_unchanged_costs_no_run(
    folder: Path, calm: Path, replay: Replay, capsys: pytest.CaptureFixture
) -> None:
    assert again(folder)
    replay.asked.clear()
    assert again(folder)
    assert replay.asked == []
    assert re.search(rf"unchanged since they were graded\D+{len(SMALL)}\b", capsys.readouterr().out)
    assert_like(folder, calm)


def test_what_has_changed_is_graded_anew_and_nothing_else(folder: Path, replay: Replay,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    def asked() -> list[str]:
        replay.asked.clear()
        assert again(folder)
        return replay.asked

    assert asked() == sorted(SMALL)
    before = (folder / "submitted" / "right00" / LESSON.notebook).read_bytes()
    hand_in(folder, "right00", answers()["right01"])
    assert asked() == ["right00"]
    (folder / "submitted" / "wrong0" / LESSON.id / "timestamp.txt").write_text("2026-11-02 18:00:00 UTC")
    assert asked() == ["wrong0"]
    (folder / "submitted" / "right00" / LESSON.notebook).write_bytes(before)
    assert asked() == []  # the journal knows that version
    with Journal.beside(folder) as journal:
        first = next(key for key, graded in replay.known.items() if graded.student == "right00")
        assert first in journal.standing(LESSON.id)
    other = tmp_pack(folder)
    monkeypatch.setattr(grading_run, "pack_files", lambda lesson: [other])
    assert asked() == sorted(SMALL)


def tmp_pack(folder: Path) -> Path:
    path = folder / "other.safetensors"
    path.write_bytes(b"other cases")
    return path


def test_again_grades_what_is_unchanged_and_keeps_one_verdict(folder: Path, calm: Path, replay: Replay) -> None:
    assert again(folder)
    replay.asked.clear()
    assert again(folder, again=True, students=["right00"])
    assert replay.asked == ["right00"]
    assert_like(folder, calm)


def test_a_fault_of_the_machine_is_nobodys_and_tried_again(folder: Path, calm: Path, replay: Replay,
                                                           capsys: pytest.CaptureFixture) -> None:  # fmt: skip
    replay.failing = "right01"
    assert not again(folder)
    assert "right01: not graded (SandboxError: no space left on device)" in " ".join(capsys.readouterr().out.split())
    assert not (folder / "autograded" / "right01").exists()
    assert "right01" not in {graded["student"] for _, graded in verdicts(folder).values()}
    replay.failing = ""
    replay.asked.clear()
    assert again(folder)
    assert replay.asked == ["right01"]
    assert_like(folder, calm)


def test_a_folder_that_cannot_be_read_costs_one_submission(folder: Path, calm: Path, replay: Replay,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    def failing(submission: Submission) -> Handed:
        if submission.student == "right01":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(submission)

    with monkeypatch.context() as patch:
        patch.setattr(grading_run, "read", failing)
        assert not again(folder)
        assert "right01" not in replay.asked
    assert again(folder)
    assert_like(folder, calm)


def test_a_full_disk_gets_a_sentence_and_loses_nothing(folder: Path, calm: Path, replay: Replay,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Autograded, "_replace", full)
        with pytest.raises(GradingError, match=r"No space left on device.*run the same command again"):
            again(folder)
    assert not any(rows(folder)["submitted_assignment"])
    asked = set(replay.asked)
    replay.asked.clear()
    assert again(folder)
    assert not asked & set(replay.asked)
    assert_like(folder, calm)


def test_a_journal_that_somebody_holds_gets_a_sentence(folder: Path, calm: Path, replay: Replay,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(journal_module, "_PATIENCE", 10)
    Journal.beside(folder).close()
    holder = sqlite3.connect(folder / "grading.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(GradingError, match=r"grading\.db cannot be used now .*locked.* run the same command again"):
        again(folder)
    holder.close()
    assert again(folder)
    assert_like(folder, calm)


# --- Ctrl-C, kills from outside, and a submission that kills workers


def test_ctrl_c_ends_it_soon_and_says_how_far_it_came(released: Path, tmp_path: Path) -> None:
    folder = tmp_path / "class"
    shutil.copytree(released, folder)
    for number in range(16):
        hand_in(folder, f"student{number:02}", answers()[f"right{number:02}"])
    line = [sys.executable, "-m", "crosstalk", "grade", "00", "--folder", str(folder), "--workers", "2"]
    command = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               start_new_session=True)  # fmt: skip
    with Journal.beside(folder) as journal:
        while command.poll() is None and not any(journal.unwritten()):
            time.sleep(0.02)
    os.killpg(command.pid, signal.SIGINT)
    said, _ = command.communicate()
    assert command.returncode == 1, said
    done = int(re.search(r"Stopped when (\d+) of 16 were through", " ".join(said.split()))[1])  # type: ignore[index]
    assert 0 < done < 16
    assert re.search(rf" {done}/16 ", said)  # the bar
    assert "Traceback" not in said
    assert len(verdicts(folder)) == len(list((folder / "autograded").iterdir())) >= done
    ended = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert ended.returncode == 0, ended.stdout
    assert len(verdicts(folder)) == 16


def test_who_is_killed_from_outside_is_not_blamed(calm: Path) -> None:
    """Twice, where one more try could be thought enough."""
    content = (calm / "submitted" / "right00" / LESSON.notebook).read_bytes()
    released = nbformat.read(calm / "release" / LESSON.notebook, 4)
    killed: list[int] = []

    def kill() -> None:
        while len(killed) < 2:
            time.sleep(0.01)
            process = grader.zygote and grader.zygote._process
            for zygote in children(process.pid) if process else ():
                for child in children(zygote):
                    if child not in killed:
                        time.sleep(0.1)  # it is to be at work
                        os.kill(child, signal.SIGKILL)
                        killed.append(child)

    with Grader(LESSON, released) as grader:
        killing = threading.Thread(target=kill)
        killing.start()
        graded = grader.grade("right00", content)
        killing.join()
    assert len(killed) == 2
    assert graded.reasons == []
    assert graded.points == sum(exercise.points for exercise in LESSON.exercises)


class Deadly(str):
    """A student's name that ends the worker that reads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _read_name, (str(self),)


def _read_name(name: str) -> str:
    if multiprocessing.parent_process() is not None:  # and not in the command
        os._exit(1)
    return Deadly(name)


def test_a_submission_that_kills_its_workers_costs_only_itself(calm: Path) -> None:
    released = nbformat.writes(nbformat.read(calm / "release" / LESSON.notebook, 4))
    content = (calm / "submitted" / "right00" / LESSON.notebook).read_bytes()
    names = ["ada", Deadly("bob"), "cem", "dee"]
    tasks = [Task(name, f"key of {name}", content, "", ()) for name in names]
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        found = list(grade_all(Order(LESSON.id, released, Layers(), ""), tasks, workers=1))
    assert sorted(outcome.student for outcome in found) == sorted(names)
    lost = [outcome for outcome in found if outcome.graded is None]
    assert [(outcome.student, outcome.failure) for outcome in lost] == [("bob", "each worker that graded it died")]
