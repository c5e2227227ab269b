"""Lesson 05: what holds for every shift, loss, training step, edit distance and greedily decoded word.

Each property is tried on the stand-ins and on the solution that students may see.
"""

from __future__ import annotations

import ast
import builtins
import math
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import ways
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from autograder import judging, runner, solutions
from autograder.judge import judge
from autograder.messages import decode, encode
from autograder.packs import packs_of, visible_pack
from crosstalk import my_model
from crosstalk.course import course
from crosstalk.models import Size, word_model
from crosstalk.stand_ins.lesson_02 import padding_mask
from crosstalk.stand_ins.lesson_07 import greedy_decode

LESSON = course().lesson("05-teacher-forcing")
TINY = Size(d_model=16, heads=2, d_ff=16, encoder_layers=1, decoder_layers=1)

each_way = ways.each_way(until=5)
sizes = st.integers(1, 6)
quick = settings(max_examples=40, deadline=None)
tokens = st.lists(st.integers(0, 3), max_size=6)


def _batch(seed: int, batch: int, length: int, vocabulary: int, pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and targets of which about a third is padding, but not all."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, length, vocabulary, generator=generator, dtype=torch.float64) * 3
    target = torch.randint(0, vocabulary, (batch, length), generator=generator)
    target[torch.rand(batch, length, generator=generator) < 0.3] = pad_id
    target[0, 0] = (pad_id + 1) % vocabulary
    return logits, target


# --- the shift -------------------------------------------------------------------------------------------------


@each_way
@quick
@given(seed=ways.seeds, batch=sizes, length=sizes, start=st.integers(0, 9))
def test_the_start_token_comes_first_then_what_was_there(
    way: SimpleNamespace, seed: int, batch: int, length: int, start: int
) -> None:
    target = torch.randint(0, 9, (batch, length), generator=torch.Generator().manual_seed(seed))
    before = target.clone()
    inputs = way.shift_right(target, start)
    assert inputs.tolist() == [[start, *row[:-1]] for row in before.tolist()]
    assert inputs.dtype == target.dtype
    assert torch.equal(target, before)


# --- the losses ------------------------------------------------------------------------------------------------


@each_way
@quick
@given(seed=ways.seeds, batch=sizes, length=sizes, vocabulary=st.integers(2, 6), pad=st.integers(0, 1))
def test_the_loss_is_the_mean_over_real_tokens(
    way: SimpleNamespace, seed: int, batch: int, length: int, vocabulary: int, pad: int
) -> None:
    logits, target = _batch(seed, batch, length, vocabulary, pad)
    by_hand = [
        -math.log(math.exp(row[token]) / sum(map(math.exp, row)))
        for word, rows in zip(target.tolist(), logits.tolist(), strict=True)
        for token, row in zip(word, rows, strict=True)
        if token != pad
    ]
    assert way.token_cross_entropy(logits, target, pad).item() == pytest.approx(sum(by_hand) / len(by_hand))


@each_way
@quick
@given(seed=ways.seeds, batch=sizes, length=sizes, more=sizes, smoothing=st.floats(0, 0.9))
def test_padding_more_changes_nothing(
    way: SimpleNamespace, seed: int, batch: int, length: int, more: int, smoothing: float
) -> None:
    logits, target = _batch(seed, batch, length, 5, pad_id=3)
    wide_logits = F.pad(logits, (0, 0, 0, more), value=7.0)
    wide = F.pad(target, (0, more), value=3)
    torch.testing.assert_close(
        way.token_cross_entropy(wide_logits, wide, 3), way.token_cross_entropy(logits, target, 3)
    )
    narrow = way.label_smoothing_loss(logits, target, 3, smoothing)
    torch.testing.assert_close(way.label_smoothing_loss(wide_logits, wide, 3, smoothing), narrow)


@each_way
@quick
@given(seed=ways.seeds, batch=sizes, length=sizes, smoothing=st.floats(0, 0.9))
def test_label_smoothing_is_that_of_torch(
    way: SimpleNamespace, seed: int, batch: int, length: int, smoothing: float
) -> None:
    logits, target = _batch(seed, batch, length, 6, pad_id=2)
    theirs = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=2, label_smoothing=smoothing)
    torch.testing.assert_close(way.label_smoothing_loss(logits, target, 2, smoothing), theirs)


@each_way
@pytest.mark.parametrize("smoothing", [None, 0.1])
def test_losses_and_gradients_are_finite_for_extreme_logits(way: SimpleNamespace, smoothing: float | None) -> None:
    logits = torch.tensor([[[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]]], requires_grad=True)
    target = torch.tensor([[1, 0]])
    if smoothing is None:
        loss = way.token_cross_entropy(logits, target, 2)
        assert loss.item() == pytest.approx(2e4 + math.log(2) / 2, rel=1e-6)
    else:
        loss = way.label_smoothing_loss(logits, target, 2, smoothing)
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_a_softmax_taken_twice_has_the_floor_that_the_lesson_names() -> None:
    perfect = F.one_hot(torch.arange(1, 42)[None], 42).float()
    floor = my_model.stand_in("token_cross_entropy")(perfect, torch.arange(1, 42)[None], 0)
    assert floor.item() == pytest.approx(math.log(math.e + 41) - 1)
    assert f"{floor.item():.2f}" == "2.78"


# --- one step --------------------------------------------------------------------------------------------------


