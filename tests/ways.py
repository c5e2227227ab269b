"""Two ways to have the pieces of a lesson: the stand-ins, and the solutions that students may see."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import strategies as st
from solved_pieces import solved_pieces

from crosstalk import my_model
from crosstalk.course import course

seeds = st.integers(0, 2**31)


def each_way(until: int) -> pytest.MarkDecorator:
    """Runs a test twice, with the pieces of lessons 01 to ``until`` as ``way``."""
    solved = solved_pieces(until)
    names = [entry.name for lesson in course().ready if 1 <= lesson.number <= until for entry in lesson.exercises]
    stand_ins = SimpleNamespace(**{name: my_model.stand_in(name) for name in names})
    return pytest.mark.parametrize("way", [stand_ins, solved], ids=["stand-in", "solution"])
