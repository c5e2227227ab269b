"""The late policy: grace, days begun, and the lowest that is kept."""

from __future__ import annotations

import pytest

from autograder.late import DAY, LatePolicy, penalty
from crosstalk.course import Late, course

POLICY = Late(grace_minutes=15, percent_per_day=10, lowest_percent=50)


@pytest.mark.parametrize(
    ("seconds", "lost"),
    [(0, 0), (15 * 60, 0), (15 * 60 + 1, 1), (DAY, 1), (DAY + 1, 2), (5 * DAY, 5), (30 * DAY, 5)],
)
def test_what_is_lost(seconds: float, lost: float) -> None:
    assert penalty(10, seconds, POLICY) == lost


def test_no_policy_takes_nothing() -> None:
    assert penalty(10, 30 * DAY, Late(lowest_percent=100)) == 0


def test_nbgrader_gets_that_of_course_toml() -> None:
    plugin = LatePolicy()
    assert plugin.late_submission_penalty("ada", 10, 0) is None
    assert plugin.late_submission_penalty("ada", 10, 2 * DAY) == penalty(10, 2 * DAY, course().late) > 0
