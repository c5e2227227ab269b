"""Decoding with a cache: one word by the student's search, or a whole batch at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from crosstalk.caching import caching
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
    """`beam_search` for all rows of a batch at once, with the same results.

    Args:
        model: in evaluation mode.
        source: (batch, source)
        source_mask: bool (batch, 1, 1, source), or None.
        max_length: generated tokens at most, the end token included.
        width: beams of each row.
        alpha: of the length penalty, as in `beam_search`.

    Returns:
        ids (batch, length of the longest), end tokens included and padding after them, and scores (batch,).
    """
    batch, never = len(source), float("-inf")
    with caching(model) as memories:
        memory = model.encode(source, source_mask).repeat_interleave(width, dim=0)  # (batch · width, source, d_model)
        mask = None if source_mask is None else source_mask.repeat_interleave(width, dim=0)
        prefixes = source.new_full((batch * width, 1), start_id)
        scores = torch.full((batch, width), never, device=source.device)
        scores[:, 0] = 0  # the others would be the same beam again
        first = torch.arange(batch, device=source.device)[:, None] * width  # (batch, 1): each row's first beam
        best, best_score = source.new_full((batch, max_length), pad_id), scores.new_full((batch,), never)
        for length in range(1, max_length + 1):
            logits = model.decode(prefixes, memory, memory_mask=mask)[:, -1]  # (batch · width, V)
            vocabulary = logits.size(-1)
            total = scores[:, :, None] + logits.log_softmax(dim=-1).view(batch, width, vocabulary)
            scores, places = total.flatten(1).topk(width, dim=-1)  # (batch, width)
            parents, tokens = (first + places // vocabulary).flatten(), (places % vocabulary).flatten()
            prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)  # (batch · width, 1 + length)
            memories.select(parents)
            ended = tokens.view(batch, width) == end_id
            if ended.any():
                final = scores.masked_fill(~ended, never) / length**alpha
                score, beam = final.max(dim=-1)  # (batch,)
                better = score > best_score
                best[better, :length] = prefixes[(first[:, 0] + beam)[better], 1:]
                best[better, length:] = pad_id
                best_score = torch.where(better, score, best_score)
                scores = scores.masked_fill(ended, never)
                if bool((scores == never).all()):
                    break
        # The unfinished count only where none has finished.
        score, beam = (scores / max_length**alpha).max(dim=-1)
        none = best_score == never
        if none.any():
            best[none, : prefixes.size(1) - 1] = prefixes[(first[:, 0] + beam)[none], 1:]
            best_score = torch.where(none, score, best_score)
    longest = int((best != pad_id).sum(dim=-1).max())
    return best[:, :longest], best_score
