"""Lesson 07: what holds for every decoded batch, every cache, and all attention that uses one.

Each property is tried on the stand-ins and on the solution that students may see.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import ways
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from autograder import judging, solutions
from autograder.cases import case
from autograder.packs import visible_pack
from autograder.reproduce import reproduction
from crosstalk import checkpoints, my_model
from crosstalk.caching import caching
from crosstalk.checkpoints import load_model, own_model
from crosstalk.course import course
from crosstalk.data.cmudict import END, PAD, START, batch
from crosstalk.layers import fused_attention
from crosstalk.models import Size, word_model
from crosstalk.stand_ins.lesson_02 import MultiHeadAttention, causal_mask, masked_attention, padding_mask
from crosstalk.stand_ins.lesson_04 import EncoderDecoder
from crosstalk.stand_ins.lesson_05 import greedy_word

LESSON = course().lesson("07-decoding")
NAMES = [entry.name for entry in LESSON.exercises]
TINY = Size(d_model=16, heads=2, d_ff=16, encoder_layers=1, decoder_layers=2)
each_way = ways.each_way(until=7)
seeds = st.integers(0, 2**31)
sizes = st.integers(1, 4)
quick = settings(max_examples=30, deadline=None)


@pytest.fixture(scope="module")
def tiny() -> EncoderDecoder:
    torch.manual_seed(0)
    return word_model(TINY, own=False).eval()


def _words(seed: int, lengths: list[int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    source = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in zip(source, lengths, strict=True):
        row[:length] = torch.randint(3, 20, (length,), generator=generator)
    return source


# --- a batch decoded greedily ----------------------------------------------------------------------------------


@each_way
@quick
@given(seed=seeds, lengths=st.lists(st.integers(1, 5), min_size=1, max_size=5), max_length=st.integers(1, 12))
def test_each_row_is_what_its_word_is_alone(
    tiny: EncoderDecoder, way: SimpleNamespace, seed: int, lengths: list[int], max_length: int
) -> None:
    source = _words(seed, lengths)
    end = int(seed) % 42  # an untrained model says its end token rarely, and any other may stand for it
    with torch.no_grad():
        ids = way.greedy_decode(tiny, source, padding_mask(source, PAD), START, end, PAD, max_length)
        alone = [greedy_word(tiny, row[row != PAD][None], START, end, max_length) for row in source]
    assert ids.dtype == torch.int64
    assert ids.shape == (len(source), max(map(len, alone)))
    for row, said in zip(ids.tolist(), alone, strict=True):
        assert row == said + [PAD] * (len(row) - len(said))


@each_way
@pytest.mark.parametrize("name", ["start_id", "pad_id", "end_id"])
def test_ids_may_coincide(tiny: EncoderDecoder, way: SimpleNamespace, name: str) -> None:
    source = _words(3, [4, 2, 3])
    plain = {"start_id": 5, "end_id": 7, "pad_id": 9}
    with torch.no_grad():
        for other in plain:
            ids = plain | {name: plain[other]}
            said = way.greedy_decode(tiny, source, padding_mask(source, PAD), max_length=9, **ids)
            for row, letters in zip(said.tolist(), source, strict=True):
                alone = greedy_word(tiny, letters[letters != PAD][None], ids["start_id"], ids["end_id"], 9)
                assert row[: len(alone)] == alone
                assert set(row[len(alone) :]) <= {ids["pad_id"]}


@each_way
def test_decoding_in_a_cache_gives_the_same_words(way: SimpleNamespace) -> None:
    model = load_model("cmudict-lesson", own=False)
    source = batch(["a", "knight", "attention", "onion"])
    mask = padding_mask(source, PAD)
    with torch.no_grad():
        plain = way.greedy_decode(model, source, mask, START, END, PAD, 32)
        with caching(model, own=False) as memories:
            cached = way.greedy_decode(model, source, mask, START, END, PAD, 32)
    assert torch.equal(plain, cached)
    assert memories.taken == [1] * plain.size(1)


def test_a_decode_that_drops_ended_rows_begins_anew_in_a_cache(tiny: EncoderDecoder) -> None:
    source, ids = _words(1, [3, 3, 3]), torch.tensor([[START, 5, 6]] * 3)
    with torch.no_grad():
        memory = tiny.encode(source)
        plain = tiny.decode(ids[[2, 0]], memory[[2, 0]])
        with caching(tiny, own=False) as memories:
            tiny.decode(ids[:, :2], memory)
            fewer = tiny.decode(ids[[2, 0]], memory[[2, 0]])
    assert memories.taken == [2, 3]
    torch.testing.assert_close(fewer, plain, rtol=1e-5, atol=1e-5)


# --- the cache -------------------------------------------------------------------------------------------------


@each_way
@quick
@given(seed=seeds, news=st.lists(st.integers(1, 5), min_size=1, max_size=6), rows=sizes, heads=sizes)
def test_a_cache_is_all_that_came_in_order(
    way: SimpleNamespace, seed: int, news: list[int], rows: int, heads: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    everything = torch.randn(2, rows, heads, sum(news), 3, generator=generator, dtype=torch.float64)
    cache, other = way.KeyValueCache(), way.KeyValueCache()
    assert cache.length == 0
    given_back, at = [], 0
    for new in news:
        keys, values = cache.append(*everything[:, :, :, at : at + new])
        at += new
        assert cache.length == at
        assert torch.equal(torch.stack([keys, values]), everything[:, :, :, :at])
        given_back.append((keys, at))
    for keys, length in given_back:  # later calls have changed nothing
        assert torch.equal(keys, everything[0, :, :, :length])
    assert other.length == 0


@each_way
@quick
@given(seed=seeds, length=sizes, picks=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), max_size=3))
def test_rows_are_taken_in_their_order(way: SimpleNamespace, seed: int, length: int, picks: list[list[int]]) -> None:
    generator = torch.Generator().manual_seed(seed)
    kept = torch.randn(2, 3, 2, length, 2, generator=generator)
    cache = way.KeyValueCache()
    cache.select(torch.tensor([1, 0]))  # empty: nothing to take
    cache.append(*kept)
    for pick in picks:
        rows = torch.tensor(pick) % kept.size(1)
        cache.select(rows)
        kept = kept[:, rows]
        new = torch.randn(2, len(pick), 2, 1, 2, generator=generator)
        kept = torch.cat([kept, new], dim=3)
        assert torch.equal(torch.stack(cache.append(*new)), kept)


# --- attention with a cache ------------------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("inner", [masked_attention, fused_attention])
@quick
@given(seed=seeds, news=st.lists(st.integers(1, 4), min_size=1, max_size=5), rows=sizes)
def test_pieces_one_after_the_other_are_the_whole(
    way: SimpleNamespace, inner: Any, seed: int, news: list[int], rows: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(0)
    attention = MultiHeadAttention(8, 2, attention=inner)
    length, at, parts = sum(news), 0, []
    states = torch.randn(rows, length, 8, generator=generator)
    seen = torch.rand(rows, 1, 1, length, generator=generator) < 0.7
    seen[..., 0] = True
    mask = causal_mask(length, length) & seen
    cache = way.KeyValueCache()
    with torch.no_grad():
        whole, weights = attention(states, mask=mask)
        for new in news:
            end = at + new
            output, part = way.attend_with_cache(attention, states[:, at:end], cache, mask[..., at:end, :end])
            assert output.shape == (rows, new, 8)
            if weights is None:
                assert part is None
            else:
                torch.testing.assert_close(part, weights[:, :, at:end, :end], rtol=1e-5, atol=1e-5)
            parts.append(output)
            at = end
            assert cache.length == at
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=1e-5)


def test_a_step_costs_what_the_lesson_says() -> None:
    """14 d² for the weights of a layer, 2 (t + n) d for its attention, two FLOPs for each multiplication."""
    model = load_model("cmudict-lesson", own=False)
    source, d_model, layers = batch(["planet"]), 128, 2
    for t in (10, 100, 200):
        with torch.no_grad(), FlopCounterMode(display=False) as counter, caching(model, own=False):
            memory = model.encode(source)
            model.decode(torch.full((1, t - 1), START), memory)
            before = counter.get_flop_counts()["Global"].copy()
            model.decode(torch.full((1, t), START), memory)
            step = {str(op): count - before[op] for op, count in counter.get_flop_counts()["Global"].items()}
        attention = sum(count for op, count in step.items() if "bmm" in op)
        assert attention == layers * 2 * 2 * (t + source.size(1)) * d_model
        assert sum(step.values()) - attention == layers * 2 * 14 * d_model**2 + 2 * d_model * 42


# --- what students are told ------------------------------------------------------------------------------------


def _cache(append: str) -> str:
    return f"""
