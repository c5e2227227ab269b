"""Train two models that differ only in label smoothing, and measure how well their probabilities fit.

    python -m crosstalk.data.label_smoothing_build            # both trainings, then the measuring
    python -m crosstalk.data.label_smoothing_build --measure  # the measuring alone, on the checkpoints that are there

One thread, one seed, the same batches for both. It writes both checkpoints, measures them as they were written (in
float16) on words they were not trained on, writes the table that `crosstalk.data.label_smoothing` loads, and puts
its figures into the card.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import torch

from crosstalk.checkpoints import load_model, save_model
from crosstalk.data import cmudict
from crosstalk.data.cmudict_card import fill
from crosstalk.data.label_smoothing import CHECKPOINTS, table_file
from crosstalk.data.label_smoothing_measure import FIGURES, measure
from crosstalk.data.word_batches import WordBatches
from crosstalk.models import Size, word_model
from crosstalk.places import write_atomically
from crosstalk.stand_ins.lesson_02 import padding_mask
from crosstalk.stand_ins.lesson_04 import EncoderDecoder
from crosstalk.stand_ins.lesson_05 import label_smoothing_loss, shift_right
from crosstalk.training import TrainStep, train

if TYPE_CHECKING:
    import datasets

SEED, STEPS, BATCH = 0, 800, 128


def smoothed_step(smoothing: float) -> TrainStep:
    """A `train_step` whose loss is smoothed by ε."""

    def step(
        model: torch.nn.Module,
        source: torch.Tensor,
        target: torch.Tensor,
        optimizer: torch.optim.Optimizer,
        pad_id: int,
        start_id: int,
    ) -> float:
        logits = model(source, shift_right(target, start_id), padding_mask(source, pad_id))
        loss = label_smoothing_loss(logits, target, pad_id, smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def build_model() -> EncoderDecoder:
    """The model that both trainings begin with, of the lessons' size."""
    torch.manual_seed(SEED)
    return word_model(own=False)


def held_out_words() -> datasets.Dataset:
    """The validation part of the split by family: no relative of its words was trained on."""
    return cmudict.load("validation")


def train_both() -> None:
    """Train both models and write their checkpoints."""
    batches = WordBatches(cmudict.load("train"), BATCH, SEED)
    for smoothing, name in CHECKPOINTS.items():
        model = build_model()
        # Under its name a training that was stopped goes on.
        log = train(model, batches, STEPS, smoothed_step(smoothing), name=name, words=(), device=torch.device("cpu"))
        save_model(
            model, name, Size(), log, f"{STEPS:,} steps of {BATCH} words of the split by family, ε = {smoothing:g}"
        )
        print(f"ε = {smoothing:g}: {log!r}", flush=True)


def main() -> None:
    """Train, measure, write the table, and put the figures into the card."""
    parser = argparse.ArgumentParser(description="Train and measure the models with and without label smoothing.")
    parser.add_argument("--measure", action="store_true", help="measure the checkpoints that are there; train nothing")
    torch.set_num_threads(1)
    if not parser.parse_args().measure:
        train_both()
    models = {smoothing: load_model(name, own=False) for smoothing, name in CHECKPOINTS.items()}
    table = measure(models, held_out_words())
    write_atomically(table_file(), json.dumps(table, separators=(",", ":")).encode())

    lines = ["| figure | ε = 0 | ε = 0.1 | difference | its 95 % interval |", "| --- " * 5 + "|"]
    for name in FIGURES:
        digits = 1 if name in ("per", "wer") else 3
        plain, smooth = (model[name]["value"] for model in table["models"])
        change = {key: f"{value:+.{digits}f}" for key, value in table["differences"][name].items()}
        lines.append(
            f"| {name} | {plain:.{digits}f} | {smooth:.{digits}f} | {change['value']} "
            f"| {change['low']} to {change['high']} |"
        )
    card = table_file().parent / "README.md"
    write_atomically(card, fill(card.read_text(encoding="utf-8"), {"table": "\n".join(lines)}))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
