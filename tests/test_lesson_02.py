"""Lesson 02: what holds for every mask, and multi-head attention beside PyTorch's.

Each property is tried on the stand-ins and on the solution that students may see.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import ways
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

each_way = ways.each_way(until=2)
lengths = st.integers(1, 7)
quick = settings(max_examples=40, deadline=None)


def _drawn(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def _mask(seed: int, *shape: int) -> torch.Tensor:
    """About half allowed; the rows are empty as often as chance will have it, and the first always is."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[..., 0, :] = False
    return mask


# --- masks -----------------------------------------------------------------------------------------------------


@each_way
@quick
@given(queries=st.integers(1, 9), keys=st.integers(1, 9))
def test_a_query_sees_itself_and_what_came_before(way: SimpleNamespace, queries: int, keys: int) -> None:
    mask = way.causal_mask(queries, keys)
    assert mask.dtype == torch.bool
    assert mask.shape == (queries, keys)
    for query in range(queries):
        own_place = query + keys - queries  # negative where there are more queries than keys: nothing to see
        assert mask[query].tolist() == [key <= own_place for key in range(keys)]


@each_way
@quick
@given(
    words=st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=4), pad=st.integers(0, 4)
)
def test_every_pad_is_hidden_and_nothing_else(way: SimpleNamespace, words: list[list[int]], pad: int) -> None:
    mask = way.padding_mask(torch.tensor(words), pad)
    assert mask.dtype == torch.bool
    assert mask.shape == (len(words), 1, 1, 3)
    assert mask[:, 0, 0].tolist() == [[token != pad for token in word] for word in words]


@each_way
@quick
@given(seed=ways.seeds, dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]))
def test_added_to_scores_a_mask_hides_and_changes_nothing_else(
    way: SimpleNamespace, seed: int, dtype: torch.dtype
) -> None:
    mask = _mask(seed, 2, 3, 4)
    before, scores = mask.clone(), _drawn(seed, (2, 3, 4))[0].to(dtype)
    summed = scores + way.additive_mask(mask, dtype)
    assert summed.dtype == dtype
    assert torch.equal(summed[mask], scores[mask])
    assert bool((summed[~mask] == -torch.inf).all())
    assert torch.equal(mask, before)


# --- masked attention ------------------------------------------------------------------------------------------


@each_way
@quick
@given(seed=ways.seeds, queries=lengths, keys=lengths)
def test_hidden_keys_weigh_nothing_and_rows_sum_to_one_or_zero(
    way: SimpleNamespace, seed: int, queries: int, keys: int
) -> None:
    query, key, value = _drawn(seed, (2, 2, queries, 4), (2, 2, keys, 4), (2, 2, keys, 3))
    mask = _mask(seed, 2, 1, queries, keys)
    output, weights = way.masked_attention(query, key, value, mask)
    seen = mask.expand_as(weights)
    assert bool((weights[~seen] == 0).all())
    torch.testing.assert_close(weights.sum(-1), seen.any(-1).double())
    assert bool((output[~seen.any(-1)] == 0).all())


@each_way
@quick
@given(seed=ways.seeds, queries=lengths, keys=lengths)
def test_hidden_keys_have_no_influence(way: SimpleNamespace, seed: int, queries: int, keys: int) -> None:
    query, key, value, other_key, other_value = _drawn(
        seed, (2, queries, 4), (2, keys, 4), (2, keys, 3), (2, keys, 4), (2, keys, 3)
    )
    hidden = torch.arange(keys) >= keys // 2  # (keys,), the same for all queries
    mask = (~hidden).expand(queries, keys)
    one, _ = way.masked_attention(query, key, value, mask)
    changed_key = torch.where(hidden[:, None], other_key, key)
    changed_value = torch.where(hidden[:, None], other_value, value)
    other, _ = way.masked_attention(query, changed_key, changed_value, mask)
    torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@each_way
