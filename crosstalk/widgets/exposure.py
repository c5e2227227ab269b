"""A model given the right tokens, and one left to its own, with and without a wrong token put in."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crosstalk.caching import caching
from crosstalk.data.cmudict import END, PAD, PHONEMES, SPECIAL, START, letters_to_ids
from crosstalk.data.word_batches import pad_rows
from crosstalk.stand_ins.lesson_02 import padding_mask
from crosstalk.widgets.interventions import aligned, evaluating, one_thread

MOST_STEPS = 32  # tokens generated, the end token included
AFTER = 5  # distances behind the wrong token that are measured
_Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class Lane:
    """What a model said for a batch of words.

    Args:
        tokens: (batch, steps), the wrong token where one was put in, padding behind the end.
        probabilities: (batch, steps), what the model gave each of these tokens.
    """

    tokens: Tensor
    probabilities: Tensor

    def row(self, index: int = 0) -> tuple[list[int], list[float]]:
        """One word without the padding at its end: tokens and probabilities."""
        length = max((place + 1 for place, token in enumerate(self.tokens[index].tolist()) if token != PAD), default=0)
        return self.tokens[index, :length].tolist(), self.probabilities[index, :length].tolist()


@dataclass(frozen=True)
class Wrong:
    """A wrong token for each word of a batch.

    Args:
        steps: (batch,), where it stands, counted from 1; the input of the step after it.
        tokens: (batch,)
    """

    steps: Tensor
    tokens: Tensor


def teacher_forced(model: Any, source: Tensor, gold: Tensor, wrong: Wrong | None = None) -> Lane:
    """What the model holds likeliest at each step when it reads ``gold``, but for the wrong token.

    Args:
        source: (batch, source), padded at the end.
        gold: (batch, length), with end tokens, padded at the end.
    """
    mask = padding_mask(source, PAD)
    inputs = torch.cat([torch.full_like(gold[:, :1], START), gold], dim=1)  # (batch, 1 + length)
    if wrong is not None:
        inputs[torch.arange(len(gold)), wrong.steps] = wrong.tokens
    with one_thread(), evaluating(model):
        logits = model.decode(inputs[:, :-1], model.encode(source, mask), memory_mask=mask)
    tokens = logits.argmax(dim=-1)  # (batch, length)
    if wrong is not None:
        tokens[torch.arange(len(gold)), wrong.steps - 1] = wrong.tokens
    probabilities = logits.softmax(dim=-1).gather(2, tokens[..., None])[..., 0]
    return Lane(tokens.masked_fill(gold == PAD, PAD), probabilities)


def free_running(
    model: Any, source: Tensor, wrong: Wrong | None = None, given: Tensor | None = None, most: int = MOST_STEPS
) -> Lane:
    """What the model says when each step reads its own tokens, the wrong one included. A word that has ended stays so.

    Args:
        source: (batch, source), padded at the end.
        given: (batch, steps), tokens that are known already to come first, no end token; it goes on from there.
        most: tokens at most.
    """
    mask = padding_mask(source, PAD)
    ids = source.new_full((len(source), 1), START)
    if given is not None:
        ids = torch.cat([ids, given], dim=1)  # (batch, 1 + steps)
    ended = (ids == END).any(dim=1)
    probabilities: list[Tensor] = []
    with one_thread(), evaluating(model), caching(model, own=False):
        memory = model.encode(source, mask)
        while ids.size(1) <= most and not ended.all():
            shares = model.decode(ids, memory, memory_mask=mask).softmax(dim=-1)  # (batch, new, vocabulary)
            if not probabilities:
                probabilities.append(shares[:, :-1].gather(2, ids[:, 1:, None])[..., 0])
            chosen = shares[:, -1].argmax(dim=-1)
            if wrong is not None:
                chosen = torch.where(wrong.steps == ids.size(1), wrong.tokens, chosen)
            probabilities.append(shares[:, -1].gather(1, chosen[:, None]))
            chosen = chosen.masked_fill(ended, PAD)
            ids = torch.cat([ids, chosen[:, None]], dim=1)
            ended |= chosen == END
    return Lane(ids[:, 1:], torch.cat(probabilities, dim=1))


def wrong_tokens(right: Sequence[int]) -> list[int]:
    """The phonemes that are none of ``right``."""
    return [token for token in range(len(SPECIAL), len(PHONEMES)) if token not in right]


def paired(gold: Sequence[int], said: Sequence[int]) -> list[tuple[int | None, int | None]]:
    """Pair places of ``gold`` and ``said`` with as few edits as possible, found from the end, as in lesson 09.

    Returns:
        pairs in order; None where one has nothing to the other's token.
    """
    backwards = aligned(said[::-1], gold[::-1])
    return [
        (None if mine is None else len(gold) - 1 - mine, None if own is None else len(said) - 1 - own)
        for own, mine in reversed(backwards)
    ]


def interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval (1927) of a share among ``count`` words."""
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / (1 + _Z**2 / count)
    return middle - half, middle + half


