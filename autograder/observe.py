"""Turn whatever student code returned into a tree that can be sent."""

from __future__ import annotations

from typing import Any

import torch

from autograder.messages import MAX_DEPTH, Tree

MAX_ITEMS = 10_000  # of one list; a longer one is told by its length


def described(value: Any, depth: int = 0) -> Tree:
    """The value as a tree: tensors and plain values as they are, all else by its kind.

    A thing that is neither becomes ``{"$kind": "numpy.ndarray", ...}``, which the judge names.
    """
    if value is None or type(value) in (bool, int, float, str) or isinstance(value, torch.dtype):
        return value
    if isinstance(value, torch.Tensor):
        plain = value.detach()
        if plain.layout is not torch.strided or plain.device.type != "cpu" or plain.is_complex():
            return {"$kind": f"tensor ({plain.layout}, {plain.device.type}, {plain.dtype})"}
        return plain.as_subclass(torch.Tensor).clone()
    if depth < MAX_DEPTH - 5:
        if type(value) in (list, tuple) and len(value) <= MAX_ITEMS:
            return type(value)(described(item, depth + 1) for item in value)
        if isinstance(value, tuple) and len(value) <= MAX_ITEMS:  # a named tuple is a tuple
            return tuple(described(item, depth + 1) for item in value)
        if type(value) is dict and len(value) <= MAX_ITEMS:
            return {str(key): described(item, depth + 1) for key, item in value.items()}
    kind = type(value)
    return {"$kind": f"{kind.__module__.removeprefix('builtins.')}.{kind.__qualname__}".removeprefix("builtins.")}
