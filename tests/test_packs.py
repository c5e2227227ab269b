"""Packs: visible and hidden ones, what they carry, and how they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autograder import case
from autograder.build.freeze import freeze
from autograder.exercise import exercises_of
from autograder.judging import judge_source
from autograder.packs import PackError, from_file, save_pack, visible_pack
from crosstalk.course import Lesson, course

RIGHT = "def split_heads(states, heads):\n    return torch.stack(states.chunk(heads, dim=-1), dim=1)"
VIEW = (
    "def split_heads(states, heads):\n    batch, length, width = states.shape\n"
    "    return states.reshape(batch, heads, length, width // heads)"
)


@pytest.fixture
def hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_pack(freeze(course().lesson("01"), "a class's own seed"), tmp_path)
    monkeypatch.setenv("CROSSTALK_HIDDEN_PACKS", str(tmp_path))
    return tmp_path


def test_freezing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    lesson = course().lesson("01")
    first = save_pack(freeze(lesson), tmp_path / "a").read_bytes()
    assert first == save_pack(freeze(lesson), tmp_path / "b").read_bytes()


def test_hidden_packs_have_other_inputs(hidden: Path) -> None:
    mine = from_file(hidden / "01-attention.safetensors").exercises["softmax"].cases
    theirs = visible_pack(course().lesson("01")).exercises["softmax"].cases
    assert not torch.equal(mine[0].inputs["args"][0], theirs[0].inputs["args"][0])


def test_hidden_cases_count_and_are_not_shown(hidden: Path) -> None:
    right, wrong = judge_source("split_heads", RIGHT), judge_source("split_heads", VIEW)
    assert right.passed and len(right.cases) == 2 * len(judge_cases())
    assert wrong.mistake == "view_straight"
    secret = [result for result in wrong.cases if result.hidden]
    assert secret and all(result.got is None and not result.reproduction for result in secret)
    assert all(result.title == "a hidden case" for result in secret if not result.right)


def judge_cases() -> list:
    return visible_pack(course().lesson("01")).exercises["split_heads"].cases


def test_an_answer_for_the_visible_cases_only_loses_the_hidden_ones(hidden: Path) -> None:
    source = (
        "from autograder import case\n"
        "def split_heads(states, heads):\n"
        "    known = case('split_heads', 'two heads of two features').args[0]\n"
        "    if states.shape == known.shape and torch.equal(states, known):\n"
        "        return torch.stack(states.chunk(heads, dim=-1), dim=1)\n"
        "    return torch.zeros(2)\n"
    )
    verdict = judge_source("split_heads", source)
    assert [result.right for result in verdict.cases].count(True) == 1
    assert verdict.points == 0  # a case counts where it is right however it is drawn


def test_a_missing_or_broken_pack_is_told(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="is missing"):
        from_file(tmp_path / "01.safetensors")
    (tmp_path / "01.safetensors").write_bytes(b"half a file")
    with pytest.raises(PackError, match="cannot be read"):
        from_file(tmp_path / "01.safetensors")


@pytest.mark.parametrize("name", course().exercises)
def test_reproductions_run_and_fail_as_told(name: str) -> None:
    """What a student is offered to copy is run here: it must give what the case was about."""
    lesson, _ = course().find(name)
    from autograder.reproduce import reproduction
    from crosstalk import my_model

    pack = visible_pack(lesson).exercises[name]
    for frozen in pack.cases:
        lines = reproduction(pack, frozen).splitlines()
        assert len(lines) == 2
        namespace = {"torch": torch, name: my_model.stand_in(name)}
        exec(lines[0], namespace)
        result = eval(lines[1], namespace)
        if frozen.inputs.get("initial"):  # how it is made, and nothing called
            assert result[0] == frozen.expected["value"]["saved"], frozen.title
            continue
        if frozen.inputs.get("dropped"):  # what dropout does, and no result
            assert result == frozen.expected["value"]["dropped"], frozen.title
            continue
        if frozen.scenario == "sealed":  # the right name is in no case, and no stand-in gives it away
            assert result is None, frozen.title
            continue
        expected = frozen.expected["value"]["gradients" if frozen.scenario == "gradients" else "result"]
        if frozen.scenario == "cached_attention":  # by hand it is every call of the case
            result, expected = result[-1], [step["gave"] for step in frozen.expected["value"]["steps"]][-1]
        if frozen.scenario == "training":  # by hand it is the first step
            expected = expected[0]
        if frozen.scenario == "drawing":  # by hand it is what was drawn, of which the shares are looked at
            drawn = torch.nn.functional.one_hot(result, expected.size(1)).double()
            shares = drawn.view(len(expected), -1, expected.size(1)).mean(dim=1)
            torch.testing.assert_close(shares, expected.double(), rtol=0, atol=0.1)
            continue
        for got, wanted in zip(several(result), several(expected), strict=True):
            if wanted is None:
                assert got is None, frozen.title
            else:
                found = got.detach() if isinstance(got, torch.Tensor) else got
                torch.testing.assert_close(found, wanted, equal_nan=True)


def several(result: object) -> list:
    return list(result) if isinstance(result, tuple | list) else [result]


def test_case_names_those_there_are() -> None:
    with pytest.raises(KeyError, match="softmax has no case 'x'; it has 'three rows of four scores'"):
        case("softmax", "x")


@pytest.mark.parametrize("lesson", [lesson for lesson in course().ready if lesson.exercises], ids=lambda each: each.id)
@pytest.mark.parametrize("seed", ["spring", "a class of 2026", "x", "Σ"])
def test_cases_can_be_drawn_from_any_words(lesson: Lesson, seed: str) -> None:
    """A class chooses its own words for the hidden cases, and finds out on the eve of the release."""
    for exercise in exercises_of(lesson).values():
        assert [exercise.inputs(sketch, seed) for sketch in exercise.cases]


def test_what_a_mistake_gives_where_it_is_right_is_kept_once() -> None:
    shared = 0
    for exercise in visible_pack(course().lesson("01")).exercises.values():
        for mistake in exercise.mistakes:
            odd = [seen for seen, case in zip(mistake.observations, exercise.cases, strict=True)
                   if seen is not case.expected]  # fmt: skip
            shared += len(exercise.cases) - len(odd)
            assert odd, f"{mistake.name} is right in every case"
    assert shared
