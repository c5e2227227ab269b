"""Attention stage by stage: scores, scaled, softmax, output; and what √d is for."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import traitlets
from torch import Tensor

from crosstalk.widgets import student
from crosstalk.widgets.attention_maths import checked_inputs, row_entropy, softmax_gradient, token_names
from crosstalk.widgets.base import CourseWidget
from crosstalk.widgets.packing import pack

LARGEST = 32  # queries or keys; a larger table could be neither read nor painted quickly
WIDTHS = (4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512)  # d_k, half an octave apart
SUMS_RIGHT = "Each row of your weights sums to 1."
ALL_RIGHT = "Weights and output equal the widget's own."
_DRAWS = 64  # of random query and key for each point of the curves
_ROWS = 8  # queries and keys of a random draw


def _draw(width: int, draws: int = 1) -> tuple[Tensor, Tensor]:
    """Standard normal query and key, (draws, rows, width); the same every time."""
    generator = torch.Generator().manual_seed(width)
    query, key = torch.randn(2, draws, _ROWS, width, generator=generator)
    return query, key


def measure(weights: Tensor) -> tuple[float, float]:
    """Mean entropy (nats) and mean softmax gradient over all rows of ``weights``."""
    return float(row_entropy(weights).mean()), float(softmax_gradient(weights).mean())


@cache
def curves() -> Tensor:
    """Entropy and gradient at each of WIDTHS, (with √d, without) × (entropy, gradient) × widths."""
    points = []
    for width in WIDTHS:
        query, key = _draw(width, _DRAWS)
        scores = query @ key.mT
        points.append([measure(torch.softmax(s, -1)) for s in (scores / math.sqrt(width), scores)])
    return torch.tensor(points).permute(1, 2, 0)


class AttentionStages(CourseWidget):
    """The stages of scaled dot-product attention on given vectors, one head at a time.

    Args:
        query, key, value: (heads, length, d) or (batch, heads, length, d); of a batch, the first is drawn.
        tokens_q, tokens_k: labels; ``tokens_k`` defaults to ``tokens_q`` where the lengths agree.
        attention: the student's ``scaled_dot_product_attention(query, key, value)`` → output, weights. Its
            weights and output are drawn beside the widget's own. It always receives four-dimensional
            tensors; with √d switched off it receives ``query · √d``, which undoes its division.

    Raises:
        ValueError: shapes that do not fit, or more than 32 queries or keys.
    """

    name = "attention_stages"

    tokens_q = traitlets.List(traitlets.Unicode()).tag(sync=True)
    tokens_k = traitlets.List(traitlets.Unicode()).tag(sync=True)
    heads = traitlets.Int(1).tag(sync=True)
    width = traitlets.Int().tag(sync=True)
    widths = traitlets.List(list(WIDTHS)).tag(sync=True)
    attention_name = traitlets.Unicode("").tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    scale = traitlets.Bool(True).tag(sync=True)
    draw_width = traitlets.Int(64).tag(sync=True)

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        tokens_q: list[str] | None = None,
        tokens_k: list[str] | None = None,
        attention: Callable[..., Any] | None = None,
    ) -> None:
        self._query, self._key, self._value = (t[:1] for t in checked_inputs(query, key, value, LARGEST))
        queries, keys = self._query.shape[2], self._key.shape[2]
        if tokens_k is None and tokens_q is not None and queries == keys:
            tokens_k = tokens_q
        self._attention = attention
        super().__init__(
            tokens_q=token_names(tokens_q, queries, "tokens_q"),
            tokens_k=token_names(tokens_k, keys, "tokens_k"),
            heads=self._query.shape[1],
            width=self._query.shape[3],
            attention_name=student.name_of(attention) if attention else "",
        )
        self.observe(lambda _: self._compute(), ["head", "scale", "draw_width"])
        self._compute()

    def stages(self) -> dict[str, Tensor]:
        """The stages of the head shown: scores, scaled, weights (queries, keys); output (queries, d_v)."""
        query, key, value = (t[0, self.head].double() for t in (self._query, self._key, self._value))
        scores = query @ key.mT
        scaled = scores / math.sqrt(self.width) if self.scale else scores
        weights = torch.softmax(scaled, dim=-1)
        return {"scores": scores, "scaled": scaled, "weights": weights, "output": weights @ value}

    def _compute(self) -> None:
        stages = self.stages()
        arrays = dict(stages)
        arrays["entropy"] = row_entropy(stages["weights"])
        arrays["gradient"] = softmax_gradient(stages["weights"])
        theirs: dict[str, Any] = {}
        if self._attention is not None:
            theirs = self._theirs(self._attention, stages, arrays)
        arrays["draw_on"], arrays["draw_off"] = self._random_weights()
        arrays["curves"] = curves()
        layout, numbers = pack(**arrays)
        on, off = (measure(arrays[name]) for name in ("draw_on", "draw_off"))
        self._send_results(
            {
                "arrays": layout,
                "head": self.head,
                "scale": self.scale,
                "theirs": theirs,
                "draw": {"width": self.draw_width, "on": on, "off": off},
            },
            numbers,
        )

    def _random_weights(self) -> tuple[Tensor, Tensor]:
        query, key = _draw(self.draw_width)
        scores = (query @ key.mT)[0]
        return torch.softmax(scores / math.sqrt(self.draw_width), -1), torch.softmax(scores, -1)

    def _theirs(
        self, attention: Callable[..., Any], stages: dict[str, Tensor], arrays: dict[str, Tensor]
    ) -> dict[str, Any]:
        """Run the student's attention, add what it gave to ``arrays``, and say how it compares."""
        query = self._query if self.scale else self._query * math.sqrt(self.width)
        outcome = student.call_attention(
            attention,
            query,
            self._key,
            self._value,
            output_shape=(*query.shape[:3], self._value.shape[3]),
            weights_shape=(*query.shape[:3], self._key.shape[2]),
        )
        if outcome.problem:
            return {"problem": outcome.problem}
        output, weights = (part[0, self.head].double() for part in outcome.value)
        arrays["their_weights"], arrays["their_output"] = weights, output
        arrays["entropy"], arrays["gradient"] = row_entropy(weights), softmax_gradient(weights)
        sums = self._say_sums(weights)
        difference = self._say_difference(weights, stages["weights"], output, stages["output"])
        return {"right": (sums, difference) == (SUMS_RIGHT, ALL_RIGHT), "said": f"{sums} {difference}"}

    def _say_sums(self, weights: Tensor) -> str:
        if bool(weights.isnan().any()):
            row = int(weights.isnan().any(-1).nonzero()[0, 0])
            return f"Your weights hold NaN, first in the row of '{self.tokens_q[row]}'."
        sums = weights.sum(-1)
        wrong = (sums - 1).abs() > 1e-4
        if not bool(wrong.any()):
            return SUMS_RIGHT
        if bool(((weights.sum(-2) - 1).abs() < 1e-4).all()):
            return "The columns of your weights sum to 1; the rows should: each query spreads its weight over the keys."
        row = int(wrong.nonzero()[0, 0])
        return (
            f"{int(wrong.sum())} of {len(sums)} rows of your weights do not sum to 1: "
            f"the row of '{self.tokens_q[row]}' sums to {float(sums[row]):.2f}."
        )

    def _say_difference(self, weights: Tensor, own: Tensor, output: Tensor, own_output: Tensor) -> str:
        gap = (weights - own).abs().nan_to_num(nan=math.inf)
        if float(gap.max()) > 1e-4:
            query, key = divmod(int(gap.argmax()), gap.shape[1])
            return (
                f"They differ from the widget's own, most for query '{self.tokens_q[query]}' and key "
                f"'{self.tokens_k[key]}': {float(weights[query, key]):.2f} "
                f"instead of {float(own[query, key]):.2f}."
            )
        size = float(own_output.abs().max())
        if float((output - own_output).abs().nan_to_num(nan=math.inf).max()) > 1e-4 * (1 + size):
            return "They equal the widget's own weights, but your output differs from weights @ value."
        return ALL_RIGHT

    def describe(self) -> str:
        stages = self.stages()
        entropy, gradient = measure(stages["weights"])
        return (
            f"Scaled dot-product attention, head {self.head} of {self.heads}: "
            f"{len(self.tokens_q)} queries ({' '.join(self.tokens_q)}), "
            f"{len(self.tokens_k)} keys ({' '.join(self.tokens_k)}), d_k = {self.width}. "
            f"Mean entropy of a row {entropy:.2f} nats, mean gradient of its softmax {gradient:.2f}."
        )
