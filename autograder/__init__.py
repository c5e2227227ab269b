"""What judges: exercises, scenarios, packs, verdicts. In a notebook: check, hint, trace, case."""

from autograder.answers import watch_cells
from autograder.cases import case
from autograder.check import check, hint
from autograder.tracing import trace

__all__ = ["case", "check", "hint", "trace"]

watch_cells()
