"""Label smoothing: what the targets become, where the loss is lowest, and what it did to two trained models."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import traitlets
from torch import Tensor

from crosstalk.data import label_smoothing
from crosstalk.data.cmudict import PAD, PHONEMES
from crosstalk.widgets import student
from crosstalk.widgets.base import CourseWidget
from crosstalk.widgets.packing import pack

V = len(PHONEMES)
TRUE = PHONEMES.index("K")  # the class that the bars and the gap are drawn for
VARIANTS = ("ε/V", "ε/(V−1)", "ε/(V−2)")
GAPS = torch.linspace(-2, 14, 65, dtype=torch.float64)  # nats
_PROBED = 0.1  # ε at which a student's function is told apart where the slider stands at 0


def target_shares(smoothing: float, variant: int) -> Tensor:
    """The target distribution for the true class, (V,).

    Args:
        smoothing: ε.
        variant: 0, ε spread over all V classes, the true one included (Szegedy et al. 2016; PyTorch); 1, over
            the V - 1 others; 2, over the V - 2 others that are not padding.
    """
    shares = torch.full((V,), smoothing / (V - variant), dtype=torch.float64)
    if variant == 2:
        shares[PAD] = 0
    shares[TRUE] = 1 - smoothing + (smoothing / V if variant == 0 else 0)
    return shares


def gap_loss(share: float, gaps: Tensor) -> Tensor:
    """Cross-entropy where the true class has a share and the others the rest, and its logit leads by a gap."""
    return torch.logaddexp(gaps, torch.tensor(math.log(V - 1), dtype=gaps.dtype)) - share * gaps


def best_gap(share: float) -> float:
    """The gap at which that loss is lowest: where the softmax gives the true class its share."""
    return math.inf if share >= 1 else math.log(share * (V - 1) / (1 - share))


class LabelSmoothing(CourseWidget):
    """Targets, loss and calibration with label smoothing.

    Args:
        label_smoothing_loss: the student's ``label_smoothing_loss(logits, target, pad_id, smoothing)``. Its loss is
            drawn beside the widget's own, and the widget says which variant it is.

    Raises:
        FileNotFoundError: the table of calibration is missing.
    """

    name = "label_smoothing"

    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    true = traitlets.Int(TRUE).tag(sync=True)
    variants = traitlets.List(traitlets.Unicode()).tag(sync=True)
    calibration = traitlets.Dict().tag(sync=True)
    function_name = traitlets.Unicode("").tag(sync=True)
    smoothing = traitlets.Float(0.1).tag(sync=True)
    variant = traitlets.Int(0).tag(sync=True)

    def __init__(self, label_smoothing_loss: Callable[..., Any] | None = None) -> None:
        self._function = label_smoothing_loss
        table = label_smoothing.load()
        super().__init__(
            tokens=list(PHONEMES),
            variants=list(VARIANTS),
            calibration={**table, "said": findings(table)},
            function_name=student.name_of(label_smoothing_loss) if label_smoothing_loss else "",
        )
        self.observe(lambda _: self._compute(), ["smoothing", "variant"])
        self._compute()

    def _compute(self) -> None:
        shares = target_shares(self.smoothing, self.variant)
        share = float(shares[TRUE])
        gap = best_gap(share)
        arrays = {"shares": shares, "gaps": GAPS, "plain": gap_loss(1.0, GAPS), "loss": gap_loss(share, GAPS)}
        theirs: dict[str, Any] = {}
        if self._function is not None:
            theirs = self._theirs(self._function, arrays)
        layout, numbers = pack(**arrays)
        lowest = None if math.isinf(gap) else float(gap_loss(share, torch.tensor(gap, dtype=torch.float64)))
        self._send_results(
            {
                "arrays": layout,
                "smoothing": self.smoothing,
                "variant": self.variant,
                "share": share,
                "minimum": None if lowest is None else {"gap": gap, "loss": lowest},
                "theirs": theirs,
            },
            numbers,
        )

    def _theirs(self, function: Callable[..., Any], arrays: dict[str, Tensor]) -> dict[str, Any]:
        """The student's loss at each gap, into ``arrays``, and which variant it is."""
        losses = []
        for gap in GAPS.float():
            logits = torch.zeros(1, 1, V)
            logits[0, 0, TRUE] = gap
            value, problem = self._one_number(function, logits, torch.tensor([[TRUE]]), self.smoothing)
            if problem:
                return {"state": "problem", "said": problem}
            losses.append(value)
        arrays["theirs"] = torch.tensor(losses, dtype=torch.float64)
        return self._name_variant(function)

    def _one_number(
        self, function: Callable[..., Any], logits: Tensor, target: Tensor, smoothing: float
    ) -> tuple[float, str]:
        name = student.name_of(function)
        outcome = student.call(function, logits, target, PAD, smoothing)
        if outcome.problem:
            return math.nan, outcome.problem
        given = outcome.value
        if isinstance(given, Tensor) and given.numel() == 1:
            given = given.item()
        if isinstance(given, bool) or not isinstance(given, int | float):
            got = "None" if given is None else f"a {type(given).__name__}"
            if isinstance(given, Tensor):
                got = f"a tensor of shape {student.shape_text(given.shape)}"
            return math.nan, f"`{name}` returned {got}; one number is wanted."
        return given, ""

    def _name_variant(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Tell the variants apart on a small batch with padding, where no two of them agree."""
        name, smoothing = student.name_of(function), self.smoothing or _PROBED
        logits = torch.linspace(-1, 1, 6 * V).reshape(2, 3, V)
        # The variants give the true class and the padding other shares: there the logits are far from the rest.
        logits[..., TRUE] += 8
        logits[..., PAD] -= 30
        target = torch.tensor([[TRUE, TRUE, TRUE], [TRUE, PAD, PAD]])
        value, problem = self._one_number(function, logits, target, smoothing)
        if problem:
            return {"state": "problem", "said": problem}
        log_probs = logits.double().log_softmax(-1)[target.ne(PAD)]  # (real tokens, vocabulary)
        own = [float(-(log_probs @ target_shares(smoothing, variant)).mean()) for variant in range(len(VARIANTS))]
        near = [variant for variant, loss in enumerate(own) if abs(loss - value) <= 1e-4 * (1 + abs(loss))]
        if near == [0]:
            return {"state": "agrees", "said": f"`{name}` spreads ε as PyTorch does: ε/V, the true class included."}
        if near:
            return {
                "state": "differs",
                "said": f"`{name}` is the variant {VARIANTS[near[0]]}; this lesson, like PyTorch, wants ε/V.",
            }
        return {
            "state": "differs",
            "said": f"`{name}` gives {value:.4f} for a small batch with padding (ε = {smoothing:.2f}); "
            f"{own[0]:.4f} is wanted, and the other variants give {own[1]:.4f} and {own[2]:.4f}.",
        }

    def describe(self) -> str:
        shares = target_shares(self.smoothing, self.variant)
        other = float(shares[TRUE + 1])
        gap = best_gap(float(shares[TRUE]))
        lowest = "falls for ever as the gap grows" if math.isinf(gap) else f"is lowest at a gap of {gap:.2f} nats"
        return "\n".join([
            f"Label smoothing, ε = {self.smoothing:.2f}, variant {VARIANTS[self.variant]}: the true class is to get "
            f"{float(shares[TRUE]):.4f}, each other {other:.4f}. The loss {lowest}.",
            *self.calibration["said"],
        ])  # fmt: skip


def findings(table: dict[str, Any]) -> list[str]:
    """What the table of calibration shows, in sentences that follow its figures."""
    plain, smooth = table["models"]
    change = table["differences"]
    sentences = []
    for model in (plain, smooth):
        gap = model["confidence"] - model["accuracy"]["value"]
        manner = "about as sure as it may be"
        if abs(gap) >= 0.01:
            manner = "surer than it may be" if gap > 0 else "less sure than it may be"
        sentences.append(
            f"Trained with ε = {model['smoothing']:g}, the model gives its likeliest token "
            f"{model['confidence']:.3f} on average and is right in {model['accuracy']['value']:.3f}: {manner}."
        )
    better = _direction(change["ece"], "better", "worse")
    sentences.append(
        f"On these two models smoothing made calibration {better}: calibration error (ECE) "
        f"{plain['ece']['value']:.3f} → {smooth['ece']['value']:.3f}, NLL {plain['nll']['value']:.3f} → "
        f"{smooth['nll']['value']:.3f}."
        if better
        else "On these words no difference in calibration error can be told from chance."
    )
    fewer = _direction(change["per"], "lower", "higher")
    per = change["per"]
    sentences.append(
        f"PER {plain['per']['value']:.1f} → {smooth['per']['value']:.1f} %, a difference of {_signed(per['value'])} "
        f"(95 % interval {_signed(per['low'])} to {_signed(per['high'])}): "
        + (f"{fewer} with smoothing." if fewer else "within what chance does.")
    )
    return sentences


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _direction(change: dict[str, float], down: str, up: str) -> str:
    """The word for which way a figure went; empty if its interval holds 0."""
    if change["low"] <= 0 <= change["high"]:
        return ""
    return down if change["value"] < 0 else up
