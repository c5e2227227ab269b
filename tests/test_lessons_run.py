"""Every lesson, run whole in a real kernel: the solved one earns all points, the released one only waits.

One run of a solved lesson serves as test, as validation in nbgrader's sense and as timing (printed with -s).
"""

from __future__ import annotations

import ast
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbgrader.utils import determine_grade

from autograder.build.release import solved_notebook
from autograder.build.run import compare_all
from crosstalk.course import Lesson, course
from crosstalk.places import course_folder

READY = course().ready
IN_LESSONS = {"check", "hint", "trace", "case"}  # of autograder; of crosstalk all but the CLI's parts

pytestmark = pytest.mark.slow


def executed(notebook: NotebookNode, work: Path) -> tuple[NotebookNode, float]:
    """The notebook after a run in a kernel of its own, with a new student's empty work/; and the seconds."""
    notebook = nbformat.from_dict(notebook)
    environment = os.environ | {
        "CROSSTALK_WORK": str(work),
        "CROSSTALK_COURSE": str(course_folder()),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    environment.pop("NBGRADER_EXECUTION", None)
    client = NotebookClient(notebook, allow_errors=True, timeout=300, resources={"metadata": {"path": str(work)}})
    started = time.perf_counter()
    client.execute(env=environment)
    return notebook, time.perf_counter() - started


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], tuple[Future, Path]]]:
    """Every lesson, solved and released, being run two at a time: each takes one core."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        begun = {}
        for lesson in READY:
            released = nbformat.read(course_folder() / "lessons" / lesson.notebook, as_version=4)
            for kind, notebook in (("solved", solved_notebook(lesson)), ("released", released)):
                work = tmp_path_factory.mktemp(kind)
                begun[kind, lesson.id] = pool.submit(executed, notebook, work), work
        yield begun
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module", params=READY, ids=lambda lesson: lesson.id)
def solved(request: pytest.FixtureRequest, runs: dict) -> tuple[Lesson, NotebookNode, float, Path]:
    run, work = runs["solved", request.param.id]
    return request.param, *run.result(), work


@pytest.fixture(scope="module", params=READY, ids=lambda lesson: lesson.id)
def released(request: pytest.FixtureRequest, runs: dict) -> tuple[Lesson, NotebookNode]:
    run, _ = runs["released", request.param.id]
    return request.param, run.result()[0]


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def errors(notebook: NotebookNode) -> list[tuple[str, str, str]]:
    """The cells that raised: their text, the error's name and what it says."""
    return [(cell.source, output.ename, output.evalue) for cell in code_cells(notebook)
            for output in cell.outputs if output.output_type == "error"]  # fmt: skip


def grades(notebook: NotebookNode) -> dict[str, tuple[float | None, float]]:
    """Points and possible points of each check cell, as nbgrader reads them."""
    return {cell.metadata.nbgrader.grade_id: determine_grade(cell) for cell in code_cells(notebook)
            if cell.metadata.get("nbgrader", {}).get("grade")}  # fmt: skip


def test_a_solved_lesson_raises_nothing(solved: tuple[Lesson, NotebookNode, float, Path]) -> None:
    _, notebook, _, _ = solved
    assert errors(notebook) == []


def test_a_solved_lesson_writes_nothing_to_stderr(solved: tuple[Lesson, NotebookNode, float, Path]) -> None:
    """nbgrader would take the points of a check cell that does; elsewhere it is red noise."""
    _, notebook, _, _ = solved
    said = [(cell.source, output.text) for cell in code_cells(notebook) for output in cell.outputs
            if output.output_type == "stream" and output.name == "stderr"]  # fmt: skip
    assert said == []


def test_a_solved_lesson_gets_all_points(
    solved: tuple[Lesson, NotebookNode, float, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    lesson, notebook, seconds, _ = solved
    assert grades(notebook) == {f"check-{entry.name}": (entry.points, entry.points) for entry in lesson.exercises}
    with capsys.disabled():
        print(f"\n{lesson.id}: {len(notebook.cells)} cells, solved and run in {seconds:.1f} s")


def test_a_solved_lesson_leaves_its_pieces(solved: tuple[Lesson, NotebookNode, float, Path]) -> None:
    lesson, _, _, work = solved
    kept = {path.stem for path in (work / "my_model").glob("*.py")}
    assert kept == {entry.name for entry in lesson.exercises}


def test_a_released_lesson_only_waits_for_answers(released: tuple[Lesson, NotebookNode]) -> None:
    _, notebook = released
    found = errors(notebook)
    assert [error for error in found if error[1] != "NotImplementedError"] == []


def test_a_released_lesson_gets_no_points(released: tuple[Lesson, NotebookNode]) -> None:
    """What `nbgrader validate --invert` asks for: no check succeeds before anything is written."""
    lesson, notebook = released
    assert grades(notebook) == {f"check-{entry.name}": (0, entry.points) for entry in lesson.exercises}


@pytest.mark.parametrize("lesson", READY, ids=lambda lesson: lesson.id)
def test_a_released_lesson_carries_nothing_but_its_text(lesson: Lesson) -> None:
    notebook = nbformat.read(course_folder() / "lessons" / lesson.notebook, as_version=4)
    nbformat.validate(notebook)
    assert [cell.source for cell in code_cells(notebook) if cell.outputs or cell.execution_count] == []
    assert sorted(notebook.metadata) == ["kernelspec", "language_info"]
    assert [cell.source for cell in notebook.cells if "SOLUTION" in cell.source] == []
    ids = [cell.id for cell in notebook.cells]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("lesson", READY, ids=lambda lesson: lesson.id)
def test_of_our_packages_lessons_import_only_what_is_theirs(lesson: Lesson) -> None:
    forbidden = []
    for cell in code_cells(solved_notebook(lesson)):
        for module, names in imports(ast.parse(cell.source)):
            package, _, rest = module.partition(".")
            if package == "autograder" and (rest or not set(names) <= IN_LESSONS):
                forbidden.append((module, names))
            if package in ("tests", "benchmarks", "solutions") or module.startswith("crosstalk.stand_ins"):
                forbidden.append((module, names))
    assert forbidden == []


@pytest.mark.parametrize(
    ("package", "never"),
    [("crosstalk", "autograder.exercises"), ("autograder", "crosstalk.widgets"), ("crosstalk", "autograder.build")],
)
def test_packages_import_nothing_they_must_not(package: str, never: str) -> None:
    found = []
    for path in sorted((course_folder() / package).rglob("*.py")):
        for module, names in imports(ast.parse(path.read_text(encoding="utf-8"))):
            whole = [module, *(f"{module}.{name}" for name in names)]
            if any(name == never or name.startswith(never + ".") for name in whole):
                found.append((path.name, module, names))
    assert found == []


def test_lessons_and_packs_are_what_a_build_gives() -> None:
    """`crosstalk build --check`."""
    assert compare_all(READY) == []


def imports(tree: ast.AST) -> list[tuple[str, list[str]]]:
    """All imports, wherever they stand: the module, and the names taken from it."""
    found: list[tuple[str, list[str]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", [alias.name for alias in node.names]))
    return found
