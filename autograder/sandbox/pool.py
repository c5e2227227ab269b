"""The judge's end: start a zygote, have it fork a child for a submission, speak with the child, end it."""

from __future__ import annotations

import json
import os
import site
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import crosstalk
from autograder.sandbox import wire
from autograder.sandbox.control import Control
from autograder.sandbox.namespaces import SCRATCH

START_SECONDS = 120.0  # for torch to be imported, on a busy machine
FORK_SECONDS = 30.0
PLACES = 2  # of a zygote's children: for one that answers, and for the next
_HOME = Path(__file__).resolve().parents[1]  # autograder/
_COURSE = Path(crosstalk.__file__).resolve().parent
# Of our own packages, what children have no use for, and what would tell them answers.
_HIDDEN = ("exercises", "grading", "build")


class SandboxError(RuntimeError):
    """The sandbox itself failed: no fault of a submission's. The message says what and what to do."""


class StartError(SandboxError):
    """No zygote could be started, so nothing can be tried at all."""


@dataclass(frozen=True)
class Layers:
    """Which layers to use. All of them, unless an instructor has said ``--unsafe``."""

    namespaces: bool = True
    seccomp: bool = True


@dataclass(frozen=True)
class Budget:
    """What one child may use."""

    cpu_seconds: float
    memory_mb: int
    scratch_mb: int = 64  # of files, gone afterwards


@dataclass
class Ended:
    """How a child ended."""

    status: int  # its exit code, or minus the signal
    of_itself: bool  # not by the zygote, which ends those that do not end
    cpu_seconds: float
    peak_kb: int
    zygote_kb: int


class Child:
    """A sandboxed process that answers messages.

    Attributes:
        number: of the process, where its zygote is.
        place: the number of the control groups that it is in.
    """

    def __init__(self, connection: socket.socket, number: int, place: int) -> None:
        self._connection, self.number, self.place = connection, number, place
        self.is_done_with = False

    def send(self, message: bytes, until: float) -> None:
        """Send it a message before a moment of `time.monotonic`. Raises `wire.WireError`."""
        wire.send(self._connection, message, until)

    def receive(self, most: int, until: float) -> bytes:
        """Its next message, of at most so many bytes. Raises `wire.WireError`."""
        return wire.receive(self._connection, most, until)

    def hang_up(self) -> None:
        """Close the connection; the child leaves by itself if it is waiting."""
        self._connection.close()


@dataclass
class _Ahead:
    """A child that is being forked.

    Attributes:
        budget: what it may use.
        request: for it; the zygote answers with the number of the child.
    """

    connection: socket.socket
    budget: Budget
    place: int
    request: int


