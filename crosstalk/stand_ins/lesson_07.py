"""Stand-ins of lesson 07: decoding a batch."""

from __future__ import annotations

import torch

from crosstalk.stand_ins.lesson_04 import EncoderDecoder


def greedy_decode(
    model: EncoderDecoder,
    source: torch.Tensor,
    source_mask: torch.Tensor | None,
    start_id: int,
    end_id: int,
    pad_id: int,
    max_length: int,
) -> torch.Tensor:
    """The likeliest token, again and again, for each row until its own end token; the encoder runs once.

    Args:
        model: in evaluation mode.
        source: (batch, source)
        source_mask: bool, broadcasts to (batch, heads, queries, source).
        max_length: generated tokens at most, the end token included.

    Returns:
        (batch, length of the longest): end tokens included, padding after them.
    """
    memory = model.encode(source, source_mask)
    ids = source.new_full((len(source), 1), start_id)
    ended = torch.zeros(len(source), dtype=torch.bool, device=source.device)
    while ids.size(1) <= max_length and not ended.all():
        logits = model.decode(ids, memory, memory_mask=source_mask)  # (batch, length, vocabulary)
        chosen = logits[:, -1].argmax(-1).masked_fill(ended, pad_id)  # (batch,)
        ids = torch.cat([ids, chosen[:, None]], dim=1)
        ended |= chosen == end_id
    return ids[:, 1:]
