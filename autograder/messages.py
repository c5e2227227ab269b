"""What runner and judge say to each other: JSON headers and raw tensor bytes, sizes capped, nothing pickled.

A message is a tree: None, bool, int, float, str, list, tuple, dict with string keys, dtypes and tensors. On the
wire it is ``CTK1``, the length of the header (4 bytes, big-endian), the header (JSON), and the bytes of the
tensors one after the other.

What student code wrote is read here, too, so a message may be anything: what is refused is refused before it costs
more than a small multiple of its length, and `encode` makes nothing that `decode` refuses.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import torch

Tree = Any  # None | bool | int | float | str | list[Tree] | tuple[Tree, ...] | dict[str, Tree] | torch.Tensor

MAGIC = b"CTK1"
MAX_HEADER_BYTES = 8 * 2**20
MAX_MESSAGE_BYTES = 256 * 2**20
MAX_DEPTH = 40
MAX_PARTS = 100_000  # values of a header, lists and dicts among them; the largest request has 7,000
MAX_TENSORS = 20_000
MAX_DIMENSIONS = 24
MAX_DIGITS = 400  # of one int
MAX_SPREAD = 8  # how many times its own size a tensor that is not row-major may take
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
                  torch.float16, torch.bfloat16, torch.float32, torch.float64)
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_NOT_FINITE = ("inf", "-inf", "nan")
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # closed or not, so that it takes linear time
_MANY_DIGITS = re.compile(rb"\d{%d}" % (MAX_DIGITS + 1))
_MARKS = frozenset(("$tensor", "$tuple", "$dtype", "$float"))  # each stands alone in its dict


class MessageError(ValueError):
    """A message that is not one of ours, is cut short, or is larger than allowed."""


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    """The elements of a tensor in row-major order, as bytes."""
    plain = tensor.detach()
    if plain.is_neg() or not plain.is_contiguous():
        plain = plain.resolve_neg().clone(memory_format=torch.contiguous_format)
    if plain.dtype is torch.bfloat16:  # which numpy does not know
        plain = plain.view(torch.int16)
    return plain.numpy().tobytes()


def tensor_from(note: dict, content: bytes | memoryview) -> torch.Tensor:
    """A tensor from its note (dtype, shape, and the stride where it is not row-major) and its bytes.

    Raises:
        MessageError: they do not fit each other.
    """
    dtype, shape, size = _read_note(note)
    if size != len(content):
        raise MessageError(f"{len(content)} bytes do not fill a tensor of shape {tuple(shape)}")
    return _filled(note, dtype, shape, bytearray(content))


def _filled(note: dict, dtype: torch.dtype, shape: list[int], own: bytearray) -> torch.Tensor:
    """A tensor on these bytes, which are as many as it takes."""
    if not own:
        return torch.empty(shape, dtype=dtype)
    if dtype is torch.bool and own.translate(None, b"\0\1"):  # torch would count such a True more than once
        raise MessageError("a bool is neither 0 nor 1")
    plain = torch.frombuffer(own, dtype=dtype).view(shape)
    return in_layout(plain, note["stride"]) if "stride" in note else plain


def in_layout(plain: torch.Tensor, stride: list[int]) -> torch.Tensor:
    """A copy of a tensor with the same elements and another stride, to have non-contiguous inputs.

    Raises:
        MessageError: elements would lie on each other, or far apart (see `MAX_SPREAD`).
    """
    if not isinstance(stride, list) or not _fits(plain.shape, stride):
        raise MessageError(f"the stride does not fit shape {tuple(plain.shape)}")
    return torch.empty_strided(plain.shape, stride, dtype=plain.dtype).copy_(plain)


def tensor_note(tensor: torch.Tensor) -> dict:
    """What must be known of a tensor beside its bytes."""
    dtype = tensor.dtype
    note: dict = {"dtype": _NAMES.get(dtype, str(dtype)), "shape": list(tensor.shape)}
    if not tensor.is_contiguous() and _fits(tensor.shape, strides := list(tensor.stride())):
        note["stride"] = strides
    return note


def _size(tensor: torch.Tensor, note: dict) -> int:
    """How many bytes a tensor asks for. Raises `MessageError` where `decode` would."""
    size = tensor.nbytes
    if 0 < size <= MAX_MESSAGE_BYTES and tensor.dtype in _NAMES and tensor.dim() <= MAX_DIMENSIONS:
        return size
    return _read_note(note)[2]


def _read_note(note: Any) -> tuple[torch.dtype, list[int], int]:
    """The dtype, the shape, and how many bytes they ask for."""
    name, shape = note["dtype"], note["shape"]
    if not isinstance(name, str) or name not in _DTYPES:
        raise MessageError("a tensor is of no known dtype")
    if not isinstance(shape, list) or not _bounded(shape, _DTYPES[name].itemsize):
        raise MessageError("a tensor has no shape, or is larger than allowed")
    return _DTYPES[name], shape, math.prod(shape) * _DTYPES[name].itemsize


def _bounded(shape: Sequence[Any], itemsize: int) -> bool:
    """Are these sizes, few, and not too large even where one of them is 0?"""
    if len(shape) > MAX_DIMENSIONS:
        return False
    room = MAX_MESSAGE_BYTES // itemsize
    for size in shape:
        if type(size) is not int or not 0 <= size <= room:
            return False
        room //= max(size, 1)
    return True


def _fits(shape: Sequence[int], stride: Sequence[Any]) -> bool:
    """Does each element get a place of its own, and all of them lie together?"""
    if len(stride) != len(shape) or not all(type(step) is int and 1 <= step <= MAX_MESSAGE_BYTES for step in stride):
        return False
    if 0 in shape:
        return True
    taken = 1  # elements, from the first to the last, by the dimensions so far
    for step, size in sorted(zip(stride, shape, strict=True)):
        if size > 1:
            if step < taken:
                return False
            taken += (size - 1) * step
    return taken <= MAX_SPREAD * math.prod(shape)


def flatten(tree: Tree, tensors: list[torch.Tensor], depth: int = 0, parts: Parts | None = None) -> Any:
    """The tree as plain JSON; its tensors are appended to ``tensors`` and stand as ``{"$tensor": index}``.

    Raises:
        MessageError: something in it cannot be sent.
    """
    if depth > MAX_DEPTH:
        raise MessageError(f"nested deeper than {MAX_DEPTH}")
    if parts:
        parts.count(1)
    if isinstance(tree, torch.Tensor):
        tensors.append(tree)
        return {"$tensor": len(tensors) - 1}
    if isinstance(tree, dict):
        if parts:
            parts.count(len(tree))
        return {_key(key): flatten(value, tensors, depth + 1, parts) for key, value in tree.items()}
    if isinstance(tree, str):
        return _whole(tree)
    if tree is None or isinstance(tree, bool):
        return tree
    if isinstance(tree, list):
        return [flatten(item, tensors, depth + 1, parts) for item in tree]
    if isinstance(tree, int):
        if tree.bit_length() > 3 * MAX_DIGITS:
            raise MessageError("a number of very many digits cannot be sent")
        return tree
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else {"$float": float.__repr__(tree)}
    if isinstance(tree, tuple):
        return {"$tuple": [flatten(item, tensors, depth + 1, parts) for item in tree]}
    if isinstance(tree, torch.dtype):
        if tree not in _NAMES:
            raise MessageError(f"{tree} cannot be sent")
        return {"$dtype": _NAMES[tree]}
    raise MessageError(f"a {type(tree).__name__} cannot be sent")


def _key(key: Any) -> str:
    if not isinstance(key, str) or key in _MARKS:
        raise MessageError("a dict with such keys cannot be sent")
    return _whole(key)


def _whole(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()  # half of a surrogate pair


class Parts:
    """Counts the values of a message, so that none has more than `MAX_PARTS`."""

    def __init__(self) -> None:
        self.found = 0

    def count(self, more: int) -> None:
        """So many more."""
        self.found += more
        if self.found > MAX_PARTS:
            raise MessageError(f"more than {MAX_PARTS:,} values cannot be sent")


def unflatten(plain: Any, tensors: list[torch.Tensor], depth: int = 0) -> Tree:
    """The inverse of `flatten`.

    Raises:
        MessageError: `flatten` makes no such thing.
    """
    if depth > MAX_DEPTH:
        raise MessageError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(plain, str):
        return _text(plain)
    if isinstance(plain, list):
        return [unflatten(item, tensors, depth + 1) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if not _MARKS.isdisjoint(plain):
        return _marked(plain, tensors, depth)
    return {_text(key): unflatten(value, tensors, depth + 1) for key, value in plain.items()}


def _marked(plain: dict[str, Any], tensors: list[torch.Tensor], depth: int) -> Tree:
    """What JSON has no word for."""
    ((mark, value),) = plain.items()
    if mark == "$tensor":
        if type(value) is not int or not 0 <= value < len(tensors):
            raise MessageError("there is no such tensor")
        return tensors[value]
    if mark == "$tuple" and isinstance(value, list):
        return tuple(unflatten(item, tensors, depth + 1) for item in value)
    if mark == "$dtype" and isinstance(value, str) and value in _DTYPES:
        return _DTYPES[value]
    if mark == "$float" and value in _NOT_FINITE:
        return float(value)
    raise MessageError(f"no value of {mark}")


def _text(text: str) -> str:
    if not text.isascii():
        text.encode()  # half of a surrogate pair raises here, and not where it is written somewhere
    return text


def encode(message: Tree) -> bytes:
    """A message as bytes.

    Raises:
        MessageError: it holds something that cannot be sent, or is larger than allowed.
    """
    try:
        tensors: list[torch.Tensor] = []
        tree = flatten(message, tensors, parts=Parts())
        notes = [tensor_note(tensor) for tensor in tensors]
        size = sum(map(_size, tensors, notes))  # known before anything is copied
        if size > MAX_MESSAGE_BYTES or len(notes) > MAX_TENSORS:
            raise MessageError(f"{len(notes):,} tensors of {size:,} bytes are more than allowed")
        header = json.dumps({"tree": tree, "tensors": notes}).encode()
        size += 8 + len(header)
        if len(header) > MAX_HEADER_BYTES or size > MAX_MESSAGE_BYTES or _parts(header) > MAX_PARTS:
            raise MessageError(f"a message of {size:,} bytes is larger than allowed")
        bodies = [tensor_bytes(tensor) for tensor in tensors]
        return b"".join((MAGIC, len(header).to_bytes(4, "big"), header, *bodies))
    except MessageError:
        raise
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        OverflowError,
        RuntimeError,
        MemoryError,
    ) as error:
        raise MessageError(f"this cannot be sent: {type(error).__name__}") from None


def decode(content: bytes) -> Tree:
    """A message from its bytes.

    Raises:
        MessageError: it is not one of ours, is cut short, or is larger than allowed.
    """
    if len(content) > MAX_MESSAGE_BYTES:
        raise MessageError(f"a message of {len(content):,} bytes is larger than allowed")
    if content[:4] != MAGIC or len(content) < 8:
        raise MessageError("this is not a message of ours")
    start = 8 + int.from_bytes(content[4:8], "big")
    if start - 8 > MAX_HEADER_BYTES or start > len(content):
        raise MessageError("the header is cut short or larger than allowed")
    try:
        header = _header(content[8:start])
        tensors, body = [], memoryview(content)
        for note in header["tensors"]:
            dtype, shape, size = _read_note(note)
            if start + size > len(content):
                raise MessageError("a tensor is cut short")
            tensors.append(_filled(note, dtype, shape, bytearray(body[start : start + size])))
            start += size
        if start != len(content):
            raise MessageError("there are bytes left over")
        return unflatten(header["tree"], tensors)
    except MessageError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError, RuntimeError) as error:
        raise MessageError(f"the header does not fit: {type(error).__name__}") from None


def nested(message: Tree) -> torch.Tensor:
    """A message as a tensor of its bytes, to be sent within others: what is sent often is encoded once."""
    return torch.frombuffer(bytearray(encode(message)), dtype=torch.uint8)


def is_nested(tensor: torch.Tensor) -> bool:
    """Could `nested` have made it? Another tensor might take far more room than it shows."""
    return tensor.dtype is torch.uint8 and tensor.dim() == 1 and tensor.is_contiguous()


def opened(message: torch.Tensor) -> Tree:
    """The inverse of `nested`, with tensors of its own each time. Raises `MessageError`."""
    return decode(tensor_bytes(message))


def _header(text: bytes) -> dict[str, Any]:
    """The header, counted before it is parsed: each value of a list or dict takes far more room than its text."""
    if _parts(text) > MAX_PARTS:
        raise MessageError(f"the header has more than {MAX_PARTS:,} values")
    if _MANY_DIGITS.search(text) and _MANY_DIGITS.search(_TEXT.sub(b"", text)):  # in a text there may be any
        raise MessageError("a number of very many digits")
    header = json.loads(text.decode(), parse_constant=_constant, object_pairs_hook=_dict)
    if not isinstance(header, dict) or not isinstance(header["tensors"], list) or len(header) != 2:
        raise MessageError("the header is none of ours")
    if len(header["tensors"]) > MAX_TENSORS:
        raise MessageError(f"more than {MAX_TENSORS:,} tensors")
    return header


def _parts(header: bytes) -> int:
    """How many values it has at most."""
    found = sum(map(header.count, (b",", b"[", b"{")))
    if found > MAX_PARTS and header.count(b'"') <= 4 * MAX_PARTS:  # perhaps they stand in a few long texts
        header = _TEXT.sub(b"", header)
        found = sum(map(header.count, (b",", b"[", b"{")))
    return found


def _constant(name: str) -> float:
    raise MessageError(f"a bare {name}")


def _dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise MessageError("a key comes twice")
    return made
