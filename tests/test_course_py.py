"""course.py: the environment it makes, when it makes it, and what it says when it cannot."""

import ast
import errno
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

CUDA = [
    "filelock",
    'cuda-toolkit[cublas,cudart]==13.0.3; platform_system == "Linux"',
    'nvidia-cudnn-cu13==9.20.0.48; platform_system == "Linux"',
    'triton==3.7.1; platform_system == "Linux" and python_version < "3.15"',
]
CPU = ["filelock", "sympy>=1.13.3", 'pyyaml; extra == "pyyaml"']

# As pip 23.2 to 26.3 print them.
UNREACHABLE = """\
WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection \
broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: Failed to \
establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/torch/
ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: none)
ERROR: No matching distribution found for torch==2.13.0
"""
NO_WHEEL = """\
ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: none)
ERROR: No matching distribution found for torch==2.13.0
"""
FULL = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
FULL_ON_WINDOWS = FULL.replace("[Errno 28] No space left on device", "[WinError 112] There is not enough space")
OTHER_HASH = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n"


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """course.py as a module, at work in a folder of its own with locks of its own."""
    specification = importlib.util.spec_from_file_location("course_py", ROOT / "course.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    (tmp_path / "torch.lock").write_text("torch==2.13.0\n")
    (tmp_path / "other.lock").write_text("pip==26.3 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\nzlib==1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    for name, path in {
        "HERE": "",
        "VENV": ".venv",
        "STAMP": ".venv/crosstalk.stamp",
        "TORCH_LOCK": "torch.lock",
        "OTHER_LOCK": "other.lock",
        "PROJECT": "pyproject.toml",
    }.items():
        monkeypatch.setattr(module, name, str(tmp_path / path))
    return module


@pytest.fixture
def commands(course: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that course.py ran, none of them for real: an environment appears, and pip's report."""
    ran: list[list[str]] = []

    def pretend(command: list[str], environment: dict[str, str] | None = None) -> None:
        ran.append(command)
        if command[1:3] == ["-m", "venv"]:
            python = Path(course.venv_python())
            Path(course.VENV).mkdir()
            python.parent.mkdir(exist_ok=True)
            python.touch()
        if "--report" in command:
            Path(command[command.index("--report") + 1]).write_text(json.dumps(report(CPU)))

    monkeypatch.setattr(course, "run", pretend)
    return ran


def report(requires: list[str], system: str = "Linux", version: str = "2.13.0") -> dict[str, Any]:
    """What pip reports of a torch that it would install on such a system."""
    metadata = {"name": "torch", "version": version, "requires_dist": requires}
    return {
        "install": [{"metadata": metadata}],
        "environment": {"platform_system": system, "platform_machine": "x86_64"},
    }


def installed(commands: list[list[str]]) -> list[str]:
    """What was installed: the last word of each command but the report's."""
    return [os.path.basename(command[-1]) for command in commands if "--report" not in command]


# ---------------------------------------------------------------- reading and refusing


def test_python_3_6_can_read_it() -> None:
    tree = ast.parse((ROOT / "course.py").read_text(encoding="utf-8"), feature_version=(3, 6))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names if isinstance(node, ast.Import)}
    names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("version", "word"), [((3, 6), "older, 3.6"), ((3, 10), "older, 3.10"), ((3, 15), "newer, 3.15")]
)
def test_a_python_too_old_or_too_new_gets_one_sentence(
    course: ModuleType,
    commands: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    version: tuple[int, int],
    word: str,
) -> None:
    monkeypatch.setattr(course.sys, "version_info", (*version, 0, "final", 0))
    assert course.main(["lab"]) == 1
    told = capsys.readouterr().err
    assert "The course needs Python 3.11 to 3.14" in told and word in told
    assert told.strip().count("\n") == 0
    assert not commands


@pytest.mark.parametrize("minor", [11, 12, 13, 14])
def test_the_pythons_that_torch_has_wheels_for_are_taken(course: ModuleType, minor: int) -> None:
    assert course.wrong_python((3, minor), "python3") is None


