"""What is said in general, where no known mistake has a sentence of its own: true, and to the point."""

from __future__ import annotations

import pytest
import torch

from autograder.compare import difference
from autograder.judging import judge_source
from autograder.solutions import answer_source, read_source
from crosstalk.course import course


def solution(name: str) -> str:
    """The lesson's own answer, for the tests to spoil in one place."""
    return answer_source(read_source(course().find(name)[0]), name)


def spoilt(name: str, old: str, new: str) -> str:
    assert solution(name).count(old) == 1
    return solution(name).replace(old, new)


def said(expected: torch.Tensor, got: torch.Tensor, dimensions: str = "") -> str:
    found = difference(expected, got, "`x`", dimensions)
    assert found
    return found.sentence


def first_case(name: str, source: str) -> str:
    verdict = judge_source(name, source)
    return verdict.problem or verdict.named or next(case.sentence for case in verdict.cases if not case.right)


def test_numbers_that_differ_look_different() -> None:
    right = torch.tensor([16000.8, 1.0])
    assert "got 1.61e+04, expected 1.6e+04" in said(right, right + torch.tensor([100.0, 0.0]))
    assert "got 16003, expected 16001" in said(right, right + torch.tensor([2.1, 0.0]))


def test_one_number_is_told_without_its_place() -> None:
    assert said(torch.tensor(1.377), torch.tensor(1.147)) == "`x` is 1.147, expected 1.377."
    assert said(torch.tensor([3]), torch.tensor([4])) == "`x` is 4, expected 3."
    assert said(torch.tensor(1.5), torch.tensor(torch.nan)) == "`x` is NaN, expected 1.5."
    assert said(torch.tensor(1.5), torch.tensor([1.5]), "()") == "`x` has shape (1,), expected ()."


def test_the_digits_of_float32_are_recognised() -> None:
    right = torch.tensor([1 / 3, 2 / 3], dtype=torch.float64)
    assert "right to the digits of float32 only" in said(right, right * (1 + 5e-7))
    assert "float32" not in said(right, right + 1e-3)


def test_a_sum_may_be_made_in_place_where_nobody_needs_the_old_one() -> None:
    """Whatever PyTorch's own softmax and norm keep for the backward pass: pieces written by hand keep less."""
    summed = "states += self.dropout(processed)\n        return states"
    assert judge_source(
        "EncoderLayer", spoilt("EncoderLayer", "return states + self.dropout(processed)", summed)
    ).passed
    emptied = "weights *= mask"
    assert judge_source(
        "masked_attention", spoilt("masked_attention", "weights = weights.masked_fill(~mask, 0.0)", emptied)
    ).passed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("MultiHeadAttention(d_model, heads)", "MultiHeadAttention(d_model, heads, dropout)"),
        ("FeedForward(d_model, d_ff)", "FeedForward(d_model, d_ff, dropout)"),
        ("nn.Dropout(dropout)", "dropout"),
    ],
)
def test_one_type_error_is_not_another(old: str, new: str) -> None:
    """The known mistakes of this exercise that raise a TypeError, too, are about query, key and value."""
    sentence = first_case("EncoderLayer", spoilt("EncoderLayer", old, new))
    assert "query, key and value" not in sentence


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("EncoderLayer(d_model, heads, d_ff, dropout)", "EncoderLayer(d_model, heads)"),
        ("layer(states, mask)", "layer(states, masks=mask)"),
        ("layer(states, mask)", "layer(states, states, mask)"),
    ],
)
def test_a_call_within_the_answer_is_not_the_case_s_own(old: str, new: str) -> None:
    sentence = first_case("Encoder", spoilt("Encoder", old, new))
    assert "yours cannot be called so" not in sentence and "must take" not in sentence


def test_a_missing_parameter_has_no_other_name() -> None:
    source = spoilt("EncoderLayer", "self.dropout = nn.Dropout(dropout)", "self.dropout = nn.Dropout(dropout)\n"
                           "        self.attention.query.bias = None")  # fmt: skip
    assert first_case("EncoderLayer", source) == "Of the parameters there is no `attention.query.bias`."
    more = spoilt("EncoderLayer", "self.dropout =", "self.other = nn.Linear(1, 1)\n        self.dropout =")
    assert first_case("EncoderLayer", more) == "No parameter `other.bias`, `other.weight` is asked for."


def test_a_constructor_without_super_is_told_what_to_write() -> None:
    assert "`super().__init__()` as the first line" in first_case(
        "EncoderLayer", spoilt("EncoderLayer", "        super().__init__()\n", "")
    )


def test_a_cache_around_an_answer_is_told_from_another_kind_of_thing() -> None:
    source = "from functools import cache\n@cache\ndef edit_distance(a, b):\n    return max(len(a), len(b))\n"
    assert "decorate a function inside it" in first_case("edit_distance", source)


def test_one_of_two_results_that_is_none_misses_no_return() -> None:
    source = "def scaled_dot_product_attention(query, key, value):\n    return value, None\n"
    told = [case.sentence for case in judge_source("scaled_dot_product_attention", source).cases]
    assert not any("`return` missing" in sentence for sentence in told)
