"""What the lessons give ready-made: the feed-forward block, and attentions that keep no weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class FeedForward(nn.Module):
    """The position-wise feed-forward block: two linear maps with a ReLU between (Vaswani et al. 2017, section 3.3).

    Args:
        d_model: width of the states.
        d_ff: width between the two maps.
    """

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.expand = nn.Linear(d_model, d_ff)
        self.contract = nn.Linear(d_ff, d_model)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(batch, length, d_model) → (batch, length, d_model), each place on its own."""
        expand, contract = self.expand, self.contract
        return _FeedForward.apply(states, expand.weight, expand.bias, contract.weight, contract.bias)


class _FeedForward(torch.autograd.Function):
    """contract(relu(expand(states))). Kept for the backward pass: the states, and the wide ones between the maps.

    Left to itself, autocast would keep a rounded copy of each matrix too, and the way back through ReLU would take
    twice the room.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        expand: torch.Tensor,
        expand_bias: torch.Tensor,
        contract: torch.Tensor,
        contract_bias: torch.Tensor,
    ) -> torch.Tensor:
        wide = F.linear(states, expand, expand_bias).relu_()  # (…, d_ff)
        ctx.save_for_backward(states, expand, contract, wide)
        # Not F.linear, which gives a view: nobody could change that in place, as dropout may.
        return (wide @ contract.T).add_(contract_bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        states, expand, contract, wide = ctx.saved_tensors
        rows, wide = gradient.reshape(-1, gradient.size(-1)), wide.reshape(-1, wide.size(-1))  # (rows, …)
        of_contract = rows.T @ wide
        of_wide = rows @ contract.to(rows.dtype)
        # Zero where ReLU gave 0: in place, and much faster than by a mask.
        torch.ops.aten.threshold_backward.grad_input(of_wide, wide, 0, grad_input=of_wide)
        of_states = (of_wide @ expand.to(rows.dtype)).view(states.shape)
        of_expand = of_wide.T @ states.reshape(-1, states.size(-1)).to(rows.dtype)
        return of_states, of_expand, of_wide.sum(0), of_contract, rows.sum(0)


def fused_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, None]:
    """PyTorch's fused attention, called as ``masked_attention`` is; it never holds the weights, so gives None for them.

    Args:
        query: (…, queries, d_k)
        key: (…, keys, d_k)
        value: (…, keys, d_v)
        mask: bool, True = may attend, broadcasts to (…, queries, keys).

    Returns:
        output (…, queries, d_v), and None.
    """
    if mask is not None and mask.dim() == 1:  # over keys alone, which PyTorch's function does not take
        mask = mask[None]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask), None


def lean_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, None]:
    """Attention whose backward pass computes the weights again, so that nothing of size queries · keys is kept.

    Called as ``masked_attention`` is, with query, key and value of one batch size; it gives None for the weights. The
    idea is that of Rabe & Staats (2021) and Dao et al. (2022); on a CPU and on short sequences this is faster than
    PyTorch's fused attention (benchmarks/training_speed.py).
    """
    if mask is None:
        mask = torch.ones(1, dtype=torch.bool, device=query.device)
    return _LeanAttention.apply(query, key, value, mask), None


_LOWEST = torch.finfo(torch.float32).min


class _LeanAttention(torch.autograd.Function):
    """Kept for the backward pass: what comes in, and for each row of weights the logarithm of what divided it.

    Softmax is spelt out, in float32: on rows shorter than 16 numbers PyTorch's takes two to three times as long.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()  # else each product copies them
        weights = _scores(query, key, mask)
        highest = weights.amax(dim=-1, keepdim=True)
        total = weights.sub_(highest).exp_().sum(dim=-1, keepdim=True)
        total.masked_fill_(highest <= _LOWEST, torch.inf)  # a row that may attend nothing is 0
        ctx.save_for_backward(query, key, value, mask, highest + total.log())
        return weights.div_(total).to(value.dtype) @ value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, mask, divided_by = ctx.saved_tensors
        gradient = gradient.contiguous()
        weights = _scores(query, key, mask).sub_(divided_by).exp_()
        of_scores = (gradient @ value.mT).to(weights.dtype)  # first of the weights, then through softmax and scale
        of_scores -= (of_scores * weights).sum(dim=-1, keepdim=True)
        of_scores *= weights
        of_scores *= query.size(-1) ** -0.5
        of_scores, weights = of_scores.to(query.dtype), weights.to(query.dtype)
        return of_scores @ key, of_scores.mT @ query, weights.mT @ gradient, None


def _scores(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(…, queries, keys), in float32 at least; the lowest number where ``mask`` hides a key."""
    return torch.add(torch.where(mask, 0.0, _LOWEST), query @ key.mT, alpha=query.size(-1) ** -0.5)


def use_attention(model: nn.Module, attention: Callable) -> None:
    """Have every multi-head attention in ``model`` use ``attention``, such as ``masked_attention``."""
    for module in model.modules():
        if hasattr(module, "heads") and callable(vars(module).get("attention")):
            vars(module)["attention"] = attention
