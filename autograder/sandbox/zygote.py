"""The zygote: a process that has imported all that answers need, and forks a child for each submission.

It is started by `autograder.sandbox.pool` as a program of its own, so nothing of the process that holds packs is in
its memory; it goes into its small root before it imports anything large, so nothing of them is in its reach. It speaks
with its starter over one socket: requests and replies are JSON, a request to fork brings the child's connection along.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import tempfile
import traceback
from typing import Any

from autograder.sandbox import landlock, linux, namespaces, seccomp

MAX_REQUEST = 1 << 20


def main() -> None:
    """Be a zygote on the socket whose number is the argument."""
    control = socket.socket(fileno=int(sys.argv[1]))
    settings = json.loads(control.recv(MAX_REQUEST))
    try:
        program = seccomp.compiled() if settings["seccomp"] else None
        cgroups = [[int(number) for number in files] for files in settings["cgroups"]]
        if settings["namespaces"]:
            namespaces.leave_for_zygote()
            if starter := os.fork():
                control.close()
                os._exit(os.waitstatus_to_exitcode(os.waitpid(starter, 0)[1]) & 255)
            linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
            namespaces.small_root(settings["readable"], settings["hidden"])
            os.chdir(namespaces.SCRATCH)
            tempfile.tempdir = None  # it was looked for when SCRATCH was not there yet
        _import(settings)
        from autograder.sandbox.child import Walls

        readable = [path for path in (*settings["readable"], "/dev", "/proc") if os.path.exists(path)]
        walled = settings["namespaces"] and landlock.abi()
        control.send(json.dumps({"ready": True}).encode())
        _serve(control, Walls(settings["namespaces"], program, tuple(readable) if walled else ()), cgroups)
    except Exception:
        control.send(json.dumps({"failed": traceback.format_exc(limit=-4)}).encode()[:MAX_REQUEST])


def _import(settings: dict[str, Any]) -> None:
    """Bring into memory what children would else import one by one: torch, the scenarios, the stand-ins."""
    import torch

    torch.set_num_threads(1)  # before any fork: a child of a process with OpenMP threads hangs
    torch.randn(200, 200) @ torch.randn(200, 200)  # looks the processor up, which a child's /proc does not show
    from autograder.sandbox import child  # noqa: F401
    from autograder.sandbox.warmth import warm_up
    from crosstalk import my_model

    for name in settings["stand_ins"]:
        my_model.stand_in(name)
    exec(compile(settings["setup"], "<set-up cell>", "exec"), {"__name__": "answer"})
    warm_up()
    gc.collect()
    gc.freeze()  # what stands now is never looked at again, so children share its memory


def _serve(control: socket.socket, walls: Any, cgroups: list[list[int]]) -> None:
    """Fork and end children until the starter is gone."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY) if walls.namespaces else None
    children: set[int] = set()
    while True:
        content, files, _, _ = socket.recv_fds(control, MAX_REQUEST, 1)
        if not content:
            return  # the starter is gone; with this process, process 1 of its namespace, every child goes
        request = json.loads(content)
        if files:
            child = _fork(control, socket.socket(fileno=files[0]), request, walls, cgroups, own)
            children.add(child)
            control.send(json.dumps({"forked": child}).encode())
            if walls.namespaces:
                namespaces.network_for_next_child()
            continue
        children.remove(request["end"])
        control.send(json.dumps(_end(request["end"], request["patience"])).encode())


def _fork(control: socket.socket, connection: socket.socket, limits: dict[str, Any], walls: Any,
          cgroups: list[list[int]], own: int | None) -> int:  # fmt: skip
    from autograder.sandbox.child import be_a_child

    if own is not None:
        linux.setns(own, linux.CLONE_NEWPID)  # else a second unshare would be refused
        linux.unshare(linux.CLONE_NEWPID)
    child = os.fork()
    if child:
        connection.close()
        return child
    code = 1
    try:
        control.close()
        be_a_child(connection, limits, walls, cgroups[limits["place"]])
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _end(child: int, patience: float) -> dict[str, Any]:
    """Wait so many seconds for a child that is about to end, then make it; tell how it ended and what it used."""
    watched = os.pidfd_open(child)
    of_itself = bool(select.select([watched], [], [], patience)[0])
    os.close(watched)
    os.kill(child, signal.SIGKILL)  # a child that has ended stays as it ended
    _, status, used = os.wait4(child, 0)
    return {"status": os.waitstatus_to_exitcode(status), "of_itself": of_itself,
            "cpu_seconds": used.ru_utime + used.ru_stime, "peak_kb": used.ru_maxrss,
            "zygote_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}  # fmt: skip


if __name__ == "__main__":
    main()
