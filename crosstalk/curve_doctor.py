"""Read a training loss in plain words: what is seen, what is likely behind it, what would tell for sure.

    >>> from crosstalk.curve_doctor import read
    >>> print(read([3.74] * 200, vocabulary=42)[0])
    The loss stays at 3.74, and knowing nothing costs ln 42 = 3.74 …

The rules know cross-entropy in nats, averaged over tokens, and nothing else of the training. So they speak of what is
likely; a curve alone proves no cause.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FEWEST = 20  # points that can be read as a curve
REMARK = "A curve alone neither convicts nor acquits: let the model speak some words that it was not trained on."


@dataclass(frozen=True)
class Finding:
    """One thing that the curve shows.

    Attributes:
        kind: its short name.
        seen: what is there to see, with its figures.
        likely: what is often behind it.
        ask: what would tell.
    """

    kind: str
    seen: str
    likely: str
    ask: str

    def __str__(self) -> str:
        return f"{self.seen} {self.likely} {self.ask}"


def knows_nothing(vocabulary: int) -> float:
    """The loss of one who gives all tokens the same probability, ln V."""
    return math.log(vocabulary)


def softmax_twice_floor(vocabulary: int) -> float:
    """The least loss when probabilities are taken for logits: ln(e + V - 1) - 1, since none is larger than 1."""
    return math.log(math.e + vocabulary - 1) - 1


@dataclass(frozen=True)
class _Curve:
    """The finite part of a curve, and the figures that the rules look at."""

    losses: list[float]
    validation: list[float]
    vocabulary: int
    every: int

    @property
    def guess(self) -> float:
        return knows_nothing(self.vocabulary)

    def mean(self, begin: float, end: float) -> float:
        """The mean between two places of the curve, given from 0 to 1."""
        count = len(self.losses)
        first = min(int(begin * count), count - 1)
        part = self.losses[first : max(first + 1, int(end * count))]
        return sum(part) / len(part)

    @property
    def late(self) -> float:
        return self.mean(0.9, 1.0)

    @property
    def smooth(self) -> list[float]:
        """Means over a fiftieth of the curve, one beside the other."""
        return [self.mean(at / 50, (at + 1) / 50) for at in range(50)]


def read(losses: Sequence[float], vocabulary: int, validation: Sequence[float] = (), every: int = 1) -> list[Finding]:
    """What a loss curve shows, the most telling first; at least one finding.

    Args:
        losses: the training loss, one number for each ``every`` steps, in nats per token.
        vocabulary: the number of tokens to choose from.
        validation: the loss on held-out data at several moments of the same training, if it was measured.

    Raises:
        ValueError: there are too few numbers to be a curve, or the vocabulary has no choice.
    """
    if vocabulary < 2:
        raise ValueError(f"A vocabulary of {vocabulary} leaves nothing to predict: give the number of tokens.")
    values = [float(loss) for loss in losses]
    if len(values) < FEWEST:
        raise ValueError(f"{len(values)} losses are too few to be read as a curve: give at least {FEWEST}.")
    broken = next((index for index, loss in enumerate(values) if not math.isfinite(loss)), None)
    found = [] if broken is None else [_not_a_number(values[broken], broken, every)]
    whole = values[:broken]
    if len(whole) >= FEWEST:
        curve = _Curve(whole, [float(loss) for loss in validation], vocabulary, every)
        found += [finding for rule in _RULES if (finding := rule(curve))]
        if broken is None:
            found.append(next((finding for rule in _SHAPES if (finding := rule(curve))), None) or _nothing_odd(curve))
    return found


def _not_a_number(loss: float, index: int, every: int) -> Finding:
    name = "NaN" if math.isnan(loss) else "infinite"
    return Finding(
        "not a number",
        f"From step {index * every + 1:,} on, the loss is {name}.",
        "Likely a learning rate far too high, a softmax over a row in which everything is masked, or the logarithm or "
        "the quotient of a zero.",
        "Look at the loss just before: if it was climbing, lower the rate. If it was fine, look for the first tensor "
        "that is not finite (`torch.autograd.set_detect_anomaly(True)`).",
    )


def _loud_start(curve: _Curve) -> Finding | None:
    first = curve.losses[0]
    if curve.every > 1 or first <= 1.5 * curve.guess:
        return None
    return Finding(
        "loud start",
        f"The first loss is {first:.2f}, while knowing nothing costs only ln {curve.vocabulary} = {curve.guess:.2f}.",
        "So the untrained model is sure of wrong things: its logits begin too large. Likely an embedding table that is "
        "also the output layer, or one that starts with numbers too large. Many trainings recover from it.",
        "Print the standard deviation of the first logits: about 1 or less is usual.",
    )


def _quiet_start(curve: _Curve) -> Finding | None:
    first = curve.losses[0]
    if curve.every > 1 or first >= 0.6 * curve.guess:
        return None
    return Finding(
        "low start",
        f"The first loss is {first:.2f}, less than knowing nothing should cost: ln {curve.vocabulary} = "
        f"{curve.guess:.2f}.",
        "Likely the weights were trained already, or the mean is taken over more than the real tokens (padding).",
        "Is the vocabulary right? Compute the loss of one batch by hand, over real tokens only.",
    )


def _floor(curve: _Curve) -> Finding | None:
    floor = softmax_twice_floor(curve.vocabulary)
    if not (floor - 0.01 < min(curve.smooth) and curve.late < floor + 0.45 and curve.late < curve.mean(0, 0.02) - 0.1):
        return None
    return Finding(
        "floor",
        f"The loss comes down to {curve.late:.2f} and stays above {floor:.2f}, which is ln(e + {curve.vocabulary} − 1) "
        "− 1.",
        "No loss can fall below that number when probabilities are taken for logits. Likely there is a softmax before "
        "the cross-entropy, which applies one itself.",
        "Let it speak: such a model can say sensible things though its loss looks hopeless. Then take the softmax out.",
    )


def _near_zero(curve: _Curve) -> Finding | None:
    low = 0.03 * curve.guess
    reached = next((index for index, loss in enumerate(curve.smooth) if loss < low), None)
    if reached is None:
        return None
    step = reached * len(curve.losses) // 50 * curve.every + 1
    seen = f"The loss is below {low:.2f} from about step {step:,} on. Real language is hardly ever that certain."
    if curve.validation and curve.validation[-1] > 5 * low:
        return Finding(
            "learnt by heart",
            f"{seen} On held-out data it is {curve.validation[-1]:.2f}.",
            "Likely it has learnt its batches by heart: too little data, or the same batch again and again.",
            "Print the first row of each batch for a few steps. Do they differ?",
        )
    if curve.validation:
        return Finding(
            "answer in the input",
            f"{seen} On held-out data it is as low, {curve.validation[-1]:.2f}.",
            "Likely the decoder can see what it has to predict: its input is not shifted, or its mask is not causal.",
            "Let it speak: with no answer to copy from, it will say nonsense.",
        )
    return Finding(
        "too good",
        seen,
        "Likely the decoder can see what it has to predict (input not shifted, mask not causal), or it has learnt the "
        "same few batches by heart.",
        "Measure the loss on held-out data: if it is as low, the answer is in the input.",
    )


def _rising_validation(curve: _Curve) -> Finding | None:
    best = min(curve.validation, default=math.inf)
    if not curve.validation or curve.validation[-1] < best + max(0.2, 0.2 * best) or curve.late > best:
        return None
    return Finding(
        "held-out loss rises",
        f"On held-out data the loss was {best:.2f} at best and is {curve.validation[-1]:.2f} at the end, while the "
        f"training loss is {curve.late:.2f}.",
        "Likely it learns its training data by heart: too little data, too many rounds, or the same batches again.",
        "Stop where the held-out loss was best; then look whether the batches really change.",
    )


def _jumps(curve: _Curve) -> Finding | None:
    smooth = curve.smooth[2:]
    rises = [later - earlier for earlier, later in itertools.pairwise(smooth)]
    large = [rise for rise in rises if rise > 0.25 * curve.guess]
    if len(large) < 2:
        return None
    return Finding(
        "jumps",
        f"The loss jumps up {len(large)} times, by up to {max(large):.2f}.",
        "Likely steps that are too long: a learning rate too high, or gradients that are never cleared and so pile up. "
        "If the jumps come at even distances, the data may be in a fixed order.",
        "Print the norm of the gradient for some steps. Does it grow and grow?",
    )


def _climbs(curve: _Curve) -> Finding | None:
    best = min(curve.smooth)
    if curve.late < best + max(0.15 * curve.guess, 0.15 * best):
        return None
    return Finding(
        "climbs",
        f"The loss was {best:.2f} at best and is {curve.late:.2f} at the end.",
        "Likely the steps are too long for where it has come to: a learning rate too high, or gradients that pile up.",
        "Try a tenth of the learning rate. If it still climbs, look for `zero_grad`.",
    )


def _nothing_learnt(curve: _Curve) -> Finding | None:
    if abs(curve.late - curve.guess) > 0.04 * curve.guess or curve.mean(0, 0.02) - curve.late > 0.25 * curve.guess:
        return None
    return Finding(
        "nothing learnt",
        f"The loss stays at {curve.late:.2f}, and knowing nothing costs ln {curve.vocabulary} = {curve.guess:.2f}.",
        "Likely no step reaches the weights: the optimiser has other parameters than the model, the learning rate is "
        "0, or the gradient is cut on its way (`.detach()`, `.item()`).",
        "Compare one weight before and after a step, and look at its `.grad`.",
    )


def _stuck(curve: _Curve) -> Finding | None:
    if curve.late < 0.35 * curve.guess or curve.mean(0.5, 0.6) - curve.late > 0.05 * curve.late:
        return None
    return Finding(
        "stuck",
        f"The loss comes down to {curve.late:.2f} and hardly moves any more in the second half.",
        "So much can often be had from the tokens themselves: which are frequent, which follow each other. Likely the "
        "model does not use its source (torn pairs, a wrong mask, cross-attention that reads nothing), or the loss "
        "asks for something that cannot be known.",
        "Give it two different words. If it says the same, the source does not reach the decoder.",
    )


def _still_falling(curve: _Curve) -> Finding | None:
    if curve.late > 0.9 * curve.mean(0.7, 0.8):
        return None
    return Finding(
        "still falling",
        f"The loss is {curve.late:.2f} and still falls: a fifth of the way earlier it was {curve.mean(0.7, 0.8):.2f}.",
        "Likely nothing is wrong and it has not finished.",
        "Go on training, then look again.",
    )


def _nothing_odd(curve: _Curve) -> Finding:
    return Finding(
        "nothing odd",
        f"The loss begins at {curve.losses[0]:.2f} (knowing nothing costs {curve.guess:.2f}), falls, and flattens at "
        f"{curve.late:.2f}.",
        "So a healthy training looks. But some faults leave no trace in the curve.",
        "Compare what it says on its own with what is right, words never seen in training first.",
    )


_RULES: list[Callable[[_Curve], Finding | None]] = [_loud_start, _quiet_start]
# Only the first of these that holds is told: they are ways to say where the curve went.
_SHAPES: list[Callable[[_Curve], Finding | None]] = [
    _near_zero, _climbs, _jumps, _rising_validation, _nothing_learnt, _floor, _stuck, _still_falling,
]  # fmt: skip
