"""Freeze packs: draw the inputs, and write down what the right answer and each known mistake give on them."""

from __future__ import annotations

import hashlib
import inspect
import sys
from pathlib import Path
from types import ModuleType

from autograder import draw, observe, runner, solutions
from autograder import exercise as exercise_module
from autograder.exercise import Exercise, applied, exercises_of
from autograder.judging import request
from autograder.messages import Tree, decode, opened
from autograder.packs import Case, ExercisePack, Mistake, Pack, hash_of
from autograder.scenarios import SCENARIOS
from crosstalk.course import Lesson

VISIBLE = "visible"


class FreezeError(ValueError):
    """An exercise cannot be frozen; the message names it and says why."""


def freeze(lesson: Lesson, seed: str = VISIBLE) -> Pack:
    """The pack of a lesson.

    Args:
        seed: from which the inputs are drawn: ``visible``, or a class's own for its hidden pack.

    Raises:
        FreezeError: the stand-in fails on a case, or a mistake gives what is right.
    """
    notebook = solutions.read_source(lesson)
    setup = solutions.setup_source(notebook)
    exercises = exercises_of(lesson)
    return Pack(
        lesson=lesson.id,
        setup=setup,
        source_hash=source_hash(lesson),
        exercises={name: _frozen(exercise, setup, solutions.answer_source(notebook, name), seed)
                   for name, exercise in exercises.items()},
    )  # fmt: skip


def source_hash(lesson: Lesson) -> str:
    """A hash of everything that a pack is made from: exercises, solution, stand-ins, scenarios, and what runs them."""
    from crosstalk import my_model

    exercises = exercises_of(lesson)
    first = next(iter(exercises.values()), None)
    used = {sketch.scenario for exercise in exercises.values() for sketch in exercise.cases}
    scenarios = {SCENARIOS[name].__module__ for name in used}
    modules: list[ModuleType] = [
        exercise_module, draw, observe, runner, *(sys.modules[name] for name in sorted(scenarios))
    ]  # fmt: skip
    files = [inspect.getsource(module) for module in modules]
    if first:
        page = sys.modules[f"autograder.exercises.{lesson.id.replace('-', '_')}"]
        shared = {getattr(value, "__module__", None) or "" for value in vars(page).values()} - {page.__name__}
        shared = {name for name in shared if name.startswith("autograder.exercises.")}
        files += [inspect.getsource(module) for module in (page, *(sys.modules[name] for name in sorted(shared)))]
        files.append(Path(inspect.getfile(my_model.stand_in(first.name))).read_text(encoding="utf-8"))
    notebook = solutions.read_source(lesson)  # its prose is no part of the pack
    files.append(solutions.setup_source(notebook))
    files += [solutions.answer_source(notebook, name) for name in exercises]
    return hashlib.sha256("\0".join(files).encode()).hexdigest()[:32]


def wrong_source(exercise: Exercise, index: int, solution: str) -> str:
    """The code of a misconception."""
    wrong = exercise.wrong[index]
    return wrong.source or applied(solution, wrong.edits, f"{exercise.name}, {wrong.name}")


def right_source(exercise: Exercise, index: int, solution: str) -> str:
    """The code of a right variant."""
    right = exercise.right[index]
    return right.source or applied(solution, right.edits, f"{exercise.name}, {right.name}")


def _frozen(exercise: Exercise, setup: str, solution: str, seed: str) -> ExercisePack:
    cases = [Case(sketch.title, sketch.scenario, exercise.inputs(sketch, seed), None, exercise.parameters)
             for sketch in exercise.cases]  # fmt: skip
    unanswered = ExercisePack(
        exercise.name, exercise.kind, exercise.signature, exercise.returns, exercise.forbids, exercise.hints,
        cases, [], hash_of([[case.title, case.scenario, case.inputs] for case in cases]), hidden=seed != VISIBLE,
    )  # fmt: skip
    # Students can import a stand-in. Where it would be the answer itself, it has none, and the solution is asked.
    expected = _observations(unanswered, solution if unanswered.sealed else None, setup)
    for case, observation in zip(cases, expected, strict=True):
        if "value" not in observation:
            raise FreezeError(f"{exercise.name}, case {case.title!r}: the stand-in fails: {observation}")
    mistakes = [
        Mistake(
            wrong.name,
            wrong.sentence,
            _observations(unanswered, wrong_source(exercise, index, solution), setup),
        )
        for index, wrong in enumerate(exercise.wrong)
    ]
    answered = [Case(case.title, case.scenario, case.inputs, seen, case.names)
                for case, seen in zip(cases, expected, strict=True)]  # fmt: skip
    return ExercisePack(**{**vars(unanswered), "cases": answered, "mistakes": mistakes})


def _observations(pack: ExercisePack, source: str | None, setup: str) -> list[Tree]:
    replies = list(map(decode, runner.run(request(pack.name, source, setup, [pack], own_pieces=False))))
    seen = {reply["index"]: opened(reply["observation"]) for reply in replies if reply["what"] == "case"}
    if len(seen) != len(pack.cases):
        raise FreezeError(f"{pack.name}: this code could not be tried: {replies[0]}, {replies[-1]}\n{source}")
    return [seen[index] for index in range(len(pack.cases))]
