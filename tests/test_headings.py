"""What the headings of a lesson say of its exercises: as course.toml has it."""

from __future__ import annotations

import re

import pytest

from autograder import solutions
from crosstalk.course import Lesson, course


@pytest.mark.parametrize("lesson", course().ready, ids=lambda lesson: lesson.id)
def test_headings_say_what_course_toml_says(lesson: Lesson) -> None:
    text = "\n".join(cell.source for cell in solutions.read_source(lesson).cells if cell.cell_type == "markdown")
    for number, entry in enumerate(lesson.exercises, start=1):
        dots = ["●" * level + "○" * (5 - level) for level in (entry.difficulty, entry.importance)]
        line = f"Difficulty {dots[0]} · importance {dots[1]} · about {entry.minutes} minutes"
        line += " · a main one" if entry.main else ""
        assert re.search(rf"### Exercise {number}: `{entry.name}`\n\n{line}\n", text), (entry.name, line)
    assert f"about {lesson.minutes} minutes" in text
