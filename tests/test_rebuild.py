"""A submission, whatever it is, rebuilt on the released notebook."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager
from nbgrader.preprocessors import DeduplicateIds

from autograder import answers
from autograder.grading import handed_cells, plain_source
from autograder.grading.handed_cells import structure
from autograder.grading.rebuild import Rebuilt, rebuild
from crosstalk.course import course
from crosstalk.places import course_folder

pytestmark = pytest.mark.filterwarnings(  # of what is handed in here on purpose
    "ignore::nbformat.warnings.DuplicateCellId", "ignore::nbformat.warnings.MissingIDFieldWarning"
)

LESSON = course().lesson("01-attention")
RELEASED = nbformat.read(course_folder() / "lessons" / LESSON.notebook, as_version=4)
NAMES = [entry.name for entry in LESSON.exercises]
SOFTMAX = "def softmax(scores, dim=-1):\n    return scores.softmax(dim)"


def handed_in() -> Any:
    """The lesson as plain JSON, with an answer to softmax."""
    plain = json.loads(nbformat.writes(RELEASED, version=4))
    cell_of(plain, "softmax")["source"] = SOFTMAX
    return plain


def cell_of(plain: Any, grade_id: str) -> Any:
    return next(cell for cell in plain["cells"] if cell["metadata"].get("nbgrader", {}).get("grade_id") == grade_id)


def code(source: Any, **metadata: Any) -> dict:
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [], "execution_count": None}


def rebuilt(plain: Any) -> Rebuilt:
    content = plain if isinstance(plain, bytes) else json.dumps(plain).encode()
    return checked(rebuild(RELEASED, content, LESSON))


def checked(result: Rebuilt) -> Rebuilt:
    """What holds of every submission."""
    nbformat.validate(result.notebook)
    nbformat.writes(result.notebook, version=4).encode()
    assert sorted([*result.answers, *result.problems]) == sorted(NAMES)
    assert result.elsewhere.keys() == result.answers.keys()
    grade_ids = list(filter(None, map(grade_id_of, result.notebook.cells)))
    assert grade_ids == list(filter(None, map(grade_id_of, RELEASED.cells)))
    for grade_id in grade_ids:
        mine, theirs = cell_of(RELEASED, grade_id), cell_of(result.notebook, grade_id)
        assert theirs.metadata == mine.metadata
        if grade_id not in NAMES:
            assert theirs.source == mine.source
    assert len({cell.id for cell in result.notebook.cells}) == len(result.notebook.cells)
    assert not any(cell.get("outputs") for cell in result.notebook.cells)
    for reason in result.reasons:
        assert reason.kind and reason.sentence[0].isupper() and reason.sentence.endswith(".")
        assert len(reason.sentence) < 600 and reason.sentence.isprintable()
    return result


def grade_id_of(cell: Any) -> str:
    return cell["metadata"].get("nbgrader", {}).get("grade_id", "")


def kinds(result: Rebuilt) -> list[str]:
    return [reason.kind for reason in result.reasons]


# What is right.


def test_an_honest_notebook() -> None:
    result = rebuilt(handed_in())
    assert result.answers["softmax"] == SOFTMAX
    assert {"math", "torch", "functional"} & result.elsewhere["softmax"]
    assert not result.problems and not result.reasons and not result.own_cells
    assert len(result.notebook.cells) == len(RELEASED.cells)


def test_as_it_was_released() -> None:
    result = rebuilt(nbformat.writes(RELEASED, version=4).encode())
    assert result.notebook == RELEASED and sorted(result.answers) == sorted(NAMES)


def test_the_released_notebook_stays_as_it_is() -> None:
    before = copy.deepcopy(RELEASED)
    result = rebuilt(handed_in())
    for cell in result.notebook.cells:
        cell.metadata["changed"] = True
        cell.source = "changed"
    assert before == RELEASED


def test_a_source_as_a_list_of_lines() -> None:
    plain = handed_in()
    cell_of(plain, "softmax")["source"] = SOFTMAX.splitlines(keepends=True)
    assert rebuilt(plain).answers["softmax"] == SOFTMAX


def test_byte_order_mark_and_nan() -> None:
    plain = handed_in()
    plain["cells"][1]["outputs"] = [{"output_type": "display_data", "metadata": {}, "data": {"x": float("nan")}}]
    result = rebuilt(b"\xef\xbb\xbf" + json.dumps(plain).encode())
    assert result.answers["softmax"] == SOFTMAX and not result.reasons


def test_a_huge_number_costs_nothing() -> None:
    text = json.dumps(handed_in()).replace('"nbformat_minor": 5', '"nbformat_minor": ' + "9" * 100_000)
    result = rebuilt(text.encode())
    assert result.answers["softmax"] == SOFTMAX and not result.reasons


def test_format_3_as_nbgrader_takes_it() -> None:
    cells = [cell | {"input": cell["source"]} for cell in handed_in()["cells"]]
    for cell in cells:
        if cell["cell_type"] == "code":
            del cell["source"]
    result = rebuilt({"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": cells}]})
    assert result.answers["softmax"] == SOFTMAX and not result.reasons


def test_scratch_cells_are_kept_where_they_stood_and_not_run() -> None:
    plain = handed_in()
    at = plain["cells"].index(cell_of(plain, "softmax"))
    output = {"output_type": "display_data", "metadata": {}, "data": {"text/html": "<script>alert(1)</script>"}}
    plain["cells"].insert(at, code("helper = 1", tags=["mine"]) | {"outputs": [output]})
    plain["cells"].insert(0, {"cell_type": "markdown", "metadata": {}, "source": "My notes"})
    plain["cells"].append({"cell_type": "raw", "metadata": {"format": "text/html"}, "source": "<script>\n</script>"})
    result = rebuilt(plain)
    cells = result.notebook.cells
    assert cells[0].source == "My notes" and cells[-1].source == "    <script>\n    </script>"
    assert cells[-1].cell_type == "markdown"
    kept = next(cell for cell in cells if cell.source == "helper = 1")
    assert kept.metadata == {"crosstalk": "added by the student; not run"}
    assert grade_id_of(cells[cells.index(kept) + 1]) == "softmax"
    assert "helper" in result.elsewhere["softmax"] and not result.reasons


def test_edits_of_text_are_not_taken_but_of_code_to_play_with() -> None:
    plain = handed_in()
    played = plain["cells"][3]
    assert played["cell_type"] == "code" and "nbgrader" not in played["metadata"]
    plain["cells"][0]["source"], played["source"] = "# Edited", "print(1)"
    result = rebuilt(plain)
    assert result.notebook.cells[0].source == RELEASED.cells[0].source
    assert result.notebook.cells[3].source == "print(1)"
    assert result.notebook.cells[3].metadata["crosstalk"] == "edited by the student; not run"
    assert len(result.notebook.cells) == len(RELEASED.cells)


def test_deleted_text_comes_back() -> None:
    plain = handed_in()
    plain["cells"] = [cell for cell in plain["cells"] if "nbgrader" in cell["metadata"]]
    assert [cell.source for cell in rebuilt(plain).notebook.cells if cell.cell_type == "markdown"] == [
        cell.source for cell in RELEASED.cells if cell.cell_type == "markdown"
    ]


# Bad files: nothing can be taken from them.


def deep(levels: int) -> bytes:
    return b'{"nbformat": 4, "cells": ' + b"[" * levels + b"]" * levels + b"}"


WHOLE = json.dumps(handed_in()).encode()
BAD_FILES = {
    "empty": (b" \n", "empty file"),
    "text": (b"print('hello')", "not JSON"),
    "picture": (b"\x89PNG\r\n\x1a\n\xff\xfe", "not UTF-8"),
    "UTF-16": (WHOLE.decode().encode("utf-16"), "not UTF-8"),
    "truncated": (WHOLE[: len(WHOLE) // 2], "truncated"),
    "truncated in a string": (WHOLE[: WHOLE.index(b"Attention")], "truncated"),
    "200 MB": (b'{"nbformat": 4, "cells": []}' + b" " * 200_000_000, "too large"),
    "nested 10,000 deep": (deep(10_000), "nested too deep"),
    "objects 10,000 deep": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested too deep"),
    "five million deep, and never closed": (b"[" * 5_000_000, "nested too deep"),
    "a bomb of empty lists": (b"[" + b"[]," * 3_000_000 + b"[]]", "too many values"),
    "a list": (b"[]", "wrong schema"),
    "a number": (b"1", "wrong schema"),
    "null": (b"null", "wrong schema"),
    "no version": (b'{"cells": []}', "wrong version"),
    "version 5": (b'{"nbformat": 5, "cells": []}', "wrong version"),
    "version 2": (b'{"nbformat": 2, "worksheets": []}', "wrong version"),
    "version true": (b'{"nbformat": true, "cells": []}', "wrong version"),
    "a huge version": (b'{"nbformat": ' + b"4" * 10_000 + b"}", "wrong version"),
    "no cells": (b'{"nbformat": 4}', "wrong schema"),
    "cells as an object": (b'{"nbformat": 4, "cells": {}}', "wrong schema"),
    "100,000 cells": (b'{"nbformat": 4, "cells": [' + b"{}," * 100_000 + b"{}]}", "too many cells"),
    "20 cells of 150,000 characters": (
        json.dumps({"nbformat": 4, "cells": [code("#" * 150_000)] * 20}).encode(), "too much code"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "kind"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file(content: bytes, kind: str) -> None:
    result = rebuilt(content)
    assert kinds(result) == [kind]
    assert result.problems == dict.fromkeys(NAMES, result.reasons[0].sentence)
    assert "missing" in cell_of(result.notebook, "softmax").source


def test_the_deepest_that_is_read() -> None:
    assert kinds(rebuilt(deep(handed_cells.MAX_DEPTH - 1))) != ["nested too deep"]
    assert kinds(rebuilt(deep(handed_cells.MAX_DEPTH))) == ["nested too deep"]


def test_depth_counts_no_brackets_in_strings() -> None:
    assert structure(json.dumps(["[[[[", '"[{', "\\", '\\"[[', {"]]": "\\\\"}]).encode()) == (2, 8)


@given(st.recursive(st.text(alphabet='[]{}"\\a'), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_depth_is_that_of_the_parsed(tree: Any) -> None:
    def depth(node: Any) -> int:
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    assert structure(json.dumps(tree).encode())[0] == depth(tree)


# Bad cells: they cost themselves.


def replaced(key: str, value: Any) -> Callable[[Any], None]:
    def change(plain: Any) -> None:
        cell_of(plain, "split_heads")[key] = value

    return change


def appended(*cells: Any) -> Callable[[Any], None]:
    return lambda plain: plain["cells"].extend(cells)


def kernel(plain: Any) -> None:
    plain["metadata"] = {"kernelspec": {"name": "ir", "language": "R"}, "language_info": {"name": "R"}}


BAD_CELLS: dict[str, tuple[Callable[[Any], None], str]] = {
    "a source that is a number": (replaced("source", 3), "odd cell"),
    "a source of numbers": (replaced("source", ["def split_heads", 3]), "odd cell"),
    "no source": (replaced("source", None), "odd cell"),
    "metadata as a list": (replaced("metadata", []), "odd cell"),
    "marks as a list": (replaced("metadata", {"nbgrader": ["grade_id"]}), "odd cell"),
    "a number for a cell": (appended(3, None, [], "x"), "odd cell"),
    "a type there is not": (appended(code("1") | {"cell_type": "script"}), "odd cell"),
    "a type that is a list": (appended(code("1") | {"cell_type": []}), "odd cell"),
    "a cell too long": (appended(code("#" * 300_000)), "cell too long"),
    "half a character": (appended(code("'\ud800'")), "unreadable characters"),
    "metadata as a number": (lambda plain: plain.update(metadata=3), "odd metadata"),
    "another language": (kernel, "wrong kernel"),
    "a foreign cell": (appended(code("1", nbgrader={"grade_id": "bonus", "grade": True, "points": 9})), "foreign cell"),
    "a foreign cell without a name": (appended(code("1", nbgrader={"grade": True, "points": 9})), "foreign cell"),
    "a copy of a cell": (lambda plain: plain["cells"].append(cell_of(plain, "softmax")), "duplicate cell"),
    "more points": (lambda plain: cell_of(plain, "check-softmax")["metadata"]["nbgrader"].update(points=99),
                    "changed metadata"),
    "a check unlocked": (lambda plain: cell_of(plain, "check-softmax")["metadata"]["nbgrader"].update(locked=False),
                         "changed metadata"),
    "a check rewritten": (lambda plain: cell_of(plain, "check-softmax").update(source="99"), "changed cell"),
    "the set-up rewritten": (lambda plain: cell_of(plain, "set-up").update(source="import os"), "changed cell"),
    "an answer cell taken away": (lambda plain: plain["cells"].remove(cell_of(plain, "split_heads")), "missing cell"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "kind"), BAD_CELLS.values(), ids=BAD_CELLS)
def test_a_bad_cell_costs_itself(change: Callable[[Any], None], kind: str) -> None:
    plain = handed_in()
    change(plain)
    result = rebuilt(plain)
    assert kind in kinds(result)
    assert result.answers["softmax"] == SOFTMAX


def test_missing_checks_do_not_matter() -> None:
    plain = handed_in()
    plain["cells"] = [cell_of(plain, name) for name in NAMES]
    result = rebuilt(plain)
    assert result.answers["softmax"] == SOFTMAX and not result.problems and not result.reasons


def test_an_answer_in_a_cell_too_long() -> None:
    plain = handed_in()
    cell_of(plain, "softmax")["source"] = SOFTMAX + "#" * 200_000
    assert rebuilt(plain).problems["softmax"].startswith("The cell with `softmax` has more than 200,000 characters")
    cell_of(plain, "softmax")["cell_type"] = "raw"
    assert rebuilt(plain).problems["softmax"].startswith("The cell with `softmax` has more than 200,000 characters")


def test_an_answer_cell_turned_to_text_is_code_again() -> None:
    plain = handed_in()
    cell_of(plain, "softmax")["cell_type"] = "markdown"
    result = rebuilt(plain)
    assert result.answers["softmax"] == SOFTMAX
    assert cell_of(result.notebook, "softmax").cell_type == "code"


def test_pictures_are_taken_and_nothing_else() -> None:
    plain = handed_in()
    attachments = {"a.png": {"image/png": "aGVsbG8=", "text/html": "<script>"}, "b.svg": {"image/svg+xml": "<svg>"},
                   "c.png": {"image/png": '"><script>'}, "d.png": 3}  # fmt: skip
    plain["cells"].append({"cell_type": "markdown", "metadata": {}, "source": "x", "attachments": attachments})
    assert rebuilt(plain).notebook.cells[-1].attachments == {"a.png": {"image/png": "aGVsbG8="}}


# Which cell is the answer: as check() finds it under plain nbgrader.


def move(plain: Any, grade_id: str, to: int) -> None:
    cell = cell_of(plain, grade_id)
    plain["cells"].remove(cell)
    plain["cells"].insert(to, cell)


def put(plain: Any, source: str, before: str) -> None:
    plain["cells"].insert(plain["cells"].index(cell_of(plain, before)), code(source))


def copied(plain: Any, grade_id: str, source: str | None = None) -> None:
    cell = copy.deepcopy(cell_of(plain, grade_id))
    plain["cells"].append(cell if source is None else cell | {"source": source})


OTHER = SOFTMAX.replace("scores.softmax(dim)", "scores.exp() / scores.exp().sum(dim, True)")
SAME: dict[str, Callable[[Any], Any]] = {
    "answered": lambda plain: None,
    "with a blank line at the end": lambda plain: cell_of(plain, "softmax").update(source=SOFTMAX + "\n\n"),
    "emptied": lambda plain: cell_of(plain, "softmax").update(source=" "),
    "renamed": lambda plain: cell_of(plain, "softmax").update(source="def my_softmax(): pass"),
    "not Python": lambda plain: cell_of(plain, "softmax").update(source="def softmax(\n    return 1"),
    "a magic": lambda plain: cell_of(plain, "softmax").update(source="%%time\n" + SOFTMAX),
    "a shell command": lambda plain: cell_of(plain, "softmax").update(source="!ls\n" + SOFTMAX),
    "nested too deep": lambda plain: cell_of(plain, "softmax").update(source="softmax = " + "-" * 50_000 + "1"),
    "imported in another cell": lambda plain: put(plain, "from torch import softmax", "check-softmax"),
    "written in another cell": lambda plain: put(plain, OTHER, "check-softmax"),
    "the same in another cell": lambda plain: put(plain, SOFTMAX, "check-softmax"),
    "broken in another cell": lambda plain: put(plain, "def softmax(\n", "check-softmax"),
    "written in a cell before": lambda plain: put(plain, OTHER, "softmax"),
    "written after the check": lambda plain: plain["cells"].append(code(OTHER)),
    "the answer below its check": lambda plain: move(plain, "softmax", len(plain["cells"]) - 1),
    "the check on top": lambda plain: move(plain, "check-softmax", 0),
    "a copy of the answer at the end": lambda plain: copied(plain, "softmax"),
    "another copy of the answer at the end": lambda plain: copied(plain, "softmax", OTHER),
    "a copy of both at the end": lambda plain: (copied(plain, "softmax", OTHER), copied(plain, "check-softmax")),
    "a copy of the check on its own": lambda plain: copied(plain, "check-softmax", "softmax = print"),
    "gone": lambda plain: plain["cells"].remove(cell_of(plain, "softmax")),
    "gone, written in another cell": lambda plain: (
        put(plain, OTHER, "softmax"), plain["cells"].remove(cell_of(plain, "softmax"))),
    "without its metadata": lambda plain: cell_of(plain, "softmax").update(metadata={}),
    "the set-up binds it": lambda plain: cell_of(plain, "set-up").update(source="softmax = 1"),
    "marked as text": lambda plain: cell_of(plain, "softmax").update(cell_type="markdown"),
    "upside down": lambda plain: plain["cells"].reverse(),
}  # fmt: skip


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_as_plain_nbgrader_decides(
    change: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = handed_in()
    change(plain)
    result = rebuilt(plain)
    for name in NAMES:
        wanted = by_nbgrader(plain, name, monkeypatch, tmp_path)
        got = result.problems.get(name) or answers.Answer(result.answers[name], result.elsewhere[name])
        assert got == wanted


EXTRA = st.sampled_from([SOFTMAX, OTHER, "import math as softmax", "def softmax(", "%time softmax", "split_heads = 1",
                         "def merge_heads(states):\n    pass", "print(1)", ""])  # fmt: skip


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_as_plain_nbgrader_decides_in_any_order(
    data: st.DataObject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = handed_in()
    marked = [cell for cell in plain["cells"] if "nbgrader" in cell["metadata"]]
    marked = data.draw(st.lists(st.sampled_from(marked), max_size=14))
    extra = [code(source) for source in data.draw(st.lists(EXTRA, max_size=4))]
    plain["cells"] = data.draw(st.permutations(copy.deepcopy(marked + extra)))
    for cell in plain["cells"]:
        if data.draw(st.integers(0, 5)) == 0:
            cell["source"] = data.draw(EXTRA)
    result = rebuilt(plain)
    for name in NAMES:
        if any(grade_id_of(cell) == f"check-{name}" for cell in plain["cells"]):
            got = result.problems.get(name) or answers.Answer(result.answers[name], result.elsewhere[name])
            assert got == by_nbgrader(plain, name, monkeypatch, tmp_path)


def by_nbgrader(plain: Any, name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> answers.Answer | str:
    """What find_answer says when the check is run, on the notebook as nbgrader cleans it first."""
    notebook = nbformat.reads(json.dumps(plain), as_version=4)
    notebook, _ = DeduplicateIds().preprocess(notebook, {})
    released = {grade_id_of(cell): cell for cell in RELEASED.cells if grade_id_of(cell)}
    history = [""]
    check_seen = False
    for cell in notebook.cells:
        if mine := released.get(grade_id_of(cell)):
            cell.cell_type = mine.cell_type
            if not mine.metadata.nbgrader.solution:
                cell.source = mine.source
        check_seen = check_seen or grade_id_of(cell) == f"check-{name}"
        if cell.cell_type == "code" and cell.source.strip() and not check_seen:
            history.append(cell.source.rstrip("\n"))
    (folder / "attention.ipynb").write_text(json.dumps(notebook))
    shell = SimpleNamespace(
        history_manager=SimpleNamespace(input_hist_raw=history), transform_cell=TransformerManager().transform_cell
    )
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("NBGRADER_EXECUTION", "1")
        patch.setattr(answers, "_shell", lambda: shell)
        patch.setattr(answers, "_cell_ids", {})
        try:
            return answers.find_answer(name)
        except answers.AnswerError as error:
            return str(error)


# An instructor's own cells.


def test_an_instructors_own_cells() -> None:
    def mark(grade_id: str, **flags: Any) -> dict:
        plain = {"grade": False, "solution": False, "locked": False, "task": False, "schema_version": 3}
        return {"nbgrader": plain | flags | {"grade_id": grade_id}}

    released = copy.deepcopy(RELEASED)
    own = [
        code("# write here", **mark("essay-code", grade=True, solution=True, points=3)),
        code("assert essay == 1", **mark("assert-essay", grade=True, locked=True, points=2)),
        {"cell_type": "markdown", "source": "Why?", "metadata": mark("why", grade=True, solution=True, points=4)},
        {"cell_type": "markdown", "source": "Draw.", "metadata": mark("draw", task=True, locked=True, points=1)},
    ]
    released.cells.extend(nbformat.from_dict(cell) for cell in own)
    plain = json.loads(json.dumps(released))
    cell_of(plain, "essay-code")["source"] = "essay = 1"
    cell_of(plain, "assert-essay")["source"] = "pass"
    result = rebuild(released, json.dumps(plain).encode(), LESSON)
    nbformat.validate(result.notebook)
    assert [(cell.grade_id, cell.source, cell.runs, cell.points, cell.untouched) for cell in result.own_cells] == [
        ("essay-code", "essay = 1", True, 3, False),
        ("assert-essay", "assert essay == 1", True, 2, False),
        ("why", "Why?", False, 4, True),
        ("draw", "Draw.", False, 1, False),
    ]
    assert [result.notebook.cells[cell.index].source for cell in result.own_cells] == [
        cell.source for cell in result.own_cells
    ]
    assert kinds(result) == ["changed cell"]


def test_a_model_answer_in_the_released_notebook_is_not_shown() -> None:
    released = copy.deepcopy(RELEASED)
    cell_of(released, "softmax").source = "def softmax(): secret"
    for content in (b"", json.dumps({"nbformat": 4, "cells": []}).encode()):
        assert "def softmax(): secret" not in nbformat.writes(rebuild(released, content, LESSON).notebook, version=4)


# Whatever it is, nothing is raised.

QUIET = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([SOFTMAX, ""])
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["cells", "nbformat", "cell_type", "source", "metadata", "nbgrader", "grade_id", "id", "x"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@QUIET
@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    assert rebuilt(content).reasons


@QUIET
@given(TREES, TREES)
def test_any_json(tree: Any, cell: Any) -> None:
    assert rebuilt(tree).problems
    rebuilt({"nbformat": 4, "cells": [cell, tree], "metadata": tree})


@QUIET
@given(st.data())
def test_any_change_of_a_real_notebook(data: st.DataObject) -> None:
    plain = handed_in()
    for _ in range(data.draw(st.integers(1, 4))):
        where: Any = plain
        while True:
            keys = list(where) if isinstance(where, dict) else list(range(len(where)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if not isinstance(where[key], dict | list) or data.draw(st.integers(0, 4)) == 0:
                where[key] = data.draw(TREES)
                break
            where = where[key]
    rebuilt(plain)


@QUIET
@given(st.integers(0, len(WHOLE)), st.binary(max_size=8), st.integers(0, 8))
def test_any_bytes_in_a_real_notebook(at: int, put: bytes, cut: int) -> None:
    rebuilt(WHOLE[:at] + put + WHOLE[at + cut :])


@QUIET
@given(st.permutations(range(len(RELEASED.cells))), st.sets(st.integers(0, len(RELEASED.cells) - 1)))
def test_any_order_and_any_cells_left(order: list[int], kept: set[int]) -> None:
    plain = handed_in()
    plain["cells"] = [plain["cells"][index] for index in order if index in kept]
    assert len(rebuilt(plain).notebook.cells) == len(RELEASED.cells)


@pytest.mark.parametrize("line", ["!ls\n", "%time\n", "x?\n", "a = !ls\n", "\\\n", "(\n", "'''\n", ">>> x\n", "\n"])
def test_magics_without_end_take_little_work(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = 0
    real = TransformerManager.do_one_token_transform

    def counted(manager: TransformerManager, lines: list[str]) -> Any:
        nonlocal passes
        passes += 1
        return real(manager, lines)

    monkeypatch.setattr(TransformerManager, "do_one_token_transform", counted)
    many = line * (plain_source.MAX_LENGTH // len(line))
    assert plain_source.without_magics(many + 2 * line) == many + 2 * line and not passes
    plain_source.without_magics(many)
    assert 0 < passes <= plain_source.MAX_PASSES


def test_a_cell_of_empty_lines_takes_little_work() -> None:
    plain = handed_in()
    cell_of(plain, "softmax")["source"] = "(" + "\n" * 199_000
    assert "not defined yet" in rebuilt(plain).problems["softmax"]
