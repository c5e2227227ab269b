"""JupyterLab and Notebook 7 on loopback, and a notebook open in one of them, for the browser tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from crosstalk.places import course_folder

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

START_SECONDS = 120.0
RUN_SECONDS = 300.0  # of all cells, on a machine that does much else

# The app shows its insides only where it is asked to; nothing but this process can reach the port.
_OPTIONS = ["--no-browser", "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True",
            "--ServerApp.port_retries=0"]  # fmt: skip
_COMMANDS = {
    "lab": ["-m", "crosstalk", "lab", "--lesson", "01", "--LabApp.expose_app_in_browser=True"],
    "notebook": ["-m", "notebook", "--JupyterNotebookApp.expose_app_in_browser=True"],
}


@contextmanager
def server(kind: str, work: Path) -> Iterator[str]:
    """A running server; gives its address.

    Args:
        kind: ``lab`` (as `crosstalk lab` starts it) or ``notebook`` (Notebook 7, in the folder ``work``).
        work: the student's folder.
    """
    work.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    command = [sys.executable, *_COMMANDS[kind], *_OPTIONS, f"--ServerApp.port={port}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "NBGRADER_"))}
    environment |= {"CROSSTALK_WORK": str(work), "CROSSTALK_COURSE": str(course_folder())}
    # A theme chosen in a test must not become the developer's own.
    environment |= {
        f"JUPYTERLAB_{what}_DIR": str(work / ".jupyter" / what.lower()) for what in ("SETTINGS", "WORKSPACES")
    }
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=work, env=environment, stdout=said, stderr=subprocess.STDOUT)
        try:
            _wait_for(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        except ServerError:
            said.seek(0)
            raise ServerError(f"{kind} did not start:\n{said.read().decode(errors='replace')}") from None
        finally:
            process.terminate()
            process.wait(timeout=60)


class ServerError(RuntimeError):
    """A server did not start; the message holds what it said."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/api/status", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise ServerError


class Notebook:
    """The notebook that is open in a page; its cells are found by their ids, not by what stands in them.

    Args:
        page: of the browser.
        address: of the notebook in it.
    """

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        page.set_default_timeout(30_000)
        page.goto(address)
        page.wait_for_function(
            """() => { const panel = window.jupyterapp?.shell.currentWidget;
                return panel?.content?.model?.cells?.length > 1
                    && panel.sessionContext?.session?.kernel?.status === "idle"; }""",
            timeout=RUN_SECONDS * 1000,
        )
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        """Wait until the kernel has nothing left to do."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.ready")
        self.page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'",
            timeout=RUN_SECONDS * 1000,
        )

    def run_all(self) -> None:
        """Run all cells; those behind a cell that raises are not run."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.wait_until_idle()

    def go_to(self, cell_id: str) -> Locator:
        """Make a cell the active one and bring it into view."""
        found = self.page.evaluate(
            """async id => {
                const notebook = window.jupyterapp.shell.currentWidget.content;
                const index = notebook.widgets.findIndex(cell => cell.model.id === id);
                if (index < 0) return false;
                notebook.activeCellIndex = index;
                notebook.deselectAll();
                await notebook.scrollToItem(index, "center");
                return true; }""",
            cell_id,
        )
        assert found, f"there is no cell {cell_id}"
        return self.page.locator(".jp-Notebook .jp-Cell.jp-mod-active")

    def write(self, cell_id: str, source: str) -> None:
        """Put this into a cell, in place of what is there, as somebody who pastes it."""
        cell = self.go_to(cell_id)
        cell.locator(".cm-content").click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.insert_text(source)
        assert self.source(cell_id) == source

    def source(self, cell_id: str) -> str:
        """What stands in a cell."""
        return self._of_cell(cell_id, "cell.model.sharedModel.getSource()")

    def run(self, cell_id: str) -> None:
        """Run one cell with the keyboard, and wait until it is done."""
        before = self._of_cell(cell_id, "cell.model.executionCount")
        cell = self.go_to(cell_id)
        cell.locator(".cm-content").click()
        self.page.keyboard.press("ControlOrMeta+Enter")
        self.page.wait_for_function(
            """([id, before]) => { const cell = window.jupyterapp.shell.currentWidget.content.widgets
                .find(cell => cell.model.id === id);
                return cell.model.executionCount && cell.model.executionCount !== before; }""",
            arg=[cell_id, before],
            timeout=RUN_SECONDS * 1000,
        )
        self.wait_until_idle()

    def errors(self) -> list[str]:
        """The names of the errors among the outputs of all cells."""
        return self.page.evaluate(
            """() => window.jupyterapp.shell.currentWidget.content.widgets.flatMap(
                cell => (cell.model.sharedModel.outputs ?? []))
                .filter(output => output.output_type === "error").map(output => `${output.ename}: ${output.evalue}`)"""
        )

    def output(self, cell_id: str) -> Locator:
        """Where the outputs of a cell are shown."""
        return self.go_to(cell_id).locator(".jp-OutputArea")

    def cell_with(self, words: str) -> str:
        """The id of the first code cell that holds these words."""
        found = self.page.evaluate(
            """words => window.jupyterapp.shell.currentWidget.content.widgets.filter(
                cell => cell.model.type === "code").find(
                cell => cell.model.sharedModel.getSource().includes(words))?.model.id""",
            words,
        )
        assert found, f"no code cell holds {words}"
        return found

    def active_cell(self) -> str:
        """The id of the active cell."""
        return self.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCell.model.id")

    def _of_cell(self, cell_id: str, expression: str):  # type: ignore[no-untyped-def]
        return self.page.evaluate(
            f"""id => {{ const cell = window.jupyterapp.shell.currentWidget.content.widgets
                .find(cell => cell.model.id === id); return {expression}; }}""",
            cell_id,
        )
