"""What of the sandbox this machine can do: every layer tried out, in a process of its own.

Nothing is read off version numbers or settings: each layer is put up for real and pushed against. Where one is
missing, the settings of the machine say why, as far as they can be read, and what to do.
"""

import contextlib
import errno
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autograder.sandbox import cgroups, landlock, linux, rlimits, seccomp
from autograder.sandbox.linux import mount, pivot_root, umount2, unshare
from autograder.sandbox.namespaces import leave

if sys.platform != "win32":
    import resource

_NOBODY = 65534
_TRY_SECONDS = 20
_MEGABYTE = 1 << 20

_NAMESPACES = {
    "pid": (linux.CLONE_NEWPID, "pid_for_children", "sees and signals no process outside"),
    "net": (linux.CLONE_NEWNET, "net", "no network, not even that of this machine"),
    "ipc": (linux.CLONE_NEWIPC, "ipc", "no shared memory, semaphores or queues with others"),
    "uts": (linux.CLONE_NEWUTS, "uts", "a host name of its own"),
    "mount": (linux.CLONE_NEWNS, "mnt", "mounts of its own"),
}


@dataclass(frozen=True)
class Layer:
    """One layer of the sandbox on this machine.

    Attributes:
        name: short, e.g. ``"seccomp"``.
        required: grading refuses to start without it.
        works: was put up and held.
        told: what it does, or what is wrong and what to do.
    """

    name: str
    required: bool
    works: bool
    told: str


class _Missing(Exception):
    """A layer could be put up and does not hold, or is not there; says what is wrong."""


def probe() -> list[Layer]:
    """Try every layer out; takes well under a second. Works as root and as an ordinary user."""
    if sys.platform != "linux":
        told = f"the sandbox is made of Linux calls, and this is {sys.platform}: grade on a Linux machine"
        return [Layer("sandbox", True, False, told)]
    layers = [_try("user namespace", _user_namespace, _why_no_user_namespace)]
    for name, (flag, file, told) in _NAMESPACES.items():
        layers.append(_try(f"{name} namespace", _namespace(flag, file, told), _why_no_namespace))
    layers += [
        _try("read-only root", _read_only_root, _why_no_mount),
        _try("/tmp with a quota", _quota, _why_no_mount),
        _try("/proc of its own", _own_proc, _why_no_proc),
        _try("unprivileged user", _unprivileged_user, _why_no_user_namespace),
        _try("limits", _limits, _why_no_user_namespace),
        _try("no new privileges", _no_new_privileges, lambda: "This kernel is too old: take Linux 5.14 or newer."),
        _try("seccomp", _seccomp, lambda: "The kernel must be built with CONFIG_SECCOMP_FILTER."),
        _try("Landlock", _landlock, _why_no_landlock, required=False),
        _try("control group", _control_group, _why_no_control_group, required=False),
    ]
    return layers


# ---- each layer, put up for real; every function runs in a process that ends with it


def _user_namespace() -> str:
    _become_ordinary()
    leave(linux.CLONE_NEWUSER)
    return "its rights end where the sandbox ends"


def _namespace(flag: int, file: str, told: str) -> Callable[[], str]:
    def put_up() -> str:
        before = os.readlink(f"/proc/self/ns/{file}")
        leave(flag)
        if flag == linux.CLONE_NEWPID:
            _in_first_process(lambda: None)
        if os.readlink(f"/proc/self/ns/{file}") == before:
            raise _Missing("the kernel said yes and gave none")
        if flag == linux.CLONE_NEWNET and [name for _, name in socket.if_nameindex()] not in ([], ["lo"]):
            raise _Missing("network interfaces can be seen from within")
        return told

    return put_up


