"""What the zygote's child does: wall itself in, then try answers until nobody asks any more."""

from __future__ import annotations

import gc
import json
import os
import socket
import time
from dataclasses import dataclass
from typing import Any

from autograder.messages import MAX_MESSAGE_BYTES, Tree, decode, encode
from autograder.runner import run
from autograder.sandbox import landlock, linux, namespaces, rlimits, seccomp
from autograder.sandbox.own_cells import CELLS, run_cells
from autograder.sandbox.wire import Closed, receive, send

_THREADS = 8  # two watch over an answer, the others are the answer's, which cannot take every core with so few


@dataclass(frozen=True)
class Walls:
    """Which walls stand; all of them, unless an instructor has said ``--unsafe``."""

    namespaces: bool
    seccomp: bytes | None  # the compiled filter
    readable: tuple[str, ...]  # for Landlock; empty where the kernel has none


def be_a_child(connection: socket.socket, limits: dict[str, Any], walls: Walls, cgroup: list[int]) -> None:
    """Wall this process in, tell how long that took, and serve. Returns when the other side has gone.

    Args:
        connection: to the judge; every other open file is closed.
        limits: ``cpu_seconds``, ``memory_mb``, ``scratch_mb``.
        walls: those to put up.
        cgroup: open files that take this process into its control groups.
    """
    began = time.perf_counter()
    try:
        _wall_in(connection, limits, walls, cgroup)
    except OSError as error:
        send(connection, json.dumps({"what": "not walled in", "why": str(error)}).encode())
        return
    send(connection, json.dumps({"what": "walled in", "seconds": time.perf_counter() - began}).encode())
    _serve(connection)


def _wall_in(connection: socket.socket, limits: dict[str, Any], walls: Walls, cgroup: list[int]) -> None:
    os.setsid()  # a signal to its process group would else reach those of the same user outside the pid namespace
    gc.disable()  # nothing of what the zygote left can be collected, and looking at it would copy its memory
    for file in cgroup:
        os.write(file, b"0")
    if walls.namespaces:
        namespaces.leave_for_child(limits["scratch_mb"])
        os.chdir(namespaces.SCRATCH)
    _keep_only(connection)
    if walls.namespaces:
        namespaces.give_up_rights()
    # Within the user namespace: one made after it would count the user's other threads on this machine as well.
    rlimits.limit(limits["cpu_seconds"], limits["memory_mb"], threads=_THREADS)
    linux.no_new_privileges()
    if walls.readable:
        landlock.restrict(walls.readable, [namespaces.SCRATCH, "/dev/shm", "/dev/null"])
    if walls.seccomp:
        seccomp.load(walls.seccomp)
    gc.freeze()
    gc.enable()


def _keep_only(connection: socket.socket) -> None:
    """Close every file but the connection, and have nothing to read from or print to."""
    kept = connection.fileno()
    nothing = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX") if kept < 2**16 else 2**20)


def _serve(connection: socket.socket) -> None:
    def ask(question: Tree) -> Tree:
        send(connection, encode(question))
        return decode(receive(connection, MAX_MESSAGE_BYTES))

    while True:
        try:
            request = receive(connection, MAX_MESSAGE_BYTES)
        except Closed:
            return
        cells = request.startswith(CELLS)
        for reply in run_cells(decode(request.removeprefix(CELLS))) if cells else run(request, ask):
            send(connection, reply)
