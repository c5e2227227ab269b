"""One example of each widget, for the still pictures, the tests and whoever wants to see them all."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from crosstalk.checkpoints import load_model
from crosstalk.data import bug_clinic, cmudict
from crosstalk.stand_ins.lesson_03 import sinusoidal_positions
from crosstalk.stand_ins.lesson_05 import label_smoothing_loss, shift_right
from crosstalk.stand_ins.lesson_08 import beam_search, sampling_distribution, top_k_filter, top_p_filter
from crosstalk.stand_ins.lesson_09 import aligned_error_by_position, error_by_position
from crosstalk.widgets.alignment import Alignment
from crosstalk.widgets.attention_stages import AttentionStages
from crosstalk.widgets.base import CourseWidget
from crosstalk.widgets.beam_tree import BeamTree
from crosstalk.widgets.curve_doctor import CurveDoctor
from crosstalk.widgets.decode_steps import DecodeSteps
from crosstalk.widgets.exposure_lanes import ExposureLanes
from crosstalk.widgets.factorisation import Factorisation
from crosstalk.widgets.head_viewer import HeadViewer
from crosstalk.widgets.label_smoothing import LabelSmoothing
from crosstalk.widgets.mask_painter import MaskPainter, causal
from crosstalk.widgets.positions import Positions
from crosstalk.widgets.predict import Predict
from crosstalk.widgets.sampling_table import SamplingTable
from crosstalk.widgets.teacher_forcing import TeacherForcing

WORD = list("crossing")
PHONEMES = [
    "<end>",
    "AA",
    "AE",
    "AH",
    "AO",
    "B",
    "CH",
    "D",
    "EH",
    "F",
    "G",
    "IH",
    "IY",
    "K",
    "L",
    "M",
    "N",
    "NG",
    "OW",
]
PHONEMES += ["P", "R", "S", "SH", "T", "Z"]


def table_of_log_probs(tokens: list[str], shares: list[float], rivals: list[str], seed: int) -> Tensor:
    """Log-probabilities (target, vocabulary): each token its share, half of the rest its rival."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for token, share, rival in zip(tokens, shares, rivals, strict=True):
        row = torch.rand(len(PHONEMES), generator=generator).pow(4)
        row[PHONEMES.index(token)] = row[PHONEMES.index(rival)] = 0
        row *= (1 - share) / 2 / row.sum()
        row[PHONEMES.index(rival)] = (1 - share) / 2
        row[PHONEMES.index(token)] = share
        rows.append(row.log())
    return torch.stack(rows)


def examples() -> list[dict[str, object]]:
    """Two words for :class:`Factorisation`, the second with two pronunciations; the shares are made up."""
    given = [
        ("cat", "", "K AE T <end>", [0.96, 0.81, 0.97, 0.99], "S AA D S"),
        ("close", "to shut", "K L OW Z <end>", [0.97, 0.95, 0.88, 0.43, 0.97], "S R AA S IH"),
        ("close", "near", "K L OW S <end>", [0.97, 0.95, 0.88, 0.52, 0.98], "S R AA Z T"),
    ]
    listed: list[dict[str, object]] = []
    for seed, (word, label, tokens, shares, rivals) in enumerate(given):
        split = tokens.split()
        table = table_of_log_probs(split, shares, rivals.split(), seed)
        listed.append({"word": word, "label": label, "tokens": split, "vocabulary": PHONEMES, "log_probs": table})
    return listed