class KeyValueCache:
    def __init__(self):
        self.keys = self.values = None
        self.length = 0

    def append(self, keys, values):
{append}
        return self.keys, self.values

    def select(self, rows):
        self.keys, self.values = self.keys[rows], self.values[rows]
"""


@pytest.mark.parametrize(
    ("append", "sentence"),
    [
        ("        self.length = 7", "In call 1: `keys` is None, asked is a tensor"),
        (
            "        self.keys, self.values, self.length = keys * 2, values, keys.size(2)",
            "In call 1: `keys` has the right shape; the largest difference is at",
        ),
        (
            "        self.keys, self.values, self.length = keys, values, str(keys.size(2))",
            "`length` is a Python `str` after call 1; it is to be a Python int, as attribute or property: 1.",
        ),
        (
            "        self.keys, self.values, self.length = keys, values, 9",
            "`length` is 9 after call 1, expected 1: it counts the tokens of a row.",
        ),
    ],
)
def test_of_several_calls_the_first_wrong_one_is_named(append: str, sentence: str) -> None:
    verdict = judging.judge_source("KeyValueCache", _cache(append))
    assert sentence in verdict.cases[0].sentence


def test_a_class_that_is_no_module_is_asked_for_as_such() -> None:
    verdict = judging.judge_source("KeyValueCache", "KeyValueCache = 3\n")
    assert "`class KeyValueCache:`" in verdict.problem
    assert "nn.Module" in judging.judge_source("Encoder", "Encoder = 3\n").problem


def test_a_failing_case_of_several_calls_is_made_wholly_by_hand() -> None:
    found = visible_pack(LESSON).exercises["attend_with_cache"].cases[0]
    made, call = reproduction(visible_pack(LESSON).exercises["attend_with_cache"], found).split("\n")
    namespace = {"attend_with_cache": my_model.stand_in("attend_with_cache")}
    exec(made, namespace)
    results = eval(call, namespace)
    steps = found.expected["value"]["steps"]
    assert len(results) == len(steps) > 1
    for (output, _), step in zip(results, steps, strict=True):
        torch.testing.assert_close(output, step["gave"][0])


def test_by_hand_comes_the_last_call() -> None:
    pack = visible_pack(LESSON).exercises
    three_then_one = pack["attend_with_cache"].cases[0]
    (attention, states, cache), named = case("attend_with_cache", three_then_one.title)
    assert (cache.length, states.shape, named) == (3, (2, 1, 4), {})
    output, _ = my_model.stand_in("attend_with_cache")(attention, states, cache)
    torch.testing.assert_close(output, three_then_one.expected["value"]["result"][0])
    one_by_one = pack["KeyValueCache"].cases[0]
    build, inputs = case("KeyValueCache", one_by_one.title)
    keys, _ = build(my_model.stand_in("KeyValueCache"))(*inputs.args)
    assert keys.shape == (2, 2, 3, 3)
    assert "build(KeyValueCache)" in reproduction(pack["KeyValueCache"], one_by_one)


# --- the model of the lesson -----------------------------------------------------------------------------------


def test_the_students_own_training_is_taken_where_it_has_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {name: weight + 1 for name, weight in word_model(own=False).state_dict().items()}
    monkeypatch.setattr(my_model, "keeps_pieces", lambda: True)
    monkeypatch.setattr(my_model, "get", lambda name, own=True: my_model.stand_in(name))
    for found, said in ((weights, "you have trained"), (None, "no training of yours"), ({}, "another size")):
        monkeypatch.setattr(checkpoints, "trained_weights", lambda name, found=found: found)
        model = own_model()
        assert said in capsys.readouterr().out
        assert not model.training
        same = torch.equal(model.state_dict()["generator.weight"], weights["generator.weight"])
        assert same == (found is weights)


# --- the lesson's text -----------------------------------------------------------------------------------------


def test_headings_say_what_course_toml_says() -> None:
    text = "\n".join(cell.source for cell in solutions.read_source(LESSON).cells if cell.cell_type == "markdown")
    for number, entry in enumerate(LESSON.exercises, start=1):
        dots = ["●" * level + "○" * (5 - level) for level in (entry.difficulty, entry.importance)]
        line = f"Difficulty {dots[0]} · importance {dots[1]} · about {entry.minutes} minutes"
        line += " · a main one" if entry.main else ""
        assert re.search(rf"### Exercise {number}: `{entry.name}`\n\n{line}\n", text), (entry.name, line)
    assert f"about {LESSON.minutes} minutes" in text
