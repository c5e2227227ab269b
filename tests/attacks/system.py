"""Attacks on the machine that grades: answers that read, write, break out, break down or leave something behind.

Each is the source of an answer cell, readable as it stands. It calls ``found`` with whatever it got hold of, so the
same source also runs in a plain process, where it does find something: an attack that cannot succeed proves nothing.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import dedent, indent

import pyseccomp

# What every attack can use. PLACES tells it where on this machine it would pay to look: no attacker knows that better.
TOOLS = '''
import ctypes, errno, glob, json, mmap, os, resource, signal, socket, stat, string, struct, subprocess, sys, tempfile
import threading, time

_found = []
_libc = ctypes.CDLL(None, use_errno=True)

def found(what):
    """Tell what the attack has got."""
    _found.append(str(what)[:150])

def attempt(what, action):
    """Try something that raises where it is refused."""
    try:
        result = action()
    except BaseException as error:
        return None
    found(f"{what}: {result!r}")
    return result

def content(*paths):
    """Try to read files and to list folders."""
    for path in paths:
        if os.path.isdir(path):
            attempt(path, lambda: os.listdir(path)[0])
        else:
            attempt(path, lambda: open(path, "rb").read(8))

def opened(path):
    """Try to open a file for writing; nothing is written."""
    attempt(f"write to {path}", lambda: os.close(os.open(path, os.O_WRONLY)))

def call(name, number, *arguments):
    """Try a system call with arguments that are mostly wrong: has the kernel looked at them, or refused before?"""
    words = [ctypes.c_long(argument) for argument in arguments]
    if _libc.syscall(ctypes.c_long(number), *words) >= 0:
        found(f"{name}: done")
    elif ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS, errno.EACCES):
        found(f"{name}: {errno.errorcode[ctypes.get_errno()]}")

def machine_code(*instructions):
    """Run machine code: no function of any library stands between it and the kernel."""
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("".join(instructions)))
    return ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
'''

# Without a definition an answer is not even tried.
DEFINITION = """
def sequence_log_prob(log_probs, target):
    return log_probs.sum()
"""

TELL = "\nraise RuntimeError('found ' + json.dumps(_found[:12]))\n"

# An answer of the right form, for attacks that happen while it is called.
_ANSWER = """
def sequence_log_prob(log_probs, target):
{body}
    return log_probs.sum()