def letters(word: list[str], heads: int = 2, width: int = 16, seed: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value (heads, letters, width) from random projections of letter and place."""
    generator = torch.Generator().manual_seed(seed)
    alphabet = torch.randn(26, 24, generator=generator)
    places = torch.arange(len(word))[:, None] / torch.logspace(0, 2, 4)
    states = torch.cat([torch.stack([alphabet[ord(c) - 97] for c in word]), places.sin(), places.cos()], dim=1)
    projections = torch.randn(3, heads, 32, width, generator=generator) * 0.17
    query, key, value = torch.einsum("ti,nhij->nhtj", states, projections)
    return query, key, value[..., :8]


def several_heads(length: int, heads: int = 12, seed: int = 5) -> Tensor:
    """Weights (heads, length, length) of the kinds that trained models show: near, before, first, spread."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.arange(length, dtype=torch.float32)
    distance = places[None, :] - places[:, None]  # (queries, keys)
    kinds: list[Callable[[float], Tensor]] = [
        lambda s: -((distance + 1) ** 2) / s,
        lambda s: -(distance**2) / (2 * s),
        lambda s: -places.expand(length, length) / s,
        lambda s: torch.zeros(length, length),
        lambda s: -((distance - 1) ** 2) / s,
        lambda s: distance.abs() / -(8 * s),
    ]
    noise = torch.randn(heads, length, length, generator=generator)
    scores = torch.stack([kinds[h % len(kinds)](1.0 + h / 4) for h in range(heads)]) + 0.5 * noise
    if heads > 8:
        scores[8:] = scores[8:].masked_fill(~causal(length, length), -math.inf)
    return torch.softmax(scores, -1)


def predict() -> Predict:
    """The question of lesson 02."""
    return Predict(
        "You mask *after* the softmax and do not renormalise. Is a padded “cat” equal to “cat” alone?",
        {
            "Yes: pads weigh 0": "They weigh 0 afterwards, but their scores stood under the fraction bar of "
            "the softmax: every real key lost a share to them.",
            "No": "The pads took a share before they were hidden, so the rows sum to less than 1. "
            "Set their scores to `-inf` *before* the softmax.",
            "Only with several heads": "Each head has its own softmax, so each loses its share: one head or many.",
        },
        right="No",
    )


def sequence_log_prob(log_probs: Tensor, target: Tensor) -> Tensor:
    """What a student of lesson 00 writes."""
    return log_probs.gather(1, target[:, None]).sum()


def factorisation() -> Factorisation:
    """Half-way through “close”."""
    widget = Factorisation(examples(), score=sequence_log_prob)
    widget.chosen = 1
    widget.step = 4
    return widget


def attention_stages() -> AttentionStages:
    """The letters of a word."""
    return AttentionStages(*letters(WORD), tokens_q=WORD)


def mask_painter() -> MaskPainter:
    """A causal mask, applied too late."""
    word = list("cross")
    widget = MaskPainter(*letters(word), tokens=word, mask=causal(5, 5))
    widget.before = False
    return widget


def head_viewer() -> HeadViewer:
    """Twelve heads over a word."""
    word = list("correspondence")
    return HeadViewer(several_heads(len(word)), word, caption="Twelve heads over one word")


def positions() -> Positions:
    """The right table, and “listen” become “silent”."""
    widget = Positions(sinusoidal_positions)
    widget.order = widget.anagram
    return widget


def alignment() -> Alignment:
    """A shipped checkpoint says “phone”, with its p knocked out."""
    widget = Alignment(load_model("cmudict-lesson", own=False), "phone")
    widget.knocked = [0]
    return widget


def curve_doctor() -> CurveDoctor:
    """Patient X, with the loss on held-out words and two pieces of evidence."""
    widget = CurveDoctor(patients=bug_clinic.load())
    widget.with_validation, widget.asked = True, ["forced", "ends"]
    return widget


def curve_reading() -> CurveDoctor:
    """What the doctor says of the healthy curve, as if it were one's own."""
    healthy = bug_clinic.load()["healthy"]
    return CurveDoctor(healthy["losses"], validation=healthy["validation"], every=bug_clinic.EVERY)


def teacher_forcing() -> TeacherForcing:
    """A word of teacher forcing, with a right shift."""
    return TeacherForcing(shift_right)


def label_smoothing() -> LabelSmoothing:
    """ε = 0.1, with a right loss."""
    return LabelSmoothing(label_smoothing_loss)


def sampling_table() -> SamplingTable:
    """The vowel of “rough”, a little warm, with both filters on and a hundred draws."""
    widget = SamplingTable(
        load_model("cmudict-lesson", own=False), "rough", sampling_distribution, top_k_filter, top_p_filter
    )
    widget.prefix = [cmudict.PHONEMES.index("R")]
    widget.temperature, widget.k, widget.p, widget.draws = 1.5, 8, 0.9, 100
    return widget


def decode_steps() -> DecodeSteps:
    """Half-way through a word, without the cache."""
    widget = DecodeSteps(load_model("cmudict-lesson", own=False), "crossing")
    widget.step, widget.cached = 4, False
    return widget


def beam_tree() -> BeamTree:
    """A word whose listed pronunciation is dropped on the way."""
    return BeamTree(load_model("cmudict-lesson", own=False), "choir", search=beam_search)


def exposure_lanes() -> ExposureLanes:
    """A wrong token in “psychology”, same index, and what many words do."""
    widget = ExposureLanes(
        load_model("cmudict-lesson", own=False), "psychology", error_by_position, aligned_error_by_position
    )
    widget.step, widget.seed = 4, 0
    widget.measure()
    return widget


EXHIBITS: dict[str, Callable[[], CourseWidget]] = {
    make.__name__: make
    for make in (
        predict,
        factorisation,
        attention_stages,
        mask_painter,
        head_viewer,
        positions,
        alignment,
        curve_doctor,
        curve_reading,
        teacher_forcing,
        label_smoothing,
        decode_steps,
        beam_tree,
        sampling_table,
        exposure_lanes,
    )
}
