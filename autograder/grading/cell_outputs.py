"""What cells showed that ran in the sandbox, as outputs of a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbformat import NotebookNode
from nbformat.v4 import new_output

from autograder.messages import Tree
from autograder.sandbox.own_cells import MAX_TEXT, OwnCell


@dataclass(frozen=True)
class Shown:
    """What a cell showed, as a notebook keeps it."""

    grade_id: str
    outputs: list[NotebookNode]


def shown(cells: Sequence[OwnCell], messages: Sequence[Tree], why: str) -> list[Shown]:
    """What each cell that counts showed; one that was not reached shows an error that says ``why``."""
    said: dict[int, Tree] = {}
    for message in messages:
        match message:
            case {"what": "cell", "index": int(index), "printed": str(), "result": str() | None}:
                said.setdefault(index, message)
    why = why or "The cells before it did not come to an end in the time allowed."
    return [Shown(cell.grade_id, _outputs(said.get(index), why)) for index, cell in enumerate(cells) if cell.counts]


def _outputs(said: Tree, why: str) -> list[NotebookNode]:
    if said is None:
        return [_error("NotReached", why, why)]
    outputs = []
    if said["printed"]:
        outputs.append(new_output("stream", name="stdout", text=said["printed"][:MAX_TEXT]))
    match said.get("error"):
        case None:
            if said["result"] is not None:
                data = {"text/plain": said["result"][:MAX_TEXT]}
                outputs.append(new_output("execute_result", data=data, execution_count=1))
        case {"type": str(kind), "message": str(message), "lines": str(lines)}:
            outputs.append(_error(kind[:200], message[:MAX_TEXT], lines[:MAX_TEXT]))
        case _:
            outputs.append(_error("NotReached", why, why))
    return outputs


def _error(kind: str, message: str, lines: str) -> NotebookNode:
    return new_output("error", ename=kind, evalue=message, traceback=lines.splitlines())
