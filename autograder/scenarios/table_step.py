"""Hand a search the ``step`` of a tiny model whose probabilities stand in a table, and count what it asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from autograder.messages import Tree
from autograder.observe import described
from autograder.scenarios.asked import Asked, TooManyCalls, bounded
from autograder.scenarios.call import accepts, changed, tensors_of


def steps(
    rows: Mapping[tuple[int, ...], torch.Tensor],
    otherwise: torch.Tensor,
    patience: int = 100,
    longest: int | None = None,
) -> dict[str, Tree]:
    """A step as data, the ``step`` of a case.

    Args:
        rows: the log-probabilities (vocabulary,) of the next token by prefix, start token included.
        otherwise: (vocabulary,): those after all other prefixes.
        patience: how many calls are borne.
        longest: the length of the longest prefixes that it answers; None answers all.
    """
    prefixes = [list(prefix) for prefix in rows]
    made = {"prefixes": prefixes, "table": torch.stack([*rows.values(), otherwise]), "patience": patience}
    return made if longest is None else made | {"longest": longest}


def table_step(answer: Any, inputs: dict, earlier: Mapping[str, Any]) -> Tree:
    """Call ``answer(step, *rest)`` with a `TableStep`.

    ``inputs`` has ``step`` (see `steps`; or a mark, see `autograder.held`), ``args`` (its first is None: there the
    step comes) and ``kwargs``.

    Returns:
        ``result``, ``changed``, and (where the table is here) ``asked_again``: how many calls were about prefixes of a
        length that had been asked for before.
    """
    args, kwargs = with_step(inputs, earlier)
    accepts(answer, "", args, kwargs)
    step = args[0]
    before = [tensor.clone() for _, tensor in tensors_of(inputs)]
    result = answer(*args, **kwargs)
    return {"result": described(result), "changed": changed(inputs, before), **step.table.counted()}


def with_step(inputs: Mapping[str, Any], earlier: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the call, with the step in its place."""
    return [TableStep(inputs["step"]), *inputs["args"][1:]], inputs["kwargs"]


class StepTable:
    """The log-probabilities of a tiny model, and how often it was asked.

    Args:
        step: see `steps`.

    Attributes:
        asked: how often, by the length of the prefixes.
    """

    def __init__(self, step: Mapping[str, Any]) -> None:
        self.places = {tuple(prefix): place for place, prefix in enumerate(step["prefixes"])}
        self.table, self.patience = step["table"], step["patience"]  # (prefixes + 1, vocabulary), the last for others
        self.vocabulary, self.longest = self.table.size(1), step.get("longest")
        self.asked: Counter[int] = Counter()

    def look_up(self, prefixes: Sequence[Sequence[int]]) -> torch.Tensor:
        """One more call, about at least one prefix, all of one length → (prefixes, vocabulary).

        Raises:
            TooManyCalls: there is no end to it.
            ValueError: nobody needs to know what comes after so many tokens.
        """
        self.asked[len(prefixes[0])] += 1
        if (calls := sum(self.asked.values())) > self.patience:
            raise TooManyCalls(f"step was called {calls} times, and there is no end to it")
        if self.longest is not None and (length := len(prefixes[0])) > self.longest:
            raise ValueError(
                f"step was asked what comes after {length - 1} generated tokens, and {self.longest} are all that are "
                "allowed (max_length): it has no answer to that, and none is needed"
            )
        return self.table[[self.places.get(tuple(prefix), -1) for prefix in prefixes]]

    def counted(self, names: Sequence[str] = ("asked_again",)) -> dict[str, Tree]:
        """``asked_again``."""
        return {name: sum(self.asked.values()) - len(self.asked) for name in names}

    def __deepcopy__(self, memo: object) -> StepTable:
        """A copied step is the same step: its calls are counted, too."""
        return self


class TableStep:
    """Prefixes (beams, length), start token included → log-probabilities of the next token (beams, vocabulary).

    Attributes:
        table: what it says; asked, and its calls counted, here or, where ``step`` is a mark, elsewhere.
    """

    def __init__(self, step: Mapping[str, Any]) -> None:
        self.table = Asked(step) if "held" in step else StepTable(step)

    def __call__(self, prefixes: torch.Tensor) -> torch.Tensor:
        """Look the prefixes up.

        Raises:
            TooManyCalls: there is no end to it.
            TypeError, ValueError, IndexError: these are no prefixes.
        """
        if not isinstance(prefixes, torch.Tensor):
            raise TypeError(f"step takes a tensor of token ids, and was given a {type(prefixes).__name__}")
        if prefixes.is_floating_point() or prefixes.is_complex() or prefixes.dim() != 2:
            kind = str(prefixes.dtype).removeprefix("torch.")
            raise TypeError(f"step takes token ids, int (beams, length), and was given {kind} {tuple(prefixes.shape)}")
        if not prefixes.numel():
            raise ValueError(f"step was given no prefixes at all: {tuple(prefixes.shape)}")
        bounded(len(prefixes), prefixes.numel(), "step")
        rows, vocabulary = prefixes.tolist(), self.table.vocabulary
        if max((token for row in rows for token in row[1:]), default=0) >= vocabulary:  # the start may lie outside
            raise IndexError(f"step was given a token outside the vocabulary of {vocabulary}: {rows}")
        return self.table.look_up(rows)
