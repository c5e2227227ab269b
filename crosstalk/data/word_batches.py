"""Batches of words and their pronunciations, for training.

    >>> batches = WordBatches(cmudict.load("train"), size=128)
    >>> source, target = batches[0]  # (batch, source), (batch, length), int64

``batches[n]`` is a function of ``n`` and the seed alone, so that a training that was stopped goes on with the
batches that it would have had.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import torch

from crosstalk.data.cmudict import PAD, letters_to_ids, phonemes_to_ids

if TYPE_CHECKING:
    import datasets


class WordBatches:
    """Endless shuffled batches, each of words of similar length, so that little of it is padding.

    Args:
        words: rows of `crosstalk.data.cmudict.load`. Each pronunciation of a word is an example of its own.
        size: words in a batch; the few words that are left over at the end of an epoch wait for the next one.
        seed: of the order.
    """

    def __init__(self, words: datasets.Dataset, size: int = 128, seed: int = 0) -> None:
        rows = words[:]
        pairs = [(word, said) for word, all_said in zip(rows["word"], rows["pronunciations"], strict=True)
                 for said in all_said]  # fmt: skip
        if len(pairs) < size:
            raise ValueError(f"A batch of {size} words cannot be filled from {len(pairs)}: give a smaller size.")
        self.size, self.seed = size, seed
        self.per_epoch = len(pairs) // size
        self._source, self._source_lengths = _padded([letters_to_ids(word) for word, _ in pairs])
        self._target, self._target_lengths = _padded([phonemes_to_ids(said) for _, said in pairs])
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch of a step: source (batch, source) and target (batch, length), padded at the end."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        rows = self._order[place]  # (batch,)
        source = self._source[rows, : int(self._source_lengths[rows].max())]
        target = self._target[rows, : int(self._target_lengths[rows].max())]
        return source.long(), target.long()

    def _shuffled(self, epoch: int) -> torch.Tensor:
        """The rows of each batch of an epoch: (batches, size)."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        rows = torch.randperm(len(self._source), generator=generator)[: self.per_epoch * self.size]
        # A little noise, so that a word does not meet the same neighbours in every epoch.
        lengths = self._source_lengths[rows] + self._target_lengths[rows]
        noisy = lengths + 2 * torch.rand(len(rows), generator=generator)
        batches = rows[noisy.argsort()].reshape(self.per_epoch, self.size)
        return batches[torch.randperm(self.per_epoch, generator=generator)]


def pad_rows(rows: list[list[int]]) -> torch.Tensor:
    """Lists of ids as one tensor (batch, length of the longest), padded at the end."""
    return _padded(rows)[0].long()


def _padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, longest) in one byte each, and the lengths (rows,)."""
    lengths = torch.tensor([len(row) for row in rows])
    real = torch.arange(int(lengths.max())) < lengths[:, None]  # (rows, longest)
    padded = torch.full(real.shape, PAD, dtype=torch.uint8)
    padded[real] = torch.tensor(list(chain.from_iterable(rows)), dtype=torch.uint8)
    return padded, lengths
