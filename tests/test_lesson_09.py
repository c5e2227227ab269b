"""Lesson 09: what holds for accuracy and errors by position, for every alignment, and for mixed inputs.

Each property is tried on the stand-ins and on the solution that students may see.
"""

from __future__ import annotations

import math
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import ways
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.exercise import exercises_of
from autograder.judging import judge_source
from crosstalk import my_model
from crosstalk.checkpoints import load_model
from crosstalk.course import course
from crosstalk.data import cmudict, exposure_bias, exposure_bias_measure
from crosstalk.data.cmudict import END, PAD, START
from crosstalk.data.exposure_bias_build import tables
from crosstalk.data.exposure_bias_measure import (
    AFTER,
    MODES,
    Intervals,
    Words,
    after_an_error,
    aligned_right,
    by_place,
    go_on,
    in_batches,
    rates,
    with_one_pronunciation,
    wrong_tokens,
)
from crosstalk.data.exposure_bias_steps import SampledStep
from crosstalk.data.exposure_bias_trainings import SEEDS, WAYS
from crosstalk.metrics import error_rates
from crosstalk.models import Size, word_model
from crosstalk.stand_ins.lesson_02 import padding_mask
from crosstalk.stand_ins.lesson_05 import shift_right, token_cross_entropy
from crosstalk.stand_ins.lesson_07 import greedy_decode

LESSON = course().lesson("09-exposure-bias")
NAMES = [entry.name for entry in LESSON.exercises]
TINY = Size(d_model=16, heads=2, d_ff=16, encoder_layers=1, decoder_layers=1)
each_way = ways.each_way(until=9)
quick = settings(max_examples=60, deadline=None)
words = st.lists(st.lists(st.integers(3, 6), min_size=1, max_size=6), min_size=1, max_size=4)
said_and_gold = st.lists(
    st.tuples(st.lists(st.integers(3, 6), max_size=6), st.lists(st.integers(3, 6), min_size=1, max_size=6)),
    min_size=1,
    max_size=4,
)


def _rows(lists: list[list[int]], pad_id: int = 0, more: int = 0) -> torch.Tensor:
    width = max(1, *(len(one) for one in lists)) + more
    return torch.tensor([one + [pad_id] * (width - len(one)) for one in lists])


def _best_alignments(said: tuple[int, ...], gold: tuple[int, ...]) -> tuple[int, frozenset[tuple[bool, ...]]]:
    """The fewest edits, and which gold tokens are wrong in each alignment that needs so few."""

    @cache
    def until(i: int, j: int) -> tuple[int, frozenset[tuple[bool, ...]]]:
        if i == 0 or j == 0:
            return i + j, frozenset({(True,) * j})
        differs = said[i - 1] != gold[j - 1]
        ways = [(differs, until(i - 1, j - 1), (differs,)), (1, until(i - 1, j), ()), (1, until(i, j - 1), (True,))]
        fewest = min(cost + edits for cost, (edits, _), _ in ways)
        marks = {
            mark + more
            for cost, (edits, marks), more in ways
            if cost + edits == fewest
            for mark in marks
        }  # fmt: skip
        return fewest, frozenset(marks)

    return until(len(said), len(gold))


# --- accuracy and errors by position ---------------------------------------------------------------------------


@each_way
@quick
@given(pairs=said_and_gold, pad_id=st.sampled_from([0, 9]), more=st.integers(0, 2), wider=st.integers(0, 2))
def test_same_place_is_counted_as_by_hand(
    way: SimpleNamespace, pairs: list[tuple[list[int], list[int]]], pad_id: int, more: int, wider: int
) -> None:
    predicted = _rows([said for said, _ in pairs], pad_id, wider)
    gold = _rows([right for _, right in pairs], pad_id, more)
    hits: list[list[bool]] = [[] for _ in range(gold.size(1))]
    for said, right in pairs:
        for place, token in enumerate(right):
            hits[place].append(said[place : place + 1] == [token])
    everything = [hit for place in hits for hit in place]
    assert way.free_running_accuracy(predicted, gold, pad_id) == pytest.approx(sum(everything) / len(everything))
    errors = way.error_by_position(predicted, gold, pad_id)
    expected = torch.tensor([1 - sum(place) / len(place) if place else math.nan for place in hits])
    torch.testing.assert_close(errors, expected, equal_nan=True)


