"""The judge: compares observations with what the packs expect, and decides. It never runs student code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest

import torch

from autograder import sentences
from autograder.compare import Difference, difference, kind_of, same
from autograder.messages import MessageError, Tree, decode, is_nested, tensor_bytes
from autograder.packs import Case, ExercisePack, Mistake
from autograder.reproduce import reproduction
from autograder.verdict import CaseResult, Verdict

# Of an error, what is the same on every machine and so tells one mistake from another: in which torch call it was
# raised, or else what it says. Two errors that Python raises may have nothing in common but their type.
_TELLING = ("type", "operation", "shapes")
_ADDRESS = re.compile(r"0x[0-9a-f]+")
# A mistake may enlarge rounding, and the student's own pieces round in another way than the stand-ins did.
_ROUNDING = 100.0
# What is told may hold names and messages that student code chose; a report stays small all the same.
_LONGEST = 3_000  # characters of one sentence
_MOST_NOTES = 7
_Agree = Callable[..., bool]  # (expected, got, slack=1.0)


def judge(packs: Sequence[ExercisePack], replies: Iterable[bytes], max_points: float,
          elsewhere: frozenset[str] = frozenset()) -> Verdict:  # fmt: skip
    """Decide what an answer is worth.

    Args:
        packs: by which it is judged; their cases were sent to the runner one after the other.
        replies: what the runner said (see `autograder.runner.run`).
        max_points: for all cases right.
        elsewhere: names bound in other cells of the notebook, for the sentence on helpers.
    """
    said = understood(map(read, replies), [case for pack in packs for case in pack.cases])
    return decide(packs, said, max_points, elsewhere)


@dataclass
class Said:
    """What a runner said: of the answer cell, of each case by its number over all packs, and at the end."""

    definition: Tree = field(default_factory=lambda: {"kind": "nothing"})
    cases: dict[int, Tree] = field(default_factory=dict)
    end: Tree = field(default_factory=lambda: {"stopped": None})


def decide(packs: Sequence[ExercisePack], said: Said, max_points: float,
           elsewhere: frozenset[str] = frozenset()) -> Verdict:  # fmt: skip
    """Decide what an answer is worth from what was said of it (see `judge`).

    Of hidden cases nothing is told but right or wrong. A case counts if it is right wherever it was drawn: an answer
    that has learnt the visible cases by heart earns nothing with them.
    """
    name = packs[0].name
    cases = [(pack, case) for pack in packs for case in pack.cases]
    visible = [pack for pack in packs if not pack.hidden]
    notes = [_shortened(note, 2 * _LONGEST) for note in sentences.notes(said.end)[:_MOST_NOTES]]
    if problem := sentences.definition(packs[0], said.definition, elsewhere):
        return Verdict(name, 0, max_points, problem=_shortened(problem), notes=notes)
    observed = [said.cases.get(index) for index in range(len(cases))]
    seen = observed[: sum(len(pack.cases) for pack in visible)]
    if problem := sentences.whole(packs[0], seen, said.end, elsewhere):
        return Verdict(name, 0, max_points, problem=_shortened(problem), notes=notes)
    results = []
    for (pack, case), observation in zip(cases, observed, strict=True):
        found = _difference(pack, case, observation, elsewhere)
        if found is None:
            results.append(CaseResult(case.title, True, hidden=pack.hidden))
        elif pack.hidden:
            results.append(CaseResult("a hidden case", False, "This case is not shown.", hidden=True))
        elif sentences.unanswered(case, observation):
            results.append(CaseResult(case.title, False, _shortened(found.sentence), untried=True))
        else:
            results.append(CaseResult(case.title, False, _shortened(found.sentence), found.got, found.expected,
                                      found.shown, reproduction(pack, case)))  # fmt: skip
    mistake = None if all(result.right for result in results) else named(visible, seen)
    return Verdict(
        name,
        points=round(max_points * _share(packs, results), 2),
        max_points=max_points,
        cases=results,
        named=mistake.sentence if mistake else "",
        mistake=mistake.name if mistake else "",
        notes=notes,
    )


def _shortened(sentence: str, most: int = _LONGEST) -> str:
    return sentence if len(sentence) <= most else sentence[:most] + " …"


def _share(packs: Sequence[ExercisePack], results: Sequence[CaseResult]) -> float:
    """How many of the cases are right, in each pack the same case drawn anew."""
    left = iter(results)
    rights = [[next(left).right for _ in pack.cases] for pack in packs]
    together = [all(drawn) for drawn in zip_longest(*rights, fillvalue=True)]
    return sum(together) / len(together)


def named(packs: Sequence[ExercisePack], observed: Sequence[Tree]) -> Mistake | None:
    """The misconception that gives the same observations on all cases, if there is one.

    Else the one that gives the same wherever the answer gave a result to compare, at least twice a wrong one:
    what else raises, or is no tensor at all, is another way to write the same mistake (``view`` fails where
    ``reshape`` does not). Else the one that gives nearly the same (`_nearly`). These two are named only if no other
    sentence fits as well.
    """
    agree = _once(same_observation)
    right = [case.expected for pack in packs for case in pack.cases]
    silent = list(map(_tells_nothing, right, observed))
    known = [[seen for pack in packs for seen in pack.mistakes[index].observations]
             for index in range(len(packs[0].mistakes))]  # fmt: skip
    fitting: list[Mistake] = []
    for mistake, gives in zip(packs[0].mistakes, known, strict=True):
        alike = []
        for given, seen, nothing in zip(gives, observed, silent, strict=True):
            alike.append(agree(given, seen))
            if not (alike[-1] or nothing):
                break  # the many that are another mistake are told by their first case
        else:
            if all(alike):
                return mistake
            telling = [a and not agree(e, o) for a, e, o in zip(alike, right, observed, strict=True)]
            if sum(telling) >= 2 and any("value" in gives[at] for at, tells in enumerate(telling) if tells):
                fitting.append(mistake)
    if not fitting:
        near = partial(_nearly, agree)
        fitting = [mistake for mistake, gives in zip(packs[0].mistakes, known, strict=True)
                   if all(map(near, right, gives, observed))]  # fmt: skip
    return fitting[0] if len({mistake.sentence for mistake in fitting}) == 1 else None


def _nearly(agree: _Agree, right: Tree, known: Tree, observation: Tree) -> bool:
    """Is it what a mistake gives, but for rounding: the same, or near to it and far from what is right?"""
    if agree(known, observation):
        return True
    return agree(known, observation, _ROUNDING) and not agree(right, observation, _ROUNDING)


def _once(agree: _Agree) -> _Agree:
    """The same, comparing each pair of things once: in most cases a mistake gives what is right, one object for all."""
    found: dict[tuple[int, int, float], bool] = {}

    def remembered(expected: Tree, got: Tree, slack: float = 1.0) -> bool:
        key = id(expected), id(got), slack
        if key not in found:
            found[key] = agree(expected, got, slack)
        return found[key]

    return remembered


def _tells_nothing(expected: Tree, observation: Tree) -> bool:
    """Did this case raise, or give another kind of thing than a result?"""
    if not isinstance(observation, dict) or "value" not in observation:
        return True
    wanted, got = expected["value"].get("result"), observation["value"].get("result")
    return kind_of(wanted) != kind_of(got)


def same_observation(expected: Tree, got: Tree, slack: float = 1.0) -> bool:
    """Do two observations agree, errors by their type, the torch call and its shapes?"""
    if expected is got:
        return True
    if not isinstance(got, dict) or expected.keys() != got.keys():
        return False
    if "raised" in expected:
        return _same_error(expected["raised"], got["raised"])
    return same(expected, got, slack)


def _same_error(expected: Tree, got: Tree) -> bool:
    if any(expected.get(key) != got.get(key) for key in _TELLING):
        return False
    return bool(expected.get("operation")) or _told(expected) == _told(got)


def _told(problem: Tree) -> str:
    return _ADDRESS.sub("", str(problem.get("message", "")))


def read(reply: bytes) -> Tree:
    """A runner's message; an empty one where it cannot be read."""
    try:
        message = decode(reply)
    except MessageError:
        return {}
    return message if isinstance(message, dict) else {}


