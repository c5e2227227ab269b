"""Tables that are kept elsewhere: when graded the judge has them, the runner asks, and the judge counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from autograder.messages import Tree

Ask = Callable[[Tree], Tree]  # sends a message, and waits for the answer to it

# What one call may be about, so that none costs its keeper more than some ms. Of the banks, none goes beyond 126 rows
# with 6,000 tokens.
MAX_ROWS = 2_048
MAX_NUMBERS = 32_768


class TooManyCalls(RuntimeError):
    """The table was asked far more often than its sequences are long."""


class Questions(NamedTuple):
    """What a model is asked in one call of ``decode``: for each row and place, row by row, one of each.

    Attributes:
        words: the source tokens that can be read there.
        whole: whether the word was encoded with these tokens in sight and no others.
        prefixes: the tokens that the decoder knows there, start token included.
        places: of the token that is said next.
    """

    words: Sequence[Sequence[int]]
    whole: Sequence[bool]
    prefixes: Sequence[Sequence[int]]
    places: Sequence[int]


def bounded(rows: int, numbers: int, called: str) -> None:
    """Raise ValueError where a call is about more than any exercise needs."""
    if rows > MAX_ROWS or numbers > MAX_NUMBERS:
        raise ValueError(f"{called} was asked about {rows:,} places with {numbers:,} tokens at once: too many")


class Asked:
    """Takes the place of a `WordTable` or a `StepTable`: asks whoever keeps it, and raises what is answered."""

    def __init__(self, mark: Mapping[str, Any]) -> None:
        self.number, self.vocabulary, self._ask = mark["held"], mark["vocabulary"], mark["ask"]

    def encode(self) -> None:
        """One more call of ``encode``."""
        self._asked({"call": "encode"})

    def decode(self, questions: Questions | None) -> torch.Tensor:
        """See `WordTable.decode`."""
        if questions is None:
            return self._asked({"call": "decode", "failed": True})
        pairs = list(zip(questions.words, questions.prefixes, strict=True))
        return self._asked({
            "call": "decode",
            "numbers": _numbers([token for word, prefix in pairs for token in (*word, *prefix)]),
            "lengths": _numbers([length for word, prefix in pairs for length in (len(word), len(prefix))]).view(-1, 2),
            "whole": torch.tensor(questions.whole, dtype=torch.bool),
            "places": _numbers(questions.places),
        })  # fmt: skip

    def look_up(self, prefixes: Sequence[Sequence[int]]) -> torch.Tensor:
        """See `StepTable.look_up`."""
        return self._asked({"call": "step", "prefixes": _numbers(prefixes)})

    def counted(self, names: Sequence[str] = ()) -> dict[str, Tree]:
        """Nothing: whoever keeps the table counts, and adds the numbers to what was observed."""
        return {}

    def _asked(self, question: dict[str, Tree]) -> Any:
        answer = self._ask({"what": "ask", "held": self.number} | question)
        if "raised" in answer:
            raise _RAISED[answer["raised"]](answer["message"])
        return answer["value"]


_RAISED = {"TooManyCalls": TooManyCalls, "ValueError": ValueError}


def held_elsewhere(inputs: Mapping[str, Any]) -> bool:
    """Is a table of this case's kept elsewhere?"""
    return any(isinstance(value, dict) and "held" in value for value in inputs.values())


def asking(inputs: Mapping[str, Any], ask: Ask) -> dict[str, Any]:
    """The inputs of a case, with a way to ask beside each mark of a table that is held elsewhere."""
    return {
        name: {**value, "ask": ask} if isinstance(value, dict) and "held" in value else value
        for name, value in inputs.items()
    }


def _numbers(values: Sequence[Any]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)