def test_pyproject_names_the_same_pythons(course: ModuleType) -> None:
    (oldest, newest) = (course.OLDEST, course.NEWEST)
    assert PROJECT["project"]["requires-python"] == (f">={oldest[0]}.{oldest[1]},<{newest[0]}.{newest[1] + 1}")


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
@pytest.mark.parametrize(
    ("debian", "cure"),
    [
        (True, f"sudo apt-get install python3.{sys.version_info[1]}-venv"),
        (False, f"install the complete Python 3.{sys.version_info[1]}"),
    ],
)
def test_no_venv_module(
    course: ModuleType,
    commands: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    missing: str,
    debian: bool,
    cure: str,
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(course.importlib.util, "find_spec", lambda name: None if name == missing else there(name))
    on_disk = os.path.exists
    monkeypatch.setattr(
        course.os.path, "exists", lambda path: debian if path == "/etc/debian_version" else on_disk(path)
    )
    assert course.main(["lab"]) == 1
    told = capsys.readouterr().err
    assert "has no venv module" in told and cure in told
    assert not commands


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (UNREACHABLE, "there is no connection to where they are"),
        ("ConnectTimeoutError: timed out\n" + NO_WHEEL, "there is no connection to where they are"),
        (
            NO_WHEEL,
            r"There is no build of torch==2\.13\.0 for this computer \(.+\): the course runs on 64-bit",
        ),
        (FULL, "The disk is full"),
        (FULL_ON_WINDOWS, "The disk is full"),
        (UNREACHABLE + FULL, "The disk is full"),
        (OTHER_HASH, "is not the one the course was locked with"),
        ("The virtual environment was not created: ensurepip is not available.", "has no venv module"),
        ("Something else.\n", "The environment could not be made; the last lines above say why"),
    ],
)
def test_what_pip_says_becomes_one_sentence(course: ModuleType, output: str, sentence: str) -> None:
    told = course.explain(output)
    assert re.search(sentence, told)
    assert "\n" not in told


def test_a_failing_command_is_shown_and_explained(
    course: ModuleType, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    script = f"import sys; print('Collecting torch'); sys.stderr.write({NO_WHEEL!r}); sys.exit(1)"
    with pytest.raises(course.Trouble, match="There is no build of torch"):
        course.run([sys.executable, "-c", script])
    shown = capfdbinary.readouterr().out
    assert b"Collecting torch" in shown and b"No matching distribution found" in shown


def test_a_command_that_works_raises_nothing(course: ModuleType) -> None:
    course.run([sys.executable, "-c", "print('No space left on device, says a file name')"])


def test_pips_progress_is_one_line_on_a_terminal(course: ModuleType, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    screen = course.Screen()
    lines = [b"Progress 0 of 190000000\n", b"Progress 95000000 of 190000000\n", b"Installing\n"]
    for line in lines:
        screen.show(line)
    assert capfdbinary.readouterr().out == b"Installing\n"
    screen.terminal = True
    for line in lines:
        screen.show(line)
    assert capfdbinary.readouterr().out == b"\r    0 of 190 MB \r    95 of 190 MB \nInstalling\n"


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 1, "The disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), 1, "if JupyterLab is still open, close it"),
        (KeyboardInterrupt(), 130, "Nothing is lost: run the same command again."),
    ],
)
def test_a_stop_half_way_gets_one_sentence(
    course: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    sentence: str,
) -> None:
    def stop(command: list[str], environment: dict[str, str] | None = None) -> None:
        raise error

    monkeypatch.setattr(course, "run", stop)
    assert course.main(["lab"]) == code
    told = capsys.readouterr().err
    assert sentence in told
    assert told.strip().count("\n") == 0


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0)])
def test_help_makes_nothing(
    course: ModuleType,
    commands: list[list[str]],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
) -> None:
    assert course.main(arguments) == code
    assert "python course.py lab" in capsys.readouterr().out
    assert not commands


# ---------------------------------------------------------------- making it, once


def test_all_is_made_the_first_time_and_nothing_the_second(course: ModuleType, commands: list[list[str]]) -> None:
    course.ensure()
    assert installed(commands) == [".venv", "pip.lock", "torch.lock", "other.lock", Path(course.HERE).name]
    commands.clear()
    course.ensure()
    assert not commands


def test_every_install_takes_only_what_the_locks_name(course: ModuleType, commands: list[list[str]]) -> None:
    course.ensure()
    installs = [command for command in commands if "install" in command]
    assert all("--no-deps" in command for command in installs)
    hashed = [command for command in installs if "--require-hashes" in command]
    assert installed(hashed) == ["pip.lock", "other.lock"]
    assert (Path(course.VENV) / "pip.lock").read_text() == (
        "pip==26.3 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
    )


