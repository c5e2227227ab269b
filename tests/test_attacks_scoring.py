"""No way to points but being right: attacks on the runner, the messages and the judge, one named test each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import nbformat
import pytest
from attacks import handing_in, leaking, plain_nbgrader, reading
from attacks.editing import AGAINST_OWN_CELLS, EDITS, with_own_cells
from attacks.handing_in import (
    answers_may_take,
    cell,
    content,
    grader,
    honest,
    lesson_called,
    released,
    score,
    told,
    with_answers,
    with_nothing_but,
)
from attacks.plain_nbgrader import ABOVE, ALLCLOSE, BEATEN, CHECK, PARTIAL, RIGHT, points
from attacks.scoring import (
    ENDED,
    FORGED_COUNTS,
    HANDLERS,
    PATCHES,
    PROTOCOL,
    RAN,
    STRANGE_DEFINITIONS,
    STRANGE_ENDS,
    STRANGE_OBSERVATIONS,
    STRANGE_VALUES,
    WRONG,
    Attack,
    forged_counts,
)
from nbgrader.utils import determine_grade
from ordinary_user import run_as_ordinary_user

from autograder.compare import same
from autograder.grading.conversation import Talk
from autograder.grading.grader import Grader
from autograder.grading.results import Graded
from autograder.judge import Said, judge
from autograder.judging import request
from autograder.packs import ExercisePack, visible_pack
from autograder.report import html
from autograder.runner import run
from crosstalk.course import course

pytestmark = pytest.mark.sandbox

LESSON = lesson_called("01-attention")
MOST_TOLD = 300_000  # characters of a graded notebook, which has 60,000 when nothing is said


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the hidden pack by which `first` grades."""
    return tmp_path_factory.mktemp("hidden")


@pytest.fixture(scope="module")
def first(hidden: Path) -> Iterator[Grader]:
    """Grades lesson 01, with a hidden pack."""
    with grader(LESSON, hidden, "one") as made:
        yield made


def grade_and_go_on(first: Grader, attack: Attack) -> Graded:
    """What comes of an attack; afterwards an honest submission still gets all points."""
    with answers_may_take() if attack.hangs else nullcontext():
        graded = first.grade("mallory", content(with_answers(LESSON, {attack.exercise: attack.source})))
    after = first.grade("alice", content(honest(LESSON)))
    assert (score(after), after.reasons) == (LESSON.points, [])
    return graded


def by_name(attack: Attack) -> str:
    """The name of a test."""
    return attack.name.replace(" ", "-").replace(",", "").replace("'", "")


def test_a_wrong_answer_gets_nothing_and_a_right_one_everything(first: Grader) -> None:
    """What the attacks are measured against."""
    assert score(grade_and_go_on(first, Attack("wrong", "", WRONG))) == 0
    assert score(first.grade("alice", content(with_answers(LESSON, {"softmax": handing_in.solution("softmax")})))) == 2


@pytest.mark.parametrize("attack", [*PATCHES, *HANDLERS, *PROTOCOL], ids=by_name)
def test_attack_earns_nothing(first: Grader, attack: Attack) -> None:
    graded = grade_and_go_on(first, attack)
    assert score(graded) == 0
    assert attack.shows in told(graded), told(graded)
    kinds = {reason.kind for reason in graded.reasons}
    assert kinds <= set(attack.kinds) and bool(kinds) == bool(attack.kinds), graded.reasons
    assert len(told(graded)) < MOST_TOLD


@pytest.mark.parametrize("source", STRANGE_VALUES.values(), ids=STRANGE_VALUES)
def test_whatever_is_returned_or_raised_is_told_in_few_words(first: Grader, source: str) -> None:
    with answers_may_take(2):
        graded = grade_and_go_on(first, Attack("strange", "", source, hangs=False))
    assert score(graded) == 0
    assert len(told(graded)) < MOST_TOLD


@pytest.mark.parametrize("exercise", ["softmax", "beam_search", "greedy_word", "LayerNorm", "train_step", "diagnoses",
                                      "KeyValueCache", "cross_attention", "EncoderDecoder", "sample"])  # fmt: skip
def test_whatever_is_said_is_judged_and_told_in_few_words(exercise: str) -> None:
    """Of each case in turn, of the definition and of the end: the judge never falls over, and nothing is right."""
    lesson, entry = course().find(exercise)
    packs = [visible_pack(lesson).exercises[exercise]]
    cases = len(packs[0].cases)
    judging = Talk(lesson, {exercise: packs}, "", None, "")  # type: ignore[arg-type] (nobody is asked anything)
    kind = {"what": "definition", "kind": packs[0].kind}
    said = [Said(kind, {index: strange for index in range(cases)}) for strange in STRANGE_OBSERVATIONS]
    said += [Said(kind, {index: STRANGE_OBSERVATIONS[(start + index) % len(STRANGE_OBSERVATIONS)]
                         for index in range(cases)}) for start in range(0, len(STRANGE_OBSERVATIONS), 5)]  # fmt: skip
    said += [Said({"what": "definition", **strange}) for strange in STRANGE_DEFINITIONS]
    said += [Said(kind, {}, {"what": "end", **strange}) for strange in STRANGE_ENDS]
    for strange in said:
        judged = judging._decided(exercise, entry.points, strange, frozenset())
        assert judged.verdict.points == 0
        assert len(html(judged.verdict)) < MOST_TOLD


