"""The same model twice: Hugging Face's Pegasus, which is pre-LN, and the course's model with its weights.

Pegasus (Zhang et al. 2020) is randomly initialised here; nothing is fetched.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PegasusConfig, PegasusForConditionalGeneration
from transformers.utils import logging

from crosstalk.layers import fused_attention, use_attention
from crosstalk.models import Size
from crosstalk.stand_ins.lesson_03 import Encoder, TokenEmbedding
from crosstalk.stand_ins.lesson_04 import Decoder, EncoderDecoder

PAD, END = 0, 1  # Pegasus starts with the padding token
START = PAD
LONGEST = 512
logging.set_verbosity_error()

_ATTENTION = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}
_NAMES = {
    "encoder": {
        "self_attn_layer_norm": "attention_norm", "self_attn": "attention",
        "final_layer_norm": "feed_forward_norm", "fc1": "feed_forward.expand", "fc2": "feed_forward.contract",
    },
    "decoder": {
        "self_attn_layer_norm": "self_attention_norm", "self_attn": "self_attention",
        "encoder_attn_layer_norm": "cross_attention_norm", "encoder_attn": "cross_attention",
        "final_layer_norm": "feed_forward_norm", "fc1": "feed_forward.expand", "fc2": "feed_forward.contract",
    },
}  # fmt: skip


def both(size: Size, vocabulary: int, seed: int = 0) -> tuple[PegasusForConditionalGeneration, EncoderDecoder]:
    """Hugging Face's model and the course's, with the same random weights, in evaluation mode."""
    torch.manual_seed(seed)
    theirs = PegasusForConditionalGeneration(PegasusConfig(
        vocab_size=vocabulary, d_model=size.d_model, activation_function="relu", scale_embedding=True,
        encoder_layers=size.encoder_layers, decoder_layers=size.decoder_layers,
        encoder_attention_heads=size.heads, decoder_attention_heads=size.heads,
        encoder_ffn_dim=size.d_ff, decoder_ffn_dim=size.d_ff, max_position_embeddings=LONGEST,
        init_std=size.d_model**-0.5, pad_token_id=PAD, eos_token_id=END, decoder_start_token_id=START,
        forced_eos_token_id=None, tie_word_embeddings=False,  # tied and untrained, it repeats its last token for ever
    )).eval()  # fmt: skip
    layer = (size.d_model, size.heads, size.d_ff)
    ours = EncoderDecoder(
        TokenEmbedding(vocabulary, size.d_model, PAD),
        Encoder(size.encoder_layers, *layer),
        TokenEmbedding(vocabulary, size.d_model, PAD),
        Decoder(size.decoder_layers, *layer),
        nn.Linear(size.d_model, vocabulary),
    )
    use_attention(ours, fused_attention)
    _copy(theirs, ours)
    return theirs, ours.eval()


def _copy(theirs: PegasusForConditionalGeneration, ours: EncoderDecoder) -> None:
    weights = {
        "generator.weight": theirs.lm_head.weight,
        "generator.bias": theirs.final_logits_bias[0],
        "source_embedding.table.weight": theirs.model.encoder.embed_tokens.weight,
        "target_embedding.table.weight": theirs.model.decoder.embed_tokens.weight,
    }
    for side, names in _NAMES.items():
        for key, weight in getattr(theirs.model, side).state_dict().items():
            part = key.split(".")
            if part[0] == "layer_norm":
                weights[f"{side}.norm.{_scale(part[-1])}"] = weight
            elif part[0] == "layers":
                name = names[part[2]]
                inner = [_ATTENTION[part[3]]] if len(part) == 5 else []
                last = _scale(part[-1]) if "norm" in name else part[-1]
                weights[".".join([side, "layers", part[1], name, *inner, last])] = weight
    ours.load_state_dict(weights)
    for embedding, side in (
        (ours.source_embedding, theirs.model.encoder),
        (ours.target_embedding, theirs.model.decoder),
    ):
        embedding.positions = side.embed_positions.weight.detach().clone()  # sines first, then cosines


def _scale(name: str) -> str:
    return {"weight": "scale", "bias": "shift"}[name]
