"""Which system calls a student's code may make: those of a computation that keeps to itself.

An allow-list, in the spirit of the ``--syscalls`` list of ioi/isolate and PrairieLearn's zygote: read, compute,
write below ``/tmp``, start threads, wait. Whatever is not named fails with ``EPERM``, so that honest code sees
"Operation not permitted" where it stands and the rest of its cells still count. A call newer than the C library's
fallback fails with ``ENOSYS``, which makes the library take the older way. Only a call through another machine
interface (32-bit or x32 on x86_64) ends the process: no compiled library makes one, and it is the classic way
round a filter.

What the list leaves out on purpose, beside the obvious (processes, sockets, mounts, tracing, keys, identities,
namespaces, clocks):

- file locks, inotify, cache probes (mincore, preadv2, cachestat, fadvise): two submissions that run at the same
  time read the same files, and these would let them signal to each other or to the next;
- memfd, System V and POSIX shared memory, extended attributes, huge pages: memory that the limits do not count;
- sending and receiving descriptors (sendmsg, recvmsg): the one socket carries bytes;
- changing limits, priorities, the signal at the parent's death: they were set for a reason.

The filter is compiled once, by libseccomp, in the process that forks; a child loads the bytes.
"""

import ctypes
import errno
import struct
import sys
import tempfile

from autograder.sandbox.linux import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    CLONE_THREAD,
    PR_GET_NAME,
    PR_SET_NAME,
    PR_SET_SECCOMP,
    PR_SET_VMA,
    no_new_privileges,
    prctl,
)

_ALLOWED = """
    read readv pread64 preadv write writev pwrite64 pwritev lseek sendfile copy_file_range
    open openat creat close close_range dup dup2 dup3 pipe pipe2 umask
    stat fstat lstat newfstatat statx access faccessat faccessat2 statfs fstatfs readlink readlinkat
    getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
    getdents getdents64 getcwd chdir fchdir
    mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat
    chmod fchmod fchmodat utime utimes futimesat utimensat truncate ftruncate fallocate fsync fdatasync
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait
    brk munmap mremap mprotect madvise msync
    futex set_robust_list set_tid_address rseq sched_yield exit exit_group restart_syscall
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack pause
    kill tgkill tkill alarm getitimer setitimer
    nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times
    getpid gettid getppid getpgrp getpgid getsid
    getuid geteuid getgid getegid getresuid getresgid getgroups
    uname sysinfo getrandom getrusage getrlimit getcpu getpriority
    sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min
    recvfrom getsockname getpeername
"""

# The C library tries these first and takes an older call when they are not there. From number 424 on, a call has the
# same number on every machine; libseccomp may be older than the call's name.
_NOT_THERE = {
    "clone3": 435,
    "openat2": 437,
    "epoll_pwait2": 441,
    "fchmodat2": 452,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "mseal": 462,
}

_NEW_NAMESPACES = (
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET
)
_MAP_HUGETLB = 0x40000
_TERMINAL_SETTINGS, _BYTES_WAITING, _NON_BLOCKING = 0x5401, 0x541B, 0x5421  # TCGETS, FIONREAD, FIONBIO
_CLOSE_ON_EXEC, _KEEP_ON_EXEC = 0x5451, 0x5450  # FIOCLEX, FIONCLEX
_DUPFD, _GETFD, _SETFD, _GETFL, _SETFL, _DUPFD_CLOEXEC = 0, 1, 2, 3, 4, 1030  # fcntl: no locks, leases, owners
_SOL_SOCKET = 1
_SO_TYPE, _SO_ERROR, _SO_PROTOCOL, _SO_DOMAIN = 3, 4, 38, 39
_XCOMP = (0x1022, 0x1023)  # arch_prctl: ask whether this process may use the matrix registers (AMX), and to
_SECCOMP_MODE_FILTER = 2


class _Program(ctypes.Structure):
    """``struct sock_fprog``: how the kernel takes a BPF program."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def compiled() -> bytes:
    """The filter as the kernel's BPF program, 8 bytes an instruction. Raises ``OSError`` where it cannot be made."""
    if sys.platform != "linux":
        raise OSError(f"system calls can be filtered on Linux only, and this is {sys.platform}")
    try:
        import pyseccomp as lib
    except (ImportError, OSError, RuntimeError) as error:
        raise OSError(
            f"the system call filter needs libseccomp ({error}): install the package libseccomp2, "
            "and pyseccomp into this Python"
        ) from error

    rules = lib.SyscallFilter(lib.ERRNO(errno.EPERM))
    rules.set_attr(lib.Attr.ACT_BADARCH, lib.KILL_PROCESS)

    def allow(name: str, *conditions: tuple[int, int, int]) -> None:
        """Allow one call; a condition is (argument, mask, value) and holds where argument & mask == value."""
        try:
            number = lib.resolve_syscall(lib.Arch.NATIVE, name)
        except (OSError, ValueError):
            return  # a call this libseccomp has not heard of stays refused
        if number >= 0:  # below zero: another machine's call, such as open on aarch64
            held = [lib.Arg(argument, lib.MASKED_EQ, mask, value) for argument, mask, value in conditions]
            rules.add_rule(lib.ALLOW, number, *held)

    everything = (1 << 64) - 1
    for name in _ALLOWED.split():
        allow(name)
    for number in _NOT_THERE.values():
        rules.add_rule(lib.ERRNO(errno.ENOSYS), number)
    # A new thread of this process; never a process, never a namespace.
    allow("clone", (0, CLONE_THREAD | _NEW_NAMESPACES, CLONE_THREAD))
    allow("mmap", (3, _MAP_HUGETLB, 0))
    allow("sendto", (4, everything, 0))  # to whom the socket is connected, nobody else
    allow("prlimit64", (2, everything, 0))  # reading limits, not setting them
    for option in (PR_SET_NAME, PR_GET_NAME, PR_SET_VMA):
        allow("prctl", (0, everything, option))
    for request in (_TERMINAL_SETTINGS, _BYTES_WAITING, _NON_BLOCKING, _CLOSE_ON_EXEC, _KEEP_ON_EXEC):
        allow("ioctl", (1, everything, request))
    for command in (_DUPFD, _GETFD, _SETFD, _GETFL, _SETFL, _DUPFD_CLOEXEC):
        allow("fcntl", (1, everything, command))
    for option in (_SO_TYPE, _SO_ERROR, _SO_PROTOCOL, _SO_DOMAIN):
        allow("getsockopt", (1, everything, _SOL_SOCKET), (2, everything, option))
    for option in _XCOMP:
        allow("arch_prctl", (0, everything, option))

    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def load(program: bytes) -> None:
    """Filter this thread's system calls, and those of threads it starts, with ``program`` from :func:`compiled`.

    There is no way back. To be called last, by a process of one thread: the filter refuses the calls that the other
    layers are made with.
    """
    no_new_privileges()
    instructions = ctypes.create_string_buffer(program, len(program))
    count = len(program) // struct.calcsize("HBBI")
    given = _Program(count, ctypes.addressof(instructions))
    prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(given))