@dataclass
class Zygote:
    """A zygote for one lesson, as a context. It has one child that answers, and the next one ready.

    Args:
        stand_ins: the exercises whose stand-ins children may be asked to use.
        setup: the source of the lesson's set-up cell.
        readable: what children may read, beside Python, its packages and ours: files and folders.
        hidden: folders among all that which are to be empty.
        cgroups: for each place (see `PLACES`) the open files that take a process into control groups
            (`autograder.sandbox.cgroups`); children come into them by turns.
        environment: variables that children see.
    """

    stand_ins: Sequence[str]
    setup: str
    readable: Sequence[Path] = ()
    hidden: Sequence[Path] = ()
    layers: Layers = Layers()
    cgroups: Sequence[Sequence[int]] = ((),) * PLACES
    environment: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen | None = None
    _control: Control | None = None
    _launched: int = 0  # the request that it was launched with, until it is ready
    _ahead: _Ahead | None = None
    _next_place: int = 0
    _dropping: list[int] = field(default_factory=list)  # requests to end a child that nobody has waited for

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Launch it, unless it runs, and wait until it is ready. Raises `StartError` where it cannot be."""
        try:
            self.launch()
            if self._launched:
                self._answer(self._launched, START_SECONDS)
                self._launched = 0
        except SandboxError as error:
            raise StartError(str(error)) from None

    def launch(self) -> None:
        """Begin to start it, unless it runs; other work can be done meanwhile."""
        if self._process is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = Control(ours)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        number = theirs.fileno()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-X", "faulthandler", "-m", "autograder.sandbox.zygote", str(number)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._said,
                pass_fds=[number, *chain(*self.cgroups)], env=_environment() | self.environment, cwd="/",
            )  # fmt: skip
        settings = {
            "namespaces": self.layers.namespaces, "seccomp": self.layers.seccomp,
            "cgroups": [list(files) for files in self.cgroups],
            "readable": [*_python(), str(_HOME), str(_COURSE), *map(str, self.readable)],
            "hidden": [*(str(_HOME / name) for name in _HIDDEN), *map(str, self.hidden)],
            "stand_ins": list(self.stand_ins), "setup": self.setup,
        }  # fmt: skip
        self._launched = self._ask(settings)

    def fork_ahead(self, budget: Budget) -> None:
        """Have the next child forked and walled in; other work can be done meanwhile."""
        if self._control is None:
            raise SandboxError("the zygote has not been started")
        self._forget_ahead()
        ours, theirs = socket.socketpair()
        try:
            request = self._ask({**vars(budget), "place": self._next_place}, [theirs.fileno()])
        except SandboxError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._ahead = _Ahead(ours, budget, self._next_place, request)

    def fork(self, budget: Budget) -> tuple[Child, float]:
        """The child forked ahead with this budget, or else a new one, and how long it took itself to be walled in.

        Children that were dropped are gone when it returns.
        """
        if self._ahead is None or self._ahead.budget != budget:
            self.fork_ahead(budget)
        assert self._ahead is not None
        ahead, self._ahead = self._ahead, None
        child = self._forked(ahead)
        try:
            first = json.loads(wire.receive(ahead.connection, 10_000, time.monotonic() + FORK_SECONDS))
        except OSError as error:
            self.drop(child)
            raise SandboxError(f"A child could not be walled in ({error}). {self._last_words()}") from None
        if first["what"] != "walled in":
            self.drop(child)
            raise SandboxError(f"A child could not be walled in: {first['why']}.")
        while self._dropping:
            self._answer(self._dropping.pop(), FORK_SECONDS)
        self._next_place = (child.place + 1) % PLACES
        return child, float(first["seconds"])

    @property
    def has_forked_ahead(self) -> bool:
        """Does a child wait to be taken by `fork`?"""
        return self._ahead is not None

    @property
    def next_place(self) -> int:
        """Where the next child will be (see `Child.place`)."""
        return self._next_place

    def _forked(self, ahead: _Ahead) -> Child:
        try:
            number = self._answer(ahead.request, FORK_SECONDS)["forked"]
        except SandboxError:
            ahead.connection.close()
            raise
        return Child(ahead.connection, int(number), ahead.place)

    def _forget_ahead(self) -> None:
        if self._ahead:
            ahead, self._ahead = self._ahead, None
            self.drop(self._forked(ahead))

    def end(self, child: Child, patience: float = 0.0) -> Ended | None:
        """End a child, if it has not ended within ``patience`` seconds; None if there was none any more."""
        child.hang_up()
        if child.is_done_with or self._control is None:
            return None
        child.is_done_with = True
        ending = self._ask({"end": child.number, "patience": patience})
        return Ended(**self._answer(ending, FORK_SECONDS + patience))

    def drop(self, child: Child) -> None:
        """Have a child ended, and don't wait for it (but see `fork`)."""
        child.hang_up()
        if not child.is_done_with and self._control is not None:
            child.is_done_with = True
            with suppress(SandboxError):  # without a zygote it is gone already, and whoever needs the next is told
                self._dropping.append(self._ask({"end": child.number, "patience": 0.0}))

    def close(self) -> None:
        """End it and its children, at once."""
        if self._ahead is not None:
            self._ahead.connection.close()
            self._ahead = None
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
            self._said.close()
        self._launched, self._dropping = 0, []

    def _ask(self, request: dict[str, Any], files: Sequence[int] = ()) -> int:
        assert self._control is not None
        try:
            return self._control.ask(request, files)
        except OSError as error:
            raise SandboxError(f"The zygote is gone ({error}). {self._last_words()}") from None

    def _answer(self, request: int, seconds: float) -> dict[str, Any]:
        assert self._control is not None
        try:
            return self._control.answer(request, seconds)
        except OSError as error:
            raise SandboxError(f"The zygote does not answer ({error}). {self._last_words()}") from None

    def _last_words(self) -> str:
        self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, self._said.tell() - 2_000))
        return self._said.read().decode("utf-8", errors="replace").strip()


def _environment() -> dict[str, str]:
    """What a zygote sees of our environment: nothing that tells of packs or people."""
    return {
        "PATH": "/usr/bin:/bin", "HOME": SCRATCH, "TMPDIR": SCRATCH, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "agg", "MPLCONFIGDIR": SCRATCH,
        "HF_HUB_OFFLINE": "1", "NBGRADER_EXECUTION": "autograde", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip


def _python() -> list[str]:
    """Where this Python, its packages and the libraries they load lie."""
    found = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"]
    found += [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += site.getsitepackages()
    found += [sysconfig.get_config_var("LIBDIR") or "", str(Path(sys.prefix, "pyvenv.cfg"))]
    return [path for path in dict.fromkeys(found) if path and os.path.exists(path)]
