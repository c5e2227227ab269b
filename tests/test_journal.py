"""The journal: each verdict once, whatever is killed when."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from autograder.grading.environment import environment
from autograder.grading.journal import Journal, JournalError, digest, key
from autograder.grading.lock import BusyError, alone
from autograder.grading.results import CellResult, Graded, Reason
from crosstalk.places import course_folder


def graded(student: str = "ada", lesson: str = "01-attention", content: str = "first") -> Graded:
    return Graded(
        student=student,
        lesson=lesson,
        key=key(student, lesson, content.encode(), "packs", "environment"),
        timestamp="2026-11-02T18:00:00+00:00",
        cells=[CellResult("check-softmax", 1.5, 2.0, "1.5", "<p>…</p>", "ignores_dim", True)],
        reasons=[Reason("duplicate cell", "The cell stands twice: take one out.")],
        notebook=json.dumps({"cells": [], "nbformat": 4}),
        seconds={"fork": 0.017},
    )


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.beside(tmp_path)


def test_what_was_recorded_comes_back_as_it_was(journal: Journal, tmp_path: Path) -> None:
    one = graded()
    assert journal.graded(one.key) is None
    assert journal.record(one)
    with Journal.beside(tmp_path) as again:
        assert again.graded(one.key) == one


def test_a_verdict_is_recorded_once_and_the_first_stays(journal: Journal) -> None:
    one = graded()
    assert journal.record(one)
    assert not journal.record(replace(one, cells=[]))
    assert journal.graded(one.key) == one
    assert list(journal.unwritten()) == [one]


def test_what_is_graded_anew_takes_the_place_of_the_verdict_of_that_key(journal: Journal) -> None:
    one, other = graded(), graded("bob")
    for each in (one, other):
        journal.record(each)
    journal.mark_written([one.key, other.key])
    again = replace(one, cells=[])
    assert journal.record(again, anew=True)
    assert journal.graded(one.key) == again
    assert list(journal.unwritten()) == [again]
    assert journal.standing("01-attention") == {other.key}
    assert journal.record(graded("cem"), anew=True)


def test_unwritten_are_those_that_no_folder_has_seen(journal: Journal) -> None:
    ada, bob = graded("ada"), graded("bob")
    for one in (bob, ada):
        journal.record(one)
    assert list(journal.unwritten()) == [bob, ada]
    journal.mark_written([bob.key])
    assert list(journal.unwritten()) == [ada]
    assert journal.standing("01-attention") == {bob.key}
    assert journal.standing("02-masking") == set()


def test_of_two_unwritten_submissions_of_a_student_only_the_later_is_written(journal: Journal) -> None:
    first, second, other = graded(), graded(content="second"), graded(lesson="02-masking")
    for one in (first, other, second):
        journal.record(one)
    assert list(journal.unwritten()) == [other, second]


def test_handing_in_the_first_version_again_shows_that_the_folder_holds_the_second(journal: Journal) -> None:
    first, second = graded(), graded(content="second")
    for one in (first, second):
        journal.record(one)
        journal.mark_written([one.key])
    assert journal.graded(first.key) == first  # costs no run
    assert journal.standing("01-attention") == {second.key}  # but is to be written
    journal.mark_written([first.key])
    assert journal.standing("01-attention") == {first.key}
    assert list(journal.unwritten()) == []


def test_a_name_that_is_no_text_and_a_text_with_half_a_character_are_kept(journal: Journal) -> None:
    """Folder names may be any bytes, and JSON can spell half of a surrogate pair."""
    one = replace(graded(os.fsdecode(b"ad\xe9")), notebook='{"cells": ["\udc00"]}')
    assert journal.record(one)
    assert journal.graded(one.key) == one
    assert journal.standing("01-attention") == set()
    journal.mark_written([one.key])
    assert journal.standing("01-attention") == {one.key}


def test_the_key_depends_on_each_part_and_on_where_one_ends() -> None:
    given = ("ada", "01-attention", b"content", "packs", "environment")
    others = [(*given[:i], part[:-1], *given[i + 1 :]) for i, part in enumerate(given)]
    others += [("ada0", "1-attention", *given[2:]), (*given[:3], "pack", "senvironment")]
    keys = [key(*one) for one in (given, *others)]  # type: ignore[arg-type]
    assert len(set(keys)) == len(keys)
    assert digest(b"a", b"") != digest(b"", b"a")


def test_the_environment_depends_on_limits_points_and_assurance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (course_folder() / "course.toml").read_text(encoding="utf-8")
    found = [environment(), environment(), environment("no seccomp")]
    changes = {"seconds = 20": "seconds = 21", "points = 2": "points = 3", 'title = "': 'title = "Another '}
    for number, (old, new) in enumerate(changes.items()):
        changed = text.replace(old, new, 1)
        assert changed != text
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "course.toml").write_text(changed, encoding="utf-8")
        monkeypatch.setenv("CROSSTALK_COURSE", str(folder))
        found.append(environment())
    first, again, unsafe, limits, points, title = found
    assert first == again == title
    assert len({first, unsafe, limits, points}) == 4


# --- what is damaged, old or busy


def test_a_file_that_is_no_journal_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "grading.db").write_bytes(b"these are not the grades of anybody at all" * 100)
    with pytest.raises(JournalError, match=r"grading\.db is damaged .* move it away"):
        Journal.beside(tmp_path)


def test_a_journal_with_holes_gets_a_sentence(tmp_path: Path) -> None:
    with Journal.beside(tmp_path) as journal:
        for number in range(50):
            journal.record(graded(f"student{number}"))
    path = tmp_path / "grading.db"
    content = bytearray(path.read_bytes())
    content[8192:-8192] = os.urandom(len(content) - 16384)
    path.write_bytes(content)
    with pytest.raises(JournalError, match="move it away"), Journal.beside(tmp_path) as journal:
        list(journal.unwritten())


def test_a_verdict_of_another_form_gets_a_sentence(journal: Journal, tmp_path: Path) -> None:
    journal.record(graded())
    with sqlite3.connect(tmp_path / "grading.db") as connection:
        connection.execute("UPDATE crosstalk_verdict SET graded = '{\"student\": 1}'")
    with pytest.raises(JournalError, match="a verdict cannot be read"):
        journal.graded(graded().key)


def test_another_version_is_refused(journal: Journal, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "grading.db") as connection:
        connection.execute("UPDATE crosstalk_journal SET version = 99")
    with pytest.raises(JournalError, match="has version 99"):
        Journal.beside(tmp_path)


def test_a_folder_that_is_not_there_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be used now"):
        Journal.beside(tmp_path / "nowhere")


def test_an_address_of_no_database_gets_a_sentence() -> None:
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal("grading.db")


def test_two_commands_do_not_grade_the_same_class(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from autograder.grading.lock import alone\n" \
           "with alone(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"  # fmt: skip
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)  # fmt: skip
    assert holder.stdout and holder.stdout.readline() == b"held\n"
    with pytest.raises(BusyError, match=rf"process {holder.pid}\) is at work in"), alone(tmp_path):
        pass
    holder.kill()  # no farewell: the system lets go of the folder
    holder.communicate()
    with alone(tmp_path):
        assert (tmp_path / "grading.lock").read_text() == str(os.getpid())


# --- kills

_RECORDER = """
import sys
from pathlib import Path
from dataclasses import replace
from autograder.grading.journal import Journal
from autograder.grading.results import Graded

