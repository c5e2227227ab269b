"""Limits that the kernel keeps for one process: computing time, memory, threads, files."""

import math
import os
import sys
import time

if sys.platform != "win32":
    import resource

_MEGABYTE = 1 << 20


def limit(
    seconds: float,
    memory_mb: int,
    *,
    threads: int = 32,
    file_mb: int = 64,
    open_files: int = 128,
) -> None:
    """Limit this process, from here on; nothing it starts or does can raise the limits again.

    ``seconds``: of computing, of all threads together, beyond what was used so far (rounded up to whole seconds).
    At the limit the kernel kills the process. The gentler signal that usually comes first would be ignored by the
    first process of a pid namespace, so both limits are the same. It does not count sleep: whoever waits for an
    answer keeps a limit on that.

    ``memory_mb``: address space beyond what is mapped now, in MiB. That counts more than is used: each new thread
    reserves a stack of 8 MiB and up to 128 MiB for its allocations. Too much raises ``MemoryError``, or torch's own
    error.

    ``threads``: that run at the same time, the main thread among them. The kernel counts them per user and, since
    Linux 5.14, per user namespace: in a user namespace of its own this counts the process's own threads, elsewhere
    all threads of the user. So this is to be called within the user namespace: one made afterwards would hold all the
    user's other processes against the limit as well. Where the user is root outside every namespace the kernel does
    not apply it.

    ``file_mb``: the longest file that may be written, in MiB (``OSError``: File too large). ``open_files``: how many
    descriptors may be open.
    """
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limits = {
        resource.RLIMIT_CPU: math.ceil(time.process_time() + seconds),
        resource.RLIMIT_AS: mapped + memory_mb * _MEGABYTE,
        resource.RLIMIT_NPROC: threads,
        resource.RLIMIT_FSIZE: file_mb * _MEGABYTE,
        resource.RLIMIT_NOFILE: open_files,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_RTPRIO: 0,
        resource.RLIMIT_SIGPENDING: threads,
    }
    for kind, most in limits.items():
        _, allowed = resource.getrlimit(kind)
        if allowed != resource.RLIM_INFINITY:
            most = min(most, allowed)  # what the host allows less of stays less
        resource.setrlimit(kind, (most, most))
