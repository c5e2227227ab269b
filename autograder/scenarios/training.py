"""Take training steps with a tiny model from given weights, and look at what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from autograder.messages import Tree
from autograder.observe import described
from autograder.scenarios.call import accepts, changed, tensors_of
from autograder.scenarios.module import take_weights

_OPTIMIZERS = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}


def training(answer: Any, inputs: dict, earlier: Mapping[str, Any]) -> Tree:
    """Call ``answer(model, source, target, optimizer, pad_id, start_id)`` once for each batch.

    ``inputs`` has ``sizes`` (vocabulary, d_model, heads, d_ff), ``weights`` (name → tensor), ``optimizer`` and
    ``options`` (such as lr), ``stale`` (what every gradient is before the first step), ``batches`` (pairs of
    source and target), ``pad_id``, ``start_id`` and ``watch`` (names of weights to look at).

    Returns:
        For each step: ``result``, what it returned; ``reads``, what the model was given (see `_Reading`);
        ``backward``, how often gradients were computed; ``stepped``, how often ``optimizer.step()`` was called;
        ``at_step``, the watched gradients when that was done; ``training``, the model's mode afterwards. And after
        the last: ``weights``, the watched ones; ``changed``, which inputs were changed. And ``adrift``, where in a step
        `torch.autograd.backward` was called, as ``loss.backward()`` does, and no gradient came back to the model.
    """
    model, optimizer = tiny_model(inputs, earlier)
    batches = inputs["batches"]
    before = [tensor.clone() for _, tensor in tensors_of(batches)]
    parameters = dict(model.named_parameters())
    results, reads, modes = [], [], []
    moves = _Moves(optimizer, {name: parameters[name] for name in inputs["watch"]})
    for source, target in batches:
        arguments = (model, source, target, optimizer, inputs["pad_id"], inputs["start_id"])
        accepts(answer, "", arguments, {})
        moves.begin()
        with _Reading(model, source, target, inputs["pad_id"]) as reading, moves.listening():
            results.append(described(answer(*arguments)))
        reads.append(reading.seen)
        modes.append(model.training)
    seen: dict[str, Tree] = {
        "result": tuple(results),
        "reads": reads,
        "backward": moves.backward,
        "stepped": moves.stepped,
        "at_step": moves.at_step,
        "weights": {name: described(parameters[name]) for name in inputs["watch"]},
        "training": modes,
        "changed": sorted({f"args.{1 + int(path.split('.')[1])}" for path in changed(batches, before)}),
    }
    return seen | ({"adrift": True} if moves.adrift else {})


def tiny_model(inputs: Mapping[str, Any], earlier: Mapping[str, Any]) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The model of a case with its weights and stale gradients, in training mode, and its optimiser."""
    model = new_model(inputs["sizes"], inputs["pad_id"], earlier)
    take_weights(model, inputs["weights"])
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, inputs["stale"])
    return model.train(), _OPTIMIZERS[inputs["optimizer"]](model.parameters(), **inputs["options"])


def new_model(sizes: Mapping[str, int], pad_id: int, earlier: Mapping[str, Any]) -> nn.Module:
    """A small EncoderDecoder of the given pieces; ``sizes`` has vocabulary, d_model, heads and d_ff."""
    vocabulary, d_model, heads, d_ff = (sizes[key] for key in ("vocabulary", "d_model", "heads", "d_ff"))
    model: nn.Module = earlier["EncoderDecoder"](
        earlier["TokenEmbedding"](vocabulary, d_model, pad_id),
        earlier["Encoder"](1, d_model, heads, d_ff),
        earlier["TokenEmbedding"](vocabulary, d_model, pad_id),
        earlier["Decoder"](1, d_model, heads, d_ff),
        nn.Linear(d_model, vocabulary),
    )
    return model


def first_step(inputs: Mapping[str, Any], earlier: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the first step, for the student to try by hand."""
    model, optimizer = tiny_model(inputs, earlier)
    source, target = inputs["batches"][0]
    return [model, source, target, optimizer, inputs["pad_id"], inputs["start_id"]], {}


class _Moves:
    """Counts, for each training step, how often gradients were computed and the optimiser moved the weights."""

    def __init__(self, optimizer: torch.optim.Optimizer, watched: Mapping[str, nn.Parameter]) -> None:
        self.watched = watched
        self.backward: list[int] = []
        self.stepped: list[int] = []
        self.adrift = False
        self.at_step: list[dict[str, Tree]] = []
        next(iter(watched.values())).register_hook(self._count_backward)
        optimizer.register_step_post_hook(self._count_step)

    def begin(self) -> None:
        """A new training step begins."""
        self.backward.append(0)
        self.stepped.append(0)
        self.at_step.append({})

    @contextmanager
    def listening(self) -> Iterator[None]:
        """During a training step: does a call of backward leave the model without gradients?"""
        went, original = [], torch.autograd.backward

        def noting(*args: Any, **kwargs: Any) -> None:
            went.append(True)
            original(*args, **kwargs)

        torch.autograd.backward = noting  # what `Tensor.backward` calls
        try:
            yield
        finally:
            torch.autograd.backward = original
        self.adrift |= bool(went) and not self.backward[-1]

    def _count_backward(self, gradient: torch.Tensor) -> None:
        self.backward[-1] += 1

    def _count_step(self, *_: Any) -> None:
        self.stepped[-1] += 1
        self.at_step[-1] = {name: described(parameter.grad) for name, parameter in self.watched.items()}


class _Reading:
    """Writes down what a model is given when it first runs.

    ``seen`` has ``inputs``, the decoder's (0 where the target is padding: what stands there does not count),
    ``visible``, bool (batch, source): which source tokens the real ones may attend to; and ``training``, whether
    all of it was in training mode in the last run that gradients went through.
    """

    def __init__(self, model: nn.Module, source: torch.Tensor, target: torch.Tensor, pad_id: int) -> None:
        self.model, self.source, self.target, self.pad_id = model, source.clone(), target.clone(), pad_id
        self.seen: dict[str, Tree] = {}

    def __enter__(self) -> _Reading:
        embedding, encoder = self.model.target_embedding, self.model.encoder
        assert isinstance(embedding, nn.Module)
        assert isinstance(encoder, nn.Module)
        self.hooks = [
            embedding.register_forward_pre_hook(self._inputs, with_kwargs=True),
            encoder.register_forward_pre_hook(self._visible, with_kwargs=True),
        ]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _inputs(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        given = args[0] if args else kwargs["tokens"]
        if given.shape == self.target.shape:
            given = given.masked_fill(self.target == self.pad_id, 0)
        self.seen.setdefault("inputs", described(given))
        if torch.is_grad_enabled():
            self.seen["training"] = all(part.training for part in self.model.modules())

    def _visible(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        mask = args[1] if len(args) > 1 else kwargs.get("mask")
        real = self.source != self.pad_id  # (batch, source)
        every = torch.ones(len(real), 1, real.size(1), real.size(1), dtype=torch.bool)
        try:
            allowed = (every if mask is None else every & mask).any(dim=1)  # (batch, queries, keys)
            visible: Tree = (allowed & real[:, :, None]).any(dim=1)
        except (RuntimeError, TypeError):
            visible = "a mask that does not fit"  # the model itself will say so
        self.seen.setdefault("visible", visible)
