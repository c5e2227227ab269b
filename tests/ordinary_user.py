"""Run a command as an ordinary user, where the tests themselves run as root.

Python and this repository may lie in a folder that only root may enter. In a mount namespace of the command's own such
a folder is covered by an empty one, in which what the command needs stands where it stood.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from autograder.sandbox import linux

_USER = 1000
_REPOSITORY = Path(__file__).parents[1]


def run_as_ordinary_user(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    readable: Sequence[Path] = (),
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` in the repository's folder, as root by way of another user, else as it is.

    ``environment`` is added to this process's own, and the command has a home and a temporary folder of its own.
    ``readable``: files and folders it needs beside Python and the repository. Gives what it printed, stderr within
    stdout; does not raise where it fails. ``subprocess.TimeoutExpired`` after ``timeout`` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        own = {"HOME": str(home), "TMPDIR": str(home), "USER": "ordinary", "LOGNAME": "ordinary"}
        own["CI"] = ""  # a few tests are run so, and an unattended run would have to be of all
        needed = [Path(sys.base_prefix), Path(sys.prefix), _REPOSITORY, home, *readable]
        if os.geteuid() == 0:
            os.chown(home, _USER, _USER)
        return subprocess.run(
            list(command),
            cwd=_REPOSITORY,
            env={**os.environ, **own, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            preexec_fn=(lambda: _become_ordinary(needed)) if os.geteuid() == 0 else None,
        )


def _become_ordinary(needed: Sequence[Path]) -> None:
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    behind: dict[Path, set[Path]] = {}
    for path in {way for name in needed for way in (name.absolute(), name.resolve())}:
        if closed := _closed_to_others(path):
            behind.setdefault(closed, set()).add(path)
    for closed, paths in behind.items():
        opened = {path: os.open(path, os.O_PATH) for path in sorted(paths)}
        linux.mount("tmpfs", str(closed), "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,mode=755")
        for path, descriptor in opened.items():
            if not path.exists():
                _bind(descriptor, path)
            os.close(descriptor)
    os.chdir(_REPOSITORY)
    os.setgroups([])
    os.setresgid(_USER, _USER, _USER)
    os.setresuid(_USER, _USER, _USER)


def _closed_to_others(path: Path) -> Path | None:
    """The first folder on the way to ``path`` that not everybody may enter."""
    return next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001), None)


def _bind(descriptor: int, path: Path) -> None:
    """Let what ``descriptor`` is open on stand at ``path`` again."""
    source = Path(f"/proc/self/fd/{descriptor}")
    if source.is_dir():
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    linux.mount(str(source), str(path), None, linux.MS_BIND | linux.MS_REC)
