"""The scenarios that bring a model of their own: a table, and a tiny one that takes training steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from autograder.cases import case
from autograder.judging import judge_source
from autograder.packs import packs_of
from autograder.reproduce import reproduction
from autograder.scenarios.call import call
from autograder.scenarios.module import dropped, module
from autograder.scenarios.parts import assembled, attending
from autograder.scenarios.table_model import TableModel, TooManyCalls, table, table_model
from autograder.scenarios.training import training
from crosstalk import my_model
from crosstalk.course import course

START, END, PAD = 1, 2, 0


def _row(token: int) -> torch.Tensor:
    row = torch.zeros(6)
    row[token] = 1.0
    return row


@pytest.fixture
def model() -> TableModel:
    """It says 4 5 for the word 3 4, and 3 for the word 5; for any other prefix 0, and from the third place on 1."""
    rows = {
        ((3, 4), (START,)): _row(4),
        ((3, 4), (START, 4)): _row(5),
        ((3, 4), (START, 4, 5)): _row(END),
        ((5,), (START,)): _row(3),
        (None, (START, 3)): _row(END),
    }
    otherwise = torch.stack([_row(0), _row(0), _row(1)])
    return TableModel(table(rows, otherwise, patience=20)).eval()


def _said(logits: torch.Tensor) -> list:
    return logits.argmax(dim=-1).tolist()


# --- a model given as a table ----------------------------------------------------------------------------------


def test_a_table_answers_by_source_and_prefix(model: TableModel) -> None:
    memory = model.encode(torch.tensor([[3, 4]]))
    assert _said(model.decode(torch.tensor([[START, 4, 5]]), memory)) == [[4, 5, END]]
    assert _said(model.decode(torch.tensor([[START, 5, 5, 5]]), memory)) == [[4, 0, 1, 1]]
    assert _said(model.decode(torch.tensor([[4]]), memory)) == [[0]]  # without what came before it, another prefix
    assert (model.table.encoded, model.table.decoded) == (1, 3)


def test_rows_for_any_source_serve_all(model: TableModel) -> None:
    for word in ([5], [3, 4], [4, 4, 4]):
        memory = model.encode(torch.tensor([word]))
        assert _said(model.decode(torch.tensor([[START, 3]]), memory))[0][1] == END


def test_a_padded_batch_with_masks_says_what_its_words_say_alone(model: TableModel) -> None:
    source = torch.tensor([[3, 4], [5, PAD]])
    mask = (source != PAD)[:, None, None]
    target = torch.tensor([[START, 4], [START, 3]])
    assert _said(model(source, target, mask)) == [[4, 5], [3, END]]
    memory = model.encode(source, mask)[[1, 0, 1]]  # rows know their word wherever they are moved to
    assert _said(model.decode(target[[1, 0, 1]], memory, memory_mask=mask[[1, 0, 1]])) == [[3, END], [4, 5], [3, END]]


@pytest.mark.parametrize(("when_encoded", "when_decoded"), [(False, True), (True, False), (False, False)])
def test_padding_in_sight_makes_another_word(model: TableModel, when_encoded: bool, when_decoded: bool) -> None:
    source = torch.tensor([[5, PAD]])
    mask = (source != PAD)[:, None, None]
    memory = model.encode(source, mask if when_encoded else None)
    said = _said(model.decode(torch.tensor([[START]]), memory, memory_mask=mask if when_decoded else None))
    assert said == [[0]]


def test_a_hidden_token_makes_another_prefix(model: TableModel) -> None:
    memory = model.encode(torch.tensor([[3, 4]]))
    target = torch.tensor([[START, 4, 5]])
    everything = torch.ones(1, 1, 1, 3, dtype=torch.bool)
    assert _said(model.decode(target, memory, everything)) == [[4, 5, END]]
    assert _said(model.decode(target, memory, target[:, None, None] != START)) == [[0, 0, 1]]


def test_whoever_never_stops_is_stopped(model: TableModel) -> None:
    memory = model.encode(torch.tensor([[5]]))
    with pytest.raises(TooManyCalls, match="21 times"):
        while True:
            model.decode(torch.tensor([[START]]), memory)


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (torch.zeros(1, 2), TypeError),
        (torch.tensor([START]), TypeError),
        ([[START]], TypeError),
        (torch.tensor([[START, 6]]), IndexError),
        (torch.tensor([[START, -1]]), IndexError),
    ],
)
def test_a_table_refuses_what_a_model_would(model: TableModel, target: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="decode"):
        model.decode(target, model.encode(torch.tensor([[5]])))


def test_calls_are_part_of_what_is_asked_where_they_are_counted() -> None:
    def answer(model: Any, source: torch.Tensor) -> list:
        model.encode(source)
        return _said(model(source, torch.tensor([[START]])))

    made = table({}, _row(3)[None], patience=5)
    inputs = {"model": made, "args": [None, torch.tensor([[5]])], "kwargs": {}, "counts": ["encoded", "decoded"]}
    assert table_model(answer, inputs, {}) == {"result": [[3]], "changed": [], "encoded": 2, "decoded": 1}
    assert table_model(answer, inputs | {"counts": []}, {}) == {"result": [[3]], "changed": []}


# --- training steps --------------------------------------------------------------------------------------------


@pytest.fixture
def inputs() -> dict:
    pack = packs_of("train_step")[0]
    found = next(case for case in pack.cases if case.title == "three steps of SGD")
    return found.inputs


@pytest.fixture
def earlier() -> dict:
    return {name: my_model.stand_in(name) for name in course().earlier_exercises("train_step")}


def test_a_step_that_does_nothing_is_seen_to_do_nothing(inputs: dict, earlier: dict) -> None:
    def answer(model: nn.Module, source: Any, target: Any, optimizer: Any, pad_id: int, start_id: int) -> float:
        return 1.0

    seen = training(answer, inputs, earlier)
    assert seen["result"] == (1.0, 1.0, 1.0)
    assert (seen["backward"], seen["stepped"], seen["at_step"]) == ([0, 0, 0], [0, 0, 0], [{}, {}, {}])
    assert seen["reads"] == [{}, {}, {}]
    assert seen["training"] == [True, True, True]
    for name, weight in seen["weights"].items():
        assert torch.equal(weight, inputs["weights"][name])


def test_what_a_step_does_is_written_down(inputs: dict, earlier: dict) -> None:
    seen = training(my_model.stand_in("train_step"), inputs, earlier)
    assert [type(loss) for loss in seen["result"]] == [float] * 3
    assert (seen["backward"], seen["stepped"], seen["changed"]) == ([1, 1, 1], [1, 1, 1], [])
    for (source, target), read in zip(inputs["batches"], seen["reads"], strict=True):
        real = target != inputs["pad_id"]
        assert torch.equal(read["inputs"][:, 0], torch.full((len(target),), inputs["start_id"]))
        assert torch.equal(read["inputs"][:, 1:][real[:, 1:]], target[:, :-1][real[:, 1:]])
        assert torch.equal(read["visible"], source != inputs["pad_id"])
    for name, weight in seen["weights"].items():
        assert not torch.equal(weight, inputs["weights"][name])


def test_old_gradients_are_there_before_the_first_step(inputs: dict, earlier: dict) -> None:
    def answer(model: nn.Module, source: Any, target: Any, optimizer: Any, pad_id: int, start_id: int) -> float:
        optimizer.step()
        return 0.0

    seen = training(answer, inputs, earlier)
    rate, stale = inputs["options"]["lr"], inputs["stale"]
    for name, weight in seen["weights"].items():
        torch.testing.assert_close(weight, inputs["weights"][name] - 3 * rate * stale)


def test_going_backward_from_a_loss_that_hangs_on_nothing_is_seen(inputs: dict, earlier: dict) -> None:
    def answer(model: nn.Module, source: Any, target: Any, optimizer: Any, pad_id: int, start_id: int) -> float:
        torch.tensor(1.0, requires_grad=True).backward()
        return 1.0

    plain = torch.autograd.backward
    assert training(answer, inputs, earlier)["adrift"] is True
    assert torch.autograd.backward is plain
    assert "adrift" not in training(my_model.stand_in("train_step"), inputs, earlier)


# --- parts -----------------------------------------------------------------------------------------------------


def test_a_second_call_has_the_same_attention_and_is_kept_apart() -> None:
    found = next(case for case in packs_of("project_memory")[0].cases if case.inputs.get("again"))
    seen_attentions = []

    def answer(attention: nn.Module, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen_attentions.append(attention)
        return memory, memory

    seen = attending(answer, found.inputs, {name: my_model.stand_in(name) for name in _BEFORE})
    assert seen_attentions[0] is seen_attentions[1]
    assert torch.equal(seen["result"][0], found.inputs["args"][1])
    assert torch.equal(seen["again"][0], found.inputs["again"]["args"][1])


_BEFORE = ("MultiHeadAttention", "masked_attention")


@pytest.mark.parametrize("evaluating", [True, False])
def test_a_model_is_asked_and_should_be_left_in_the_mode_of_its_case(evaluating: bool) -> None:
    cases = packs_of("EncoderDecoder")[0].cases
    found = next(case for case in cases if case.inputs.get("evaluating", False) is evaluating)
    modes = []

    class Model(my_model.stand_in("EncoderDecoder")):  # type: ignore[misc]
        def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            modes.append(self.training)
            result: torch.Tensor = super().forward(*args, **kwargs)
            return result

    class Switching(Model):
        def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            self.decoder.train(evaluating)
            return super().forward(*args, **kwargs)

    assert "training" not in assembled(Model, found.inputs, {})
    assert assembled(Switching, found.inputs, {})["training"] is evaluating
    assert modes == [not evaluating] * 2
    if evaluating:
        build, _ = case("EncoderDecoder", found.title)
        assert not build(my_model.stand_in("EncoderDecoder")).training


# --- dropout ---------------------------------------------------------------------------------------------------


def _dropping(name: str) -> dict[str, dict]:
    """The cases of an exercise that look at dropout, by title."""
    return {case.title: case.inputs for case in packs_of(name)[0].cases if case.inputs.get("dropped")}


@pytest.mark.parametrize("name", ["EncoderLayer", "Encoder", "DecoderLayer", "Decoder"])
def test_what_dropout_does_shows_no_seed(name: str) -> None:
    for title, inputs in _dropping(name).items():
        seen = []
        for seed in range(20):
            torch.manual_seed(seed)
            seen.append(module(my_model.stand_in(name), inputs, {}))
        assert seen[1:] == seen[:-1], title


def test_dropout_is_read_off_a_known_one() -> None:
    def layer(states: torch.Tensor) -> torch.Tensor:
        added = torch.ones_like(states)
        added[..., :2] = 0.0
        return 5 - 3 * (states + nn.functional.dropout(added, 0.2))  # a norm may turn and stretch what comes out

    states = torch.zeros(2, 6, 12)
    states[..., 1] = 1.0
    assert dropped(layer, [states], {}, calls=30) == {"values": [0.0, 1.25], "mean": 1.0, "alike": []}
    whole = dropped(lambda states: layer(states)[:, :1].expand_as(states), [states], {}, calls=30)
    assert whole["alike"] == ["letters"]
    assert dropped(torch.randn_like, [states], {}, calls=2)["values"] == "many"
    assert dropped(torch.zeros_like, [states], {}, calls=2)["values"] == "not finite"


DROPS = """
class EncoderLayer(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        self.attention_norm, self.attention = LayerNorm(d_model), MultiHeadAttention(d_model, heads)
        self.feed_forward_norm, self.feed_forward = LayerNorm(d_model), FeedForward(d_model, d_ff)
        self.share = dropout

    def drop(self, output):
        return {drop}

    def forward(self, states, mask=None):
        attended, _ = self.attention(self.attention_norm(states), mask=mask)
        states = states + F.dropout(attended, self.share, self.training)
        return states + self.drop(self.feed_forward(self.feed_forward_norm(states)))
"""
THRICE = "F.dropout(output, 1 - (1 - self.share) ** 3, self.training)"
MASKS = "output * F.dropout(torch.ones(output.shape[:-1] + (1,)), self.share, self.training).to(output)"


@pytest.mark.parametrize(
    ("drop", "sentence"),
    [
        (THRICE, "what is added to the states came out as 0.0, 4.63; expected is 0.0, 1.67."),
        (MASKS, "Dropout falls alike on all features: they are kept or dropped together."),
    ],
)
def test_another_dropout_is_told_by_what_came_out(drop: str, sentence: str) -> None:
    assert sentence in judge_source("EncoderLayer", DROPS.format(drop=drop)).text()


# --- cases by hand ---------------------------------------------------------------------------------------------


def test_a_case_brings_a_new_model_each_time() -> None:
    step = my_model.stand_in("train_step")
    losses = [step(*case("train_step", "three steps of SGD").args) for _ in range(2)]
    assert losses[0] == losses[1]
    inputs = case("greedy_word", "the end comes at once")
    assert my_model.stand_in("greedy_word")(*inputs.args) == [END]


@pytest.mark.parametrize("name", ["train_step", "greedy_word"])
def test_the_two_lines_of_a_failing_case_run(name: str) -> None:
    pack = packs_of(name)[0]
    for found in pack.cases:
        namespace = {name: my_model.stand_in(name)}
        exec(reproduction(pack, found), namespace)
        assert "inputs" in namespace


# --- what is said ----------------------------------------------------------------------------------------------

STEP = """
def train_step(model, source, target, optimizer, pad_id, start_id):
    inputs = shift_right({target}, start_id)
    logits = model(source, inputs, {mask})
    loss = token_cross_entropy(logits, target, pad_id)
    optimizer.zero_grad()
    loss.backward()
    {before}
    optimizer.step()
    return loss.item()
"""


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"target": "target.flip(1)"}, "What the decoder reads in step 1 is wrong in"),
        ({"mask": "padding_mask(source, pad_id + 3)"}, "The model may attend to other source tokens than asked"),
        ({"before": "next(model.parameters()).grad.zero_()"}, "The gradient of `source_embedding.table.weight` at"),
        (
            {"mask": "model.eval() and padding_mask(source, pad_id)"},
            "In step 1 the model runs in evaluation mode, with its dropout off",
        ),
        (
            {"before": "source.fill_(3), target.fill_(3)"},
            "The result is right, but the call changed its input `source`, `target` in place",
        ),
    ],
)
def test_an_unknown_mistake_in_a_step_is_told_by_what_was_seen(change: dict[str, str], sentence: str) -> None:
    plain = {"target": "target", "mask": "padding_mask(source, pad_id)", "before": "pass"}
    verdict = judge_source("train_step", STEP.format(**(plain | change)))
    assert not verdict.named
    assert sentence in verdict.text()


def test_one_encoding_too_many_is_counted_out() -> None:
    source = """
def greedy_word(model, source, start_id, end_id, max_length):
    memory, ids = model.encode(source), [start_id]
    for place in range(max_length):
        if place == 2:
            memory = model.encode(source)
        ids.append(model.decode(torch.tensor([ids]), memory)[0, -1].argmax().item())
        if ids[-1] == end_id:
            break
    return ids[1:]
"""
    text = judge_source("greedy_word", source).text()
    assert "The result is right, but the encoder ran 2 times, and 1 would do." in text


def test_a_list_that_differs_is_shown_beside_the_right_one() -> None:
    source = """
def greedy_word(model, source, start_id, end_id, max_length):
    return [7, 7]
"""
    assert "`ids` is [7, 7], expected [2]." in judge_source("greedy_word", source).text()


def test_a_list_of_other_numbers_is_told_by_the_first() -> None:
    source = """
def greedy_word(model, source, start_id, end_id, max_length):
    memory, ids = model.encode(source), [start_id]
    for _ in range(max_length):
        ids.append(model.decode(torch.tensor([ids]), memory).detach().numpy()[0, -1].argmax())
        if ids[-1] == end_id:
            break
    return [int(ids[1]), *ids[2:]]
"""
    text = judge_source("greedy_word", source).text()
    assert "`ids`[1] is a `numpy.int64`, asked is a Python `int`: `int(...)` makes one of it." in text
    assert "$kind" not in text


def test_a_list_will_do_where_a_tuple_is_asked() -> None:
    source = """
def repaired_batch(sources, targets, order, pad_id, end_id):
    source = pad_sequence([torch.tensor(sources[i]) for i in order], batch_first=True, padding_value=pad_id)
    ended = [torch.tensor([*targets[i], {end}]) for i in order]
    return [source, pad_sequence(ended, batch_first=True, padding_value=pad_id)]
"""
    assert judge_source("repaired_batch", source.format(end="end_id")).passed
    assert "`target` is wrong in" in judge_source("repaired_batch", source.format(end="end_id + 1")).text()


# --- what a call leaves behind ---------------------------------------------------------------------------------


def test_lists_changed_in_place_are_seen() -> None:
    def answer(first: list, second: list, by_name: list) -> int:
        first[0].append(4)
        by_name.clear()
        return len(second)

    inputs = {"args": [[[3], [5]], [1, 2]], "kwargs": {"by_name": ["a"]}}
    assert call(answer, inputs, {}) == {"result": 2, "changed": ["args.0", "kwargs.by_name"]}


def test_a_result_that_would_learn_by_itself_is_seen() -> None:
    inputs = {"args": [torch.ones(2)], "kwargs": {}}
    assert call(lambda given: (given, nn.Parameter(given)), inputs, {})["learnable"] is True
    assert "learnable" not in call(lambda given: given * 2, inputs, {})


def test_a_model_asked_in_training_mode_is_seen() -> None:
    def answer(model: TableModel, source: torch.Tensor) -> list:
        model.train().encode(source)
        model.eval()
        return []

    inputs = {"model": table({}, _row(3)[None], patience=5), "args": [None, torch.tensor([[5]])], "kwargs": {}}
    assert table_model(answer, inputs | {"counts": []}, {})["training"] is True
