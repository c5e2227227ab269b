"""Trains the shipped models of words, ``assets/checkpoints/cmudict*.safetensors``, and prints their error rates.

    python -m crosstalk.data.cmudict_checkpoint_build [cmudict | cmudict-lesson]

The large one takes about one and a half hours on one core, that of the lessons' size four minutes. A training can
be stopped, and goes on when run again.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import torch
from torch import nn

from crosstalk.checkpoints import save_model
from crosstalk.data import cmudict
from crosstalk.data.word_batches import WordBatches
from crosstalk.layers import lean_attention
from crosstalk.metrics import error_rates
from crosstalk.models import Size, word_model
from crosstalk.optimizers import MuonAndAdamW
from crosstalk.stand_ins.lesson_02 import padding_mask
from crosstalk.stand_ins.lesson_05 import label_smoothing_loss, shift_right, train_step
from crosstalk.training import TrainStep, train


@dataclass(frozen=True)
class Recipe:
    """How one checkpoint is trained."""

    size: Size
    by: cmudict.By
    steps: int
    words: int  # in a batch
    step: TrainStep
    weight_decay: float
    loss: str


def smoothed_step(
    model: nn.Module,
    source: torch.Tensor,
    target: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    pad_id: int,
    start_id: int,
) -> float:
    """One step of teacher forcing with label smoothing of 0.1."""
    logits = model(source, shift_right(target, start_id), padding_mask(source, pad_id))
    loss = label_smoothing_loss(logits, target, pad_id, 0.1)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


RECIPES = {
    "cmudict": Recipe(
        Size(d_model=256, heads=4, d_ff=1024, encoder_layers=3, decoder_layers=2, dropout=0.15),
        "random", 10_000, 256, smoothed_step, 0.02, "label smoothing 0.1",
    ),
    "cmudict-lesson": Recipe(Size(), "family", 3_000, 128, train_step, 0.01, "plain cross-entropy"),
}  # fmt: skip


def build(name: str) -> None:
    """Train one checkpoint, and say how it does on words that it has not seen."""
    recipe, begun = RECIPES[name], time.monotonic()
    torch.manual_seed(0)
    model = word_model(recipe.size, own=False, attention=lean_attention)
    batches = WordBatches(cmudict.load("train", by=recipe.by), recipe.words)
    optimizer = MuonAndAdamW(model, weight_decay=recipe.weight_decay)
    log = train(model, batches, recipe.steps, recipe.step, name=name, optimizer=optimizer)
    if log.step < recipe.steps:
        return
    made = (f"{recipe.steps:,} steps of {recipe.words} words, train part of the {recipe.by} split, "
            f"{recipe.loss}, dropout {recipe.size.dropout}")  # fmt: skip
    file = save_model(model, name, recipe.size, log, made)
    print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB, {made}; {time.monotonic() - begun:.0f} s in this run")
    for split in ("validation", "test"):
        print(f"{split}, {recipe.by} split: {error_rates(model, cmudict.load(split, by=recipe.by))}")
    trained_on = set(cmudict.load("train", by=recipe.by)[:]["family"])
    test = cmudict.load("test", by=recipe.by)
    for has, whose in ((True, "with"), (False, "without")):
        rows = [row for row, family in enumerate(test[:]["family"]) if (family in trained_on) is has]
        if rows:
            print(f"test words {whose} a relative in training: {error_rates(model, test.select(rows))}")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or RECIPES:
        build(chosen)
