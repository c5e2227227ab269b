"""Find a student's answer: the last executed cell of the notebook that binds the name."""

from __future__ import annotations

import ast
import os
import re
import symtable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_cell_ids: dict[int, str] = {}  # execution count → the notebook's id of the cell, as far as the front end tells


class AnswerError(ValueError):
    """There is no answer that can be judged; the message is the sentence for the student."""


@dataclass(frozen=True)
class Answer:
    """The source of the answer cell, and the names that other cells bind."""

    source: str
    elsewhere: frozenset[str]


def answer_cell_id(name: str) -> str:
    """The id that the build gives an exercise's answer cell."""
    return f"answer-{name}"


def watch_cells() -> None:
    """Note the id of every cell that is run from now on (JupyterLab and Notebook tell it)."""
    shell = _shell()
    if shell and not getattr(shell, "_crosstalk_watches", False):
        shell._crosstalk_watches = True
        _cell_ids.clear()
        shell.events.register("pre_run_cell", lambda info: _note(shell, info))


def find_answer(name: str) -> Answer:
    """The answer to an exercise, from the running notebook.

    Raises:
        AnswerError: no cell binds the name, it has magics or cannot be parsed, or it is not the answer cell.
    """
    shell = _shell()
    if shell is None:
        raise AnswerError("check() looks for your answer in the notebook it is called from: run it in the lesson.")
    from autograder.sentences import not_run

    history = list(enumerate(shell.history_manager.input_hist_raw))
    bound: set[str] = set()
    found: tuple[int, str] | None = None
    for count, source in reversed(history):
        names = _names(source)
        if names is None:
            if not found and _mentions(name, source):
                raise AnswerError(_unreadable(name, source, shell))
        elif name in names and not found:
            found = count, source
        else:
            bound |= names
    if not found:
        raise AnswerError(not_run(name))
    count, source = found
    if not _is_answer_cell(name, count, source):
        raise AnswerError(
            f"`{name}` was last bound in another cell (In [{count}]). Only the answer cell counts: "
            "put your code there, run it, and check again."
        )
    return Answer(source, frozenset(bound))


def _shell() -> Any:
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()


def _note(shell: Any, info: Any) -> None:
    cell_id = getattr(info, "cell_id", None)
    if cell_id and info.store_history:
        # Where this cell will stand in the history; execution_count is raised before or after, by version.
        _cell_ids[len(shell.history_manager.input_hist_raw)] = cell_id


def _names(source: str) -> set[str] | None:
    """The names that a cell binds at its top level, or None if it is not plain Python."""
    try:
        return {symbol.get_name() for symbol in symtable.symtable(source, "cell", "exec").get_symbols()
                if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()}  # fmt: skip
    except (SyntaxError, ValueError):
        return None


def _mentions(name: str, source: str) -> bool:
    return bool(re.search(rf"^\s*((async\s+)?def|class)\s+{name}\b|^\s*{name}\s*=", source, re.MULTILINE))


def _unreadable(name: str, source: str, shell: Any) -> str:
    plain = shell.transform_cell(source)
    if _names(plain) is not None and plain.strip() != source.strip():
        return (
            f"The cell that defines `{name}` has a magic or a shell command (`%` or `!`): "
            "take it out, then check again."
        )
    try:
        ast.parse(source)
    except SyntaxError as error:
        return f"The last cell with `{name}` is not Python yet, so it was not run: line {error.lineno}, {error.msg}."
    return f"The last cell with `{name}` cannot be read as Python."


def _is_answer_cell(name: str, count: int, source: str) -> bool:
    """Is it the cell that will be graded? Where nothing tells, yes."""
    if cell_id := _cell_ids.get(count):
        return cell_id == answer_cell_id(name)
    if not os.environ.get("NBGRADER_EXECUTION"):
        return True
    sources = [cell["source"] for path in Path.cwd().glob("*.ipynb") for cell in _answer_cells(path, name)]
    return not sources or source.strip() in (text.strip() for text in sources)


def _answer_cells(path: Path, name: str) -> list[Any]:
    import nbformat

    try:
        cells = nbformat.read(path, as_version=4).cells
    except Exception:  # whatever lies beside the notebook is none of ours
        return []
    return [cell for cell in cells if cell.metadata.get("nbgrader", {}).get("grade_id") == name]