@pytest.mark.parametrize("steps", range(1, 6))
def test_an_interruption_mends_itself(
    course: ModuleType, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    pretend = course.run

    def interrupted(command: list[str], environment: dict[str, str] | None = None) -> None:
        pretend(command, environment)
        if len(commands) == steps:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(course, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            course.ensure()
    assert not Path(course.STAMP).exists()
    (Path(course.VENV) / "half-made").touch()
    commands.clear()
    course.ensure()
    assert installed(commands)[0] == ".venv"
    assert Path(course.STAMP).exists()
    assert not (Path(course.VENV) / "half-made").exists()


def test_an_interrupted_removal_is_not_taken_for_an_environment(
    course: ModuleType, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    course.ensure()
    Path(course.TORCH_LOCK).write_text("torch==2.14.0\n")

    def stopped(path: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(course.shutil, "rmtree", stopped)
    with pytest.raises(KeyboardInterrupt):
        course.ensure()
    assert not Path(course.STAMP).exists()


def other_torch(course: ModuleType) -> None:
    Path(course.TORCH_LOCK).write_text("torch==2.14.0\n")


def other_packages(course: ModuleType) -> None:
    with open(course.OTHER_LOCK, "a") as lock:
        lock.write("new==1\n")


def other_recipe(course: ModuleType) -> None:
    course.RECIPE = "0"


def python_gone(course: ModuleType) -> None:
    Path(course.venv_python()).unlink()


def stamp_gone(course: ModuleType) -> None:
    Path(course.STAMP).unlink()


def stamp_broken(course: ModuleType) -> None:
    Path(course.STAMP).write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("change", [other_torch, other_packages, other_recipe, python_gone, stamp_gone, stamp_broken])
def test_what_makes_it_anew(
    course: ModuleType, commands: list[list[str]], change: Callable[[ModuleType], None]
) -> None:
    course.ensure()
    change(course)
    commands.clear()
    course.ensure()
    assert installed(commands)[0] == ".venv"
    commands.clear()
    course.ensure()
    assert not commands


def test_another_python_makes_it_anew(
    course: ModuleType, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    course.ensure()
    commands.clear()
    monkeypatch.setattr(course.sys, "version_info", (3, sys.version_info[1] + 1, 0, "final", 0))
    course.ensure()
    assert installed(commands)[0] == ".venv"


def test_a_changed_pyproject_installs_the_course_alone(course: ModuleType, commands: list[list[str]]) -> None:
    course.ensure()
    commands.clear()
    Path(course.PROJECT).write_text("[project]\nname = 'x'\n")
    course.ensure()
    assert installed(commands) == [Path(course.HERE).name]
    commands.clear()
    course.ensure()
    assert not commands


def test_its_own_python_does_not_remove_itself(
    course: ModuleType,
    commands: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(course.sys, "prefix", course.VENV)
    assert course.main(["lab"]) == 1
    assert "type deactivate" in capsys.readouterr().err
    assert not commands


# ---------------------------------------------------------------- the CPU build of torch


@pytest.mark.parametrize(
    ("reported", "cuda"),
    [
        (report(CUDA), True),
        (report(CUDA, system="Darwin"), False),
        (report(CUDA, system="Windows"), False),
        (report(CPU, version="2.13.0+cpu"), False),
        (report(['nvidia-nccl-cu13==2.29.7; platform_system == "Linux" and extra == "nccl"']), False),
        (report(["nvidia-nccl-cu13==2.29.7; platform_system=='Windows' or platform_system=='Linux'"]), True),
        (report(["nvidia-nccl-cu13"]), True),
        ({"install": [{"metadata": {"name": "torch"}}], "environment": {}}, False),
    ],
)
def test_the_cuda_build_is_known_by_what_it_asks_for(course: ModuleType, reported: dict[str, Any], cuda: bool) -> None:
    assert course.needs_cuda(reported) is cuda


@pytest.fixture
def indexes(course: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[str]], str | None]]:
    """Installs torch where pip's own sources offer one with these requirements; the main index it used."""
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.delenv("CROSSTALK_TORCH_INDEX", raising=False)
    os.mkdir(course.VENV)

    def install(requires: list[str]) -> str | None:
        used: list[str | None] = []

        def pretend(command: list[str], environment: dict[str, str]) -> None:
            if "--report" in command:
                assert "PIP_INDEX_URL" not in environment
                assert "--dry-run" in command
                Path(command[command.index("--report") + 1]).write_text(json.dumps(report(requires)))
            else:
                used.append(environment.get("PIP_INDEX_URL"))

        monkeypatch.setattr(course, "run", pretend)
        course.install_torch()
        (index,) = used
        return index

    yield install


def test_torch_comes_from_pips_own_sources_where_they_have_a_cpu_build(
    indexes: Callable[[list[str]], str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSTALK_TORCH_INDEX", "https://mirror.example/cpu")
    assert indexes(CPU) is None


def test_torch_comes_from_the_cpu_index_where_there_is_only_cuda(
    course: ModuleType,
    indexes: Callable[[list[str]], str | None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert indexes(CUDA) == course.CPU_INDEX
    assert "set CROSSTALK_TORCH_INDEX to take it from elsewhere" in capsys.readouterr().out
    monkeypatch.setenv("CROSSTALK_TORCH_INDEX", "https://mirror.example/cpu")
    assert indexes(CUDA) == "https://mirror.example/cpu"


# ---------------------------------------------------------------- handing over


def test_what_each_word_becomes(course: ModuleType) -> None:
    assert course.command_for("lab", ["--no-browser"], "py") == [
        "py",
        "-m",
        "crosstalk",
        "lab",
        "--no-browser",
    ]
    assert course.command_for("test", ["-k", "mask"], "py") == ["py", "-m", "pytest", "-k", "mask"]
    assert course.command_for("progress", [], "py") == ["py", "-m", "crosstalk", "progress"]


def test_paths_on_each_system(course: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "VENV", "/home/ada/course/.venv")
    monkeypatch.setattr(course, "WINDOWS", False)
    assert course.venv_python() == "/home/ada/course/.venv/bin/python"
    monkeypatch.setattr(course, "VENV", r"C:\Users\Ada L\course\.venv")
    monkeypatch.setattr(course, "WINDOWS", True)
    assert course.venv_python() == r"C:\Users\Ada L\course\.venv\Scripts\python.exe"


def test_commands_of_the_environment_come_first(course: ModuleType) -> None:
    unix = {"PATH": "/usr/bin"}
    course.activate(unix, "/course/.venv/bin/python", ":")
    assert unix == {"PATH": "/course/.venv/bin:/usr/bin", "VIRTUAL_ENV": "/course/.venv"}
    windows = {"PATH": r"C:\Windows"}
    course.activate(windows, r"C:\course\.venv\Scripts\python.exe", ";")
    assert windows == {"PATH": r"C:\course\.venv\Scripts;C:\Windows", "VIRTUAL_ENV": r"C:\course\.venv"}


@pytest.mark.parametrize("windows", [False, True])
def test_main_hands_over(
    course: ModuleType, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, windows: bool
) -> None:
    """course.py becomes the command; on Windows it waits for it and passes its exit code on."""
    handed: list[tuple[str, list[str]]] = []

    def become(program: str, command: list[str]) -> None:
        handed.append((program, command))
        raise SystemExit(7)

    def wait_for(command: list[str]) -> int:
        handed.append(("waited", command))
        return 7

    monkeypatch.chdir(ROOT)  # so that the working directory is put back afterwards
    monkeypatch.setattr(course, "WINDOWS", windows)
    monkeypatch.setattr(course.os, "execv", become)
    monkeypatch.setattr(course.subprocess, "call", wait_for)
    monkeypatch.setattr(course.signal, "signal", lambda number, what: None)
    monkeypatch.setattr(course, "activate", lambda environment, python: None)
    if windows:
        assert course.main(["test", "-x"]) == 7
    else:
        with pytest.raises(SystemExit):
            course.main(["test", "-x"])
    python = course.venv_python()
    assert handed == [("waited" if windows else python, [python, "-m", "pytest", "-x"])]
    assert os.getcwd() == course.HERE


# ---------------------------------------------------------------- the locks


def lock_entries() -> list[tuple[Requirement, list[str]]]:
    """Each package of the lock, with its hashes."""
    text = (ROOT / "requirements" / "everything-else.lock").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^#.*\n", "", text).replace("\\\n", " ")
    entries = []
    for line in text.splitlines():
        requirement, *hashes = line.split("--hash=")
        entries.append((Requirement(requirement.strip()), [found.strip() for found in hashes]))
    return entries


def test_the_lock_has_what_pyproject_asks_for() -> None:
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    entries = lock_entries()
    for requirement in map(Requirement, wanted):
        if requirement.name == "torch":
            lock = (ROOT / "requirements" / "torch.lock").read_text(encoding="utf-8")
            assert lock.strip() == f"torch{requirement.specifier}"
            continue
        versions = [
            next(iter(entry.specifier)).version
            for entry, _ in entries
            if canonicalize_name(entry.name) == canonicalize_name(requirement.name)
        ]
        remake = f"{requirement}: make the lock anew, see requirements/README.md"
        assert versions, remake
        assert all(requirement.specifier.contains(version) for version in versions), remake


def test_the_lock_holds_hashes_of_all_systems_and_no_address() -> None:
    entries = lock_entries()
    for requirement, hashes in entries:
        assert [pin.operator for pin in requirement.specifier] == ["=="], requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", found) for found in hashes), requirement
        assert requirement.url is None, requirement
    markers = {requirement.name: str(requirement.marker) for requirement, _ in entries}
    assert "win32" in markers["colorama"]
    assert "darwin" in markers["appnope"]


def test_the_lock_has_neither_torch_nor_cuda() -> None:
    names = {requirement.name for requirement, _ in lock_entries()}
    assert not {name for name in names if re.match(r"(torch|triton|nvidia-.*|cuda-.*)$", name)}
    assert {"filelock", "fsspec", "jinja2", "networkx", "sympy", "setuptools", "typing-extensions"} <= names


def test_nothing_is_missing_from_the_environment() -> None:
    """All was installed without looking at what it depends on, so pip is asked whether that is there."""
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
