"""The trained models that ship with the course: safetensors in half precision, sizes and log in the header.

Each stands in ``assets/checkpoints`` with a card, README.md, that says what it was trained on, how, and how well it
does.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from safetensors.torch import save

from crosstalk import my_model
from crosstalk.models import Size, word_model
from crosstalk.places import assets_folder, write_atomically
from crosstalk.stand_ins.lesson_04 import EncoderDecoder
from crosstalk.training_log import TrainingLog
from crosstalk.training_state import trained_weights

if TYPE_CHECKING:
    import torch


def checkpoint_file(name: str) -> Path:
    """Where a checkpoint is."""
    return assets_folder() / "checkpoints" / f"{name}.safetensors"


def load_model(name: str, *, own: bool = True, attention: Callable | None = None) -> EncoderDecoder:
    """A trained model, ready to use: the checkpoint's weights in the student's own pieces.

    Args:
        name: such as ``"cmudict"``.
        own: use the student's pieces where there are some, or stand-ins alone.
        attention: what each head does; the `masked_attention` piece unless given.

    Raises:
        FileNotFoundError: there is no such checkpoint; the message lists those there are.
    """
    weights, header = _read(name)
    model = word_model(Size(**header["size"]), own=own, attention=attention)
    model.load_state_dict(weights)
    return model.eval()


def own_model(name: str = "my-model", otherwise: str = "cmudict-lesson") -> EncoderDecoder:
    """The model that the student has trained in lesson 05, or a checkpoint of the same size; a line says which.

    Args:
        name: of the training, whose state stands in ``work/training``.
        otherwise: the checkpoint that is taken where that training has not come to its end (and while a notebook is
            graded).
    """
    weights = trained_weights(name) if my_model.keeps_pieces() else None
    if weights is not None:
        model = word_model()
        try:
            model.load_state_dict(weights)
        except RuntimeError:
            print(f"{name}: of another size than the lesson's, so the checkpoint {otherwise!r} takes its place.")
        else:
            print(f"{name}: the model that you have trained.")
            return model.eval()
    else:
        print(f"The checkpoint {otherwise!r}: no training of yours, {name!r}, has come to its end.")
    return load_model(otherwise)


def load_into(model: EncoderDecoder, name: str) -> TrainingLog:
    """Copy a checkpoint's weights into a model of the same size, and give the log of its training.

    Raises:
        ValueError: the model has other sizes.
    """
    weights, header = _read(name)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"The checkpoint {name!r} has other sizes than this model: {header['size']}.") from error
    return log_of(header)


def save_model(model: EncoderDecoder, name: str, size: Size, log: TrainingLog, made: str) -> Path:
    """Write a checkpoint in half precision.

    Args:
        made: one sentence: on what, how long.
    """
    weights = {key: weight.half() for key, weight in model.state_dict().items()}
    # 200 points of the curve are enough to draw it
    header = {"size": dataclasses.asdict(size), "made": made, "steps": log.steps, "said": log.said,
              "curve": [[step, round(loss, 4)] for step, loss in log.smoothed(200)]}  # fmt: skip
    file = checkpoint_file(name)
    write_atomically(file, save(weights, {"crosstalk": json.dumps(header)}))
    return file


def log_of(header: dict[str, Any]) -> TrainingLog:
    """The training's log from a checkpoint's header: each stretch of its curve stands for the steps in it."""
    steps, curve = header["steps"], header["curve"]
    edges = [round(index * steps / len(curve)) for index in range(len(curve) + 1)]
    losses = [loss for (_, loss), begin, end in zip(curve, edges, edges[1:], strict=False) for _ in range(begin, end)]
    return TrainingLog(steps, losses, {int(step): said for step, said in header["said"].items()})


def _read(name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    file = checkpoint_file(name)
    if not file.is_file():
        there = ", ".join(sorted(each.stem for each in file.parent.glob("*.safetensors"))) or "none"
        raise FileNotFoundError(f"There is no checkpoint {name!r} in assets/checkpoints; there are: {there}.")
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["crosstalk"])
        return {key: opened.get_tensor(key).float() for key in opened.keys()}, header  # noqa: SIM118 - not a mapping
