"""The curve doctor: what it reads in made-up curves, in real ones, and what its widget shows."""

from __future__ import annotations

import math

import pytest
import torch

from crosstalk.curve_doctor import FEWEST, knows_nothing, read, softmax_twice_floor
from crosstalk.data import bug_clinic
from crosstalk.widgets import CurveDoctor
from crosstalk.widgets.curve_doctor import MOST_POINTS

GUESS = math.log(42)


def falling(end: float, start: float = GUESS, steps: int = 400, pace: float = 40.0) -> list[float]:
    """An exponential fall with a little noise, the same every time."""
    noise = torch.randn(steps, generator=torch.Generator().manual_seed(0)).tolist()
    return [end + (start - end) * math.exp(-step / pace) + 0.02 * end * noise[step] for step in range(steps)]


def kinds(losses: list[float], **options) -> list[str]:
    return [finding.kind for finding in read(losses, vocabulary=42, **options)]


def test_the_two_numbers() -> None:
    assert knows_nothing(42) == pytest.approx(3.7377, abs=1e-4)
    certain = torch.full((1, 42), -1e4).index_fill(1, torch.tensor([3]), 1e4)
    loss = torch.nn.functional.cross_entropy(certain.softmax(-1), torch.tensor([3]))
    assert softmax_twice_floor(42) == pytest.approx(loss.item(), abs=1e-5)


@pytest.mark.parametrize(
    ("losses", "kind"),
    [
        ([GUESS] * 100, "nothing learnt"),
        (falling(0.3), "nothing odd"),
        (falling(0.3, pace=300), "still falling"),
        (falling(2.85), "floor"),
        (falling(2.4), "stuck"),
        (falling(0.001, pace=10), "too good"),
        ([*falling(0.5, steps=200), *[0.5 + 0.01 * step for step in range(200)]], "climbs"),
        ([2.0 + 1.8 * (step % 80 < 40) for step in range(400)], "jumps"),
    ],
)
def test_where_a_curve_goes(losses: list[float], kind: str) -> None:
    assert kinds(losses) == [kind]


def test_the_start_is_judged_beside_the_rest() -> None:
    assert kinds([26.0, *falling(0.3)]) == ["loud start", "nothing odd"]
    assert kinds([1.5, *falling(0.3, start=1.5)]) == ["low start", "nothing odd"]
    # a mean of several steps is no first loss
    assert kinds([1.5, *falling(0.3, start=1.5)], every=10) == ["nothing odd"]


def test_not_a_number_is_told_with_its_step_and_what_came_before() -> None:
    losses = [*falling(0.3, steps=100), math.nan, *falling(0.3)]
    findings = read(losses, 42, every=10)
    assert [finding.kind for finding in findings] == ["not a number"]
    assert findings[0].seen == "From step 1,001 on, the loss is NaN."
    assert kinds([30.0] * 50 + [math.inf] * 50) == ["not a number", "loud start"]
    assert kinds([math.nan] * 50) == ["not a number"]


def test_held_out_losses_tell_two_causes_apart() -> None:
    losses = falling(0.001, pace=10)
    assert kinds(losses, validation=[3.7, 1.0, 0.01]) == ["answer in the input"]
    assert kinds(losses, validation=[3.7, 3.9, 6.8]) == ["learnt by heart"]
    assert kinds(falling(0.3), validation=[3.7, 0.9, 0.6, 0.7, 1.1]) == ["held-out loss rises"]


def test_too_little_to_read() -> None:
    with pytest.raises(ValueError, match=f"5 losses are too few to be read as a curve: give at least {FEWEST}"):
        read([1.0] * 5, 42)
    with pytest.raises(ValueError, match="A vocabulary of 1 leaves nothing to predict"):
        read([1.0] * 50, 1)


@pytest.mark.parametrize(
    ("letter", "kind"),
    [
        ("B", "answer in the input"),
        ("C", "floor"),
        ("D", "stuck"),
        ("F", "learnt by heart"),
    ],
)
def test_the_patients_whose_curve_tells(letter: str, kind: str) -> None:
    patient = bug_clinic.load()[letter]
    assert kinds(patient["losses"], validation=patient["validation"], every=bug_clinic.EVERY) == [kind]


@pytest.mark.parametrize("letter", ["healthy", "A", "X"])
def test_others_look_sound_by_their_curve_and_the_doctor_says_no_more(letter: str) -> None:
    patient = bug_clinic.load()[letter]
    found = kinds(patient["losses"], validation=patient["validation"], every=bug_clinic.EVERY)
    assert found[0] in ("nothing odd", "still falling")


def test_every_finding_is_careful() -> None:
    for losses in ([GUESS] * 100, falling(2.85), falling(2.4), falling(0.001, pace=10)):
        for finding in read(losses, 42):
            assert "ikely" in finding.likely and finding.ask


# --- the widget --------------------------------------------------------------------------------------------------


def test_a_long_curve_is_drawn_in_means() -> None:
    widget = CurveDoctor(falling(0.3, steps=4_001))
    count = widget.results["arrays"]["losses"]["shape"][0]
    assert count <= MOST_POINTS and widget.results["every"] == 11
    assert "The loss curve in words:" in widget.describe()


def test_the_patients_in_words() -> None:
    widget = CurveDoctor(patients=bug_clinic.load())
    lines = widget.describe().splitlines()
    assert lines[0].startswith("Loss curves: mean loss of the first 10 steps, of the last 10, and ")
    assert lines[1] == "healthy: 3.74, 0.31, 0.29" and len(lines) == 9


@pytest.mark.parametrize("given", [{}, {"losses": [1.0] * 30, "patients": {"healthy": {}}}])
def test_one_of_the_two_is_asked_for(given: dict) -> None:
    with pytest.raises(ValueError, match="Give one of the two"):
        CurveDoctor(**given)


def test_patients_need_the_healthy_one() -> None:
    with pytest.raises(ValueError, match="the healthy training and at least one other"):
        CurveDoctor(patients={"A": {}})
