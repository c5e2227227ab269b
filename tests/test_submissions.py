"""What was handed in is found and read, whatever lies in the folders."""

from __future__ import annotations

import os
import pickle
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from autograder.grading import submissions
from autograder.grading.results import Reason
from autograder.grading.shown import listed, shown
from autograder.grading.submissions import MAX_NOTEBOOK_BYTES, Handed, find, read
from crosstalk.course import course

LESSON = course().lesson("01-attention")
NAME = "attention.ipynb"
NOTEBOOK = b'{"cells": []}'


@pytest.fixture
def submitted(tmp_path: Path) -> Path:
    folder = tmp_path / "submitted"
    folder.mkdir()
    return folder


def hand_in(submitted: Path, student: str = "anna", **files: bytes) -> Path:
    folder = submitted / student / LESSON.id
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


def only(submitted: Path) -> Handed:
    found = find(submitted, LESSON)
    assert len(found) == 1
    return read(found[0])


def kinds(reasons: tuple[Reason, ...]) -> list[str]:
    for reason in reasons:
        assert reason.sentence.endswith(".") and reason.sentence.isprintable() and len(reason.sentence) < 400
    return [reason.kind for reason in reasons]


def test_an_honest_submission(submitted: Path) -> None:
    hand_in(submitted, attention__ipynb=NOTEBOOK, timestamp__txt=b"2026-11-23 18:05:00.5 CET\n")
    assert only(submitted) == Handed(NOTEBOOK, NAME, "2026-11-23T17:05:00.500000", ())


def test_students_are_sorted_and_can_be_chosen(submitted: Path) -> None:
    for student in ("bob", "anna", "Çelik", "o'neill", "a b", "x@y.org"):
        hand_in(submitted, student, attention__ipynb=NOTEBOOK)
    (submitted / "dora" / "02-masking").mkdir(parents=True)
    assert [each.student for each in find(submitted, LESSON)] == ["a b", "anna", "bob", "o'neill", "x@y.org", "Çelik"]
    chosen = find(submitted, LESSON, ["bob", "dora", "bob", "erik"])
    assert [(each.student, kinds(each.reasons)) for each in chosen] == [
        ("bob", []), ("dora", ["no submission"]), ("erik", ["no submission"])]  # fmt: skip
    assert chosen[0].folder == submitted / "bob" / LESSON.id


def test_it_travels_to_a_worker(submitted: Path) -> None:
    hand_in(submitted, attention__ipynb=NOTEBOOK)
    found = find(submitted, LESSON)[0]
    assert pickle.loads(pickle.dumps(found)) == found
    assert pickle.loads(pickle.dumps(read(found))).content == NOTEBOOK


# Names.


@pytest.mark.parametrize(
    "name",
    [b"ann\xff", b"a\nb", b"a\x1b[2Jb", "a\u202eb".encode(), b".hidden", b"..dots", b" anna", b"a*", b"[a]", b"a?",
     b"a\\b", b"x" * 200],
)  # fmt: skip
def test_an_odd_name_costs_that_one(submitted: Path, name: bytes) -> None:
    (Path(os.fsdecode(os.path.join(os.fsencode(submitted), name))) / LESSON.id).mkdir(parents=True)
    hand_in(submitted, "bob", attention__ipynb=NOTEBOOK)
    found = {bool(each.reasons): each for each in find(submitted, LESSON)}
    assert found[False].student == "bob"
    assert kinds(found[True].reasons) == ["odd name"] and found[True].student.isprintable()
    assert read(found[True]) == Handed(None, "", "", found[True].reasons)


@pytest.mark.parametrize("name", ["..", ".", "", "../secret", "/etc", "a/b", "a\0b", "x" * 5000, "é" * 128])
def test_a_name_asked_for_is_no_path(submitted: Path, name: str) -> None:
    hand_in(submitted.parent, "secret", attention__ipynb=NOTEBOOK)
    found = find(submitted, LESSON, [name])
    assert kinds(found[0].reasons) == ["odd name"]
    assert found[0].folder.resolve().is_relative_to(submitted) and read(found[0]).content is None


def test_files_beside_the_students(submitted: Path) -> None:
    (submitted / "README.txt").write_text("x")
    (submitted / ".DS_Store").write_text("x")
    (submitted / "anna.zip").write_text("x")
    (submitted / "bob").mkdir()
    (submitted / "bob" / f"{LESSON.id}.tar.gz").write_text("x")
    os.mkfifo(submitted / "carl")
    assert [(each.student, kinds(each.reasons)) for each in find(submitted, LESSON)] == [
        ("anna.zip", ["archive"]), ("bob", ["archive"]), ("carl", ["not a folder"])]  # fmt: skip


# Links and other things that are no files.


