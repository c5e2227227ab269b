"""Encoder memory and decoder states equal those of ``torch.nn.Transformer`` with the same weights.

Both are made pre-LN, batch first, with ReLU and without dropout. Compared are the real places, forward and
gradients. A row that is padding throughout stays in our batch, and is left out of PyTorch's, where it gives NaN.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from solved_pieces import solved_pieces
from torch import nn

from crosstalk import my_model
from crosstalk.torch_weights import (
    decoder_names,
    decoder_weights,
    encoder_names,
    encoder_weights,
    pre_ln_transformer,
    transformer_weights,
)

NAMES = ["Encoder", "Decoder", "causal_mask"]
WAYS = {
    "stand-in": SimpleNamespace(**{name: my_model.stand_in(name) for name in NAMES}),
    "solution": solved_pieces(4),
}
pytestmark = pytest.mark.filterwarnings("error")
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
each_precision = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])

D_MODEL, HEADS, D_FF, LAYERS = 16, 4, 24, 2

# Source lengths, target lengths; the batch is as wide as the longest, or as 7 and 5. 0: padding throughout.
BATCHES = {
    "no padding": ([7, 7, 7], [5, 5, 5]),
    "padding in the source only": ([7, 3, 1], [5, 5, 5]),
    "padding in the target only": ([7, 7, 7], [5, 1, 3]),
    "padding in both": ([2, 7, 4], [5, 3, 1]),
    "a batch of one": ([6], [4]),
    "a target of length one": ([7, 2], [1, 1]),
    "source and target of one length": ([5, 3], [3, 5]),
    "a row that is padding throughout": ([7, 0, 4], [5, 0, 2]),
}


def _real(lengths: list[int]) -> torch.Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]  # (batch, length)


def _states(lengths: list[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(len(lengths), max(lengths), D_MODEL, dtype=dtype, requires_grad=True)


def _transformer(dtype: torch.dtype) -> nn.Transformer:
    theirs = pre_ln_transformer(LAYERS, D_MODEL, HEADS, D_FF).to(dtype)
    with torch.no_grad():
        for parameter in theirs.parameters():  # biases start at 0 and norms at 1: either could go astray unseen
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return theirs


def _ours(way: SimpleNamespace, theirs: nn.Transformer, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    encoder = way.Encoder(LAYERS, D_MODEL, HEADS, D_FF).to(dtype)
    decoder = way.Decoder(LAYERS, D_MODEL, HEADS, D_FF).to(dtype)
    encoder.load_state_dict(encoder_weights(theirs.encoder))
    decoder.load_state_dict(decoder_weights(theirs.decoder))
    return encoder, decoder


def _weighted(memory: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """One number that depends on each place differently."""
    return sum((t * torch.cos(torch.arange(t.numel(), dtype=t.dtype)).view(t.shape)).sum() for t in (memory, states))  # type: ignore[return-value]


def _gap(mine: torch.Tensor, other: torch.Tensor) -> float:
    assert mine.shape == other.shape
    return (mine - other).abs().max().item()


@each_way
@each_precision
@pytest.mark.parametrize(("source_lengths", "target_lengths"), BATCHES.values(), ids=list(BATCHES))
def test_memory_states_and_gradients_equal_torch(
    way: SimpleNamespace,
    dtype: torch.dtype,
    tolerance: float,
    source_lengths: list[int],
    target_lengths: list[int],
) -> None:
    torch.manual_seed(0)
    theirs = _transformer(dtype)
    encoder, decoder = _ours(way, theirs, dtype)
    source, target = _states(source_lengths, dtype), _states(target_lengths, dtype)
    real_source, real_target = _real(source_lengths), _real(target_lengths)
    source_mask = real_source[:, None, None, :]  # (batch, 1, 1, source)
    length = target.size(1)
    target_mask = way.causal_mask(length, length) & real_target[:, None, None, :]  # (batch, 1, target, target)

    memory = encoder(source, source_mask)  # (batch, source, d_model)
    states = decoder(target, memory, target_mask, source_mask)  # (batch, target, d_model)
    _weighted(memory[real_source], states[real_target]).backward()

    rows = real_source.any(1) & real_target.any(1)
    their_source, their_target = (t.detach()[rows].requires_grad_() for t in (source, target))
    blocked_source, blocked_target = ~real_source[rows], ~real_target[rows]
    their_memory = theirs.encoder(their_source, src_key_padding_mask=blocked_source)
    their_states = theirs.decoder(
        their_target,
        their_memory,
        tgt_mask=~way.causal_mask(length, length),
        tgt_key_padding_mask=blocked_target,
        memory_key_padding_mask=blocked_source,
    )
    _weighted(their_memory[~blocked_source], their_states[~blocked_target]).backward()

    assert _gap(memory[rows][~blocked_source], their_memory[~blocked_source]) < tolerance
    assert _gap(states[rows][~blocked_target], their_states[~blocked_target]) < tolerance
    for mine, other in ((source, their_source), (target, their_target)):
        assert mine.grad is not None and other.grad is not None
        assert bool(mine.grad.isfinite().all())
        assert _gap(mine.grad[rows], other.grad) < tolerance
    for module, stack, renamed in (
        (encoder, theirs.encoder, encoder_names),
        (decoder, theirs.decoder, decoder_names),
    ):
        expected = renamed({name: p.grad for name, p in stack.named_parameters() if p.grad is not None})
        mine_by_name = {name: p.grad for name, p in module.named_parameters()}
        assert expected.keys() == mine_by_name.keys()
        for name, gradient in expected.items():
            found = mine_by_name[name]
            assert found is not None, name
            assert _gap(found, gradient) < tolerance, name


@each_way
@each_precision
def test_without_masks(way: SimpleNamespace, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(1)
    theirs = _transformer(dtype)
    encoder, decoder = _ours(way, theirs, dtype)
    source, target = _states([6, 6], dtype), _states([4, 4], dtype)
    assert _gap(decoder(target, encoder(source)), theirs(source, target)) < tolerance


def test_transformer_weights_are_those_of_both_stacks() -> None:
    theirs = _transformer(torch.float32)
    both = transformer_weights(theirs)
    assert sum(weight.numel() for weight in both.values()) == sum(p.numel() for p in theirs.parameters())
    assert {name.split(".")[0] for name in both} == {"encoder", "decoder"}
    before = theirs.encoder.layers[0].linear1.weight.detach().clone()  # type: ignore[union-attr]
    both["encoder.layers.0.feed_forward.expand.weight"].zero_()
    assert torch.equal(theirs.encoder.layers[0].linear1.weight, before)  # type: ignore[arg-type, union-attr]


def test_weights_that_mean_something_else_are_refused() -> None:
    post = nn.Transformer(8, 2, 1, 1, 8, batch_first=True)
    with pytest.raises(ValueError, match="norm_first=True"):
        transformer_weights(post)
    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True, norm_first=True)
    with pytest.raises(ValueError, match="norm at the end"):
        encoder_weights(nn.TransformerEncoder(layer, 1, enable_nested_tensor=False))
