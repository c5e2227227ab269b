"""How long a check takes: python benchmarks/check_latency.py [RUNS]

Judges each exercise's solution and its stub RUNS times (default 30), in one process with one torch thread, as
a notebook's kernel does after the first check. Prints a table, and whether 95 of 100 checks stay below the
target.
"""

from __future__ import annotations

import argparse
import sys
import time
from statistics import median, quantiles

import torch

from autograder import solutions
from autograder.build.release import STUB
from autograder.judging import judge_source
from autograder.verdict import Verdict
from crosstalk.course import course

TARGET_MS = 100.0


def main() -> int:
    """Measure and print; 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="?", type=int, default=30, help="how often each answer is judged")
    runs = parser.parse_args().runs
    if runs < 2:
        parser.error("a percentile needs at least 2 runs")
    torch.set_num_threads(1)
    print(f"{'exercise':<32}{'answer':<10}{'points':>8}{'median ms':>11}{'95 % ms':>9}")
    everything = []
    for lesson in course().ready:
        notebook = solutions.read_source(lesson)
        for entry in lesson.exercises:
            solution = solutions.answer_source(notebook, entry.name)
            for kind, source in (("solution", solution), ("stub", stub(solution))):
                verdict, times = timed(entry.name, source, runs)
                everything += times
                print(f"{entry.name:<32}{kind:<10}{verdict.points:>8g}{median(times):>11.1f}{p95(times):>9.1f}")
    over_all = p95(everything)
    met = over_all < TARGET_MS
    said = "met" if met else "missed"
    print(f"{'all':<32}{'':<18}{median(everything):>11.1f}{over_all:>9.1f}")
    print(
        f"\n{len(everything)} checks; 95 % of them within {over_all:.1f} ms; the target, {TARGET_MS:g} ms, is {said}."
    )
    return 0 if met else 1


def timed(name: str, source: str, runs: int) -> tuple[Verdict, list[float]]:
    """The verdict, and the milliseconds of each run after a first one that reads the pack."""
    verdict = judge_source(name, source)
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        judge_source(name, source)
        times.append((time.perf_counter() - started) * 1000)
    return verdict, times


def stub(solution: str) -> str:
    """What a student begins with: the solution's head, and nothing behind it."""
    head = solution[: solution.index(":\n") + 2]
    indent = "        " if head.startswith("class") else "    "
    inside = "    def __init__(self, *args, **kwargs):\n" if head.startswith("class") else ""
    return f"{head}{inside}{indent}{STUB}\n"


def p95(times: list[float]) -> float:
    """The 95th percentile."""
    return quantiles(times, n=20, method="inclusive")[-1]


if __name__ == "__main__":
    sys.exit(main())
