"""Draw many tokens, and look at their shares: right draws differ from machine to machine, their shares hardly do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from autograder.messages import Tree
from autograder.scenarios.call import accepts, changed, tensors_of

_CHANCE = 5.5  # standard deviations that chance is given: of right draws, one share in 20 million goes beyond
_FEW = 100  # rows, enough to tell two series of draws apart


def drawing(answer: Any, inputs: dict, earlier: Mapping[str, Any]) -> Tree:
    """Call ``answer(logits, *rest)`` with each row of ``logits`` many times over.

    ``inputs`` has ``args`` (the first are the logits, (rows, V)), ``kwargs``, ``times`` (how often each row is
    repeated), and ``seed``: of a generator that is handed over by name, or None: none is, and torch's own is drawn
    from.

    Returns:
        ``result``, the share of each token, (rows, V), where chance alone explains it the probability itself (that
        of the stand-in for ``sampling_distribution``); ``changed``; ``same_again``: whether the same call from the
        same state of the generator gives the same ids; ``new_later``, whether one from its later state gives
        others; ``moved``: whether torch's own generator was moved though another was handed over.
    """
    logits, *rest = inputs["args"]
    rows, times = len(logits), inputs["times"]
    batch = logits.repeat_interleave(times, dim=0)  # (rows · times, V)
    options = dict(inputs["kwargs"])
    own = torch.default_generator
    if inputs["seed"] is not None:
        own = options["generator"] = torch.Generator().manual_seed(inputs["seed"])
    accepts(answer, "", [batch, *rest], options)
    before = [tensor.clone() for _, tensor in tensors_of([inputs["args"], batch])]
    shares = _shares(answer(batch, *rest, **options), rows, batch)  # (rows, V)
    few = batch[:: max(1, len(batch) // _FEW)]
    torch.manual_seed(1)
    state, global_state = own.get_state(), torch.get_rng_state()
    first = answer(few, *rest, **options)
    moved = inputs["seed"] is not None and not torch.equal(torch.get_rng_state(), global_state)
    later = answer(few, *rest, **options)
    torch.manual_seed(2)
    own.set_state(state)
    again = answer(few, *rest, **options)
    asked = earlier["sampling_distribution"](logits.double(), *rest, **inputs["kwargs"])  # (rows, V)
    chance = _CHANCE * (asked * (1 - asked) / times).sqrt()
    shares = torch.where((shares - asked).abs() <= chance, asked, shares)
    return {
        "result": shares.bfloat16(),
        "changed": changed([inputs["args"], batch], before),
        "same_again": torch.equal(again, first),
        "new_later": not torch.equal(later, first),
        "moved": moved,
    }


def with_rows(inputs: Mapping[str, Any], earlier: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the call, rows repeated and generator included, for the student to try by hand."""
    logits, *rest = inputs["args"]
    options = dict(inputs["kwargs"])
    if inputs["seed"] is not None:
        options["generator"] = torch.Generator().manual_seed(inputs["seed"])
    return [logits.repeat_interleave(inputs["times"], dim=0), *rest], options


def _shares(ids: Any, rows: int, batch: torch.Tensor) -> torch.Tensor:
    """How often each token was drawn for each row, as a share: (rows, V), float64."""
    if not isinstance(ids, torch.Tensor):
        raise TypeError(f"asked are ids, an int64 tensor ({len(batch)},), and given was a {type(ids).__name__}")
    if ids.shape != (len(batch),) or ids.dtype != torch.int64:
        kind = str(ids.dtype).removeprefix("torch.")
        raise TypeError(f"asked are ids, an int64 tensor ({len(batch)},), and given was {kind} {tuple(ids.shape)}")
    if int(ids.min()) < 0 or int(ids.max()) >= batch.size(1):
        raise IndexError(f"an id outside the vocabulary of {batch.size(1)} was drawn")
    drawn = torch.nn.functional.one_hot(ids, batch.size(1)).double()  # (rows · times, V)
    return drawn.view(rows, -1, batch.size(1)).mean(dim=1)
