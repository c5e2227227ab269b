"""Hand submissions to workers over dask.distributed, and take back what came of each, as it comes.

A worker is a process with packs and judge, forked from one that has loaded what all need; it starts a zygote of its
own and never forks itself. The scheduler keeps nothing that the journal does not: a task that is lost with its worker
is given to another.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

import dask
import nbformat
from distributed import Client, Future, KilledWorker, LocalCluster, as_completed

from autograder.grading import nursery
from autograder.grading.results import Graded, Reason
from autograder.grading.zygotes import new_slots, zygote_for
from autograder.sandbox.pool import Layers, StartError
from crosstalk.course import course

if TYPE_CHECKING:
    from autograder.grading.grader import Grader

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

    student: str
    graded: Graded | None
    failure: str = ""


def local_cluster(workers: int) -> LocalCluster:
    """So many workers here, over connections that only who started them can open: tasks are code."""
    return LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, memory_limit=0, security=True,
                        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # its usual port may be taken
                        env=_environment(), silence_logs=logging.CRITICAL)  # fmt: skip


def _environment() -> dict[str, str]:
    """Variables of ours as they are now: what workers are forked from began before a class's settings were read."""
    return {name: value for name, value in os.environ.items() if name.startswith("CROSSTALK_")}


def grade_all(order: Order, tasks: Iterable[Task], workers: int) -> Generator[Outcome, None, None]:
    """Grade tasks on so many local workers; outcomes come in the order in which they are done.

    A task is taken from ``tasks`` when its turn comes near. Each worker that dies takes those waiting at it along,
    and dask gives a task up that has seen several die. Such tasks are tried once more in the end, one at a time:
    then only the one that has killed them is left without a result.

    Raises:
        StartError: the sandbox cannot be started here, so nothing can be graded.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # a worker that dies is told in the table
    suspects: list[Task] = []
    with ExitStack() as stack:
        # Each connection keeps its latest messages for dask's developers, and a submission is in each of these.
        stack.enter_context(dask.config.set({"distributed.admin.low-level-log-length": 10,
                                             "distributed.worker.multiprocessing-method": nursery.METHOD}))  # fmt: skip
        with nursery.without_interrupts():
            nursery.begin()
            cluster = stack.enter_context(local_cluster(workers))
        client = stack.enter_context(Client(cluster))
        for task, outcome in _outcomes(client, order, tasks, workers * AHEAD):
            if outcome is None:
                suspects.append(task)
            else:
                yield outcome
        for task, outcome in _outcomes(client, order, suspects, 1):
            yield outcome or Outcome(task.student, None, "each worker that graded it died")


def _outcomes(client: Client, order: Order, tasks: Iterable[Task], ahead: int) -> Iterator[tuple[Task, Outcome | None]]:
    """What comes of tasks, as it comes; None where workers died of it, or beside it."""
    waiting = iter(tasks)
    of_future: dict[Any, Task] = {}  # by dask's keys

    def submit(task: Task) -> Future:
        future = client.submit(_graded, order, task, pure=False, retries=RETRIES)
        of_future[future.key] = task
        return future

    any_graded = False
    running = as_completed(map(submit, islice(waiting, ahead)))
    for future in running:
        task = of_future.pop(future.key)
        error = None if future.status == "finished" else future.exception()
        if error is None:
            any_graded = True
            yield task, Outcome(task.student, Graded.from_json(future.result()))
        elif isinstance(error, KilledWorker):
            yield task, None
        elif isinstance(error, StartError) and not any_graded:
            raise error
        else:
            yield task, Outcome(task.student, None, f"{type(error).__name__}: {error}")
        for following in islice(waiting, 1):
            running.add(submit(following))


_graders: dict[Order, Grader] = {}  # of this worker process; one


def _graded(order: Order, task: Task) -> str:
    """In a worker: grade a submission with the worker's grader, which is started at its first."""
    if order not in _graders:
        for grader in _graders.values():
            grader.__exit__(None, None, None)
        _graders.clear()
        _graders[order] = _new_grader(order)
    grader = _graders[order]
    return grader.grade(task.student, task.content, task.timestamp, task.key, task.reasons).to_json()


def _new_grader(order: Order) -> Grader:
    lesson, released = course().lesson(order.lesson), nbformat.reads(order.released, as_version=4)
    slots = new_slots()
    zygote = zygote_for(lesson, released, order.layers, slots)
    zygote.launch()  # it loads torch while this process does
    from autograder.grading.grader import Grader

    grader = Grader(lesson, released, order.layers, order.missing, slots, zygote).__enter__()
    gc.freeze()  # the packs stay, and to look at them over and over takes a third of a second
    Finalize(None, grader.__exit__, (None, None, None), exitpriority=1)  # a forked worker calls nothing of atexit's
    return grader