@each_way
@quick
@given(pairs=said_and_gold)
def test_accuracy_is_one_less_the_errors_weighted_by_words(
    way: SimpleNamespace, pairs: list[tuple[list[int], list[int]]]
) -> None:
    predicted, gold = _rows([said for said, _ in pairs]), _rows([right for _, right in pairs])
    count = (gold != 0).sum(dim=0)
    errors = way.error_by_position(predicted, gold, 0)
    share = float((errors * count).sum() / count.sum())
    assert way.free_running_accuracy(predicted, gold, 0) == pytest.approx(1 - share, abs=1e-6)


@each_way
@quick
@given(pairs=said_and_gold, pad_id=st.sampled_from([0, 9]), more=st.integers(0, 2))
def test_the_aligned_errors_are_those_of_an_alignment_with_the_fewest_edits(
    way: SimpleNamespace, pairs: list[tuple[list[int], list[int]]], pad_id: int, more: int
) -> None:
    for said, right in pairs:
        errors = way.aligned_error_by_position(_rows([said], pad_id), _rows([right], pad_id, more), pad_id)
        assert errors[len(right) :].isnan().all()
        marks = tuple(bool(error) for error in errors[: len(right)].tolist())
        assert marks in _best_alignments(tuple(said), tuple(right))[1]
    alone = [
        way.aligned_error_by_position(_rows([said], pad_id), _rows([right], pad_id), pad_id).tolist()
        for said, right in pairs
    ]
    together = way.aligned_error_by_position(
        _rows([said for said, _ in pairs], pad_id), _rows([right for _, right in pairs], pad_id), pad_id
    )
    for place, error in enumerate(together.tolist()):
        of_words = [errors[place] for errors in alone if place < len(errors)]
        assert error == pytest.approx(sum(of_words) / len(of_words))


@each_way
@quick
@given(gold=words, at=st.integers(0, 6))
def test_one_token_too_many_is_no_error_of_gold(way: SimpleNamespace, gold: list[list[int]], at: int) -> None:
    said = [[*word[:at], 8, *word[at:]] for word in gold]
    assert way.aligned_error_by_position(_rows(said), _rows(gold), 0).eq(0).all()


@pytest.mark.parametrize("seed", ["visible", "a class", "another class"])
def test_in_every_case_all_best_alignments_agree_on_what_is_wrong(seed: str) -> None:
    exercise = exercises_of(LESSON)["aligned_error_by_position"]
    for sketch in exercise.cases:
        inputs = exercise.inputs(sketch, seed)
        assert isinstance(inputs, dict)
        arguments = dict(zip(exercise.parameters, inputs["args"], strict=False)) | inputs["kwargs"]
        pad_id = arguments["pad_id"]
        for said, right in zip(arguments["predicted"].tolist(), arguments["gold"].tolist(), strict=True):
            plain = (tuple(token for token in row if token != pad_id) for row in (said, right))
            assert len(_best_alignments(*plain)[1]) == 1, sketch.title
            for row in (said, right):  # and no padding inside, which could be taken out or left
                assert pad_id not in row[: sum(token != pad_id for token in row)], sketch.title


@pytest.mark.parametrize("name", ["free_running_accuracy", "error_by_position"])
def test_in_no_case_has_gold_padding_inside(name: str) -> None:
    exercise = exercises_of(LESSON)[name]
    for sketch in exercise.cases:
        inputs = exercise.inputs(sketch, "visible")
        assert isinstance(inputs, dict)
        arguments = dict(zip(exercise.parameters, inputs["args"], strict=False)) | inputs["kwargs"]
        for row in arguments["gold"].tolist():
            assert arguments["pad_id"] not in row[: sum(token != arguments["pad_id"] for token in row)], sketch.title


# --- scheduled sampling ----------------------------------------------------------------------------------------


