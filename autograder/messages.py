"""What runner and judge say to each other: JSON headers and raw tensor bytes, sizes capped, nothing pickled.

A message is a tree: None, bool, int, float, str, list, tuple, dict with string keys, dtypes and tensors. On the
wire it is ``CTK1``, the length of the header (4 bytes, big-endian), the header (JSON), and the bytes of the
tensors one after the other.
"""

from __future__ import annotations

import json
import math
from typing import Any

import torch

Tree = Any  # None | bool | int | float | str | list[Tree] | tuple[Tree, ...] | dict[str, Tree] | torch.Tensor

MAGIC = b"CTK1"
MAX_HEADER_BYTES = 8 * 2**20
MAX_MESSAGE_BYTES = 256 * 2**20
MAX_DEPTH = 40
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
                  torch.float16, torch.bfloat16, torch.float32, torch.float64)
}  # fmt: skip


class MessageError(ValueError):
    """A message that is not one of ours, is cut short, or is larger than allowed."""


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    """The elements of a tensor in row-major order, as bytes."""
    return tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8).numpy().tobytes()


def tensor_from(note: dict, content: bytes) -> torch.Tensor:
    """A tensor from its note (dtype, shape, and the stride where it is not row-major) and its bytes."""
    dtype = _DTYPES.get(note["dtype"])
    if dtype is None:
        raise MessageError(f"unknown dtype {note['dtype']!r}")
    shape = [int(size) for size in note["shape"]]
    if math.prod(shape) * dtype.itemsize != len(content) or min(shape, default=0) < 0:
        raise MessageError(f"{len(content)} bytes do not fill a tensor of shape {tuple(shape)}")
    if not content:
        return torch.empty(shape, dtype=dtype)
    plain = torch.frombuffer(bytearray(content), dtype=dtype).reshape(shape)
    return in_layout(plain, note["stride"]) if "stride" in note else plain


def in_layout(plain: torch.Tensor, stride: list[int]) -> torch.Tensor:
    """A copy of a tensor with the same elements and another stride, to have non-contiguous inputs."""
    if len(stride) != plain.dim() or min(stride, default=1) < 1 or max(stride, default=1) > 2**24:
        raise MessageError(f"stride {stride} does not fit shape {tuple(plain.shape)}")
    return torch.empty_strided(plain.shape, stride, dtype=plain.dtype).copy_(plain)


def tensor_note(tensor: torch.Tensor) -> dict:
    """What must be known of a tensor beside its bytes."""
    note: dict = {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
    strides = list(tensor.stride())
    if not tensor.is_contiguous() and min(strides) > 0:
        note["stride"] = strides
    return note


def flatten(tree: Tree, tensors: list[torch.Tensor], depth: int = 0) -> Any:
    """The tree as plain JSON; its tensors are appended to ``tensors`` and stand as ``{"$tensor": index}``."""
    if depth > MAX_DEPTH:
        raise MessageError(f"nested deeper than {MAX_DEPTH}")
    if tree is None or isinstance(tree, bool | int | str):
        return tree
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else {"$float": repr(tree)}
    if isinstance(tree, torch.Tensor):
        tensors.append(tree)
        return {"$tensor": len(tensors) - 1}
    if isinstance(tree, torch.dtype):
        return {"$dtype": str(tree).removeprefix("torch.")}
    if isinstance(tree, list):
        return [flatten(item, tensors, depth + 1) for item in tree]
    if isinstance(tree, tuple):
        return {"$tuple": [flatten(item, tensors, depth + 1) for item in tree]}
    if isinstance(tree, dict):
        return {str(key): flatten(value, tensors, depth + 1) for key, value in tree.items()}
    raise MessageError(f"a {type(tree).__name__} cannot be sent")


def unflatten(plain: Any, tensors: list[torch.Tensor], depth: int = 0) -> Tree:
    """The inverse of `flatten`."""
    if depth > MAX_DEPTH:
        raise MessageError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(plain, list):
        return [unflatten(item, tensors, depth + 1) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if "$tensor" in plain:
        index = plain["$tensor"]
        if not isinstance(index, int) or not 0 <= index < len(tensors):
            raise MessageError(f"there is no tensor {index!r}")
        return tensors[index]
    if "$tuple" in plain:
        return tuple(unflatten(item, tensors, depth + 1) for item in plain["$tuple"])
    if "$dtype" in plain:
        if plain["$dtype"] not in _DTYPES:
            raise MessageError(f"unknown dtype {plain['$dtype']!r}")
        return _DTYPES[plain["$dtype"]]
    if "$float" in plain:
        return float(plain["$float"])
    return {key: unflatten(value, tensors, depth + 1) for key, value in plain.items()}


def encode(message: Tree) -> bytes:
    """A message as bytes.

    Raises:
        MessageError: it holds something that cannot be sent, or is larger than allowed.
    """
    tensors: list[torch.Tensor] = []
    tree = flatten(message, tensors)
    bodies = [tensor_bytes(tensor) for tensor in tensors]
    header = json.dumps({"tree": tree, "tensors": [tensor_note(tensor) for tensor in tensors]}).encode()
    size = len(header) + sum(map(len, bodies))
    if len(header) > MAX_HEADER_BYTES or size > MAX_MESSAGE_BYTES:
        raise MessageError(f"a message of {size:,} bytes is larger than allowed")
    return b"".join((MAGIC, len(header).to_bytes(4, "big"), header, *bodies))


def decode(content: bytes) -> Tree:
    """A message from its bytes.

    Raises:
        MessageError: it is not one of ours, is cut short, or is larger than allowed.
    """
    if len(content) > MAX_MESSAGE_BYTES:
        raise MessageError(f"a message of {len(content):,} bytes is larger than allowed")
    if content[:4] != MAGIC or len(content) < 8:
        raise MessageError("this is not a message of ours")
    length = int.from_bytes(content[4:8], "big")
    if length > MAX_HEADER_BYTES or 8 + length > len(content):
        raise MessageError("the header is cut short or larger than allowed")
    try:
        header = json.loads(content[8 : 8 + length])
        tensors, start = [], 8 + length
        for note in header["tensors"]:
            end = start + math.prod(note["shape"]) * _DTYPES[note["dtype"]].itemsize
            if end < start or end > len(content):
                raise MessageError("a tensor is cut short")
            tensors.append(tensor_from(note, content[start:end]))
            start = end
        if start != len(content):
            raise MessageError("there are bytes left over")
        return unflatten(header["tree"], tensors)
    except MessageError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError, RuntimeError) as error:
        raise MessageError(f"the header does not fit: {type(error).__name__}") from None
