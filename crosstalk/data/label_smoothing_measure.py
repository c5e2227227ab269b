"""How well a model's probabilities fit what happens, and how far chance could have moved each figure.

Calibration is that of the next token given the right ones before it (teacher forcing), against the first listed
pronunciation. PER and WER are of greedy decoding, against the closest listed pronunciation, as in
`crosstalk.metrics`. Intervals are from drawing the words anew, with replacement; both models get the same draws, so
that differences are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from crosstalk.data.cmudict import PAD, START, letters_to_ids, phonemes_to_ids
from crosstalk.data.word_batches import pad_rows
from crosstalk.metrics import pronounce
from crosstalk.stand_ins.lesson_02 import padding_mask
from crosstalk.stand_ins.lesson_04 import EncoderDecoder
from crosstalk.stand_ins.lesson_05 import edit_distance, shift_right

if TYPE_CHECKING:
    import datasets

BINS = 15  # of equal width, as in Guo et al. 2017
DRAWS = 1000  # of the words, for the intervals
FIGURES = ("accuracy", "ece", "nll", "per", "wer")


@dataclass(frozen=True)
class Tokens:
    """One entry for each token of the target, end tokens included.

    Attributes:
        confidence: the probability of the likeliest token.
        right: whether that token is the right one.
        nll: -log p(right token), in nats.
        word: the number of the word that the token belongs to.
    """

    confidence: Tensor
    right: Tensor
    nll: Tensor
    word: Tensor


@torch.inference_mode()
def predict(model: EncoderDecoder, words: datasets.Dataset, batch: int = 256) -> Tokens:
    """Ask for every token of each word's first pronunciation, given the right ones before it.

    Args:
        model: in evaluation mode.
        words: rows of `crosstalk.data.cmudict.load`.
        batch: words at once.
    """
    spelt, listed = words["word"], words["pronunciations"]
    order = sorted(range(len(spelt)), key=lambda index: len(spelt[index]))  # similar lengths together
    parts: list[tuple[Tensor, ...]] = []
    for begin in range(0, len(order), batch):
        rows = order[begin : begin + batch]
        source = pad_rows([letters_to_ids(spelt[row]) for row in rows])
        target = pad_rows([phonemes_to_ids(listed[row][0]) for row in rows])  # (batch, length)
        logits = model(source, shift_right(target, START), padding_mask(source, PAD))
        log_probs = logits.double().log_softmax(-1)  # (batch, length, vocabulary)
        most, said = log_probs.max(-1)
        nll = -log_probs.gather(-1, target[..., None])[..., 0]
        real = target.ne(PAD)
        word = torch.tensor(rows)[:, None].expand_as(target)
        parts.append((most[real].exp(), said.eq(target)[real], nll[real], word[real]))
    confidence, right, nll, word = (torch.cat(each) for each in zip(*parts, strict=True))
    return Tokens(confidence, right, nll, word)


def edits_by_word(model: EncoderDecoder, words: datasets.Dataset) -> tuple[Tensor, Tensor]:
    """Edits to the closest listed pronunciation, and the phonemes of that one, of each word."""
    edits, phonemes = [], []
    for said, listed in zip(pronounce(model, words["word"]), words["pronunciations"], strict=True):
        fewest, length = min((edit_distance(said, one.split()), len(one.split())) for one in listed)
        edits.append(fewest)
        phonemes.append(length)
    return torch.tensor(edits), torch.tensor(phonemes)


def reliability(tokens: Tokens, bins: int = BINS) -> list[dict[str, float]]:
    """The tokens sorted into bins of equal width by confidence.

    Returns:
        for each bin ``count``, mean ``confidence`` and ``accuracy``, both 0 where the bin is empty.
    """
    place = _bin(tokens.confidence, bins)
    count = torch.bincount(place, minlength=bins)
    share = 1 / count.clamp(min=1)
    confidence = torch.bincount(place, tokens.confidence, minlength=bins) * share
    accuracy = torch.bincount(place, tokens.right.double(), minlength=bins) * share
    columns = (count.tolist(), confidence.tolist(), accuracy.tolist())
    return [{"count": n, "confidence": c, "accuracy": a} for n, c, a in zip(*columns, strict=True)]


def _bin(confidence: Tensor, bins: int) -> Tensor:
    return (confidence * bins).long().clamp(max=bins - 1)


def figures(tokens: Tokens, edits: Tensor, phonemes: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """`FIGURES` with the words weighted, each (draws,).

    Args:
        tokens: from `predict`.
        edits, phonemes: (words,), from `edits_by_word`.
        weights: (draws, words), how often each draw holds each word.
    """
    words = len(edits)

    def by_word(values: Tensor) -> Tensor:
        return torch.zeros(words, dtype=torch.float64).index_add_(0, tokens.word, values.double())

    def by_word_and_bin(values: Tensor) -> Tensor:
        cell = tokens.word * BINS + _bin(tokens.confidence, BINS)
        return torch.zeros(words * BINS, dtype=torch.float64).index_add_(0, cell, values.double()).view(words, BINS)

    weights = weights.double()
    count = weights @ by_word(torch.ones_like(tokens.nll))  # (draws,)
    gaps = weights @ by_word_and_bin(tokens.confidence - tokens.right.double())  # (draws, bins)
    return {
        "accuracy": weights @ by_word(tokens.right) / count,
        "ece": gaps.abs().sum(-1) / count,
        "nll": weights @ by_word(tokens.nll) / count,
        "per": 100 * (weights @ edits.double()) / (weights @ phonemes.double()),
        "wer": 100 * (weights @ edits.gt(0).double()) / weights.sum(-1),
    }


def measure(models: dict[float, EncoderDecoder], words: datasets.Dataset) -> dict[str, Any]:
    """The table that `crosstalk.data.label_smoothing.load` gives.

    Args:
        models: two, by their ε, in evaluation mode.
        words: rows of `crosstalk.data.cmudict.load` that neither model has seen.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(words), (DRAWS, len(words)), generator=generator)
    weights = torch.stack([torch.bincount(draw, minlength=len(words)) for draw in drawn])  # (draws, words)
    weights = torch.cat([torch.ones(1, len(words), dtype=torch.long), weights])  # the words as they are come first
    rows, all_figures = [], []
    count = 0
    for smoothing, model in models.items():
        tokens = predict(model, words)
        count = len(tokens.nll)
        own = figures(tokens, *edits_by_word(model, words), weights)
        all_figures.append(own)
        rows.append({
            "smoothing": smoothing,
            "confidence": round(float(tokens.confidence.mean()), 6),
            "bins": [{key: round(value, 6) for key, value in each.items()} for each in reliability(tokens)],
            **{name: _with_interval(own[name]) for name in FIGURES},
        })  # fmt: skip
    first, second = all_figures
    differences = {name: _with_interval(second[name] - first[name]) for name in FIGURES}
    return {"words": len(words), "tokens": count, "models": rows, "differences": differences}


def _with_interval(values: Tensor) -> dict[str, float]:
    """The first value, and the middle 95 % of the others."""
    low, high = values[1:].quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"value": round(float(values[0]), 6), "low": round(low, 6), "high": round(high, 6)}
