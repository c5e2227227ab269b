"""Each layer of the sandbox by itself: what honest code may do behind it, and what nobody may."""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyseccomp
import pytest
from ordinary_user import run_as_ordinary_user

from autograder.sandbox import cgroups, landlock, linux, rlimits, seccomp
from autograder.sandbox.layers import probe

REFUSED = """
    fork vfork execve execveat wait4 waitid ptrace process_vm_readv process_vm_writev process_madvise kcmp
    pidfd_open pidfd_getfd pidfd_send_signal rt_sigqueueinfo rt_tgsigqueueinfo
    socket socketpair connect bind listen accept accept4 sendmsg recvmsg sendmmsg recvmmsg setsockopt shutdown
    add_key request_key keyctl io_uring_setup io_uring_enter io_uring_register io_setup io_submit
    userfaultfd bpf perf_event_open seccomp landlock_create_ruleset landlock_restrict_self
    mount umount2 pivot_root chroot unshare setns open_tree move_mount fsopen fsmount mount_setattr fspick
    setuid setgid setresuid setresgid setreuid setregid setfsuid setgroups capset capget personality
    setsid setpgid setpriority sched_setaffinity sched_setscheduler sched_setattr ioprio_set setrlimit
    kexec_load init_module finit_module delete_module swapon swapoff reboot syslog acct quotactl
    sethostname setdomainname settimeofday clock_settime adjtimex clock_adjtime
    shmget shmat shmctl semget semop semctl msgget msgsnd msgrcv mq_open mq_unlink memfd_create memfd_secret
    inotify_init inotify_init1 inotify_add_watch fanotify_init flock fadvise64 readahead mincore preadv2 cachestat
    mlock mlockall mlock2 mbind set_mempolicy migrate_pages move_pages remap_file_pages
    splice tee vmsplice sync syncfs sync_file_range eventfd2 signalfd4 timerfd_create timer_create
    name_to_handle_at open_by_handle_at mknod mknodat chown fchown lchown fchownat
    setxattr lsetxattr fsetxattr removexattr ioperm iopl modify_ldt lookup_dcookie vhangup membarrier
""".split()  # noqa: SIM905