@each_way
@quick
@given(gold=words, seed=st.integers(0, 2**31))
def test_inputs_are_mixed_as_by_hand(way: SimpleNamespace, gold: list[list[int]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = shift_right(_rows(gold), 1)
    predictions = torch.randint(0, 9, inputs.shape, generator=generator)
    use_model = torch.rand(inputs.shape, generator=generator) < 0.5
    before = [each.clone() for each in (inputs, predictions, use_model)]
    mixed = way.scheduled_sampling(inputs, predictions, use_model, 1, 0)
    assert mixed.dtype == inputs.dtype
    for given_now, given_before in zip((inputs, predictions, use_model), before, strict=True):
        assert torch.equal(given_now, given_before)
    for row, line in enumerate(inputs.tolist()):
        for place, token in enumerate(line):
            own = use_model[row, place] and place > 0 and token != 0
            assert mixed[row, place] == (predictions[row, place - 1] if own else token)


@each_way
def test_right_predictions_change_nothing(way: SimpleNamespace) -> None:
    target = _rows([[4, 5, 6, 2], [7, 2]])
    inputs = shift_right(target, 1)
    mixed = way.scheduled_sampling(inputs, target, torch.ones_like(target, dtype=torch.bool), 1, 0)
    assert torch.equal(mixed, inputs)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_sampled_step_learns_from_the_mixed_inputs_alone(share: float) -> None:
    target = _rows([[4, 5, 6, 2], [7, 2]])
    source = _rows([[6, 7, 8], [9, 8]])
    torch.manual_seed(0)
    model = word_model(TINY, own=False)
    mask, gold = padding_mask(source, PAD), shift_right(target, START)
    with torch.no_grad():
        predictions = model(source, gold, mask).argmax(dim=-1)
    draw = torch.full(target.shape, share == 1.0)
    inputs = my_model.stand_in("scheduled_sampling")(gold, predictions, draw, START, PAD)
    loss = token_cross_entropy(model(source, inputs, mask), target, PAD)
    loss.backward()
    wanted = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}

    step = SampledStep(steps=1, share=share)
    step.done = 1  # the share has risen
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    assert step(model, source, target, optimizer, PAD, START) == pytest.approx(loss.item(), abs=1e-6)
    for name, each in model.named_parameters():
        if name in wanted:
            torch.testing.assert_close(each.grad, wanted[name])


# --- what is measured ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model("cmudict-lesson", own=False)


@pytest.fixture(scope="module")
def some() -> Words:
    return with_one_pronunciation(cmudict.load("test").select(range(60)))


def test_going_on_from_the_start_token_is_greedy_decoding(model: Any, some: Words) -> None:
    mask = padding_mask(some.source, PAD)
    theirs = greedy_decode(model, some.source, mask, START, END, PAD, 32)
    mine = go_on(model, some.source, torch.full((len(some), 1), START))
    assert torch.equal(mine, theirs)


def test_going_on_keeps_what_was_given(model: Any, some: Words) -> None:
    prefix = torch.full((len(some), 3), 20)
    prefix[:, 0] = START
    said = go_on(model, some.source, prefix)
    assert said[:, :2].eq(20).all()


def test_batches_give_every_word_its_own_result(some: Words) -> None:
    gold, source = in_batches(some, lambda source, gold: (gold, source))
    assert torch.equal(gold, some.gold)
    assert torch.equal(source, some.source)


def test_shares_have_intervals_about_them() -> None:
    hits = torch.rand(400, generator=torch.Generator().manual_seed(0)) < 0.8
    found = Intervals.of(Intervals(400).shares(hits, torch.ones(400)))
    assert found["value"] == pytest.approx(100 * float(hits.float().mean()), abs=1e-3)
    assert found["high"] - found["low"] == pytest.approx(100 * 2 * 1.96 * math.sqrt(0.8 * 0.2 / 400), rel=0.2)


def test_places_are_counted_as_the_exercises_count(model: Any, some: Words) -> None:
    found = by_place(model, some)
    said = go_on(model, some.source, torch.full((len(some), 1), START))
    accuracy = my_model.stand_in("free_running_accuracy")(said, some.gold, PAD)
    assert found["total"]["free"]["value"] == pytest.approx(100 * accuracy, abs=1e-2)
    for mode, name in (("free", "error_by_position"), ("aligned", "aligned_error_by_position")):
        errors = my_model.stand_in(name)(said, some.gold, PAD)
        for place, error in zip(found["places"], errors.tolist(), strict=False):
            assert place[mode]["value"] == pytest.approx(100 * (1 - error), abs=1e-2)
    assert found["tokens"] == int((some.gold != PAD).sum())


def test_wrong_tokens_are_wrong_phonemes() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 42, generator=generator)
    right = torch.randint(3, 42, (200,), generator=generator)
    for likely in (False, True):
        wrong = wrong_tokens(logits, right, likely, generator)
        assert wrong.ne(right).all()
        assert wrong.ge(3).all()
    best = logits.scatter(1, right[:, None], -9.0)[:, 3:].argmax(dim=1) + 3
    assert torch.equal(wrong, best)


