"""Call a function on given arguments, without and with gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from autograder.messages import Tree
from autograder.observe import described


def call(answer: Any, inputs: dict, earlier: Mapping[str, Any]) -> Tree:
    """Call ``answer(*args, **kwargs)``.

    Returns:
        ``result``, and ``changed``: the places of the arguments that the call changed.
    """
    before = [tensor.clone() for _, tensor in tensors_of(inputs)]
    result = answer(*inputs["args"], **inputs["kwargs"])
    return {"result": described(result), "changed": changed(inputs, before)}


def gradients(answer: Any, inputs: dict, earlier: Mapping[str, Any]) -> Tree:
    """Call with every floating-point argument requiring a gradient, and go backward from all results.

    Returns:
        ``result``, and ``gradients``: for each argument, None where nothing reached it.
    """
    leaves = [tensor.requires_grad_() for _, tensor in tensors_of(inputs) if tensor.is_floating_point()]
    # A leaf may not be changed in place, which is no fault of the answer: hand over what follows from it.
    result = answer(*map(_behind, inputs["args"]), **{k: _behind(v) for k, v in inputs["kwargs"].items()})
    found = backward(result, leaves)
    return {"result": described(result), "gradients": found}


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


def changed(inputs: Any, before: list[torch.Tensor]) -> list[str]:
    """The paths of the input tensors that are no longer what they were."""
    now = tensors_of(inputs)
    return [path for (path, tensor), old in zip(now, before, strict=True) if not _same(tensor, old)]


def _same(tensor: torch.Tensor, old: torch.Tensor) -> bool:
    if tensor.shape != old.shape or tensor.dtype != old.dtype:
        return False
    return bool(torch.equal(torch.nan_to_num(tensor), torch.nan_to_num(old)))


def _behind(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.requires_grad:
        return value.view_as(value)
    return value