@pytest.mark.parametrize("expected", [float("inf"), float("-inf"), float("nan"), 0.0])
def test_only_the_same_number_is_as_good_as_one_without_end(expected: float) -> None:
    others = [float("inf"), float("-inf"), float("nan"), 3.0, -1e308]
    assert [same(expected, other) for other in others] == [repr(expected) == repr(other) for other in others]
    assert same(expected, expected)


def softmax_packs(first: Grader) -> list[ExercisePack]:
    """Of `softmax`, the visible and the hidden one."""
    return list(first._packs["softmax"])


# Judges an answer to `softmax` by all packs in the process in which it runs, as a notebook does.
_IN_ONE_PROCESS = """
import sys
from attacks.handing_in import answers_may_take
from autograder.judging import judge_source

with answers_may_take({seconds}):
    print(judge_source("softmax", sys.stdin.read()).points)
"""
_LONG = 600.0  # seconds: a search takes two, but a busy machine is not what is looked at


@pytest.mark.parametrize("search", ["among objects", "in memory", "in frames"])
def test_nothing_that_is_expected_is_in_reach(first: Grader, hidden: Path, search: str) -> None:
    """Inputs are found, of visible and of hidden cases; what is expected is not. In one process it is."""
    packs = softmax_packs(first)
    source = {"among objects": lambda: reading.among_objects(packs), "in memory": lambda: reading.in_memory(packs),
              "in frames": reading.in_frames}[search]()  # fmt: skip
    with answers_may_take(_LONG):
        graded = grade_and_go_on(first, Attack(search, "", source))
    assert (score(graded), graded.reasons) == (0, [])
    # The process is a new one, for this one holds whatever other tests have left.
    together = subprocess.run([sys.executable, "-c", _IN_ONE_PROCESS.format(seconds=_LONG)], input=source,
                              env={**os.environ, "CROSSTALK_HIDDEN_PACKS": str(hidden)}, cwd=Path(__file__).parent,
                              capture_output=True, text=True)  # fmt: skip
    assert (together.stdout, together.stderr) == ("2.0\n", "")


def test_learning_visible_cases_by_heart_earns_nothing(first: Grader) -> None:
    visible, _ = softmax_packs(first)
    source = reading.by_heart(visible)
    assert score(grade_and_go_on(first, Attack("by heart", "", source))) == 0
    replies = list(run(request("softmax", source, first._setup(), [visible], own_pieces=False)))
    assert judge([visible], replies, 2.0).points == 2.0  # where there are no hidden cases, it does


def test_answering_hidden_cases_otherwise_earns_nothing(first: Grader) -> None:
    """Right as long as the feedback tells what was wrong, wrong when nobody looks."""
    both = f"import sys\nsys.__dict__.setdefault('turns', []).append(1)\n{handing_in.solution('softmax')}\n"
    source = (
        both + "right = softmax\n\ndef softmax(scores, dim=-1):\n    return right(scores, dim) * (2 - len(sys.turns))"
    )
    graded = grade_and_go_on(first, Attack("two faces", "", source))
    assert (score(graded), graded.reasons) == (0, [])
    cases = len(softmax_packs(first)[0].cases)
    assert f"{cases} of {2 * cases} cases right" in told(graded)


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grader]:
    """Grades the same lesson with another hidden pack."""
    with grader(LESSON, tmp_path_factory.mktemp("hidden"), "two") as made:
        yield made


@pytest.mark.parametrize("way", leaking.WAYS)
def test_no_word_tells_of_hidden_inputs(first: Grader, second: Grader, way: str) -> None:
    """Whatever the hidden inputs are, the student gets to read the same; of visible ones the same words do tell."""
    open_way = with_answers(LESSON, {"softmax": leaking.leaking(way, visible=True)})
    visible = leaking.secret_of(softmax_packs(first)[0])
    assert leaking.reads_as(way, visible) in told(first.grade("mallory", content(open_way)))

    secrets = {leaking.secret_of(softmax_packs(each)[1]) for each in (first, second)}
    assert len(secrets) == 2
    waiting = content(with_answers(LESSON, {"softmax": leaking.leaking(way, visible=False)}))
    one, two = (told(each.grade("mallory", waiting)) for each in (first, second))
    assert one == two
    assert not any(leaking.reads_as(way, secret) in one for secret in secrets)


