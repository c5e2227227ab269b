"""Build a module, copy weights in by name, run it, and look at what it did."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from autograder.messages import Tree
from autograder.observe import described
from autograder.scenarios.call import accepts, backward, changed, tensors_of, with_leaves
from crosstalk.layers import fused_attention, use_attention


def module(answer: Any, inputs: dict, earlier: Mapping[str, Any]) -> Tree:
    """Build ``answer(*args, **kwargs)``, copy weights in by name, call it, and go backward.

    ``inputs`` has ``build`` and ``forward`` (each with args and kwargs), ``weights`` (name → tensor), and may
    have ``record``: the name of an earlier exercise that is handed to the constructor as the keyword
    ``record["as"]`` and whose calls are written down: the shapes of its arguments, or, for those named in
    ``record["loosely"]``, whether they were given; with ``record["without_weights"]`` it returns None for its
    second result, as fused attention does. ``attributes`` are names that later lessons read from the object.
    ``again`` is a second call of the same object, or None, and ``train`` says whether it runs in training mode.
    It may also have ``initial``: the names of parameters whose first values are looked at, loosely; ``saved``: look
    at the names in the state dict, and for tensors that are neither parameter nor buffer; ``fused``: every
    attention inside it uses the fused one, which gives no weights.

    Returns:
        ``kind`` (is it a Module), ``parameters`` (name → shape, all of them), ``attributes``, and, where asked for,
        ``initial``, ``saved`` and ``plain``. Where the names and shapes are those of the weights also ``result``,
        ``again`` (what the second call gave), ``changed``, ``gradients`` of inputs and parameters, and ``calls`` of the
        recorded function. Parameters are never compared by value: in which order they are made, and from which
        seed, is free.
    """
    calls: list[Tree] = []
    build = dict(inputs["build"]["kwargs"])
    if record := inputs.get("record"):
        build[record["as"]] = recorded(earlier[record["name"]], record, calls)
    accepts(answer, "", inputs["build"]["args"], build)
    built = answer(*inputs["build"]["args"], **build)
    if not isinstance(built, nn.Module):
        return {"kind": described(built)}
    parameters = dict(built.named_parameters(remove_duplicate=False))
    shapes = {name: list(parameter.shape) for name, parameter in sorted(parameters.items())}
    attributes = {name: described(getattr(built, name, None)) for name in inputs["attributes"]}
    seen: dict[str, Tree] = {"kind": "module", "parameters": shapes, "attributes": attributes}
    if inputs.get("initial"):
        seen["initial"] = {name: _spread(parameters[name]) for name in inputs["initial"] if name in parameters}
    if inputs.get("saved"):
        seen["saved"] = sorted(built.state_dict())
        seen["plain"] = sorted(
            name for part in built.modules() for name, value in vars(part).items() if isinstance(value, torch.Tensor)
        )
    if shapes != {name: list(weight.shape) for name, weight in inputs["weights"].items()}:
        return seen
    take_weights(built, inputs["weights"])
    if inputs.get("fused"):
        use_attention(built, fused_attention)
    built.train(inputs["train"])
    forward = inputs["forward"]
    accepts(built.forward, "forward", forward["args"], forward["kwargs"])
    before = [tensor.clone() for _, tensor in tensors_of(forward)]
    passed, leaves = with_leaves(forward)
    leaves += [parameter for _, parameter in sorted(built.named_parameters())]
    result = built(*passed["args"], **passed["kwargs"])
    again = inputs["again"] and built(*inputs["again"]["args"], **inputs["again"]["kwargs"])
    return seen | {
        "again": described(again),
        "result": described(result),
        "changed": changed(passed, before),
        "gradients": backward(result, leaves),
        "calls": calls,
    }


def _spread(parameter: torch.Tensor) -> Tree:
    """The first values of a parameter, so coarsely that no seed shows: mean, log2 of the deviation, rows of zeros."""
    values = parameter.detach().double()
    deviation = float(values.std(correction=0))
    return {
        "mean": round(float(values.mean()), 1),
        "log2 of std": round(math.log2(deviation)) if deviation > 0 else None,
        "rows of zeros": [row for row, vector in enumerate(values) if values.dim() > 1 and not vector.any()],
    }


def take_weights(module: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights in by name; a module that gets float64 weights becomes float64."""
    if any(weight.dtype == torch.float64 for weight in weights.values()):
        module.double()
    parameters = dict(module.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(weight)


def recorded(function: Any, record: Mapping[str, Any], calls: list[Tree]) -> Any:
    """The function, made to write its calls down in ``calls`` (see `module` for ``record``)."""
    signature = inspect.signature(function)

    def recorder(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)  # by position or by name is the same call
        bound.apply_defaults()
        calls.append({name: _noted(value, name in record["loosely"]) for name, value in bound.arguments.items()})
        result = function(*args, **kwargs)
        return (result[0], None) if record.get("without_weights") else result

    return recorder


def _noted(value: Any, loosely: bool) -> Tree:
    if loosely:
        return "nothing" if value is None else "given"
    return list(value.shape) if isinstance(value, torch.Tensor) else described(value)
