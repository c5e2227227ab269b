"""How well a model says words: phoneme and word error rates (PER, WER).

A word with several listed pronunciations is compared with the closest of them, and, as a second figure, with the
first one alone. Published figures use both, so each is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from crosstalk.data.cmudict import END, PAD, START, ids_to_phonemes, letters_to_ids
from crosstalk.data.word_batches import pad_rows
from crosstalk.stand_ins.lesson_02 import padding_mask
from crosstalk.stand_ins.lesson_04 import EncoderDecoder
from crosstalk.stand_ins.lesson_05 import edit_distance
from crosstalk.stand_ins.lesson_07 import greedy_decode

if TYPE_CHECKING:
    import datasets

MAX_LENGTH = 32  # generated tokens; the longest pronunciation of the dictionary has 31 phonemes


@dataclass(frozen=True)
class ErrorRates:
    """Errors in per cent of ``words`` words.

    Attributes:
        per: edits per 100 phonemes, against the closest listed pronunciation.
        wer: words per 100 that are none of the listed pronunciations.
        first_per, first_wer: the same against the first listed pronunciation alone.
    """

    words: int
    per: float
    wer: float
    first_per: float
    first_wer: float

    def __str__(self) -> str:
        return (
            f"PER {self.per:.1f}, WER {self.wer:.1f} over {self.words:,} words, closest listed pronunciation "
            f"(first listed alone: PER {self.first_per:.1f}, WER {self.first_wer:.1f})"
        )


def error_rates(model: EncoderDecoder, words: datasets.Dataset, batch: int = 256) -> ErrorRates:
    """Decode each word greedily and compare it with what the dictionary lists.

    Args:
        model: in evaluation mode, on any device.
        words: rows of `crosstalk.data.cmudict.load`.
        batch: words decoded at once.
    """
    said = pronounce(model, words["word"], batch)
    return compare(said, [[one.split() for one in all_said] for all_said in words["pronunciations"]])


def compare(said: Sequence[Sequence[str]], listed: Sequence[Sequence[Sequence[str]]]) -> ErrorRates:
    """The error rates of what was said, one pronunciation a word, against one or more listed ones."""
    closest, first, phonemes, first_phonemes, wrong, first_wrong = 0, 0, 0, 0, 0, 0
    for mine, theirs in zip(said, listed, strict=True):
        edits = [edit_distance(mine, other) for other in theirs]
        best = min(range(len(theirs)), key=edits.__getitem__)
        closest, phonemes = closest + edits[best], phonemes + len(theirs[best])
        first, first_phonemes = first + edits[0], first_phonemes + len(theirs[0])
        wrong, first_wrong = wrong + (edits[best] > 0), first_wrong + (edits[0] > 0)
    count = len(said)
    return ErrorRates(
        count,
        per=100 * closest / phonemes,
        wer=100 * wrong / count,
        first_per=100 * first / first_phonemes,
        first_wer=100 * first_wrong / count,
    )


@torch.inference_mode()
def pronounce(model: EncoderDecoder, words: Sequence[str], batch: int = 256) -> list[list[str]]:
    """What the model says for each word, greedily: lists of phonemes, in the order of the words."""
    device = next(model.parameters()).device
    order = sorted(range(len(words)), key=lambda index: len(words[index]))  # similar lengths together
    said: list[list[str]] = [[] for _ in words]
    for begin in range(0, len(order), batch):
        rows = order[begin : begin + batch]
        source = pad_rows([letters_to_ids(words[row]) for row in rows]).to(device)
        ids = greedy_decode(model, source, padding_mask(source, PAD), START, END, PAD, MAX_LENGTH)
        for row, generated in zip(rows, ids.tolist(), strict=True):
            said[row] = ids_to_phonemes(generated)
    return said
