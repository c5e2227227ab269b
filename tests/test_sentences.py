"""What is said in general, where no known mistake has a sentence of its own: true, and to the point."""

from __future__ import annotations

import pytest
import torch

from autograder.compare import difference
from autograder.judging import judge_source

LAYER = """class EncoderLayer(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        self.attention_norm = LayerNorm(d_model)
        self.attention = MultiHeadAttention(d_model, heads)
        self.feed_forward_norm = LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states, mask=None):
        attended, _ = self.attention(self.attention_norm(states), mask=mask)
        states = states + self.dropout(attended)
        states += self.dropout(self.feed_forward(self.feed_forward_norm(states)))
        return states
"""
STACK = """class Encoder(nn.Module):
    def __init__(self, layers, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        self.layers = nn.ModuleList([EncoderLayer(d_model, heads, d_ff, dropout) for _ in range(layers)])
        self.norm = LayerNorm(d_model)

    def forward(self, states, mask=None):
        for layer in self.layers:
            states = layer(states, mask)
        return self.norm(states)
"""


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
    assert judge_source("EncoderLayer", LAYER).passed
    masked = """def masked_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    weights = softmax(scores)
    if mask is not None:
        weights *= mask
    return weights @ value, weights
"""
    assert judge_source("masked_attention", masked).passed


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
    sentence = first_case("EncoderLayer", LAYER.replace(old, new))
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
    sentence = first_case("Encoder", STACK.replace(old, new))
    assert "yours cannot be called so" not in sentence and "must take" not in sentence


def test_a_missing_parameter_has_no_other_name() -> None:
    source = LAYER.replace("self.dropout = nn.Dropout(dropout)", "self.dropout = nn.Dropout(dropout)\n"
                           "        self.attention.query.bias = None")  # fmt: skip
    assert first_case("EncoderLayer", source) == "Of the parameters there is no `attention.query.bias`."
    more = LAYER.replace("self.dropout =", "self.other = nn.Linear(1, 1)\n        self.dropout =")
    assert first_case("EncoderLayer", more) == "No parameter `other.bias`, `other.weight` is asked for."


def test_a_constructor_without_super_is_told_what_to_write() -> None:
    assert "`super().__init__()` as the first line" in first_case(
        "EncoderLayer", LAYER.replace("        super().__init__()\n", "")
    )


def test_a_cache_around_an_answer_is_told_from_another_kind_of_thing() -> None:
    source = "from functools import cache\n@cache\ndef edit_distance(a, b):\n    return max(len(a), len(b))\n"
    assert "decorate a function inside it" in first_case("edit_distance", source)


def test_one_of_two_results_that_is_none_misses_no_return() -> None:
    source = "def scaled_dot_product_attention(query, key, value):\n    return value, None\n"
    told = [case.sentence for case in judge_source("scaled_dot_product_attention", source).cases]
    assert not any("`return` missing" in sentence for sentence in told)
