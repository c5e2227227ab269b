"""Judge one answer, given as source: ask the runner, hand what it says to the judge."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from autograder.judge import judge
from autograder.messages import encode
from autograder.packs import ExercisePack, packs_of, visible_pack
from autograder.runner import run
from autograder.verdict import Verdict
from crosstalk.course import course


def request(name: str, source: str | None, setup: str, packs: Sequence[ExercisePack], own_pieces: bool,
            cases: Sequence[torch.Tensor] | None = None) -> bytes:  # fmt: skip
    """The message that asks the runner to try an answer.

    Args:
        source: of the answer; None for the stand-in.
        cases: messages of their own (`Case.sent`), in the order in which they are tried; those of the packs, one
            after the other, if not given.
    """
    _, entry = course().find(name)
    return encode({
        "exercise": name,
        "source": source,
        "setup": setup,
        "earlier": course().earlier_exercises(name),
        "own_pieces": own_pieces,
        "forbidden": packs[0].forbidden,
        "cases": [case.sent for pack in packs for case in pack.cases] if cases is None else list(cases),
        "seconds": entry.seconds or course().limits.seconds,
        "output_bytes": course().limits.output_bytes,
    })  # fmt: skip


def judge_source(
    name: str, source: str, *, own_pieces: bool = False, elsewhere: frozenset[str] = frozenset()
) -> Verdict:
    """The verdict on an answer.

    Args:
        name: the exercise.
        source: the whole answer cell.
        own_pieces: let it use the student's own earlier pieces (never when graded).
        elsewhere: names bound in other cells of the notebook, for the sentence on helpers.
    """
    lesson, entry = course().find(name)
    packs = packs_of(name)
    replies = run(request(name, source, visible_pack(lesson).setup, packs, own_pieces))
    return judge(packs, replies, entry.points, elsewhere)


def passes(name: str, source: str) -> bool:
    """Does a kept piece still pass its cases?"""
    return judge_source(name, source, own_pieces=True).passed
