"""The widgets of lesson 05 and the trainings behind them: what they compute and say, without a browser."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crosstalk.data import cmudict, label_smoothing, teacher_forcing
from crosstalk.data.cmudict import END, PAD, PHONEMES, START
from crosstalk.data.teacher_forcing import inputs_and_labels
from crosstalk.stand_ins.lesson_05 import label_smoothing_loss, shift_right
from crosstalk.widgets import LabelSmoothing, TeacherForcing
from crosstalk.widgets.label_smoothing import TRUE, V, best_gap, findings, gap_loss, target_shares
from crosstalk.widgets.teacher_forcing import pronunciation

# -- TeacherForcing --


def test_the_lanes_of_each_shift():
    lanes = TeacherForcing(word="planet").results["lanes"]
    assert [lane["inputs"] for lane in lanes] == [[0, 1, 2, 3, 4, 5, 6], [-1, 0, 1, 2, 3, 4, 5], [-1, 0, 1, 2, 3, 4]]
    assert [lane["labels"] for lane in lanes] == [[*range(7)], [*range(7)], [1, 2, 3, 4, 5, 6]]


def test_what_is_trained_on_is_what_is_drawn():
    target = torch.tensor([[22, 4, 33, END], [22, END, PAD, PAD]])
    inputs, labels = inputs_and_labels(target, 2)
    assert inputs.tolist() == [[START, 22, 4], [START, 22, END]]
    assert labels.tolist() == [[4, 33, END], [END, PAD, PAD]]
    assert torch.equal(inputs_and_labels(target, 1)[0], shift_right(target, START))
    assert inputs_and_labels(target, 0)[0] is target


def test_a_right_shift_is_said_to_be_right():
    results = TeacherForcing(shift_right, word="cat").results
    assert results["state"] == "agrees" and "what your `shift_right` gives" in results["said"]
    assert results["lanes"][1]["inputs"] == [-1, 0, 1, 2] and results["lanes"][2]["inputs"] == [-1, 0, 1]


@pytest.mark.parametrize(
    ("shift", "inputs", "said"),
    [
        (lambda y, s: y, [0, 1, 2, 3], "puts `K` into place 1, where `<start>` is wanted"),
        (lambda y, s: torch.roll(y, 1, dims=1), [3, 0, 1, 2], "puts `<end>` into place 1"),
        (lambda y, s: F.pad(y[:, 1:], (0, 1), value=PAD), [1, 2, 3, -2], "puts `AE` into place 1"),
        (lambda y, s: F.pad(y[:, :-1], (1, 0), value=PAD), [-2, 0, 1, 2], "a token that is not in the word"),
        (lambda y, s: F.pad(y[:, :-2], (2, 0), value=s), [-1, -1, 0, 1], "puts `<start>` into place 2"),
    ],
)
def test_a_wrong_shift_is_drawn_as_it_is_and_told(shift, inputs, said):
    results = TeacherForcing(shift, word="cat").results
    assert results["state"] == "differs" and said in results["said"]
    assert results["lanes"][1]["inputs"] == inputs
    assert results["lanes"][0]["inputs"] == [0, 1, 2, 3]  # where nothing is shifted it is not called


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        (lambda y, s: y[:, :-1], "returned shape (1, 3); (1, 4) is wanted"),
        (lambda y, s: None, "returned None; a tensor is wanted"),
        (lambda y: y, "stopped with TypeError"),
    ],
)
def test_a_shift_that_cannot_be_drawn_leaves_the_widget_its_own(shift, said):
    results = TeacherForcing(shift, word="cat").results
    assert results["state"] == "problem" and said in results["said"]
    assert results["lanes"][1]["inputs"] == [-1, 0, 1, 2]


def test_any_word_of_the_dictionary_has_a_timeline():
    assert pronunciation("Cat") == ["K", "AE", "T", "<end>"]
    with pytest.raises(ValueError, match="'qqq' is not in the dictionary: choose another word"):
        TeacherForcing(word="qqq")


# -- the record of the three trainings --


@pytest.fixture(scope="module")
def record():
    return teacher_forcing.load()


def test_the_record_is_of_three_whole_trainings(record):
    assert [training["shift"] for training in record["trainings"]] == [0, 1, 2]
    for training in record["trainings"]:
        assert len(training["losses"]) == record["steps"][-1]
        assert len(training["per"]) == len(training["wer"]) == len(training["samples"]) == len(record["steps"])
        assert all(len(sample) == len(record["words"]) for sample in training["samples"])
        assert abs(training["losses"][0] - math.log(record["vocabulary"])) < 1.5


def test_the_words_shown_were_not_trained_on(record):
    listed = {row["word"]: row["pronunciations"] for row in cmudict.load("validation")}
    for row in record["words"]:
        assert [" ".join(one) for one in row["pronunciations"]] == listed[row["word"]]


def test_low_loss_and_good_words_are_two_things(record):
    """What the lesson says of the three: the copier has the lowest loss and the worst words."""
    copier, forced, ahead = record["trainings"]
    last = {training["shift"]: sum(training["losses"][-50:]) / 50 for training in record["trainings"]}
    assert last[0] < 0.02 < last[1] < last[2]
    assert forced["per"][-1] < ahead["per"][-1] and forced["per"][-1] < copier["per"][-1]
    assert copier["per"][-1] > 90


def test_the_training_can_be_made_again(record):
    from crosstalk.data.teacher_forcing_build import BATCH, SEED, ShiftedStep, build_model
    from crosstalk.data.word_batches import WordBatches

    model = build_model()
    batches = WordBatches(cmudict.load("train"), BATCH, SEED)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for training in record["trainings"]:
        step = ShiftedStep(training["shift"], [])
        step.done = 1  # nothing is to be decoded here
        loss = step(model, *batches[0], optimizer, PAD, START)
        assert loss == pytest.approx(training["losses"][0], abs=2e-2)  # bfloat16 where that is faster


def test_the_card_says_what_the_record_says(record):
    card = (teacher_forcing.record_file().parent / "README.md").read_text("utf-8")
    for training in record["trainings"]:
        assert f"| {training['shift']} |" in card and f"{training['per'][-1]:.1f}" in card
    assert "license: mit" in card and "python -m crosstalk.data.teacher_forcing_build" in card


@pytest.mark.parametrize("module", [teacher_forcing, label_smoothing])
def test_missing_data_says_how_to_make_it(module, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "assets_folder", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"run `python -m {re.escape(module.__name__)}_build`"):
        module.load()


# -- LabelSmoothing --


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_every_target_sums_to_one(smoothing):
    for variant in range(3):
        assert float(target_shares(smoothing, variant).sum()) == pytest.approx(1)
    assert float(target_shares(smoothing, 0)[TRUE]) == pytest.approx(1 - smoothing + smoothing / 42)
    assert float(target_shares(smoothing, 1)[PAD]) == pytest.approx(smoothing / 41)
    assert float(target_shares(smoothing, 2)[PAD]) == 0


def test_the_first_variant_is_pytorchs():
    logits = torch.randn(5, V, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = F.cross_entropy(logits, torch.full((5,), TRUE), label_smoothing=0.1)
    assert float(-(logits.log_softmax(-1) @ target_shares(0.1, 0)).mean()) == pytest.approx(float(wanted))


@pytest.mark.parametrize("variant", [0, 1])
def test_the_loss_is_lowest_where_it_is_said_to_be(variant):
    share = float(target_shares(0.1, variant)[TRUE])
    gap = best_gap(share)
    around = gap_loss(share, torch.tensor([gap - 0.01, gap, gap + 0.01], dtype=torch.float64))
    assert int(around.argmin()) == 1
    logits = torch.zeros(V, dtype=torch.float64)
    logits[TRUE] = gap
    assert float(logits.softmax(-1)[TRUE]) == pytest.approx(share)


def test_without_smoothing_no_gap_is_large_enough():
    widget = LabelSmoothing()
    assert widget.results["minimum"]["gap"] == pytest.approx(math.log((0.9 + 0.1 / 42) * 41 / (0.1 - 0.1 / 42)))
    widget.smoothing = 0.0
    assert widget.results["minimum"] is None
    assert (np.diff(array(widget, "loss")) < 0).all()


def array(widget, name):
    place = widget.results["arrays"][name]
    return np.frombuffer(widget.numbers, "<f4")[place["start"] :][: math.prod(place["shape"])]


@pytest.mark.parametrize("smoothing", [0.0, 0.01, 0.1, 0.5])
def test_a_right_loss_agrees_and_its_curve_is_the_widgets(smoothing):
    widget = LabelSmoothing(label_smoothing_loss)
    widget.smoothing = smoothing
    assert widget.results["theirs"]["state"] == "agrees"
    assert array(widget, "theirs") == pytest.approx(array(widget, "loss"), abs=1e-4)


def other_variant(variant):
    def loss(logits, target, pad_id, smoothing):
        shares = torch.full((*target.shape, V), smoothing / (V - variant))
        if variant == 2:
            shares[..., pad_id] = 0
        shares.scatter_(-1, target[..., None], 1 - smoothing)
        real = target.ne(pad_id)
        return -(logits.log_softmax(-1) * shares).sum(-1)[real].mean()

    return loss


@pytest.mark.parametrize(("variant", "name"), [(1, "ε/(V−1)"), (2, "ε/(V−2)")])
@pytest.mark.parametrize("smoothing", [0.01, 0.1])
def test_the_other_variants_are_named(variant, name, smoothing):
    widget = LabelSmoothing(other_variant(variant))
    widget.smoothing = smoothing
    assert widget.results["theirs"]["state"] == "differs"
    assert f"is the variant {name};" in widget.results["theirs"]["said"]


@pytest.mark.parametrize(
    ("loss", "state", "said"),
    [
        (lambda x, y, p, e: F.cross_entropy(x.mT, y, label_smoothing=e), "differs", "with padding (ε = 0.10);"),
        (lambda x, y, p, e: F.cross_entropy(x.mT, y, ignore_index=p), "differs", "is wanted, and the other variants"),
        (lambda x, y, p, e: torch.tensor(math.nan), "differs", "gives nan"),
        (lambda x, y, p, e: x, "problem", "returned a tensor of shape (1, 1, 42); one number is wanted"),
        (lambda x, y, p, e: None, "problem", "returned None; one number is wanted"),
        (lambda x, y, p: x.sum(), "problem", "stopped with TypeError"),
    ],
)
def test_a_wrong_loss_is_told_in_words(loss, state, said):
    theirs = LabelSmoothing(loss).results["theirs"]
    assert theirs["state"] == state and said in theirs["said"]


def figure(value, low=None, high=None):
    return {"value": value, "low": value if low is None else low, "high": value if high is None else high}


def made_up(ece, per):
    models = [
        {"smoothing": smoothing, "confidence": 0.9, "ece": figure(0.05), "nll": figure(0.2), "per": figure(10.0)}
        | {"accuracy": figure(accuracy)}
        for smoothing, accuracy in ((0.0, 0.88), (0.1, 0.95))
    ]
    return {"models": models, "differences": {"ece": figure(*ece), "per": figure(*per)}}


@pytest.mark.parametrize(
    ("ece", "per", "said"),
    [
        ((0.09, 0.08, 0.1), (-0.3, -0.8, 0.2), ["made calibration worse", "−0.8 to +0.2): within what chance does"]),
        ((-0.04, -0.05, -0.03), (-0.9, -1.2, -0.6), ["made calibration better", "lower with smoothing"]),
        ((0.01, -0.01, 0.02), (0.9, 0.6, 1.2), ["no difference in calibration error", "higher with smoothing"]),
    ],
)
def test_the_findings_follow_the_figures(ece, per, said):
    sentences = findings(made_up(ece, per))
    assert "surer than it may be" in sentences[0] and "less sure than it may be" in sentences[1]
    assert said[0] in sentences[2] and said[1] in sentences[3]


# -- how calibration is measured, and the two trained models --


def test_calibration_on_numbers_made_by_hand():
    from crosstalk.data.label_smoothing_measure import Tokens, figures, reliability

    tokens = Tokens(
        confidence=torch.tensor([0.95, 0.95, 0.55, 0.51], dtype=torch.float64),
        right=torch.tensor([True, False, True, True]),
        nll=torch.tensor([0.1, 2.0, 0.5, 0.6], dtype=torch.float64),
        word=torch.tensor([0, 0, 1, 1]),
    )
    bins = reliability(tokens, bins=2)
    assert bins[0]["count"] == 0 and bins[1]["count"] == 4 and bins[1]["accuracy"] == 0.75
    edits, phonemes = torch.tensor([0, 3]), torch.tensor([4, 6])
    own = figures(tokens, edits, phonemes, torch.tensor([[1, 1], [0, 1], [2, 1]]))
    # 15 bins: the two tokens of the first word share one, those of the second have one each (0.51 and 0.55)
    by_hand = (2 * abs(0.95 - 0.5) + abs(0.55 - 1) + abs(0.51 - 1)) / 4
    assert float(own["ece"][0]) == pytest.approx(by_hand)
    assert own["nll"].tolist() == pytest.approx([0.8, 0.55, (2 * 2.1 + 1.1) / 6])
    assert own["per"].tolist() == pytest.approx([30, 50, 100 * 3 / 14])
    assert own["wer"].tolist() == pytest.approx([50, 100, 100 / 3])
    assert own["accuracy"].tolist() == pytest.approx([0.75, 1, 4 / 6])


@pytest.fixture(scope="module")
def table():
    return label_smoothing.load()


@pytest.mark.parametrize("number", [0, 1])
def test_the_shipped_models_give_the_shipped_calibration(table, number):
    from crosstalk.checkpoints import load_model
    from crosstalk.data.label_smoothing_build import held_out_words
    from crosstalk.data.label_smoothing_measure import edits_by_word, figures, predict, reliability

    shipped = table["models"][number]
    words = held_out_words()
    assert len(words) == table["words"]
    model = load_model(label_smoothing.CHECKPOINTS[shipped["smoothing"]], own=False)
    tokens = predict(model, words)
    assert len(tokens.nll) == table["tokens"]
    own = figures(tokens, *edits_by_word(model, words), torch.ones(1, len(words), dtype=torch.long))
    for name in ("accuracy", "ece", "nll"):
        assert float(own[name]) == pytest.approx(shipped[name]["value"], abs=1e-3), name
    for name in ("per", "wer"):
        assert float(own[name]) == pytest.approx(shipped[name]["value"], abs=0.2), name
    for mine, theirs in zip(reliability(tokens), shipped["bins"], strict=True):
        assert mine["count"] == pytest.approx(theirs["count"], abs=3)


def test_the_held_out_words_are_no_ones_relatives():
    from crosstalk.data.label_smoothing_build import held_out_words

    assert not set(held_out_words()["family"]) & set(cmudict.load("train")["family"])


def test_the_checkpoints_are_small_and_have_a_card():
    from crosstalk.checkpoints import checkpoint_file

    for name in label_smoothing.CHECKPOINTS.values():
        file = checkpoint_file(name)
        assert file.stat().st_size < 2_500_000
        assert file.name in (label_smoothing.table_file().parent / "README.md").read_text("utf-8")


def test_the_card_says_what_the_table_says(table):
    card = (label_smoothing.table_file().parent / "README.md").read_text("utf-8")
    for model in table["models"]:
        for name, digits in (("ece", 3), ("nll", 3), ("per", 1)):
            assert f"{model[name]['value']:.{digits}f}" in card
    assert "license: mit" in card and "python -m crosstalk.data.label_smoothing_build" in card


@pytest.mark.parametrize("file", [teacher_forcing.record_file(), label_smoothing.table_file()], ids=lambda f: f.name)
def test_what_is_sent_is_small(file):
    assert file.stat().st_size < 150_000


def test_only_tokens_were_said(record):
    said = {token for each in record["trainings"] for step in each["samples"] for row in step for token in row}
    assert said <= set(PHONEMES)
