"""Three trainings that differ in one thing only: how far the decoder's inputs are shifted against its labels.

    >>> from crosstalk.data import teacher_forcing
    >>> record = teacher_forcing.load()
    >>> [training["shift"] for training in record["trainings"]]
    [0, 1, 2]

How they were made is described in the card, assets/data/teacher_forcing/README.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from crosstalk.data.cmudict import START
from crosstalk.places import assets_folder
from crosstalk.stand_ins.lesson_05 import shift_right

SHIFTS = (0, 1, 2)


def record_file() -> Path:
    """Where the record is."""
    return assets_folder() / "data" / "teacher_forcing" / "trainings.json"


def load() -> dict[str, Any]:
    """What the three trainings left behind.

    Returns:
        ``vocabulary``, its size; ``held_out``, how many words the error rates were measured on; ``words``,
        the words that were decoded, each with ``word`` and its ``pronunciations``; ``steps``, after how many
        steps; and ``trainings``, one for each of `SHIFTS`, each with ``shift``, ``losses`` (nats, one a step),
        ``per`` and ``wer`` (percent, one for each of ``steps``) and ``samples``, for each of ``steps`` the
        tokens said for each word, with the end token if it came.

    Raises:
        FileNotFoundError: the record is missing; the message says how to make it.
    """
    file = record_file()
    if not file.is_file():
        raise FileNotFoundError(
            "The record of the three trainings is missing: run `python -m crosstalk.data.teacher_forcing_build`."
        )
    return json.loads(file.read_text(encoding="utf-8"))


def inputs_and_labels(target: torch.Tensor, shift: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What the decoder reads, and what it is asked for.

    Args:
        target: (batch, length), each row with its end token.
        shift: 0, the target itself goes in; 1, teacher forcing; 2, inputs are shifted right and labels left.

    Returns:
        inputs and labels of one shape, (batch, length), or (batch, length - 1) for a shift of 2.
    """
    if shift == 0:
        return target, target
    inputs = shift_right(target, START)
    return (inputs, target) if shift == 1 else (inputs[:, :-1], target[:, 1:])