class Experiment:
    """Many words, each with one wrong token at a step drawn for it, said in both modes, with and without.

    Args:
        words: pairs of a word and the ids of its pronunciation, at least ``AFTER + 1`` tokens each, so that every
            word counts at every distance.
        seed: of steps and wrong tokens.

    ``lanes`` has the key (mode, wrong token put in?); mode "forced" or "free".
    """

    def __init__(self, model: Any, words: Sequence[tuple[str, list[int]]], seed: int = 0) -> None:
        device = next(model.parameters()).device
        source = pad_rows([letters_to_ids(word) for word, _ in words]).to(device)
        gold = pad_rows([said for _, said in words]).to(device)
        numbers = random.Random(seed)
        steps = torch.tensor([numbers.randint(1, len(said) - AFTER) for _, said in words])  # (words,)
        forced, free = teacher_forced(model, source, gold), free_running(model, source)
        at = torch.arange(len(words)), steps - 1
        own = torch.nn.functional.pad(free.tokens, (0, gold.size(1)), value=PAD)  # it may have ended before
        right = torch.stack([gold[at], forced.tokens[at], own[at]], dim=1).tolist()
        tokens = [numbers.choice(wrong_tokens(these)) for these in right]
        wrong = Wrong(steps.to(device), torch.tensor(tokens, device=device))
        self.words, self.gold, self.steps = len(words), gold.cpu(), steps
        self.lanes = {
            (mode, put): lane.tokens.cpu()
            for mode, put, lane in (
                ("forced", False, forced),
                ("forced", True, teacher_forced(model, source, gold, wrong)),
                ("free", False, free),
                ("free", True, free_running(model, source, wrong)),
            )
        }

    def accuracy(self, errors: Callable[[Tensor, Tensor, int], Tensor], mode: str, put: bool) -> Tensor:
        """The share of words that are right 1, 2, … ``AFTER`` steps behind the wrong token's step, (AFTER,).

        Args:
            errors: ``error_by_position`` or ``aligned_error_by_position``.
        """
        predicted = self.lanes[mode, put]
        right = torch.zeros(AFTER, dtype=torch.float64)
        for step in self.steps.unique().tolist():
            rows = self.steps == step
            wrong = errors(predicted[rows], self.gold[rows], PAD)  # (length,)
            right += int(rows.sum()) * (1 - wrong[step : step + AFTER].double())
        return right / self.words

    def said_late(self) -> tuple[int, int]:
        """Words that teacher-forced has wrong one step behind the wrong token, and those of them where it says there
        what the wrong token had replaced."""
        rows, said = torch.arange(self.words), self.lanes["forced", True]
        wrong = said[rows, self.steps] != self.gold[rows, self.steps]
        late = wrong & (said[rows, self.steps] == self.gold[rows, self.steps - 1])
        return int(wrong.sum()), int(late.sum())
