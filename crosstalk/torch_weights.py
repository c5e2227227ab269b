"""The weights of ``torch.nn.Transformer`` under the names of this course, so that the two can be compared."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import nn

# Our name for each part of a layer of theirs.
_ENCODER_PARTS = {
    "self_attn": "attention",
    "norm1": "attention_norm",
    "norm2": "feed_forward_norm",
}
_DECODER_PARTS = {
    "self_attn": "self_attention",
    "norm1": "self_attention_norm",
    "multihead_attn": "cross_attention",
    "norm2": "cross_attention_norm",
    "norm3": "feed_forward_norm",
}
_FEED_FORWARD = {"linear1": "feed_forward.expand", "linear2": "feed_forward.contract"}
_NORM = {"weight": "scale", "bias": "shift"}


def pre_ln_transformer(layers: int, d_model: int, heads: int, d_ff: int, dropout: float = 0.0) -> nn.Transformer:
    """An ``nn.Transformer`` that computes what our encoder and decoder do: pre-LN, batch first, with ReLU.

    Args:
        layers: of the encoder, and as many of the decoder.
        d_model, heads, d_ff, dropout: of each layer. Mind that its dropout also falls inside: on attention weights
            and in the feed-forward block.
    """
    with warnings.catch_warnings():  # it remarks that nested tensors do not go with norm_first; we use none
        warnings.filterwarnings("ignore", message="enable_nested_tensor")
        return nn.Transformer(d_model, heads, layers, layers, d_ff, dropout, norm_first=True, batch_first=True)


def transformer_weights(transformer: nn.Transformer) -> dict[str, torch.Tensor]:
    """Encoder and decoder of an ``nn.Transformer``, their names beginning with ``encoder.`` and ``decoder.``.

    Raises:
        ValueError: as `encoder_weights`.
    """
    encoder, decoder = encoder_weights(transformer.encoder), decoder_weights(transformer.decoder)
    return {f"encoder.{name}": weight for name, weight in encoder.items()} | {
        f"decoder.{name}": weight for name, weight in decoder.items()
    }


def encoder_weights(torch_encoder: nn.TransformerEncoder) -> dict[str, torch.Tensor]:
    """The weights to load into an ``Encoder`` of the same size: ``encoder.load_state_dict(encoder_weights(theirs))``.

    Raises:
        ValueError: their layers normalise elsewhere (``norm_first=False``), have no bias, or no norm at the end.
    """
    _must_fit(torch_encoder)
    return encoder_names(dict(torch_encoder.named_parameters()))


def decoder_weights(torch_decoder: nn.TransformerDecoder) -> dict[str, torch.Tensor]:
    """The weights to load into a ``Decoder`` of the same size.

    Raises:
        ValueError: as `encoder_weights`.
    """
    _must_fit(torch_decoder)
    return decoder_names(dict(torch_decoder.named_parameters()))


def encoder_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors by PyTorch's names (an encoder's weights, or their gradients) by ours."""
    return _in_our_names(tensors, _ENCODER_PARTS)


def decoder_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors by PyTorch's names (a decoder's weights, or their gradients) by ours."""
    return _in_our_names(tensors, _DECODER_PARTS)


def _in_our_names(tensors: Mapping[str, torch.Tensor], parts: Mapping[str, str]) -> dict[str, torch.Tensor]:
    ours: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().clone()
        *path, kind = name.split(".")
        if path[0] == "norm":
            ours[f"norm.{_NORM[kind]}"] = tensor
            continue
        _, index, part, *_ = path  # layers.0.self_attn.out_proj, layers.0.linear1
        layer = f"layers.{index}"
        if part in _FEED_FORWARD:
            ours[f"{layer}.{_FEED_FORWARD[part]}.{kind}"] = tensor
        elif part.startswith("norm"):
            ours[f"{layer}.{parts[part]}.{_NORM[kind]}"] = tensor
        elif path[-1] == "out_proj":
            ours[f"{layer}.{parts[part]}.output.{kind}"] = tensor
        else:  # theirs keeps the three projections stacked: (3 · d_model, d_model) and (3 · d_model,)
            for projection, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                ours[f"{layer}.{parts[part]}.{projection}.{kind.removeprefix('in_proj_')}"] = third.clone()
    return ours


def _must_fit(stack: nn.TransformerEncoder | nn.TransformerDecoder) -> None:
    layer = stack.layers[0]
    if not getattr(layer, "norm_first", False):
        raise ValueError("These layers normalise after each sub-layer, ours before: make them with norm_first=True.")
    if stack.norm is None or getattr(layer, "linear1").bias is None:  # noqa: B009 - mypy knows a Module only
        raise ValueError(
            "Ours have biases and a norm at the end: leave bias=True, and give norm=nn.LayerNorm(d_model)."
        )
