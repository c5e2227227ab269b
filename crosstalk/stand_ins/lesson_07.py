"""Stand-ins of lesson 07: decoding a batch, and a cache of keys and values."""

from __future__ import annotations

import torch

from crosstalk.stand_ins.lesson_01 import merge_heads, split_heads
from crosstalk.stand_ins.lesson_02 import MultiHeadAttention
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


class KeyValueCache:
    """Keys and values of all tokens so far, of one attention (Shazeer 2019, section 2.3, "incremental").

    The room doubles when it is full, so that a token costs the same wherever it stands: joining tensors anew at each
    step would copy all that is there.
    """

    def __init__(self) -> None:
        self.length = 0
        self._room: torch.Tensor | None = None  # (2, batch, heads, places, d_head): keys, then values

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep those of the new tokens.

        Args:
            keys, values: (batch, heads, new, d_head)

        Returns:
            all keys and all values so far, each (batch, heads, length, d_head).
        """
        end = self.length + keys.size(2)
        if self._room is None or end > self._room.size(3):
            room = keys.new_empty(2, *keys.shape[:2], max(16, 2 * end), keys.size(3))
            if self._room is not None:
                room[:, :, :, : self.length] = self._room[:, :, :, : self.length]
            self._room = room
        self._room[0, :, :, self.length : end] = keys
        self._room[1, :, :, self.length : end] = values
        self.length = end
        return self._room[0, :, :, :end], self._room[1, :, :, :end]

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows of the batch, in this order; a row may come more than once.

        Args:
            rows: (new batch,), int64.
        """
        if self._room is not None:
            self._room = self._room.index_select(1, rows)


def attend_with_cache(
    attention: MultiHeadAttention, states: torch.Tensor, cache: KeyValueCache, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Self-attention of new tokens to themselves and to all that came before them.

    It adds no causal mask of its own: the caller gives ``causal_mask(new, all)``.

    Args:
        attention: the self-attention of one layer.
        states: (batch, new, d_model), of the new tokens alone.
        cache: of this attention; the new keys and values are appended to it.
        mask: bool, broadcasts to (batch, heads, new, all).

    Returns:
        output (batch, new, d_model) and weights (batch, heads, new, all).
    """
    query = split_heads(attention.query(states), attention.heads)  # (batch, heads, new, d_head)
    keys, values = cache.append(
        split_heads(attention.key(states), attention.heads), split_heads(attention.value(states), attention.heads)
    )  # (batch, heads, all, d_head)
    output, weights = attention.attention(query, keys, values, mask)
    return attention.output(merge_heads(output)), weights
