"""Keep a run of student code from changing the process it runs in, and from going on for ever."""

from __future__ import annotations

import _thread
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy
import torch


@contextmanager
def unchanged_state() -> Iterator[None]:
    """Put back what student code may set for the whole process: default dtype, seeds, gradient mode, …"""
    dtype, grad, cwd = torch.get_default_dtype(), torch.is_grad_enabled(), os.getcwd()
    device, threads = torch.get_default_device(), torch.get_num_threads()
    states = torch.get_rng_state(), random.getstate(), numpy.random.get_state()
    path, print_options = list(sys.path), dict(vars(torch._tensor_str.PRINT_OPTS))
    anomaly = torch.is_anomaly_enabled()
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(1)  # cases are tiny, and on a busy machine threads wait for each other
    if device.type != "cpu":
        torch.set_default_device("cpu")
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        torch.set_grad_enabled(grad)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.autograd.set_detect_anomaly(anomaly)
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        numpy.random.set_state(states[2])
        sys.path[:] = path
        vars(torch._tensor_str.PRINT_OPTS).update(print_options)
        os.chdir(cwd)


@dataclass
class Output:
    """What was printed: the first bytes as text, and how much there was."""

    text: str = ""
    size: int = 0
    lines: int = 0


@contextmanager
def captured_output(limit: int) -> Iterator[Output]:
    """Catch what is printed, at the level of file descriptors, and keep the first ``limit`` bytes.

    Output of student code must not reach the notebook's streams: nbgrader takes all points from a cell that
    wrote to stderr. A pipe with a reader keeps even endless printing from filling memory or disk.
    """
    output, kept = Output(), bytearray()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    reading, writing = os.pipe()

    def drain() -> None:
        while piece := os.read(reading, 65_536):
            kept.extend(piece[: max(0, limit - len(kept))])
            output.size += len(piece)
            output.lines += piece.count(b"\n")

    reader = threading.Thread(target=drain, daemon=True)
    saved = os.dup(1), os.dup(2)
    streams = sys.stdout, sys.stderr
    pipe = os.fdopen(writing, "w", encoding="utf-8", errors="replace", buffering=1)
    reader.start()
    try:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        sys.stdout = sys.stderr = pipe
        yield output
    finally:
        sys.stdout, sys.stderr = streams
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        os.close(saved[0])
        os.close(saved[1])
        with suppress(OSError, ValueError):  # student code may have closed it
            pipe.close()
        reader.join(timeout=1.0)  # a process left behind may still hold the other end
        if not reader.is_alive():
            os.close(reading)
        output.text = kept.decode("utf-8", errors="replace")


@dataclass
class Clock:
    """Tells whether the time was up."""

    seconds: float
    expired: bool = False
    _done: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def time_limit(seconds: float) -> Iterator[Clock]:
    """Interrupt the block, as Ctrl-C would, when it takes longer; then once a second until it ends.

    Works in the main thread on every system; elsewhere the block runs without a limit.
    """
    clock = Clock(seconds)
    if threading.current_thread() is not threading.main_thread():
        yield clock
        return

    def watch() -> None:
        wait = seconds
        while not clock._done.wait(wait):
            with clock._lock:
                if not clock._done.is_set():
                    clock.expired = True
                    _thread.interrupt_main()
            wait = 1.0

    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.SIG_IGN:  # as a shell leaves it for what it starts in the background: nothing would arrive
        signal.signal(signal.SIGINT, signal.default_int_handler)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield clock
    finally:
        with clock._lock:  # from here on no interrupt can come from the watcher
            clock._done.set()
        if handler is signal.SIG_IGN:
            signal.signal(signal.SIGINT, handler)