def test_folders_that_are_links_are_not_followed(submitted: Path, tmp_path: Path) -> None:
    elsewhere = hand_in(tmp_path, "elsewhere", attention__ipynb=NOTEBOOK)
    (submitted / "anna").symlink_to(elsewhere.parent)
    (submitted / "bob").mkdir()
    (submitted / "bob" / LESSON.id).symlink_to(elsewhere)
    found = find(submitted, LESSON)
    assert [kinds(each.reasons) for each in found] == [["symbolic link"], ["symbolic link"]]
    assert [read(each).content for each in found] == [None, None]


def test_a_folder_that_becomes_a_link_meanwhile(submitted: Path, tmp_path: Path) -> None:
    folder = hand_in(submitted, attention__ipynb=NOTEBOOK)
    found = find(submitted, LESSON)[0]
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    assert kinds(read(found).reasons) == ["no submission"]


def test_a_lesson_that_is_a_file(submitted: Path) -> None:
    (submitted / "anna").mkdir()
    (submitted / "anna" / LESSON.id).write_text("x")
    assert kinds(only(submitted).reasons) == ["not a folder"]


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(path.parent)  # the path of a socket must be short
        made.bind(path.name)


def a_device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))


STRANGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (lambda path: path.symlink_to("/etc/hostname"), "symbolic link"),
    "link to the notebook of another": (lambda path: path.symlink_to("../../bob/01-attention/attention.ipynb"),
                                        "symbolic link"),
    "dangling link": (lambda path: path.symlink_to("nothing"), "symbolic link"),
    "link to itself": (lambda path: path.symlink_to(path.name), "symbolic link"),
    "named pipe": (os.mkfifo, "not a file"),
    "folder": (os.mkdir, "not a file"),
    "socket": (a_socket, "not a file"),
}  # fmt: skip
if os.geteuid() == 0:
    STRANGE["device"] = (a_device, "not a file")


@pytest.mark.parametrize(("make", "kind"), STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("name", [NAME, "timestamp.txt", "data.csv", "other.ipynb"])
def test_what_is_no_file_is_not_opened(
    submitted: Path, make: Callable[[Path], object], kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(submitted)
    folder = hand_in(submitted)
    hand_in(submitted, "bob", attention__ipynb=NOTEBOOK)
    if name != NAME:
        (folder / NAME).write_bytes(NOTEBOOK)
    make(folder / name)
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: opened.append(str(path)) or real(path, *rest, **more))
    handed = read(find(submitted, LESSON, ["anna"])[0])
    monkeypatch.undo()
    assert name not in opened
    if name == NAME:
        assert handed.content is None and kinds(handed.reasons) == [kind]
    else:
        assert handed.content == NOTEBOOK
        wanted = ["bad timestamp"] if name == "timestamp.txt" else [] if kind == "not a file" and (
            folder / name).is_dir() else ["stray file"]  # fmt: skip
        assert kinds(handed.reasons) == wanted


def test_a_link_to_a_file_of_another_owner(submitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hand_in(submitted, attention__ipynb=NOTEBOOK)
    os.link(folder / NAME, submitted / "snapshot")
    assert only(submitted).content == NOTEBOOK  # a snapshot's second link to one's own file does no harm
    real = os.fstat

    def of_another(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        uid = status.st_uid + stat.S_ISREG(status.st_mode)
        return os.stat_result([*status[:4], uid, *status[5:10]])

    monkeypatch.setattr(submissions.os, "fstat", of_another)
    assert kinds(only(submitted).reasons) == ["hard link"]


# Which notebook.


def test_two_notebooks(submitted: Path) -> None:
    hand_in(submitted, attention__ipynb=NOTEBOOK, mine__ipynb=b"{}", yours__ipynb=b"{}")
    handed = only(submitted)
    assert handed.content == NOTEBOOK and kinds(handed.reasons) == ["two notebooks"]
    assert "there was mine.ipynb and yours.ipynb" in handed.reasons[0].sentence


def test_one_notebook_of_another_name(submitted: Path) -> None:
    folder = hand_in(submitted)
    (folder / "attention (1).ipynb").write_bytes(NOTEBOOK)
    handed = only(submitted)
    assert (handed.content, handed.name, kinds(handed.reasons)) == (NOTEBOOK, "attention (1).ipynb", ["other name"])


def test_two_notebooks_of_other_names(submitted: Path) -> None:
    hand_in(submitted, a__ipynb=NOTEBOOK, b__ipynb=NOTEBOOK)
    handed = only(submitted)
    assert handed.content is None and kinds(handed.reasons) == ["several notebooks"]


def test_no_notebook(submitted: Path) -> None:
    folder = hand_in(submitted, answer__py=b"x = 1")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / NAME).write_bytes(NOTEBOOK)
    handed = only(submitted)
    assert handed.content is None and kinds(handed.reasons) == ["no notebook"]


@pytest.mark.parametrize("name", ["attention.zip", "x.tar.gz", "x.7z", "X.RAR", "bomb.xz", "a.tar"])
def test_an_archive_is_not_unpacked(submitted: Path, name: str) -> None:
    folder = hand_in(submitted)
    (folder / name).write_bytes(b"PK\x03\x04")
    handed = only(submitted)
    assert handed.content is None and kinds(handed.reasons) == ["archive"]
    assert os.listdir(folder) == [name]


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\x00", b"7z\xbc\xaf\x27\x1c",
                                   b"Rar!\x1a\x07\x01\x00", b"x" * 257 + b"ustar\x0000"])  # fmt: skip
