"""Compare observations with what was expected, and say the first difference in the field's words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from autograder.messages import Tree

# How far apart two right ways to compute may come out, by dtype: (relative, absolute).
TOLERANCE = {
    torch.float64: (1e-7, 1e-9),
    torch.float32: (1e-4, 1e-5),
    torch.bfloat16: (2e-2, 1e-2),
    torch.float16: (1e-2, 1e-3),
}


@dataclass(frozen=True)
class Difference:
    """What differs, in a sentence, with the two things side by side where they can be shown."""

    sentence: str
    got: Tree = None
    expected: Tree = None
    shown: bool = False


def same(expected: Tree, got: Tree, slack: float = 1.0) -> bool:
    """Are two observations equal, within the tolerance of their dtype? A list will do where a tuple is expected.

    ``slack`` is a factor for the tolerance of tensors.
    """
    if expected is got:
        return True
    if isinstance(expected, torch.Tensor):
        return isinstance(got, torch.Tensor) and _same_tensor(expected, got, slack)
    if isinstance(expected, dict):
        if not isinstance(got, dict) or expected.keys() != got.keys():
            return False
        pairs = [(expected[key], got[key]) for key in expected]
    elif isinstance(expected, list | tuple):
        if not isinstance(got, list | type(expected)) or len(expected) != len(got):
            return False
        pairs = list(zip(expected, got, strict=True))
    else:
        return _same_value(expected, got)
    for one, other in pairs:  # noqa: SIM110 (all() takes longer, and every number of every known mistake comes here)
        if one is not other and not same(one, other, slack):
            return False
    return True


def _same_value(expected: Tree, got: Tree) -> bool:
    if isinstance(expected, float) and isinstance(got, float):
        if not math.isfinite(expected):  # by a tolerance every number would be as good as infinity
            return expected == got or (expected != expected and got != got)
        return abs(expected - got) <= 1e-6 + 1e-5 * abs(expected)
    return type(expected) is type(got) and expected == got


def _same_tensor(expected: torch.Tensor, got: torch.Tensor, slack: float) -> bool:
    if expected.dtype != got.dtype:
        return False
    if torch.equal(expected, got):  # most are, and this is told in a fraction of the time
        return True
    if expected.shape != got.shape or not expected.is_floating_point():
        return False
    relative, absolute = TOLERANCE[expected.dtype]
    return torch.allclose(got, expected, rtol=slack * relative, atol=slack * absolute, equal_nan=True)


def difference(
    expected: Tree, got: Tree, what: str, dimensions: str = "", *, returned: bool = True
) -> Difference | None:
    """The first difference between a result and what was expected, or None.

    Args:
        expected, got: the two trees.
        what: the name of the result in the sentence ("`weights`").
        dimensions: what its dimensions mean ("(…, queries, keys)"), for the sentence on shapes.
        returned: is it the result of a call, which is None where a ``return`` is missing?
    """
    if same(expected, got):
        return None
    if got is None:
        tail = ": is a `return` missing?" if returned else "."
        return Difference(f"{what} is None, asked is {kind_of(expected)}{tail}")
    if isinstance(expected, torch.Tensor) and isinstance(got, torch.Tensor):
        return _tensor_difference(expected, got, what, dimensions)
    if isinstance(expected, list | tuple) and isinstance(got, list | type(expected)) and len(expected) == len(got):
        for index, (e, g) in enumerate(zip(expected, got, strict=True)):
            if (isinstance(expected, tuple) or kind_of(e) != kind_of(g)) and (
                found := difference(e, g, f"{what}[{index}]", returned=False)
            ):
                return found
    if _plain_list(expected) and _plain_list(got):
        return Difference(f"{what} is {got!r}, expected {expected!r}.", got, expected)
    if kind_of(expected) != kind_of(got):
        advice = _advice(expected, got)
        return Difference(f"{what} is {kind_of(got)}, asked is {kind_of(expected)}{advice}")
    return Difference(f"{what} is {got!r}, expected {expected!r}.", got, expected)


def kind_of(value: Tree) -> str:
    """What a result is, in words."""
    if value is None:
        return "None"
    if isinstance(value, torch.Tensor):
        return "a tensor"
    if isinstance(value, dict) and "$kind" in value:
        return f"a `{value['$kind']}`"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a Python `{type(value).__name__}`"


def _plain_list(value: Tree) -> bool:
    return isinstance(value, list) and not any(isinstance(item, torch.Tensor | dict) for item in value)


def _advice(expected: Tree, got: Tree) -> str:
    kind = got.get("$kind", "") if isinstance(got, dict) else ""
    if kind.startswith("numpy") and isinstance(expected, int | float):
        return f": `{type(expected).__name__}(...)` makes one of it."
    if kind.startswith("numpy"):
        return ": stay in torch, numpy breaks the gradient."
    if isinstance(expected, int | float) and isinstance(got, torch.Tensor) and got.numel() == 1:
        return ": `.item()` makes one of it."
    if isinstance(expected, torch.Tensor) and isinstance(got, int | float | list):
        return ": keep the tensor, `.item()` and `.tolist()` cut the gradient."
    if isinstance(expected, torch.Tensor) and isinstance(got, tuple):
        return ": return one thing only."
    if isinstance(expected, tuple):
        return f": return {len(expected)} things, separated by a comma."
    return "."


def _tensor_difference(expected: torch.Tensor, got: torch.Tensor, what: str, dimensions: str) -> Difference:
    return Difference(f"{what} {_contrast(expected, got, dimensions)}.", got, expected, shown=True)


def _contrast(expected: torch.Tensor, got: torch.Tensor, dimensions: str) -> str:
    if expected.shape != got.shape:
        meaning = f" = {dimensions}" if dimensions not in ("", "()") else ""
        return f"has shape {tuple(got.shape)}, expected {tuple(expected.shape)}{meaning}"
    if expected.dtype != got.dtype:
        mine, asked = (str(tensor.dtype).removeprefix("torch.") for tensor in (got, expected))
        return f"has dtype {mine}, expected {asked}"
    if not expected.is_floating_point():
        wrong = got != expected
        at = tuple(wrong.nonzero()[0].tolist())
        places = f"is wrong in {int(wrong.sum())} of {wrong.numel()} places; the first is {_at(at)}"
        if expected.numel() == 1:
            return f"is {got.item()}, expected {expected.item()}"
        return f"{places}: got {got[at].item()}, expected {expected[at].item()}"
    odd = got.isnan() & ~expected.isnan()
    if odd.any():
        if expected.numel() == 1:
            return f"is NaN, expected {_number(expected.item(), 4)}"
        at = tuple(odd.nonzero()[0].tolist())
        places = f"has NaN in {int(odd.sum())} of {odd.numel()} places; the first is {_at(at)}"
        return f"{places}, where {expected[at].item():.4g} was expected"
    gap = (got.double() - expected.double()).abs().nan_to_num(nan=0.0, posinf=float("inf"))
    gap[expected.isnan() & ~got.isnan()] = float("inf")
    at = place_of_largest(gap)
    mine, asked = apart(got[at].item(), expected[at].item())
    if expected.numel() == 1:
        return f"is {mine}, expected {asked}{_as_float32(expected, got)}"
    numbers = f"got {mine}, expected {asked}{_as_float32(expected, got)}"
    return f"has the right shape; the largest difference is {_at(at)}: {numbers}"


def place_of_largest(gap: torch.Tensor) -> tuple[int, ...]:
    """The index of the largest number (torch's own function for it loads sympy, which takes half a second)."""
    return tuple(map(int, numpy.unravel_index(int(gap.argmax()), gap.shape)))


def apart(one: float, other: float) -> tuple[str, str]:
    """Two different numbers in print, with as many digits as it takes to see which is which."""
    for digits in range(4, 18):
        printed = _number(one, digits), _number(other, digits)
        if printed[0] != printed[1]:
            break
    return printed


def _number(value: float, digits: int) -> str:
    return "NaN" if value != value else f"{value:.{digits}g}"


def _as_float32(expected: torch.Tensor, got: torch.Tensor) -> str:
    """A remark on numbers of float64 that are right to the digits of float32."""
    if expected.dtype is torch.float64 and same(expected.float(), got.float(), slack=0.1):
        return ", right to the digits of float32 only: is float32 made of it on the way, or too much rounded?"
    return ""


def _at(index: tuple[Any, ...]) -> str:
    return f"at [{', '.join(map(str, index))}]"
