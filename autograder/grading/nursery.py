"""The process that workers are forked from. It loads torch and dask once for all, while the command gets ready."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from unittest.mock import patch

METHOD = "forkserver"
_LOADED = ["distributed", "autograder.grading.cluster", "autograder.grading.grader"]
# It must have one thread only when it forks.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def begin() -> None:
    """Start it, unless it runs; other work can be done while it loads. It ends with this process."""
    with without_interrupts(), patch.dict(os.environ, _ONE_THREAD):
        multiprocessing.get_context(METHOD).set_forkserver_preload(_LOADED)
        forkserver.ensure_running()


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Start threads and processes that Ctrl-C does not reach: this one hears of it, and ends them in good order.

    A thread inherits from the one that starts it which signals wait, and so does a process: the threads of a cluster
    are started with it, and start all its workers.
    """
    resource_tracker.ensure_running()  # whichever thread starts it lets the signal through from then on
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
