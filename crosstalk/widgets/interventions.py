"""Decode a word while looking into the cross-attention, hiding letters from it, or moving its weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from crosstalk.widgets.attention_maths import masked_softmax

Attention = Callable[..., tuple[Tensor, Tensor | None]]
Edit = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Forced:
    """Weight moved onto one letter: in one row of the decoder's cross-attention, ``(1 - share)·w + share·onehot``.

    Args:
        row: the step counted from 0; its input is the token before the one it predicts.
        letter: place in the source.
        share: of the row's weight that moves, 0 to 1.
        layer, head: where; None means every one.
    """

    row: int
    letter: int
    share: float = 1.0
    layer: int | None = None
    head: int | None = None

    @property
    def heads(self) -> slice:
        """The heads meant, as an index."""
        return slice(None) if self.head is None else slice(self.head, self.head + 1)

    def applied(self, weights: Tensor) -> Tensor:
        """The weights (batch, heads, queries, keys) with this row changed; the rows may not reach so far yet."""
        if weights.shape[2] <= self.row:
            return weights
        weights = weights.clone()
        weights[:, self.heads, self.row] *= 1 - self.share
        weights[:, self.heads, self.row, self.letter] += self.share
        return weights


@dataclass(frozen=True)
class Decoded:
    """What a greedy decode gave.

    Args:
        tokens: ids in the order generated, with the end token if it came.
        probabilities: of each of them when it was chosen, (steps,)
        weights: of the cross-attention, (layers, heads, steps, letters), forced ones as forced.
    """

    tokens: list[int]
    probabilities: Tensor
    weights: Tensor


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for a model this small: waking a second takes longer than its share of the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No dropout and no gradients; afterwards the model trains on as it did."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _watched(attention: Attention, seen: list[Tensor], forced: Forced | None) -> Attention:
    def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        output, weights = attention(query, key, value, mask)
        if weights is None:  # a fused attention keeps its weights to itself
            weights = masked_softmax(query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1]), mask)
        if forced is not None:
            weights = forced.applied(weights)
            rows = slice(forced.row, forced.row + 1)  # empty while the rows do not reach so far
            output = output.clone()
            output[:, forced.heads, rows] = weights[:, forced.heads, rows] @ value[:, forced.heads]
        seen[:] = [weights]
        return output, weights

    return attend


@contextmanager
def watched(model: Any, forced: Forced | None = None) -> Iterator[list[list[Tensor]]]:
    """Put a watcher around the ``attention`` of every cross-attention of the decoder, and take it off again.

    Gives one list for each layer; after a call of the decoder it holds the layer's weights,
    (batch, heads, target, source).
    """
    modules = [layer.cross_attention for layer in model.decoder.layers]
    originals = [(module, "attention" in vars(module), module.attention) for module in modules]
    seen: list[list[Tensor]] = [[] for _ in modules]
    try:
        for index, (module, _, attention) in enumerate(originals):
            here = forced if forced is not None and forced.layer in (None, index) else None
            # Into the instance itself, so that an attention that is a module is hidden and not replaced.
            vars(module)["attention"] = _watched(attention, seen[index], here)
        yield seen
    finally:
        for module, own, attention in originals:
            if own:
                vars(module)["attention"] = attention
            else:
                vars(module).pop("attention", None)


def decode(
    model: Any,
    source: Sequence[int],
    start_id: int,
    end_id: int,
    max_length: int,
    *,
    knocked_out: Collection[int] = (),
    forced: Forced | None = None,
    expected: Sequence[int] = (),
) -> Decoded:
    """Decode one word greedily with the EncoderDecoder ``model``, under an intervention if there is one.

    Args:
        source: ids of the letters, no padding.
        max_length: most tokens to generate, the end token included.
        knocked_out: places of letters that no cross-attention may read: they are False in the memory mask.
            The encoder has read them all the same.
        forced: weight to move, at one step; every later step sees what came of it.
        expected: a guess at the answer. One pass of the decoder tells how far it holds, so a good guess makes
            it fast; the answer is the same with any guess.

    Raises:
        ValueError: there is no such letter.
        RuntimeError: a layer's cross-attention never called its ``attention``.
    """
    places = [*knocked_out, *([forced.letter] if forced else [])]
    if any(not 0 <= place < len(source) for place in places):
        raise ValueError(f"There is no letter {max(places)}: the word has {len(source)}, counted from 0.")
    device = next(model.parameters()).device
    letters = torch.tensor([list(source)], device=device)  # (1, source)
    memory_mask = None
    if knocked_out:
        readable = [place not in knocked_out for place in range(len(source))]
        memory_mask = torch.tensor(readable, device=device)[None, None, None]  # (1, 1, 1, source)
    tokens: list[int] = []
    probabilities: list[Tensor] = []
    with one_thread(), evaluating(model), watched(model, forced) as seen:
        memory = model.encode(letters)  # (1, source, d_model)
        while len(tokens) < max_length and end_id not in tokens[-1:]:
            guess = [*tokens, *expected[len(tokens) : max_length - 1]]
            inputs = torch.tensor([[start_id, *guess]], device=device)  # (1, steps)
            shares = model.decode(inputs, memory, memory_mask=memory_mask)[0].softmax(-1).cpu()  # (steps, vocabulary)
            # Row t holds for the true prefix as long as the inputs up to t are the tokens that were chosen.
            for row in range(len(tokens), len(guess) + 1):
                tokens.append(int(shares[row].argmax()))
                probabilities.append(shares[row, tokens[-1]])
                if tokens[-1] == end_id or tokens[row] not in guess[row : row + 1]:
                    break
        for layer, found in enumerate(seen):
            if not found:
                raise RuntimeError(f"the cross-attention of layer {layer} never called its `attention`.")
        weights = torch.stack([found[0][0, :, : len(tokens)].float().cpu() for found in seen])
    return Decoded(tokens, torch.stack(probabilities), weights)


def aligned(before: Sequence[Any], after: Sequence[Any]) -> list[tuple[int | None, int | None]]:
    """Pair two sequences with as few edits as possible (Levenshtein), so that one insertion does not shift the rest.

    Returns:
        pairs of places, in order; None where one sequence has nothing to the other's token.
    """
    # cost[i][j]: edits between before[i:] and after[j:]
    cost = [[len(before) - i + len(after) - j for j in range(len(after) + 1)] for i in range(len(before) + 1)]
    for i in reversed(range(len(before))):
        for j in reversed(range(len(after))):
            keep = cost[i + 1][j + 1] + (before[i] != after[j])
            cost[i][j] = min(keep, cost[i + 1][j] + 1, cost[i][j + 1] + 1)
    pairs: list[tuple[int | None, int | None]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        both = i < len(before) and j < len(after)
        if both and cost[i][j] == cost[i + 1][j + 1] + (before[i] != after[j]):
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif i < len(before) and cost[i][j] == cost[i + 1][j] + 1:
            pairs.append((i, None))
            i += 1
        else:
            pairs.append((None, j))
            j += 1
    return pairs
