"""The training steps that are compared: teacher forcing, and scheduled sampling with two passes of the decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from crosstalk.stand_ins.lesson_02 import padding_mask
from crosstalk.stand_ins.lesson_05 import shift_right, token_cross_entropy
from crosstalk.stand_ins.lesson_09 import scheduled_sampling


class SampledStep:
    """A `train_step` whose decoder reads a growing share of the model's own tokens (Mihaylova and Martins 2019).

    The encoder runs once. A first pass of the decoder reads the gold tokens and makes the predictions, without
    gradient; the second reads the mixture, and its loss against the gold tokens is learnt from.

    Args:
        steps: after which the share has reached ``share``; it rises in a straight line from 0.
        share: of the inputs that are the model's, at the end. The ε of Bengio et al. 2015 is 1 less this.
        seed: of the draws, which have a generator of their own.
        mix: the `scheduled_sampling` to use.
    """

    def __init__(self, steps: int, share: float, seed: int = 0, mix: Callable = scheduled_sampling) -> None:
        self.steps, self.share, self.mix = steps, share, mix
        self.done = 0
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(
        self,
        model: Any,
        source: torch.Tensor,
        target: torch.Tensor,
        optimizer: torch.optim.Optimizer,
        pad_id: int,
        start_id: int,
    ) -> float:
        """One step, as `crosstalk.training.train` calls it; gives the loss on the mixed inputs."""
        share = self.share * min(1.0, self.done / self.steps)
        self.done += 1
        mask = padding_mask(source, pad_id)
        gold = shift_right(target, start_id)  # (batch, length)
        memory = model.encode(source, mask)
        with torch.no_grad():
            predictions = model.decode(gold, memory, memory_mask=mask).argmax(dim=-1)  # (batch, length)
        use_model = (torch.rand(gold.shape, generator=self.generator) < share).to(gold.device)  # one coin a token
        inputs = self.mix(gold, predictions, use_model, start_id, pad_id)
        loss = token_cross_entropy(model.decode(inputs, memory, memory_mask=mask), target, pad_id)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()
