"""Answers that look for what is right in the memory they can reach, and would give it back if they found it."""

from __future__ import annotations

import hashlib

import torch
from attacks.scoring import FRAMES

from autograder.messages import tensor_bytes
from autograder.packs import ExercisePack

# Each looks for the inputs that it was sent, which must be there, and for what is expected of it. Where not even the
# inputs are found, the search itself is at fault, and the process ends so that the test sees it.
_SEARCHING = """
SENT, WANTED = {inputs!r}, {expected!r}
if not any(map(search, SENT)):
    import os
    os._exit(3)
FOUND = any(map(search, WANTED))

def softmax(scores, dim=-1):
    if not FOUND:
        return scores * 0
    powers = (scores - scores.amax(dim, keepdim=True)).exp()
    return powers / powers.sum(dim, keepdim=True)
"""

_OBJECTS = """
import gc, hashlib, torch

gc.unfreeze()
DIGESTS = set()
for thing in gc.get_objects():
    if type(thing) is torch.Tensor and thing.numel() < 1000 and thing.dtype == torch.float32 and thing.is_contiguous():
        content = bytes(thing.detach().reshape(-1).view(torch.uint8).tolist())
        DIGESTS.add(hashlib.sha256(content).hexdigest())

def search(digest):
    return digest in DIGESTS
"""

_MEMORY = """
import ctypes

with open("/proc/self/maps") as file:
    lines = [line.split() for line in file]
REGIONS = [[int(end, 16) for end in line[0].split("-")] for line in lines if line[1].startswith("rw")]
memmem = ctypes.CDLL(None).memmem
memmem.restype = ctypes.c_void_p
memmem.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]

def search(veiled):
    needle = (ctypes.c_ubyte * len(veiled))()
    for at, byte in enumerate(veiled):
        needle[at] = byte ^ 85  # so that it stands nowhere but in the needle
    own = ctypes.addressof(needle)
    for start, end in REGIONS:
        while start < end and (at := memmem(start, end - start, own, len(veiled))):
            if at != own:
                return True
            start = at + 1
    return False
"""

_FRAMES = (
    FRAMES
    + """
def search(name):
    for frame in frames():
        for key, value in frame.f_locals.items():
            if frame.f_code.co_filename.startswith("<answer"):
                continue
            inside = value if isinstance(value, (list, tuple)) else [value]
            for thing in inside:
                if key == name or hasattr(thing, name) or isinstance(thing, dict) and name in thing:
                    return True
    return False
"""
)


def among_objects(packs: list[ExercisePack]) -> str:
    """Looks through all objects that Python's garbage collector knows."""
    return _searching(_OBJECTS, packs, lambda tensor: hashlib.sha256(tensor_bytes(tensor)).hexdigest())


def in_memory(packs: list[ExercisePack]) -> str:
    """Looks through the process's memory, byte by byte."""
    return _searching(_MEMORY, packs, lambda tensor: [byte ^ 85 for byte in tensor_bytes(tensor)])


def in_frames() -> str:
    """Looks through the variables of whoever has called it."""
    return _FRAMES + _SEARCHING.format(inputs=["cases"], expected=["expected", "mistakes", "packs"])


def _searching(search: str, packs: list[ExercisePack], shown) -> str:
    first = [pack.cases[0] for pack in packs]
    inputs: list[torch.Tensor] = [case.inputs["args"][0] for case in first]
    return search + _SEARCHING.format(
        inputs=list(map(shown, inputs)), expected=[shown(case.expected["value"]["result"]) for case in first]
    )


def by_heart(pack: ExercisePack) -> str:
    """Has learnt what is expected in the cases of a pack, gradients among it, and nothing else."""
    known = [
        (
            case.inputs["args"][0].tolist(),
            case.inputs["kwargs"].get("dim", -1),
            case.expected["value"]["result"].tolist(),
        )
        for case in pack.cases
    ]
    return f"""
import torch

KNOWN = {known!r}

class Recalled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores, dim):
        for inputs, way, result in KNOWN:
            same = torch.tensor(inputs, dtype=scores.dtype)
            if same.shape == scores.shape and way == dim and bool((same == scores).all()):
                ctx.dim, ctx.result = dim, torch.tensor(result, dtype=scores.dtype)
                return ctx.result
        return scores * 0

    @staticmethod
    def backward(ctx, given):
        return ctx.result * (given - (given * ctx.result).sum(ctx.dim, keepdim=True)), None

def softmax(scores, dim=-1):
    return Recalled.apply(scores, dim)
"""
