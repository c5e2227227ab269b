"""What a beam search asked, as a tree: the expansions it kept, those that ended, and the best of those it dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from crosstalk.widgets.interventions import evaluating, one_thread

Prefix = tuple[int, ...]  # generated tokens, the start token left out
Kind = Literal["kept", "finished", "unfinished", "pruned"]
CLOSE = 1e-3  # two scores that a sum in another order may swap


class Asked:
    """The ``step`` that a search asks. It writes down each prefix, and computes each only once.

    Args:
        model: an EncoderDecoder.
        source: ids of the letters, no padding.
        start_id: with which each prefix begins.
    """

    def __init__(self, model: Any, source: Sequence[int], start_id: int) -> None:
        self._model, self._start = model, start_id
        self._rows: dict[Prefix, Tensor] = {}  # log-probabilities (V,) of the next token
        self._totals: dict[Prefix, float] = {(): 0.0}  # log P of prefixes
        self._device = next(model.parameters()).device
        with one_thread(), evaluating(model):
            self._memory = model.encode(torch.tensor([list(source)], device=self._device))  # (1, source, d_model)
        self.prefixes: dict[Prefix, None] = {}  # in the order asked
        self.longest = 0

    def begin(self, longest: int) -> None:
        """Forget what was asked, not what was computed.

        Args:
            longest: generated tokens at most.
        """
        self.prefixes, self.longest = {}, longest

    def __call__(self, prefixes: Tensor) -> Tensor:
        """Prefixes (beams, length), start token included → log-probabilities of the next token (beams, V)."""
        if prefixes.dim() != 2 or not prefixes.size(1):
            raise ValueError(f"`step` was asked with shape {tuple(prefixes.shape)}; (beams, length) is wanted")
        rows = [tuple(row) for row in prefixes.tolist()]
        if any(row[0] != self._start for row in rows):
            raise ValueError("`step` was asked for a prefix that does not begin with the start token")
        if prefixes.size(1) - 1 > self.longest:
            raise ValueError(
                f"`step` was asked for a prefix of {prefixes.size(1) - 1} tokens; {self.longest} is the most"
            )
        asked = [row[1:] for row in rows]
        self.prefixes.update(dict.fromkeys(asked))
        return self.rows(asked)

    def rows(self, prefixes: Sequence[Prefix]) -> Tensor:
        """Log-probabilities (prefixes, V) of the next token; the prefixes are of one length."""
        missing = list(dict.fromkeys(prefix for prefix in prefixes if prefix not in self._rows))
        if missing:
            found = self._compute([[self._start, *prefix] for prefix in missing])[:, -1]
            self._rows.update(zip(missing, found, strict=True))
        return torch.stack([self._rows[prefix] for prefix in prefixes])

    def log_prob(self, tokens: Sequence[int]) -> float:
        """log P of the tokens, the model being given all that come before each."""
        prefixes = [tuple(tokens[:length]) for length in range(len(tokens) + 1)]
        if prefixes[-1] not in self._totals:
            if any(prefix not in self._rows for prefix in prefixes[:-1]):
                found = self._compute([[self._start, *tokens[:-1]]])[0]
                for prefix, row in zip(prefixes, found, strict=False):
                    self._rows.setdefault(prefix, row)
            for before, prefix in pairwise(prefixes):
                self._totals.setdefault(prefix, self._totals[before] + float(self._rows[before][prefix[-1]]))
        return self._totals[prefixes[-1]]

    def _compute(self, ids: list[list[int]]) -> Tensor:
        with one_thread(), evaluating(self._model):
            memory = self._memory.expand(len(ids), -1, -1)
            logits = self._model.decode(torch.tensor(ids, device=self._device), memory)  # (prefixes, length, V)
        found: Tensor = logits.float().log_softmax(dim=-1).cpu()
        if bool(found.isnan().any()):
            raise ValueError("the model's logits hold NaN")
        return found


@dataclass(frozen=True)
class Node:
    """One expansion.

    Args:
        prefix: its generated tokens, itself the last.
        log_prob: of that token after the ones before it.
        total: log P of all of them.
        rank: among all expansions of its step, from 1.
        kind: what became of it.
    """

    prefix: Prefix
    log_prob: float
    total: float
    rank: int
    kind: Kind


@dataclass(frozen=True)
class Stray:
    """Where a search did not follow its best expansions: it left ``node`` out, or went on with it for no reason."""

    step: int
    node: Node
    left_out: bool


@dataclass
class Tree:
    """A search, step by step.

    Args:
        levels: of each step the expansions worth showing, best first.
        expansions: how many there were at each step.
        strays: where the search did not go on with just those of the ``width`` best expansions that have not ended.
    """

    levels: list[list[Node]] = field(default_factory=list)
    expansions: list[int] = field(default_factory=list)
    strays: list[Stray] = field(default_factory=list)

    def of_kind(self, kind: Kind) -> list[Node]:
        """All expansions of a kind, in the order of their steps."""
        return [node for level in self.levels for node in level if node.kind == kind]


def grow(asked: Asked, width: int, end_id: int, pruned: int, marked: Sequence[int] = ()) -> Tree:
    """Make the tree of what was asked since ``asked.begin``.

    At each step the ``width`` best expansions are taken in all. Those that end are finished; the others are kept if
    the search asked for them.

    Args:
        end_id: the token that ends a sequence.
        pruned: how many of the best dropped expansions are shown at each step.
        marked: tokens of a sequence whose expansion is shown wherever it was dropped.
    """
    tree, marked = Tree(), tuple(marked)
    by_length: dict[int, list[Prefix]] = {}
    for prefix in asked.prefixes:
        if end_id not in prefix:
            by_length.setdefault(len(prefix), []).append(prefix)
    for length in sorted(by_length):
        if length >= asked.longest:
            break
        parents = by_length[length]
        rows = asked.rows(parents)  # (parents, V)
        before = torch.tensor([asked.log_prob(parent) for parent in parents])
        total = (before[:, None] + rows).flatten()
        order = total.argsort(descending=True, stable=True)
        # Of hundreds of expansions few are looked at: the best, and those that the search went on with.
        goes_on = {prefix for prefix in by_length.get(length + 1, []) if prefix[:-1] in parents}
        places = set(order[: width + pruned].tolist())
        for prefix in goes_on | {marked[: length + 1]}:
            if len(prefix) == length + 1 and prefix[:-1] in parents:
                places.add(parents.index(prefix[:-1]) * rows.size(1) + prefix[-1])
        ranks = {place: rank for rank, place in enumerate(order.tolist(), 1) if place in places}
        level = []
        for place, rank in ranks.items():
            parent, token = divmod(place, rows.size(1))
            prefix = (*parents[parent], token)
            taken = rank <= width
            kind: Kind = "pruned"
            if taken and token == end_id:
                kind = "finished"
            elif length + 1 == asked.longest and taken:
                kind = "unfinished"
            elif prefix in goes_on:
                kind = "kept"
            level.append(Node(prefix, float(rows[parent, token]), float(total[place]), rank, kind))
        tree.levels.append([node for node in level if node.total > float("-inf")])
        tree.expansions.append(order.numel())
        if length + 1 < asked.longest:
            tree.strays += _strays(tree.levels[-1], length + 1, width, end_id)
    return tree


def _strays(level: list[Node], step: int, width: int, end_id: int) -> list[Stray]:
    left_out = [node for node in level if node.rank <= width and node.kind == "pruned" and node.prefix[-1] != end_id]
    extra = [node for node in level if node.rank > width and node.kind == "kept"]
    # What is as good as equal may come in either order.
    while left_out and extra and abs(left_out[-1].total - extra[0].total) < CLOSE:
        left_out.pop()
        extra.pop(0)
    return [Stray(step, node, True) for node in left_out] + [Stray(step, node, False) for node in extra]
