"""What all tests share: a folder of their own for the student's work, a browser, and nothing left out unseen.

Browser tests (marked ``browser``) run last, because Playwright leaves its event loop running in the thread; those that
open pages have files of their own. Where tests run in several processes (``-n 2``), a file's tests stay together, the
longest files begin first, and each process computes with one thread.

Where there is no browser its tests are left out, and the summary lists them with the command that brings one. With
CI=true a browser is installed instead, and a run that left out any test fails. Where a layer of the sandbox is missing,
its tests (marked ``sandbox``) are listed in the same way, with what to do.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browsers import ARGUMENTS, BrowserError, bringing_command, find_browser, install_browser
from filelock import FileLock

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WORK = pytest.StashKey[str]()
LEFT_OUT = pytest.StashKey[dict[str, list[str]]]()  # why → which
KILL_TABLE = pytest.StashKey[list[str]]()


# The files whose tests take longest, longest first: so no process is left alone with one of them at the end.
LONGEST = ("test_killed", "test_nbgrader_class", "test_lessons_run", "test_walk", "test_bank")

ONE_OF_SEVERAL = "PYTEST_XDIST_WORKER" in os.environ
if ONE_OF_SEVERAL:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # else torch's threads wait for those of the other processes

if sys.platform == "win32":  # grading needs Linux, and what these import is not there
    collect_ignore_glob = ["test_attacks_*.py", "test_grade*.py", "test_journal.py", "test_killed.py",
                           "test_nbgrader_plugin.py", "test_sandbox_layers.py", "test_submissions.py"]  # fmt: skip


def _unattended() -> bool:
    return os.environ.get("CI") == "true"


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests off the developer's own work/ and off another checkout, and let interrupts arrive."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background starts us without
    config.stash[WORK] = tempfile.mkdtemp(prefix="crosstalk-tests-")
    config.stash[LEFT_OUT] = {}
    config.stash[KILL_TABLE] = []
    os.environ["CROSSTALK_WORK"] = config.stash[WORK]
    os.environ.pop("CROSSTALK_COURSE", None)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Clear the folder away."""
    shutil.rmtree(config.stash[WORK], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a file's tests together in one process, so that what they share is made once.

    Whatever ``--dist`` says: the groups that ``loadgroup`` is for are lost between pytest 9.2 and xdist 3.8.
    """
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # it would put the files with the most tests first
    return LoadFileScheduling(config, log)


@pytest.hookimpl(trylast=True)  # after -k and -m have chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put browser tests last; leave out what needs a browser or a sandbox where there is none."""
    if ONE_OF_SEVERAL:
        items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)
    try:
        for marker, why in (("browser", _no_browser), ("sandbox", _no_sandbox)):
            needing = [item for item in items if item.get_closest_marker(marker)]
            if needing and (reason := why()):
                for item in needing:
                    item.add_marker(pytest.mark.skip(reason=reason))
                config.stash[LEFT_OUT].setdefault(reason, []).extend(item.nodeid for item in needing)
    except BrowserError as error:
        raise pytest.UsageError(str(error)) from None


def _no_browser() -> str:
    """Why browser tests cannot run here, or "". An unattended run installs a browser."""
    if _unattended():
        with FileLock(Path(tempfile.gettempdir(), "crosstalk-browser.lock")):  # one process of several
            if not find_browser():
                install_browser()
    if find_browser():
        return ""
    return (f"These need a Chromium, Chrome or Edge, and there is none here. This brings one: {bringing_command()}. "
            "If there is one after all, set CROSSTALK_BROWSER to its path.")  # fmt: skip


def _no_sandbox() -> str:
    """Why tests of the sandbox cannot run here, or ""."""
    from autograder.sandbox.layers import probe

    missing = [layer for layer in probe() if layer.required and not layer.works]
    told = "; ".join(f"{layer.name}: {layer.told}" for layer in missing)
    return f"These need the whole sandbox, and missing here are: {told}." if missing else ""


def _not_run(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return sum(len(reporter.stats.get(kind, [])) for kind in ("skipped", "deselected")) if reporter else 0


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what one of several processes has to tell at the end."""
    told = getattr(node, "workeroutput", {})
    node.config.stash[KILL_TABLE] += told.get("kill_table", [])
    node.config.stash[LEFT_OUT] |= told.get("left_out", {})  # every process has collected all tests


def pytest_sessionfinish(session: pytest.Session) -> None:
    """An unattended run that did not run everything has failed."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["kill_table"] = session.config.stash[KILL_TABLE]
        session.config.workeroutput["left_out"] = session.config.stash[LEFT_OUT]
    if _unattended() and _not_run(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the kill table, and say which tests were left out and what would bring them back."""
    if kill_table := config.stash[KILL_TABLE]:
        terminalreporter.section("How the judge does against the bank of mistakes")
        for line in kill_table:
            terminalreporter.write_line(line)
    for reason, tests in config.stash[LEFT_OUT].items():
        terminalreporter.section("Left out")
        for test in tests:
            terminalreporter.write_line(test)
        terminalreporter.write_line(f"{len(tests)} in all. {reason}")
    if _unattended() and (count := _not_run(config)):
        terminalreporter.section("Failed, because tests were left out")
        terminalreporter.write_line(f"With CI=true every test has to run; {count} did not.")


@pytest.fixture(scope="session")
def kill_table(pytestconfig: pytest.Config) -> list[str]:
    """Lines that the run prints at its end; the tests of the bank fill them in."""
    return pytestconfig.stash[KILL_TABLE]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """This machine's browser, headless, with a profile of its own that is thrown away (Playwright's)."""
    from playwright.sync_api import sync_playwright

    path = find_browser()
    assert path, "a test that uses the browser has to be marked: @pytest.mark.browser"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def two_threads() -> Iterator[None]:
    """torch computes with two threads, so that a test sees where they are set to one and not back."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """An empty page in a context of its own: no cookies, no storage, nothing of the test before."""
    context = chromium.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture
def sheet(page: Page) -> Iterator[Page]:
    """The page, watched: an error in its console fails the test."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    assert errors == []
