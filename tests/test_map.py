"""The map of the model: which parts it lights, and that it can be read without colours, pictures or scripts."""

from __future__ import annotations

from typing import get_args
from xml.etree import ElementTree

import pytest

from crosstalk import map as maps
from crosstalk.course import CourseError, Part, course
from crosstalk.map import PART_NAMES, ModelMap, PartState, model_map

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of exercises that count as the student's own; put names in."""
    names: set[str] = set()
    monkeypatch.setattr(maps.my_model, "is_own", names.__contains__)
    return names


def parsed(shown: ModelMap) -> ElementTree.Element:
    return ElementTree.fromstring(shown.svg())


def titles(shown: ModelMap) -> list[str]:
    return [title.text or "" for title in parsed(shown).iter(f"{SVG}title")]


@pytest.mark.parametrize("lesson", course().lessons, ids=lambda lesson: lesson.id)
def test_the_parts_of_a_lessons_exercises_are_lit(lesson) -> None:
    shown = model_map(lesson.id)
    assert {part for part, state in shown.parts.items() if state.today} == {e.part for e in lesson.exercises}


def test_a_part_is_the_students_own_when_all_its_exercises_are(own: set[str]) -> None:
    own.update(["split_heads", "merge_heads", "softmax"])
    state = model_map("02").parts["heads"]
    assert (state.own, state.is_own, state.words) == (2, False, f"today, 2 of {state.exercises} yours")
    own.update(name for name in course().exercises if course().find(name)[1].part == "heads")
    state = model_map("02").parts["heads"]
    assert state.is_own and state.words == "today, ✓ yours"


def test_every_part_of_the_course_stands_in_the_picture() -> None:
    lit = ModelMap("x", {part: PartState(True, 0, 1) for part in get_args(Part)})
    unlit = ModelMap("x", {part: PartState(False, 0, 1) for part in get_args(Part)})
    for part in get_args(Part):
        one = ModelMap("x", {**unlit.parts, part: lit.parts[part]})
        assert one.svg() != unlit.svg(), part
        assert [title for title in titles(one) if title.endswith(": today")], part
    assert set(PART_NAMES) == set(get_args(Part))


def test_colour_is_never_the_only_carrier(own: set[str]) -> None:
    own.update(course().exercises)
    shown = model_map("01")
    assert "heads: today, ✓ yours" in titles(shown)
    assert "loss: ✓ yours" in titles(shown)
    said = shown.summary()
    assert "◆ Today: attention, heads." in said and "loss" in said.partition("✓ Yours:")[2]
    assert said in shown._repr_html_()
    assert "not yet yours" in shown.svg()


def test_what_is_begun_is_said(own: set[str]) -> None:
    own.add("softmax")
    shown = model_map("01")
    assert f"Begun: attention (1 of {shown.parts['attention'].exercises})." in shown.summary()
    tinted = [float(rect.get("width", 0)) for rect in parsed(shown).iter(f"{SVG}rect") if rect.get("fill-opacity")]
    third = pytest.approx(104 * shown.parts["attention"].share, abs=0.01)
    assert tinted.count(third) == 3  # a chip in each of the three attentions


def test_where_the_rest_of_a_part_is_said_when_this_lesson_has_no_more_of_it(own: set[str]) -> None:
    own.update(course().exercises)
    own.discard("repaired_batch")
    assert "embeddings (1 of 2, the rest in lesson 06)." in model_map("03").summary()
    assert "embeddings (1 of 2)." in model_map("06").summary()
    own.difference_update(entry.name for entry in course().lesson("07").exercises)
    own.difference_update(entry.name for entry in course().lesson("08").exercises)
    own.add(course().lesson("07").exercises[0].name)
    assert ", the rest in lessons 07 and 08)" in model_map("09").summary()


def test_the_picture_has_a_name_and_a_description() -> None:
    shown = model_map("01")
    root = parsed(shown)
    ids = {element.get("id"): element for element in root.iter() if element.get("id")}
    title, about = (ids[name] for name in root.get("aria-labelledby", "").split())
    assert root.get("role") == "img"
    assert title.text == "Map of the encoder-decoder model"
    assert about.text == repr(shown)
    assert "K and V from H" in repr(shown)


def test_it_has_no_script_no_style_sheet_and_needs_nothing_from_elsewhere() -> None:
    shown = model_map("01")._repr_html_()
    assert "<script" not in shown and "<style" not in shown and "href" not in shown
    assert shown.replace("http://www.w3.org/2000/svg", "").count("http") == 0


def test_a_lesson_that_is_not_there() -> None:
    with pytest.raises(CourseError, match="There is no lesson '99'"):
        model_map("99")
