"""Loss curves and what stands beside them: the patients of the bug clinic, or a training of the student's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import traitlets

from crosstalk.curve_doctor import REMARK, knows_nothing, read, softmax_twice_floor
from crosstalk.data.bug_clinic import CHECKED, EVERY, WORDS
from crosstalk.widgets.base import CourseWidget
from crosstalk.widgets.packing import pack

MOST_POINTS = 400  # of a curve that is drawn; a longer one is drawn in means
EVIDENCE = ("forced", "ends", "different", "moved")


class CurveDoctor(CourseWidget):
    """Either the patients of the bug clinic, or a reading of one loss curve.

    Args:
        losses: the training loss, in nats per token, one number for each ``every`` steps: it is drawn, and read in
            plain words (`crosstalk.curve_doctor`).
        vocabulary: the number of tokens to choose from.
        validation: the loss on held-out data at evenly spaced moments, from the first step to the last.
        every: steps for each number of ``losses``.
        patients: in place of ``losses``: what `crosstalk.data.bug_clinic.load` gives, the healthy one among them.

    ``chosen`` is the place of the patient shown, ``sampled`` that of the step whose samples are shown, and ``asked``
    the evidence that was asked for, out of `EVIDENCE`.

    Raises:
        ValueError: neither losses nor patients are given, or both; or there are too few losses.
    """

    name = "curve_doctor"

    chosen = traitlets.Int(0).tag(sync=True)
    sampled = traitlets.Int(3).tag(sync=True)
    asked = traitlets.List(traitlets.Unicode()).tag(sync=True)
    with_healthy = traitlets.Bool(True).tag(sync=True)
    with_validation = traitlets.Bool(False).tag(sync=True)
    point = traitlets.Int(-1).tag(sync=True)

    def __init__(
        self,
        losses: Sequence[float] | None = None,
        *,
        vocabulary: int = 42,
        validation: Sequence[float] = (),
        every: int = 1,
        patients: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        if (losses is None) == (patients is None):
            raise ValueError("Give one of the two: CurveDoctor(losses, vocabulary=42) or CurveDoctor(patients=...).")
        if patients is not None and ("healthy" not in patients or len(patients) < 2):
            raise ValueError("patients needs the healthy training and at least one other, as bug_clinic.load() gives.")
        super().__init__()
        guides: dict[str, Any] = {"vocabulary": vocabulary, "guess": knows_nothing(vocabulary)}
        if losses is not None:
            self._show_own(losses, validation, every, guides)
        elif patients is not None:
            self._show_patients(patients, guides)

    def _show_own(
        self, losses: Sequence[float], validation: Sequence[float], every: int, guides: dict[str, Any]
    ) -> None:
        findings = read(losses, guides["vocabulary"], validation, every)
        drawn, joined = _thinned([float(loss) for loss in losses])
        layout, numbers = pack(losses=torch.tensor(drawn), validation=torch.tensor(list(validation)))
        spoken = [{"seen": finding.seen, "likely": finding.likely, "ask": finding.ask} for finding in findings]
        self.with_validation = bool(validation)
        results = {"arrays": layout, **guides, "floor": softmax_twice_floor(guides["vocabulary"])}
        self._send_results({**results, "every": every * joined, "findings": spoken, "remark": REMARK}, numbers)

    def _show_patients(self, patients: Mapping[str, Mapping[str, Any]], guides: dict[str, Any]) -> None:
        arrays, listed = {}, []
        for name, seen in sorted(patients.items(), key=lambda item: item[0] != "healthy"):
            arrays[f"{name} losses"] = torch.tensor(seen["losses"])
            arrays[f"{name} validation"] = torch.tensor(seen["validation"])
            figures = {key: value for key, value in seen.items() if key not in ("losses", "validation")}
            listed.append({"name": name, **figures})
        layout, numbers = pack(**arrays)
        words = [{"word": word, "right": right} for word, right in WORDS.items()]
        about = {"every": EVERY, "checked": CHECKED, "words": words, "patients": listed}
        self._send_results({"arrays": layout, **guides, **about}, numbers)

    def describe(self) -> str:
        if findings := self.results.get("findings"):
            lines = [f"{finding['seen']} {finding['likely']} {finding['ask']}" for finding in findings]
            return "\n".join(["The loss curve in words:", *lines, REMARK])
        means = f"mean loss of the first {EVERY} steps, of the last {EVERY}"
        lines = [f"Loss curves: {means}, and loss on held-out words at the end"]
        for patient in self.results["patients"]:
            first, last, held_out = (self._array(patient["name"], what) for what in ("losses", "losses", "validation"))
            lines.append(f"{patient['name']}: {first[0]:.2f}, {last[-1]:.2f}, {held_out[-1]:.2f}")
        return "\n".join(lines)

    def _array(self, patient: str, what: str) -> torch.Tensor:
        place = self.results["arrays"][f"{patient} {what}"]
        every = torch.frombuffer(bytearray(self.numbers), dtype=torch.float32)
        return every[place["start"] : place["start"] + place["shape"][0]]


def _thinned(losses: list[float]) -> tuple[list[float], int]:
    """Means over as many neighbours as needed to have at most `MOST_POINTS`, and over how many."""
    joined = -(-len(losses) // MOST_POINTS)
    parts = [losses[at : at + joined] for at in range(0, len(losses), joined)]
    return [sum(part) / len(part) for part in parts], joined
