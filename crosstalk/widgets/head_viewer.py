"""All heads of one layer, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import traitlets
from torch import Tensor

from crosstalk.widgets.attention_maths import token_names
from crosstalk.widgets.base import CourseWidget
from crosstalk.widgets.packing import nan_bits, weights_to_bytes


def _one_layer(weights: Any, what: str) -> Tensor:
    if not isinstance(weights, Tensor):
        raise TypeError(f"{what} must be a tensor (heads, queries, keys), not {type(weights).__name__}.")
    if weights.dim() == 4 and weights.shape[0] == 1:
        weights = weights[0]
    if weights.dim() != 3:
        raise ValueError(
            f"{what} must have shape (heads, queries, keys), not {tuple(weights.shape)}: "
            "of a batch, choose one, such as weights[0]."
        )
    return weights.detach().cpu()


class HeadViewer(CourseWidget):
    """Small multiples of the attention weights of all heads; choose one to see it large.

    Args:
        weights: (heads, queries, keys), or a batch of one of these.
        tokens_q, tokens_k: labels; ``tokens_k`` defaults to ``tokens_q`` where the lengths agree.
        layers: several layers instead of ``weights``; one is sent at a time, when it is chosen.
        caption: a line above the heads.

    The weights travel as one byte each, ``round(255·√w)``, so a weight is shown to within 0.004.

    Raises:
        ValueError: a wrong shape, neither or both of ``weights`` and ``layers``, or layers of several shapes.
    """

    name = "head_viewer"

    tokens_q = traitlets.List(traitlets.Unicode()).tag(sync=True)
    tokens_k = traitlets.List(traitlets.Unicode()).tag(sync=True)
    caption = traitlets.Unicode("").tag(sync=True)
    layers = traitlets.Int(1).tag(sync=True)
    layer = traitlets.Int(0).tag(sync=True)
    missing = traitlets.Bytes(b"").tag(sync=True)

    def __init__(
        self,
        weights: Tensor | None = None,
        tokens_q: list[str] | None = None,
        tokens_k: list[str] | None = None,
        *,
        layers: Sequence[Tensor] | None = None,
        caption: str = "",
    ) -> None:
        if (weights is None) == (layers is None):
            raise ValueError("Give either weights (one layer) or layers (a list of them).")
        given = [weights] if layers is None else list(layers)
        if not given:
            raise ValueError("layers is empty: give at least one layer.")
        self._layers = [_one_layer(w, "weights" if layers is None else f"layers[{i}]") for i, w in enumerate(given)]
        shapes = {tuple(w.shape) for w in self._layers}
        if len(shapes) > 1:
            raise ValueError(f"The layers have several shapes: {', '.join(map(str, sorted(shapes)))}.")
        _, queries, keys = self._layers[0].shape
        if tokens_k is None and tokens_q is not None and queries == keys:
            tokens_k = tokens_q
        super().__init__(
            tokens_q=token_names(tokens_q, queries, "tokens_q"),
            tokens_k=token_names(tokens_k, keys, "tokens_k"),
            caption=caption,
            layers=len(self._layers),
        )
        self.observe(lambda _: self._send_layer(), "layer")
        self._send_layer()

    def _send_layer(self) -> None:
        weights = self._layers[self.layer]
        outside = int(((weights < -1e-6) | (weights > 1 + 1e-6)).sum())
        with self.hold_sync():
            self.missing = nan_bits(weights)
            self._send_results(
                {"layer": self.layer, "shape": list(weights.shape), "outside": outside},
                weights_to_bytes(weights),
            )

    def describe(self) -> str:
        heads, queries, keys = self._layers[self.layer].shape
        return f"Attention weights of layer {self.layer}: {heads} heads, {queries} queries × {keys} keys."