@pytest.mark.parametrize("name", EDITS)
def test_no_edit_of_the_notebook_is_worth_anything(first: Grader, name: str) -> None:
    notebook = with_answers(LESSON, {entry.name: WRONG for entry in LESSON.exercises})
    EDITS[name].make(notebook)
    graded = first.grade("mallory", json.dumps(notebook).encode())
    assert score(graded) == 0
    expected = [("check-softmax", 2), ("check-scaled_dot_product_attention", 5), ("check-split_heads", 2),
                ("check-merge_heads", 2)]  # fmt: skip
    assert [(each.grade_id, each.max_points) for each in graded.cells] == expected
    shown = nbformat.reads(graded.notebook, as_version=4)
    nbformat.validate(shown)
    assert [(each.metadata.nbgrader.grade_id, each.metadata.nbgrader.points) for each in shown.cells
            if each.metadata.get("nbgrader", {}).get("grade")] == expected  # fmt: skip
    assert shown.metadata.get("kernelspec") == released(LESSON).metadata.get("kernelspec")
    assert EDITS[name].kind in {reason.kind for reason in graded.reasons} or not EDITS[name].kind, graded.reasons
    noted = "\n".join(each.source for each in shown.cells if each.id == "noted-when-graded")
    assert "<img" not in noted and "](javascript" not in noted and "![x](" not in noted
    after = first.grade("alice", content(honest(LESSON)))
    assert (score(after), after.reasons) == (LESSON.points, [])


@pytest.fixture(scope="module")
def with_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grader]:
    """Grades the lesson with cells that an instructor has added, worth 5 points."""
    with grader(LESSON, tmp_path_factory.mktemp("hidden"), "one", with_own_cells) as made:
        yield made


@pytest.mark.parametrize("name", AGAINST_OWN_CELLS)
def test_an_instructors_own_cells_may_be_lied_to_and_nothing_more(with_own: Grader, name: str) -> None:
    source, kind = AGAINST_OWN_CELLS[name]
    wrong = source if "def softmax" in source else source + "def softmax(scores, dim=-1):\n    return scores * 0\n"
    notebook = released(LESSON)
    with_own_cells(notebook)
    cell(notebook, "softmax").source = wrong
    graded = with_own.grade("mallory", content(notebook))
    own = {each.grade_id: each for each in graded.cells if each.grade_id.startswith("own-")}
    assert own.keys() == {"own-asserts", "own-points"} and all(each.lower_assurance for each in own.values())
    assert all(0 <= (each.points or 0) <= each.max_points for each in own.values())
    assert score(graded) <= sum(each.max_points for each in own.values())
    assert {reason.kind for reason in graded.reasons} - set(ENDED) == ({kind} if kind else set())
    assert len(told(graded)) < MOST_TOLD
    for each in nbformat.reads(graded.notebook, as_version=4).cells:
        if each.metadata.get("nbgrader", {}).get("grade"):
            determine_grade(each)  # what nbgrader reads off it later

    right = honest(LESSON)
    with_own_cells(right)
    after = with_own.grade("alice", content(right))
    assert (score(after), after.reasons) == (LESSON.points + 5, [])


COUNTS = lesson_called("05-teacher-forcing")


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grader]:
    """Grades a lesson with a tiny model that is kept by the judge."""
    with grader(COUNTS, tmp_path_factory.mktemp("none"), "") as made:
        yield made


@pytest.mark.parametrize("name", FORGED_COUNTS)
def test_calls_of_a_tiny_model_are_counted_by_the_judge(counting: Grader, name: str) -> None:
    """An answer that is wrong only in how often it asks stays wrong, whatever its process says of the numbers."""
    graded = counting.grade("mallory", content(with_nothing_but(COUNTS, "greedy_word", forged_counts(name))))
    assert score(graded) <= 0.8  # two of ten cases end after one token, so that one call is all they take
    assert graded.reasons == [] and RAN in told(graded)
    right = counting.grade(
        "alice", content(with_nothing_but(COUNTS, "greedy_word", handing_in.solution("greedy_word")))
    )
    assert (score(right), right.reasons) == (4, [])


@pytest.mark.slow
@pytest.mark.parametrize("name", BEATEN)
def test_plain_nbgrader_gives_all_points_for_it(tmp_path: Path, name: str) -> None:
    """So these attacks are attacks; the same kinds get nothing in the tests above."""
    assert points(*BEATEN[name], tmp_path) == 5


@pytest.mark.slow
def test_plain_nbgrader_believes_a_patched_torch(tmp_path: Path) -> None:
    assert points(*ALLCLOSE, tmp_path) == 5


@pytest.mark.slow
def test_plain_nbgrader_grades_no_further_where_points_are_above_the_maximum(tmp_path: Path) -> None:
    assert points(*ABOVE, tmp_path) is None


@pytest.mark.slow
@pytest.mark.parametrize("check", [CHECK, PARTIAL], ids=["asserts", "points"])
def test_plain_nbgrader_tells_right_from_wrong_where_nobody_cheats(tmp_path: Path, check: str) -> None:
    assert [points(answer, check, tmp_path) for answer in (RIGHT, plain_nbgrader.WRONG)] == [5, 0]


if os.geteuid() == 0:  # otherwise all the others are run as an ordinary user anyway

    @pytest.mark.slow
    def test_as_an_ordinary_user() -> None:
        """What depends on how the child is walled in: its memory, its connection, its end."""
        chosen = "reach or own_cells or counted or hidden_inputs or half or exabyte or leaving or swallowed"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", chosen]
        done = run_as_ordinary_user(command)
        assert done.returncode == 0 and "passed" in done.stdout, done.stdout
