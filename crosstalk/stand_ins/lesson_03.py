"""Stand-ins of lesson 03: embeddings, positions, and a pre-LN encoder (Vaswani et al. 2017; Xiong et al. 2020)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from crosstalk.layers import FeedForward
from crosstalk.stand_ins.lesson_02 import MultiHeadAttention


def sinusoidal_positions(length: int, d_model: int) -> torch.Tensor:
    """(length, d_model): sines in the even columns, cosines in the odd ones (Vaswani et al. 2017, section 3.5)."""
    places = torch.arange(length).float()[:, None]  # (length, 1)
    rates = 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)  # (d_model / 2,), radians per place
    angles = places * rates  # (length, d_model / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class TokenEmbedding(nn.Module):
    """Token ids as vectors times √d_model, plus the positions.

    Args:
        vocabulary: number of tokens.
        d_model: width, even.
        pad_id: the token of the padding; its vector is zero and stays so.
    """

    positions: torch.Tensor

    def __init__(self, vocabulary: int, d_model: int, pad_id: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, d_model, padding_idx=pad_id)
        with torch.no_grad():
            self.table.weight.normal_(std=d_model**-0.5)[pad_id] = 0
        self.register_buffer("positions", sinusoidal_positions(64, d_model), persistent=False)

    def forward(self, tokens: torch.Tensor, start: int = 0) -> torch.Tensor:
        """(batch, length) → (batch, length, d_model); the first token stands at position ``start``."""
        d_model, end = self.table.embedding_dim, start + tokens.size(1)
        if end > len(self.positions):
            longer = sinusoidal_positions(2 * end, d_model)
            self.positions = longer.to(self.positions)
        return self.table(tokens) * d_model**0.5 + self.positions[start:end]


class LayerNorm(nn.Module):
    """Each vector to mean 0 and variance 1, then scaled and shifted (Ba et al. 2016).

    Args:
        d_model: width of the vectors.
        eps: added to the variance, under the root.
    """

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(d_model))
        self.shift = nn.Parameter(torch.zeros(d_model))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(batch, length, d_model) → the same shape."""
        return self._normed(states.clone())  # kept for the backward pass; who called may change its own in place

    def _normed(self, states: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(states, self.scale.shape, self.scale, self.shift, self.eps)


class SharingLayerNorm(LayerNorm):
    """The same for layers that change nothing in place: it keeps what comes in itself, which takes less memory."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(batch, length, d_model) → the same shape."""
        return self._normed(states)


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward, each as x + dropout(f(norm(x))) (pre-LN).

    Args:
        d_model: width of the states.
        heads: of the self-attention.
        d_ff: width inside the feed-forward block.
        dropout: share of each sub-layer's output that is dropped in training.
    """

    def __init__(self, d_model: int, heads: int, d_ff: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention_norm = SharingLayerNorm(d_model)
        self.attention = MultiHeadAttention(d_model, heads)
        self.feed_forward_norm = SharingLayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, length, d_model), mask → (batch, length, d_model)."""
        # No name for what is added: a name would hold on to its memory.
        states = states + self.dropout(self.attention(self.attention_norm(states), mask=mask)[0])
        return states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))


class Encoder(nn.Module):
    """Layers on top of each other, and a norm at the end: from embedded tokens to the memory.

    Args:
        layers: how many.
        d_model, heads, d_ff, dropout: of each layer.
    """

    def __init__(self, layers: int, d_model: int, heads: int, d_ff: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(d_model, heads, d_ff, dropout) for _ in range(layers))
        self.norm = SharingLayerNorm(d_model)

    def forward(self, states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, source, d_model), mask → memory (batch, source, d_model)."""
        for layer in self.layers:
            states = layer(states, mask)
        return self.norm(states)
