"""What a child sees of the file system: what it was given, wherever that lies, and a folder to write in."""

from __future__ import annotations

import ast
import os
import time
from pathlib import Path

import psutil
import pytest

from autograder.messages import decode
from autograder.sandbox.own_cells import OwnCell, cells_request
from autograder.sandbox.pool import Budget, Child, SandboxError, Zygote
from crosstalk.places import course_folder

pytestmark = pytest.mark.sandbox

BUDGET = Budget(cpu_seconds=20, memory_mb=2_048)


def new_child(zygote: Zygote) -> Child:
    child, _ = zygote.fork(BUDGET)
    return child


def said(child: Child, source: str) -> dict:
    """What a child says of one cell."""
    until = time.monotonic() + 60
    child.send(cells_request([OwnCell("cell", source, True)], "", 10.0), until)
    return decode(child.receive(2**20, until))


@pytest.fixture(params=["below /tmp", "elsewhere"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file that the child is to see: pytest's own folders lie below /tmp, the course (as a rule) does not."""
    if request.param == "elsewhere":
        return course_folder() / "LICENSE"
    (tmp_path / "given.txt").write_text("of use")
    return tmp_path / "given.txt"


def test_a_child_reads_what_it_is_given_and_can_write_beside(given: Path) -> None:
    with Zygote([], "", [course_folder() / "course.toml", given, given.parent / "missing"]) as zygote:
        assert said(new_child(zygote), f"open({str(given)!r}).read(20)")["result"] == repr(given.read_text()[:20])
        assert said(new_child(zygote), f"open({str(given)!r}, 'a')")["error"]["type"] in ("OSError", "PermissionError")
        writing = "import tempfile\nwith tempfile.TemporaryFile() as file:\n    found = file.write(b'four')\nfound"
        assert said(new_child(zygote), writing)["result"] == "4"


def test_a_child_that_cannot_be_walled_in_says_why() -> None:
    with (
        Zygote([], "", [course_folder() / "course.toml"]) as zygote,
        pytest.raises(SandboxError, match="could not be walled in"),
    ):
        zygote.fork(Budget(cpu_seconds=20, memory_mb=2_048, scratch_mb=-1))


def test_each_child_has_namespaces_of_its_own() -> None:
    """Of the process, the network, messages and the machine's name: other ones than the last, and than ours."""
    names = ["pid", "net", "ipc", "uts", "mnt", "user", "cgroup"]
    looking = f"import os\n[os.readlink('/proc/self/ns/' + name) for name in {names}]"
    with Zygote([], "", [course_folder() / "course.toml"]) as zygote:
        children = [new_child(zygote) for _ in range(3)]  # all there at once: numbers are used again
        found = [ast.literal_eval(said(child, looking)["result"]) for child in children]
    found.append([os.readlink(f"/proc/self/ns/{name}") for name in names])
    for spaces in zip(*found, strict=True):
        assert len(set(spaces)) == 4, spaces


def test_a_child_forked_ahead_with_another_budget_is_not_used() -> None:
    limit = "import resource\nresource.getrlimit(resource.RLIMIT_CPU)[0] > 100"
    with Zygote([], "", [course_folder() / "course.toml"]) as zygote:
        zygote.fork_ahead(Budget(cpu_seconds=500, memory_mb=2_048))
        assert said(new_child(zygote), limit)["result"] == "False"
        for _ in range(3):
            zygote.fork_ahead(BUDGET)
        assert said(new_child(zygote), limit)["result"] == "False"


def test_the_next_child_is_ready_while_one_answers_and_outlives_it() -> None:
    with Zygote([], "", [course_folder() / "course.toml"]) as zygote:
        first = new_child(zygote)
        zygote.fork_ahead(BUDGET)
        assert said(first, "1 + 1")["result"] == "2"
        assert zygote.end(first) is not None
        second = new_child(zygote)
        assert second.place != first.place and said(second, "2 + 2")["result"] == "4"
        assert zygote.end(first) is None  # it was there once
        zygote.drop(second)
        assert new_child(zygote).place == first.place


def test_a_dropped_child_is_gone_before_the_next_is_handed_out() -> None:
    """Else two submissions would take memory at once; this one has much to give back, which takes a while."""
    with Zygote([], "", [course_folder() / "course.toml"]) as zygote:
        assert zygote._process
        first = new_child(zygote)
        assert said(first, "kept = b'x' * 2**30\nlen(kept)")["result"] == str(2**30)
        before = {each.pid for each in psutil.Process(zygote._process.pid).children(recursive=True)}
        zygote.fork_ahead(BUDGET)
        zygote.drop(first)
        second = new_child(zygote)
        left = {each.pid for each in psutil.Process(zygote._process.pid).children(recursive=True)}
        assert len(before - left) == 1 and len(left - before) == 1
        assert said(second, "1 + 1")["result"] == "2"