def test_an_archive_by_the_notebooks_name(submitted: Path, start: bytes) -> None:
    hand_in(submitted, attention__ipynb=start + bytes(100))
    handed = only(submitted)
    assert handed.content is None and kinds(handed.reasons) == ["archive"]


def test_stray_modules_are_named_and_data_are_not(submitted: Path) -> None:
    hand_in(submitted, attention__ipynb=NOTEBOOK, torch__py=b"raise SystemExit", data__csv=b"1")
    handed = only(submitted)
    assert handed.content == NOTEBOOK and kinds(handed.reasons) == ["stray file"]
    assert handed.reasons[0].sentence.startswith("torch.py was not looked at")


def test_a_folder_with_many_files(submitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hand_in(submitted, attention__ipynb=NOTEBOOK)
    for number in range(50):
        (folder / f"{number}.py").touch()
    monkeypatch.setattr(submissions, "MAX_ENTRIES", 20)
    handed = only(submitted)
    assert handed.content == NOTEBOOK and kinds(handed.reasons) == ["stray file"]


# Sizes.


def test_200_mb_are_not_read(submitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hand_in(submitted, attention__ipynb=b"")
    os.truncate(folder / NAME, 200_000_000)
    monkeypatch.setattr(submissions.os, "read", None)
    handed = only(submitted)
    assert handed.content is None and kinds(handed.reasons) == ["too large"]


def test_the_largest_that_is_read(submitted: Path) -> None:
    hand_in(submitted, attention__ipynb=b" " * MAX_NOTEBOOK_BYTES)
    content = only(submitted).content
    assert content is not None and len(content) == MAX_NOTEBOOK_BYTES


def test_a_file_that_grows_while_it_is_read(submitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hand_in(submitted, attention__ipynb=b"x")
    real = os.fstat

    def then_grow(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        os.truncate(folder / NAME, 2 * MAX_NOTEBOOK_BYTES)
        return status

    monkeypatch.setattr(submissions.os, "fstat", then_grow)
    assert kinds(only(submitted).reasons) == ["too large"]


# Timestamps.


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(b"2015-02-02 15:58:23.948203 UTC", "2015-02-02T15:58:23.948203"), (b"2015-02-02 15:58:23", "2015-02-02T15:58:23"),
     (b"2015-02-02 15:00:00 Europe/Berlin", "2015-02-02T14:00:00"),
     (b"2015-02-02T15:00:00+0200", "2015-02-02T13:00:00"),
     (b"11/23/2026", "2026-11-23T00:00:00"), (b"  \n", "")],
)  # fmt: skip
def test_timestamps_as_nbgrader_reads_them(submitted: Path, text: bytes, wanted: str) -> None:
    hand_in(submitted, attention__ipynb=NOTEBOOK, timestamp__txt=text)
    handed = only(submitted)
    assert (handed.timestamp, handed.reasons) == (wanted, ())


@pytest.mark.parametrize("text", [
    b"yesterday", b"\xff", b"9" * 50, b"2015-02-02 15:58:23 /etc/passwd", b"2015-02-02 15:58:23 ../../../etc/passwd",
    b"2015-02-02 15:58:23 :/etc/passwd", b"2015-02-02 15:58:23 a/../../b", b"0001-01-01 00:00:00 +1400", b"x" * 5000,
    b"2015-02-02 15:58:23 " + b"9" * 60, b"<script>", b"99999-99-99", b"1e999",
])  # fmt: skip
def test_what_is_no_timestamp(submitted: Path, text: bytes) -> None:
    hand_in(submitted, attention__ipynb=NOTEBOOK, timestamp__txt=text)
    handed = only(submitted)
    assert (handed.content, handed.timestamp, kinds(handed.reasons)) == (NOTEBOOK, "", ["bad timestamp"])


# What is nobody's fault.


def test_a_failing_disk_is_not_the_students_fault(submitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand_in(submitted, attention__ipynb=NOTEBOOK)
    found = find(submitted, LESSON)[0]

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(submissions.os, "read", fail)
    with pytest.raises(OSError, match="Input/output"):
        read(found)


def test_no_descriptor_is_left_open(submitted: Path) -> None:
    hand_in(submitted, attention__ipynb=NOTEBOOK)
    hand_in(submitted, "bob")
    before = os.listdir("/proc/self/fd")
    for each in find(submitted, LESSON):
        read(each)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_names_in_sentences() -> None:
    assert shown("a\x1b\u202e\udcff") == "a\\x1b\\u202e\\udcff"
    assert len(shown("x" * 1000)) == 60
    assert listed(["a"]) == "a" and listed(["a", "b"]) == "a and b" and listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcdefg")) == "a, b, c and 4 more"
