"""Tests that are left out are told of, and fail an unattended run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from browsers import BrowserError, bringing_command, candidates, find_browser

HERE = Path(__file__).parent

SKIPS = """
import pytest

def test_runs():
    pass

@pytest.mark.skipif(True, reason="to see what becomes of it")
def test_does_not():
    pass
"""

IN_A_BROWSER = """
import pytest

@pytest.mark.browser
def test_sees_a_page(page):
    page.set_content("<h1>Seen</h1>")
    assert page.inner_text("h1") == "Seen"

def test_plain():
    pass
"""

IN_A_SANDBOX = """
import pytest
from autograder.sandbox import layers

layers.probe = lambda: [layers.Layer("seccomp", True, False, "install the package libseccomp2")]

@pytest.mark.sandbox
def test_is_walled_in():
    assert False

def test_plain():
    pass
"""


def run(folder: Path, tests: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `tests` in a folder of their own, under this suite's conftest."""
    for name in ("conftest.py", "browsers.py"):
        shutil.copy(HERE / name, folder)
    (folder / "test_it.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    browser: needs one\n    sandbox: needs it whole\n")
    inherited = {key: value for key, value in os.environ.items() if key not in ("CI", "CROSSTALK_BROWSER")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-v", *arguments],
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
    )


def test_a_skipped_test_fails_an_unattended_run_only(tmp_path: Path) -> None:
    assert run(tmp_path, SKIPS).returncode == 0
    unattended = run(tmp_path, SKIPS, CI="true")
    assert unattended.returncode == 1
    assert "With CI=true every test has to run; 1 did not." in unattended.stdout


def test_a_deselected_test_fails_an_unattended_run(tmp_path: Path) -> None:
    unattended = run(tmp_path, SKIPS, "-k", "runs", CI="true")
    assert unattended.returncode == 1
    assert "1 did not." in unattended.stdout


def test_a_whole_unattended_run_passes(tmp_path: Path) -> None:
    assert run(tmp_path, "def test_runs():\n    pass\n", CI="true").returncode == 0


def test_without_a_browser_its_tests_are_listed_with_the_command_that_brings_one(tmp_path: Path) -> None:
    attended = run(tmp_path, IN_A_BROWSER, PATH=str(tmp_path), HOME=str(tmp_path))
    assert attended.returncode == 0
    told = attended.stdout.partition("Left out")[2]
    assert "test_it.py::test_sees_a_page" in told
    assert bringing_command() in told
    assert "test_plain" not in told


def test_without_a_layer_of_the_sandbox_its_tests_are_listed_with_what_to_do(tmp_path: Path) -> None:
    attended = run(tmp_path, IN_A_SANDBOX)
    assert attended.returncode == 0
    told = attended.stdout.partition("Left out")[2]
    assert "test_it.py::test_is_walled_in" in told
    assert "missing here are: seccomp: install the package libseccomp2" in told
    assert run(tmp_path, IN_A_SANDBOX, CI="true").returncode == 1


def test_an_unattended_run_that_cannot_install_one_says_so(tmp_path: Path) -> None:
    unattended = run(tmp_path, IN_A_BROWSER, PATH=str(tmp_path), HOME=str(tmp_path), CI="true")
    assert unattended.returncode != 0
    assert "There is no browser, and apt-get update failed" in unattended.stdout + unattended.stderr


def test_an_unattended_run_installs_one(tmp_path: Path) -> None:
    """A stand-in for apt-get puts a browser on PATH and writes down how it was called."""
    apt_get = tmp_path / "apt-get"
    apt_get.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nprintf "#!/bin/sh\\n" > {tmp_path}/chromium\n'
        f"/bin/chmod +x {tmp_path}/chromium\n"
    )
    apt_get.chmod(0o755)
    unattended = run(tmp_path, "import pytest\n\n@pytest.mark.browser\ndef test_it():\n    pass\n",
                     CI="true", PATH=str(tmp_path), HOME=str(tmp_path))  # fmt: skip
    assert unattended.returncode == 0, unattended.stdout
    assert (tmp_path / "calls").read_text() == "update\ninstall -y chromium\n"


@pytest.mark.browser
def test_the_page_fixture_opens_pages_and_browser_tests_come_last(tmp_path: Path) -> None:
    found = find_browser()
    assert found
    shown = run(tmp_path, IN_A_BROWSER, CROSSTALK_BROWSER=found)
    assert shown.returncode == 0, shown.stdout
    assert shown.stdout.index("::test_plain") < shown.stdout.index("::test_sees_a_page")


def test_the_named_browser_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSTALK_BROWSER", sys.executable)
    assert find_browser() == sys.executable
    monkeypatch.setenv("CROSSTALK_BROWSER", str(tmp_path / "none"))
    with pytest.raises(BrowserError, match="which cannot be started: mend it, or unset it"):
        find_browser()


def test_where_browsers_are_on_macos_and_windows() -> None:
    mac = candidates("darwin", {"HOME": "/Users/ada"})
    assert "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" in mac
    assert "/Users/ada/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge" in mac
    windows = candidates("win32", {"ProgramFiles": r"C:\Program Files", "LocalAppData": r"C:\Users\ada\Local"})
    assert r"C:\Program Files\Microsoft\Edge\Application\msedge.exe" in windows
    assert r"C:\Users\ada\Local\Google\Chrome\Application\chrome.exe" in windows
    assert "google-chrome" in candidates("linux", {})


@pytest.mark.parametrize(("system", "tool"), [("linux", "apt-get"), ("darwin", "brew"), ("win32", "winget")])
def test_each_system_has_a_command_that_brings_a_browser(system: str, tool: str) -> None:
    assert tool in bringing_command(system)
