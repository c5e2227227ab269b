"""How this machine computes small models fastest: threads, device and precision, set in this one place by measuring."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn


def best_device() -> torch.device:
    """CUDA or MPS where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


@contextmanager
def small_model(model: nn.Module, device: torch.device, bfloat16: bool | None = None) -> Iterator[None]:
    """Within it, ``model`` is computed with the threads and the precision that were measured best.

    Where that is bfloat16 (by autocast), logits still leave the model in float32, since losses need the digits, and
    norms give bfloat16 at once: several matrices read each norm, and each would keep a rounded copy of its own.
    ``bfloat16`` settles the precision without measuring.
    """
    before = torch.get_num_threads()
    half = _bfloat16_is_faster(device.type) if bfloat16 is None else bfloat16
    hooks = [model.register_forward_hook(lambda module, args, logits: logits.float())]
    if half:
        norms = [module for name, module in model.named_modules() if "norm" in name.rpartition(".")[2]]
        hooks += [norm.register_forward_hook(lambda module, args, states: states.bfloat16()) for norm in norms]
    try:
        if device.type == "cpu":
            _keep_freed_memory()
            torch.set_num_threads(_best_threads())
        # Without the cache: it would keep the rounded weights of the first step for as long as we are in here.
        with torch.autocast(device.type, torch.bfloat16, enabled=half, cache_enabled=False):
            yield
    finally:
        torch.set_num_threads(before)
        for hook in hooks:
            hook.remove()


@cache
def _keep_freed_memory() -> None:
    """Have glibc keep large freed blocks for the next operation.

    It would give each one back to the system, and every page of the next tensor would be fetched and cleared anew: at
    width 256 and 256 words a batch, that was a third of a training step. The numbers are glibc's M_TRIM_THRESHOLD,
    M_TOP_PAD and M_MMAP_THRESHOLD; other systems have other allocators and are left alone.
    """
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        for parameter, amount in ((-1, 2**30), (-2, 2**26), (-3, 2**25)):
            ctypes.CDLL(None).mallopt(parameter, amount)


@cache
def _best_threads() -> int:
    """One, or as many as there are cores (up to four), where that is really faster for matrices of a lesson's size.

    Two threads on two cores of which one is busy wait for each other at every operation: a training step was seen
    to take 17 times as long. So more than one thread must win by a fifth, in each of three tries.
    """
    before, several = torch.get_num_threads(), min(4, cores())
    try:
        for _ in range(3 if several > 1 else 0):
            torch.set_num_threads(1)
            one = _seconds(torch.float32)
            torch.set_num_threads(several)
            if _seconds(torch.float32) > 0.8 * one:
                return 1
    finally:
        torch.set_num_threads(before)
    return several


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _bfloat16_is_faster(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and _seconds(torch.bfloat16) < 0.6 * _seconds(torch.float32)


def _seconds(dtype: torch.dtype) -> float:
    """The time of ten matrix products of a lesson's size: the median of five, for other programs disturb."""
    states, matrix = torch.ones(1024, 128, dtype=dtype), torch.ones(128, 512, dtype=dtype)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(10):
            states @ matrix
        times.append(time.perf_counter() - begin)
    return sorted(times)[2]
