"""The calls in a notebook: check and hint."""

from __future__ import annotations

import os
from typing import Any

from autograder.answers import AnswerError, find_answer
from autograder.hints import Hint
from autograder.judging import judge_source
from autograder.packs import PackError, packs_of, visible_pack
from autograder.solutions_shown import good_solutions
from autograder.verdict import Verdict
from crosstalk import my_model, progress
from crosstalk.course import CourseError, course

TRIES_BEFORE_OFFER = 3


def check(name: str) -> Verdict:
    """Judge the answer to an exercise: the last executed cell that binds ``name``, on its own.

    Returns:
        The verdict. A notebook shows its report; its text form is the number of points.
    """
    try:
        lesson, entry = course().find(name)
        pack = packs_of(name)[0]
    except (CourseError, PackError) as error:
        return _shown(Verdict(name, 0, 0, problem=str(error)))
    try:
        answer = find_answer(name)
    except AnswerError as error:
        return _shown(Verdict(name, 0, entry.points, problem=str(error)))
    verdict = judge_source(name, answer.source, own_pieces=True, elsewhere=answer.elsewhere)
    if not my_model.keeps_pieces():
        return _shown(verdict)
    if not verdict.cases:  # nothing could be tried: no try of the student's either
        return _shown(verdict)
    noted = progress.note_check(name, pack.cases_hash, verdict.points, verdict.passed)
    if verdict.passed:
        my_model.keep(name, answer.source, visible_pack(lesson).setup, pack.cases_hash)
        verdict.after.append(f"Kept as work/my_model/{name}.py: it is now a piece of your own model.")
        verdict.solutions.extend(good_solutions(name))
    elif noted.tries >= TRIES_BEFORE_OFFER and not pack.sealed:
        verdict.after.append(
            f"That was try {noted.tries}. You can leave it for now: later lessons use a stand-in for `{name}`, "
            f"and so can you, in a new cell: `from crosstalk.my_model import {name}`. Come back when you like."
        )
    left = len(pack.hints) - noted.hints
    if not verdict.passed and left > 0:
        there = "is 1 hint" if left == 1 else f"are {left} hints"
        verdict.after.append(f'There {there} left: `hint("{name}")` gives the next.')
    return _shown(verdict)


def hint(name: str) -> Hint:
    """The next hint on an exercise, one at a time; after the last they begin anew."""
    try:
        hints = packs_of(name)[0].hints
    except (CourseError, PackError) as error:
        return Hint(str(error))
    if not hints:
        return Hint(f"There are no hints on `{name}`.")
    seen = progress.read().get(name, progress.Progress()).hints
    if not my_model.keeps_pieces():
        return Hint(f"Hint 1 of {len(hints)}: {hints[0]}")
    progress.note_hint(name, seen + 1)
    index = seen % len(hints)
    again = "You have seen them all; here they are again. " if seen and not index else ""
    return Hint(f"{again}Hint {index + 1} of {len(hints)}: {hints[index]}")


def _shown(verdict: Verdict) -> Verdict:
    """A terminal shows no HTML, and the text form is only a number: print the report there."""
    if not _shows_html() and not os.environ.get("NBGRADER_EXECUTION"):
        print(verdict.text())
    return verdict


def _shows_html() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell: Any = get_ipython()
    return bool(shell and getattr(shell, "kernel", None))