def test_an_error_counts_only_in_what_follows(model: Any, some: Words) -> None:
    found = after_an_error(model, some, 2, likely=False)
    assert found["words"] == int(((some.gold != PAD).sum(dim=1) >= 2 + AFTER).sum())
    for mode in MODES:
        assert len(found[mode]["with"]) == len(found[mode]["without"]) == AFTER
    # The first place after the error has been read by both in the same way.
    for kind in ("with", "without"):
        assert found["forced"][kind][0]["value"] == pytest.approx(found["free"][kind][0]["value"])


def test_a_repair_says_the_token_that_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    word = [10, 11, 12, 13, 14, 15, END]

    def logits_of(model: Any, source: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Of a model that says the first token of the word that it has not read yet, whatever else it reads."""
        logits = torch.zeros(*inputs.shape, 42)
        for row, tokens in enumerate(inputs.tolist()):
            for place in range(len(tokens)):
                left = [token for token in word if token not in tokens[: place + 1]]
                logits[row, place, [*left, END][0]] = 1.0
        return logits

    def to_the_end(model: Any, source: torch.Tensor, prefix: torch.Tensor) -> torch.Tensor:
        while not prefix.eq(END).any():
            prefix = torch.cat([prefix, logits_of(model, source, prefix)[:, -1:].argmax(-1)], dim=1)
        return prefix[:, 1:]

    monkeypatch.setattr(exposure_bias_measure, "forced_logits", logits_of)
    monkeypatch.setattr(exposure_bias_measure, "go_on", to_the_end)
    ten = Words(torch.full((10, 3), 7), torch.tensor([word] * 10))
    found = after_an_error(None, ten, 2, likely=True)  # type: ignore[arg-type]
    assert found["repairs"]["value"] == 100
    assert [place["value"] for place in found["free"]["with"]] == [0] * AFTER
    assert [place["value"] for place in found["aligned"]["with"]] == [100] * AFTER
    assert [place["value"] for place in found["free"]["without"]] == [100] * AFTER


def test_rates_are_those_of_the_metrics(model: Any) -> None:
    rows = cmudict.load("test").select(range(60))
    theirs = error_rates(model, rows)
    assert rates(model, rows) == {
        "per": pytest.approx(theirs.per, abs=1e-3),
        "wer": pytest.approx(theirs.wer, abs=1e-3),
    }


def test_aligned_right_is_one_less_the_aligned_errors(some: Words) -> None:
    said = some.gold.roll(1, dims=1)
    right = aligned_right(said, some.gold)
    errors = my_model.stand_in("aligned_error_by_position")(said, some.gold, PAD)
    real = some.gold != PAD
    torch.testing.assert_close(1 - right.sum(dim=0) / real.sum(dim=0), errors)


# --- the record ------------------------------------------------------------------------------------------------


def test_the_record_holds_every_way_and_seed() -> None:
    record = exposure_bias.load()
    assert [(way["name"], way["steps"], way["share"]) for way in record["ways"]] == [
        (way.name, way.steps, way.share) for way in WAYS
    ]
    for way in record["ways"]:
        assert [training["seed"] for training in way["trainings"]] == list(SEEDS)
    assert record["by_place"]["words"] >= 2000


def test_the_card_says_what_the_record_holds() -> None:
    record = exposure_bias.load()
    card = (exposure_bias.record_file().parent / "README.md").read_text(encoding="utf-8")
    for name, table in tables(record).items():
        assert f"<!-- figures: {name} -->\n{table}\n<!-- end -->" in card


def test_a_missing_record_says_how_to_make_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(exposure_bias, "assets_folder", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match="exposure_bias_build"):
        exposure_bias.load()


# --- what is said ----------------------------------------------------------------------------------------------


def test_a_number_where_nothing_was_measured_is_the_largest_difference() -> None:
    zeros = "def error_by_position(predicted, gold, pad_id):\n    return torch.zeros(gold.size(1))\n"
    said = [result.sentence for result in judge_source("error_by_position", zeros).cases]
    assert any("got 0, expected NaN" in sentence for sentence in said)
