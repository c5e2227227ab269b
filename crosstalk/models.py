"""The whole model for words, put together from the student's pieces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from crosstalk import my_model
from crosstalk.data.cmudict import LETTERS, PAD, PHONEMES
from crosstalk.layers import use_attention
from crosstalk.stand_ins.lesson_04 import EncoderDecoder


@dataclass(frozen=True)
class Size:
    """How large a model is. The default is the lessons' size: 1.1 million parameters."""

    d_model: int = 128
    heads: int = 4
    d_ff: int = 512
    encoder_layers: int = 3
    decoder_layers: int = 2
    dropout: float = 0.0


def word_model(size: Size = Size(), *, own: bool = True, attention: Callable | None = None) -> EncoderDecoder:
    """An encoder-decoder from letters to phonemes, freshly initialised.

    Args:
        size: widths and depths.
        own: of the student's pieces where there are some (a line says where a stand-in takes their place), or of
            stand-ins alone.
        attention: what each head does; the `masked_attention` piece unless given.
    """

    def piece(name: str) -> Callable:
        return my_model.get(name, own)

    layer = {"d_model": size.d_model, "heads": size.heads, "d_ff": size.d_ff, "dropout": size.dropout}
    model = piece("EncoderDecoder")(
        piece("TokenEmbedding")(len(LETTERS), size.d_model, PAD),
        piece("Encoder")(size.encoder_layers, **layer),
        piece("TokenEmbedding")(len(PHONEMES), size.d_model, PAD),
        piece("Decoder")(size.decoder_layers, **layer),
        nn.Linear(size.d_model, len(PHONEMES)),
    )
    use_attention(model, attention or piece("masked_attention"))
    return model