"""


@dataclass(frozen=True)
class Attack:
    """One hostile answer.

    Attributes:
        body: its source, without the tools.
        reasons: kinds of reasons, one of which grading must record; empty: it is an answer like any other, and wrong.
        tells: does it say at its end what it found? Else it is called with cases.
        shown: does the same source find something in a plain process? "root": if that is root's.
    """

    body: str
    reasons: frozenset[str] = frozenset()
    shown: bool | str = True
    tells: bool = True

    def source(self, places: Mapping[str, object]) -> str:
        """The whole cell."""
        cell = f"PLACES = {dict(places)!r}\n{TOOLS}{DEFINITION}\n{dedent(self.body)}\n"
        return cell + TELL if self.tells else cell


def _called(body: str, *reasons: str) -> Attack:
    """An answer that attacks when it is called."""
    source = _ANSWER.format(body=indent(dedent(body).strip(), "    "))
    return Attack(source, frozenset(reasons), shown=False, tells=False)


def _ends(body: str, *reasons: str) -> Attack:
    return Attack(body, frozenset(reasons), shown=False)


READING = {
    "the lesson's packs": Attack('content(PLACES["packs"], *glob.glob(PLACES["packs"] + "/*"))'),
    "hidden packs": Attack('content(PLACES["class"] + "/hidden", *PLACES["hidden"])'),
    "the gradebook": Attack("""
        import sqlite3
        content(PLACES["gradebook"])
        attempt("rows", lambda: sqlite3.connect(f"file:{PLACES['gradebook']}?mode=ro", uri=True)
                .execute("SELECT * FROM grade").fetchall())
    """),
    "other submissions": Attack('content(PLACES["submission"], os.path.dirname(PLACES["submission"]))'),
    "the class's folder": Attack('content(PLACES["class"], PLACES["class"] + "/nbgrader_config.py")'),
    "right answers and known mistakes": Attack("""
        content(PLACES["course"] + "/solutions", *glob.glob(PLACES["course"] + "/solutions/*"),
                *glob.glob(PLACES["course"] + "/autograder/exercises/0*.py"), PLACES["course"] + "/lessons",
                PLACES["course"] + "/tests", PLACES["course"] + "/.git")
    """),
    "the judge's own programs": Attack("""
        content(*glob.glob(PLACES["course"] + "/autograder/grading/*.py"))
        if not PLACES.get("outside"):  # there it takes seconds
            attempt("import", lambda: __import__("autograder.grading.conversation"))
    """),
    "whatever is mounted": Attack("""
        mounted = [line.split()[1] for line in open("/proc/self/mounts")] + [PLACES["class"], PLACES["course"]]
        wanted = (".safetensors", ".ipynb", "gradebook.db", "nbgrader_config.py", "id_ed25519")
        begin = [path for path in mounted if path.startswith((PLACES["class"], PLACES["course"])) or path == "/"]
        for top in begin if not PLACES.get("outside") else [PLACES["class"]]:
            for folder, _, names in os.walk(top):
                if "site-packages" not in folder:
                    content(*(os.path.join(folder, name) for name in names if name.endswith(wanted)))
    """),
    "/etc": Attack('content("/etc/passwd", "/etc/shadow", "/etc/hosts", "/etc/machine-id")'),
    "home folders": Attack("""
        content(PLACES["home"], PLACES["home"] + "/.ssh/id_ed25519", os.path.expanduser("~/.ssh/id_ed25519"))
    """),
    "/run, /var, /srv and /sys": Attack('content("/run", "/var", "/var/lib", "/srv", "/sys", "/sys/kernel", "/boot")'),
    "the environment": Attack("""
        attempt("its own", lambda: os.environ["CANARY_OF_THE_TESTS"])
        if b"CANARY_OF_THE_TESTS" in open("/proc/self/environ", "rb").read():
            found("in /proc")
    """),
    "command lines of others": Attack("""
        for folder in glob.glob("/proc/[0-9]*"):
            if folder != f"/proc/{os.getpid()}":
                attempt(folder, lambda: open(folder + "/cmdline").read())
                attempt(folder, lambda: open(folder + "/environ").read()[:3])
                attempt(folder, lambda: os.listdir(folder + "/fd"))
    """),
    "the process that forked it": Attack("""
        parent = os.getppid()
        content(f"/proc/{parent}/cmdline", f"/proc/{parent}/maps", f"/proc/{parent}/mem", f"/proc/{parent}/fd",
                f"/proc/{parent}/root", f"/proc/{parent}/cwd", f"/proc/{PLACES['process']}/cmdline")
        attempt("is there", lambda: os.kill(PLACES["process"], 0))
    """),
    "round the root": Attack("""
        for start in ("/proc/self/root", "/proc/1/root", "/proc/thread-self/root", "/proc/self/cwd", "/.." * 30,
                      "/proc/self/cwd/" + "../" * 30, "/tmp/" + "../" * 30, "/dev/shm/../../"):
            content(start + "/etc/passwd", start + PLACES["gradebook"])
        os.chdir("/")
        attempt("from a descriptor", lambda: os.open("../../etc/passwd", os.O_RDONLY, dir_fd=os.open("/", os.O_PATH)))
    """),
    "through links of its own": Attack("""
        folder = tempfile.mkdtemp()
        for number, target in enumerate((PLACES["gradebook"], "/etc/passwd", "/proc/1/root/etc/passwd")):
            os.symlink(target, f"{folder}/{number}")
            content(f"{folder}/{number}")
            attempt("hard link", lambda: os.link(target, f"{folder}/hard-{number}"))
    """),
    "devices": Attack("""
        usual = {"null", "zero", "random", "urandom", "shm"}
        names = usual | {"mem", "kmsg", "vda", "sda", "kvm", "fuse", "tty", "ptmx", "full"}
        try:
            names |= set(os.listdir("/dev"))
        except OSError:
            pass
        for name in names - usual:
            attempt(name, lambda: os.stat("/dev/" + name).st_rdev)
    """),
    "a device of its own making": Attack("""
        place = tempfile.mkdtemp() + "/zero"
        attempt("make", lambda: os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 5)))
        content(place)
    """, shown="root"),
    "the kernel": Attack("""
        content("/proc/kallsyms", "/proc/kcore", "/proc/modules", "/proc/sys/kernel", "/proc/net/tcp", "/proc/keys",
                "/proc/meminfo", "/proc/timer_list", "/proc/interrupts")
        opened("/proc/sysrq-trigger")
    """),
    "files that are open": Attack("""
        sockets = 0
        for number in range(1024):
            try:
                kind = os.fstat(number).st_mode
            except OSError:
                continue
            sockets += stat.S_ISSOCK(kind)
            if stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISBLK(kind) or sockets > 1:
                found(f"descriptor {number}, mode {kind:o}")
    """),
    "memory that others share": Attack("""
        for line in open("/proc/self/maps"):
            if line.split()[1] in ("rw-s", "rwxs"):
                found(line)
    """),
    "memory of others through /proc": Attack("""
        for folder in glob.glob("/proc/[0-9]*"):
            if folder != f"/proc/{os.getpid()}":
                attempt(folder, lambda: os.close(os.open(folder + "/mem", os.O_RDWR)))
    """, shown="root"),
}  # fmt: skip

WRITING = {
    "into every descriptor": _ends("""
        for number in range(4096):
            try:
                os.write(number, b'\\xff' * 64)
            except OSError:
                pass
    """, "said too much"),
    "a score into every descriptor": _ends("""
        for number in range(4096):
            try:
                os.write(number, b'{"score": 2, "points": 2.0, "what": "end"}')
            except OSError:
                pass
    """, "said too much"),
    "nothing, with every descriptor closed": _ends("os.closerange(0, 4096)", "ended the process"),
    "nothing, with every descriptor put in another's place": _ends("""
        for number in range(64):
            try:
                os.dup2(0, number)
            except OSError:
                pass
    """, "ended the process"),
    "into Python and its packages": Attack("""
        for path in (os.__file__, json.__file__, sys.executable, PLACES["package"], PLACES["course"] + "/course.toml",
                     PLACES["gradebook"], "/etc/passwd"):
            opened(path)
            if not PLACES.get("outside"):
                attempt("new", lambda: open(os.path.join(os.path.dirname(path), ".left"), "x"))
    """, shown="root"),
    "into the class's folder": Attack("""
        attempt("new", lambda: open(PLACES["class"] + "/left-by-an-attack", "w"))
        attempt("changed", lambda: open(PLACES["gradebook"], "r+b"))
        attempt("mode", lambda: os.chmod(PLACES["gradebook"], 0o644))
        attempt("times", lambda: os.utime(PLACES["gradebook"]))
    """),
    "into /proc": Attack("""
        for name in ("oom_score_adj", "setgroups", "uid_map", "coredump_filter", "mem", "clear_refs"):
            opened("/proc/self/" + name)
    """),
    "times of devices": Attack("""
        for name in ("null", "zero", "random", "urandom"):
            attempt(name, lambda: os.utime("/dev/" + name))
    """),
    "limits that are higher": Attack("""
        for name in dir(resource):
            if name.startswith("RLIMIT_"):
                kind = getattr(resource, name)
                attempt(name, lambda: resource.setrlimit(kind, resource.getrlimit(kind)))
                attempt(name, lambda: resource.prlimit(0, kind, resource.getrlimit(kind)))
    """),
}  # fmt: skip

ENDING = {
    "os._exit(0)": _ends("os._exit(0)", "ended the process"),
    "os._exit(0) in a case": _called("os._exit(0)", "ended the process"),
    "os._exit by a thread, later": _ends(
        "threading.Timer(0.3, os._exit, [0]).start()\ntime.sleep(5)", "ended the process"
    ),
    "the interpreter's own exit": _ends("ctypes.pythonapi.Py_Exit(3)", "ended the process"),
    "abort": _ends("os.abort()", "ended the process"),
    "a null pointer": _ends("ctypes.string_at(0)", "ended the process"),
    "an endless recursion in C": _ends("""
        sys.setrecursionlimit(2**31 - 1)
        deep = []
        for _ in range(200_000):
            deep = [deep]
        repr(deep)
    """, "ended the process"),
    "a call of another machine's kind": _ends("call('x32', 0x40000000 + 39)", "ended the process"),
    "sys.exit": _ends("sys.exit(0)"),
    "SystemExit in a case": _called("raise SystemExit"),
    "KeyboardInterrupt": _ends("raise KeyboardInterrupt"),
    "a kill of itself": _ends("os.kill(os.getpid(), signal.SIGKILL)"),
    "a kill of all": _ends("os.kill(-1, signal.SIGKILL)"),
    "a kill of its group": _ends("os.kill(0, signal.SIGKILL)"),
    "a kill of its parent": _ends("os.kill(os.getppid(), signal.SIGKILL)"),
    "a stop of itself": _ends("os.kill(os.getpid(), signal.SIGSTOP); os.kill(0, signal.SIGTSTP)"),
    "an end by request": _ends("os.kill(os.getpid(), signal.SIGTERM); os.kill(0, signal.SIGHUP)"),
    "an interrupt of itself": _ends("os.kill(os.getpid(), signal.SIGINT); time.sleep(5)"),
    "a storm of alarms": _ends("signal.setitimer(signal.ITIMER_REAL, 1e-5, 1e-5)"),
    "a storm of alarms, each an error": _ends("""
        def raised(*_):
            raise ZeroDivisionError
        signal.signal(signal.SIGALRM, raised)
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    """),
    "every signal there is": _ends("""
        for number in range(1, 65):
            if number not in (signal.SIGINT, signal.SIGALRM):
                os.kill(os.getpid(), number)
    """),
}  # fmt: skip

if platform.machine() == "x86_64":
    _INT_80 = "machine_code('53', 'b814000000', 'cd80', '5b', 'c3')"  # push rbx; mov eax, 20; int 0x80; pop rbx; ret
    ENDING |= {
        "a 32-bit call": _ends(_INT_80, "ended the process"),
        "an instruction that is none": _ends("machine_code('0f0b')", "ended the process"),
    }

# Answers that never come to an end. Some can be interrupted, and are told so like anybody's endless loop.
LOOPS = {
    "in Python": _ends("while True: pass"),
    "in Python, in a case": _called("while True: pass"),
    "that catches every interrupt": _ends("""
        while True:
            try:
                number = 0
                while True: number += 1
            except BaseException:
                pass
    """, "took too long"),
    "that ignores interrupts": _ends("signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", "took too long"),
    "that blocks all signals": _ends(
        "signal.pthread_sigmask(signal.SIG_SETMASK, range(1, 65))\nwhile True: time.sleep(1)"
    ),
    "in one call of C": _ends("sum(range(10**12))", "took too long"),
    "in one call of torch": _called("""
        torch.linalg.matrix_power(torch.ones(3000, 3000), 2**60)
    """, "took too long"),
    "asleep": _ends("time.sleep(10**6)"),
    "waiting for itself": _ends("lock = threading.Lock(); lock.acquire(); lock.acquire()"),
    "reading what the judge would send": _ends("""
        for number in range(3, 64):
            try:
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    while True: socket.socket(fileno=os.dup(number)).recv(100)
            except OSError:
                pass
    """),
    "of objects that end": _ends("""
        class Endless:
            def __del__(self):
                while True: pass
        Endless()
    """),
}  # fmt: skip

# More than there is of something. What is within the limits may be had; `found` tells of more.
BOMBS = {
    "forks": Attack("""
        for _ in range(3 if PLACES.get("outside") else 1000):
            def child():
                number = os.fork()
                if number == 0:
                    os._exit(0)
                return number
            attempt("fork", child)
    """),
    "threads": Attack("""
        end = threading.Event()
        started = 0
        try:
            while started < 100:
                threading.Thread(target=end.wait, daemon=True).start()
                started += 1
        except RuntimeError:
            pass
        if started > 40:
            found(f"{started} threads")
        end.set()
    """),
    "descriptors": Attack("""
        opened_ = []
        try:
            while len(opened_) < 300:
                opened_.append(os.dup(0))
        except OSError:
            pass
        if len(opened_) > 128:
            found(f"{len(opened_)} descriptors")
        for number in opened_:
            os.close(number)
    """),
    "pipes full of bytes": Attack("""
        held, pipes = 0, []
        try:
            while len(pipes) < 150:
                reading, writing = os.pipe()
                pipes += [reading, writing]
                os.set_blocking(writing, False)
                held += os.write(writing, bytes(2**16))
        except OSError:
            pass
        if held > 65 * 2**16:
            found(f"{held} bytes in pipes")
        for number in pipes:
            os.close(number)
    """),
    "bytes on disk": Attack("""
        place = tempfile.mkdtemp()
        written = 0
        try:
            for number in range(4):
                with open(f"{place}/{number}", "wb") as file:
                    os.posix_fallocate(file.fileno(), 0, 30_000_000)
                written += 30
        except OSError:
            pass
        if written > 64:
            found(f"{written} MB")
    """),
    "one file": Attack("""
        file = open(tempfile.mkdtemp() + "/long", "wb")
        attempt("a terabyte long", lambda: file.truncate(10**12))
    """),
    "files": Attack("""
        place = tempfile.mkdtemp()
        made = 0
        try:
            while made < 2_000:
                os.symlink("nowhere", f"{place}/{made}")
                made += 1
        except OSError:
            pass
        if made > 1_000:
            found(f"{made} files")
    """),
    "memory, doubling a list": _ends("x = [0]\nwhile True: x = x * 2"),
    "memory, in small pieces": _ends("x = []\nwhile True: x.append(bytearray(100_000))"),
    "memory, in a tensor": _ends("x = torch.zeros(10**12)"),
    "memory, in many tensors": _ends("x = []\nwhile True: x.append(torch.ones(2**22))"),
    "memory, mapped": _ends("""
        x = []
        while True:
            x.append(mmap.mmap(-1, 2**24, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            x[-1].write(b"x" * 2**24)
    """),
    "memory, mapped to be shared": _ends("""
        x = []
        while True:
            x.append(mmap.mmap(-1, 2**24))
            x[-1].write(b"x" * 2**24)
    """),
    "memory, again and again": _ends("""
        x = []
        while True:
            try:
                x.append(bytearray(10**7))
            except BaseException:
                pass
    """),
    "a recursion": _ends("sys.setrecursionlimit(2**31 - 1)\nf = lambda: f()\nf()"),
    "a result of 400 MB": _called("return torch.zeros(10**8)"),
    "an error of 100 MB": _ends("raise RuntimeError('x' * 10**8)"),
    "output": _called("""
        piece = b"x" * 2**20
        for _ in range(10_000): os.write(1, piece)
    """),
    "output that catches every interrupt": _called("""
        while True:
            try:
                print("x" * 2**20)
            except BaseException:
                pass
    """, "took too long"),
}  # fmt: skip

NETWORK = {
    "TCP": Attack('attempt("connected", lambda: socket.create_connection(("127.0.0.1", PLACES["tcp"]), 2))'),
    "UDP": Attack("""
        attempt("sent", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)))
    """),
    "a server": Attack('attempt("listens", lambda: socket.create_server(("127.0.0.1", 0)))'),
    "a unix socket": Attack("""
        attempt("connected", lambda: socket.socket(socket.AF_UNIX).connect(PLACES["unix"]))
    """),
    "an abstract unix socket": Attack("""
        attempt("connected", lambda: socket.socket(socket.AF_UNIX).connect("\\0" + PLACES["abstract"]))
    """),
    "a pair of sockets": Attack('attempt("made", socket.socketpair)'),
    "names": Attack("""
        attempt("file", lambda: open("/etc/resolv.conf").read(5))
        attempt("query", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("127.0.0.1", 53)))
        attempt("interfaces", lambda: [name for _, name in socket.if_nameindex()])
    """),
    "a page": Attack("""
        import urllib.request
        attempt("read", lambda: urllib.request.urlopen(f"http://127.0.0.1:{PLACES['tcp']}/", timeout=2).read())
    """),
    "raw": Attack('attempt("made", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))', shown="root"),
    "packets": Attack('attempt("made", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))', shown="root"),
    "netlink": Attack('attempt("made", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))'),
    "vsock and every other family": Attack("""
        for family in range(64):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
                attempt(f"family {family}", lambda: socket.socket(family, kind).family)
    """),
    "the judge's socket, put to other uses": Attack("""
        for number in range(3, 64):
            try:
                mine = socket.socket(fileno=os.dup(number))
            except OSError:
                continue
            attempt("connect", lambda: mine.connect("\\0" + PLACES["abstract"]))
            attempt("option", lambda: mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**30))
            attempt("who", lambda: mine.getsockopt(socket.SOL_SOCKET, 17, 12))
            attempt("hand over a file", lambda: socket.send_fds(mine, [b"x"], [0]))
    """),
}  # fmt: skip

PROCESSES = {
    "os.system": Attack('found("ran") if os.system("true") == 0 else None'),
    "os.popen": Attack('found("ran") if os.popen("echo ran").read() else None'),
    "subprocess": Attack('attempt("ran", lambda: subprocess.run(["true"]))'),
    "subprocess in a session of its own": Attack("""
        attempt("ran", lambda: subprocess.Popen([sys.executable, "-c", "pass"], start_new_session=True))
    """),
    "os.fork": Attack('attempt("forked", lambda: os.fork() or os._exit(0))'),
    "os.forkpty": Attack('attempt("forked", lambda: os.forkpty()[0] or os._exit(0))'),
    "a daemon, by two forks": Attack("""
        def daemon():
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(0.5)
                os._exit(0)
            return "left"
        attempt("daemon", daemon)
    """),
    "posix_spawn": Attack('attempt("ran", lambda: os.posix_spawn("/bin/true", ["true"], {}))'),
    "execve": Attack("""
        attempt("ran", lambda: os.execve("/bin/echo", ["echo", 'RuntimeError: found ["ran"]'], {}))
    """),
    "multiprocessing": Attack("""
        import multiprocessing
        for way in ("fork", "spawn", "forkserver"):
            def start():
                process = multiprocessing.get_context(way).Process(target=time.sleep, args=(0,))
                process.start()
                return process.pid
            attempt(way, start)
    """),
    "a pool of processes": Attack("""
        from concurrent.futures import ProcessPoolExecutor
        attempt("ran", lambda: ProcessPoolExecutor(1).submit(os.getpid).result(3))
    """),
    "a program in memory": Attack("""
        def run():
            number = os.memfd_create("program")
            os.write(number, open("/bin/true", "rb").read())
            return os.posix_spawn(f"/proc/self/fd/{number}", ["program"], {})
        attempt("ran", run)
    """),
    "a program that it wrote": Attack("""
        place = tempfile.mkdtemp() + "/program"
        open(place, "w").write("#!/bin/sh\\ntrue\\n")
        os.chmod(place, 0o755)
        attempt("ran", lambda: subprocess.run([place]))
    """),
    "the shell's way of notebooks": Attack("""
        try:
            from IPython.core.interactiveshell import InteractiveShell
            InteractiveShell.instance().system = lambda command: os.system(command)
            InteractiveShell.instance().run_cell("!true")
        except BaseException:
            pass
        found("ran") if subprocess.call(["true"]) == 0 else None
    """),
}  # fmt: skip

# Groups of system calls: name of the call → its arguments, wrong on purpose so that outside nothing happens either.
_CALLS: dict[str, dict[str, str]] = {
    "ptrace and other processes' memory": {
        "ptrace": "0, 0, 0, 0", "process_vm_readv": "os.getpid(), 0, 0, 0, 0, 0",
        "process_vm_writev": "os.getpid(), 0, 0, 0, 0, 0", "kcmp": "os.getpid(), os.getpid(), 99, 0, 0",
    },
    "keys of the kernel": {"add_key": "0, 0, 0, 0, 0", "request_key": "0, 0, 0, 0", "keyctl": "0, -3, 0"},
    "io_uring": {"io_uring_setup": "1, 0", "io_uring_enter": "-1, 0, 0, 0, 0, 0", "io_uring_register": "-1, 0, 0, 0"},
    "asynchronous input": {"io_setup": "1, 0", "io_submit": "0, 0, 0", "io_destroy": "0"},
    "userfaultfd": {"userfaultfd": "0x7fffffff"},
    "bpf": {"bpf": "-1, 0, 0"},
    "counters of the processor": {"perf_event_open": "0, 0, 0, 0, 0"},
    "mounts": {
        "mount": "0, 0, 0, 0, 0", "umount2": "0, 0", "pivot_root": "0, 0", "fsopen": "0, 0", "open_tree": "-1, 0, 0",
        "move_mount": "-1, 0, -1, 0, 0", "fsmount": "-1, 0, 0", "mount_setattr": "-1, 0, 0, 0, 0",
    },
    "another root": {"chroot": "0"},
    "namespaces": {
        "unshare": "0x10000000", "setns": "-1, 0", "clone": "0x20200, 0, 0, 0, 0", "clone3": "0, 0",
    },
    "namespaces for a thread": {"clone": "0x10000 | 0x10000000, 0, 0, 0, 0"},
    "identities": {
        "setuid": "os.getuid()", "setgid": "os.getgid()", "setresuid": "-1, -1, -1", "setresgid": "-1, -1, -1",
        "setreuid": "-1, -1", "setregid": "-1, -1", "setfsuid": "-1", "capset": "0, 0",
    },
    "sessions and groups of processes": {"setpgid": "0, 0", "setsid": ""},
    "prctl": {"prctl": "4, 1, 0, 0, 0"},
    "a death signal of its own": {"prctl": "1, 0, 0, 0, 0"},
    "a filter of its own": {"seccomp": "1, 0, 0"},
    "a filter of its own by prctl": {"prctl": "22, 2, 0, 0, 0"},
    "rules of its own for files": {"landlock_create_ruleset": "0, 0, 1", "landlock_restrict_self": "-1, 0"},
    "another personality": {"personality": "0xffffffff"},
    "memory files": {"memfd_create": "0, 0"},
    "files by handle": {"open_by_handle_at": "-1, 0, 0", "name_to_handle_at": "-100, 0, 0, 0, 0"},
    "other processes by descriptor": {
        "pidfd_open": "os.getpid(), 0", "pidfd_getfd": "-1, 0, 0", "pidfd_send_signal": "-1, 0, 0, 0",
        "process_madvise": "-1, 0, 0, 0, 0",
    },
    "programs": {"execve": "0, 0, 0", "execveat": "-1, 0, 0, 0, 0"},
    "input pushed into a terminal": {"ioctl": "0, 0x5412, 0"},
    "a console's selection": {"ioctl": "0, 0x541c, 0"},
    "signals with data": {"rt_sigqueueinfo": "os.getpid(), 0, 0", "rt_tgsigqueueinfo": "os.getpid(), 0, 0, 0"},
    "limits": {"setrlimit": "7, 0", "prlimit64": "0, 7, 1, 0"},
    "priorities": {
        "setpriority": "0, 0, 0", "sched_setaffinity": "0, 0, 0", "sched_setscheduler": "0, -1, 0",
        "ioprio_set": "-1, 0, 0", "sched_setattr": "0, 0, 0",
    },
    "the machine": {"reboot": "0, 0, 0, 0", "swapon": "0, 0", "init_module": "0, 0, 0", "quotactl": "0, 0, 0, 0"},
    "clocks": {"clock_settime": "0, 0", "adjtimex": "0", "settimeofday": "0, 0"},
    "watching files": {"inotify_init1": "0", "fanotify_init": "-1, 0"},
    "locks on files": {"flock": "-1, 0", "fcntl": "0, 6, 0"},
    "leases and owners of files": {"fcntl": "0, 1025, 0"},
    "what lies in the cache": {"mincore": "0, 0, 0", "fadvise64": "-1, 0, 0, 0", "readahead": "-1, 0, 0"},
    "shared memory and queues": {
        "shmget": "0, 0, 0", "shmat": "-1, 0, 0", "semget": "0, 0, 0", "semop": "-1, 0, 0", "msgget": "123456789, 0",
        "mq_open": "0, 0, 0, 0",
    },
    "sockets": {
        "socket": "-1, 0, 0", "socketpair": "1, 1, 0, 0", "connect": "-1, 0, 0", "bind": "-1, 0, 0",
        "sendmsg": "-1, 0, 0", "recvmsg": "-1, 0, 0", "setsockopt": "-1, 0, 0, 0, 0", "sendto": "-1, 0, 0, 0, 1, 1",
    },
    "pages moved between files": {"splice": "-1, 0, -1, 0, 1, 0", "tee": "-1, -1, 1, 0", "vmsplice": "-1, 0, 1, 0"},
    "attributes and owners": {"setxattr": "0, 0, 0, 0, 0", "chown": "0, 0, 0", "mknod": "0, 0x1000, 0"},
    "memory that cannot be swapped": {"mlockall": "0", "mlock": "0, 4096"},
    "memory of other nodes": {"mbind": "0, 0, 0, 0, 0, 0", "move_pages": "0, 0, 0, 0, 0, 0"},
    "ports": {"iopl": "9", "ioperm": "0, 0, 0", "modify_ldt": "0, 0, 0"},
}  # fmt: skip

# What a plain process may lack too: the kernel is built without, or allows it to root only, or to nobody.
_NOT_EVERYWHERE = {"io_uring", "userfaultfd", "bpf", "counters of the processor", "mounts", "the machine", "ports",
                   "rules of its own for files", "keys of the kernel", "files by handle"}  # fmt: skip


def _number(name: str) -> int:
    try:
        return int(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name))
    except (OSError, ValueError):
        return -1


def _calls(group: str) -> Attack:
    numbers = {name: _number(name) for name in _CALLS[group]}
    lines = [f"call({name!r}, {number}, {_CALLS[group][name]})" for name, number in numbers.items() if number >= 0]
    return Attack("\n".join(lines), shown="root" if group in _NOT_EVERYWHERE else True)


CALLS = {group: _calls(group) for group in _CALLS if any(_number(name) >= 0 for name in _CALLS[group])}

if platform.machine() == "x86_64":
    # mov edi, 1; mov esi, 1; xor edx, edx; mov eax, 41 (socket); syscall; ret
    CALLS["a socket by machine code"] = Attack("""
        made = machine_code("bf01000000", "be01000000", "31d2", "b829000000", "0f05", "c3")
        found(f"descriptor {made}") if made >= 0 else None
    """)


@dataclass(frozen=True)
class Legacy:
    """An answer that leaves something for the next submission, and one that looks for it."""

    left: str
    looked: str

    def leaving(self, places: Mapping[str, object]) -> str:
        """The first cell."""
        return Attack(self.left).source(places)

    def looking(self, places: Mapping[str, object]) -> str:
        """The second."""
        return Attack(self.looked).source(places)

    def both(self, places: Mapping[str, object]) -> str:
        """One after the other in one process: there it is found."""
        return Attack(self.left + "\n" + self.looked).source(places)


def _by_number(kind: str, *size: str) -> Legacy:
    """What System V lets processes share: whoever knows its number can have it."""
    make, look = ", ".join(["0x51AC0DE", *size, "0o1600"]), ", ".join(["0x51AC0DE", *("0" for _ in size), "0"])
    return Legacy(
        f"_libc.{kind}get({make})",
        f"""
