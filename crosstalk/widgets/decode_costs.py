"""What a decode costs, counted from the model's sizes: the work of each step, and what goes through the cache.

One multiplication with its addition counts as two FLOPs, and only matrix products are counted: norms, softmax, biases
and the look-up of embeddings are a few percent beside them. PyTorch's own counter comes to the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """What the costs depend on.

    Args:
        d_model: width of the states.
        d_ff: width inside the feed-forward blocks.
        vocabulary: of the target.
        encoder_layers, decoder_layers: how many.
        number: bytes of one number.
    """

    d_model: int
    d_ff: int
    vocabulary: int
    encoder_layers: int
    decoder_layers: int
    number: int = 4

    @classmethod
    def of(cls, model: Any) -> Sizes:
        """The sizes of an EncoderDecoder."""
        weight = model.decoder.layers[0].feed_forward.expand.weight  # (d_ff, d_model)
        return cls(
            d_model=weight.shape[1],
            d_ff=weight.shape[0],
            vocabulary=model.generator.weight.shape[0],
            encoder_layers=len(model.encoder.layers),
            decoder_layers=len(model.decoder.layers),
            number=weight.element_size(),
        )


@dataclass(frozen=True)
class Cost:
    """The work of a step in FLOPs, and the bytes of keys and values that it reads from and writes to the cache."""

    projections: int = 0
    attention: int = 0
    feed_forward: int = 0
    generator: int = 0
    read: int = 0
    written: int = 0

    @property
    def flops(self) -> int:
        """All the work."""
        return self.projections + self.attention + self.feed_forward + self.generator


def encoder_cost(sizes: Sizes, source: int) -> Cost:
    """One run of the encoder over ``source`` tokens."""
    each = 2 * source * sizes.d_model  # FLOPs of a product of all states with one column
    return Cost(
        projections=sizes.encoder_layers * 4 * each * sizes.d_model,
        attention=sizes.encoder_layers * 2 * each * source,
        feed_forward=sizes.encoder_layers * 2 * each * sizes.d_ff,
    )


def step_cost(sizes: Sizes, source: int, length: int, cached: bool) -> Cost:
    """One step of the decoder, for one row of a batch.

    Without a cache it computes the whole prefix, and keys and values of the memory again. With one it computes the
    newest token; keys and values of the tokens before it are read, and those of the memory are made at the first
    step and read from then on.

    Args:
        source: tokens of the memory.
        length: tokens of the prefix, the start token included.
        cached: with the cache.
    """
    layers, d_model = sizes.decoder_layers, sizes.d_model
    new = 1 if cached else length
    memory = source if length == 1 or not cached else 0  # of which keys and values are made in this step
    kept = 2 * layers * d_model * sizes.number  # bytes of keys and values of one place, all layers
    return Cost(
        # Query, key, value and output of the self-attention, query and output of the cross-attention; its key and value
        projections=layers * (6 * new + 2 * memory) * 2 * d_model**2,
        # Scores, and the weighted sum
        attention=layers * 2 * 2 * new * (length + source) * d_model,
        feed_forward=layers * 2 * 2 * new * d_model * sizes.d_ff,
        generator=2 * new * d_model * sizes.vocabulary,
        read=kept * (length - 1 + source - memory) if cached else 0,
        written=kept * (1 + memory) if cached else 0,
    )
