"""Does memory stay flat while a large class is graded?

    python benchmarks/grading_memory.py [--submissions 5000] [--workers 2] [--every 500]

Grades a class that has handed in lesson 00, honest answers of many kinds, with `crosstalk grade` in a process of its
own, and prints what the command, its workers and their zygotes hold in memory (resident, in MiB) whenever so many more
are in the journal, and the most that any child of the zygotes used. The class is made anew in a temporary folder.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from honest_class import hand_in, release

from crosstalk.course import course

LESSON = course().lesson("00")
KINDS = ("command", "nursery", "workers", "zygotes", "children")  # workers share with the nursery what it has loaded


def class_folder(folder: Path, count: int) -> None:
    """A class with the lesson released and so many submissions."""
    hand_in(folder / "submitted", LESSON, release(folder, LESSON), count)


def recorded(folder: Path) -> int:
    """How many verdicts the journal holds."""
    try:
        with sqlite3.connect(f"file:{folder / 'grading.db'}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT count(*) FROM crosstalk_verdict").fetchone()[0]
    except sqlite3.OperationalError:  # not begun yet
        return 0


def below(process: psutil.Process, named: str = "") -> Iterator[psutil.Process]:
    """Its children whose command line has this in it."""
    for child in process.children():
        if named in " ".join(child.cmdline()):
            yield child


def memory(command: psutil.Process) -> dict[str, float]:
    """MiB resident, by kind of process."""
    found = dict.fromkeys(KINDS, 0.0)
    found["command"] = resident(command)
    for nursery in below(command, "forkserver"):
        found["nursery"] += resident(nursery)
        for worker in below(nursery):
            found["workers"] += resident(worker)
            for launcher in below(worker, "autograder.sandbox.zygote"):
                for zygote in below(launcher):
                    found["zygotes"] += resident(zygote)
                    found["children"] += sum(resident(child) for child in below(zygote))
    return found


def resident(process: psutil.Process) -> float:
    """What a process has in memory, in MiB."""
    return process.memory_info().rss / 2**20


def main() -> None:
    """Make the class, grade it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=5_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=int, default=500)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="crosstalk-memory-"))
    try:
        class_folder(folder, options.submissions)
        grade(folder, options)
    finally:
        shutil.rmtree(folder)


def grade(folder: Path, options: argparse.Namespace) -> None:
    """Run the command, and print a line whenever so many more are graded."""
    print(f"{'graded':>8} {'seconds':>8}" + "".join(f"{kind:>10}" for kind in KINDS) + "   (MiB)")
    line = [sys.executable, "-m", "crosstalk", "grade", LESSON.id, "--folder", str(folder), "--workers",
            str(options.workers)]  # fmt: skip
    began, following, children = time.perf_counter(), min(100, options.every), 0.0
    with open(folder / "said.txt", "w") as said:
        command = subprocess.Popen(line, stdout=said, stderr=said)
    watched = psutil.Process(command.pid)
    while command.poll() is None:
        time.sleep(0.2)
        try:
            found = memory(watched)
        except psutil.NoSuchProcess:  # a child has ended meanwhile
            continue
        children = max(children, found["children"])
        if (count := recorded(folder)) >= following:
            found["children"], children = children, 0.0
            shown = "".join(f"{found[kind]:>10.0f}" for kind in KINDS)
            print(f"{count:>8} {time.perf_counter() - began:>8.1f}{shown}", flush=True)
            following = count + options.every
    print(f"{recorded(folder):>8} {time.perf_counter() - began:>8.1f} the command ended with {command.returncode}")
    if command.returncode:
        print((folder / "said.txt").read_text())


if __name__ == "__main__":
    main()
