"""The same class graded by `nbgrader autograde` and by `crosstalk grade`: throughput, scores, and where the time goes.

    python benchmarks/grading_speed.py [--submissions 100] [--by-nbgrader 100] [--workers 2] [--lesson 04]
                                       [--seed WORDS]

Both write everything, gradebook and autograded notebooks. nbgrader takes several seconds a submission; with
``--by-nbgrader 10`` it is given the first ten only. Each command is timed as a whole, its start included. Where the
time of a submission goes is taken from a second run, with one worker: with as many as there are cores each part would
also hold the time in which it waits for a core.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import nbformat
from honest_class import hand_in
from nbgrader.api import Gradebook

from autograder.classroom import classroom
from autograder.grading.class_folder import course_directory
from autograder.grading.gradebook import Writer
from autograder.grading.journal import Journal
from autograder.grading.run import WRITE_EVERY
from crosstalk.course import Lesson, course

TOOLS = Path(sys.executable).parent
# Of the time; the rest is the student's code. What a child is forked and walled in with counts where it is waited for:
# it is done while the child before it works.
OURS = ("read", "fork", "walls", "ask", "judge", "notebook", "other")


def call(folder: Path, *command: str) -> float:
    """Run a command in a class's folder; the seconds it took."""
    environment = os.environ | {"PATH": os.pathsep.join([str(TOOLS), os.environ["PATH"]])}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - began


def made_class(folder: Path, lesson: Lesson, count: int, seed: str) -> None:
    """A class's folder with a released lesson and so many submissions."""
    for _ in classroom(folder, seed):
        pass
    call(folder, "nbgrader", "generate_assignment", lesson.id)
    released = nbformat.read(folder / "release" / lesson.notebook, as_version=4)
    hand_in(folder / "submitted", lesson, released, count)


def scores(folder: Path, lesson: Lesson) -> dict[str, dict[str, float]]:
    """Points by student and cell, as the gradebook has them."""
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        return {submission.student_id: {grade.name: grade.auto_score for notebook in submission.notebooks
                                        for grade in notebook.grades}
                for submission in book.assignment_submissions(lesson.id)}  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--submissions", type=int, default=100)
    parser.add_argument("--by-nbgrader", type=int, default=100)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--lesson", default="04")
    parser.add_argument("--seed", default="", help="words from which hidden packs are drawn; none without")
    asked = parser.parse_args()
    lesson = course().lesson(asked.lesson)
    with tempfile.TemporaryDirectory() as temporary:
        theirs, ours = Path(temporary, "theirs"), Path(temporary, "ours")
        made_class(ours, lesson, asked.submissions, asked.seed)
        shutil.copytree(ours, theirs)
        for student in sorted((theirs / "submitted").iterdir())[asked.by_nbgrader :]:
            shutil.rmtree(student)
        took = call(theirs, "nbgrader", "autograde", lesson.id)
        peer = asked.by_nbgrader / took
        seconds = call(ours, sys.executable, "-m", "crosstalk", "grade", lesson.id, "--workers", str(asked.workers))
        rate = asked.submissions / seconds
        print("| command | submissions | seconds | submissions/s | ratio |\n| --- | --- | --- | --- | --- |")
        print(f"| nbgrader autograde {lesson.id} | {asked.by_nbgrader} | {took:.1f} | {peer:.3f} | 1 |")
        print(f"| crosstalk grade {lesson.id}, {asked.workers} workers | {asked.submissions} | {seconds:.1f} "
              f"| {rate:.2f} | {rate / peer:.1f} |")  # fmt: skip
        by_peer, by_us = scores(theirs, lesson), scores(ours, lesson)
        alike = sum(by_us[student] == points for student, points in by_peer.items())
        distinct = len({tuple(sorted(points.items())) for points in by_us.values()})
        print(f"\nscores equal: {alike} of {len(by_peer)} submissions; {distinct} different results in the class\n")
        call(ours, sys.executable, "-m", "crosstalk", "grade", lesson.id, "--workers", "1", "--again")
        breakdown(ours, lesson)


def breakdown(folder: Path, lesson: Lesson) -> None:
    """Where the time of a submission goes."""
    with Journal.beside(folder) as journal:
        results = [graded for key in journal.standing(lesson.id) if (graded := journal.graded(key))]
    parts = [graded.seconds for graded in results]
    with Writer(course_directory(folder)) as writer:
        began = time.perf_counter()
        for start in range(0, len(results), WRITE_EVERY):
            writer.write(results[start : start + WRITE_EVERY])
        writing = (time.perf_counter() - began) / len(results)
    print("| a submission, medians, one worker | ms |\n| --- | --- |")
    for name in ("cells", *OURS):
        print(f"| {name} | {1e3 * median(part.get(name, 0.0) for part in parts):.1f} |")
    print(f"| write, {WRITE_EVERY} in one transaction (mean) | {1e3 * writing:.1f} |")
    beside = median(sum(part.get(name, 0.0) for name in OURS) for part in parts) + writing
    print(f"| all but cells | {1e3 * beside:.1f} |")


if __name__ == "__main__":
    main()
