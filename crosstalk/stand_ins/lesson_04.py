"""Stand-ins of lesson 04: cross-attention, the decoder, and the whole model (Vaswani et al. 2017, section 3)."""

from __future__ import annotations

import torch
from torch import nn

from crosstalk.layers import FeedForward
from crosstalk.stand_ins.lesson_01 import merge_heads, split_heads
from crosstalk.stand_ins.lesson_02 import MultiHeadAttention, causal_mask
from crosstalk.stand_ins.lesson_03 import SharingLayerNorm


def project_memory(attention: MultiHeadAttention, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of the memory, made once for all decoding steps.

    Args:
        attention: the cross-attention of one layer.
        memory: (batch, source, d_model)

    Returns:
        keys and values, each (batch, heads, source, d_head).
    """
    return (
        split_heads(attention.key(memory), attention.heads),
        split_heads(attention.value(memory), attention.heads),
    )


def cross_attention(
    attention: MultiHeadAttention,
    states: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    memory_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attend from the decoder's states to the memory's keys and values.

    Args:
        attention: the cross-attention of one layer.
        states: (batch, target, d_model)
        keys, values: (batch, heads, source, d_head), from `project_memory`.
        memory_mask: bool, broadcasts to (batch, heads, target, source).

    Returns:
        output (batch, target, d_model) and weights (batch, heads, target, source).
    """
    query = split_heads(attention.query(states), attention.heads)  # (batch, heads, target, d_head)
    output, weights = attention.attention(query, keys, values, memory_mask)
    return attention.output(merge_heads(output)), weights


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention to the memory, feed-forward, each as x + dropout(f(norm(x))) (pre-LN).

    Args:
        d_model: width of the states.
        heads: of both attentions.
        d_ff: width inside the feed-forward block.
        dropout: share of each sub-layer's output that is dropped in training.
    """

    def __init__(self, d_model: int, heads: int, d_ff: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.self_attention_norm = SharingLayerNorm(d_model)
        self.self_attention = MultiHeadAttention(d_model, heads)
        self.cross_attention_norm = SharingLayerNorm(d_model)
        self.cross_attention = MultiHeadAttention(d_model, heads)
        self.feed_forward_norm = SharingLayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        states: torch.Tensor,
        memory: torch.Tensor,
        target_mask: torch.Tensor | None = None,
        memory_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One layer; it makes nothing causal by itself.

        Args:
            states: (batch, target, d_model)
            memory: (batch, source, d_model), normed by the encoder.
            target_mask: bool, broadcasts to (batch, heads, target, target).
            memory_mask: bool, broadcasts to (batch, heads, target, source).

        Returns:
            (batch, target, d_model)
        """
        # No names for what is added: they would hold on to its memory.
        states = states + self.dropout(self.self_attention(self.self_attention_norm(states), mask=target_mask)[0])
        states = states + self.dropout(self.cross_attention(self.cross_attention_norm(states), memory, memory_mask)[0])
        return states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))


class Decoder(nn.Module):
    """Decoder layers on top of each other, and a norm at the end.

    Args:
        layers: how many.
        d_model, heads, d_ff, dropout: of each layer.
    """

    def __init__(self, layers: int, d_model: int, heads: int, d_ff: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(d_model, heads, d_ff, dropout) for _ in range(layers))
        self.norm = SharingLayerNorm(d_model)

    def forward(
        self,
        states: torch.Tensor,
        memory: torch.Tensor,
        target_mask: torch.Tensor | None = None,
        memory_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(batch, target, d_model) and (batch, source, d_model), masks → (batch, target, d_model)."""
        for layer in self.layers:
            states = layer(states, memory, target_mask, memory_mask)
        return self.norm(states)


class EncoderDecoder(nn.Module):
    """The whole model, made of five modules that are handed in.

    Args:
        source_embedding: source tokens → states; for speech and vision it will be something else.
        encoder: states → memory.
        target_embedding: target tokens → states.
        decoder: states and memory → states.
        generator: states → logits, a Linear, which may share the target table's weight.
    """

    def __init__(
        self,
        source_embedding: nn.Module,
        encoder: nn.Module,
        target_embedding: nn.Module,
        decoder: nn.Module,
        generator: nn.Module,
    ) -> None:
        super().__init__()
        self.source_embedding = source_embedding
        self.encoder = encoder
        self.target_embedding = target_embedding
        self.decoder = decoder
        self.generator = generator

    def encode(self, source: torch.Tensor, source_mask: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, source), mask (broadcasts to (batch, heads, source, source)) → memory (batch, source, d_model)."""
        return self.encoder(self.source_embedding(source), source_mask)

    def decode(
        self,
        target: torch.Tensor,
        memory: torch.Tensor,
        target_mask: torch.Tensor | None = None,
        memory_mask: torch.Tensor | None = None,
        start: int = 0,
    ) -> torch.Tensor:
        """Logits of the next token at each place; always causal.

        Args:
            target: (batch, length), the tokens at positions ``start`` to ``start + length``.
            memory: (batch, source, d_model)
            target_mask: bool over all ``start + length`` keys, broadcasts to (batch, heads, length, start + length).
            memory_mask: bool, broadcasts to (batch, heads, length, source).

        Returns:
            (batch, length, vocabulary)
        """
        length = target.size(1)
        causal = causal_mask(length, start + length).to(target.device)  # (length, start + length)
        mask = causal if target_mask is None else causal & target_mask
        states = self.decoder(self.target_embedding(target, start), memory, mask, memory_mask)
        return self.generator(states)

    def forward(
        self,
        source: torch.Tensor,
        target: torch.Tensor,
        source_mask: torch.Tensor | None = None,
        target_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(batch, source), (batch, target) → logits (batch, target, vocabulary).

        ``source_mask`` masks the source for the encoder and for the cross-attention.
        """
        return self.decode(target, self.encode(source, source_mask), target_mask, source_mask)