number = _libc.{kind}get({look})
if number >= 0:
    found("what was left")
    _libc.{kind}ctl(number, 0, 0)
""",
    )


LEFT = {
    "files": Legacy(
        """
for folder in (tempfile.gettempdir(), "/dev/shm", "/var/tmp", "."):
    try:
        open(folder + "/left-by-an-attack", "w").close()
    except OSError:
        pass
""",
        """
for folder in (tempfile.gettempdir(), "/dev/shm", "/var/tmp", "."):
    if os.path.exists(folder + "/left-by-an-attack"):
        found(folder)
        os.unlink(folder + "/left-by-an-attack")
""",
    ),
    "shared memory": _by_number("shm", "4096"),
    "semaphores": _by_number("sem", "1"),
    "queues": _by_number("msg"),
    "named semaphores": Legacy(
        "_libc.sem_open(b'/left-by-an-attack', os.O_CREAT, 0o600, 1)",
        """
if os.path.exists("/dev/shm/sem.left-by-an-attack"):
    found("a named semaphore")
    _libc.sem_unlink(b"/left-by-an-attack")
""",
    ),
    "environment, folder and mask": Legacy(
        "os.environ['LEFT'] = 'x'; os.chdir('/dev'); os.umask(0o077)",
        """
if "LEFT" in os.environ or os.getcwd() == "/dev":
    found("the environment")
