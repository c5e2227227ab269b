"""A control group for each place where submissions run: how much memory and how many processes, all in all.

Limits of one process (`autograder.sandbox.rlimits`) count address space; a control group counts what is really used,
files in ``/tmp`` included, and whatever else the process should manage to start. It needs a host that lets this process
make groups below its own: root with cgroup v1, or a delegated group of cgroup v2, as root or as an ordinary user
(``systemd-run --user --scope -p Delegate=yes crosstalk grade ...``). Elsewhere :func:`slot` gives ``None``.

The trusted worker makes one slot for each place, once. Each child writes ``0`` to every one of ``Slot.join_fds`` while
it still has its rights, and is in. Groups carry the worker's pid namespace and process id in their names; those a
killed worker left behind are removed when the next slot is made.
"""

import contextlib
import itertools
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_OURS = re.compile(r"crosstalk-(\d+)-(\d+)-\d+")  # pid namespace, process, number
_HOME = "crosstalk-home"  # cgroup v2: where the worker itself moves, for a group with subgroups may hold no process
_CONTROLLERS = ("memory", "pids")
_EMPTY_WITHIN_SECONDS = 5.0
_NEAR = 0.9  # of the limit: memory is counted in pieces of different sizes

_numbers = itertools.count()


@dataclass(frozen=True)
class Hierarchy:
    """A tree of control groups that this process is in."""

    version: int  # 1 or 2
    controllers: tuple[str, ...]  # those of _CONTROLLERS that it has
    own: Path  # the folder of this process's own group


@dataclass
class Slot:
    """A place where one submission after another runs.

    Attributes:
        join_fds: open files; a process that writes ``b"0"`` to each is in. They are inherited by fork only.
    """

    join_fds: list[int]
    _groups: list[tuple[Hierarchy, Path]]
    _peak_fd: int | None = None  # cgroup v2 from Linux 6.12: the peak since it was last reset through this file
    _memory_bytes: int = 0

    def forget_peak(self) -> None:
        """Forget the highest use of memory, for the next submission."""
        if self._peak_fd is not None:
            with contextlib.suppress(OSError):  # before Linux 6.12 the peak cannot be reset
                os.pwrite(self._peak_fd, b"0", 0)
        for hierarchy, group in self._groups:
            if hierarchy.version == 1 and "memory" in hierarchy.controllers:
                _write(group / "memory.max_usage_in_bytes", 0)

    def peak_bytes(self) -> int:
        """The most memory used since :meth:`forget_peak` (cgroup v2 before Linux 6.12: since the slot was made)."""
        if self._peak_fd is not None:
            return int(os.pread(self._peak_fd, 64, 0))
        for hierarchy, group in self._groups:
            if hierarchy.version == 1 and "memory" in hierarchy.controllers:
                return int((group / "memory.max_usage_in_bytes").read_text())
        return 0

    def out_of_memory_kills(self) -> int:
        """How often the kernel has killed a process here because the memory was used up, since the slot was made."""
        for hierarchy, group in self._groups:
            if "memory" in hierarchy.controllers:
                text = (group / ("memory.oom_control" if hierarchy.version == 1 else "memory.events")).read_text()
                return int(dict(line.split() for line in text.splitlines()).get("oom_kill", 0))
        return 0

    def used_up(self) -> bool:
        """Whether what runs here came near the limit. A kernel that kills short of it lacks memory elsewhere."""
        return self.peak_bytes() >= _NEAR * self._memory_bytes

    def kill(self) -> None:
        """Kill every process in the groups, and return when none is left. ``OSError`` where one does not die."""
        for _, group in self._groups:
            _kill_all(group)

    def close(self) -> None:
        """Kill what is left and remove the groups."""
        for descriptor in (*self.join_fds, *([] if self._peak_fd is None else [self._peak_fd])):
            os.close(descriptor)
        self.join_fds, self._peak_fd = [], None
        for _, group in self._groups:
            _remove(group)
        self._groups = []


