"""What a runner's messages are taken to say."""

from __future__ import annotations

import torch

from autograder.judge import understood
from autograder.messages import Tree, nested
from autograder.packs import visible_pack
from crosstalk.course import course

CASES = visible_pack(course().lesson("01")).exercises["softmax"].cases


def case(index: object, observation: Tree) -> Tree:
    return {"what": "case", "index": index, "observation": observation}


def test_what_is_right_to_the_last_bit_is_not_read_anew() -> None:
    """That is where most of the time of judging went."""
    near = {"value": {**CASES[1].expected["value"], "result": CASES[1].expected["value"]["result"] + 1e-6}}
    said = understood([case(0, nested(CASES[0].expected)), case(1, nested(near))], CASES)
    assert said.cases[0] is CASES[0].expected
    assert said.cases[1] is not CASES[1].expected and said.cases[1].keys() == CASES[1].expected.keys()


def test_what_is_said_first_of_a_case_counts() -> None:
    said = understood([case(0, nested({"unwritten": 1})), case(0, nested(CASES[0].expected))], CASES)
    assert said.cases == {0: {"unwritten": 1}}


def test_what_cannot_be_read_is_not_said() -> None:
    cut_short = nested(CASES[0].expected)[:-1]
    strange = [cut_short, torch.empty(0), torch.tensor(float("nan")), torch.ones(2, 3).T, nested([1]), nested({}),
               {"value": {}}, None]  # fmt: skip
    said = understood([*(case(0, each) for each in strange), case(len(CASES), nested(CASES[0].expected)),
                       case(-1, nested(CASES[0].expected)), case("0", nested(CASES[0].expected))], CASES)  # fmt: skip
    assert said.cases == {}


def test_only_bytes_as_they_are_sent_are_opened() -> None:
    """A tensor of another kind might be larger than it looks, or not be turned into bytes at all."""
    right = nested(CASES[0].expected)
    strided = torch.empty_strided((len(right),), (8,), dtype=torch.uint8).copy_(right)
    strange = [
        strided,
        right.view(torch.int8),
        right[None],
        torch.zeros(1, dtype=torch.bfloat16).as_strided((1,), (2,)),
    ]
    assert understood([case(0, each) for each in strange], CASES).cases == {}
