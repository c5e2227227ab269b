"""Train the patients of the bug clinic, each with its fault, and write down what can be seen of them.

    python -m crosstalk.data.bug_clinic_build          # all patients of the lesson, about ten minutes
    python -m crosstalk.data.bug_clinic_build NAME …   # some trainings, printed and not written

One thread, one seed, the same batches and the same budget for all. What is written (`crosstalk.data.bug_clinic`
loads it) holds letters in place of the faults' names; the faults stand in `crosstalk.data.bug_clinic_faults`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

import datasets
import torch
from torch import Tensor

from crosstalk.data import cmudict
from crosstalk.data.bug_clinic import CHECKED, EVERY, SAMPLED, WORDS, clinic_file
from crosstalk.data.bug_clinic_faults import FAULTS, PATIENTS, Training
from crosstalk.data.cmudict import END, PAD, START, ids_to_phonemes, letters_to_ids, phonemes_to_ids
from crosstalk.data.cmudict_card import fill
from crosstalk.data.word_batches import WordBatches, pad_rows
from crosstalk.metrics import MAX_LENGTH, compare
from crosstalk.places import write_atomically
from crosstalk.stand_ins.lesson_04 import EncoderDecoder

SEED, STEPS, BATCH, RATE, WARM_UP = 0, 1500, 64, 2e-3, 100
HELD_OUT = 320  # validation words


def training_words() -> datasets.Dataset:
    """The train part of the split by family, without the words of the samples and their families."""
    parts = [cmudict.load(part) for part in ("train", "validation", "test")]
    families = {row["family"] for part in parts for row in part if row["word"] in WORDS}
    return parts[0].filter(lambda row: row["family"] not in families)


def validation_words() -> datasets.Dataset:
    """Validation words of letters alone, evenly from the whole alphabet."""
    plain = cmudict.load("validation").filter(lambda row: row["word"].isalpha())
    step = len(plain) // HELD_OUT
    return plain.select(range(0, step * HELD_OUT, step))


def rate_at(step: int, peak: float) -> float:
    """Warm up, then a half cosine down to a tenth."""
    if step < WARM_UP:
        return peak * (step + 1) / WARM_UP
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * (step - WARM_UP) / (STEPS - WARM_UP))))


@torch.no_grad()
def generate(training: Training, model: EncoderDecoder, source: Tensor) -> Tensor:
    """Greedy decoding of a batch, in the patient's own way of calling its model.  # (batch, at most MAX_LENGTH)"""
    ids = torch.full((len(source), 1), START)
    ended = torch.zeros(len(source), dtype=torch.bool)
    while ids.size(1) <= MAX_LENGTH and not ended.all():
        logits = training.logits(model, source, ids)  # (batch, length, vocabulary)
        chosen = logits[:, -1].argmax(-1).masked_fill(ended, PAD)
        ids = torch.cat([ids, chosen[:, None]], dim=1)
        ended |= chosen == END
    return ids[:, 1:]


def spoken(row: list[int]) -> str:
    """Generated ids as a person writes them, with the end token if it came."""
    ids = row[: row.index(END)] if END in row else row
    return " ".join([*(cmudict.PHONEMES[i] for i in ids if i != PAD), *(["<end>"] if END in row else [])])


@torch.no_grad()
def validate(training: Training, model: EncoderDecoder, words: datasets.Dataset) -> tuple[float, float]:
    """Loss and share of right tokens on held-out words, teacher-forced, as the patient's own code measures them."""
    source = pad_rows([letters_to_ids(word) for word in words["word"]])
    target = pad_rows([phonemes_to_ids(said[0]) for said in words["pronunciations"]])
    logits = training.logits(model, source, training.inputs(target))
    labels = training.labels(target)
    real = labels != PAD
    right = (logits.argmax(-1) == labels)[real].float().mean()
    return float(training.loss(logits, labels)), float(right)


@torch.no_grad()
def read_aloud(training: Training, model: EncoderDecoder) -> list[str]:
    """What the model says to each of `WORDS`, all in one batch."""
    return [spoken(row) for row in generate(training, model, cmudict.batch(list(WORDS))).tolist()]


