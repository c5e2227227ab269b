"""Calling a student's function from a widget: whatever it does, the widget says so in one sentence."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Outcome:
    """What came of a call: a value, or the sentence that says why there is none."""

    value: Any = None
    problem: str = ""


class _Discard(io.TextIOBase):
    def write(self, text: str, /) -> int:
        return len(text)


def name_of(function: Callable[..., Any]) -> str:
    """The name to call a function by in a sentence."""
    return getattr(function, "__name__", None) or type(function).__name__


def _innermost_name(error: BaseException, otherwise: str) -> str:
    trace = error.__traceback__
    if trace is None:
        return otherwise
    while trace.tb_next is not None:
        trace = trace.tb_next
    name = trace.tb_frame.f_code.co_name
    return otherwise if name.startswith("<") else name


def call(function: Callable[..., Any], *arguments: Any) -> Outcome:
    """Call ``function`` on copies of ``arguments``; what it prints or warns is dropped."""
    copies = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
    name = name_of(function)
    try:
        with (
            contextlib.redirect_stdout(_Discard()),
            contextlib.redirect_stderr(_Discard()),
            warnings.catch_warnings(),
            torch.no_grad(),
        ):
            warnings.simplefilter("ignore")
            return Outcome(value=function(*copies))
    except NotImplementedError as error:
        return Outcome(problem=f"`{_innermost_name(error, name)}` is not written yet.")
    except KeyboardInterrupt:
        return Outcome(problem=f"`{name}` was interrupted.")
    except Exception as error:
        first_line = (str(error).strip().splitlines() or ["no message"])[0][:200]
        return Outcome(problem=f"`{name}` stopped with {type(error).__name__}: {first_line}")


def shape_text(shape: tuple[int, ...] | torch.Size) -> str:
    """A shape as Python writes it, ``(2, 3)``."""
    return str(tuple(shape))


def call_attention(
    function: Callable[..., Any],
    *arguments: Any,
    output_shape: tuple[int, ...],
    weights_shape: tuple[int, ...],
) -> Outcome:
    """Call an attention that returns ``output, weights`` and check that this is what came back.

    Returns:
        an outcome whose value is ``(output, weights)``, both float tensors of the shapes given.
    """
    outcome = call(function, *arguments)
    if outcome.problem:
        return outcome
    name = name_of(function)
    value = outcome.value
    if not (isinstance(value, tuple | list) and len(value) == 2):
        got = "None" if value is None else f"a {type(value).__name__}"
        return Outcome(problem=f"`{name}` returned {got}; two tensors are wanted: output, weights.")
    for part, expected, what in zip(value, (output_shape, weights_shape), ("output", "weights"), strict=True):
        if not isinstance(part, Tensor):
            got = "None" if part is None else f"a {type(part).__name__}"
            return Outcome(problem=f"`{name}` returned {got} as its {what}; a tensor is wanted.")
        if tuple(part.shape) != tuple(expected):
            return Outcome(
                problem=f"`{name}` returned {what} of shape {shape_text(part.shape)}; "
                f"{shape_text(expected)} is wanted here."
            )
        if part.is_complex() or not part.is_floating_point():
            return Outcome(problem=f"`{name}` returned {what} of {part.dtype}; floats are wanted.")
    output, weights = value
    return Outcome(value=(output.detach(), weights.detach()))