def understood(messages: Iterable[Tree], cases: Sequence[Case]) -> Said:
    """What a runner's messages say. What is missing or unreadable counts as not said.

    Args:
        messages: see `autograder.runner.run`.
        cases: in the order in which they were sent.
    """
    said = Said()
    for message in messages:
        match message:
            case {"what": "definition"}:
                said.definition = message
            case {"what": "case", "index": int(index), "observation": torch.Tensor() as sent}:
                fits = 0 <= index < len(cases) and index not in said.cases and is_nested(sent)
                if fits and (seen := _opened(sent, cases[index])):
                    said.cases[index] = seen
            case {"what": "end"}:
                said.end = message
    return said


def _opened(observation: torch.Tensor, case: Case) -> Tree:
    content = tensor_bytes(observation)
    # Most of what is right is so to the last bit: then there is nothing to read, and nothing to compare.
    return case.expected if content == case.answered else read(content)


def _difference(pack: ExercisePack, case: Case, observation: Tree, elsewhere: frozenset[str]) -> Difference | None:
    if not isinstance(observation, dict):
        return Difference("This case was not reached.")
    if "value" not in observation:
        return Difference(sentences.failure(observation, elsewhere))
    if same(case.expected, observation):
        return None
    expected, got = case.expected["value"], observation["value"]
    if "sealed" in expected:
        return Difference(_against(pack, case, observation) or sentences.unsealed(case, got))
    return (sentences.misbuilt(expected, got)
            or sentences.misread(expected, got)
            or sentences.misassembled(expected, got)
            or _steps_difference(pack, expected, got)
            or sentences.misdrawn(expected, got)
            or _results_difference(pack, case, expected.get("result"), got.get("result"))
            or sentences.side_effects(case, expected, got))  # fmt: skip


