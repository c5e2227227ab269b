"""Landlock: the kernel's list of what this process may read and write, whatever the mounts say.

A second wall behind the read-only root, from Linux 5.13 on; later kernels also shut off TCP, abstract unix sockets
and signals to processes outside. See the kernel's Documentation/userspace-api/landlock.rst.
"""

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Sequence

from autograder.sandbox.linux import no_new_privileges, syscall

_WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_REG, _MAKE_SYM, _REFER, _TRUNCATE = 1 << 7, 1 << 8, 1 << 12, 1 << 13, 1 << 14

_READ = _READ_FILE | _READ_DIR  # executing a file is a right of its own, which nobody gets
_WRITE = _WRITE_FILE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM | _REFER
_OF_A_FILE = _READ_FILE | _WRITE_FILE | _TRUNCATE

# Rights over files that each version of the interface knows: all below the bit. Version 4 added the network, 6 the
# scopes, 7 only logging.
_FILE_RIGHTS = {1: 1 << 13, 2: 1 << 14, 3: 1 << 15, 4: 1 << 15, 5: 1 << 16}
_TCP = 0b11  # bind, connect
_SCOPES = 0b11  # abstract unix sockets, signals

_VERSION = 1  # flag of landlock_create_ruleset
_PATH_BENEATH = 1  # kind of rule


class _Ruleset(ctypes.Structure):
    """``struct landlock_ruleset_attr``. An older kernel takes the longer structure where what it lacks is zero."""

    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    """``struct landlock_path_beneath_attr``."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


def abi() -> int:
    """The version of Landlock in this kernel; 0 where there is none or it is switched off."""
    if sys.platform != "linux":
        return 0
    try:
        return syscall("landlock_create_ruleset", None, 0, _VERSION)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):  # EPERM: a container's own call filter
            return 0
        raise


def restrict(readable: Sequence[str], writable: Sequence[str]) -> None:
    """From here on this process may read below ``readable``, read and write below ``writable``, and nothing else.

    Both name folders or files, which must exist (``OSError`` otherwise). Descriptors already open are not touched.
    There is no way back. To be called after all mounts, which Landlock forbids, and before the system call filter.
    Raises ``OSError`` where the kernel has no Landlock: ask :func:`abi` first.
    """
    version = abi()
    if version == 0:
        raise OSError(errno.ENOSYS, "this kernel has no Landlock (Linux 5.13 or newer, with landlock among its LSMs)")
    known = _FILE_RIGHTS[min(version, max(_FILE_RIGHTS))] - 1
    handled = _Ruleset(known, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    ruleset = syscall("landlock_create_ruleset", ctypes.byref(handled), ctypes.sizeof(handled), 0)
    try:
        for paths, rights in ((readable, _READ), (writable, _READ | _WRITE)):
            for path in paths:
                _allow(ruleset, path, rights & known)
        no_new_privileges()
        syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_A_FILE
        rule = _PathBeneath(rights, descriptor)
        syscall("landlock_add_rule", ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(descriptor)
