"""Lesson 08: what holds for every expansion of a beam, every search, filter and draw.

Each property is tried on the stand-ins and on the solution that students may see.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import ways
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder import judging, solutions
from autograder.cases import case
from autograder.packs import packs_of
from autograder.reproduce import reproduction
from autograder.scenarios.drawing import drawing
from autograder.scenarios.table_step import TableStep, TooManyCalls, steps, table_step
from crosstalk import my_model
from crosstalk.checkpoints import load_model
from crosstalk.course import course
from crosstalk.data import cmudict, search, search_build
from crosstalk.data.cmudict import END, PAD, START
from crosstalk.decoding import stepping
from crosstalk.stand_ins.lesson_02 import padding_mask
from crosstalk.stand_ins.lesson_07 import greedy_decode

LESSON = course().lesson("08-search")
NAMES = [entry.name for entry in LESSON.exercises]
NEVER = float("-inf")
each_way = ways.each_way(until=8)
seeds = st.integers(0, 2**31)
quick = settings(max_examples=40, deadline=None)


def _draw(seed: int, *shape: int, scale: float = 1.5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64) * scale


# --- one expansion ---------------------------------------------------------------------------------------------


@each_way
@quick
@given(seed=seeds, beams=st.integers(1, 4), vocabulary=st.integers(1, 5), width=st.integers(1, 25))
def test_an_expansion_keeps_the_best_of_all(
    way: SimpleNamespace, seed: int, beams: int, vocabulary: int, width: int
) -> None:
    log_probs, scores = _draw(seed, beams, vocabulary).log_softmax(-1), -_draw(seed + 1, beams).abs()
    best, parents, tokens = way.beam_step(log_probs, scores, width)
    every = sorted(
        ((scores[b] + log_probs[b, v]).item() for b in range(beams) for v in range(vocabulary)), reverse=True
    )
    torch.testing.assert_close(best, torch.tensor(every[:width], dtype=torch.float64))
    torch.testing.assert_close(best, scores[parents] + log_probs[parents, tokens])
    assert len(set(zip(parents.tolist(), tokens.tolist(), strict=True))) == min(width, beams * vocabulary)


# --- the search ------------------------------------------------------------------------------------------------


def _tree(seed: int, vocabulary: int, depth: int, end: float = 0.0) -> Callable[[torch.Tensor], torch.Tensor]:
    """A step over prefixes of the start token ``vocabulary``, the end 0; ``end`` is added to its logit."""
    prefixes = [(vocabulary, *rest) for length in range(depth) for rest in product(range(vocabulary), repeat=length)]
    logits = _draw(seed, len(prefixes), vocabulary)
    logits[:, 0] += end
    rows = dict(zip(prefixes, logits.log_softmax(-1), strict=True))
    return lambda asked: torch.stack([rows[tuple(row)] for row in asked.tolist()])


def _brute_force(
    step: Callable[[torch.Tensor], torch.Tensor], vocabulary: int, max_length: int, alpha: float
) -> tuple[list[int], float]:
    """The best of all sequences that end within ``max_length`` tokens."""
    best: tuple[float, list[int]] = (NEVER, [])
    for length in range(max_length):
        for rest in product(range(1, vocabulary), repeat=length):
            ids = [*rest, 0]
            path = [vocabulary, *ids]
            log_prob = sum(step(torch.tensor([path[: at + 1]]))[0, token].item() for at, token in enumerate(ids))
            best = max(best, (log_prob / len(ids) ** alpha, ids))
    return best[1], best[0]


@each_way
@quick
@given(seed=seeds, vocabulary=st.integers(2, 3), max_length=st.integers(1, 4), alpha=st.floats(0, 3))
def test_a_beam_wide_enough_is_brute_force(
    way: SimpleNamespace, seed: int, vocabulary: int, max_length: int, alpha: float
) -> None:
    step = _tree(seed, vocabulary, max_length)
    ids, score = way.beam_search(step, vocabulary, 0, vocabulary**max_length, max_length, alpha)
    best, best_score = _brute_force(step, vocabulary, max_length, alpha)
    assert score == pytest.approx(best_score, rel=1e-5)
    assert ids == best


@each_way
@quick
@given(seed=seeds, max_length=st.integers(1, 5), alpha=st.floats(0, 2), end=st.floats(-6, 3))
def test_a_beam_of_one_is_greedy(way: SimpleNamespace, seed: int, max_length: int, alpha: float, end: float) -> None:
    step = _tree(seed, 3, max_length, end)
    ids, log_prob = [3], 0.0
    while len(ids) <= max_length and (len(ids) == 1 or ids[-1] != 0):
        best = step(torch.tensor([ids]))[0].max(dim=0)
        ids, log_prob = [*ids, int(best.indices)], log_prob + best.values.item()
    found, score = way.beam_search(step, 3, 0, 1, max_length, alpha)
    assert found == ids[1:]
    assert score == pytest.approx(log_prob / len(found) ** alpha, rel=1e-5)


@each_way
@quick
@given(seed=seeds, width=st.integers(1, 6), max_length=st.integers(1, 4), alpha=st.floats(0, 2), end=st.floats(-8, 2))
def test_the_score_is_that_of_the_sequence_and_no_better_than_the_best(
    way: SimpleNamespace, seed: int, width: int, max_length: int, alpha: float, end: float
) -> None:
    step = _tree(seed, 3, max_length, end)
    ids, score = way.beam_search(step, 3, 0, width, max_length, alpha)
    path = [3, *ids]
    log_prob = sum(step(torch.tensor([path[: at + 1]]))[0, token].item() for at, token in enumerate(ids))
    assert score == pytest.approx(log_prob / len(ids) ** alpha, rel=1e-5)
    assert 0 not in ids[:-1]
    assert len(ids) == max_length or ids[-1] == 0
    if ids[-1] == 0:
        assert score <= _brute_force(step, 3, max_length, alpha)[1] + 1e-6


@each_way
def test_greedy_loses_on_the_model_of_the_lesson(way: SimpleNamespace) -> None:
    inputs = case("beam_search", "the likeliest first token leads to nothing good")
    step, *rest = inputs.args
    for width, ids, probability in ((1, [1, 1, 3], 0.12), (2, [2, 3], 0.36), (9, [2, 3], 0.36)):
        rest[2] = width
        found, score = way.beam_search(step, *rest)
        assert found == ids
        assert math.exp(score) == pytest.approx(probability)


def test_what_is_impossible_is_no_result() -> None:
    def step(prefixes: torch.Tensor) -> torch.Tensor:  # it never ends, and only token 1 is possible
        return torch.tensor([[NEVER, 0.0, NEVER]]).expand(len(prefixes), 3)

    assert my_model.stand_in("beam_search")(step, 3, 0, 3, 4, 1.0) == ([1, 1, 1, 1], 0.0)


@each_way
def test_the_search_of_width_one_says_what_greedy_decoding_says(way: SimpleNamespace) -> None:
    model = load_model("cmudict-lesson", own=False)
    words = ["knight", "a", "choir", "attention"]
    source = cmudict.batch(words)
    with torch.inference_mode():
        greedy = greedy_decode(model, source, padding_mask(source, PAD), START, END, PAD, 20).tolist()
    for word, row in zip(words, greedy, strict=True):
        with stepping(model, cmudict.batch([word]), own=False) as step:
            ids, score = way.beam_search(step, START, END, 1, 20, 0.0)
        assert ids == [token for token in row if token != PAD]
        with stepping(model, cmudict.batch([word]), own=False) as step:
            assert way.beam_search(step, START, END, 4, 20, 0.0)[1] >= score - 1e-4


# --- filters ---------------------------------------------------------------------------------------------------


@each_way
@quick
@given(seed=seeds, rows=st.integers(1, 4), vocabulary=st.integers(1, 7), k=st.integers(1, 9))
def test_top_k_keeps_the_k_highest(way: SimpleNamespace, seed: int, rows: int, vocabulary: int, k: int) -> None:
    logits = _draw(seed, rows, 2, vocabulary)
    before = logits.clone()
    kept = way.top_k_filter(logits, k)
    for row, mine in zip(logits.flatten(0, 1).tolist(), kept.flatten(0, 1).tolist(), strict=True):
        best = sorted(row, reverse=True)[:k]
        assert mine == [value if value in best else NEVER for value in row]
    assert torch.equal(logits, before)


@each_way
@quick
@given(seed=seeds, vocabulary=st.integers(1, 7), p=st.floats(1e-6, 1))
def test_top_p_keeps_the_fewest_that_reach_p(way: SimpleNamespace, seed: int, vocabulary: int, p: float) -> None:
    logits = _draw(seed, 3, vocabulary)
    kept = way.top_p_filter(logits, p) > NEVER
    for chances, mine in zip(logits.softmax(-1).tolist(), kept.tolist(), strict=True):
        inside = [chance for chance, stays in zip(chances, mine, strict=True) if stays]
        outside = [chance for chance, stays in zip(chances, mine, strict=True) if not stays]
        assert inside
        assert min(inside) > max(outside, default=0)
        assert sum(inside) >= p - 1e-9
        assert sum(inside) - min(inside) < p + 1e-9
    assert torch.equal(way.top_p_filter(logits, p)[kept], logits[kept])


@each_way
@quick
@given(seed=seeds, temperature=st.floats(0.1, 5), k=st.integers(1, 6), p=st.floats(0.01, 1))
def test_the_distribution_is_one_and_sharper_when_colder(
    way: SimpleNamespace, seed: int, temperature: float, k: int, p: float
) -> None:
    logits = _draw(seed, 2, 3, 6)
    chances = way.sampling_distribution(logits, temperature, k, p)
    torch.testing.assert_close(chances.sum(-1), torch.ones(2, 3, dtype=torch.float64))
    assert int((chances > 0).sum(-1).max()) <= k
    assert torch.equal(chances.argmax(-1), logits.argmax(-1))
    colder = way.sampling_distribution(logits, temperature / 2)
    assert bool((colder.amax(-1) >= way.sampling_distribution(logits, temperature).amax(-1)).all())


@each_way
@quick
@given(seed=seeds)
def test_draws_come_from_the_generator_and_from_what_is_left(way: SimpleNamespace, seed: int) -> None:
    logits = _draw(seed, 64, 6)
    state = torch.get_rng_state()
    draws = [way.sample(logits, 0.8, 4, 0.9, generator=torch.Generator().manual_seed(seed)) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(*draws)
    assert draws[0].dtype == torch.int64
    assert draws[0].shape == (64,)
    chances = way.sampling_distribution(logits, 0.8, 4, 0.9)
    assert bool((chances.gather(-1, draws[0][:, None]) > 0).all())


# --- the scenarios ---------------------------------------------------------------------------------------------


def _table() -> dict[str, Any]:
    rows = {(9,): torch.tensor([0.1, 0.7, 0.2]).log(), (9, 1): torch.tensor([0.5, 0.25, 0.25]).log()}
    return steps(rows, torch.full((3,), 1 / 3).log(), patience=4)


def test_a_step_answers_by_prefix() -> None:
    step = TableStep(_table())
    asked = step(torch.tensor([[9, 1], [9, 2]])).exp()
    torch.testing.assert_close(asked, torch.tensor([[0.5, 0.25, 0.25], [1 / 3] * 3]))
    assert step(torch.tensor([[9]])).argmax().item() == 1
    assert step.table.asked == {2: 1, 1: 1}


@pytest.mark.parametrize(
    ("prefixes", "kind", "words"),
    [
        ([[9]], TypeError, "was given a list"),
        (torch.tensor([9]), TypeError, r"int \(beams, length\), and was given int64 \(1,\)"),
        (torch.tensor([[9.0]]), TypeError, "was given float32"),
        (torch.empty(0, 2, dtype=torch.long), ValueError, "no prefixes at all"),
        (torch.tensor([[9, 3]]), IndexError, "outside the vocabulary of 3"),
    ],
)
def test_a_step_says_what_is_no_prefix(prefixes: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        TableStep(_table())(prefixes)


def test_an_endless_search_is_stopped() -> None:
    def endless(step: TableStep) -> None:
        while True:
            step(torch.tensor([[9]]))

    with pytest.raises(TooManyCalls, match="called 5 times, and there is no end to it"):
        table_step(endless, {"step": _table(), "args": [None], "kwargs": {}}, {})


def test_asking_beam_by_beam_is_counted() -> None:
    def one_by_one(step: TableStep) -> list[int]:
        step(torch.tensor([[9]]))
        step(torch.tensor([[9, 1]]))
        step(torch.tensor([[9, 2]]))
        return [1]

    inputs = {"step": _table(), "args": [None], "kwargs": {}}
    assert table_step(one_by_one, inputs, {}) == {"result": [1], "changed": [], "asked_again": 1}


def test_draws_by_another_right_way_give_the_same_observation() -> None:
    """And the seed makes no difference, which is what the scenario is for."""
    earlier = {"sampling_distribution": my_model.stand_in("sampling_distribution")}
    inputs = {"args": [_draw(0, 2, 4)], "kwargs": {"k": 3}, "times": 2_000, "seed": 4}

    def by_inverse(logits: torch.Tensor, k: int, generator: torch.Generator) -> torch.Tensor:
        mass = earlier["sampling_distribution"](logits, k=k).cumsum(-1)
        return (mass < torch.rand(len(logits), 1, generator=generator)).sum(-1).clamp(max=3)

    seen = [drawing(way, inputs | {"seed": seed}, earlier)
            for way in (my_model.stand_in("sample"), by_inverse) for seed in range(20)]  # fmt: skip
    for other in seen[1:]:
        assert torch.equal(seen[0]["result"], other["result"])
        assert [other[key] for key in ("same_again", "new_later", "moved", "changed")] == [True, True, False, []]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("torch.multinomial(probabilities, 1)[:, 0]", "from the same state of the generator come other ids"),
        (
            "torch.multinomial(probabilities, 1, generator=generator and generator.manual_seed(3))[:, 0]",
            "a second call with the same generator gives the same ids once more",
        ),
        (
            "torch.rand(1).long() + torch.multinomial(probabilities, 1, generator=generator)[:, 0]",
            "torch's own generator was moved",
        ),
    ],
)
def test_what_is_wrong_with_a_draw_is_said(line: str, words: str) -> None:
    source = (
        "def sample(logits, temperature=1.0, k=None, p=None, generator=None):\n"
        "    probabilities = sampling_distribution(logits, temperature, k, p)\n"
        f"    return {line}\n"
    )
    verdict = judging.judge_source("sample", source)
    assert not verdict.passed
    assert any(words in result.sentence for result in verdict.cases if not result.right)


def test_a_failing_case_can_be_tried_by_hand() -> None:
    for name, scenario in (("beam_search", "table_step"), ("sample", "drawing")):
        pack = packs_of(name)[0]
        one = next(one for one in pack.cases if one.scenario == scenario)
        lines = reproduction(pack, one)
        namespace = {name: my_model.stand_in(name)}
        made, call = lines.split("\n")
        exec(made, namespace)
        assert eval(call, namespace) is not None


# --- the measurements ------------------------------------------------------------------------------------------


def test_the_record_is_as_described_and_the_card_has_its_figures() -> None:
    record = search.load()
    assert [row["width"] for row in record["widths"]] == list(search_build.WIDTHS)
    assert [row["alpha"] for row in record["penalties"]] == list(search_build.PENALTIES)
    assert record["words"] == search_build.WORDS
    found = [row["log_prob"] for row in record["widths"]]
    assert found == sorted(found)  # a wider beam finds likelier sequences
    assert record["widths"][0]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    card = (search.table_file().parent / "README.md").read_text(encoding="utf-8")
    for row in record["widths"]:
        assert f"| {row['width']} | {row['per']:.2f} | {row['wer']:.2f} |" in card
    for row in record["penalties"]:
        assert f"| {row['alpha']:g} | {row['per']:.2f} | {row['wer']:.2f} |" in card


def test_a_few_words_are_measured_as_recorded() -> None:
    words = cmudict.load("test").shuffle(seed=0).select(range(20))
    model = load_model(search_build.CHECKPOINT, own=False)
    said = search_build.search(model, words, 2, 0.5)
    with stepping(model, cmudict.batch([words[3]["word"]]), own=False) as step:
        ids, score = my_model.stand_in("beam_search")(step, START, END, 2, 32, 0.5)
    assert said.phonemes[3] == cmudict.ids_to_phonemes(ids)
    assert said.log_probs[3].item() == pytest.approx(score * len(ids) ** 0.5, rel=1e-3)
    figures = search_build.row(said, said)
    assert figures["changed"] == 0
    assert json.loads(json.dumps(figures)) == figures


def test_a_missing_record_says_how_to_make_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(search, "table_file", lambda: tmp_path / "beams.json")
    with pytest.raises(FileNotFoundError, match=r"python -m crosstalk\.data\.search_build"):
        search.load()


# --- the lesson's text -----------------------------------------------------------------------------------------


def test_headings_say_what_course_toml_says() -> None:
    text = "\n".join(cell.source for cell in solutions.read_source(LESSON).cells if cell.cell_type == "markdown")
    for number, entry in enumerate(LESSON.exercises, start=1):
        dots = ["●" * level + "○" * (5 - level) for level in (entry.difficulty, entry.importance)]
        line = f"Difficulty {dots[0]} · importance {dots[1]} · about {entry.minutes} minutes"
        line += " · a main one" if entry.main else ""
        assert re.search(rf"### Exercise {number}: `{entry.name}`\n\n{line}\n", text), (entry.name, line)
    assert f"about {LESSON.minutes} minutes" in text


# --- which call raised -----------------------------------------------------------------------------------------


def test_only_the_torch_call_that_raised_is_named() -> None:
    bare = "def sampling_distribution(logits, temperature=1.0, k=None, p=None):\n    return {}.softmax(dim=-1)\n"
    python = judging.judge_source("sampling_distribution", bare.format("top_k_filter(logits, k)")).cases[0].sentence
    assert "TypeError" in python and "(in `" not in python
    torch_call = judging.judge_source("sampling_distribution", bare.format("(logits @ logits)")).cases[0].sentence
    assert "(in `matmul` of (2, 60) and (2, 60))" in torch_call, torch_call


@each_way
@pytest.mark.parametrize("width", [1, 3, 7])
def test_ties_give_one_of_the_best_whichever(way: SimpleNamespace, width: int) -> None:
    """Which of equal expansions is taken is free, so no case asks it; the score and the number are not."""
    scores, parents, tokens = way.beam_step(torch.full((2, 3), 1 / 3).log(), torch.zeros(2), width)
    kept = min(width, 6)
    torch.testing.assert_close(scores, torch.full((kept,), 1 / 3).log())
    assert len(set(zip(parents.tolist(), tokens.tolist(), strict=True))) == kept
    even = torch.full((1, 3), 1 / 3).log()
    best, score = way.beam_search(lambda prefixes: even.expand(len(prefixes), 3), 0, 2, width, 3, 1.0)
    assert score == pytest.approx(math.log(1 / 3))
    assert best[-1] == 2 or len(best) == 3
