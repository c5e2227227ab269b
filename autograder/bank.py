"""The bank tests the grader: every known mistake must fail with its own sentence, every right variant must pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from autograder import solutions
from autograder.build.freeze import right_source, wrong_source
from autograder.exercise import Exercise, exercises_of
from autograder.judge import same_observation
from autograder.judging import judge_source
from autograder.packs import ExercisePack, visible_pack
from crosstalk.course import course


@dataclass
class BankResult:
    """What became of one exercise's bank."""

    exercise: str
    main: bool
    mistakes: int = 0
    caught: int = 0
    named: int = 0
    right: int = 0
    accepted: int = 0
    faults: list[str] = field(default_factory=list)


def bank_results() -> list[BankResult]:
    """Judge every misconception and every right variant of every exercise, as a student's answer would be."""
    results = []
    for lesson in course().ready:
        notebook = solutions.read_source(lesson)
        for name, exercise in exercises_of(lesson).items():
            solution = solutions.answer_source(notebook, name)
            result = BankResult(name, lesson_main(name))
            _judge_wrong(exercise, solution, result)
            _judge_right(exercise, solution, result)
            result.faults += _indistinct(visible_pack(lesson).exercises[name])
            results.append(result)
    return results


def lesson_main(name: str) -> bool:
    """Is the exercise marked main?"""
    return course().find(name)[1].main


def _judge_wrong(exercise: Exercise, solution: str, result: BankResult) -> None:
    for index, wrong in enumerate(exercise.wrong):
        verdict = judge_source(exercise.name, wrong_source(exercise, index, solution))
        result.mistakes += 1
        if verdict.passed or verdict.points == verdict.max_points:
            result.faults.append(f"{wrong.name} passes")
            continue
        result.caught += 1
        if verdict.named == wrong.sentence:
            result.named += 1
        else:
            result.faults.append(f"{wrong.name} is named {verdict.mistake or verdict.problem or 'nothing'}")


def _judge_right(exercise: Exercise, solution: str, result: BankResult) -> None:
    variants = [("the solution", solution)]
    variants += [(right.name, right_source(exercise, index, solution)) for index, right in enumerate(exercise.right)]
    for name, source in variants:
        verdict = judge_source(exercise.name, source)
        result.right += 1
        if verdict.passed and verdict.points == verdict.max_points:
            result.accepted += 1
        else:
            result.faults.append(f"{name} is refused:\n{verdict.text()}")


def _indistinct(pack: ExercisePack) -> list[str]:
    """Pairs of mistakes that look the same on all cases though they have different sentences."""
    found = []
    for index, one in enumerate(pack.mistakes):
        for other in pack.mistakes[index + 1 :]:
            alike = all(map(same_observation, one.observations, other.observations))
            if alike and one.sentence != other.sentence:
                found.append(f"{one.name} and {other.name} give the same observations")
    return found
