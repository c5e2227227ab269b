"""A program: grade a class while processes are killed at random, until all is graded; then grade it undisturbed.

    python killing.py CLASS CALM KILLS SEED

``CLASS`` and ``CALM`` are two copies of one class's folder. In the first, submissions of lesson 00 are graded while
``KILLS`` processes are killed; what then lies in its folder of submissions is graded in the second, and nobody is
killed. Every process below this one is watched: what outlives its command is handed to this one, and must be gone
soon. The last line printed is JSON: how often what was killed, how many verdicts there have to be, how many
processes and control groups stayed behind.

The command itself holds the scheduler and the nannies, so they die with it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import psutil

from autograder.sandbox import cgroups, linux
from crosstalk.course import course

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: orphans below this process become its children
_PATIENCE = 120.0  # seconds for what has to happen on a busy machine
_PAUSE = 0.05  # seconds between two looks
# How often each is drawn; where none of the kind runs, another is.
_WEIGHTS = {"command": 11, "nursery": 2, "worker": 8, "launcher": 6, "zygote": 10, "child": 20, "tracker": 1}
_EACH = ("command", "worker", "launcher", "zygote", "child")  # at least one of each is killed, however the dice fall
_NEW_VERSIONS = 10  # submissions that are handed in anew where all are graded and too few processes were killed


@dataclass
class Killer:
    """Runs the command, and kills."""

    folder: Path
    kills: int
    dice: random.Random
    killed: Counter[str] = field(default_factory=Counter)
    workers: set[int] = field(default_factory=set)  # the ids of all that were seen
    verdicts: int = 0
    left_over: int = 0
    runs: int = 0

    def rage(self) -> None:
        """Run the command again and again, until so many processes were killed and all is graded."""
        handed_in = [path for path in sorted(self.folder.glob("submitted/*/*/")) if path.is_dir()]
        self.verdicts = len(handed_in)
        while True:
            code = self._run()
            if code == 0 and not self._wants_more():
                return
            if code == 0:
                for path in self.dice.sample(handed_in, _NEW_VERSIONS):
                    self.verdicts += _hand_in_anew(path, self.runs)

    def _run(self) -> int:
        """One run; its exit code, or minus the signal."""
        self.runs += 1
        command = start(self.folder)
        while command.poll() is None:
            if self._wants_more():
                self._kill_one(command)
            else:
                self._look(command)
                time.sleep(_PAUSE)
        self.left_over += len(survivors())
        return command.returncode

    def _wants_more(self) -> bool:
        return self.killed.total() < self.kills or bool(self._spared())

    def _spared(self) -> list[str]:
        """The kinds that have to be killed, and were not yet."""
        return [kind for kind in _EACH if not self.killed[kind]]

    def _kill_one(self, command: subprocess.Popen) -> None:
        busy = self.dice.random() < 0.8  # else also while it is starting
        kind = self.dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        if self.killed.total() >= self.kills // 2 and (spared := self._spared()):
            kind = self.dice.choice(spared)
        until = time.monotonic() + self.dice.uniform(0.0, 0.6)
        found = self._look(command)
        while command.poll() is None and (time.monotonic() < until or (busy and not found["child"])):
            time.sleep(_PAUSE)
            found = self._look(command)
        if not found[kind]:
            kind = self.dice.choice([other for other in found if found[other] and other != "command"] or ["command"])
        if command.poll() is None and found[kind]:
            self.dice.choice(found[kind]).kill()
            self.killed[kind] += 1

    def _look(self, command: subprocess.Popen) -> dict[str, list[psutil.Process]]:
        """The command's processes by kind; those that nobody waits for any more are cleared away."""
        reap(besides=command.pid)
        found: dict[str, list[psutil.Process]] = {kind: [] for kind in _WEIGHTS}
        waiting = [(command.pid, "command")]
        while waiting:
            pid, kind = waiting.pop()
            with suppress(psutil.NoSuchProcess):  # the next look sees the others
                found[kind].append(psutil.Process(pid))
                waiting += [(child, below) for child in children(pid) if (below := _kind(child, kind))]
        self.workers |= {process.pid for process in found["worker"]}
        return found


def children(pid: int) -> list[int]:
    """A process's own; asking the kernel for them is quicker than looking at each process of the machine."""
    found = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def _kind(pid: int, parent: str) -> str:
    """What a process is, by its parent's kind; "" while it is being started."""
    line = " ".join(psutil.Process(pid).cmdline())
    if parent == "command":
        return "tracker" if "resource_tracker" in line else "nursery" if "forkserver" in line else ""
    if parent == "nursery":
        return "worker"
    if parent == "worker":
        return "launcher" if "autograder.sandbox.zygote" in line else ""
    return {"launcher": "zygote", "zygote": "child"}.get(parent, "")


def start(folder: Path) -> subprocess.Popen:
    """The command, in a class's folder."""
    line = [sys.executable, "-m", "crosstalk", "grade", "00", "--folder", str(folder), "--workers", "2"]
    with open(folder / "said.txt", "a") as file:
        return subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=file, stderr=file)


def reap(besides: int = 0) -> None:
    """Clear away what has ended and was handed to this process."""
    for pid in children(os.getpid()):
        if pid != besides:
            os.waitpid(pid, os.WNOHANG)


def survivors() -> list[psutil.Process]:
    """What is left of a command that has ended, once it has had time to end; it is killed then."""
    until = time.monotonic() + _PATIENCE
    while children(os.getpid()):
        reap()
        if time.monotonic() > until:
            left = psutil.Process().children(recursive=True)
            for process in left:
                print("left over:", process, process.cmdline())
                process.kill()
            return left
        time.sleep(_PAUSE)
    return []


def _hand_in_anew(folder: Path, number: int) -> int:
    """Another version of the same answer, where there is a notebook; gives how many there were."""
    for path in folder.glob("*.ipynb"):
        try:
            notebook = nbformat.read(path, 4)
        except Exception:  # no notebook, and not to become one
            return 0
        notebook.cells[-1].source += f"\n# version {number}"
        nbformat.write(notebook, path)
        return 1
    return 0


def groups_left(workers: set[int]) -> list[str]:
    """The control groups of these workers that are still there."""
    found = cgroups.hierarchies_of(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    groups = {group for hierarchy in found for group in hierarchy.own.glob("crosstalk-*-*-*")}
    return [str(group) for group in groups if int(group.name.split("-")[2]) in workers]


def main() -> None:
    """Do it."""
    linux.prctl(_SUBREAPER, 1)
    folder, calm, kills, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(f"seed {seed}, {course().limits.seconds} seconds for an exercise", flush=True)
    killer = Killer(folder, kills, random.Random(seed))
    began = time.monotonic()
    killer.rage()
    raged = time.monotonic() - began
    shutil.rmtree(calm / "submitted", ignore_errors=True)
    shutil.copytree(folder / "submitted", calm / "submitted")
    code = start(calm).wait()
    killer.left_over += len(survivors())
    print(f"{dict(killer.killed)} killed in {killer.runs} runs of the command and {raged:.0f} seconds")
    print(json.dumps({
        "kills": killer.killed, "verdicts": killer.verdicts, "left over": killer.left_over, "calm": code,
        "groups": groups_left(killer.workers),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