# What answers do and what the libraries under them do. Runs in a child, with TMPDIR the one place to write to.
HONEST = """
import collections, concurrent.futures, copy, dataclasses, datetime, inspect, io, logging, math, pathlib, pickle
import decimal, fractions, functools, itertools, random, re, secrets, shutil, signal, statistics, subprocess, tempfile
import asyncio, multiprocessing, select, time, timeit, typing, unittest, uuid, warnings, zipfile, zoneinfo
import mmap

x = torch.randn(64, 64, requires_grad=True)
(x @ x).sum().backward()
assert x.grad.shape == (64, 64)
layer = torch.nn.Linear(8, 8)
layer(torch.randn(4, 8)).mean().backward()
torch.optim.Adam(layer.parameters()).step()
attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
assert attention(*[torch.randn(2, 3, 8)] * 3)[0].isfinite().all()
assert torch.nn.LSTM(4, 4)(torch.randn(3, 1, 4))[0].shape == (3, 1, 4)
assert torch.nn.functional.conv1d(torch.randn(1, 2, 9), torch.randn(3, 2, 3)).shape == (1, 3, 7)
torch.set_num_threads(2)
assert torch.randn(400, 400).matmul(torch.randn(400, 400)).shape == (400, 400)
assert torch.randn(2_000_000).exp().sum() > 0
assert (numpy.ones((300, 300)) @ numpy.ones((300, 300)))[0, 0] == 300
assert len(numpy.random.default_rng(0).normal(size=3)) == 3

seen = []
thread = threading.Thread(target=seen.append, args=(1,)); thread.start(); thread.join()
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    assert list(pool.map(abs, [-1, 2])) == [1, 2]
with tempfile.NamedTemporaryFile("w+") as file:
    file.write("written"); file.flush(); file.seek(0)
    assert file.read() == "written"
with tempfile.TemporaryDirectory() as folder:
    here = pathlib.Path(folder)
    torch.save(layer.state_dict(), here / "a.pt")
    assert torch.load(here / "a.pt")["weight"].shape == (8, 8)
    numpy.save(here / "a.npy", numpy.ones(3))
    assert numpy.load(here / "a.npy", mmap_mode="r")[0] == 1
    shutil.copy2(here / "a.pt", here / "b.pt"); shutil.copytree(here, here / "all", dirs_exist_ok=False)
    (here / "b.pt").rename(here / "c.pt"); (here / "link").symlink_to("c.pt"); os.link(here / "c.pt", here / "hard")
    (here / "c.pt").chmod(0o600); os.utime(here / "c.pt"); os.truncate(here / "c.pt", 1)
    assert (here / "hard").stat().st_size == 1
    with zipfile.ZipFile(here / "z.zip", "w") as archive: archive.writestr("name", "text")
    assert {"a.pt", "c.pt"} <= set(os.listdir(here))
    shutil.rmtree(here / "all")

@dataclasses.dataclass
class Point:
    x: int = 0
assert json.loads(json.dumps(dataclasses.asdict(Point(3)))) == {"x": 3}
assert re.sub("a+", "b", "caat") == "cbt" and pickle.loads(pickle.dumps(Point(1))) == Point(1)
random.seed(0); random.random(); os.urandom(3); uuid.uuid4(); secrets.token_hex()
time.sleep(0.01); time.perf_counter(); time.process_time(); time.localtime(); datetime.datetime.now()
os.cpu_count(); len(os.sched_getaffinity(0)); os.uname(); os.times(); os.getcwd(); sys.stdout.isatty()
resource.getrusage(resource.RUSAGE_SELF); resource.getrlimit(resource.RLIMIT_AS)
reading, writing = os.pipe()
os.write(writing, b"x")
assert select.select([reading], [], [], 1)[0] and os.read(reading, 1) == b"x"
selectors.DefaultSelector().register(reading, selectors.EVENT_READ)
rang = []
signal.signal(signal.SIGALRM, lambda *_: rang.append(1)); signal.setitimer(signal.ITIMER_REAL, 0.01); time.sleep(0.05)
assert rang
torch.manual_seed(0); torch.distributions.Categorical(torch.ones(3)).sample()
warnings.simplefilter("ignore")
"""

pytestmark = pytest.mark.sandbox


def in_child(action: Callable[[], Any]) -> tuple[Any, int]:
    """What ``action`` gives (JSON), run in a process of its own, and how that ended; its error is raised here."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = {"given": action()}
        except BaseException:
            said = {"failed": traceback.format_exc()}
        os.write(writer, json.dumps(said).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    said = json.loads(text or "{}")
    assert "failed" not in said, said["failed"]
    return said.get("given"), os.waitstatus_to_exitcode(status)


def own_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    linux.unshare(linux.CLONE_NEWUSER)
    linux.map_self(uid, gid, uid, gid)


@pytest.fixture(scope="module")
def program() -> bytes:
    return seccomp.compiled()


def error_of(action: Callable[[], object]) -> int:
    """The number of the ``OSError`` that ``action`` raises, or 0."""
    try:
        action()
    except OSError as error:
        return error.errno or -1
    return 0


def call(number: int, *arguments: int) -> int:
    """Make a system call by its number; gives the error's number, or 0."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(argument) for argument in arguments])
    return ctypes.get_errno() if result == -1 else 0


def numbers() -> dict[str, int]:
    """The refused calls that this machine has, and their numbers."""
    found = {}
    for name in REFUSED:
        try:
            found[name] = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
        except (OSError, ValueError):
            continue  # newer than this libseccomp
    return {name: number for name, number in found.items() if number >= 0}