def _model_and_words() -> tuple[Any, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    source = torch.tensor([[5, 9, 7, 0], [8, 6, 11, 12]])
    target = torch.tensor([[7, 4, 2, 0, 0], [9, 9, 5, 6, 2]])
    return word_model(TINY, own=False), source, target


@each_way
def test_steps_bring_the_loss_down_and_give_floats(way: SimpleNamespace) -> None:
    model, source, target = _model_and_words()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    losses = [way.train_step(model, source, target, optimizer, 0, 1) for _ in range(60)]
    assert [type(loss) for loss in losses] == [float] * 60
    assert losses[0] > 3
    assert losses[-1] < 0.1
    assert model.training


@each_way
def test_old_gradients_and_more_padding_change_nothing(way: SimpleNamespace) -> None:
    results = []
    for stale, more in ((None, 0), (0.7, 3)):
        model, source, target = _model_and_words()
        for parameter in model.parameters():
            parameter.grad = None if stale is None else torch.full_like(parameter, stale)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss = way.train_step(model, F.pad(source, (0, more)), F.pad(target, (0, more)), optimizer, 0, 1)
        results.append((loss, model.state_dict()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    for name, weight in results[0][1].items():
        torch.testing.assert_close(weight, results[1][1][name], rtol=1e-4, atol=1e-6)


# --- edit distance ---------------------------------------------------------------------------------------------


@cache
def _by_definition(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return _by_definition(a[1:], b[1:])
    return 1 + min(_by_definition(a[1:], b), _by_definition(a, b[1:]), _by_definition(a[1:], b[1:]))


@each_way
@quick
@given(a=tokens, b=tokens)
def test_edit_distance_is_the_fewest_edits(way: SimpleNamespace, a: list[int], b: list[int]) -> None:
    assert way.edit_distance(a, b) == _by_definition(tuple(a), tuple(b))


@each_way
@quick
@given(a=tokens, b=tokens, c=tokens)
def test_edit_distance_is_a_distance(way: SimpleNamespace, a: list[int], b: list[int], c: list[int]) -> None:
    assert way.edit_distance(a, a) == 0
    assert (way.edit_distance(a, b) == 0) == (a == b)
    assert way.edit_distance(a, b) == way.edit_distance(b, a)
    assert way.edit_distance(a, c) <= way.edit_distance(a, b) + way.edit_distance(b, c)


def test_a_gradient_that_is_missing_is_no_missing_return() -> None:
    source = solutions.answer_source(solutions.read_source(LESSON), "train_step")
    cut = source.replace("model(source, inputs, source_mask)", "model.decode(inputs, model.encode(source, source_mask)"
                         ".detach(), memory_mask=source_mask)")  # fmt: skip
    sentence = judging.judge_source("train_step", cut).cases[0].sentence
    assert sentence.startswith("At `optimizer.step()` 1 no gradient had reached `encoder.")
    assert "return" not in sentence


def test_the_training_needs_no_cells_but_the_first_two() -> None:
    """After a restart of the kernel: every name in the cell of the training comes from there or from the set-up."""
    cells = [cell.source for cell in solutions.read_source(LESSON).cells if cell.cell_type == "code"]
    training = next(source for source in cells if "TRAIN = False" in source)
    loads = {node.id for node in ast.walk(ast.parse(training)) if isinstance(node, ast.Name)}
    bound = set(dir(builtins))
    for source in (*cells[:2], training):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                bound |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                bound.add(node.id)
    assert loads <= bound


EXPONENTIAL = """
def edit_distance(a, b):
    if not a or not b:
        return len(a) + len(b)
    change = edit_distance(a[1:], b[1:]) + (a[0] != b[0])
    return min(edit_distance(a[1:], b) + 1, edit_distance(a, b[1:]) + 1, change)
"""


def test_a_recursion_without_a_memory_is_stopped_and_told_why() -> None:
    packs = packs_of("edit_distance")
    asked = decode(judging.request("edit_distance", EXPONENTIAL, visible_pack(LESSON).setup, packs, False))
    verdict = judge(packs, runner.run(encode(asked | {"seconds": 1.0})), 3)
    assert verdict.points == 0
    assert "did not come to an end in the time allowed" in verdict.problem
    assert "the same work done over and over" in verdict.problem


# --- what is not allowed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "F.cross_entropy(logits.transpose(1, 2), target, ignore_index=pad_id, label_smoothing=smoothing)",
        "nn.CrossEntropyLoss(ignore_index=pad_id, label_smoothing=smoothing)(logits.transpose(1, 2), target)",
    ],
)
def test_the_smoothing_of_torch_is_the_exercise_itself(line: str) -> None:
    source = f"def label_smoothing_loss(logits, target, pad_id, smoothing):\n    return {line}\n"
    verdict = judging.judge_source("label_smoothing_loss", source)
    assert verdict.points == 0
    assert verdict.problem.startswith("Line 2 calls torch's `cross_entropy`, which is what this exercise asks you")


# --- speaking --------------------------------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("max_length", [1, 4, 12])
def test_a_word_alone_is_said_as_in_a_batch(way: SimpleNamespace, max_length: int) -> None:
    model, source, target = _model_and_words()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(60):
        way.train_step(model, source, target, optimizer, 0, 1)
    model.eval()
    with torch.no_grad():
        rows = greedy_decode(model, source, padding_mask(source, 0), 1, 2, 0, max_length).tolist()
        for letters, row in zip(source, rows, strict=True):
            said = way.greedy_word(model, letters[letters != 0][None], 1, 2, max_length)
            assert said == [token for token in row if token != 0]
            assert len(said) <= max_length
