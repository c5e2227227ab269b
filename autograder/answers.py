"""Find a student's answer: the last executed cell of the notebook that binds the name."""

from __future__ import annotations

import ast
import os
import re
import symtable
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
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


@dataclass(frozen=True)
class Executed:
    """A cell that was run, or that would be: its number, its source, the names it binds (None: not plain Python)."""

    count: int
    source: str
    names: frozenset[str] | None


def executed(count: int, source: str) -> Executed:
    """One cell of a history, for `answer_among`."""
    return Executed(count, source, _names(source))


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
    history = [executed(count, source) for count, source in enumerate(shell.history_manager.input_hist_raw)]
    return answer_among(name, history, lambda cell: _is_answer_cell(name, cell), shell.transform_cell)


def answer_among(
    name: str, history: Sequence[Executed], is_answer_cell: Callable[[Executed], bool], plain: Callable[[str], str]
) -> Answer:
    """The answer among the cells that were run before the check.

    Args:
        name: the exercise.
        history: the cells, in the order in which they were run.
        is_answer_cell: is a cell that binds the name the one that counts?
        plain: a cell's source without magics, as IPython would run it.

    Raises:
        AnswerError: no cell binds the name, it has magics or cannot be parsed, or it is not the answer cell.
    """
    from autograder.sentences import not_run

    bound: set[str] = set()
    found: Executed | None = None
    for cell in reversed(history):
        if cell.names is None:
            if not found and _mentions(name, cell.source):
                raise AnswerError(_unreadable(name, cell.source, plain))
        elif name in cell.names and not found:
            found = cell
        else:
            bound |= cell.names
    if not found:
        raise AnswerError(not_run(name))
    if not is_answer_cell(found):
        raise AnswerError(
            f"`{name}` was last bound in another cell (In [{found.count}]). Only the answer cell counts: "
            "put your code there, run it, and check again."
        )
    return Answer(found.source, frozenset(bound))


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


@lru_cache(maxsize=100)  # most cells of a submission are those of the lesson
def _names(source: str) -> frozenset[str] | None:
    """The names that a cell binds at its top level, or None if it is not plain Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes: whoever runs the cell gets to see them
            symbols = symtable.symtable(source, "cell", "exec").get_symbols()
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # the last two: nested too deep to parse
        return None
    return frozenset(
        symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
    )


def _mentions(name: str, source: str) -> bool:
    # Blanks in front, but no line ends: over many empty lines those would cost their square.
    start = r"^[^\S\n]*"
    return bool(re.search(rf"{start}((async\s+)?def|class)\s+{name}\b|{start}{name}\s*=", source, re.MULTILINE))


def _unreadable(name: str, source: str, transform: Callable[[str], str]) -> str:
    plain = transform(source)
    if _names(plain) is not None and plain.strip() != source.strip():
        return (
            f"The cell that defines `{name}` has a magic or a shell command (`%` or `!`): "
            "take it out, then check again."
        )
    try:
        ast.parse(source)
    except SyntaxError as error:
        message = str(error.msg)[:200]
        return f"The last cell with `{name}` is not Python yet, so it was not run: line {error.lineno}, {message}."
    except (ValueError, MemoryError, RecursionError):
        pass
    return f"The last cell with `{name}` cannot be read as Python."


def _is_answer_cell(name: str, cell: Executed) -> bool:
    """Is it the cell that will be graded? Where nothing tells, yes."""
    if cell_id := _cell_ids.get(cell.count):
        return cell_id == answer_cell_id(name)
    if not os.environ.get("NBGRADER_EXECUTION"):
        return True
    sources = [each["source"] for path in Path.cwd().glob("*.ipynb") for each in _answer_cells(path, name)]
    return not sources or cell.source.strip() in (text.strip() for text in sources)


def _answer_cells(path: Path, name: str) -> list[Any]:
    import nbformat

    try:
        cells = nbformat.read(path, as_version=4).cells
    except Exception:  # whatever lies beside the notebook is none of ours
        return []
    return [cell for cell in cells if cell.metadata.get("nbgrader", {}).get("grade_id") == name]
