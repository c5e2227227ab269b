"""Call a function on given arguments, without and with gradients."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from autograder.messages import Tree
from autograder.observe import described


class NotAccepted(TypeError):
    """The answer cannot be called with the arguments that its signature should take."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(why)
        self.what = what


def accepts(called: Any, what: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise `NotAccepted` where ``called(*args, **kwargs)`` does not fit the signature of ``called``."""
    signature = inspect.signature(called)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        names = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
        raise NotAccepted(what, f"{inspect.Signature(names)}: {error}") from None


def call(answer: Any, inputs: dict, earlier: Mapping[str, Any]) -> Tree:
    """Call ``answer(*args, **kwargs)``.

    Returns:
        ``result``, and ``changed``: the places of the arguments that the call changed; also ``learnable``, where the
        result requires a gradient though nothing that came in does.
    """
    accepts(answer, "", inputs["args"], inputs["kwargs"])
    before, lists = [tensor.clone() for _, tensor in tensors_of(inputs)], _lists(inputs)
    result = answer(*inputs["args"], **inputs["kwargs"])
    moved = [path for path, value in _lists(inputs).items() if value != lists[path]]
    seen: dict[str, Tree] = {"result": described(result), "changed": changed(inputs, before) + moved}
    return seen | ({"learnable": True} if any(tensor.requires_grad for _, tensor in tensors_of(result)) else {})


def gradients(answer: Any, inputs: dict, earlier: Mapping[str, Any]) -> Tree:
    """Call with every floating-point argument requiring a gradient, and go backward from all results.

    Returns:
        ``result``, and ``gradients``: for each argument, None where nothing reached it.
    """
    accepts(answer, "", inputs["args"], inputs["kwargs"])
    passed, leaves = with_leaves(inputs)
    result = answer(*passed["args"], **passed["kwargs"])
    found = backward(result, leaves)
    return {"result": described(result), "gradients": found}


def with_leaves(inputs: dict) -> tuple[dict[str, Any], list[torch.Tensor]]:
    """The arguments to pass, and the leaves behind them at which gradients are taken.

    What is passed is a copy that follows from the leaf: a leaf itself may not be changed in place, and an answer
    that does so should be told that, not fail by it.
    """
    leaves: list[torch.Tensor] = []

    def behind(value: Any) -> Any:
        if not (isinstance(value, torch.Tensor) and value.is_floating_point()):
            return value
        leaves.append(value.requires_grad_())
        return value.clone()

    args = [behind(value) for value in inputs["args"]]
    return {"args": args, "kwargs": {key: behind(value) for key, value in inputs["kwargs"].items()}}, leaves


def backward(result: Any, leaves: list[torch.Tensor]) -> list[torch.Tensor | None]:
    """Gradients at the leaves of a fixed weighted sum over all floating-point results.

    The weights (cosines) differ from place to place: an unweighted sum would hide mistakes, since the
    gradient of a softmax under equal weights is zero.
    """
    total: torch.Tensor | float = 0.0
    for _, tensor in tensors_of(result):
        if tensor.is_floating_point() and tensor.requires_grad:
            weight = torch.cos(torch.arange(tensor.numel(), dtype=tensor.dtype)).reshape(tensor.shape)
            total = total + (tensor * weight).sum()
    if not isinstance(total, torch.Tensor):
        return [None for _ in leaves]
    return list(torch.autograd.grad(total, leaves, allow_unused=True))


def tensors_of(tree: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors of a tree with their paths (``args.0``), in a fixed order."""
    if isinstance(tree, torch.Tensor):
        yield path, tree
    elif isinstance(tree, list | tuple):
        for index, item in enumerate(tree):
            yield from tensors_of(item, f"{path}.{index}" if path else str(index))
    elif isinstance(tree, dict):
        for key, item in tree.items():
            yield from tensors_of(item, f"{path}.{key}" if path else str(key))


def _lists(inputs: Mapping[str, Any]) -> dict[str, list]:
    """Copies of the arguments that are lists of plain values, by their paths (``args.0``)."""
    arguments = [(f"args.{index}", value) for index, value in enumerate(inputs["args"])]
    arguments += [(f"kwargs.{name}", value) for name, value in inputs["kwargs"].items()]
    return {
        path: copy.deepcopy(value)
        for path, value in arguments
        if isinstance(value, list) and not any(True for _ in tensors_of(value))
    }


def changed(inputs: Any, before: list[torch.Tensor]) -> list[str]:
    """The paths of the input tensors that are no longer what they were."""
    now = tensors_of(inputs)
    return [path for (path, tensor), old in zip(now, before, strict=True) if not _same(tensor, old)]


def _same(tensor: torch.Tensor, old: torch.Tensor) -> bool:
    if tensor.shape != old.shape or tensor.dtype != old.dtype:
        return False
    return bool(torch.equal(torch.nan_to_num(tensor), torch.nan_to_num(old)))
