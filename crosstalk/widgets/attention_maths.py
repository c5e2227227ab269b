"""The reference arithmetic that the attention widgets draw."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def masked_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax over the keys; hidden keys get 0, and a row that may attend to nothing is all zeros.

    Args:
        scores: (…, queries, keys)
        mask: bool, broadcastable to ``scores``, True = may attend; None hides nothing.
    """
    if mask is None:
        return torch.softmax(scores, dim=-1)
    empty = ~mask.any(dim=-1, keepdim=True)
    # An empty row is softmaxed over all keys first and zeroed afterwards, so that no 0/0 ever arises.
    weights = torch.softmax(scores.masked_fill(~mask & ~empty, -math.inf), dim=-1)
    return weights.masked_fill(~mask, 0.0)


def row_entropy(weights: Tensor) -> Tensor:
    """Entropy of each row in nats, (…, queries, keys) → (…, queries); NaN rows stay NaN."""
    return -torch.xlogy(weights, weights).sum(dim=-1)


def softmax_gradient(weights: Tensor) -> Tensor:
    """How much a row of weights moves when its scores do: ‖diag(p) − p pᵀ‖ (Frobenius), per row.

    diag(p) − p pᵀ is the Jacobian of the softmax. It is 0 for a row that puts all its weight on one key:
    no gradient gets through.

    Args:
        weights: (…, queries, keys)

    Returns:
        (…, queries)
    """
    squares = weights.square()
    # ‖J‖² = Σᵢ (pᵢ − pᵢ²)² + Σ_{i≠j} pᵢ² pⱼ² = Σ pᵢ² − 2 Σ pᵢ³ + (Σ pᵢ²)²
    total = squares.sum(-1)
    return (total - 2 * (squares * weights).sum(-1) + total.square()).clamp_min(0).sqrt()


def four_dimensional(tensor: Tensor, what: str) -> Tensor:
    """(heads, length, d) or (batch, heads, length, d) → (batch, heads, length, d)."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{what} must be a tensor, not {type(tensor).__name__}.")
    if tensor.dim() not in (3, 4):
        raise ValueError(
            f"{what} must have shape (heads, length, d) or (batch, heads, length, d), not {tuple(tensor.shape)}."
        )
    tensor = tensor.detach().to("cpu")
    return tensor if tensor.dim() == 4 else tensor[None]


def checked_inputs(query: Tensor, key: Tensor, value: Tensor, largest: int) -> tuple[Tensor, Tensor, Tensor]:
    """The three inputs of an attention, four-dimensional, their shapes checked against each other."""
    query, key, value = (four_dimensional(t, n) for t, n in ((query, "query"), (key, "key"), (value, "value")))
    if query.shape[:2] != key.shape[:2] or key.shape[:3] != value.shape[:3] or query.shape[3] != key.shape[3]:
        raise ValueError(
            "query, key and value do not fit: "
            f"{tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}. "
            "Batch and heads must agree, key and value must be equally long, query and key equally wide."
        )
    if max(query.shape[2], key.shape[2]) > largest:
        raise ValueError(
            f"This widget draws at most {largest} queries and keys: pass a part, such as query[..., :{largest}, :]."
        )
    return query, key, value


def token_names(tokens: list[str] | None, count: int, what: str) -> list[str]:
    """Labels for ``count`` positions: the tokens given, else 0, 1, 2 …"""
    if tokens is None:
        return [str(i) for i in range(count)]
    names = [str(t) for t in tokens]
    if len(names) != count:
        raise ValueError(f"{what} has {len(names)} entries, but there are {count} positions.")
    return names
