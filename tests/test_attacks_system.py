"""Attacks on the machine that grades: none gets anything, costs anybody else anything, or leaves anything behind.

Where an attack would find something in a plain process, it is run there first: so the test can fail.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import nbformat
import pytest
from attacks import system
from attacks.handing_in import content, lesson_called, released, score, solution, with_answers
from attacks.system import Attack, Legacy
from ordinary_user import run_as_ordinary_user

from autograder.grading import conversation
from autograder.grading.grader import Grader
from autograder.grading.results import Graded
from autograder.judging import request as asked_for
from autograder.messages import Tree, decode
from autograder.packs import packs_of, visible_pack
from autograder.sandbox.pool import Budget, Ended
from autograder.sandbox.wire import WireError
from crosstalk.course import Course, course
from crosstalk.places import assets_folder, course_folder

EXERCISE = "sequence_log_prob"
SECONDS, GRACE, MEMORY_MB = 1.0, 0.5, 512  # of an answer; less than the course's, so that the tests are quick

pytestmark = pytest.mark.sandbox


@dataclass
class Arena:
    """A grader at work, and a class's folder, a server and a process that attacks would like to reach."""

    grader: Grader
    places: Mapping[str, object]
    environment: Mapping[str, str]
    zygote: int  # its process
    points_for_nothing: float

    def grade(self, source: str) -> Graded:
        """Grade a notebook with this answer."""
        return self.grader.grade("attacker", content(with_answers(self.grader.lesson, {EXERCISE: source})))

    def grade_honest(self) -> float:
        """The points of a right answer, now."""
        return score(self.grade(solution(EXERCISE)))

    def run(self, source: str, seconds: float = 20.0, waited: bool = False) -> tuple[str, Ended]:
        """What the answer raised in a child, or "" if it did not, and how the child ended.

        The child is a new one, or the one that has ``waited`` while another was graded.
        """
        lesson, packs = self.grader.lesson, packs_of(EXERCISE)
        zygote = self.grader._started()
        budget = Budget(seconds, MEMORY_MB)
        if waited:
            assert zygote._ahead
            budget = zygote._ahead.budget
        child, _ = zygote.fork(budget)
        said: list[Tree] = []
        until = time.monotonic() + seconds + GRACE
        try:
            with mock.patch("autograder.judging.course", lambda: course_with(seconds)):
                asked = asked_for(EXERCISE, source, visible_pack(lesson).setup, packs, own_pieces=False)
            child.send(asked, until)
            while not said or said[-1]["what"] != "end":
                said.append(decode(child.receive(2**26, until)))
        except WireError:
            pass
        ended = zygote.end(child)
        assert ended
        return said[0].get("message", "") if said else "", ended

    def found(self, source: str, waited: bool = False) -> list[str]:
        """What an attack has found in the sandbox."""
        return findings(self.run(source, waited=waited)[0])

    def found_outside(self, source: str) -> list[str]:
        """What the same source finds in a plain process, which has a file, two sockets and shared memory open."""
        before = (f"import mmap, socket\nshared = mmap.mmap(-1, 4096)\npair = socket.socketpair()\n"
                  f"file = open({self.places['gradebook']!r})\n")  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", before + source], env=os.environ | self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return findings(done.stdout + done.stderr)


def findings(text: str) -> list[str]:
    """What an attack tells at its end."""
    match = re.search(r"found (\[.*)", text)
    assert match, text
    return list(json.JSONDecoder().raw_decode(match[1])[0])


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What this process, which grades, has in its environment."""
    home = tmp_path_factory.mktemp("home")
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id_ed25519").write_text("a canary")
    scratch = tmp_path_factory.mktemp("scratch")
    added = {"HOME": str(home), "CANARY_OF_THE_TESTS": "a canary", "TMPDIR": str(scratch)}
    with mock.patch.dict(os.environ, added):
        yield added


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, environment: Mapping[str, str]) -> Iterator[dict[str, object]]:
    """A class's folder with everything in it, a server, and this process."""
    folder = tmp_path_factory.mktemp("class")
    names = {
        "gradebook": "gradebook.db", "settings": "nbgrader_config.py",
        "submission": "submitted/other/00-start-here/start-here.ipynb",
        "hidden": "hidden/00-start-here.safetensors",
    }  # fmt: skip
    for name in names.values():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("a canary")
    import sqlite3

    (folder / "gradebook.db").unlink()
    with sqlite3.connect(folder / "gradebook.db") as book:
        book.execute("CREATE TABLE grade (manual_score REAL)")
    book.close()
    with serving(str(folder / "socket")) as port:
        yield {
            "class": str(folder), "gradebook": str(folder / names["gradebook"]),
            "submission": str(folder / names["submission"]), "hidden": [str(folder / names["hidden"])],
            "packs": str(assets_folder() / "packs"), "course": str(course_folder()), "home": environment["HOME"],
            "package": nbformat.__file__, "process": os.getpid(), "tcp": port, "unix": str(folder / "socket"),
            "abstract": f"of-the-tests-{os.getpid()}",
        }  # fmt: skip


