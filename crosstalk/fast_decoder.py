"""The decoder's weights, taken out of their modules and packed, for decoding whole batches fast.

The same numbers as `EncoderDecoder.decode` with a cache gives, in fewer and larger operations: at the lessons' size
most of the time of a step goes into starting operations and calling modules. To compare: benchmarks/generate_speed.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from crosstalk.stand_ins.lesson_04 import EncoderDecoder

FIRST_ROOM = 16  # places; doubled when full


@dataclass
class _Layer:
    """Weights of one layer, and what it remembers."""

    heads: int
    self_norm: Any
    packed: Any  # query (scaled), keys and values in one
    self_output: Any
    cross_norm: Any
    query: Any  # scaled
    cross_output: Any
    feed_forward_norm: Any
    expand: Any
    contract: Any
    keys: torch.Tensor  # (batch, heads, source, d_head), of the memory
    values: torch.Tensor
    room: torch.Tensor  # (batch, 2, heads, places, d_head): keys, then values


class FastDecoder:
    """Decodes one token of each row at a time.

    Args:
        model: an EncoderDecoder with the parameter names of the course, in evaluation mode.
        memory: (batch, source, d_model)
        memory_mask: bool (batch, 1, 1, source), or None.
        beams: rows for each row of the memory.
    """

    def __init__(
        self, model: EncoderDecoder, memory: torch.Tensor, memory_mask: torch.Tensor | None = None, beams: int = 1
    ) -> None:
        self.model, self.length = model, 0
        if memory_mask is not None:
            hidden = ~memory_mask.expand(len(memory), 1, 1, -1).repeat_interleave(beams, dim=0)
            memory_mask = torch.zeros(hidden.shape, dtype=memory.dtype, device=memory.device)
            memory_mask = memory_mask.masked_fill(hidden, float("-inf")) if hidden.any() else None
        self.mask = memory_mask  # added to the scores
        self.layers = [_layer(layer, memory, beams) for layer in model.decoder.layers]  # type: ignore[union-attr]
        self.norm = _norm(model.decoder.norm)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """The newest token of each row (batch,) → logits of the next one (batch, vocabulary)."""
        states = self.model.target_embedding(tokens[:, None], self.length)[:, 0]  # (batch, d_model)
        batch, place, end = len(states), self.length, self.length + 1
        for layer in self.layers:
            heads, rows = layer.heads, (batch, -1)
            packed = F.linear(_normed(states, layer.self_norm), *layer.packed).view(batch, 3, heads, -1)
            if end > layer.room.size(3):
                layer.room = F.pad(layer.room, (0, 0, 0, layer.room.size(3)))
            layer.room[:, :, :, place] = packed[:, 1:]
            seen = layer.room[:, :, :, :end]  # (batch, 2, heads, end, d_head)
            read = F.scaled_dot_product_attention(packed[:, 0, :, None], seen[:, 0], seen[:, 1], scale=1.0)
            states = states + F.linear(read.reshape(rows), *layer.self_output)
            query = F.linear(_normed(states, layer.cross_norm), *layer.query).view(batch, heads, 1, -1)
            read = F.scaled_dot_product_attention(query, layer.keys, layer.values, self.mask, scale=1.0)
            states = states + F.linear(read.reshape(rows), *layer.cross_output)
            inner = F.linear(_normed(states, layer.feed_forward_norm), *layer.expand).relu_()
            states = states + F.linear(inner, *layer.contract)
        self.length = end
        return self.model.generator(_normed(states, self.norm))

    def select(self, rows: torch.Tensor) -> None:
        """Have row i go on from what row ``rows[i]`` remembers. The memory stays: rows move among beams of one word."""
        for layer in self.layers:
            layer.room = layer.room.index_select(0, rows)


def _layer(layer: Any, memory: torch.Tensor, beams: int) -> _Layer:
    own, cross = layer.self_attention, layer.cross_attention
    heads, batch, d_head = own.heads, len(memory) * beams, memory.size(-1) // own.heads
    scale = d_head**-0.5
    packed = [torch.cat(parts) for parts in zip(*(
        _linear(own.query, scale), _linear(own.key), _linear(own.value)), strict=True)]  # fmt: skip

    def split(states: torch.Tensor) -> torch.Tensor:
        """(batch, source, d_model) → (batch · beams, heads, source, d_head)."""
        return states.unflatten(-1, (heads, d_head)).transpose(1, 2).repeat_interleave(beams, dim=0)

    return _Layer(
        heads,
        _norm(layer.self_attention_norm),
        packed,
        _linear(own.output),
        _norm(layer.cross_attention_norm),
        _linear(cross.query, scale),
        _linear(cross.output),
        _norm(layer.feed_forward_norm),
        _linear(layer.feed_forward.expand),
        _linear(layer.feed_forward.contract),
        split(cross.key(memory)),
        split(cross.value(memory)),
        memory.new_empty(batch, 2, heads, FIRST_ROOM, d_head),
    )


def _linear(module: Any, scale: float | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    weight, bias = module.weight.detach(), module.bias.detach()
    return (weight, bias) if scale is None else (weight * scale, bias * scale)


def _norm(module: Any) -> tuple[torch.Tensor, torch.Tensor, float]:
    return module.scale.detach(), module.shift.detach(), getattr(module, "eps", 1e-5)


def _normed(states: torch.Tensor, norm: tuple[torch.Tensor, torch.Tensor, float]) -> torch.Tensor:
    scale, shift, eps = norm
    return F.layer_norm(states, scale.shape, scale, shift, eps)
