"""The state of a training on disk, so that it can be stopped and go on: weights, optimiser, losses, random numbers.

One safetensors file, ``work/training/NAME.safetensors``, written atomically; nothing is pickled.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from crosstalk.places import work_folder, write_atomically
from crosstalk.training_log import TrainingLog


class State:
    """Where a training stands, in memory and on disk.

    Args:
        name: of the file; None keeps nothing.
        model, optimizer, log: what is kept, and set when it is loaded.
        steps: of the whole training; a state of another length is not gone on from.
    """

    def __init__(
        self, name: str | None, model: nn.Module, optimizer: torch.optim.Optimizer, log: TrainingLog, steps: int
    ) -> None:
        self.file = training_file(name) if name else None
        self.model, self.optimizer, self.log, self.steps = model, optimizer, log, steps
        self._saved = time.monotonic()

    def seconds_since_saved(self) -> float:
        """Since the last save, or since the start."""
        return time.monotonic() - self._saved

    def save(self) -> None:
        """Write all of it."""
        self._saved = time.monotonic()
        if not self.file:
            return
        tensors: dict[str, torch.Tensor] = {"random": torch.get_rng_state()}
        tree = {"optimizer": _taken_apart(self.optimizer.state_dict(), "optimizer", tensors)}
        tensors |= {f"model.{name}": weight for name, weight in self.model.state_dict().items()}
        tree |= {"steps": self.steps, "losses": self.log.losses, "said": self.log.said}
        cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_atomically(self.file, save(cpu, {"state": json.dumps(tree)}))

    def load(self) -> None:
        """Go on from what is on disk, where it belongs to this training; say so, or say why not."""
        if not (self.file and self.file.is_file()):
            return
        try:
            tree, tensors = _read(self.file)
        except (SafetensorError, OSError, KeyError, ValueError):
            return self._begin_anew("cannot be read")
        weights = _weights(tensors)
        if _shapes(weights) != _shapes(self.model.state_dict()):
            return self._begin_anew("belongs to a model of another size")
        if tree["steps"] != self.steps:
            return self._begin_anew(f"belongs to a training of {tree['steps']:,} steps")
        self.model.load_state_dict(weights)
        self.optimizer.load_state_dict(_put_together(tree["optimizer"], tensors))
        torch.set_rng_state(tensors["random"])
        self.log.losses[:] = tree["losses"]
        self.log.said.update({int(step): said for step, said in tree["said"].items()})
        if self.log.step >= self.steps:
            print(f"Trained already: {self.log}. To train anew, delete {self.file.name} in work/training.")
        else:
            print(f"Going on from step {self.log.step:,}.")

    def _begin_anew(self, why: str) -> None:
        assert self.file
        kept = self.file.with_suffix(".old.safetensors")
        self.file.replace(kept)
        print(f"{self.file.name} {why}: kept as {kept.name}, and the training begins anew.")


def training_file(name: str) -> Path:
    """Where the state of a training is kept."""
    return work_folder() / "training" / f"{name}.safetensors"


def trained_weights(name: str) -> dict[str, torch.Tensor] | None:
    """The model's weights from a training that has come to its end, or None where there is none that can be read."""
    try:
        tree, tensors = _read(training_file(name))
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
    return _weights(tensors) if len(tree["losses"]) >= tree["steps"] else None


def _read(file: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    with safe_open(file, framework="pt") as opened:
        tree = json.loads(opened.metadata()["state"])
        return tree, {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping


def _weights(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("model."): each for name, each in tensors.items() if name.startswith("model.")}


def _shapes(weights: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}


def _taken_apart(tree: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """The tree as JSON, its tensors moved to ``tensors`` and named by their place."""
    if isinstance(tree, torch.Tensor):
        tensors[path] = tree
        return {"tensor": path}
    if isinstance(tree, dict):  # as pairs, since the keys of an optimiser's state are numbers
        return {"pairs": [[key, _taken_apart(each, f"{path}.{key}", tensors)] for key, each in tree.items()]}
    if isinstance(tree, list | tuple):
        return [_taken_apart(each, f"{path}.{index}", tensors) for index, each in enumerate(tree)]
    return tree


def _put_together(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(tree, dict):
        if "tensor" in tree:
            return tensors[tree["tensor"]]
        return {key: _put_together(each, tensors) for key, each in tree["pairs"]}
    if isinstance(tree, list):
        return [_put_together(each, tensors) for each in tree]
    return tree
