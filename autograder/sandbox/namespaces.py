"""The two walls: a root of its own around the zygote, and namespaces of its own around each child.

The zygote lives in a small read-only root, so it has never been able to see a pack, a gradebook or a submission. Each
child leaves even that for namespaces of its own, and then gives its rights away. As root, the child becomes the user
``nobody``; an ordinary user makes a user namespace first and has no rights outside it from the start.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from autograder.sandbox import linux
from autograder.sandbox.linux import mount, pivot_root, umount2, unshare

NOBODY = 65534
_QUIET = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_DEVICES = ("null", "zero", "urandom", "random")
SCRATCH = "/scratch"  # the one folder that can be written; /tmp too, unless what must be seen lies there
_MAX_FILES = 1_000  # in a child's


def leave_for_zygote() -> None:
    """Namespaces for the zygote; its process ids start anew with the next fork."""
    leave(linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWNET | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS)


def leave(spaces: int) -> None:
    """Leave for new namespaces: root at once, an ordinary user by way of a user namespace, as its root."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        unshare(spaces)
    else:
        unshare(spaces | linux.CLONE_NEWUSER)
        linux.map_self(0, 0, uid, gid)


def small_root(readable: Iterable[str], hidden: Iterable[str]) -> None:
    """Make a root in which nothing can be seen but what is named, read-only, and an empty `SCRATCH`.

    Args:
        readable: files and folders that stand where they stand outside.
        hidden: folders among them that are empty inside.
    """
    mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    # Twice: first away from the old root, so that no path of it is covered, then to the new one.
    mount("tmpfs", "/tmp", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,mode=755")
    os.mkdir("/tmp/old")
    os.mkdir("/tmp/new")
    pivot_root("/tmp", "/tmp/old")
    os.chdir("/")
    mount("tmpfs", "/new", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=16m,mode=755")
    for path in sorted(set(readable)):
        _show(path)
    for path in hidden:
        if os.path.isdir("/new" + path):
            mount("tmpfs", "/new" + path, "tmpfs", _QUIET | linux.MS_RDONLY, "size=4k,mode=755")
    for folder in ("/dev", "/dev/shm", "/proc", SCRATCH):
        os.makedirs("/new" + folder, exist_ok=True)
    for device in _DEVICES:
        Path("/new/dev", device).touch()
        mount(f"/old/dev/{device}", f"/new/dev/{device}", None, linux.MS_BIND)
        linux.read_only(f"/new/dev/{device}", recursive=False, devices=True)  # its times are the host's
    mount("tmpfs", "/new" + SCRATCH, "tmpfs", _QUIET, "size=16m,mode=1777")
    if not os.path.lexists("/new/tmp"):
        os.symlink(SCRATCH, "/new/tmp")
    mount("proc", "/new/proc", "proc", _QUIET)
    os.mkdir("/new/left")
    pivot_root("/new", "/new/left")
    os.chdir("/")
    umount2("/left", linux.MNT_DETACH)
    os.rmdir("/left")
    linux.read_only("/", recursive=False)


def _show(path: str) -> None:
    """Bind a file or folder of the old root into the new one; a link stays a link, what is missing stays away."""
    inside, outside = "/new" + path, "/old" + path
    if os.path.lexists(inside) or not os.path.lexists(outside):
        return  # seen already, within a folder that came before
    os.makedirs(os.path.dirname(inside), exist_ok=True)
    if os.path.islink(outside):
        os.symlink(os.readlink(outside), inside)
        return
    if os.path.isdir(outside):
        os.mkdir(inside)
    else:
        Path(inside).touch()
    mount(outside, inside, None, linux.MS_BIND | linux.MS_REC)
    linux.read_only(inside, recursive=True)


def network_for_next_child() -> None:
    """A network namespace without any network, for the child that this process forks next.

    Made ahead, while another child is busy: the kernel may take some ms for it when it clears an older one away.
    """
    unshare(linux.CLONE_NEWNET)


def leave_for_child(scratch_mb: int) -> None:
    """Namespaces for one submission, with a `SCRATCH` of so many MB, and a ``/proc`` that shows only itself.

    The one of the network is there already (see `network_for_next_child`).
    """
    unshare(linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWCGROUP)
    linux.sethostname("crosstalk")
    mount("tmpfs", SCRATCH, "tmpfs", _QUIET, f"size={scratch_mb}m,nr_inodes={_MAX_FILES},mode=1777")
    mount(SCRATCH, "/dev/shm", None, linux.MS_BIND)
    mount("proc", "/proc", "proc", _QUIET, "subset=pid")


def give_up_rights() -> None:
    """Become a user without any right, in a user namespace of its own."""
    outer = os.geteuid(), os.getegid()
    if os.getresuid()[0] == 0 and _is_real_root():
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # else its own files in /proc would belong to root
        outer = NOBODY, NOBODY
    unshare(linux.CLONE_NEWUSER)
    linux.map_self(NOBODY, NOBODY, *outer)
    linux.drop_capabilities()
    linux.prctl(linux.PR_SET_DUMPABLE, 0)


def _is_real_root() -> bool:
    """Root outside too, and not only in a user namespace that maps one user?"""
    with open("/proc/self/uid_map") as file:
        return int(file.read().split()[2]) > 1
