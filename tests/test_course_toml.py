"""course.toml: what is wrong is told by key, with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from crosstalk.course import CourseError, course, read_course

LESSON = """
[[lessons]]
id = "01-attention"
title = "Attention"
summary = ""
minutes = 90
topics = []
prerequisites = []
data = []
"""
EXERCISE = """
[[lessons.exercises]]
name = "softmax"
points = 2
minutes = 10
difficulty = 2
importance = 3
part = "attention"
"""
GOOD = 'title = "Crosstalk"\n' + LESSON + EXERCISE


def sentence(tmp_path: Path, content: str) -> str:
    path = tmp_path / "course.toml"
    path.write_text(content)
    with pytest.raises(CourseError) as error:
        read_course(path)
    return str(error.value)


def test_our_own_is_good() -> None:
    assert [lesson.number for lesson in course().lessons] == list(range(15))
    assert course().lesson("02").name == course().lesson("masking").name == "masking"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("points = 2", "points = 0"),
            "lessons[01-attention].exercises[softmax].points: Input should be greater than 0",
        ),
        (("points = 2", "point = 2"), "lessons[01-attention].exercises[softmax].points: this key is missing"),
        (("points = 2", "points = 2\nmaxi = 3"), "exercises[softmax].maxi: there is no such key here"),
        (("difficulty = 2", "difficulty = 7"), "difficulty: Input should be less than or equal to 5 (it is 7)"),
        (('"attention"\n', '"atention"\n'), "'feed-forward'"),
        (("minutes = 90", 'minutes = "long"'), "lessons[01-attention].minutes: Input should be a valid integer"),
        (("prerequisites = []", 'prerequisites = ["09-late"]'), "allowed are earlier lessons: none before the first"),
        (("data = []", 'data = ["cmu"]'), "lesson 01-attention: data names 'cmu'; allowed are none"),
        (('id = "01-attention"', 'id = "attention"'), "id: String should match pattern"),
        (("[[lessons.exercises]]", "planned = true\n[[lessons.exercises]]"), "a planned lesson has no exercises yet"),
        (('title = "Crosstalk"', "title ="), "course.toml is not TOML"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    assert expected in sentence(tmp_path, GOOD.replace(*change, 1))


def test_an_exercise_stands_once(tmp_path: Path) -> None:
    assert "exercise 'softmax' stands twice" in sentence(tmp_path, GOOD + EXERCISE)


def test_lessons_stand_in_order(tmp_path: Path) -> None:
    assert "it comes too late" in sentence(tmp_path, GOOD + LESSON.replace("01", "00"))


def test_unknown_names_are_listed() -> None:
    with pytest.raises(CourseError, match=r"There is no exercise 'sofmax'\. There are: sequence_log_prob, softmax"):
        course().find("sofmax")
    with pytest.raises(CourseError, match="There is no lesson '77'"):
        course().lesson("77")
