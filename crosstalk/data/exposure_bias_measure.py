"""How often a model is right, and where: given the right tokens, left alone, and after an error put in by hand.

Words with several listed pronunciations are left out wherever places are compared: what is right at a place would
not be settled. Intervals are from drawing the words anew, with replacement: tokens of one word are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from crosstalk.caching import caching
from crosstalk.data.cmudict import END, PAD, SPECIAL, START, ids_to_phonemes, letters_to_ids, phonemes_to_ids
from crosstalk.data.word_batches import pad_rows
from crosstalk.metrics import MAX_LENGTH, compare
from crosstalk.stand_ins.lesson_02 import padding_mask
from crosstalk.stand_ins.lesson_04 import EncoderDecoder
from crosstalk.stand_ins.lesson_05 import edit_distance, shift_right
from crosstalk.stand_ins.lesson_09 import fitted, matched

if TYPE_CHECKING:
    import datasets

BATCH = 500  # words at once
DRAWS = 1000  # of the words, for the intervals
PLACES = 10  # shown one by one; longer words count in the totals
AFTER = 4  # places looked at after an error
ERRORS_AT = (1, 2, 3, 4, 5)  # places of the errors put in, counted from 1
MODES = ("forced", "free", "aligned")


@dataclass(frozen=True)
class Words:
    """Words as rows of ids, each (words, longest), padded at the end; ``gold`` with its end tokens."""

    source: Tensor
    gold: Tensor

    def __len__(self) -> int:
        return len(self.gold)


def with_one_pronunciation(rows: datasets.Dataset) -> Words:
    """Those rows of `crosstalk.data.cmudict.load` that list a single pronunciation."""
    kept = [row for row in rows.to_list() if len(row["pronunciations"]) == 1]
    return Words(
        pad_rows([letters_to_ids(row["word"]) for row in kept]),
        pad_rows([phonemes_to_ids(row["pronunciations"][0]) for row in kept]),
    )


@torch.inference_mode()
def go_on(model: EncoderDecoder, source: Tensor, prefix: Tensor, length: int = MAX_LENGTH) -> Tensor:
    """Greedy decoding that begins with given tokens.

    Args:
        model: in evaluation mode.
        source: (batch, source)
        prefix: (batch, given), the start token first.
        length: tokens at most, those given included and the start token not.

    Returns:
        (batch, longest): the tokens given, without the start token, and what follows; padding after the end token.
    """
    mask = padding_mask(source, PAD)
    ids, ended = prefix, (prefix == END).any(dim=1)
    with caching(model, own=False):
        memory = model.encode(source, mask)
        while ids.size(1) <= length and not ended.all():
            chosen = model.decode(ids, memory, memory_mask=mask)[:, -1].argmax(dim=-1).masked_fill(ended, PAD)
            ids = torch.cat([ids, chosen[:, None]], dim=1)
            ended |= chosen == END
    return ids[:, 1:]


@torch.inference_mode()
def forced_logits(model: EncoderDecoder, source: Tensor, inputs: Tensor) -> Tensor:
    """The logits (batch, length, vocabulary) where the decoder reads ``inputs`` (batch, length)."""
    return model(source, inputs, padding_mask(source, PAD))


def in_batches(words: Words, function: Callable[[Tensor, Tensor], Sequence[Tensor]]) -> list[Tensor]:
    """``function(source, gold)`` over batches of words of like length; its results (batch, any length) joined."""
    order = (words.gold != PAD).sum(dim=1).argsort(stable=True)
    parts: list[list[list[int]]] = []
    for rows in order.split(BATCH):
        source, gold = words.source[rows], words.gold[rows]
        source = source[:, : int((source != PAD).sum(dim=1).max())]
        gold = gold[:, : int((gold != PAD).sum(dim=1).max())]
        results = [result.tolist() for result in function(source, gold)]
        parts = parts or [[] for _ in results]
        for part, result in zip(parts, results, strict=True):
            part.extend(result)
    back = order.argsort()
    return [pad_rows(part)[back] for part in parts]


def aligned_right(said: Tensor, gold: Tensor) -> Tensor:
    """Is each token of ``gold`` paired with its like when both are aligned with the fewest edits?

    Args:
        said: (words, any length); what is PAD does not count.
        gold: (words, length)

    Returns:
        bool (words, length)
    """
    right = torch.zeros_like(gold, dtype=torch.bool)
    for row, (mine, theirs) in enumerate(zip(_tokens(said), _tokens(gold), strict=True)):
        right[row, : len(theirs)] = torch.tensor(matched(mine, theirs))
    return right


def _tokens(rows: Tensor) -> list[list[int]]:
    return [[token for token in row if token != PAD] for row in rows.tolist()]


class Intervals:
    """Shares with their 95 % intervals, from the same draws of the words for every share."""

    def __init__(self, words: int, draws: int = DRAWS) -> None:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(words, (draws, words), generator=generator)
        weights = torch.stack([torch.bincount(draw, minlength=words) for draw in drawn])  # (draws, words)
        self.weights = torch.cat([torch.ones(1, words, dtype=torch.long), weights]).float()  # as they are come first

    def shares(self, part: Tensor, whole: Tensor) -> Tensor:
        """Percent of ``whole`` that is ``part``, each (words, …) counts: (1 + draws, …)."""
        above, below = (torch.tensordot(self.weights, each.float(), dims=1) for each in (part, whole))
        return 100 * above / below

    @staticmethod
    def of(shares: Tensor) -> dict[str, float]:
        """The first of ``shares`` (1 + draws,) and the middle 95 % of the others, in percent."""
        low, high = shares[1:].double().quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        return {"value": round(float(shares[0]), 3), "low": round(low, 3), "high": round(high, 3)}


def by_place(model: EncoderDecoder, words: Words) -> dict[str, Any]:
    """Accuracy given the right tokens, and left alone: same place, and after alignment with the fewest edits.

    Returns:
        ``words``, ``tokens``; ``total``, for each of `MODES` the share of right tokens in percent, value, low and
        high; ``gaps``, the share given the right tokens less that left alone, same place and aligned; ``edits``,
        edits per 100 gold tokens, insertions included; ``places``, for each of the first places ``words``, and each
        of `MODES`.
    """
    forced, free = in_batches(
        words,
        lambda source, gold: (
            forced_logits(model, source, shift_right(gold, START)).argmax(dim=-1),
            go_on(model, source, gold.new_full((len(gold), 1), START)),
        ),
    )
    gold, real = words.gold, words.gold != PAD  # (words, length)
    right = {
        "forced": (fitted(forced, gold, PAD) == gold) & real,
        "free": (fitted(free, gold, PAD) == gold) & real,
        "aligned": aligned_right(free, gold),
    }
    intervals = Intervals(len(words))
    total = {mode: intervals.shares(right[mode].sum(dim=1), real.sum(dim=1)) for mode in MODES}
    edits = torch.tensor([edit_distance(a, b) for a, b in zip(_tokens(free), _tokens(gold), strict=True)])
    places = {mode: intervals.shares(right[mode][:, :PLACES], real[:, :PLACES]) for mode in MODES}
    return {
        "words": len(words),
        "tokens": int(real.sum()),
        "total": {mode: intervals.of(total[mode]) for mode in MODES},
        "gaps": {mode: intervals.of(total["forced"] - total[mode]) for mode in ("free", "aligned")},
        "edits": intervals.of(intervals.shares(edits, real.sum(dim=1))),
        "places": [
            {"words": int(real[:, place].sum())} | {mode: intervals.of(places[mode][:, place]) for mode in MODES}
            for place in range(min(PLACES, gold.size(1)))
        ],
    }


def wrong_tokens(logits: Tensor, right: Tensor, likely: bool, generator: torch.Generator) -> Tensor:
    """For each word a phoneme that is not the right one.

    Args:
        logits: (batch, vocabulary), what the model thinks of that place.
        right: (batch,), the right phoneme.
        likely: take the likeliest wrong one, as a model's own error is; or any, each with the same chance.
        generator: of the draws.
    """
    allowed = torch.ones_like(logits, dtype=torch.bool)
    allowed[:, : len(SPECIAL)] = False  # their ids come first
    allowed[torch.arange(len(right)), right] = False
    if likely:
        return logits.masked_fill(~allowed, float("-inf")).argmax(dim=-1)
    return torch.multinomial(allowed.float(), 1, generator=generator)[:, 0]


def after_an_error(model: EncoderDecoder, words: Words, place: int, likely: bool) -> dict[str, Any]:
    """Accuracy at the places after one wrong token, beside that of the same words without it.

    Args:
        place: of the wrong token, counted from 1; only words that go on for `AFTER` tokens after it count.
        likely: see `wrong_tokens`.

    Returns:
        ``place``, ``likely``, ``words``, and for ``forced`` (all else is right), ``free`` (the model goes on alone
        after it) and ``aligned`` (the same, aligned) two lists, ``with`` and ``without`` the error: percent at
        each of the `AFTER` places, with value, low and high. ``repairs``: how often the model's next token is the
        one that the wrong one has replaced.
    """
    long = (words.gold != PAD).sum(dim=1) >= place + AFTER
    words = Words(words.source[long], words.gold[long])
    generator = torch.Generator().manual_seed(place)

    def both(source: Tensor, gold: Tensor) -> list[Tensor]:
        inputs = shift_right(gold, START)
        logits = forced_logits(model, source, inputs)
        spoilt = inputs.clone()
        spoilt[:, place] = wrong_tokens(logits[:, place - 1], gold[:, place - 1], likely, generator)
        results = [forced_logits(model, source, spoilt).argmax(dim=-1), logits.argmax(dim=-1)]
        return results + [go_on(model, source, each[:, : place + 1]) for each in (spoilt, inputs)]

    results = in_batches(words, both)
    right: dict[str, list[Tensor]] = {mode: [] for mode in MODES}
    for forced, free in (results[0::2], results[1::2]):
        right["forced"].append(fitted(forced, words.gold, PAD) == words.gold)
        right["free"].append(fitted(free, words.gold, PAD) == words.gold)
        right["aligned"].append(aligned_right(free, words.gold))
    intervals = Intervals(len(words))
    after = slice(place, place + AFTER)
    found: dict[str, Any] = {"place": place, "likely": likely, "words": len(words)}
    forced_with = results[0]  # (words, length)
    repaired = forced_with[:, place] == words.gold[:, place - 1]
    found["repairs"] = intervals.of(intervals.shares(repaired, torch.ones(len(words))))
    for mode in MODES:
        found[mode] = {}
        for name, each in zip(("with", "without"), right[mode], strict=True):
            shares = intervals.shares(each[:, after], torch.ones(len(words), AFTER))
            found[mode][name] = [intervals.of(shares[:, index]) for index in range(AFTER)]
    return found


def rates(model: EncoderDecoder, rows: datasets.Dataset) -> dict[str, float]:
    """``per`` and ``wer`` in percent, greedily, against the closest listed pronunciation."""
    table = rows.to_list()
    words = Words(
        pad_rows([letters_to_ids(row["word"]) for row in table]),
        pad_rows([phonemes_to_ids(row["pronunciations"][0]) for row in table]),
    )
    (free,) = in_batches(words, lambda source, gold: [go_on(model, source, gold.new_full((len(gold), 1), START))])
    said = [ids_to_phonemes(row) for row in _tokens(free)]
    found = compare(said, [[one.split() for one in row["pronunciations"]] for row in table])
    return {"per": round(found.per, 3), "wer": round(found.wer, 3)}
