"""Build a module, copy weights in by name, run it, and look at what it did."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from autograder.messages import Tree
from autograder.observe import described
from autograder.scenarios.call import accepts, backward, changed, tensors_of, with_leaves
from crosstalk.layers import fused_attention, use_attention

MANY_VALUES = 40  # more than there are where each of the sub-layers adds a number or nothing


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
    attention inside it uses the fused one, which gives no weights; ``dropped``: a number of calls of which only that
    is looked at which dropout does (see `dropped`).

    Returns:
        ``kind`` (is it a Module), ``parameters`` (name → shape, all of them), ``attributes``, and, where asked for,
        ``initial``, ``saved`` and ``plain``. Where the names and shapes are those of the weights also ``result``,
        ``again`` (what the second call gave), ``changed``, ``gradients`` of inputs and parameters, ``calls`` of the
        recorded function, and ``training``, if the mode is another one afterwards. With ``dropped`` only ``kind`` and
        ``dropped``, which is None where the weights do not fit. Parameters are never compared by value: in which order
        they are made, and from which seed, is free.
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
    attributes = {name: _attribute(getattr(built, name, None)) for name in inputs["attributes"]}
    seen: dict[str, Tree] = {"kind": "module", "parameters": shapes, "attributes": attributes}
    if inputs.get("initial"):
        seen["initial"] = {name: _spread(parameters[name]) for name in inputs["initial"] if name in parameters}
    if inputs.get("saved"):
        seen["saved"] = sorted(built.state_dict())
        seen["plain"] = _plain_tensors(built)
    if shapes != {name: list(weight.shape) for name, weight in inputs["weights"].items()}:
        return {"kind": "module", "dropped": None} if inputs.get("dropped") else seen
    take_weights(built, inputs["weights"])
    if inputs.get("fused"):
        use_attention(built, fused_attention)
    built.train(inputs["train"])
    forward = inputs["forward"]
    accepts(built.forward, "forward", forward["args"], forward["kwargs"])
    if inputs.get("dropped"):
        return {"kind": "module", "dropped": dropped(built, forward["args"], forward["kwargs"], inputs["dropped"])}
    before = [tensor.clone() for _, tensor in tensors_of(forward)]
    passed, leaves = with_leaves(forward)
    leaves += [parameter for _, parameter in sorted(built.named_parameters())]
    result = built(*passed["args"], **passed["kwargs"])
    again = inputs["again"] and built(*inputs["again"]["args"], **inputs["again"]["kwargs"])
    if any(part.training != inputs["train"] for part in built.modules()):
        seen["training"] = not inputs["train"]
    if inputs.get("saved"):
        seen["plain"] = _plain_tensors(built)  # some are made in a call
    return seen | {
        "again": described(again),
        "result": described(result),
        "changed": changed(passed, before),
        "gradients": backward(result, leaves),
        "calls": calls,
    }


def _attribute(value: Any) -> Tree:
    return {"$kind": "function"} if callable(value) else described(value)


def _plain_tensors(built: nn.Module) -> list[str]:
    """The names of tensors that are neither parameter nor buffer."""
    return sorted({name for part in built.modules() for name, value in vars(part).items()
                   if isinstance(value, torch.Tensor)})  # fmt: skip


def dropped(module: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], calls: int) -> Tree:
    """What dropout does in many calls, so coarsely that no seed shows.

    It is for states that are 0, but for a 1 in the second feature, and for `even_weights`: all that is added to the
    other features is the same number before dropout, and nothing is added to the first two. So results are read on
    the scale of these two, and a norm at the end, which stretches and shifts a row, changes nothing.

    Returns:
        ``values``: those that occur, rounded, or words if there is no short list of them; ``mean`` of all;
        ``alike``: along which of calls, words, letters and features everything is the same.
    """
    with torch.no_grad():
        rows = torch.stack([module(*args, **kwargs) for _ in range(calls)])  # (calls, words, letters, features)
    read = (rows - rows[..., :1]) / (rows[..., 1:2] - rows[..., :1])
    read = read[..., 2:].double().mul(100).round().div(100) + 0.0  # no -0
    values, finite = read.unique().tolist(), bool(read.isfinite().all())
    if not finite or len(values) > MANY_VALUES:
        return {"values": "many" if finite else "not finite", "mean": None, "alike": []}
    along = ("calls", "words", "letters", "features")
    return {
        "values": values,
        "mean": round(float(read.mean()) * 5) / 5,
        "alike": [name for dim, name in enumerate(along) if torch.equal(read, read.narrow(dim, 0, 1).expand_as(read))],
    }


def even_weights(shapes: Mapping[str, Sequence[int]], silent: Sequence[str] = ()) -> dict[str, torch.Tensor]:
    """Weights for `dropped`, by the shapes of a layer's or a stack's parameters.

    What goes into a sub-layer is 1 everywhere, whatever the states are (its norm has scale 0 and shift 1), and what
    comes out is the same number in all features but the first two, or 0 for the sub-layers that are ``silent``.
    """
    weights = {}
    for name, shape in shapes.items():
        last = name.endswith(("output.weight", "contract.weight"))
        ones = name.endswith(".shift") or name == "norm.scale"
        weights[name] = torch.full(tuple(shape), float(ones) if len(shape) == 1 else 1 / shape[-1])
        if name == "norm.shift" or (last and any(f"{part}." in name for part in silent)):
            weights[name].zero_()
        elif last:
            weights[name][:2] = 0.0
    return weights


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
