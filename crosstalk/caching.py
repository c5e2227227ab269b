"""A model that remembers: within `caching`, its decoder computes each token once.

>>> with caching(model):
...     ids = greedy_decode(model, source, source_mask, START, END, PAD, 32)

The student's own `KeyValueCache` and `attend_with_cache` do the work where there are some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from crosstalk import my_model
from crosstalk.stand_ins.lesson_04 import EncoderDecoder


class Memories:
    """What a decoder remembers within `caching`.

    Attributes:
        length: how many tokens of each row are remembered.
        taken: for each call of ``decode``, how many tokens it computed.
    """

    def __init__(self, model: EncoderDecoder, own: bool) -> None:
        self.layers: list[Any] = list(model.decoder.layers)  # type: ignore[arg-type]
        self._cache = my_model.get("KeyValueCache", own)
        self._attend = my_model.get("attend_with_cache", own)
        self.taken: list[int] = []
        self.read: torch.Tensor | None = None  # the encoder's memory, (batch, source, d_model)
        self.alone = False  # is the newest token taken alone, with nothing hidden from it?
        self.forget()

    def forget(self) -> None:
        """Begin a new decode."""
        self.length = 0
        self.caches = [self._cache() for _ in self.layers]

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows (new batch,), in this order: beam search moves its prefixes, and keys must move along."""
        if self.length:
            for cache in self.caches:
                cache.select(rows)

    def attend(
        self, layer: int, states: torch.Tensor, memory: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """In place of the ``forward`` of a layer's self-attention."""
        # No mask hides nothing just as a mask full of True does, in fewer operations.
        return self._attend(self.layers[layer].self_attention, states, self.caches[layer], None if self.alone else mask)


@contextmanager
def caching(model: EncoderDecoder, own: bool = True) -> Iterator[Memories]:
    """Within it, ``model.decode`` computes only those tokens of ``target`` that it has not seen yet.

    Call it with the whole prefix as ever: logits come for the new tokens, so the newest is still at -1. (Or with the
    new tokens alone and ``start``.) Keys and values of the memory are computed once. ``model.encode`` begins anew, and
    so does a prefix with another memory.

    Args:
        model: an EncoderDecoder in evaluation mode.
        own: take the student's cache where there is one, or the stand-in alone.
    """
    memories = Memories(model, own)
    encode, decode = model.encode, model.decode

    def encode_anew(*args: Any, **kwargs: Any) -> torch.Tensor:
        memories.forget()
        return encode(*args, **kwargs)

    def decode_new(
        target: torch.Tensor,
        memory: torch.Tensor,
        target_mask: torch.Tensor | None = None,
        memory_mask: torch.Tensor | None = None,
        start: int = 0,
    ) -> torch.Tensor:
        if start == 0 and memories.length and memory is not memories.read:
            memories.forget()  # another batch, such as the rows of the last one that have not ended
        memories.read = memory
        new = target[:, memories.length - start :]
        if not new.size(1):
            raise ValueError(f"These {target.size(1)} tokens are all in the cache already: give at least one new one.")
        if target_mask is not None and target_mask.size(-2) > 1:
            target_mask = target_mask[..., -new.size(1) :, :]
        memories.alone = target_mask is None and new.size(1) == 1
        logits = decode(new, memory, target_mask, memory_mask, start=memories.length)
        memories.length += new.size(1)
        memories.taken.append(new.size(1))
        return logits

    replaced: list[tuple[nn.Module, str, Callable | None]] = []

    def replace(module: nn.Module, name: str, function: Callable) -> None:
        replaced.append((module, name, vars(module).get(name)))
        vars(module)[name] = function

    try:
        replace(model, "encode", encode_anew)
        replace(model, "decode", decode_new)
        for index, layer in enumerate(memories.layers):
            replace(layer.self_attention, "forward", _bound(memories.attend, index))
            for projection in (layer.cross_attention.key, layer.cross_attention.value):
                replace(projection, "forward", _once(projection.forward))
        yield memories
    finally:
        for module, name, before in reversed(replaced):
            if before is None:
                del vars(module)[name]
            else:
                vars(module)[name] = before


def _bound(function: Callable, index: int) -> Callable:
    return lambda *args, **kwargs: function(index, *args, **kwargs)


def _once(project: Callable) -> Callable:
    """The projection, computed anew only where it is given another memory than the last time."""
    last: list[torch.Tensor] = []

    def projected(memory: torch.Tensor) -> torch.Tensor:
        if not last or last[0] is not memory:
            last[:] = memory, project(memory)
        return last[1]

    return projected
