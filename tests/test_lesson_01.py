"""Lesson 01: properties of its pieces, for the stand-ins, the solution and PyTorch alike, and its heat map."""

import json
import math
from collections.abc import Callable
from typing import Any

import matplotlib
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from autograder import solutions
from crosstalk.course import course
from crosstalk.places import course_folder
from crosstalk.plots import heat_map
from crosstalk.stand_ins import lesson_01

matplotlib.use("agg")
NAMES = ["softmax", "scaled_dot_product_attention", "split_heads", "merge_heads"]
few = settings(max_examples=30, deadline=None)
sizes = st.integers(1, 5)
seeds = st.integers(0, 2**31)


def _solution() -> dict[str, Any]:
    """The answers of solutions/01-attention.py, run one after the other."""
    notebook = solutions.read_source(course().lesson("01"))
    namespace: dict[str, Any] = {}
    for source in [solutions.setup_source(notebook), *(solutions.answer_source(notebook, name) for name in NAMES)]:
        exec(source, namespace)
    return namespace


PIECES = {"stand-in": vars(lesson_01), "solution": _solution()}
both = pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)


def _normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@both
@few
@given(seeds, st.lists(sizes, min_size=1, max_size=4), st.data())
def test_softmax_is_torchs(pieces: dict[str, Callable], seed: int, shape: list[int], data: st.DataObject) -> None:
    scores = 10 * _normal(seed, *shape)
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    shares = pieces["softmax"](scores, dim=dim)
    _close(shares, torch.softmax(scores, dim))
    _close(shares.sum(dim), torch.ones_like(shares.sum(dim)))


@both
@few
@given(seeds, st.floats(-1e4, 1e4))
def test_softmax_does_not_mind_a_shift(pieces: dict[str, Callable], seed: int, shift: float) -> None:
    scores = _normal(seed, 3, 5)
    shares = pieces["softmax"](scores + shift)
    assert torch.isfinite(shares).all()
    torch.testing.assert_close(shares, pieces["softmax"](scores), rtol=1e-7, atol=1e-9)


@both
@few
@given(seeds, st.lists(sizes, max_size=2), sizes, sizes, sizes, sizes)
def test_attention_is_torchs(
    pieces: dict[str, Callable], seed: int, front: list[int], queries: int, keys: int, d_k: int, d_v: int
) -> None:
    query, key = _normal(seed, *front, queries, d_k), _normal(seed + 1, *front, keys, d_k)
    value = _normal(seed + 2, *front, keys, d_v)
    output, weights = pieces["scaled_dot_product_attention"](query, key, value)
    assert weights.shape == (*front, queries, keys)
    _close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    # torch's own wants at least one dimension in front
    _close(output, F.scaled_dot_product_attention(query[None], key[None], value[None])[0])


@both
@few
@given(seeds, st.permutations(range(5)))
def test_the_order_of_keys_does_not_matter(pieces: dict[str, Callable], seed: int, order: list[int]) -> None:
    query, key, value = _normal(seed, 2, 3, 4), _normal(seed + 1, 2, 5, 4), _normal(seed + 2, 2, 5, 6)
    output, weights = pieces["scaled_dot_product_attention"](query, key, value)
    moved, moved_weights = pieces["scaled_dot_product_attention"](query, key[:, order], value[:, order])
    _close(moved, output)
    _close(moved_weights, weights[..., order])


@both
@few
@given(seeds, sizes, sizes, sizes, sizes)
def test_heads_are_blocks_of_features(
    pieces: dict[str, Callable], seed: int, batch: int, length: int, heads: int, d_head: int
) -> None:
    states = _normal(seed, batch, length, heads * d_head)
    separate = pieces["split_heads"](states, heads)
    assert separate.shape == (batch, heads, length, d_head)
    for head in range(heads):  # merge(split(x)) == x alone would pass for a wrong view
        assert torch.equal(separate[:, head], states[..., head * d_head : (head + 1) * d_head])
    assert torch.equal(pieces["merge_heads"](separate), states)


@both
def test_attention_over_heads_is_multi_head_attention(pieces: dict[str, Callable]) -> None:
    """Split, attend, merge equals torch.nn.MultiheadAttention with identity projections."""
    states, heads = _normal(0, 2, 5, 12), 3
    torchs = torch.nn.MultiheadAttention(12, heads, bias=False, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        torchs.in_proj_weight.copy_(torch.eye(12).repeat(3, 1))
        torchs.out_proj.weight.copy_(torch.eye(12))
    separate = pieces["split_heads"](states, heads)
    output, weights = pieces["scaled_dot_product_attention"](separate, separate, separate)
    expected, expected_weights = torchs(states, states, states, average_attn_weights=False)
    _close(pieces["merge_heads"](output), expected)
    _close(weights, expected_weights)


def test_without_the_root_wide_heads_lose_entropy_and_gradient() -> None:
    """What "Break it" shows: undoing the division by √d leaves little entropy and gradient at d = 512."""

    def measured(d: int, factor: float) -> tuple[float, float]:
        query, key = torch.randn(2, 64, 16, d, generator=torch.Generator().manual_seed(d))
        _, w = lesson_01.scaled_dot_product_attention(query * factor, key, key)
        jacobian = torch.diag_embed(w) - w[..., :, None] * w[..., None, :]
        return -torch.xlogy(w, w).sum(-1).mean().item(), jacobian.flatten(-2).norm(dim=-1).mean().item()

    entropy, gradient = measured(512, 1.0)
    no_entropy, no_gradient = measured(512, math.sqrt(512))
    assert entropy > 2 > 0.5 > no_entropy
    assert gradient > 2 * no_gradient
    assert measured(4, 1.0)[0] == pytest.approx(entropy, abs=0.3)


def test_heat_map_writes_what_it_draws() -> None:
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    heat_map(torch.tensor([[0.25, 0.75], [1.0, 0.0]]), "ab", ["x", "y"], "two rows", ax=ax)
    assert [text.get_text() for text in ax.texts] == ["0.25", "0.75", "1.00", "0.00"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    ax.clear()
    heat_map(torch.tensor([[0.25, 0.75]]), ["cat"], [1, 2], "letters", ax=ax, cells=[["c", "a"]])
    assert [text.get_text() for text in ax.texts] == ["c", "a"]
    plt.close(figure)


def test_heat_map_says_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"2 rows and 3 columns.*\(1, 2, 3\).*index batch and heads"):
        heat_map(torch.ones(1, 2, 3), "ab", "xyz", "one batch too many")


def test_questions_are_folded_since_their_source_holds_the_answers() -> None:
    text = (course_folder() / "lessons" / course().lesson("01").notebook).read_text(encoding="utf-8")
    questions = [cell for cell in json.loads(text)["cells"] if "right=" in "".join(cell["source"])]
    assert len(questions) == 4
    assert all(cell["metadata"].get("jupyter") == {"source_hidden": True} for cell in questions)
