"""What three minutes of training give: PER and WER of the lessons' model on words that it has not seen.

    python benchmarks/training.py [--seconds 180] [--splits random family] [--optimizers muon adamw]

The number of steps follows from a short trial of this machine's speed, so that the training takes about as long as
asked; what it took is printed. Quiet the machine first: other programs cost steps.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time

import torch
from torch import nn

from crosstalk.data import cmudict
from crosstalk.data.word_batches import WordBatches
from crosstalk.machine import small_model
from crosstalk.metrics import error_rates
from crosstalk.models import word_model
from crosstalk.optimizers import MuonAndAdamW
from crosstalk.stand_ins.lesson_04 import EncoderDecoder
from crosstalk.stand_ins.lesson_05 import train_step
from crosstalk.training import train

BATCH, TRIAL = 128, 60  # words, steps
CPU = torch.device("cpu")


def optimizer_of(name: str, model: nn.Module) -> torch.optim.Optimizer:
    """The lessons' optimiser, or AdamW alone."""
    if name == "muon":
        return MuonAndAdamW(model)
    return torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)


def trained(batches: WordBatches, steps: int, optimizer: str) -> tuple[EncoderDecoder, float]:
    """A model after ``steps`` steps from the same beginning, and the seconds that they took."""
    torch.manual_seed(0)
    model = word_model(own=False)
    begin = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        train(model, batches, steps, train_step, optimizer=optimizer_of(optimizer, model), words=(), device=CPU)
    return model, time.perf_counter() - begin


def main() -> None:
    """Train and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--splits", nargs="+", choices=("random", "family"), default=["random", "family"])
    parser.add_argument("--optimizers", nargs="+", choices=("muon", "adamw"), default=["muon", "adamw"])
    asked = parser.parse_args()
    with small_model(nn.Identity(), CPU):
        precision = "bfloat16" if torch.is_autocast_enabled("cpu") else "float32"
        print(f"{torch.get_num_threads()} thread(s), {precision}, batches of {BATCH} words\n")
    print("| split | optimiser | steps | seconds | PER | WER | PER, first listed | WER, first listed |")
    print("| --- " * 8 + "|")
    for by in asked.splits:
        batches = WordBatches(cmudict.load("train", by=by), BATCH)
        words = cmudict.load("test", by=by)
        for optimizer in asked.optimizers:
            trained(batches, TRIAL, optimizer)  # the first steps of a process are slow
            _, trial = trained(batches, TRIAL, optimizer)
            steps = round(asked.seconds * TRIAL / trial)
            model, seconds = trained(batches, steps, optimizer)
            rates = error_rates(model, words)
            print(f"| {by} | {optimizer} | {steps:,} | {seconds:.0f} | {rates.per:.1f} | {rates.wer:.1f} "
                  f"| {rates.first_per:.1f} | {rates.first_wer:.1f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