def _against(pack: ExercisePack, case: Case, observation: Tree) -> str:
    """Of an answer that must not be shown: what speaks against it, from the mistake that gives it in this case."""
    index = next(at for at, other in enumerate(pack.cases) if other is case)
    fitting = (wrong.sentence for wrong in pack.mistakes if same_observation(wrong.observations[index], observation))
    return next(fitting, "")


def _steps_difference(pack: ExercisePack, expected: Tree, got: Tree) -> Difference | None:
    """Where several calls are made in a row: the first that gave, or left behind, something else."""
    for e, g in zip(expected.get("empty", []), got.get("empty", []), strict=True):
        if not same(e, g):
            return Difference(sentences.miscounted("when nothing has been appended", e, g))
    for number, (e, g) in enumerate(zip(expected.get("steps", []), got.get("steps", []), strict=False), start=1):
        if found := _result_difference(pack, e["gave"], g["gave"]):
            return Difference(f"In call {number}: {found.sentence}", found.got, found.expected, found.shown)
        if sentence := sentences.mislaid(number, e, g):
            return Difference(sentence)
    return None


def _results_difference(pack: ExercisePack, case: Case, expected: Tree, got: Tree) -> Difference | None:
    """The result of a call; of training steps the first that gave something else."""
    if case.scenario != "training":
        return _result_difference(pack, expected, got)
    for step, (e, g) in enumerate(zip(expected, got, strict=True), start=1):
        if found := _result_difference(pack, e, g, f" of step {step}"):
            return found
    return None


def _result_difference(pack: ExercisePack, expected: Tree, got: Tree, where: str = "") -> Difference | None:
    if len(pack.returns) == 1 or not isinstance(expected, tuple):
        name, dimensions = _named_result(pack.returns[0], where)
        return difference(expected, got, name, dimensions)
    if not isinstance(got, tuple | list) or len(got) != len(expected):
        return difference(expected, got, f"The result{where}")
    for declared, e, g in zip(pack.returns, expected, got, strict=True):
        if found := difference(e, g, *_named_result(declared, where), returned=False):
            return found
    return None


def _named_result(declared: str, where: str = "") -> tuple[str, str]:
    name, _, dimensions = declared.partition(" ")
    return (f"The {name}{where}" if where else f"`{name}`"), dimensions
