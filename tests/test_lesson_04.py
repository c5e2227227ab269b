"""Lesson 04: what holds for cross-attention, the decoder and the whole model, whatever the numbers.

Each property is tried on the stand-ins and on the solution that students may see. That both equal
``torch.nn.Transformer`` stands in test_parity.py.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import ways
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from autograder import solutions
from autograder.judging import judge_source
from crosstalk.course import course
from crosstalk.layers import fused_attention, use_attention

LESSON = course().lesson("04-decoder")

each_way = ways.each_way(until=4)
lengths = st.integers(1, 6)
quick = settings(max_examples=12, deadline=None)
D_MODEL, HEADS, D_FF = 8, 2, 12
LETTERS, PHONEMES, PAD = 9, 7, 0


def _drawn(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def _padding(seed: int, batch: int, keys: int) -> torch.Tensor:
    """(batch, 1, 1, keys), at least one True in each row."""
    lengths = torch.randint(1, keys + 1, (batch, 1), generator=torch.Generator().manual_seed(seed))
    return (torch.arange(keys) < lengths)[:, None, None, :]


def _model(way: SimpleNamespace, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    target_embedding = way.TokenEmbedding(PHONEMES, D_MODEL, PAD)
    generator = nn.Linear(D_MODEL, PHONEMES, bias=False)
    generator.weight = target_embedding.table.weight
    return way.EncoderDecoder(
        way.TokenEmbedding(LETTERS, D_MODEL, PAD),
        way.Encoder(2, D_MODEL, HEADS, D_FF),
        target_embedding,
        way.Decoder(2, D_MODEL, HEADS, D_FF),
        generator,
    ).double()


def _tokens(seed: int, batch: int, length: int, vocabulary: int) -> torch.Tensor:
    return torch.randint(1, vocabulary, (batch, length), generator=torch.Generator().manual_seed(seed))


# --- cross-attention -------------------------------------------------------------------------------------------


@each_way
@quick
@given(seed=ways.seeds, target=lengths, source=lengths)
def test_the_two_halves_are_multi_head_attention(way: SimpleNamespace, seed: int, target: int, source: int) -> None:
    attention = way.MultiHeadAttention(D_MODEL, HEADS).double()
    states, memory = _drawn(seed, (2, target, D_MODEL), (2, source, D_MODEL))
    mask = _padding(seed, 2, source)
    keys, values = way.project_memory(attention, memory)
    output, weights = way.cross_attention(attention, states, keys, values, mask)
    expected, expected_weights = attention(states, memory, mask)
    assert keys.shape == values.shape == (2, HEADS, source, D_MODEL // HEADS)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(weights, expected_weights)


@each_way
@quick
@given(seed=ways.seeds, target=lengths, source=lengths)
def test_hidden_places_of_the_memory_have_no_influence(
    way: SimpleNamespace, seed: int, target: int, source: int
) -> None:
    attention = way.MultiHeadAttention(D_MODEL, HEADS).double()
    states, memory, other = _drawn(seed, (2, target, D_MODEL), (2, source, D_MODEL), (2, source, D_MODEL))
    mask = _padding(seed, 2, source)
    changed = torch.where(mask[:, 0, 0, :, None], memory, other)
    one, weights = way.cross_attention(attention, states, *way.project_memory(attention, memory), mask)
    two, _ = way.cross_attention(attention, states, *way.project_memory(attention, changed), mask)
    torch.testing.assert_close(one, two)
    assert bool((weights.masked_select(~mask) == 0).all())


@each_way
def test_missing_weights_are_passed_on(way: SimpleNamespace) -> None:
    attention = way.MultiHeadAttention(D_MODEL, HEADS, attention=fused_attention)
    keys, values = way.project_memory(attention, torch.randn(1, 3, D_MODEL))
    assert way.cross_attention(attention, torch.randn(1, 2, D_MODEL), keys, values)[1] is None


# --- the layer and the stack -----------------------------------------------------------------------------------


@each_way
@quick
@given(seed=ways.seeds, target=st.integers(2, 6), source=lengths)
def test_a_later_token_moves_no_earlier_row(way: SimpleNamespace, seed: int, target: int, source: int) -> None:
    decoder = way.Decoder(2, D_MODEL, HEADS, D_FF).double()
    states, memory, other = _drawn(seed, (2, target, D_MODEL), (2, source, D_MODEL), (2, target, D_MODEL))
    at = seed % (target - 1) + 1
    changed = torch.cat([states[:, :at], other[:, at:]], dim=1)
    mask = way.causal_mask(target, target)
    one, two = decoder(states, memory, mask), decoder(changed, memory, mask)
    torch.testing.assert_close(one[:, :at], two[:, :at])
    assert not torch.allclose(one[:, at:], two[:, at:])


@each_way
@quick
@given(seed=ways.seeds, target=lengths, source=lengths)
def test_every_row_reads_the_memory(way: SimpleNamespace, seed: int, target: int, source: int) -> None:
    layer = way.DecoderLayer(D_MODEL, HEADS, D_FF).double()
    states, memory, other = _drawn(seed, (2, target, D_MODEL), (2, source, D_MODEL), (2, source, D_MODEL))
    moved = (layer(states, memory) - layer(states, other)).abs().amax(dim=-1)  # (batch, target)
    assert bool((moved > 0).all())


@each_way
def test_dropout_of_one_leaves_the_states(way: SimpleNamespace) -> None:
    layer = way.DecoderLayer(D_MODEL, HEADS, D_FF, 1.0)
    states, memory = torch.randn(2, 3, D_MODEL), torch.randn(2, 4, D_MODEL)
    assert torch.equal(layer.train()(states, memory), states)
    assert not torch.allclose(layer.eval()(states, memory), states)


@each_way
def test_dropout_falls_on_each_sub_layer_alone(way: SimpleNamespace) -> None:
    """In the mean over many draws what is added stays the same: nothing but the three outputs is dropped."""
    torch.manual_seed(0)
    layer = way.DecoderLayer(D_MODEL, HEADS, D_FF, 0.5)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():  # later sub-layers add nothing, so that means can be compared
            if name.startswith(("cross_attention.output", "feed_forward.contract")):
                parameter.zero_()
    states, memory = torch.randn(1, 2, D_MODEL), torch.randn(1, 3, D_MODEL)
    with torch.no_grad():
        added = layer.eval()(states, memory) - states
        layer.train()
        drawn = torch.stack([layer(states, memory) - states for _ in range(400)])  # (400, 1, 2, d_model)
    torch.testing.assert_close(drawn.mean(0), added, atol=0.15 * float(added.abs().max()), rtol=0)
    shares = (drawn == 0).float().mean()
    assert 0.45 < float(shares) < 0.55


@each_way
def test_a_fused_attention_gives_the_same(way: SimpleNamespace) -> None:
    torch.manual_seed(0)
    decoder = way.Decoder(2, D_MODEL, HEADS, D_FF).double()
    states, memory = _drawn(0, (2, 3, D_MODEL), (2, 5, D_MODEL))
    masks = way.causal_mask(3, 3), _padding(0, 2, 5)
    expected = decoder(states, memory, *masks)
    use_attention(decoder, fused_attention)
    torch.testing.assert_close(decoder(states, memory, *masks), expected)


@each_way
def test_layers_have_weights_of_their_own(way: SimpleNamespace) -> None:
    decoder = way.Decoder(3, D_MODEL, HEADS, D_FF)
    one = sum(p.numel() for p in way.DecoderLayer(D_MODEL, HEADS, D_FF).parameters())
    assert sum(p.numel() for p in decoder.parameters()) == 3 * one + 2 * D_MODEL


# --- the whole model -------------------------------------------------------------------------------------------


@each_way
@quick
@given(seed=ways.seeds, target=st.integers(2, 6), source=lengths)
def test_logits_depend_on_the_prefix_alone(way: SimpleNamespace, seed: int, target: int, source: int) -> None:
    model = _model(way, seed)
    x, y = _tokens(seed, 2, source, LETTERS), _tokens(seed + 1, 2, target, PHONEMES)
    mask = _padding(seed, 2, source)
    logits = model(x, y, mask)
    memory = model.encode(x, mask)
    for length in range(1, target + 1):
        prefix = model.decode(y[:, :length], memory, memory_mask=mask)
        torch.testing.assert_close(prefix, logits[:, :length])


@each_way
@quick
@given(seed=ways.seeds, letters=st.lists(st.integers(1, 5), min_size=1, max_size=4),
       said=st.lists(st.integers(1, 5), min_size=4, max_size=4))  # fmt: skip
def test_a_word_is_the_same_alone_and_in_a_batch(
    way: SimpleNamespace, seed: int, letters: list[int], said: list[int]
) -> None:
    model = _model(way, seed)
    x, y = _tokens(seed, len(letters), 5, LETTERS), _tokens(seed + 1, len(letters), 5, PHONEMES)
    for row, (n, m) in enumerate(zip(letters, said, strict=False)):
        x[row, n:], y[row, m:] = PAD, PAD
    together = model(x, y, way.padding_mask(x, PAD), way.padding_mask(y, PAD))
    for row, (n, m) in enumerate(zip(letters, said, strict=False)):
        alone = model(x[row : row + 1, :n], y[row : row + 1, :m])
        torch.testing.assert_close(together[row : row + 1, :m], alone)


@each_way
def test_the_padding_mask_of_the_target_is_joined_with_the_causal_one(way: SimpleNamespace) -> None:
    """With padding on the left the causal mask alone would let it be read."""
    model = _model(way)
    x, y = _tokens(0, 1, 4, LETTERS), _tokens(1, 1, 4, PHONEMES)
    y[0, 0] = PAD
    visible = way.padding_mask(y, PAD)
    with torch.no_grad():
        model.target_embedding.table.weight[PAD] = 0.0
        one = model(x, y, target_mask=visible)
        model.target_embedding.table.weight[PAD] = 1.0
        two = model(x, y, target_mask=visible)
        seen = model(x, y)
    vocabulary = [token for token in range(PHONEMES) if token != PAD]  # the shared table scores PAD anew
    torch.testing.assert_close(one[:, 1:, vocabulary], two[:, 1:, vocabulary])
    assert not torch.allclose(seen[:, 1:, vocabulary], two[:, 1:, vocabulary])


@each_way
def test_gradients_reach_every_parameter(way: SimpleNamespace) -> None:
    model = _model(way)
    model(_tokens(0, 2, 4, LETTERS), _tokens(1, 2, 3, PHONEMES)).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    # A softmax does not change when all its scores move alike, so a bias of the keys never matters.
    assert all(name.endswith("key.bias") for name in without), without


@each_way
def test_encode_once_and_start_are_told_to_the_parts(way: SimpleNamespace) -> None:
    seen: list[tuple] = []

    class Embedding(nn.Module):
        def forward(self, tokens: torch.Tensor, start: int = 0) -> torch.Tensor:
            seen.append(("embedding", start))
            return torch.zeros(*tokens.shape, 4)

    class Encoder(nn.Module):
        def forward(self, states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            seen.append(("encoder", mask))
            return states

    class Decoder(nn.Module):
        def forward(self, states: torch.Tensor, memory: torch.Tensor, target_mask: Any = None,
                    memory_mask: Any = None) -> torch.Tensor:  # fmt: skip
            seen.append(("decoder", target_mask, memory_mask))
            return states

    model = way.EncoderDecoder(Embedding(), Encoder(), Embedding(), Decoder(), nn.Identity())
    memory = model.encode(torch.ones(1, 3, dtype=torch.long))
    assert [name for name, *_ in seen] == ["embedding", "encoder"]
    seen.clear()
    model.decode(torch.ones(1, 2, dtype=torch.long), memory, start=5)
    assert seen[0] == ("embedding", 5)
    _, mask, memory_mask = seen[1]
    assert torch.equal(mask.expand(1, 1, 2, 7)[0, 0], torch.tensor([[True] * 6 + [False], [True] * 7]))
    assert memory_mask is None
    assert len(seen) == 2


# --- the check -------------------------------------------------------------------------------------------------


def test_a_decoder_that_peeks_loses_the_cases_that_say_so() -> None:
    answer = solutions.answer_source(solutions.read_source(LESSON), "EncoderDecoder")
    verdict = judge_source("EncoderDecoder", answer.replace("mask = mask & target_mask", "mask = target_mask"))
    wrong = [case.title for case in verdict.cases if not case.right]
    assert "forward: padding in the target only, its mask by name" in wrong
    assert "`target_mask` takes the place of the causal mask" in verdict.named
    # An unknown mistake is told by the mask that the decoder was given.
    other = answer.replace("mask = mask & target_mask", "mask = (mask & target_mask).roll(1, -1)")
    verdict = judge_source("EncoderDecoder", other)
    sentences = [case.sentence for case in verdict.cases if not case.right]
    assert not verdict.named
    assert any("The `target_mask` that reached the decoder" in sentence for sentence in sentences)


def test_a_part_called_twice_is_told() -> None:
    answer = solutions.answer_source(solutions.read_source(LESSON), "EncoderDecoder")
    once = "return self.generator(states)"
    assert once in answer
    verdict = judge_source("EncoderDecoder", answer.replace(once, f"self.generator(states)\n        {once}"))
    assert all(case.sentence == "`generator` was called 2 times, expected 1." for case in verdict.cases
               if "decode" in case.title or "forward" in case.title)  # fmt: skip
    assert verdict.cases[0].right is False
