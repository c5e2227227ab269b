"""The judge's side of tiny models: it keeps their tables, answers what the runner asks of them, and counts.

The runner gets a mark in the place of a table (``{"held": number, "vocabulary": V}``), and asks by message; what it
asks comes from student code, and may be anything. What tensors and masks a call was given is looked at by the runner
(`autograder.scenarios.table_model.TableModel` serves both ways): only plain token ids get here, few enough that no
question takes longer than some ms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from autograder.messages import Tree, nested
from autograder.packs import Case
from autograder.scenarios.asked import MAX_NUMBERS, MAX_ROWS, Questions, TooManyCalls
from autograder.scenarios.table_model import WordTable
from autograder.scenarios.table_step import StepTable

# These give the answer a model or a function of the case's, or count what happens in it, within the answer's own
# process: gradients have to flow through it, or the answer builds it itself. Someone who rewrites that process could
# have something else counted. All other scenarios are judged by results alone, or by what the judge itself counts.
_IN_THE_RUNNER = frozenset({"training", "module", "attending", "assembled", "cached_attention", "drawing"})


def lower_assurance(scenario: str) -> bool:
    """Is part of what is judged counted or read off in the student's own process?"""
    return scenario in _IN_THE_RUNNER


class Held:
    """The tables of the cases of one request, by the index of the case.

    Args:
        tables: each with the names of the numbers that are part of what is asked.
    """

    def __init__(self, tables: Mapping[int, tuple[WordTable | StepTable, Sequence[str]]]) -> None:
        self._tables = dict(tables)

    def answer(self, question: Tree) -> Tree:
        """The answer to a question (see `autograder.scenarios.asked.Asked`): ``value``, or what to raise.

        Raises nothing, whatever is asked.
        """
        try:
            return {"what": "answer", "value": self._value(question)}
        except (TooManyCalls, ValueError) as error:
            return {"what": "answer", "raised": type(error).__name__, "message": str(error)}

    def corrected(self, index: int, observation: Tree) -> Tree:
        """What was observed in a case, with the numbers that were counted here in the place of what the runner says."""
        if index not in self._tables or not isinstance(observation, dict):
            return observation
        if not isinstance(seen := observation.get("value"), dict):
            return observation
        table, names = self._tables[index]
        others = {key: value for key, value in seen.items() if key not in ("encoded", "decoded", "asked_again")}
        return {**observation, "value": {**others, **table.counted(names)}}

    def _value(self, question: Tree) -> torch.Tensor | None:
        match question:
            case {"held": int(number), "call": str(call)} if number in self._tables:
                table, _ = self._tables[number]
            case _:
                raise ValueError("this is no question")
        if isinstance(table, WordTable) and call == "encode":
            table.encode()
            return None
        if isinstance(table, WordTable) and call == "decode":
            return table.decode(None if question.get("failed") is True else _questions(question))
        if isinstance(table, StepTable) and call == "step":
            return table.look_up(_prefixes(question))
        raise ValueError("this is no question to this table")


def withheld(cases: Sequence[Case]) -> tuple[list[torch.Tensor], Held]:
    """The cases of a request with marks in the place of tables, each a message of its own, and who keeps the tables."""
    tables: dict[int, tuple[WordTable | StepTable, Sequence[str]]] = {}
    marked: list[torch.Tensor] = []
    for index, case in enumerate(cases):
        inputs = case.inputs
        table: WordTable | StepTable
        if case.scenario == "table_model":
            table, names, name = WordTable(inputs["model"]), inputs["counts"], "model"
        elif case.scenario == "table_step":
            table, names, name = StepTable(inputs["step"]), ["asked_again"], "step"
        else:
            marked.append(case.sent)
            continue
        tables[index] = table, names
        mark = {"held": index, "vocabulary": table.vocabulary}
        mark |= {key: True for key in ("newest",) if inputs[name].get(key)}  # what the runner does with the answers
        marked.append(nested({**case.tried, "inputs": {**inputs, name: mark}}))
    return marked, Held(tables)


def _questions(question: Mapping[str, Any]) -> Questions:
    """What a call of ``decode`` asks.

    Raises:
        ValueError: it is not what `Asked.decode` sends, or too much.
    """
    numbers = _tensor(question, "numbers", 1, MAX_NUMBERS)
    lengths = _tensor(question, "lengths", 2, 2 * MAX_ROWS)  # (questions, 2)
    places = _tensor(question, "places", 1, MAX_ROWS)
    whole = _tensor(question, "whole", 1, MAX_ROWS, torch.bool)
    rows = len(places)
    if not rows or lengths.shape != (rows, 2) or len(whole) != rows or int(places.min()) < 0:
        raise ValueError("these are no questions")
    if int(lengths.min()) < 0 or int(lengths.max()) > len(numbers) or int(lengths.sum()) != len(numbers):
        raise ValueError("these questions are not as long as they say")
    tokens, words, prefixes, at = numbers.tolist(), [], [], 0
    for word, prefix in lengths.tolist():
        words.append(tokens[at : at + word])
        prefixes.append(tokens[at + word : at + word + prefix])
        at += word + prefix
    return Questions(words, whole.tolist(), prefixes, places.tolist())


def _prefixes(question: Mapping[str, Any]) -> list[list[int]]:
    """What a call of a step asks.

    Raises:
        ValueError: it is not what `Asked.look_up` sends, or too much.
    """
    prefixes = _tensor(question, "prefixes", 2, MAX_NUMBERS)
    if not prefixes.numel() or len(prefixes) > MAX_ROWS:
        raise ValueError("these are no prefixes, or too many")
    return prefixes.tolist()


def _tensor(question: Mapping[str, Any], name: str, dim: int, most: int, dtype: torch.dtype = torch.int64
            ) -> torch.Tensor:  # fmt: skip
    tensor = question.get(name)
    if not isinstance(tensor, torch.Tensor) or tensor.dtype != dtype or tensor.dim() != dim or tensor.numel() > most:
        raise ValueError(f"{name} is not what is asked with")
    return tensor
