"""Stand-ins of lesson 06: three repairs, and no diagnosis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from crosstalk.stand_ins.lesson_02 import causal_mask, padding_mask
from crosstalk.stand_ins.lesson_05 import shift_right, token_cross_entropy


def diagnoses(patient: str) -> None:
    """None for every patient: no later lesson needs a diagnosis, and this one can be imported by who still looks."""


def repaired_batch(
    sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], order: Sequence[int], pad_id: int, end_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of source and target in a new order, as two padded tensors.

    Args:
        sources, targets: ids, without end token; the n-th target belongs to the n-th source.
        order: the numbers of the pairs, in the order in which they are wanted.

    Returns:
        (batch, source), and (batch, length) with the end token after each target.
    """
    source = pad_sequence([torch.tensor(sources[i]) for i in order], batch_first=True, padding_value=pad_id)
    ended = [torch.tensor([*targets[i], end_id]) for i in order]
    return source, pad_sequence(ended, batch_first=True, padding_value=pad_id)


def repaired_mask(inputs: torch.Tensor, pad_id: int) -> torch.Tensor:
    """(batch, length) → bool (batch, 1, length, length), True = may attend: neither later tokens nor padding."""
    length = inputs.size(1)
    return causal_mask(length, length).to(inputs.device) & padding_mask(inputs, pad_id)


def repaired_train_step(
    model: nn.Module,
    source: torch.Tensor,
    target: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    pad_id: int,
    start_id: int,
) -> tuple[float, float]:
    """One step of teacher forcing; gives loss and share of right tokens, both over real tokens and before the step.

    Args:
        model: called as ``model(source, inputs, source_mask)``, gives logits (batch, length, vocabulary).
        source: (batch, source)
        target: (batch, length), each row ending with the end token, then padding.
    """
    logits = model(source, shift_right(target, start_id), padding_mask(source, pad_id))
    loss = token_cross_entropy(logits, target, pad_id)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    real = target != pad_id
    right = (logits.argmax(dim=-1) == target)[real].float().mean()
    return loss.item(), right.item()