folder, first = Path(sys.argv[1]), int(sys.argv[2])
blank = Graded("", "01-attention", "", "", [], [], "x" * 20_000)
with Journal.beside(folder) as journal:
    batch = [one.key for one in journal.unwritten()]
    for number in range(first, 100_000):
        one = replace(blank, student=f"student{number % 40}", key=f"{number:064}")
        if not journal.record(one):
            sys.exit("recorded twice")
        print("recorded", one.key, flush=True)
        batch.append(one.key)
        if len(batch) >= 5:
            journal.mark_written(batch)
            print("written", *batch, flush=True)
            batch = []
"""


def test_a_kill_at_any_moment_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    dice = random.Random(5)
    said: list[str] = []
    for _ in range(6):
        with sqlite3.connect(tmp_path / "grading.db") as connection:  # begins a file; the journal's own tables follow
            there = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'crosstalk_verdict'").fetchone()
            count = connection.execute("SELECT count(*) FROM crosstalk_verdict").fetchone()[0] if there[0] else 0
        process = subprocess.Popen(
            [sys.executable, "-c", _RECORDER, str(tmp_path), str(count)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        said += list(itertools.islice(process.stdout, dice.randrange(0, 40)))
        process.send_signal(signal.SIGKILL)
        said += process.communicate()[0].splitlines(keepends=True)
        assert process.returncode == -signal.SIGKILL
    told = [line.split() for line in said if line.endswith("\n")]
    recorded = [words[1] for words in told if words[0] == "recorded"]
    written = {key for words in told if words[0] == "written" for key in words[1:]}
    assert len(recorded) > 6 and written
    assert len(set(recorded)) == len(recorded)
    with Journal.beside(tmp_path) as journal:
        for one in recorded:
            assert journal.graded(one) is not None
        assert written.isdisjoint(one.key for one in journal.unwritten())
    with sqlite3.connect(tmp_path / "grading.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        keys = [row[0] for row in connection.execute("SELECT key FROM crosstalk_verdict ORDER BY number")]
    assert keys == [f"{number:064}" for number in range(len(keys))]
    assert len(keys) - len(recorded) <= 6  # a kill between the record and saying so