def slot(memory_bytes: int, pids: int) -> Slot | None:
    """Make a slot with these limits; ``None`` where this process may make no groups with memory and pids.

    ``memory_bytes`` counts what the processes in it use together, swap included; beyond it the kernel kills one.
    ``pids`` counts processes and threads together; beyond it none can be started.
    """
    try:
        hierarchies = _writable_hierarchies()
    except OSError:
        return None
    groups: list[tuple[Hierarchy, Path]] = []
    joins: list[int] = []
    try:
        number = next(_numbers)
        for hierarchy in hierarchies:
            remove_left_behind(hierarchy.own)
            group = hierarchy.own / f"crosstalk-{_pid_namespace()}-{os.getpid()}-{number}"
            group.mkdir()
            groups.append((hierarchy, group))
            _set_limits(hierarchy, group, memory_bytes, pids)
            joins.append(os.open(group / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
    except OSError:
        Slot(joins, groups).close()
        return None
    return Slot(joins, groups, _open_peak(groups), memory_bytes)


def hierarchies_of(mountinfo: str, membership: str) -> list[Hierarchy]:
    """The trees that have memory or pids, from the texts of /proc/self/mountinfo and /proc/self/cgroup.

    A tree may be mounted from below its root (in a container): then only what lies below that can be seen.
    """
    mounts: list[tuple[int, set[str], str, str]] = []  # version, options, root within the tree, where mounted
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            mounts.append((1 if kind == "cgroup" else 2, set(options.split(",")), fields[3], fields[4]))

    found = []
    for line in membership.splitlines():
        number, names, path = line.split(":", 2)
        version = 2 if number == "0" else 1
        for mounted_version, options_, root, mounted_at in mounts:
            if mounted_version != version or not (version == 2 or set(names.split(",")) <= options_):
                continue
            inside = os.path.relpath(path, root)
            own = Path(mounted_at) if inside.startswith("..") else Path(mounted_at, inside)
            if version == 2:
                with contextlib.suppress(OSError):
                    names = (own / "cgroup.controllers").read_text().replace(" ", ",").strip()
            has = tuple(name for name in _CONTROLLERS if name in names.split(","))
            if has:
                found.append(Hierarchy(version, has, own))
            break
    return found


def remove_left_behind(parent: Path) -> None:
    """Remove the groups in ``parent`` whose workers no longer run, and kill what is in them."""
    for group in parent.iterdir():
        match = _OURS.fullmatch(group.name)
        if match and int(match[1]) == _pid_namespace() and not _runs(int(match[2])):
            with contextlib.suppress(OSError):  # another worker was quicker
                _remove(group)


def _writable_hierarchies() -> list[Hierarchy]:
    """The trees to use, this process's own groups ready to hold groups; ``OSError`` where they do not suffice."""
    found = hierarchies_of(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    if {name for hierarchy in found for name in hierarchy.controllers} != set(_CONTROLLERS):
        raise OSError("no control groups for memory and pids")
    ready = []
    for hierarchy in found:
        if not os.access(hierarchy.own, os.W_OK):
            raise OSError(f"{hierarchy.own} is not writable")
        ready.append(hierarchy if hierarchy.version == 1 else make_room(hierarchy))
    return ready


def make_room(hierarchy: Hierarchy) -> Hierarchy:
    """Make this process's own group of cgroup v2 one that can hold groups with limits; gives the group to use.

    Only a group without processes may (the root excepted), so the processes in it move into a group of their own
    below it. A second worker finds itself there, and uses the group above. ``OSError`` where the group holds
    processes of another session too: it was not made for us, and they are left where they are.
    """
    own = hierarchy.own.parent if hierarchy.own.name == _HOME else hierarchy.own
    control = own / "cgroup.subtree_control"
    wanted = " ".join(f"+{name}" for name in hierarchy.controllers)
    if not set(hierarchy.controllers) <= set(control.read_text().split()):
        try:
            _write(control, wanted)
        except OSError:  # busy: there are processes in it
            _move_home(own)
            _write(control, wanted)
    return Hierarchy(2, hierarchy.controllers, own)


def _move_home(own: Path) -> None:
    home = own / _HOME
    home.mkdir(exist_ok=True)
    while pids := _processes(own):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(pid) != os.getsid(0):
                    raise OSError(f"{own} holds processes of others")
                _write(home / "cgroup.procs", pid)


def _set_limits(hierarchy: Hierarchy, group: Path, memory_bytes: int, pids: int) -> None:
    if "pids" in hierarchy.controllers:
        _write(group / "pids.max", pids)
    if "memory" not in hierarchy.controllers:
        return
    if hierarchy.version == 1:
        _write(group / "memory.limit_in_bytes", memory_bytes)
        optional = {"memory.swappiness": 0, "memory.memsw.limit_in_bytes": memory_bytes}
    else:
        _write(group / "memory.max", memory_bytes)
        optional = {"memory.swap.max": 0, "memory.oom.group": 1}
    for name, value in optional.items():
        if (group / name).exists():  # swap is not accounted everywhere
            _write(group / name, value)


def _open_peak(groups: list[tuple[Hierarchy, Path]]) -> int | None:
    for hierarchy, group in groups:
        if hierarchy.version == 2 and "memory" in hierarchy.controllers:
            for flags in (os.O_RDWR, os.O_RDONLY):  # written to from Linux 6.12, read from 5.19
                with contextlib.suppress(OSError):
                    return os.open(group / "memory.peak", flags | os.O_CLOEXEC)
    return None


def _kill_all(group: Path) -> None:
    give_up = time.monotonic() + _EMPTY_WITHIN_SECONDS
    while pids := _processes(group):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > give_up:
            raise OSError(f"processes {pids} in {group} do not die")
        time.sleep(0.001)


def _remove(group: Path) -> None:
    _kill_all(group)
    give_up = time.monotonic() + _EMPTY_WITHIN_SECONDS
    while True:
        try:
            group.rmdir()
            return
        except OSError:  # a process that has just died leaves the group a moment later
            if time.monotonic() > give_up:
                raise
            time.sleep(0.001)


def _processes(group: Path) -> list[int]:
    """Who is in a group. ``OSError`` where somebody is whom this pid namespace does not see: they are listed as 0."""
    pids = [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    if 0 in pids:
        raise OSError(f"{group} holds processes of another pid namespace")
    return pids


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, but it runs
    return True


def _write(file: Path, value: int | str) -> None:
    """One write: the kernel takes a control file's text as it comes."""
    descriptor = os.open(file, os.O_WRONLY)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)
