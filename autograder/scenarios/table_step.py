"""Hand a search the ``step`` of a tiny model whose probabilities stand in a table, and count what it asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from autograder.messages import Tree
from autograder.observe import described
from autograder.scenarios.call import accepts, changed, tensors_of


class TooManyCalls(RuntimeError):
    """The step was asked far more often than its sequences are long."""


def steps(
    rows: Mapping[tuple[int, ...], torch.Tensor], otherwise: torch.Tensor, patience: int = 100
) -> dict[str, Tree]:
    """A step as data, the ``step`` of a case.

    Args:
        rows: the log-probabilities (vocabulary,) of the next token by prefix, start token included.
        otherwise: (vocabulary,): those after all other prefixes.
        patience: how many calls are borne.
    """
    prefixes = [list(prefix) for prefix in rows]
    return {"prefixes": prefixes, "table": torch.stack([*rows.values(), otherwise]), "patience": patience}


def table_step(answer: Any, inputs: dict, earlier: Mapping[str, Any]) -> Tree:
    """Call ``answer(step, *rest)`` with a `TableStep`.

    ``inputs`` has ``step`` (see `steps`), ``args`` (its first is None: there the step comes) and ``kwargs``.

    Returns:
        ``result``, ``changed``, and ``asked_again``: how many calls were about prefixes of a length that had been
        asked for before.
    """
    args, kwargs = with_step(inputs, earlier)
    accepts(answer, "", args, kwargs)
    step = args[0]
    before = [tensor.clone() for _, tensor in tensors_of(inputs)]
    result = answer(*args, **kwargs)
    return {
        "result": described(result),
        "changed": changed(inputs, before),
        "asked_again": sum(step.asked.values()) - len(step.asked),
    }


def with_step(inputs: Mapping[str, Any], earlier: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the call, with the step in its place."""
    return [TableStep(inputs["step"]), *inputs["args"][1:]], inputs["kwargs"]


class TableStep:
    """Prefixes (beams, length), start token included → log-probabilities of the next token (beams, vocabulary).

    Attributes:
        asked: how often it was called, by the length of the prefixes.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.places = {tuple(prefix): place for place, prefix in enumerate(table["prefixes"])}
        self.table, self.patience = table["table"], table["patience"]  # (prefixes + 1, vocabulary), the last for others
        self.asked: Counter[int] = Counter()

    def __call__(self, prefixes: torch.Tensor) -> torch.Tensor:
        """Look the prefixes up.

        Raises:
            TooManyCalls: there is no end to it.
            TypeError, ValueError, IndexError: these are no prefixes.
        """
        vocabulary = self.table.size(1)
        if not isinstance(prefixes, torch.Tensor):
            raise TypeError(f"step takes a tensor of token ids, and was given a {type(prefixes).__name__}")
        if prefixes.is_floating_point() or prefixes.dim() != 2:
            kind = str(prefixes.dtype).removeprefix("torch.")
            raise TypeError(f"step takes token ids, int (beams, length), and was given {kind} {tuple(prefixes.shape)}")
        if not prefixes.numel():
            raise ValueError(f"step was given no prefixes at all: {tuple(prefixes.shape)}")
        if max(prefixes[:, 1:].flatten().tolist(), default=0) >= vocabulary:  # the start token may lie outside
            raise IndexError(f"step was given a token outside the vocabulary of {vocabulary}: {prefixes.tolist()}")
        self.asked[prefixes.size(1)] += 1
        if (calls := sum(self.asked.values())) > self.patience:
            raise TooManyCalls(f"step was called {calls} times, and there is no end to it")
        return self.table[[self.places.get(tuple(row), -1) for row in prefixes.tolist()]]
