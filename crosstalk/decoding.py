"""Decoding with a cache: one word by the student's search, or a whole batch at once, fast.

Those for a batch read the weights of the model by their names and compute on their own (see `FastDecoder`): for a
model that differs from the course's in anything else than its weights, use `greedy_decode` within `caching`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from crosstalk.caching import caching
from crosstalk.fast_decoder import FastDecoder
from crosstalk.stand_ins.lesson_04 import EncoderDecoder

Step = Callable[[torch.Tensor], torch.Tensor]


@contextmanager
def stepping(
    model: EncoderDecoder, source: torch.Tensor, source_mask: torch.Tensor | None = None, own: bool = True
) -> Iterator[Step]:
    """The ``step`` that `beam_search` asks: prefixes (beams, length) → log-probabilities (beams, V).

    The encoder has run once, and the cache follows the beams from call to call.

    Args:
        model: in evaluation mode.
        source: (1, source), one word.
        source_mask: bool, broadcasts to (1, heads, queries, source).
        own: take the student's cache where there is one.
    """
    with torch.inference_mode(), caching(model, own) as memories:
        memory = model.encode(source, source_mask)  # (1, source, d_model): all beams read the same
        before = source.new_empty(0, 0)  # (beams, length) of the last call

        def step(prefixes: torch.Tensor) -> torch.Tensor:
            nonlocal before
            if memories.length:
                same = (prefixes[:, None, :-1] == before).all(dim=-1) if _follows(prefixes, before) else None
                if same is not None and same.any(dim=1).all():
                    parents = same.int().argmax(dim=1)  # (beams,)
                    if len(before) != len(prefixes) or not torch.equal(parents, torch.arange(len(parents))):
                        memories.select(parents)
                else:
                    memories.forget()
            before = prefixes.clone()
            logits = model.decode(prefixes, memory, memory_mask=source_mask)  # (beams, new, V)
            return logits[:, -1].log_softmax(dim=-1)

        yield step


def _follows(prefixes: torch.Tensor, before: torch.Tensor) -> bool:
    return prefixes.size(1) == before.size(1) + 1


@torch.inference_mode()
def fast_greedy_decode(
    model: EncoderDecoder,
    source: torch.Tensor,
    source_mask: torch.Tensor | None,
    start_id: int,
    end_id: int,
    pad_id: int,
    max_length: int,
) -> torch.Tensor:
    """`greedy_decode`, with the same result, by a `FastDecoder`."""
    decoder = FastDecoder(model, model.encode(source, source_mask), source_mask)
    chosen = source.new_full((len(source),), start_id)
    ended = torch.zeros_like(chosen, dtype=torch.bool)
    ids: list[torch.Tensor] = []
    while len(ids) < max_length and not ended.all():
        chosen = decoder.step(chosen).argmax(dim=-1).masked_fill(ended, pad_id)  # (batch,)
        ids.append(chosen)
        ended |= chosen == end_id
    return torch.stack(ids, dim=1)


@torch.inference_mode()
def beam_decode(
    model: EncoderDecoder,
    source: torch.Tensor,
    source_mask: torch.Tensor | None,
    start_id: int,
    end_id: int,
    pad_id: int,
    max_length: int,
    width: int,
    alpha: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`beam_search` for all rows of a batch at once, with the same results, by a `FastDecoder`.

    Args:
        model: in evaluation mode, of the course's pieces.
        source: (batch, source)
        source_mask: bool (batch, 1, 1, source), or None.
        max_length: generated tokens at most, the end token included.
        width: beams of each row.
        alpha: of the length penalty, as in `beam_search`.

    Returns:
        ids (batch, length of the longest), end tokens included and padding after them, and scores (batch,).
    """
    batch, never = len(source), float("-inf")
    decoder = FastDecoder(model, model.encode(source, source_mask), source_mask, beams=width)
    scores = torch.full((batch, width), never, device=source.device)
    scores[:, 0] = 0  # the others would be the same beam again
    first = torch.arange(batch, device=source.device)[:, None] * width  # (batch, 1): each row's first beam
    tokens = source.new_full((batch * width,), start_id)
    prefixes = source.new_empty(batch * width, 0)
    best, best_score = source.new_full((batch, max_length), pad_id), scores.new_full((batch,), never)
    lengths = source.new_zeros(batch)

    def keep(rows: torch.Tensor, score: torch.Tensor, beam: torch.Tensor) -> None:
        """Have these rows end with what stands in one of their beams."""
        length = prefixes.size(1)
        best[rows, :length] = prefixes[(first[:, 0] + beam)[rows]]
        best[rows, length:] = pad_id
        best_score[rows], lengths[rows] = score[rows], length

    for length in range(1, max_length + 1):
        log_probs = decoder.step(tokens).log_softmax(dim=-1)  # (batch · width, V)
        vocabulary = log_probs.size(-1)
        total = scores[:, :, None] + log_probs.view(batch, width, vocabulary)
        scores, places = total.flatten(1).topk(width, dim=-1)  # (batch, width)
        parents, tokens = (first + places // vocabulary).flatten(), (places % vocabulary).flatten()
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)  # (batch · width, length)
        decoder.select(parents)
        ended = tokens.view(batch, width) == end_id
        if ended.any():
            score, beam = (scores.masked_fill(~ended, never) / length**alpha).max(dim=-1)  # (batch,)
            keep(score > best_score, score, beam)
            scores = scores.masked_fill(ended, never)
            if bool((scores == never).all()):
                break
    # The unfinished count only where none has finished.
    score, beam = (scores / max_length**alpha).max(dim=-1)
    keep(best_score == never, score, beam)
    return best[:, : int(lengths.max())], best_score
