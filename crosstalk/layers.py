"""What the lessons give ready-made: the feed-forward block, and the fused attention that makes training fast."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
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
        return self.contract(F.relu(self.expand(states)))


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


def use_attention(model: nn.Module, attention: Callable) -> None:
    """Have every multi-head attention in ``model`` use ``attention``, such as ``masked_attention``."""
    for module in model.modules():
        if hasattr(module, "heads") and callable(vars(module).get("attention")):
            vars(module)["attention"] = attention
