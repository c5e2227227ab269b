"""The course's two commands, for a machine with nothing but Python and pip.

    python course.py lab     open JupyterLab at the first unfinished lesson
    python course.py test    run the whole test suite

The first time, both make the environment before: a few minutes, most of it downloads.

Any other word goes to the course's own command line: `python course.py progress` is `crosstalk progress`.

Only the standard library is used, and only what Python 3.6 can read: a Python that is too old shall get a
sentence, not a SyntaxError. The environment is the folder .venv. A stamp is written into it last of all;
where the stamp is missing or tells of other locks, the environment is made anew.
"""

import collections
import errno
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from typing import Any, Dict, List, MutableMapping, Optional, Tuple

OLDEST = (3, 11)
NEWEST = (3, 14)  # the newest that torch 2.13.0 has wheels for
RECIPE = "1"  # change it when the steps in `make` change, so that every environment is made anew
CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # PyTorch's own; CROSSTALK_TORCH_INDEX names another

WINDOWS = os.name == "nt"
HERE = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(HERE, ".venv")
STAMP = os.path.join(VENV, "crosstalk.stamp")
TORCH_LOCK = os.path.join(HERE, "requirements", "torch.lock")
OTHER_LOCK = os.path.join(HERE, "requirements", "everything-else.lock")
PROJECT = os.path.join(HERE, "pyproject.toml")

DISK_FULL = (
    "No space left on device",
    "Disk quota exceeded",
    "WinError 112",
    "not enough space on the disk",
)
NO_NETWORK = (
    "Failed to establish a new connection",
    "Failed to resolve",
    "Temporary failure in name resolution",
    "Name or service not known",
    "getaddrinfo failed",
    "nodename nor servname",
    "Network is unreachable",
    "No route to host",
    "Max retries exceeded",
    "Connection refused",
    "Connection reset",
    "Connection aborted",
    "ConnectionError",
    "ConnectTimeout",
    "timed out",
    "ProxyError",
    "SSLError",
    "CERTIFICATE_VERIFY_FAILED",
)


class Trouble(Exception):
    """What went wrong and what to do about it, in one sentence for the person at the keyboard."""


# ---------------------------------------------------------------- what the person is told


def usage() -> str:
    """The first lines of this file, which say what can be typed."""
    return (__doc__ or "").split("\n\nOnly the standard library")[0]


def say(line: str) -> None:
    """One line on the standard output, at once."""
    print(line, flush=True)


def wrong_python(version: Tuple[int, ...], executable: str) -> Optional[str]:
    """Why this Python cannot run the course; None if it can."""
    if OLDEST <= tuple(version[:2]) <= NEWEST:
        return None
    age = "older" if tuple(version[:2]) < OLDEST else "newer"
    return (
        f"The course needs Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}, and {executable} is "
        f"{age}, {version[0]}.{version[1]}: install one of these (python.org has them all) and run course.py "
        f"with it, for example python{NEWEST[0]}.{NEWEST[1]} course.py lab."
    )


def no_venv(version: Tuple[int, ...], debian: bool) -> str:
    """What to do where Python came without venv or ensurepip."""
    name = f"{version[0]}.{version[1]}"
    cure = (
        f"run sudo apt-get install python{name}-venv"
        if debian
        else f"install the complete Python {name} from python.org or your system's packages"
    )
    return f"This Python {name} has no venv module, which makes environments: {cure}, then run this again."


def disk_full() -> str:
    """What to do where the disk is full."""
    return (
        f"The disk is full: the course needs 3 GB in all for {VENV} and for pip's temporary files; free some "
        "space and run the same command again."
    )


def no_wheel(package: str) -> str:
    """What to say where a package has no build for this computer."""
    return (
        f"There is no build of {package} for this computer ({platform.system()} on {platform.machine()}, "
        f"{platform.python_implementation()} {platform.python_version()}): the course runs on 64-bit Linux "
        "(x86-64 or ARM, glibc 2.28 or newer), on macOS 14 or newer with an Apple chip, and on 64-bit "
        "Windows with x86-64."
    )


def explain(output: str) -> str:
    """The sentence for a failed command, from what it printed.

    The order matters: without a network pip also says that it found no matching build, and on a full disk
    anything may follow.
    """
    if any(sign in output for sign in DISK_FULL):
        return disk_full()
    if "ensurepip is not available" in output:
        return no_venv(sys.version_info[:2], debian=True)
    if any(sign in output for sign in NO_NETWORK):
        return (
            "The packages could not be fetched, for there is no connection to where they are: look at the "
            "network (and pip's proxy and index settings), then run the same command again."
        )
    missing = re.search(r"No matching distribution found for ([^\s;]+)", output)
    if missing:
        return no_wheel(missing.group(1))
    if "DO NOT MATCH THE HASHES" in output:
        return (
            "A package that was fetched is not the one the course was locked with, so it was not installed: "
            "it may have been cut short or changed on the way; run the same command again, if possible from "
            "another network or index."
        )
    return "The environment could not be made; the last lines above say why. Run the same command again."


