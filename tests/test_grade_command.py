"""`crosstalk doctor` and `crosstalk grade` as an instructor meets them, and cells that an instructor has added."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from distributed import Client, LocalCluster
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from typer.testing import CliRunner

from autograder import solutions
from autograder.grading import command
from autograder.grading.cluster import local_cluster
from autograder.grading.command import GradingError, sandbox_of
from autograder.grading.grader import Grader
from autograder.grading.results import CellResult, Graded
from autograder.sandbox import layers
from autograder.sandbox.layers import Layer
from autograder.sandbox.pool import Layers
from crosstalk.cli import app, complete
from crosstalk.course import course
from crosstalk.places import course_folder

LESSON = course().lesson("00")
NAME = "sequence_log_prob"
WHOLE = [Layer("user namespace", True, True, "here"), Layer("seccomp", True, True, "here"),
         Layer("Landlock", False, False, "not in this kernel")]  # fmt: skip
WITHOUT_SECCOMP = [WHOLE[0], Layer("seccomp", True, False, "install libseccomp2"), WHOLE[2]]

pytestmark = pytest.mark.sandbox

complete(app)


def test_the_doctor_shows_every_layer_and_that_grading_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "probe", lambda: WHOLE)
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.exit_code == 0
    assert all(layer.name in shown.stdout for layer in WHOLE)
    assert "can start here" in shown.stdout


def test_the_doctor_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "probe", lambda: WITHOUT_SECCOMP)
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.exit_code == 1
    assert "install libseccomp2" in shown.stdout
    assert "refuses to start here: missing are seccomp" in shown.stdout


def test_every_layer_that_is_needed_is_here() -> None:
    assert [layer.name for layer in layers.probe() if layer.required and not layer.works] == []


def test_grading_refuses_to_start_where_a_layer_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "probe", lambda: WITHOUT_SECCOMP)
    told = CliRunner().invoke(app, ["grade", "00", "--folder", str(tmp_path)])
    assert told.exit_code == 1
    assert "missing are seccomp" in told.output
    assert "nothing was graded" in told.output
    assert list(tmp_path.iterdir()) == []


def test_unsafe_names_what_was_missing_and_leaves_out_nothing_else() -> None:
    used, missing = sandbox_of(WITHOUT_SECCOMP, unsafe=True)
    assert used.namespaces and not used.seccomp
    assert missing == "Graded with --unsafe, where these layers of the sandbox were missing: seccomp."
    assert sandbox_of(WHOLE, unsafe=True)[1] == ""
    with pytest.raises(GradingError):
        sandbox_of(WITHOUT_SECCOMP, unsafe=False)


def test_a_folder_without_a_class_is_told(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["grade", "00", "--folder", str(tmp_path)])
    assert told.exit_code == 1
    assert "There is no nbgrader_config.py" in told.output


def can_reach(address: str) -> bool:
    """Does a process without our keys get through to a scheduler?"""
    line = [sys.executable, "-c", f"from distributed import Client; Client({address!r}, timeout=3)"]
    try:
        return subprocess.run(line, capture_output=True, timeout=60).returncode == 0
    except subprocess.TimeoutExpired:  # it waits in vain
        return False


def test_nobody_else_on_this_machine_can_send_work_to_the_workers() -> None:
    with local_cluster(1) as cluster:
        address = cluster.scheduler_address
        with Client(cluster) as ours:
            assert ours.submit(pow, 2, 5).result() == 32
        assert not any(map(can_reach, (address, address.replace("tls://", "tcp://"))))
    with LocalCluster(n_workers=0, protocol="tcp://", dashboard_address=None) as open_to_all:
        assert can_reach(open_to_all.scheduler_address)


# --- cells that an instructor has added


def marked(cell: NotebookNode, grade_id: str, points: float | None, solution: bool) -> NotebookNode:
    settings = {"grade": points is not None, "grade_id": grade_id, "locked": not solution, "schema_version": 3,
                "solution": solution, "task": False}  # fmt: skip
    cell.metadata["nbgrader"] = settings if points is None else settings | {"points": points}
    return cell


@pytest.fixture(scope="module")
def released() -> NotebookNode:
    """Lesson 00 with an instructor's own cells: three that assert, one essay, and code that a person grades."""
    notebook = nbformat.read(course_folder() / "lessons" / LESSON.notebook, as_version=4)
    notebook.cells += [
        marked(new_code_cell(f"assert callable({NAME})\nassert helper(2) == 4"), "own-right", 3, solution=False),
        marked(new_code_cell("assert helper(2) == 5, 'four is not five'"), "own-wrong", 2, solution=False),
        marked(new_code_cell("print('so far')\n0.5"), "own-partial", 1, solution=False),
        marked(new_markdown_cell("YOUR ANSWER HERE"), "essay", 4, solution=True),
        marked(new_code_cell("# your plot"), "plot", 2, solution=True),
    ]
    return notebook


