"""Random inputs for cases: the same for the same seed on every machine, and short enough to be read."""

from __future__ import annotations

import hashlib

import torch


class Draw:
    """Draws from one seed. Numbers have two decimals, so that a failing case can be copied into a cell."""

    def __init__(self, seed: str) -> None:
        self.generator = torch.Generator().manual_seed(
            int.from_bytes(hashlib.sha256(seed.encode()).digest()[:7], "big")
        )

    def normal(self, *shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Normal numbers of standard deviation ``scale``."""
        numbers = torch.randn(shape, generator=self.generator, dtype=torch.float64) * scale
        return numbers.round(decimals=2).to(dtype)

    def integers(self, low: int, high: int, *shape: int) -> torch.Tensor:
        """Integers from ``low`` up to, but without, ``high``."""
        return torch.randint(low, high, shape, generator=self.generator)

    def padded(self, lengths: list[int], low: int, high: int, pad_id: int, width: int | None = None) -> torch.Tensor:
        """A ragged batch of token ids: rows of these lengths, ``pad_id`` after them.  # (batch, length)"""
        tokens = torch.full((len(lengths), width or max(lengths)), pad_id)
        for row, length in zip(tokens, lengths, strict=True):
            row[:length] = self.integers(low, high, length)
        return tokens

    def mask(self, *shape: int, share: float = 0.6) -> torch.Tensor:
        """A boolean mask in which about ``share`` are True, and at least one in every row."""
        allowed = torch.rand(shape, generator=self.generator) < share
        keep = self.integers(0, shape[-1], *shape[:-1], 1)
        return allowed.scatter(-1, keep, True)

    def weights(self, **shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
        """Weights by name (``query__weight`` stands for ``query.weight``), of a size that saturates nothing."""
        return {
            name.replace("__", "."): self.normal(*shape, scale=shape[-1] ** -0.5 if len(shape) > 1 else 0.3)
            for name, shape in shapes.items()
        }
