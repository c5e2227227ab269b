"""The few Linux calls the sandbox is made of, as Python functions.

Each is the system call of the same name. A call that fails raises ``OSError`` with the call's name, what it was
given and the system's own words. On another system than Linux the module can be imported; its functions raise
``OSError`` with a sentence that says so.
"""

import ctypes
import functools
import os
import platform
import sys

# Flags of unshare(2), setns(2) and clone(2): which namespace.
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_THREAD = 0x00010000  # of clone(2) alone: a thread of this process, not a process of its own

# Flags of mount(2).
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19

# Flags of umount2(2).
MNT_DETACH = 2

# Options of prctl(2).
PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_GET_NAME = 16
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_SET_THP_DISABLE = 41
PR_CAP_AMBIENT = 47
PR_SET_VMA = 0x53564D41

# Calls that the C library has no function for. Numbers below 424 differ between architectures.
_NUMBERS = {
    "x86_64": {"pivot_root": 155},
    "aarch64": {"pivot_root": 41},
}
_SAME_EVERYWHERE = {
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}


@functools.cache
def _libc() -> ctypes.CDLL:
    if sys.platform != "linux":
        raise OSError(f"the sandbox is made of Linux calls, and this is {sys.platform}: grade on a Linux machine")
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, call: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")
    return result


def syscall_number(name: str) -> int:
    """The number of a call the C library has no function for; ``OSError`` on an architecture not known here."""
    if name in _SAME_EVERYWHERE:
        return _SAME_EVERYWHERE[name]
    machine = platform.machine()
    if machine not in _NUMBERS:
        raise OSError(f"the sandbox knows {' and '.join(_NUMBERS)}, not {machine}: grade on a machine of that kind")
    return _NUMBERS[machine][name]


def syscall(name: str, *arguments: object) -> int:
    """Make the system call ``name``; integers are passed as machine words, ``ctypes`` objects as they are."""
    libc = _libc()
    words = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    return _checked(libc.syscall(ctypes.c_long(syscall_number(name)), *words), name)


def _name(path: str | bytes | None) -> bytes | None:
    return None if path is None else os.fsencode(path)


def mount(source: str | None, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2). ``kind`` is the file system's name (``None`` for binds and remounts), ``data`` its options."""
    result = _libc().mount(_name(source), _name(target), _name(kind), ctypes.c_ulong(flags), _name(data))
    _checked(result, f"mount {source} on {target} ({kind}, flags {flags:#x})")


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _checked(_libc().umount2(_name(target), ctypes.c_int(flags)), f"umount2 {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2): ``new_root`` becomes ``/`` and the old root is mounted at ``put_old``, which lies below it."""
    number = ctypes.c_long(syscall_number("pivot_root"))
    _checked(_libc().syscall(number, _name(new_root), _name(put_old)), f"pivot_root {new_root} {put_old}")


def unshare(flags: int) -> None:
    """unshare(2): leave the namespaces named in ``flags`` for new ones."""
    _checked(_libc().unshare(ctypes.c_int(flags)), f"unshare {flags:#x}")


def setns(descriptor: int, flags: int = 0) -> None:
    """setns(2): enter the namespace that ``descriptor`` is open on."""
    _checked(_libc().setns(ctypes.c_int(descriptor), ctypes.c_int(flags)), f"setns {flags:#x}")


def sethostname(name: str) -> None:
    """sethostname(2), of this uts namespace."""
    encoded = os.fsencode(name)
    _checked(_libc().sethostname(encoded, ctypes.c_size_t(len(encoded))), f"sethostname {name}")


def prctl(option: int, *arguments: int) -> int:
    """prctl(2); gives the call's own result. Missing arguments are zero, as the kernel asks of most options."""
    words = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(_libc().prctl(ctypes.c_int(option), *words), f"prctl {option}")


def no_new_privileges() -> None:
    """From here on nothing this process executes can gain rights. Seccomp and Landlock ask for this first."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def map_self(uid: int, gid: int, outer_uid: int, outer_gid: int) -> None:
    """Right after ``unshare(CLONE_NEWUSER)``: within the new user namespace be ``uid`` and ``gid``.

    ``outer_uid`` and ``outer_gid`` are what this process was before it unshared. An ordinary user may map only
    itself, and its groups only once setgroups(2) is denied.
    """
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {outer_uid} 1"),
        ("gid_map", f"{gid} {outer_gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def read_only(path: str, recursive: bool, devices: bool = False) -> None:
    """mount_setattr(2): a mount, and all below it if ``recursive``, becomes read-only, without setuid.

    Unless ``devices`` are wanted, none there can be opened. One that can is written to as before, but keeps its times.
    """
    here, every = -100, 0x8000  # AT_FDCWD, AT_RECURSIVE
    set_ = 0x1 | 0x2 | (0 if devices else 0x4)  # RDONLY | NOSUID | NODEV
    attributes = (ctypes.c_uint64 * 4)(set_, 0, 0, 0)  # set, clear, propagation, userns
    syscall("mount_setattr", here, _name(path), every if recursive else 0, ctypes.byref(attributes),
            ctypes.sizeof(attributes))  # fmt: skip


def drop_capabilities() -> None:
    """capset(2): give away every right that a user namespace gave."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    nothing = (ctypes.c_uint32 * 6)()
    _checked(_libc().capset(ctypes.byref(header), ctypes.byref(nothing)), "capset")