mask = os.umask(0o022)
if mask == 0o077:
    found("the mask")
""",
    ),
    "modules": Legacy(
        """
import builtins, math, wave
builtins.left, math.left, string.ascii_letters, sys.modules["left"] = 1, 1, "x", os
sys.path.insert(0, "/tmp")
""",
        """
import builtins, math
for name, there in {"builtins": hasattr(builtins, "left"), "math": hasattr(math, "left"),
                    "string": string.ascii_letters == "x", "modules": {"left", "wave"} & set(sys.modules),
                    "path": "/tmp" in sys.path}.items():
    if there:
        found(name)
""",
    ),
    "memory changed from below": Legacy(
        'ctypes.memset(id(string.hexdigits) + sys.getsizeof("") - 1, ord("x"), 1)',
        'found("a changed constant") if string.hexdigits[0] == "x" else None',
    ),
    "handlers and timers": Legacy(
        """
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 100)
""",
        """
if signal.getitimer(signal.ITIMER_REAL)[0] or signal.getsignal(signal.SIGUSR1) != signal.SIG_DFL:
    found("a timer or a handler")
signal.setitimer(signal.ITIMER_REAL, 0)
""",
    ),
    "threads": Legacy(
        "threading.Thread(target=time.sleep, args=(3,), daemon=True, name='left').start()",
        "found('a thread') if any(thread.name == 'left' for thread in threading.enumerate()) else None",
    ),
    "a working folder that is gone": Legacy(
        "place = tempfile.mkdtemp(); os.chdir(place); os.rmdir(place)",
        """
try:
    os.getcwd()
except OSError:
    found("nowhere")
    os.chdir("/")
""",
    ),
    "warm caches": Legacy(
        """
import linecache, re
re.compile("left by an attack")
linecache.cache["left"] = (1, None, ["x"], "left")
""",
        """
import linecache
found("lines") if "left" in linecache.cache else None
""",
    ),
}
