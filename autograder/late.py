"""The late policy of course.toml, as nbgrader's plug-in (a classroom's nbgrader_config.py names it)."""

from __future__ import annotations

import math

from nbgrader.plugins import BasePlugin

from crosstalk.course import Late, course

DAY = 24 * 60 * 60


def penalty(score: float, seconds_late: float, policy: Late) -> float:
    """The points that a late notebook loses: so many per cent for each begun day, never below the lowest.

    Args:
        score: what the notebook earned.
        seconds_late: after the due date; up to ``grace_minutes`` nothing is lost.
    """
    if seconds_late <= policy.grace_minutes * 60:
        return 0.0
    kept = max(policy.lowest_percent, 100 - policy.percent_per_day * math.ceil(seconds_late / DAY))
    return round(score * (1 - kept / 100), 2)


class LatePolicy(BasePlugin):
    """Takes the penalty from course.toml's ``[late]``."""

    def late_submission_penalty(self, student_id: str, score: float, total_seconds_late: float) -> float | None:
        """The penalty, or None for none (nbgrader's contract)."""
        return penalty(score, total_seconds_late, course().late) or None
