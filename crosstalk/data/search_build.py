"""Measure what the width of the beam and the length penalty change, on 2,000 words of the test part.

    python -m crosstalk.data.search_build

One thread. It writes the table that `crosstalk.data.search` loads, and puts its figures into the card.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from crosstalk.checkpoints import load_model
from crosstalk.data import cmudict
from crosstalk.data.cmudict import END, PAD, START
from crosstalk.data.cmudict_card import fill
from crosstalk.data.search import table_file
from crosstalk.decoding import beam_decode
from crosstalk.metrics import MAX_LENGTH
from crosstalk.places import write_atomically
from crosstalk.stand_ins.lesson_02 import padding_mask
from crosstalk.stand_ins.lesson_04 import EncoderDecoder
from crosstalk.stand_ins.lesson_05 import edit_distance

if TYPE_CHECKING:
    import datasets

CHECKPOINT, WORDS, BATCH, DRAWS = "cmudict-lesson", 2_000, 50, 1_000
WIDTHS, PENALTIES, PENALISED_WIDTH = (1, 2, 4, 8, 16), (0.0, 0.5, 1.0, 1.5, 2.0, 3.0), 8


@dataclass(frozen=True)
class Said:
    """What a search found for each word.

    Attributes:
        phonemes: of each word.
        log_probs: (words,), of what was found, the end token included.
        edits, listed: (words,): edits to the closest listed pronunciation, and the phonemes of that one.
        seconds: for all words.
    """

    phonemes: list[list[str]]
    log_probs: torch.Tensor
    edits: torch.Tensor
    listed: torch.Tensor
    seconds: float


def search(model: EncoderDecoder, words: datasets.Dataset, width: int, alpha: float) -> Said:
    """Decode each word and compare it with what the dictionary lists."""
    spelt = words["word"]
    order = sorted(range(len(spelt)), key=lambda index: len(spelt[index]))  # similar lengths together
    phonemes: list[list[str]] = [[] for _ in spelt]
    log_probs = torch.zeros(len(spelt))
    began = time.perf_counter()
    for begin in range(0, len(order), BATCH):
        rows = order[begin : begin + BATCH]
        source = cmudict.batch([spelt[row] for row in rows])
        mask = padding_mask(source, PAD)
        ids, scores = beam_decode(model, source, mask, START, END, PAD, MAX_LENGTH, width, alpha)
        lengths = (ids != PAD).sum(dim=1)
        log_probs[rows] = scores * lengths**alpha
        for row, generated in zip(rows, ids.tolist(), strict=True):
            phonemes[row] = cmudict.ids_to_phonemes([token for token in generated if token != PAD])
    seconds = time.perf_counter() - began
    closest = [
        min((edit_distance(said, one.split()), len(one.split())) for one in listed)
        for said, listed in zip(phonemes, words["pronunciations"], strict=True)
    ]
    edits, lengths = torch.tensor(closest).unbind(dim=1)
    return Said(phonemes, log_probs, edits, lengths, seconds)


def row(said: Said, first: Said) -> dict[str, Any]:
    """The figures of one search, and how it differs from the first."""
    wrong = (said.edits > 0).double() - (first.edits > 0).double()  # (words,)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(wrong), (DRAWS, len(wrong)), generator=generator)  # the same words for both
    low, high = torch.quantile(100 * wrong[drawn].mean(dim=1), torch.tensor([0.025, 0.975], dtype=torch.float64))
    changed = sum(mine != theirs for mine, theirs in zip(said.phonemes, first.phonemes, strict=True))
    return {
        "per": round(100 * float(said.edits.sum() / said.listed.sum()), 3),
        "wer": round(100 * float((said.edits > 0).double().mean()), 3),
        "length": round(sum(map(len, said.phonemes)) / len(said.phonemes), 3),
        "log_prob": round(float(said.log_probs.mean()), 4),
        "changed": round(changed / len(said.phonemes), 4),
        "difference": {
            "value": round(100 * float(wrong.mean()), 3),
            "low": round(float(low), 3),
            "high": round(float(high), 3),
        },
    }


def measure(model: EncoderDecoder, words: datasets.Dataset) -> dict[str, Any]:
    """The table, as `crosstalk.data.search.load` describes it."""
    search(model, words.select(range(BATCH)), 2, 0.0)  # the first run of anything is slow
    by_width = {width: search(model, words, width, 0.0) for width in WIDTHS}
    plain = by_width[PENALISED_WIDTH]
    by_alpha = {alpha: search(model, words, PENALISED_WIDTH, alpha) if alpha else plain for alpha in PENALTIES}
    return {
        "words": len(words),
        "widths": [
            {"width": width, **row(said, by_width[WIDTHS[0]]), "seconds": round(said.seconds, 1)}
            for width, said in by_width.items()
        ],
        "penalised_width": PENALISED_WIDTH,
        "penalties": [{"alpha": alpha, **row(said, plain)} for alpha, said in by_alpha.items()],
    }


def main() -> None:
    """Measure, write the table, and put the figures into the card."""
    torch.set_num_threads(1)
    words = cmudict.load("test").shuffle(seed=0).select(range(WORDS))
    table = measure(load_model(CHECKPOINT, own=False), words)
    write_atomically(table_file(), json.dumps(table, indent=1).encode())
    card = table_file().parent / "README.md"
    figures = {"widths": _markdown(table["widths"], "width"), "penalties": _markdown(table["penalties"], "alpha")}
    write_atomically(card, fill(card.read_text(encoding="utf-8"), figures))
    print("\n\n".join(figures.values()))


def _markdown(rows: list[dict[str, Any]], key: str) -> str:
    head = f"| {key} | PER | WER | difference in WER | its 95 % interval | words changed | phonemes | log P |"
    lines = [head, "| --- " * 8 + "|"]
    for each in rows:
        change = {name: f"{value:+.2f}" for name, value in each["difference"].items()}
        lines.append(
            f"| {each[key]:g} | {each['per']:.2f} | {each['wer']:.2f} | {change['value']} "
            f"| {change['low']} to {change['high']} | {100 * each['changed']:.1f} % | {each['length']:.2f} "
            f"| {each['log_prob']:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
