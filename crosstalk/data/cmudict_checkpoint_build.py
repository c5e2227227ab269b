"""Trains the shipped model of words, ``assets/checkpoints/cmudict.safetensors``, and prints its error rates.

    python -m crosstalk.data.cmudict_checkpoint_build

It takes about one and a half hours on one core, can be stopped, and goes on when run again.
"""

from __future__ import annotations

import torch
from torch import nn

from crosstalk.checkpoints import save_model
from crosstalk.data import cmudict
from crosstalk.data.word_batches import WordBatches
from crosstalk.metrics import error_rates
from crosstalk.models import Size, word_model
from crosstalk.optimizers import MuonAndAdamW
from crosstalk.stand_ins.lesson_02 import masked_attention, padding_mask
from crosstalk.stand_ins.lesson_05 import label_smoothing_loss, shift_right
from crosstalk.training import train

SIZE = Size(d_model=256, heads=4, d_ff=1024, encoder_layers=3, decoder_layers=2, dropout=0.2)
STEPS, WORDS, SMOOTHING = 12_000, 256, 0.1


def smoothed_step(
    model: nn.Module,
    source: torch.Tensor,
    target: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    pad_id: int,
    start_id: int,
) -> float:
    """One step of teacher forcing with label smoothing."""
    logits = model(source, shift_right(target, start_id), padding_mask(source, pad_id))
    loss = label_smoothing_loss(logits, target, pad_id, SMOOTHING)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def main() -> None:
    """Train on the random split's training words, and say how the result does on words that it has not seen."""
    torch.manual_seed(0)
    model = word_model(SIZE, own=False, attention=masked_attention)
    batches = WordBatches(cmudict.load("train", by="random"), WORDS)
    optimizer = MuonAndAdamW(model, weight_decay=0.05)
    log = train(model, batches, STEPS, smoothed_step, name="cmudict", optimizer=optimizer)
    if log.step < STEPS:
        return
    made = f"{STEPS:,} steps of {WORDS} words of the random split's training words, label smoothing {SMOOTHING}"
    print(save_model(model, "cmudict", SIZE, log, made).name)
    for split in ("validation", "test"):
        print(split, error_rates(model, cmudict.load(split, by="random")))


if __name__ == "__main__":
    main()
