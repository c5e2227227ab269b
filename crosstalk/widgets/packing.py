"""Tensors on their way to the browser: raw bytes, never JSON, which has no NaN and no infinity."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def pack(**arrays: Tensor) -> tuple[dict[str, dict[str, Any]], bytes]:
    """Lay tensors one behind the other as little-endian float32.

    Returns:
        the layout, ``{name: {"start": first number, "shape": [...]}}``, and the bytes.
    """
    layout: dict[str, dict[str, Any]] = {}
    pieces: list[bytes] = []
    start = 0
    for name, array in arrays.items():
        layout[name] = {"start": start, "shape": list(array.shape)}
        pieces.append(array.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4").tobytes())
        start += array.numel()
    return layout, b"".join(pieces)


def weights_to_bytes(weights: Tensor) -> bytes:
    """Attention weights as one byte each, ``round(255·√w)``; the root keeps small weights apart.

    Weights outside 0 … 1 are clipped and NaN becomes 0; :func:`nan_bits` says where NaN was.
    """
    clean = weights.detach().to("cpu", torch.float32).nan_to_num(nan=0.0).clamp(0, 1)
    return clean.sqrt().mul(255).round().to(torch.uint8).contiguous().numpy().tobytes()


def nan_bits(weights: Tensor) -> bytes:
    """One bit per weight, 1 where it is NaN, the first weight in the highest bit; empty if none is NaN."""
    missing = torch.isnan(weights.detach().cpu())
    return np.packbits(missing.contiguous().numpy().ravel()).tobytes() if bool(missing.any()) else b""