class serving:
    """Servers for connections of many kinds, as a context: whoever connects is told something and let go."""

    def __init__(self, path: str) -> None:
        kinds = [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, path),
                 (socket.AF_UNIX, f"\0of-the-tests-{os.getpid()}")]  # fmt: skip
        self.servers = []
        for family, address in kinds:
            server = socket.socket(family, socket.SOCK_STREAM)
            server.bind(address)
            server.listen(50)
            self.servers.append(server)

    def __enter__(self) -> int:
        for server in self.servers:
            threading.Thread(target=self._serve, args=(server,), daemon=True).start()
        return int(self.servers[0].getsockname()[1])

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.close()

    def _serve(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(0.2)
                connection.recv(1000)  # a connection with something unread is cut off, and not closed
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nserved")


@contextlib.contextmanager
def grading(places: Mapping[str, object], environment: Mapping[str, str]) -> Iterator[Arena]:
    with (
        mock.patch.object(conversation, "course", lambda: course_with(SECONDS)),
        mock.patch("autograder.grading.zygotes.course", lambda: course_with(SECONDS)),
        mock.patch("autograder.judging.course", lambda: course_with(SECONDS)),
        mock.patch.object(conversation, "GRACE_SECONDS", GRACE),
        Grader(lesson_called("00-start-here"), released(lesson_called("00-start-here"))) as made,
    ):
        nothing = made.grade("nobody", content(made.released))
        yield Arena(made, places, environment, zygote_of(made), score(nothing))


@pytest.fixture(scope="module")
def arena(places: Mapping[str, object], environment: Mapping[str, str]) -> Iterator[Arena]:
    with grading(places, environment) as made:
        yield made


# A zygote that believes its kernel to have no Landlock.
_WITHOUT_LANDLOCK = """
from autograder.sandbox import landlock, zygote
landlock.abi = lambda: 0
zygote.main()
"""


@pytest.fixture(scope="module")
def arena_without_landlock(places: Mapping[str, object], environment: Mapping[str, str]) -> Iterator[Arena]:
    """Landlock is a second wall, and not every kernel has it: the first must hold alone."""
    start = subprocess.Popen

    def started(command: list[str], **options: Any) -> subprocess.Popen:
        if "autograder.sandbox.zygote" in command:
            command = [*command[: command.index("-m")], "-c", _WITHOUT_LANDLOCK, command[-1]]
        return start(command, **options)

    with contextlib.ExitStack() as stack:
        with mock.patch("autograder.sandbox.pool.subprocess.Popen", started):
            made = stack.enter_context(grading(places, environment))
        yield made


def course_with(seconds: float) -> Course:
    """The course, with less time and memory for an answer."""
    limits = course().limits.model_copy(update={"seconds": seconds, "memory_mb": MEMORY_MB})
    return course().model_copy(update={"limits": limits})


def zygote_of(made: Grader) -> int:
    process = made.zygote and made.zygote._process
    assert process and process.poll() is None
    return process.pid


@pytest.fixture(autouse=True)
def next_one_is_graded(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every attack the zygote is the one it was, and an honest submission gets all its points.

    That is tried in the child that has waited beside the attack: else the zygote would have been started anew.
    """
    names = [name for name in ("arena", "arena_without_landlock") if name in request.fixturenames]
    arenas = [request.getfixturevalue(name) for name in names]
    yield
    for arena in arenas:
        assert arena.grade_honest() == arena.grader.lesson.points
        assert zygote_of(arena.grader) == arena.zygote


def check(arena: Arena, attack: Attack, seconds: float = 20.0) -> None:
    """The attack finds nothing, takes no more memory than allowed, gets no points, and its reason is recorded."""
    source = attack.source(arena.places)
    if attack.shown is True or (attack.shown == "root" and os.geteuid() == 0):
        outside = attack.source({**arena.places, "outside": True})
        assert arena.found_outside(outside), "this attack finds nothing anywhere"
    if attack.tells:
        message, ended = arena.run(source, seconds)
        assert not message.startswith("found") or findings(message) == []
        assert ended.peak_kb < ended.zygote_kb + (MEMORY_MB + 64) * 1024
    graded = arena.grade(source)
    assert score(graded) == arena.points_for_nothing == 0
    if attack.reasons:
        assert {reason.kind for reason in graded.reasons} & attack.reasons, graded.reasons


def each(attacks: Mapping[str, object]) -> Callable:
    return pytest.mark.parametrize("attack", attacks.values(), ids=attacks.keys())


def test_an_honest_answer_has_all_points(arena: Arena) -> None:
    assert arena.grade_honest() == arena.grader.lesson.points > 0


TRYING = {"reads": system.READING, "writes": system.WRITING, "ends": system.ENDING, "network": system.NETWORK,
          "process": system.PROCESSES, "call": system.CALLS}  # fmt: skip


@each({f"{kind}: {name}": attack for kind, attacks in TRYING.items() for name, attack in attacks.items()})
def test_attack(arena: Arena, attack: Attack) -> None:
    check(arena, attack)


@each(system.LOOPS)
def test_loop(arena: Arena, attack: Attack) -> None:
    graded = arena.grade(attack.source(arena.places))
    assert score(graded) == 0
    kinds = {reason.kind for reason in graded.reasons}
    assert kinds & attack.reasons if attack.reasons else not kinds & {"could not be judged"}


@each(system.BOMBS)
def test_bomb(arena: Arena, attack: Attack) -> None:
    check(arena, attack, SECONDS)


@each(system.LEFT)
def test_left(arena: Arena, attack: Legacy) -> None:
    assert arena.found_outside(attack.both(arena.places)), "this is found nowhere"
    assert arena.found(attack.leaving(arena.places)) == []
    assert arena.found(attack.looking(arena.places)) == []
    for waited in (False, True):
        arena.grade(attack.leaving(arena.places))
        assert arena.found(attack.looking(arena.places), waited) == []


def test_a_hostile_answer_costs_only_its_own_exercise() -> None:
    lesson = lesson_called("01-attention")
    answers = {entry.name: solution(entry.name) for entry in lesson.exercises}
    answers["softmax"] = "import os\ndef softmax(scores, dim):\n    os._exit(0)"
    with Grader(lesson, released(lesson)) as made:
        graded = made.grade("attacker", content(with_answers(lesson, answers)))
    points = {each.grade_id: each.points for each in graded.cells}
    assert points == {f"check-{entry.name}": entry.points for entry in lesson.exercises} | {"check-softmax": 0}
    assert [reason.kind for reason in graded.reasons] == ["ended the process"]


def test_a_child_is_a_process_group_of_its_own(arena: Arena) -> None:
    """Else a signal to group 0 reaches whoever is in it outside the pid namespace and of the same user."""
    source = Attack("found(os.getpgrp() == os.getsid(0) == os.getpid())").source(arena.places)
    assert arena.found(source) == ["True"]


@each(system.READING | system.WRITING | system.ENDING)
def test_without_landlock(arena_without_landlock: Arena, attack: Attack) -> None:
    here = arena_without_landlock
    if attack.tells and not attack.reasons:
        message, _ = here.run(attack.source(here.places))
        assert not message.startswith("found") or findings(message) == []
    assert score(here.grade(attack.source(here.places))) == here.points_for_nothing


def test_landlock_was_off(arena_without_landlock: Arena) -> None:
    """And on in the others: only there the root itself cannot be listed."""
    source = Attack('content("/")').source(arena_without_landlock.places)
    assert len(arena_without_landlock.found(source)) == 1


def test_devices_keep_their_times(arena: Arena) -> None:
    """They are the host's own: a time set there would be a mark for the next submission to find."""
    devices = [Path("/dev", name) for name in ("null", "zero", "random", "urandom")]
    before = [device.stat().st_mtime_ns for device in devices]
    assert arena.found(system.WRITING["times of devices"].source(arena.places)) == []
    assert [device.stat().st_mtime_ns for device in devices] == before


if os.geteuid() == 0:

    def test_all_this_as_an_ordinary_user() -> None:
        done = run_as_ordinary_user(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                __file__,
                "-k",
                "not test_loop and not ordinary",
            ],
        )
        assert done.returncode == 0, done.stdout
        assert re.search(r"\d{2,} passed", done.stdout) and "skipped" not in done.stdout