@pytest.fixture(scope="module")
def handed_in(released: NotebookNode) -> bytes:
    notebook = nbformat.from_dict(released)
    by_id = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in notebook.cells}
    answer = solutions.answer_source(solutions.read_source(LESSON), NAME)
    by_id[NAME].source = f"{answer}\n\ndef helper(number):\n    return number * number"
    by_id["essay"].source = "Because the scores are summed. <script>alert(1)</script>"
    by_id["plot"].source = "drawn = [helper(n) for n in range(4)]\ndrawn"
    return nbformat.writes(notebook).encode()


@pytest.fixture(scope="module")
def graded(released: NotebookNode, handed_in: bytes) -> Iterator[Graded]:
    with Grader(LESSON, released) as grader:
        yield grader.grade("ada", handed_in)


def result(graded: Graded, grade_id: str) -> CellResult:
    return next(cell for cell in graded.cells if cell.grade_id == grade_id)


def shown(graded: Graded, grade_id: str) -> NotebookNode:
    cells = nbformat.reads(graded.notebook, as_version=4).cells
    return next(cell for cell in cells if cell.metadata.get("nbgrader", {}).get("grade_id") == grade_id)


def test_asserts_of_the_instructors_own_count_as_nbgrader_counts_them(graded: Graded) -> None:
    assert [result(graded, name).points for name in ("own-right", "own-wrong", "own-partial")] == [3, 0, 0.5]
    assert graded.reasons == []


def test_asserts_of_the_instructors_own_are_of_lower_assurance(graded: Graded) -> None:
    assert all(result(graded, name).lower_assurance for name in ("own-right", "own-wrong", "own-partial"))


def test_an_exercise_of_lower_assurance_says_so(graded: Graded) -> None:
    check = result(graded, f"check-{NAME}")
    assert check.lower_assurance == ("Of lower assurance" in check.html)


def test_what_an_own_cell_says_is_shown(graded: Graded) -> None:
    [error] = shown(graded, "own-wrong").outputs
    assert (error.ename, error.evalue) == ("AssertionError", "four is not five")
    printed, value = shown(graded, "own-partial").outputs
    assert (printed.text, value.data["text/plain"]) == ("so far\n", "0.5")


def test_what_a_person_grades_waits_and_is_shown_with_its_output(graded: Graded) -> None:
    assert result(graded, "essay").points is None
    assert result(graded, "plot").points is None
    assert shown(graded, "plot").outputs[0].data["text/plain"] == "[0, 1, 4, 9]"
    assert "<script" not in shown(graded, "essay").source


def test_the_check_of_an_exercise_has_its_points(graded: Graded) -> None:
    assert result(graded, f"check-{NAME}").points == LESSON.points


def test_an_unsafe_result_says_so_in_the_notebook(released: NotebookNode, handed_in: bytes) -> None:
    missing = sandbox_of(WITHOUT_SECCOMP, unsafe=True)[1]
    with Grader(LESSON, released, missing=missing) as grader:
        unsafe = grader.grade("ada", handed_in)
    assert unsafe.assurance == missing
    assert missing in nbformat.reads(unsafe.notebook, as_version=4).cells[0].source


def test_without_the_missing_layers_grading_still_works(released: NotebookNode, handed_in: bytes) -> None:
    with Grader(LESSON, released, Layers(namespaces=False, seccomp=False), "unsafe") as grader:
        assert result(grader.grade("ada", handed_in), f"check-{NAME}").points == LESSON.points
        assert grader.zygote and not grader.zygote.has_forked_ahead  # an answer could reach one that waits