@quick
@given(seed=ways.seeds, queries=lengths, keys=lengths)
def test_gradients_are_finite_in_empty_rows_too(way: SimpleNamespace, seed: int, queries: int, keys: int) -> None:
    inputs = [tensor.requires_grad_() for tensor in _drawn(seed, (2, queries, 4), (2, keys, 4), (2, keys, 3))]
    mask = _mask(seed, queries, keys)
    with torch.autograd.detect_anomaly(check_nan=True):
        output, weights = way.masked_attention(*inputs, mask)
        (output.square().sum() + weights.square().sum()).backward()
    gradients = [tensor.grad for tensor in inputs if tensor.grad is not None]
    assert len(gradients) == len(inputs)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert bool((gradients[0][:, 0] == 0).all())  # the first row is empty: nothing can reach its query


@each_way
@quick
@given(seed=ways.seeds, queries=lengths, keys=lengths)
def test_agrees_with_the_fused_attention(way: SimpleNamespace, seed: int, queries: int, keys: int) -> None:
    query, key, value = _drawn(seed, (2, 2, queries, 4), (2, 2, keys, 4), (2, 2, keys, 4))
    mask = _mask(seed, 2, 2, queries, keys)
    for given_mask in (None, mask):
        expected = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=given_mask)
        torch.testing.assert_close(way.masked_attention(query, key, value, given_mask)[0], expected)


# --- multi-head attention --------------------------------------------------------------------------------------


def _same_weights(mine: Any, d_model: int, heads: int) -> nn.MultiheadAttention:
    theirs = nn.MultiheadAttention(d_model, heads, batch_first=True).to(mine.query.weight.dtype)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([mine.query.weight, mine.key.weight, mine.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([mine.query.bias, mine.key.bias, mine.value.bias]))
        theirs.out_proj.load_state_dict(mine.output.state_dict())
    return theirs


@each_way
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("heads", [1, 2, 3, 6])
@pytest.mark.parametrize("with_memory", [False, True])
def test_multi_head_attention_agrees_with_torch(
    way: SimpleNamespace, dtype: torch.dtype, tolerance: float, heads: int, with_memory: bool
) -> None:
    torch.manual_seed(heads)
    mine = way.MultiHeadAttention(12, heads).to(dtype)
    theirs = _same_weights(mine, 12, heads)
    states = torch.randn(3, 5, 12, dtype=dtype)
    memory = torch.randn(3, 7, 12, dtype=dtype) if with_memory else None
    source = states if memory is None else memory
    allowed = torch.arange(source.size(1)) < torch.tensor([source.size(1), 2, 1])[:, None]  # (batch, keys)
    output, weights = mine(states, memory, allowed[:, None, None])
    expected, expected_weights = theirs(states, source, source, key_padding_mask=~allowed, average_attn_weights=False)
    assert (output - expected).abs().max() < tolerance
    assert (weights - expected_weights).abs().max() < tolerance


@each_way
def test_the_attention_can_be_replaced_and_its_missing_weights_are_passed_on(way: SimpleNamespace) -> None:
    def fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> Any:
        return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask), None

    torch.manual_seed(0)
    mine, fast = way.MultiHeadAttention(8, 2), way.MultiHeadAttention(8, 2, attention=fused)
    fast.load_state_dict(mine.state_dict())
    states, mask = torch.randn(2, 4, 8), way.causal_mask(4, 4)
    output, weights = fast(states, mask=mask)
    assert weights is None
    torch.testing.assert_close(output, mine(states, mask=mask)[0])


@each_way
def test_an_empty_memory_leaves_the_bias_of_the_output(way: SimpleNamespace) -> None:
    attention = way.MultiHeadAttention(8, 2)
    output, weights = attention(torch.randn(1, 3, 8), torch.randn(1, 4, 8), torch.zeros(1, 1, 1, 4, dtype=torch.bool))
    torch.testing.assert_close(output, attention.output.bias.expand(1, 3, 8))
    assert bool((weights == 0).all())
