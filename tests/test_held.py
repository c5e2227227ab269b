"""The judge keeps the tables of tiny models: what is observed stays the same, and nothing that is asked can hurt it."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autograder import judging, solutions
from autograder.build.freeze import right_source, wrong_source
from autograder.exercise import Exercise, exercises_of
from autograder.held import Held, lower_assurance, withheld
from autograder.messages import Tree, decode, encode, opened
from autograder.packs import Case, visible_pack
from autograder.runner import run
from autograder.scenarios import SCENARIOS
from autograder.scenarios.asked import MAX_NUMBERS, MAX_ROWS, TooManyCalls, asking
from autograder.scenarios.table_model import TableModel, table
from autograder.scenarios.table_step import TableStep, steps
from crosstalk.course import course

WITH_TABLES = ["greedy_word", "greedy_decode", "beam_search"]


@cache
def _exercise(name: str) -> tuple[Exercise, str, str]:
    lesson, _ = course().find(name)
    notebook = solutions.read_source(lesson)
    return exercises_of(lesson)[name], solutions.answer_source(notebook, name), solutions.setup_source(notebook)


def _answers(name: str) -> Iterator[tuple[str, str]]:
    """All mistakes and right variants of an exercise."""
    exercise, solution, _ = _exercise(name)
    yield "the solution", solution
    yield from ((wrong.name, wrong_source(exercise, at, solution)) for at, wrong in enumerate(exercise.wrong))
    yield from ((right.name, right_source(exercise, at, solution)) for at, right in enumerate(exercise.right))


def _over_the_wire(held: Held, asked: list[Tree] | None = None) -> Callable[[Tree], Tree]:
    """What the runner asks with when graded, without the socket."""

    def ask(question: Tree) -> Tree:
        question = decode(encode(question))
        if asked is not None:
            asked.append(question)
        return decode(encode(held.answer(question)))

    return ask


def _both_ways(name: str, source: str | None, part: slice) -> tuple[list[Tree], list[Tree]]:
    """The observations of some cases with every table in the runner, and with every table held."""
    pack, (_, _, setup) = visible_pack(course().find(name)[0]).exercises[name], _exercise(name)
    request = decode(judging.request(name, source, setup, [pack], own_pieces=False))
    chosen = pack.cases[part]
    cases, held = withheld(chosen)
    here = _observations(run(encode({**request, "cases": [case.sent for case in chosen]})))
    there = _observations(run(encode({**request, "cases": cases}), _over_the_wire(held)))
    return here, [held.corrected(index, seen) for index, seen in enumerate(there)]


def _observations(replies: Iterator[bytes]) -> list[Tree]:
    cases = [reply for reply in map(decode, replies) if reply["what"] == "case"]
    assert [case["index"] for case in cases] == list(range(len(cases)))
    return [opened(case["observation"]) for case in cases]


def _sorted(tree: Tree) -> Tree:
    if isinstance(tree, dict):
        return {key: _sorted(tree[key]) for key in sorted(tree)}
    return type(tree)(map(_sorted, tree)) if isinstance(tree, list | tuple) else tree


def _exactly(tree: Tree) -> bytes:
    return encode(_sorted(tree))


@pytest.mark.parametrize("name", WITH_TABLES)
def test_what_is_observed_is_the_same_whoever_keeps_the_table(name: str) -> None:
    """To the last bit, for every known mistake and every right variant; errors with message, line, call and shapes.

    Each is tried on every sixth case, one after the other on other ones.
    """
    for number, (what, source) in enumerate([("the stand-in", None), *_answers(name)]):
        here, there = _both_ways(name, source, slice(number % 6, None, 6))
        for index, (one, other) in enumerate(zip(here, there, strict=True)):
            assert _exactly(one) == _exactly(other), (what, index, one, other)


@pytest.mark.parametrize(
    ("name", "mistake"),
    [("greedy_decode", "whole_buffer"), ("greedy_decode", "read_by_number"), ("beam_search", "asks_once_more")],
)
def test_what_the_lesson_could_not_bear_is_refused_both_ways(name: str, mistake: str) -> None:
    """More tokens than have been said, a place that a cache does not give back, prefixes beyond max_length."""
    here, there = _both_ways(name, dict(_answers(name))[mistake], slice(None))
    assert any("raised" in seen for seen in here)
    assert list(map(_exactly, here)) == list(map(_exactly, there))


def test_these_are_all_exercises_with_tables() -> None:
    packs = [pack for lesson in course().ready for pack in visible_pack(lesson).exercises.values()]
    found = [pack.name for pack in packs if any(case.scenario.startswith("table_") for case in pack.cases)]
    assert found == WITH_TABLES


# --- two tiny tables -------------------------------------------------------------------------------------------

START, WORD = torch.tensor([[1]]), torch.tensor([[3, 4]])


@pytest.fixture
def cases() -> list[Case]:
    """A model that says 2 after 3 4, and a step; both bear five calls."""
    rows = {((3, 4), (1,)): torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])}
    model = table(rows, torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]]), patience=5)
    step = steps({(9,): torch.tensor([0.1, 0.7, 0.2]).log()}, torch.full((3,), 1 / 3).log(), patience=5)
    return [
        _case("call", {"args": [1], "kwargs": {}}),
        _case("table_model", {"model": model, "args": [None, WORD], "kwargs": {}, "counts": ["encoded", "decoded"]}),
        _case("table_step", {"step": step, "args": [None], "kwargs": {}}),
    ]


def _case(scenario: str, inputs: Tree) -> Case:
    return Case("", scenario, inputs, None, [])


@pytest.fixture
def held(cases: list[Case]) -> Held:
    return withheld(cases)[1]


def _tried(cases: list[Case], index: int, answer: Callable[..., Any]) -> Tree:
    """What is observed of an answer where the tables are held."""
    marked, held = withheld(cases)
    case = opened(marked[index])
    seen = {"value": SCENARIOS[case["scenario"]](answer, asking(case["inputs"], _over_the_wire(held)), {})}
    return held.corrected(index, seen)["value"]


def test_the_runner_gets_a_mark_and_no_table(cases: list[Case]) -> None:
    sent, _ = withheld(cases)
    assert sent[0] is cases[0].sent
    marked = [*map(opened, sent)]
    assert marked[0] == cases[0].tried
    assert marked[1]["inputs"]["model"] == {"held": 1, "vocabulary": 5}
    assert marked[2]["inputs"]["step"] == {"held": 2, "vocabulary": 3}
    assert torch.equal(marked[1]["inputs"]["args"][1], WORD)
    assert "rows" in cases[1].inputs["model"]  # the judge's own case stays as it is


def test_the_judge_counts_whatever_the_runner_says(cases: list[Tree]) -> None:
    def answer(model: TableModel, source: torch.Tensor) -> int:
        memory = model.encode(model.encode(source)[..., 0].long())
        copy.deepcopy(model).decode(START, memory)
        model.table.counted = lambda names: {"encoded": 1, "decoded": 0}  # type: ignore[method-assign]
        return int(model.decode(START, memory).argmax())

    assert _tried(cases, 1, answer) == {"result": 2, "changed": [], "encoded": 2, "decoded": 2}


def test_only_what_is_asked_is_corrected(cases: list[Tree], held: Held) -> None:
    held.answer({"held": 2, "call": "step", "prefixes": torch.tensor([[9]])})
    forged = {"result": [1], "asked_again": 7, "encoded": 3}
    assert held.corrected(2, {"value": forged}) == {"value": {"result": [1], "asked_again": 0}}
    for seen in ({"value": 3}, {"raised": {"type": "ValueError"}}, None, "nonsense", {"value": None}):
        assert held.corrected(2, seen) == seen
    assert held.corrected(0, {"value": forged}) == {"value": forged}


def test_calls_that_fail_are_calls(cases: list[Tree]) -> None:
    def answer(model: TableModel, source: torch.Tensor) -> str:
        memory = model.encode(source)
        for wrong in (torch.zeros(1, 1), torch.tensor([[9]]), START[0]):
            with pytest.raises((TypeError, IndexError), match="decode"):
                model.decode(wrong, memory)
        with pytest.raises(RuntimeError, match="expand"):
            model.decode(START, memory.unsqueeze(0).unsqueeze(0))
        return "done"

    assert _tried(cases, 1, answer) == {"result": "done", "changed": [], "encoded": 1, "decoded": 4}


def test_the_judge_has_an_end_of_patience(cases: list[Tree]) -> None:
    def endless(step: TableStep) -> None:
        while True:
            step(torch.tensor([[9]]))

    with pytest.raises(TooManyCalls, match="called 6 times, and there is no end to it"):
        _tried(cases, 2, endless)


def test_gradients_and_modes_are_as_with_a_model_of_its_own(cases: list[Tree]) -> None:
    def answer(model: TableModel, source: torch.Tensor) -> list[Any]:
        (model.train()(source, START) * torch.arange(5)).sum().backward()
        (unit,) = model.parameters()
        return [str(model), unit.grad, unit.item()]

    seen = _tried(cases, 1, answer)
    assert seen["training"] is True
    assert seen["result"] == ["TableModel()", torch.tensor(2.0), 1.0]


@pytest.mark.parametrize("is_held", [False, True])
def test_too_much_in_one_call_is_refused_whoever_keeps_the_table(cases: list[Tree], is_held: bool) -> None:
    def wide(model: TableModel, source: torch.Tensor) -> None:
        model.decode(START, model.encode(source).expand(10**6, -1, -1))

    def long(step: TableStep) -> None:
        step(torch.ones(1, MAX_NUMBERS + 1, dtype=torch.long))

    for index, answer in ((1, wide), (2, long)):
        with pytest.raises(ValueError, match="too many"):
            if is_held:
                _tried(cases, index, answer)
            else:
                SCENARIOS[cases[index].scenario](answer, cases[index].inputs, {})


# --- what comes from student code may be anything --------------------------------------------------------------


def _numbers(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.int64)


_DECODE = {
    "held": 1, "call": "decode", "numbers": torch.tensor([3, 4, 1]), "lengths": torch.tensor([[2, 1]]),
    "whole": torch.tensor([True]), "places": torch.tensor([0]),
}  # fmt: skip


def test_a_question_is_answered(held: Held) -> None:
    assert held.answer(_DECODE)["value"].tolist() == [[0, 0, 1, 0, 0]]


@pytest.mark.parametrize(
    "question",
    [
        None,
        [],
        "decode",
        {},
        {"held": 0, "call": "encode"},
        {"held": 99, "call": "encode"},
        {"held": -1, "call": "encode"},
        {"held": [1], "call": "encode"},
        {"held": 1, "call": "step", "prefixes": _numbers(1, 1)},
        {"held": 1, "call": "__init__"},
        {"held": 2, "call": "decode"},
        {"held": 2, "call": "step"},
        {"held": 2, "call": "step", "prefixes": [[9]]},
        {"held": 2, "call": "step", "prefixes": _numbers(1, 1).float()},
        {"held": 2, "call": "step", "prefixes": _numbers(0, 1)},
        {"held": 2, "call": "step", "prefixes": _numbers(1)},
        {"held": 2, "call": "step", "prefixes": _numbers(MAX_ROWS + 1, 1)},
        {"held": 2, "call": "step", "prefixes": _numbers(1, 1).expand(10**6, 10**6)},
        {"held": 1, "call": "decode", "failed": 1},
        _DECODE | {"numbers": None},
        _DECODE | {"numbers": _numbers(MAX_NUMBERS + 1)},
        _DECODE | {"lengths": torch.tensor([[3, 1]])},
        _DECODE | {"lengths": torch.tensor([[4, -1]])},
        _DECODE | {"lengths": torch.tensor([[2**62, 2**62]])},
        _DECODE | {"lengths": torch.tensor([2, 1])},
        _DECODE | {"whole": torch.tensor([1])},
        _DECODE | {"whole": torch.tensor([], dtype=torch.bool)},
        _DECODE | {"places": torch.tensor([-1])},
        _DECODE | {"places": _numbers(MAX_ROWS + 1)},
        _DECODE | {"places": _numbers(1).expand(10**9)},
    ],
)
def test_what_is_no_question_is_told_so_and_counts_for_nothing(held: Held, question: Tree) -> None:
    assert held.answer(question)["raised"] == "ValueError"
    assert held.corrected(1, {"value": {}}) == {"value": {"encoded": 0, "decoded": 0}}


_small = st.integers(-3, 3) | st.sampled_from([2**31, 2**63 - 1, -(2**63)])
_tensors = st.builds(
    lambda values, dtype: torch.tensor(values, dtype=torch.int64).to(dtype),
    st.lists(_small, max_size=4) | st.lists(st.tuples(_small, _small), max_size=3),
    st.sampled_from([torch.int64, torch.bool, torch.float32, torch.int8]),
)
_anything = st.none() | st.booleans() | _small | st.text(max_size=3) | _tensors | st.lists(st.integers(), max_size=2)
_questions = st.fixed_dictionaries(
    {"held": st.integers(1, 2), "call": st.sampled_from(["encode", "decode", "step"])},
    optional={name: _anything for name in ("numbers", "lengths", "whole", "places", "failed", "prefixes")},
)


@given(st.lists(_questions, max_size=8))
def test_nothing_that_is_asked_raises_in_the_judge(questions: list[Tree]) -> None:
    rows = {((3,), (1,)): torch.ones(4)}
    step = steps({(1,): torch.ones(3)}, torch.zeros(3), patience=3)
    model = table(rows, torch.zeros(1, 4), patience=3)
    _, held = withheld([
        _case("call", {}),
        _case("table_model", {"model": model, "counts": []}),
        _case("table_step", {"step": step}),
    ])  # fmt: skip
    for question in questions:
        answer = decode(encode(held.answer(question)))
        assert answer["what"] == "answer"
        if "raised" in answer:
            assert answer["raised"] in ("ValueError", "TooManyCalls")
        else:
            assert answer["value"] is None or answer["value"].size(-1) in (0, 3, 4)


# --- the runner --------------------------------------------------------------------------------------------------


def test_an_interrupt_waits_for_the_answer() -> None:
    """One in the middle would leave half a message on the way, and the runner could say nothing more."""
    name = "greedy_word"
    _, solution, setup = _exercise(name)
    pack = visible_pack(course().find(name)[0]).exercises[name]
    request = decode(judging.request(name, solution, setup, [pack], own_pieces=False))
    cases, held = withheld(pack.cases)
    whole: list[bool] = []

    def ask(question: Tree) -> Tree:
        whole.append(False)
        if len(whole) == 8:
            os.kill(os.getpid(), signal.SIGINT)
        answer = held.answer(question)
        whole[-1] = True
        return answer

    *_, end = map(decode, run(encode({**request, "cases": cases}), ask))
    assert end["what"] == "end"
    assert end["stopped"]["text"] in solution
    assert whole == [True] * 8
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_counted_in_the_runner_is_of_lower_assurance() -> None:
    lower = {name for name in SCENARIOS if lower_assurance(name)}
    assert lower == {"training", "module", "attending", "assembled", "cached_attention", "drawing"}
