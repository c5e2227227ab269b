"""Inputs for cases that take training steps, for the exercises of lessons 05 and 06."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from autograder.draw import Draw
from autograder.messages import Tree
from autograder.scenarios.training import new_model
from crosstalk import my_model

SIZES = {"vocabulary": 8, "d_model": 4, "heads": 2, "d_ff": 6}


def training_steps(
    draw: Draw,
    *lengths: tuple[list[int], list[int]],
    watch: Sequence[str],
    pad_id: int = 0,
    start_id: int = 1,
    optimizer: str = "SGD",
    lr: float = 0.5,
    dtype: torch.dtype = torch.float32,
    width: int | None = None,
) -> dict[str, Tree]:
    """Inputs of the scenario ``training``: random weights, and words of the ids 3 to 6.

    Args:
        lengths: for each batch, those of its sources, and those of its targets, which end with the token 2.
        watch: names of the weights to look at.
        width: of every source; None: that of the longest in its batch.
    """
    stand_ins = {name: my_model.stand_in(name) for name in ("TokenEmbedding", "Encoder", "Decoder", "EncoderDecoder")}
    parameters = new_model(SIZES, pad_id, stand_ins).named_parameters()
    drawn = draw.weights(**{name: tuple(parameter.shape) for name, parameter in parameters})
    batches = []
    for of_sources, of_targets in lengths:
        source, target = draw.padded(of_sources, 3, 7, pad_id, width), draw.padded(of_targets, 3, 7, pad_id)
        for row, length in zip(target, of_targets, strict=True):
            row[length - 1] = 2
        batches.append([source, target])
    return {
        "sizes": SIZES,
        "weights": {name: (drawn[name] + name.endswith("scale")).to(dtype) for name in sorted(drawn)},
        "optimizer": optimizer,
        "options": {"lr": lr},
        "stale": 0.5,
        "batches": batches,
        "pad_id": pad_id,
        "start_id": start_id,
        "watch": list(watch),
    }
