"""`nbgrader autograde` and formgrader's button, made to grade as `crosstalk grade` does.

One line in nbgrader_config.py does it::

    c.Autograde.exporter_class = "autograder.grading.nbgrader_plugin.InSandbox"

nbgrader makes the exporter when it has found submissions, and then converts each: it copies what was handed in,
follows links while it does, reads the notebook, runs it, and gives the whole class up when one notebook is of another
schema. None of that is done here. The exporter takes that step over, and runs the command `crosstalk grade` for the
students that nbgrader was asked for, in processes of its own. So gradebook, journal and autograded notebooks are
those of that command, and the server behind formgrader's button holds neither packs nor a zygote.
"""

from __future__ import annotations

import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from nbconvert.exporters import NotebookExporter
from nbgrader.converters import Autograde
from nbgrader.converters.base import NbGraderException
from traitlets import Bool

from crosstalk.places import course_folder


class InSandbox(NotebookExporter):
    """Takes the place of nbgrader's exporter, and with it of all that `nbgrader autograde` does to a submission."""

    unsafe = Bool(False, help="Grade where layers of the sandbox are missing; every result says so.").tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        """nbgrader gives its converter as `parent`; without one this is nbconvert's exporter of notebooks."""
        super().__init__(**kwargs)
        if isinstance(self.parent, Autograde):
            self.parent.convert_notebooks = self._grade

    def _grade(self) -> None:
        """Grade the submissions that the converter was asked for.

        Raises:
            NbGraderException: not all of them could be graded; what the command says is in nbgrader's log.
        """
        command = _command(self.parent, self.unsafe)
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env={**os.environ, "CROSSTALK_COURSE": str(course_folder()), "COLUMNS": "120"},
                              text=True, encoding="utf-8", errors="replace") as process:  # fmt: skip
            said = []
            try:
                for line in process.stdout or ():
                    said.append(line.rstrip())
                    self.log.info("%s", said[-1])
            except BaseException:
                process.terminate()  # it writes down what it has, and the next run goes on from there
                raise
        if process.returncode:
            last = " ".join(line for line in said[-3:] if line)
            raise _failed(self.parent, f"Not everything is graded: {last or 'see above.'}")


def _command(converter: Autograde, unsafe: bool) -> list[str]:
    asked = converter.coursedir
    students = [] if asked.student_id == "*" and not asked.student_id_exclude else _students(converter)
    options = ["--again"] * bool(converter.force) + ["--unsafe"] * unsafe
    if students:  # formgrader's button asks for one, which needs no second worker
        options.append(f"--workers={min(len(students), os.cpu_count() or 1)}")
    return [sys.executable, "-P", "-m", "crosstalk", "grade", *options, "--folder", str(asked.root), "--",
            asked.assignment_id, *students]  # fmt: skip


def _students(converter: Autograde) -> list[str]:
    """Those that nbgrader was asked for by name or pattern, and that have a folder."""
    asked = converter.coursedir
    submitted = Path(asked.root, asked.submitted_directory)
    names = sorted(os.listdir(submitted)) if submitted.is_dir() else []
    left_out = asked.student_id_exclude.split(",")
    students = [name for name in names if fnmatch(name, asked.student_id) and name not in left_out]
    if not students:
        raise _failed(converter, f"No student in {submitted} is called {asked.student_id}.")
    return students


def _failed(converter: Autograde, why: str) -> NbGraderException:
    converter.log.error("%s", why)  # nbgrader's command shows its log only
    return NbGraderException(why)
