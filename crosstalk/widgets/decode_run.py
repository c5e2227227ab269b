"""Decode one word with the cache or without, and take the time of each step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from crosstalk.caching import caching
from crosstalk.widgets.interventions import evaluating, one_thread

LONGEST_MEASURE = 2.0  # seconds; slow models are measured fewer times


@dataclass(frozen=True)
class Run:
    """A greedy decode.

    Args:
        tokens: ids in the order generated, with the end token if it came.
        taken: of each step, for how many places the decoder gave logits.
        logits: of the newest place at each step, (steps, vocabulary)
        milliseconds: of the encoder, then of each step.
    """

    tokens: list[int]
    taken: list[int]
    logits: Tensor
    milliseconds: list[float]


def run(model: Any, source: Sequence[int], start_id: int, end_id: int, max_length: int, cached: bool) -> Run:
    """Decode one word greedily with the EncoderDecoder ``model``.

    Args:
        source: ids of the letters, no padding.
        max_length: most tokens to generate, the end token included.
        cached: within `caching`, which uses the student's own cache where there is one.
    """
    device = next(model.parameters()).device
    tokens: list[int] = []
    taken: list[int] = []
    newest: list[Tensor] = []
    times = [time.perf_counter()]
    with one_thread(), evaluating(model), caching(model) if cached else nullcontext():
        memory = model.encode(torch.tensor([list(source)], device=device))  # (1, source, d_model)
        times.append(time.perf_counter())
        while len(tokens) < max_length and end_id not in tokens[-1:]:
            logits = model.decode(torch.tensor([[start_id, *tokens]], device=device), memory)  # (1, taken, vocabulary)
            tokens.append(int(logits[0, -1].argmax()))  # the number is waited for
            times.append(time.perf_counter())
            taken.append(logits.shape[1])
            newest.append(logits[0, -1].float().cpu())
    between = [1000 * (after - before) for before, after in pairwise(times)]
    return Run(tokens, taken, torch.stack(newest), between)


@dataclass(frozen=True)
class Measured:
    """Medians of ``runs`` decodes, in milliseconds: of the encoder, then of each step, and of the whole decode."""

    each: list[float]
    whole: float
    runs: int


def measure(decodes: Sequence[Callable[[], Run]], times: int) -> list[Measured]:
    """Take the time of several decodes in turn, so that what else the machine does meets them alike.

    Args:
        decodes: each runs one.
        times: how often each, unless that takes longer than ``LONGEST_MEASURE``.
    """
    found: list[list[list[float]]] = [[] for _ in decodes]
    start = time.perf_counter()
    for _ in range(times):
        for times_of_one, decode in zip(found, decodes, strict=True):
            times_of_one.append(decode().milliseconds)
        if time.perf_counter() - start > LONGEST_MEASURE:
            break
    return [
        Measured(
            each=[statistics.median(step) for step in zip(*runs, strict=True)],
            whole=statistics.median(map(sum, runs)),
            runs=len(runs),
        )
        for runs in found
    ]