def test_honest_code_runs_behind_every_layer(tmp_path: Path) -> None:
    walls = f"""
        import json, numpy, os, resource, selectors, sys, threading, traceback, torch
        from autograder.sandbox import landlock, linux, rlimits, seccomp
        program = seccomp.compiled()
        child = os.fork()
        if child == 0:
            uid, gid = os.geteuid(), os.getegid()
            linux.unshare(linux.CLONE_NEWUSER)
            linux.map_self(uid, gid, uid, gid)
            rlimits.limit(60, 2048)
            if landlock.abi():
                landlock.restrict(["/usr", "/etc", "/proc", "/dev", sys.base_prefix, sys.prefix], [{str(tmp_path)!r}])
            seccomp.load(program)
            try:
                exec(compile({HONEST!r}, "honest", "exec"), globals())
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    command = [sys.executable, "-c", textwrap.dedent(walls)]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert run.returncode == 0, run.stdout + run.stderr


def test_refused_calls_fail_with_a_plain_error(program: bytes) -> None:
    def try_all() -> dict[str, int]:
        seccomp.load(program)
        return {name: call(number, *[-1] * 6) for name, number in numbers().items()}

    found, ended = in_child(try_all)
    assert ended == 0 and len(found) > 100
    assert {name: errno.errorcode.get(number, "went through") for name, number in found.items()} == dict.fromkeys(
        found, "EPERM"
    )


def test_the_refusals_are_the_filters_own() -> None:
    """Without it the same calls complain about their arguments, which are nonsense, or go through."""
    harmless = [
        "flock",
        "fchown",
        "inotify_add_watch",
        "listen",
        "memfd_create",
        "mincore",
        "mlock",
        "sendmsg",
        "socket",
    ]
    known = numbers()
    found, _ = in_child(lambda: {name: call(known[name], *[-1] * 6) for name in harmless})
    assert errno.EPERM not in found.values()


def test_threads_but_no_processes(program: bytes) -> None:
    clone = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, "clone")
    thread = 0x10F00  # CLONE_VM | FS | FILES | SIGHAND | THREAD

    def try_all() -> dict[str, int]:
        seccomp.load(program)
        threading.Thread(target=int).start()
        return {
            "fork": error_of(os.fork),
            "clone": call(clone, signal.SIGCHLD, 0),
            "a process that shares memory": call(clone, 0x4100 | signal.SIGCHLD, 0),
            "a process in a user namespace": call(clone, linux.CLONE_NEWUSER | signal.SIGCHLD, 0),
            "a thread in a net namespace": call(clone, thread | linux.CLONE_NEWNET, 0),
            "run": error_of(lambda: subprocess.run(["true"])),
            "shell": 0 if os.system("true") == 0 else errno.EPERM,
        }

    found, _ = in_child(try_all)
    assert found == dict.fromkeys(found, errno.EPERM)
    assert in_child(lambda: (seccomp.load(program), call(435, 0, 0))[1])[0] == errno.ENOSYS  # clone3: take clone


def test_calls_allowed_by_their_arguments(program: bytes, tmp_path: Path) -> None:
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    near, far = socket.socketpair()

    def try_all() -> dict[str, int]:
        seccomp.load(program)
        near.settimeout(5)
        near.sendall(b"bytes")
        assert far.recv(5) == b"bytes"
        assert socket.socket(fileno=os.dup(near.fileno())).type == socket.SOCK_STREAM
        linux.prctl(linux.PR_SET_NAME, ctypes.addressof(ctypes.create_string_buffer(b"named")))
        resource.getrlimit(resource.RLIMIT_NOFILE)
        os.set_inheritable(file, False)
        os.set_blocking(file, True)
        assert not os.isatty(file)
        peer_pidfd = 77
        return {
            "outlive the zygote": error_of(lambda: linux.prctl(linux.PR_SET_PDEATHSIG, 0)),
            "be readable by others": error_of(lambda: linux.prctl(linux.PR_SET_DUMPABLE, 1)),
            "lower a limit": error_of(lambda: resource.prlimit(0, resource.RLIMIT_NOFILE, (9, 9))),
            "type into a terminal": error_of(lambda: fcntl.ioctl(file, 0x5412, b"x")),
            "lock a file": error_of(lambda: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)),
            "lease a file": error_of(lambda: fcntl.fcntl(file, 1024, 0)),
            "have signals sent to others": error_of(lambda: fcntl.fcntl(file, fcntl.F_SETOWN, 1)),
            "make a pipe larger": error_of(lambda: fcntl.fcntl(file, 1031, 1 << 20)),
            "ask who is there": error_of(lambda: near.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)),
            "hold who is there": error_of(lambda: near.getsockopt(socket.SOL_SOCKET, peer_pidfd)),
            "send elsewhere": error_of(lambda: near.sendto(b"x", "/elsewhere")),
            "hand a file over": error_of(lambda: socket.send_fds(near, [b"x"], [file])),
            "take a file": error_of(lambda: far.recvmsg(1, 64)),
            "huge pages": error_of(lambda: mmap.mmap(-1, 2 << 20, flags=mmap.MAP_PRIVATE | 0x20 | 0x40000)),
        }

    found, _ = in_child(try_all)
    assert found == dict.fromkeys(found, errno.EPERM)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="only x86_64 has a second and third interface")
@pytest.mark.parametrize("interface", ["x32", "32-bit"])
def test_other_machine_interfaces_end_the_process(program: bytes, interface: str) -> None:
    def try_it() -> int:
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(b"\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3")  # getpid, by way of int 0x80
        seccomp.load(program)
        if interface == "x32":
            return call(0x40000000 | 39)
        return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()

    given, ended = in_child(try_it)
    assert given is None and ended == -signal.SIGSYS


def test_the_filter_cannot_be_replaced(program: bytes) -> None:
    def try_it() -> int:
        seccomp.load(program)
        return error_of(lambda: seccomp.load(program))

    assert in_child(try_it)[0] == errno.EPERM


def test_landlock_shuts_what_is_not_named(tmp_path: Path) -> None:
    for name in ("readable", "writable", "hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)

    def try_all() -> dict[str, int]:
        listener = socket.socket()
        os.chdir("/")
        landlock.restrict([str(tmp_path / "readable")], [str(tmp_path / "writable"), os.devnull])
        assert (tmp_path / "readable/file").read_text() == "readable"
        (tmp_path / "writable/new").write_text("new")
        (tmp_path / "writable/folder").mkdir()
        (tmp_path / "writable/new").rename(tmp_path / "writable/folder/newer")
        (tmp_path / "writable/folder/newer").unlink()
        Path(os.devnull).write_text("gone")
        found = {
            "read": error_of(lambda: (tmp_path / "hidden/file").read_text()),
            "list": error_of(lambda: os.listdir(tmp_path)),
            "write": error_of(lambda: (tmp_path / "readable/file").write_text("x")),
            "make": error_of(lambda: (tmp_path / "readable/new").touch()),
            "remove": error_of(lambda: (tmp_path / "readable/file").unlink()),
            "FIFO": error_of(lambda: os.mkfifo(tmp_path / "writable/pipe")),
            "execute": error_of(lambda: os.execv("/bin/true", ["true"])),
        }
        if landlock.abi() >= 3:
            found["truncate"] = error_of(lambda: os.truncate(tmp_path / "readable/file", 0))
        if landlock.abi() >= 4:
            found["bind"] = error_of(lambda: listener.bind(("127.0.0.1", 0)))
        if landlock.abi() >= 6:
            assert error_of(lambda: os.kill(os.getppid(), 0)) == errno.EPERM
        return found

    if landlock.abi():
        found, _ = in_child(try_all)
        assert found == dict.fromkeys(found, errno.EACCES)
    else:
        with pytest.raises(OSError, match="no Landlock"):
            landlock.restrict([], [])


def test_landlock_asks_for_paths_that_exist() -> None:
    with pytest.raises(OSError):
        landlock.restrict(["/there/is/no/such/folder"], [])


def test_limits_hold(tmp_path: Path) -> None:
    def start_threads() -> int:
        own_user_namespace()
        rlimits.limit(60, 8192, threads=8)  # MiB enough that only their number counts
        stop, started = threading.Event(), 0
        try:
            for _ in range(20):
                threading.Thread(target=stop.wait, daemon=True).start()
                started += 1
        except RuntimeError:
            stop.set()
        return started

    # Root outside every namespace may start as many threads as it likes; everybody else has 8, the main one included.
    assert in_child(start_threads)[0] == (20 if os.geteuid() == 0 else 7)

    def try_all() -> dict[str, Any]:
        rlimits.limit(60, 256, file_mb=1, open_files=32)
        try:
            memory = len(bytearray(300 << 20))
        except MemoryError:
            memory = 0
        with (tmp_path / "file").open("wb", buffering=0) as file:
            file.write(bytes(1 << 20))
            length = error_of(lambda: file.write(b"x"))
        held = []

        def open_many() -> None:
            for _ in range(64):
                held.append(os.open(os.devnull, os.O_RDONLY))

        files = error_of(open_many)
        raised = (resource.RLIMIT_NOFILE, (64, 64))
        return {
            "memory": memory,
            "length": length,
            "files": files,
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "raise": resource.getrlimit(resource.RLIMIT_AS)[0] == resource.getrlimit(resource.RLIMIT_AS)[1],
            "raised": _refused(lambda: resource.setrlimit(*raised)),
        }

    found, _ = in_child(try_all)
    assert found == {
        "memory": 0,
        "length": errno.EFBIG,
        "files": errno.EMFILE,
        "core": [0, 0],
        "raise": True,
        "raised": True,
    }


def _refused(action: Callable[[], object]) -> bool:
    try:
        action()
    except (OSError, ValueError):
        return True
    return False


def test_computing_time_ends_the_first_process_of_a_namespace() -> None:
    """It would ignore the signal that usually comes first."""

    def first() -> None:
        rlimits.limit(0.5, 4096)
        while True:
            pass

    def outside() -> int:
        uid, gid = os.geteuid(), os.getegid()
        linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWPID)
        linux.map_self(uid, gid, uid, gid)
        return in_child(first)[1]

    assert in_child(outside)[0] == -signal.SIGKILL


def test_a_slot_counts_limits_and_forgets() -> None:
    slot = cgroups.slot(512 << 20, 8)  # what a fork copies counts too, and this process may have grown large
    if slot is None:  # an ordinary user without a group of its own
        assert not _writable_groups()
        return
    groups = [path for _, path in slot._groups]
    try:

        def use(megabytes: int) -> int:
            for descriptor in slot.join_fds:
                os.write(descriptor, b"0")
            memory = mmap.mmap(-1, megabytes << 20)
            for page in range(0, megabytes << 20, 4096):
                memory[page] = 1
            started = []
            try:
                for _ in range(20):
                    if (child := os.fork()) == 0:
                        os.closerange(3, 1024)  # the test reads until nobody can write any more
                        signal.pause()
                    started.append(child)
            except OSError:
                pass
            return len(started)

        assert in_child(lambda: use(256)) == (7, 0)
        assert slot.peak_bytes() > 256 << 20
        assert slot.out_of_memory_kills() == 0
        slot.kill()
        slot.forget_peak()
        assert slot.peak_bytes() < 128 << 20  # the kernel takes off a little of it only later
        assert all(not (group / "cgroup.procs").read_text() for group in groups)
        assert in_child(lambda: use(600)) == (None, -signal.SIGKILL)
        assert slot.out_of_memory_kills() == 1
    finally:
        slot.close()
    assert not any(group.exists() for group in groups)


def test_a_killed_workers_groups_are_removed_by_the_next() -> None:
    def worker() -> list[str]:
        left = cgroups.slot(48 << 20, 8)
        return [str(path) for _, path in left._groups] if left else []

    left, _ = in_child(worker)
    assert all(Path(group).is_dir() for group in left)
    if slot := cgroups.slot(48 << 20, 8):
        slot.close()
    assert not any(Path(group).exists() for group in left)
    assert bool(left) == _writable_groups()


def _writable_groups() -> bool:
    found = cgroups.hierarchies_of(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    return len(found) > 0 and all(os.access(hierarchy.own, os.W_OK) for hierarchy in found)


def test_groups_are_found_where_they_are_mounted(tmp_path: Path) -> None:
    version_1 = (
        "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
        "39 31 0:36 /docker/ab12 /sys/fs/cgroup/pids rw shared:3 - cgroup cgroup rw,pids\n"
        "41 31 0:38 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    )
    membership = "9:cpu,cpuacct:/x\n8:pids:/docker/ab12/inner\n4:memory:/jobs/7\n1:name=systemd:/\n0::/\n"
    assert cgroups.hierarchies_of(version_1, membership) == [
        cgroups.Hierarchy(1, ("pids",), Path("/sys/fs/cgroup/pids/inner")),
        cgroups.Hierarchy(1, ("memory",), Path("/sys/fs/cgroup/memory/jobs/7")),
    ]

    own = tmp_path / "user.slice/run-1.scope"
    own.mkdir(parents=True)
    (own / "cgroup.controllers").write_text("cpu memory pids\n")
    version_2 = f"30 23 0:26 / {tmp_path} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
    found = cgroups.hierarchies_of(version_2, "0::/user.slice/run-1.scope\n")
    assert found == [cgroups.Hierarchy(2, ("memory", "pids"), own)]


def test_a_second_worker_uses_the_group_above_the_first_ones_home(tmp_path: Path) -> None:
    (tmp_path / "cgroup.subtree_control").write_text("")
    for own in (tmp_path, tmp_path / "crosstalk-home"):
        made = cgroups.make_room(cgroups.Hierarchy(2, ("memory", "pids"), own))
        assert made == cgroups.Hierarchy(2, ("memory", "pids"), tmp_path)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory +pids"


def test_every_required_layer_works_here() -> None:
    layers = probe()
    assert {layer.name for layer in layers if layer.required} == {
        *(f"{name} namespace" for name in ("user", "pid", "net", "ipc", "uts", "mount")),
        *("read-only root", "/tmp with a quota", "/proc of its own", "unprivileged user"),
        *("limits", "no new privileges", "seccomp"),
    }
    assert [layer for layer in layers if layer.required and not layer.works] == []
    assert next(layer for layer in layers if layer.name == "Landlock").works == (landlock.abi() > 0)
    assert next(layer for layer in layers if layer.name == "control group").works == _writable_groups()


def test_every_required_layer_works_for_an_ordinary_user() -> None:
    code = """
        import os
        from autograder.sandbox.layers import probe
        assert os.geteuid() != 0
        print([layer for layer in probe() if layer.required and not layer.works])
    """
    run = run_as_ordinary_user([sys.executable, "-c", textwrap.dedent(code)])
    assert (run.returncode, run.stdout.strip()) == (0, "[]")


def test_a_missing_layer_says_what_to_do() -> None:
    def without_user_namespaces() -> dict[str, str]:
        uid, gid = os.geteuid(), os.getegid()
        linux.unshare(linux.CLONE_NEWUSER)
        linux.map_self(0, 0, uid, gid)
        Path("/proc/sys/user/max_user_namespaces").write_text("0")  # within this namespace
        return {layer.name: layer.told for layer in probe() if layer.required and not layer.works}

    missing, _ = in_child(without_user_namespaces)
    assert "sysctl -w user.max_user_namespaces" in missing["user namespace"]
    assert "net namespace" not in missing


def test_an_ordinary_user_sees_only_what_it_needs() -> None:
    code = "import os, sys; print(os.getuid(), os.getgroups() if os.getuid() == 1000 else [], sys.prefix)"
    run = run_as_ordinary_user([sys.executable, "-c", code])
    uid = 1000 if os.geteuid() == 0 else os.geteuid()
    assert run.stdout.split() == [str(uid), "[]", sys.prefix]
    assert os.listdir(Path(sys.base_prefix).parent)  # nothing was covered outside
