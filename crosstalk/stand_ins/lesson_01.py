"""Stand-ins of lesson 01: attention (Vaswani et al. 2017, section 3.2)."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def softmax(scores: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """Probabilities along ``dim``, of the same shape as ``scores``."""
    return F.softmax(scores, dim=dim).clone()  # what PyTorch keeps for the backward pass may be nobody else's


def scaled_dot_product_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(Q Kᵀ / √d_k) V.

    Args:
        query: (…, queries, d_k)
        key: (…, keys, d_k)
        value: (…, keys, d_v)

    Returns:
        output (…, queries, d_v) and weights (…, queries, keys).
    """
    scores = query @ key.transpose(-2, -1) / query.size(-1) ** 0.5  # (…, queries, keys)
    weights = F.softmax(scores, dim=-1)
    return weights @ value, weights


def split_heads(states: torch.Tensor, heads: int) -> torch.Tensor:
    """(batch, length, d_model) → (batch, heads, length, d_head): head h has the h-th block of features."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(states: torch.Tensor) -> torch.Tensor:
    """(batch, heads, length, d_head) → (batch, length, d_model), the inverse of `split_heads`."""
    return states.transpose(1, 2).flatten(-2)
