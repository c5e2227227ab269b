"""Hand submissions to workers over dask.distributed, and take back what came of each, as it comes.

A worker is a process with packs and judge; it starts a zygote of its own and never forks itself. The scheduler keeps
nothing that the journal does not: a task that is lost with its worker is given to another.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import nbformat
from distributed import Client, LocalCluster, as_completed

from autograder.grading.grader import Grader
from autograder.grading.results import Graded, Reason
from autograder.sandbox.pool import Layers
from crosstalk.course import course

AHEAD = 3  # tasks that wait at each worker, so that none is idle and memory stays flat
RETRIES = 2  # of a task that raised: only the sandbox or the machine can be at fault


@dataclass(frozen=True)
class Order:
    """What is the same for all submissions of a run."""

    lesson: str
    released: str  # the notebook they are rebuilt on, as text
    layers: Layers
    missing: str


@dataclass(frozen=True)
class Task:
    """One submission."""

    student: str
    key: str
    content: bytes | None  # None: there is nothing to grade, and the reasons say why
    timestamp: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of a task: the result, or why there is none, which is no fault of the submission's."""

    task: Task
    graded: Graded | None
    failure: str = ""


def grade_all(order: Order, tasks: Sequence[Task], workers: int) -> Iterator[Outcome]:
    """Grade tasks on so many local workers; outcomes come in the order in which they are done."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # a worker that dies is told in the table
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, memory_limit=0,
                     silence_logs=logging.CRITICAL) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        waiting = iter(tasks)
        of_future = {}

        def submit(task: Task):
            future = client.submit(_graded, order, task, pure=False, retries=RETRIES)
            of_future[future.key] = task
            return future

        running = as_completed(map(submit, islice(waiting, workers * AHEAD)))
        for future in running:
            task = of_future.pop(future.key)
            if future.status == "finished":
                yield Outcome(task, Graded.from_json(future.result()))
            else:
                error = future.exception()
                yield Outcome(task, None, f"{type(error).__name__}: {error}")
            for following in islice(waiting, 1):
                running.add(submit(following))


_graders: dict[Order, Grader] = {}  # of this worker process; one


def _graded(order: Order, task: Task) -> str:
    """In a worker: grade a submission with the worker's grader, which is started at its first."""
    if order not in _graders:
        for grader in _graders.values():
            grader.__exit__(None, None, None)
        _graders.clear()
        released = nbformat.reads(order.released, as_version=4)
        grader = Grader(course().lesson(order.lesson), released, order.layers, order.missing)
        _graders[order] = grader.__enter__()
        atexit.register(grader.__exit__, None, None, None)
    grader = _graders[order]
    return grader.grade(task.student, task.content, task.timestamp, task.key, task.reasons).to_json()
