"""Stand-ins of lesson 05: teacher forcing, its losses, one training step, and a first decoded word."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from crosstalk.stand_ins.lesson_02 import padding_mask
from crosstalk.stand_ins.lesson_04 import EncoderDecoder


def shift_right(target: torch.Tensor, start_id: int) -> torch.Tensor:
    """(batch, length) → the decoder's inputs, (batch, length): the start token, then all but the last token."""
    return F.pad(target[:, :-1], (1, 0), value=start_id)


def token_cross_entropy(logits: torch.Tensor, target: torch.Tensor, pad_id: int) -> torch.Tensor:
    """Mean of -log p(right token) over the tokens that are not padding, in nats.

    Args:
        logits: (batch, length, vocabulary)
        target: (batch, length), not all padding.
        pad_id: the token that does not count.
    """
    return F.cross_entropy(logits.transpose(1, 2), target, ignore_index=pad_id)


def label_smoothing_loss(logits: torch.Tensor, target: torch.Tensor, pad_id: int, smoothing: float) -> torch.Tensor:
    """Cross-entropy against (1 - ε)·one-hot + ε/V, over real tokens (Szegedy et al. 2016, section 7).

    Args:
        logits: (batch, length, vocabulary)
        target: (batch, length), not all padding.
        pad_id: the token that does not count.
        smoothing: ε, shared out over all V classes, the true one included.
    """
    return F.cross_entropy(logits.transpose(1, 2), target, ignore_index=pad_id, label_smoothing=smoothing)


def train_step(
    model: nn.Module,
    source: torch.Tensor,
    target: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    pad_id: int,
    start_id: int,
) -> float:
    """One step of teacher forcing; gives the loss before the step.

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
    return loss.item()


def edit_distance(a: Sequence, b: Sequence) -> int:
    """Fewest insertions, deletions and substitutions that turn ``a`` into ``b`` (Levenshtein 1966)."""
    row = list(range(len(b) + 1))  # from the empty start of a to each start of b
    for i, one in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (one != other))
    return row[-1]


def greedy_word(model: EncoderDecoder, source: torch.Tensor, start_id: int, end_id: int, max_length: int) -> list[int]:
    """The likeliest token, again and again, until the end token or ``max_length`` generated tokens.

    Args:
        model: in evaluation mode.
        source: (1, source), one word without padding.

    Returns:
        the generated ids, with the end token if it came.
    """
    memory = model.encode(source)
    ids = [start_id]
    while len(ids) <= max_length and (ids[-1] != end_id or len(ids) == 1):
        logits = model.decode(torch.tensor([ids], device=source.device), memory)  # (1, length, vocabulary)
        ids.append(int(logits[0, -1].argmax()))
    return ids[1:]