# ---------------------------------------------------------------- running a command


class Screen:
    """Shows a command's lines as they come; pip's progress as one line that counts up."""

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()
        self.counting = False

    def show(self, line: bytes) -> None:
        """One line of output; lines of the form ``Progress 3 of 7`` (bytes) are pip's raw progress."""
        progress = re.match(rb"Progress (\d+) of (\d+)", line)
        if progress:
            if self.terminal and int(progress.group(2)):
                done, total = (int(number) / 1e6 for number in progress.groups())
                self._write(f"\r    {done:.0f} of {total:.0f} MB ".encode())
                self.counting = True
            return
        self._write((b"\n" if self.counting else b"") + line)
        self.counting = False

    @staticmethod
    def _write(text: bytes) -> None:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()


def run(command: List[str], environment: Optional[Dict[str, str]] = None) -> None:
    """Run a command to its end and show what it prints.

    Raises:
        Trouble: it failed; the sentence comes from what it printed.
    """
    process = subprocess.Popen(
        command,
        cwd=HERE,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    screen = Screen()
    last: collections.deque = collections.deque(maxlen=400)
    try:
        for line in process.stdout:
            screen.show(line)
            last.append(line.decode("utf-8", "replace"))
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code:
        raise Trouble(explain("".join(last)))


# ---------------------------------------------------------------- the environment


def venv_python() -> str:
    """The Python of the environment."""
    return "\\".join([VENV, "Scripts", "python.exe"]) if WINDOWS else "/".join([VENV, "bin", "python"])


def read(path: str) -> bytes:
    """The content of a file; nothing where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def fingerprint(*parts: bytes) -> str:
    """One short text for all that is given."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def stamps() -> List[str]:
    """What the stamp shall say: one line for the environment, one for the course's own package in it.

    The folder is in it because an environment does not survive being moved or copied.
    """
    version = ".".join(str(number) for number in sys.version_info[:2])
    return [
        fingerprint(RECIPE.encode(), version.encode(), HERE.encode(), read(TORCH_LOCK), read(OTHER_LOCK)),
        fingerprint(read(PROJECT)),
    ]


def write_stamp() -> None:
    """Write the stamp whole or not at all."""
    unfinished = STAMP + ".unfinished"
    with open(unfinished, "w", encoding="utf-8") as file:
        file.write("\n".join(stamps()))
    os.replace(unfinished, STAMP)


def pip_install(*arguments: str, index: Optional[str] = None) -> None:
    """``pip install`` in the environment; `index` takes the place of pip's main index."""
    environment = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", PYTHONUNBUFFERED="1")
    if index:
        environment["PIP_INDEX_URL"] = index
    run([venv_python(), "-m", "pip", "install", "--no-deps", *arguments], environment)


def locked(name: str, lock: str) -> str:
    """The lines of one package in a lock with hashes."""
    found = re.search(rf"^{name}==(?:.*\\\n)*.*\n", lock, re.MULTILINE)
    if not found:
        raise Trouble(f"requirements/everything-else.lock does not name {name}: fetch that file again.")
    return found.group()


def install_pip() -> None:
    """Bring pip to the locked version: older ones fetch all of torch only to look at what it needs."""
    alone = os.path.join(VENV, "pip.lock")
    with open(alone, "w", encoding="utf-8") as file:
        file.write(locked("pip", read(OTHER_LOCK).decode("utf-8").replace("\r\n", "\n")))
    pip_install("--quiet", "--require-hashes", "--requirement", alone)


def is_for_here(requirement: str, environment: Dict[str, str]) -> bool:
    """Whether a package's requirement counts on the machine that `environment` (pip's words) describes.

    Reads as much of the language of markers as torch's metadata uses: equalities joined by and/or. What it
    does not know it takes as true, but for extras, which nobody asks for here.
    """
    _, _, marker = requirement.partition(";")
    for alternative in re.split(r"\bor\b", marker):
        wanted = re.findall(r"(\w+)\s*==\s*[\"']([^\"']*)[\"']", alternative)
        if all(environment.get(key, value if key != "extra" else None) == value for key, value in wanted):
            return True
    return False


def needs_cuda(report: Dict[str, Any]) -> bool:
    """Whether what pip would install, by its report, is a build for NVIDIA's CUDA."""
    return any(
        re.match(r"(nvidia|cuda)-", requirement) and is_for_here(requirement, report["environment"])
        for item in report["install"]
        for requirement in item["metadata"].get("requires_dist", [])
    )


def install_torch() -> None:
    """Install the CPU build: from pip's own sources or, where they have CUDA's only, from the CPU index."""
    report = os.path.join(VENV, "torch.json")
    wanted = ["--only-binary", ":all:", "--requirement", TORCH_LOCK]
    pip_install("--quiet", "--dry-run", "--ignore-installed", "--report", report, *wanted)
    index = None
    if needs_cuda(json.loads(read(report).decode("utf-8"))):
        index = os.environ.get("CROSSTALK_TORCH_INDEX") or CPU_INDEX
        say(
            f"pip's own sources have only the CUDA build of torch; the CPU build comes from {index} "
            "(set CROSSTALK_TORCH_INDEX to take it from elsewhere)."
        )
    pip_install("--progress-bar", "raw", *wanted, index=index)


def install_package() -> None:
    """Install the course itself, as it stands in this folder."""
    pip_install("--quiet", "--no-build-isolation", "--editable", HERE)


def make() -> None:
    """Make the environment from nothing; the stamp comes last.

    Raises:
        Trouble: it could not be made.
    """
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise Trouble(no_venv(sys.version_info[:2], debian=os.path.exists("/etc/debian_version")))
    if os.path.realpath(sys.prefix) == os.path.realpath(VENV):
        raise Trouble(
            "The environment in .venv has to be made anew, which its own Python cannot do: type deactivate, "
            "or name the Python it was made with, and run the same command again."
        )
    say(f"Making the course's environment in {VENV}: once only, a few minutes, 3 GB of disk.")
    if os.path.lexists(STAMP):
        os.remove(STAMP)  # first, so that what is left of a removal cut short is not taken for whole
    if os.path.lexists(VENV):
        shutil.rmtree(VENV)
    run([sys.executable, "-m", "venv", VENV])
    install_pip()
    say("1 of 3: PyTorch")
    install_torch()
    say("2 of 3: the other packages")
    pip_install("--progress-bar", "raw", "--only-binary", ":all:", "--require-hashes", "--requirement", OTHER_LOCK)
    say("3 of 3: the course itself")
    install_package()
    write_stamp()


def ensure() -> None:
    """Make what is missing of the environment, which is nothing from the second time on."""
    wanted = stamps()
    found = read(STAMP).decode("utf-8", "replace").split("\n")
    if found[0] != wanted[0] or not os.path.exists(venv_python()):
        make()
    elif found != wanted:
        say("pyproject.toml has changed: installing the course's own package again.")
        install_package()
        write_stamp()


# ---------------------------------------------------------------- handing over


def command_for(word: str, arguments: List[str], python: str) -> List[str]:
    """The command line that does `word`."""
    if word == "test":
        return [python, "-m", "pytest", *arguments]
    return [python, "-m", "crosstalk", word, *arguments]


def activate(environment: MutableMapping[str, str], python: str, separator: str = os.pathsep) -> None:
    """Let commands named without a path, `jupyter` say, be those of the environment."""
    folder = re.sub(r"[\\/][^\\/]*$", "", python)
    environment["PATH"] = folder + separator + environment.get("PATH", "")
    environment["VIRTUAL_ENV"] = re.sub(r"[\\/][^\\/]*$", "", folder)


def hand_over(command: List[str]) -> int:
    """Go on as that command; its exit code where the system cannot replace a process."""
    sys.stdout.flush()
    if not WINDOWS:
        os.execv(command[0], command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which gets it too
    return subprocess.call(command)


def fail(sentence: str, code: int = 1) -> int:
    """Say what is wrong, on the standard error; the exit code."""
    sys.stdout.flush()
    print("\n" + sentence, file=sys.stderr)
    return code


def main(arguments: List[str]) -> int:
    """Do what was typed; the exit code."""
    problem = wrong_python(sys.version_info[:2], sys.executable)
    if problem:
        return fail(problem)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    try:
        ensure()
    except Trouble as trouble:
        return fail(str(trouble))
    except KeyboardInterrupt:
        return fail("Stopped before the environment was ready. Nothing is lost: run the same command again.", 130)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return fail(disk_full())
        return fail(
            f"The environment could not be made ({error}): if JupyterLab is still open, close it; see that "
            f"{HERE} may be written to, then run the same command again."
        )
    if arguments[0] == "test":
        os.chdir(HERE)
    activate(os.environ, venv_python())
    return hand_over(command_for(arguments[0], arguments[1:], venv_python()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