def _read_only_root() -> str:
    leave(linux.CLONE_NEWNS)
    mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    mount("tmpfs", "/tmp", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=64k,mode=755")
    for name in ("old", "seen"):
        os.mkdir(f"/tmp/{name}")
    mount("/usr", "/tmp/seen", None, linux.MS_BIND | linux.MS_REC)
    linux.read_only("/tmp/seen", recursive=True)
    pivot_root("/tmp", "/tmp/old")
    os.chdir("/")
    umount2("/old", linux.MNT_DETACH)
    linux.read_only("/", recursive=False)
    for path in ("/written", "/seen/written"):
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            raise _Missing(f"{path} could be written to")
    if sorted(os.listdir("/")) != ["old", "seen"]:
        raise _Missing("the old root can still be seen")
    return "sees Python, torch and nothing else, and can change none of it"


def _quota() -> str:
    leave(linux.CLONE_NEWNS)
    mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    mount("tmpfs", "/tmp", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=64k,mode=1777")
    with open("/tmp/full", "wb", buffering=0) as file:
        try:
            for _ in range(64):
                file.write(bytes(4096))
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return "files in memory, no more than allowed, gone with the submission"
            raise
    raise _Missing("more could be written than the quota allows")


def _own_proc() -> str:
    leave(linux.CLONE_NEWNS | linux.CLONE_NEWPID)

    def first() -> None:
        mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
        mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        if [name for name in os.listdir("/proc") if name.isdigit()] != ["1"]:
            raise _Missing("other processes can be seen in /proc")

    _in_first_process(first)
    return "shows only what runs in the sandbox"


def _unprivileged_user() -> str:
    _become_nobody()
    if os.getresuid() != (_NOBODY,) * 3:
        raise _Missing(f"the user is {os.getresuid()}, not {_NOBODY}")
    return f"user {_NOBODY}, who owns nothing"


def _limits() -> str:
    _become_nobody()
    rlimits.limit(seconds=60, memory_mb=2048, threads=4)  # room for more threads, so that only their number counts
    stop = threading.Event()
    try:
        for _ in range(8):
            threading.Thread(target=stop.wait, daemon=True).start()
        raise _Missing("more threads could be started than allowed")
    except RuntimeError:
        stop.set()
    with contextlib.suppress(MemoryError):
        bytearray(4096 * _MEGABYTE)
        raise _Missing("more memory could be had than allowed")
    if resource.getrlimit(resource.RLIMIT_CORE) != (0, 0):
        raise _Missing("a crash would leave a core file")
    return "computing time, memory, threads, files"


def _no_new_privileges() -> str:
    linux.no_new_privileges()
    if linux.prctl(linux.PR_GET_NO_NEW_PRIVS) != 1:
        raise _Missing("the kernel said yes and did not do it")
    return "no program can lend it rights"


def _seccomp() -> str:
    seccomp.load(seccomp.compiled())
    try:
        socket.socket()
    except PermissionError:
        return "may make the system calls of a computation, no others"
    raise _Missing("a socket could be made through the filter")


def _landlock() -> str:
    version = landlock.abi()
    if version == 0:
        raise _Missing("this kernel has none, or has it switched off")
    landlock.restrict(["/usr"], [])
    try:
        os.listdir("/")
    except PermissionError:
        return f"a second list of what may be read and written (version {version})"
    raise _Missing("a folder could be read that is not on the list")


def _control_group() -> str:
    slot = cgroups.slot(64 * _MEGABYTE, 16)
    if slot is None:
        raise _Missing("this process may make no control groups with memory and pids")
    try:
        if child := os.fork():
            os.waitpid(child, 0)
        else:
            for descriptor in slot.join_fds:
                os.write(descriptor, b"0")
            held = bytearray(8 * _MEGABYTE)
            os._exit(len(held) % 2)
        if slot.peak_bytes() < 4 * _MEGABYTE:
            raise _Missing("it does not count the memory of the processes in it")
    finally:
        slot.close()
    return "memory and processes counted as they are really used"


# ---- why one is missing, and what to do


def _why_no_user_namespace() -> str:
    if _setting("user/max_user_namespaces") == "0":
        return "User namespaces are switched off: run `sysctl -w user.max_user_namespaces=10000` as root."
    if os.geteuid() != 0 and _setting("kernel/unprivileged_userns_clone") == "0":
        return "Only root may make them here: run `sysctl -w kernel.unprivileged_userns_clone=1` as root."
    if os.geteuid() != 0 and _setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor keeps ordinary users from using them: run `sysctl -w "
            "kernel.apparmor_restrict_unprivileged_userns=0` as root, or give Python a profile that allows `userns`."
        )
    return _why_no_namespace()


def _why_no_namespace() -> str:
    if _in_container():
        more = " and `--cap-add SYS_ADMIN`" if os.geteuid() == 0 else ""
        return (
            "The container forbids it: start it with `--security-opt seccomp=unconfined --security-opt "
            f"apparmor=unconfined`{more} (Kubernetes: seccompProfile and appArmorProfile Unconfined)."
        )
    if os.geteuid() == 0:
        return "Root lacks rights here (CAP_SYS_ADMIN): grade as an ordinary user, or give the service that right."
    return "The kernel must be built with namespaces, and let ordinary users make user namespaces."


def _why_no_mount() -> str:
    if _in_container():
        return "The container forbids mounting. " + _why_no_namespace()
    return _why_no_user_namespace()


def _why_no_proc() -> str:
    covered = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    if any(path.startswith("/proc/") and path != "/proc/sys/fs/binfmt_misc" for path in covered):
        return (
            "Parts of this /proc are covered, and the kernel gives no uncovered one to somebody who sees only that: "
            "start the container with `--security-opt systempaths=unconfined` (Podman: `--security-opt unmask=ALL`; "
            "Kubernetes: procMount Unmasked)."
        )
    return _why_no_mount()


def _why_no_landlock() -> str:
    return (
        "Linux 5.13 or newer has it; `landlock` must stand in the kernel's parameter `lsm=`. Grading goes on without."
    )


def _why_no_control_group() -> str:
    return (
        "Start grading in a group of its own: `systemd-run --user --scope -p Delegate=yes crosstalk grade ...` "
        "(a container: mount /sys/fs/cgroup writable). Grading goes on without."
    )


def _setting(name: str) -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys", name).read_text().strip()
    return ""


def _in_container() -> bool:
    marks = ("/.dockerenv", "/run/.containerenv")
    return any(map(os.path.exists, marks)) or "KUBERNETES_SERVICE_HOST" in os.environ or "container" in os.environ


# ---- trying


def _become_ordinary() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # else its own files in /proc would belong to root


def _become_nobody() -> None:
    _become_ordinary()
    uid, gid = os.geteuid(), os.getegid()
    unshare(linux.CLONE_NEWUSER)
    linux.map_self(_NOBODY, _NOBODY, uid, gid)


def _try(name: str, put_up: Callable[[], str], why: Callable[[], str], required: bool = True) -> Layer:
    works, told = _in_process(put_up)
    return Layer(name, required, works, told if works else f"{told}. {why()}")


def _in_first_process(action: Callable[[], None]) -> None:
    """Run ``action`` in a new process, which is the first of a new pid namespace."""

    def first() -> str:
        if os.getpid() != 1:
            raise _Missing("processes outside keep their numbers within")
        action()
        return ""

    works, told = _in_process(first)
    if not works:
        raise _Missing(told)


def _in_process(action: Callable[[], str]) -> tuple[bool, str]:
    """Run ``action`` in a process of its own: whether it came to its end, and what it gave or what went wrong."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = b"+" + action().encode()
        except BaseException as error:
            said = b"-" + (str(error) or type(error).__name__).encode()
        os.write(writer, said)
        os._exit(0)
    os.close(writer)
    answered, _, _ = select.select([reader], [], [], _TRY_SECONDS)
    said = os.read(reader, 4096) if answered else b""
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if not said:
        return False, "it ended or hung while being tried" if answered else f"it hung for {_TRY_SECONDS} seconds"
    return said[:1] == b"+", said[1:].decode()
