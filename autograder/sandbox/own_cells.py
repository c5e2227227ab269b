"""Cells that an instructor has added, and cells that a person will grade: run in one namespace, as in a notebook.

What they show is what the student's own process says of itself: of lower assurance than the verdict of a check.
"""

from __future__ import annotations

import ast
import builtins
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from autograder.guard import captured_output, time_limit, unchanged_state
from autograder.messages import Tree, encode

MAX_TEXT = 20_000


@dataclass(frozen=True)
class OwnCell:
    """A code cell to run: an answer, or a cell of the instructor's."""

    grade_id: str
    source: str
    counts: bool  # is it shown with what it gives? An answer cell only gives the others their names


CELLS = b"CELLS"  # stands before such a request, so that others need not be decoded to be told from it


def cells_request(cells: Sequence[OwnCell], setup: str, seconds: float) -> bytes:
    """The message that asks the runner to run cells."""
    return CELLS + encode({"setup": setup, "seconds": seconds, "cells": [vars(cell) for cell in cells]})


def run_cells(asked: Tree) -> Iterator[bytes]:
    """Run cells one after the other, as a notebook does that goes on after an error.

    Yields:
        one ``cell`` message for each, with ``printed``, ``complained`` (on stderr), ``result`` (its text) and
        ``error``, and one ``end`` message.
    """
    namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
    replies: list[Tree] = []
    stopped = False
    with unchanged_state(), time_limit(asked["seconds"]):
        try:
            exec(compile(asked["setup"], "<set-up cell>", "exec"), namespace)
            for index, cell in enumerate(asked["cells"]):
                replies.append({"what": "cell", "index": index} | _ran(cell, namespace))
        except KeyboardInterrupt:
            stopped = True
    for reply in replies:
        yield encode(reply)
    yield encode({"what": "end", "stopped": stopped})


def _ran(cell: Tree, namespace: dict[str, Any]) -> Tree:
    said: dict[str, Tree] = {"result": None, "error": None}
    with captured_output(MAX_TEXT) as output:
        try:
            value = _executed(cell["source"], f"<cell {cell['grade_id']}>", namespace)
            said["result"] = None if value is None else repr(value)[:MAX_TEXT]
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: a cell must not end the others
            lines = traceback.format_exception(error)
            said["error"] = {"type": type(error).__name__, "message": str(error)[:MAX_TEXT],
                             "lines": "".join(lines)[-MAX_TEXT:]}  # fmt: skip
    return said | {"printed": output.text}


def _executed(source: str, name: str, namespace: dict[str, Any]) -> Any:
    """Run a cell; the value of its last line if that is an expression without a semicolon."""
    body = ast.parse(source, name).body
    last = body[-1] if body and not source.rstrip().endswith(";") else None
    if not isinstance(last, ast.Expr):
        exec(compile(ast.Module(body, []), name, "exec"), namespace)
        return None
    exec(compile(ast.Module(body[:-1], []), name, "exec"), namespace)
    return eval(compile(ast.Expression(last.value), name, "eval"), namespace)
