"""Stand-ins of lesson 02: masks, and multi-head attention (Vaswani et al. 2017, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from crosstalk.stand_ins.lesson_01 import merge_heads, split_heads


def padding_mask(tokens: torch.Tensor, pad_id: int) -> torch.Tensor:
    """(batch, keys) → bool (batch, 1, 1, keys), True where a real token may be attended."""
    return tokens.ne(pad_id)[:, None, None, :]


def causal_mask(queries: int, keys: int) -> torch.Tensor:
    """bool (queries, keys), True = may attend, aligned bottom right: the last query sees every key."""
    return torch.ones(queries, keys, dtype=torch.bool).tril(diagonal=keys - queries)


def additive_mask(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A boolean mask as numbers to add to scores: 0 where allowed, -inf where not."""
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, float("-inf"))


def masked_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention over the keys that ``mask`` allows; a row that may attend nothing gives zeros.

    Args:
        query: (…, queries, d_k)
        key: (…, keys, d_k)
        value: (…, keys, d_v)
        mask: bool, True = may attend, any shape that broadcasts to (…, queries, keys).

    Returns:
        output (…, queries, d_v) and weights (…, queries, keys).
    """
    scores = query @ key.transpose(-2, -1) / query.size(-1) ** 0.5  # (…, queries, keys)
    if mask is None:
        weights = scores.softmax(dim=-1)
    else:
        # A finite fill keeps the backward free of NaN in an empty row; the second fill empties it.
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)
        if not mask.any(dim=-1).all():  # elsewhere the hidden keys weigh exactly 0 already
            weights = weights.masked_fill(~mask, 0.0)
    return weights @ value, weights


class MultiHeadAttention(nn.Module):
    """Several attentions side by side on blocks of features, mixed by an output projection.

    Args:
        d_model: width of the states, a multiple of ``heads``.
        heads: how many.
        attention: what each head does, called as ``attention(query, key, value, mask)``.
    """

    def __init__(self, d_model: int, heads: int, attention: Callable = masked_attention) -> None:
        super().__init__()
        self.heads, self.attention = heads, attention
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.output = nn.Linear(d_model, d_model)

    def forward(
        self, states: torch.Tensor, memory: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend from ``states`` to ``memory``, or to themselves where it is None.

        Args:
            states: (batch, queries, d_model)
            memory: (batch, keys, d_model)
            mask: bool, broadcasts to (batch, heads, queries, keys).

        Returns:
            output (batch, queries, d_model) and weights (batch, heads, queries, keys).
        """
        source = states if memory is None else memory
        query = split_heads(self.query(states), self.heads)  # (batch, heads, queries, d_head)
        key = split_heads(self.key(source), self.heads)  # (batch, heads, keys, d_head)
        value = split_heads(self.value(source), self.heads)
        output, weights = self.attention(query, key, value, mask)
        return self.output(merge_heads(output)), weights