@torch.no_grad()
def examine(
    training: Training, model: EncoderDecoder, words: datasets.Dataset, start: dict[str, Tensor]
) -> dict[str, Any]:
    """The figures beside the curve: see `crosstalk.data.bug_clinic.load`."""
    source = pad_rows([letters_to_ids(word) for word in words["word"]])
    rows = generate(training, model, source).tolist()
    said = [ids_to_phonemes(row[: row.index(END)] if END in row else row) for row in rows]
    listed = [[one.split() for one in all_said] for all_said in words["pronunciations"]]
    _, forced = validate(training, model, words)
    return {
        "forced": round(forced, 3),
        "per": round(compare(said, listed).per, 1),
        "length": round(sum(map(len, said)) / len(said), 1),
        "true_length": round(sum(len(all_said[0]) for all_said in listed) / len(listed), 1),
        "ended": round(sum(END in row for row in rows) / len(rows), 3),
        "different": len(set(map(tuple, said))),
        "words": len(said),
        "moved": {part: round(moved(model, start, part), 3) for part in PARTS},
    }


PARTS = {
    "source embedding": "source_embedding.",
    "encoder": "encoder.",
    "target embedding": "target_embedding.",
    "decoder": "decoder.",
}


def moved(model: EncoderDecoder, start: dict[str, Tensor], part: str) -> float:
    """How far the weights of a part have gone since the start, against their size then (norms)."""
    way = size = 0.0
    for name, weight in model.state_dict().items():
        if name.startswith(PARTS[part]):
            way += float((weight - start[name]).square().sum())
            size += float(start[name].square().sum())
    return math.sqrt(way / size)


def train(training: Training, batches: WordBatches, held_out: datasets.Dataset, steps: int = STEPS) -> dict[str, Any]:
    """Train one patient for the first so many steps of its schedule, and examine it.

    Returns:
        ``losses``, ``validation``, ``samples`` and the figures, as `crosstalk.data.bug_clinic.load` describes them.
    """
    torch.manual_seed(SEED)
    model = training.build()
    start = {name: weight.clone() for name, weight in model.state_dict().items()}
    training.batches = batches
    optimizer = torch.optim.AdamW(training.trained(model), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    losses: list[float] = []
    validation: list[float] = []
    samples: dict[str, list[str]] = {}
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, RATE * training.faster)
        model.train()
        source, target = training.batch(step)
        loss = training.loss(training.logits(model, source, training.inputs(target)), training.labels(target))
        if training.clears:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        model.eval()
        if step == 0 or (step + 1) % CHECKED == 0:
            validation.append(round(validate(training, model, held_out)[0], 4))
        if step + 1 in SAMPLED:
            samples[str(step + 1)] = read_aloud(training, model)
    curve = [round(sum(losses[at : at + EVERY]) / EVERY, 4) for at in range(0, steps, EVERY)]
    seen = {"first": round(losses[0], 3), "losses": curve, "validation": validation, "samples": samples}
    return seen | examine(training, model, held_out, start)


def told(name: str, seen: dict[str, Any], seconds: float) -> str:
    """One line on a training, for the log."""
    return (
        f"{name}: loss {seen['first']:.2f} at first, {seen['losses'][-1]:.3f} at last, "
        f"validation {seen['validation'][-1]:.3f}, right when forced {100 * seen['forced']:.0f} %, "
        f"PER {seen['per']:.0f}, {seconds:.0f} s"
    )


def main() -> None:
    """Train the healthy one and the patients, or those named."""
    torch.set_num_threads(1)
    words, held_out = training_words(), validation_words()
    batches = WordBatches(words, BATCH, SEED)
    named = sys.argv[1:]
    if unknown := set(named) - set(FAULTS):
        raise SystemExit(f"There is no {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}.")
    chosen = {name: name for name in named} or PATIENTS
    clinic, log = {}, [f"{len(words):,} words to train on, {len(held_out)} to look at, seed {SEED}, {STEPS:,} steps"]
    for letter, fault in chosen.items():
        begun = time.monotonic()
        clinic[letter] = train(FAULTS[fault](), batches, held_out)
        log.append(told(letter, clinic[letter], time.monotonic() - begun))
        print(log[-1], flush=True)
    if named:
        print(json.dumps(clinic, indent=1))
        return
    write_atomically(clinic_file(), json.dumps(clinic, separators=(",", ":")) + "\n")
    card = clinic_file().parent / "README.md"
    shown = "\n".join(["```", *log, "```"])
    write_atomically(card, fill(card.read_text(encoding="utf-8"), {"log": shown}))


if __name__ == "__main__":
    main()
