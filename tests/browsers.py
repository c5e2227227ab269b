"""Where this machine's Chromium, Chrome or Edge is, and what brings one where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath

# Enough for a headless browser in a container, and nothing asked of the network that a test did not ask for.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

_ON_PATH = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "microsoft-edge-stable",
    "msedge",
]
_MAC = ["Chromium", "Google Chrome", "Microsoft Edge"]
_WINDOWS = [
    r"Google\Chrome\Application\chrome.exe",
    r"Chromium\Application\chrome.exe",
    r"Microsoft\Edge\Application\msedge.exe",
]
_BRINGS = {
    "darwin": "brew install --cask google-chrome",
    "win32": "winget install Google.Chrome",
    "linux": "sudo apt-get install chromium",
}


class BrowserError(RuntimeError):
    """No browser, in one sentence that says what to do."""


def candidates(system: str, environment: Mapping[str, str]) -> list[str]:
    """Names to look up on PATH, then full paths, most wanted first; `system` is one of sys.platform's."""
    if system == "darwin":
        folders = [
            PurePosixPath("/Applications"),
            PurePosixPath(environment.get("HOME", "/"), "Applications"),
        ]
        paths = [str(folder / f"{name}.app/Contents/MacOS/{name}") for name in _MAC for folder in folders]
    elif system == "win32":
        names = ["ProgramFiles", "ProgramFiles(x86)", "LocalAppData"]
        folders_there = [PureWindowsPath(environment[name]) for name in names if environment.get(name)]
        paths = [str(folder / browser) for browser in _WINDOWS for folder in folders_there]
    else:
        paths = []
    return _ON_PATH + paths


def find_browser() -> str | None:
    """The browser to test with: ``CROSSTALK_BROWSER`` if it is set, else the first that is there.

    Raises:
        BrowserError: ``CROSSTALK_BROWSER`` names what cannot be started.
    """
    named = os.environ.get("CROSSTALK_BROWSER")
    if named:
        if found := shutil.which(named):
            return found
        raise BrowserError(f"CROSSTALK_BROWSER is {named!r}, which cannot be started: mend it, or unset it.")
    places = (shutil.which(candidate) for candidate in candidates(sys.platform, os.environ))
    return next((place for place in places if place), None)


def bringing_command(system: str = sys.platform) -> str:
    """The command that installs a browser on that system."""
    return _BRINGS.get(system, _BRINGS["linux"])


def install_browser() -> None:
    """Install Debian's Chromium, as an unattended run does.

    Raises:
        BrowserError: it could not be installed.
    """
    quietly = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], ["apt-get", "install", "-y", "chromium"]):
        try:
            subprocess.run(command, check=True, env=quietly, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            raise BrowserError(
                f"There is no browser, and {' '.join(command)} failed ({error}): "
                "install a Chromium, Chrome or Edge, or set CROSSTALK_BROWSER to one."
            ) from None
