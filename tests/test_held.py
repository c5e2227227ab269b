"""The judge keeps the tables of tiny models: what is observed stays the same, and nothing that is asked can hurt it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from autograder import judging, solutions
from autograder.build.freeze import right_source, wrong_source
from autograder.exercise import Exercise, exercises_of
from autograder.held import Held, withheld
from autograder.messages import Tree, decode, encode
from autograder.packs import visible_pack
from autograder.runner import run
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
    request["cases"] = request["cases"][part]
    cases, held = withheld(request["cases"])
    here = _observations(run(encode(request)))
    there = _observations(run(encode({**request, "cases": cases}), _over_the_wire(held)))
    return here, [held.corrected(index, seen) for index, seen in enumerate(there)]


def _observations(replies: Iterator[bytes]) -> list[Tree]:
    cases = [reply for reply in map(decode, replies) if reply["what"] == "case"]
    assert [case["index"] for case in cases] == list(range(len(cases)))
    return [case["observation"] for case in cases]


def _sorted(tree: Tree) -> Tree:
    if isinstance(tree, dict):
        return {key: _sorted(tree[key]) for key in sorted(tree)}
    return type(tree)(map(_sorted, tree)) if isinstance(tree, list | tuple) else tree


def _exactly(tree: Tree) -> bytes:
    return encode(_sorted(tree))


@pytest.mark.parametrize("name", WITH_TABLES)
def test_what_is_observed_is_the_same_whoever_keeps_the_table(name: str) -> None:
    """To the last bit, for every known mistake and every right variant; errors with message, line, call and shapes.

    Each is tried on every fourth case, one after the other on other ones.
    """
    for number, (what, source) in enumerate([("the stand-in", None), *_answers(name)]):
        here, there = _both_ways(name, source, slice(number % 4, None, 4))
        for index, (one, other) in enumerate(zip(here, there, strict=True)):
            assert _exactly(one) == _exactly(other), (what, index, one, other)


def test_these_are_all_exercises_with_tables() -> None:
    packs = [pack for lesson in course().ready for pack in visible_pack(lesson).exercises.values()]
    found = [pack.name for pack in packs if any(case.scenario.startswith("table_") for case in pack.cases)]
    assert found == WITH_TABLES
