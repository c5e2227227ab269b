"""Paint a mask, apply it before or after the softmax, and see who reads what they may not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import traitlets
from torch import Tensor

from crosstalk.widgets import student
from crosstalk.widgets.attention_maths import checked_inputs, masked_softmax, token_names
from crosstalk.widgets.base import CourseWidget
from crosstalk.widgets.packing import pack

LARGEST = 24  # queries or keys; each cell is painted on its own
MOVED = 1e-5  # a row has moved when its output changed by more than this share of its size


def causal(queries: int, keys: int) -> Tensor:
    """bool (queries, keys), True = may attend, aligned at the bottom right."""
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)


def _painted(mask: Tensor | None, queries: int, keys: int) -> str:
    if mask is None:
        return "1" * (queries * keys)
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be a bool tensor, True = may attend, not {mask.dtype}.")
    try:
        cells = mask.detach().cpu().broadcast_to(queries, keys)
    except RuntimeError:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}; it must broadcast to (queries, keys) = ({queries}, {keys})."
        ) from None
    return "".join("01"[int(cell)] for cell in cells.flatten().tolist())


class MaskPainter(CourseWidget):
    """A mask to paint, the weights that come of it, and the influence of one token on every output row.

    Args:
        query, key, value: (heads, length, d) or (batch, heads, length, d); of a batch, the first is drawn.
        tokens: labels of the keys; the queries are the last of them.
        attention: the student's ``masked_attention(query, key, value, mask)`` → output, weights, with
            ``mask`` bool (1, 1, queries, keys), True = may attend. It computes everything shown for a mask
            before the softmax. Without it the widget's own does.
        mask: what is painted at first, bool, broadcastable to (queries, keys); None allows everything.

    ``mask`` is what is painted, one character for each cell, "1" = may attend, row by row;
    :meth:`mask_tensor` gives it as a tensor.

    Raises:
        ValueError: shapes that do not fit, or more than 24 queries or keys.
    """

    name = "mask_painter"

    tokens_q = traitlets.List(traitlets.Unicode()).tag(sync=True)
    tokens_k = traitlets.List(traitlets.Unicode()).tag(sync=True)
    heads = traitlets.Int(1).tag(sync=True)
    attention_name = traitlets.Unicode("").tag(sync=True)
    mask = traitlets.Unicode().tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    before = traitlets.Bool(True).tag(sync=True)
    edited = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        tokens: list[str] | None = None,
        attention: Callable[..., Any] | None = None,
        mask: Tensor | None = None,
    ) -> None:
        self._query, self._key, self._value = (t[:1] for t in checked_inputs(query, key, value, LARGEST))
        queries, keys = self._query.shape[2], self._key.shape[2]
        if queries > keys:
            raise ValueError(f"There are {queries} queries but only {keys} keys: the queries are the last keys.")
        self._attention = attention
        names = token_names(tokens, keys, "tokens")
        super().__init__(
            tokens_q=names[keys - queries :],
            tokens_k=names,
            heads=self._query.shape[1],
            attention_name=student.name_of(attention) if attention else "",
            mask=_painted(mask, queries, keys),
            edited=keys - 1,
        )
        self.observe(lambda _: self._compute(), ["mask", "head", "before", "edited"])
        self._compute()

    @traitlets.validate("mask")
    def _whole_mask(self, proposal: Any) -> str:
        mask: str = proposal["value"]
        cells = len(self.tokens_q) * len(self.tokens_k)
        if len(mask) != cells or set(mask) - {"0", "1"}:
            raise traitlets.TraitError(f"A mask is {cells} characters, each 0 or 1.")
        return mask

    def mask_tensor(self) -> Tensor:
        """What is painted, bool (queries, keys), True = may attend."""
        cells = torch.tensor([cell == "1" for cell in self.mask])
        return cells.reshape(len(self.tokens_q), len(self.tokens_k))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> student.Outcome:
        """Output and weights (batch, heads, queries, …) with the mask where the switch puts it."""
        if self.before and self._attention is not None:
            return student.call_attention(
                self._attention,
                query,
                key,
                value,
                mask[None, None],
                output_shape=(*query.shape[:3], value.shape[3]),
                weights_shape=(*query.shape[:3], key.shape[2]),
            )
        scores = query @ key.mT / math.sqrt(query.shape[3])  # (batch, heads, queries, keys)
        weights = masked_softmax(scores, mask) if self.before else masked_softmax(scores) * mask
        return student.Outcome(value=(weights @ value, weights))

    def _edit(self) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value after token ``edited`` has become another one, of the same length."""
        token = self.edited
        generator = torch.Generator().manual_seed(token)
        edited = []
        offset = self._key.shape[2] - self._query.shape[2]
        for tensor, place in ((self._query, token - offset), (self._key, token), (self._value, token)):
            copy = tensor.clone()
            if place >= 0:
                old = copy[:, :, place]
                new = torch.randn(old.shape, generator=generator).to(old.dtype)
                copy[:, :, place] = new * (old.norm(dim=-1, keepdim=True) / new.norm(dim=-1, keepdim=True))
            edited.append(copy)
        return edited[0], edited[1], edited[2]

    def _compute(self) -> None:
        mask = self.mask_tensor()
        outcome = self._attend(self._query, self._key, self._value, mask)
        if outcome.problem:
            self._send_results({"problem": outcome.problem, "arrays": {}})
            return
        output, weights = (part[0, self.head].double() for part in outcome.value)
        arrays = {"weights": weights, "sums": weights.sum(-1)}
        results: dict[str, Any] = {"edited": self.edited, "before": self.before, "head": self.head}
        after = self._attend(*self._edit(), mask)
        if after.problem:
            results["problem"] = after.problem
        else:
            moved = (after.value[0][0, self.head].double() - output).norm(dim=-1)  # (queries,)
            arrays["moved"] = moved
            results["rows"] = self._verdicts(moved, output, mask)
        layout, numbers = pack(**arrays)
        self._send_results({**results, "arrays": layout}, numbers)

    def _verdicts(self, moved: Tensor, output: Tensor, mask: Tensor) -> list[str]:
        """For each output row, why it moved or not when the token was edited.

        "still"; "own": its own token was edited; "hidden": the mask hides the token from it, yet it moved;
        "future": the mask lets it read a later token; "allowed"; "nan".
        """
        offset = len(self.tokens_k) - len(self.tokens_q)
        said = []
        for row, change in enumerate(moved.tolist()):
            if math.isnan(change):
                said.append("nan")
            elif change <= MOVED * (1 + float(output[row].norm())):
                said.append("still")
            elif row + offset == self.edited:
                said.append("own")
            elif not bool(mask[row, self.edited]):
                said.append("hidden")
            elif row + offset < self.edited:
                said.append("future")
            else:
                said.append("allowed")
        return said

    def describe(self) -> str:
        mask = self.mask_tensor()
        rows = [
            f"{name}: " + " ".join(k if allowed else "·" for k, allowed in zip(self.tokens_k, row, strict=True))
            for name, row in zip(self.tokens_q, mask.tolist(), strict=True)
        ]
        return "The mask, one line for each query, a dot for a key it may not attend to:\n" + "\n".join(rows)
