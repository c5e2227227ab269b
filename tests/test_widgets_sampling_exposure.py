"""What the widgets of sampling and of exposure bias compute and say, without a browser."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosstalk.checkpoints import load_model
from crosstalk.data import cmudict
from crosstalk.data.cmudict import END, PAD, PHONEMES, START
from crosstalk.data.word_batches import pad_rows
from crosstalk.models import Size, word_model
from crosstalk.stand_ins.lesson_02 import padding_mask
from crosstalk.stand_ins.lesson_07 import greedy_decode
from crosstalk.stand_ins.lesson_08 import sampling_distribution, top_k_filter, top_p_filter
from crosstalk.stand_ins.lesson_09 import aligned_error_by_position, error_by_position, matched
from crosstalk.widgets import ExposureLanes, SamplingTable, exposure, sampling_checks
from crosstalk.widgets.exposure import AFTER, Experiment, Wrong, free_running, interval, paired, teacher_forced
from crosstalk.widgets.listed_words import held_out, listed
from crosstalk.widgets.sampling_table import BY_K, BY_P, KEPT, V
from crosstalk.widgets.standalone import state_of

NEVER = float("-inf")


@pytest.fixture(scope="module")
def model():
    return load_model("cmudict-lesson", own=False)


def ids(said: str) -> list[int]:
    return [PHONEMES.index(token) for token in said.split()]


def array(widget, name: str) -> np.ndarray:
    place = widget.results["arrays"][name]
    return np.frombuffer(widget.numbers, "<f4")[place["start"] :][: math.prod(place["shape"])]


# -- what must be kept and what may be --


def test_tokens_tied_with_the_kth_may_stay_or_go():
    must, may = sampling_checks.bounds_of_k(torch.tensor([3.0, 1.0, 2.0, 2.0, 0.0]), 2)
    assert must.tolist() == [True, False, False, False, False]
    assert may.tolist() == [True, False, True, True, False]


def test_the_token_that_crosses_p_must_stay_and_the_next_may_only_where_p_is_just_reached():
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    must, may = sampling_checks.bounds_of_p(logits, 0.6)
    assert must.tolist() == may.tolist() == [True, True, False, False]
    must, may = sampling_checks.bounds_of_p(logits, 0.75)  # reached exactly by two
    assert must.tolist() == [True, True, False, False]
    assert may.tolist() == [True, True, True, True]
    must, may = sampling_checks.bounds_of_p(logits, 0.8)  # one of the two that tie is enough
    assert must.tolist() == [True, True, False, False]
    assert may.tolist() == [True, True, True, True]


@settings(deadline=None)
@given(
    st.lists(st.floats(-20, 20), min_size=V, max_size=V),
    st.floats(0.1, 3),
    st.integers(1, V),
    st.floats(0.05, 1),
)
def test_right_functions_are_never_called_wrong(values, temperature, k, p):
    logits = torch.tensor(values)
    scaled = logits / temperature
    after_k = top_k_filter(scaled[None], k)[0]
    said = sampling_checks.wrong_with_filter(
        "f", scaled, after_k, *sampling_checks.bounds_of_k(scaled, k), PHONEMES, "k"
    )
    after_p = top_p_filter(after_k[None], p)[0]
    said += sampling_checks.wrong_with_filter(
        "f", after_k, after_p, *sampling_checks.bounds_of_p(after_k, p), PHONEMES, "p"
    )
    (must_k, may_k), (must_p, may_p) = (
        sampling_checks.bounds_of_k(scaled, k),
        sampling_checks.bounds_of_p(after_k, p),
    )
    shares = sampling_distribution(logits[None], temperature, k, p)[0]
    said += sampling_checks.wrong_with_distribution("f", shares, scaled, must_k & must_p, may_k & may_p, PHONEMES)
    assert said == ""


# -- SamplingTable --


def table(model, **traits) -> SamplingTable:
    functions = {name: traits.pop(name) for name in list(traits) if callable(traits[name])}
    widget = SamplingTable(model, "rough", **functions)
    for name, value in {"prefix": ids("R"), **traits}.items():
        setattr(widget, name, value)
    return widget


def test_the_table_holds_the_models_own_distribution(model):
    widget = table(model)
    source = torch.tensor([cmudict.letters_to_ids("rough")])
    with torch.no_grad():
        logits = model.decode(torch.tensor([[START, *ids("R")]]), model.encode(source))[0]
    assert array(widget, "logits") == pytest.approx(logits[-1].numpy(), abs=1e-5)
    assert array(widget, "shares") == pytest.approx(logits[-1].softmax(-1).numpy(), abs=1e-6)
    assert array(widget, "chosen") == pytest.approx(logits[0].softmax(-1)[ids("R")].numpy(), abs=1e-6)
    assert widget.results["order"] == sorted(range(V), key=lambda token: -logits[-1, token])
    assert widget.results["filters"] == [KEPT] * V and widget.results["problem"] == ""
    assert widget.results["listed"] == ids("AH") and widget.results["known"]


def test_the_first_filter_that_strikes_a_token_out_is_named(model):
    widget = table(model, temperature=1.5, k=8, p=0.9)
    order, filters = widget.results["order"], widget.results["filters"]
    kept = sum(made == KEPT for made in filters)
    assert [filters[token] for token in order] == [KEPT] * kept + [BY_P] * (8 - kept) + [BY_K] * (V - 8)
    before, shares = array(widget, "before"), array(widget, "shares")
    of_eight = before / before[order[:8]].sum()
    assert of_eight[order[: kept - 1]].sum() < 0.9 <= of_eight[order[:kept]].sum()
    assert shares[order[:kept]] == pytest.approx(before[order[:kept]] / before[order[:kept]].sum(), abs=1e-5)
    assert not shares[order[kept:]].any() and (before[order[kept:]] > 0).all()
    mass = before[order[:kept]].sum()
    assert widget.results["said"].startswith(f"{kept} of 42 tokens kept, with {mass:.3f} of the probability; 34 struck")
    assert widget.results["problem"] == ""


def test_a_filter_that_is_off_is_not_called(model):
    calls = []

    def spy_k(logits, k):
        calls.append(k)
        return top_k_filter(logits, k)

    def spy_p(logits, p):
        calls.append(p)
        return top_p_filter(logits, p)

    def spy_both(logits, temperature, k, p):
        calls.append((temperature, k, p))
        return sampling_distribution(logits, temperature, k, p)

    widget = table(model, sampling_distribution=spy_both, top_k_filter=spy_k, top_p_filter=spy_p)
    assert set(calls) == {(1.0, None, None)}
    calls.clear()
    widget.p = 0.5
    assert calls == [0.5, (1.0, None, 0.5)]


def test_the_model_is_asked_once_a_step(model, monkeypatch):
    widget = table(model)
    asked = []
    monkeypatch.setattr(model, "decode", lambda *a, **k: asked.append(1))
    widget.temperature, widget.k, widget.p, widget.draws, widget.seed = 2.0, 5, 0.5, 100, 3
    assert asked == [] and widget.results["settings"] == [2.0, 5, 0.5, 100, 3]


def test_draws_follow_the_seed_and_only_what_is_kept(model):
    widget = table(model, draws=1000, k=3)
    counts = widget.results["counts"]
    assert sum(counts) == 1000
    assert {token for token, count in enumerate(counts) if count} <= set(widget.results["order"][:3])
    for token in widget.results["order"][:3]:
        share = array(widget, "shares")[token]
        assert abs(counts[token] - 1000 * share) < 5 * math.sqrt(1000 * share * (1 - share)) + 1
    widget.seed = 1
    assert widget.results["counts"] != counts
    widget.seed = 0
    assert widget.results["counts"] == counts
    assert "1,000 draws with seed 0: 3 different tokens" in widget.results["said"]


def test_a_word_is_over_after_its_end_token(model):
    widget = table(model, prefix=[*ids("R AH F"), END])
    assert widget.results["ended"] and "nothing is drawn" in widget.describe()
    with pytest.raises(Exception, match="the end token only at its end"):
        widget.prefix = [END, 5]
    widget.prefix = [5] * 30
    assert widget.results["full"] and len(widget.prefix) == 24


def struck(logits, kept):
    return logits.masked_fill(~kept, NEVER)


def k_of_lowest(logits, k):
    return struck(logits, logits <= logits.topk(k, largest=False).values[..., -1:])


def one_too_few(logits, k):
    return top_k_filter(logits, max(1, k - 1))


def one_too_many(logits, k):
    return top_k_filter(logits, k + 1)


def zeros_for_minus_infinity(logits, k):
    return torch.where(top_k_filter(logits, k) == NEVER, 0.0, logits)


def in_place_of_logits(logits, k):
    return top_k_filter(logits, k).softmax(-1)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (k_of_lowest, "which k = 3 keeps"),
        (one_too_few, "`one_too_few` strikes out AO, which k = 3 keeps."),
        (one_too_many, "`one_too_many` keeps UW, which k = 3 strikes out."),
        (zeros_for_minus_infinity, "which k = 3 strikes out"),
        (in_place_of_logits, "keeps"),
        (lambda logits, k: logits * math.nan, "returned NaN for <pad>, <start> and 40 more."),
        (lambda logits, k: logits + NEVER, "strikes out every token (k = 3)"),
        (lambda logits, k: top_k_filter(logits, k) + 1, "changes the logit of AH, AO and AW"),
        (lambda logits, k: top_k_filter(logits, k)[0], "returned torch.float32 of shape (42,)"),
        (lambda logits, k: logits.topk(k), "returned a topk; a tensor is wanted."),
        (lambda logits, k: logits[k], "stopped with IndexError"),
    ],
)
def test_a_wrong_top_k_is_told_in_words(model, function, said):
    assert said in table(model, k=3, top_k_filter=function).results["problem"]


def without_the_one_that_crosses(logits, p):
    shares, order = logits.softmax(-1).sort(descending=True)
    return struck(logits, torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, shares.cumsum(-1) < p))


def share_above_p(logits, p):
    return struck(logits, logits.softmax(-1) > p)


def unsorted(logits, p):
    shares = logits.softmax(-1)
    return struck(logits, shares.cumsum(-1) - shares < p)


@pytest.mark.parametrize(
    ("function", "p", "said"),
    [
        (without_the_one_that_crosses, 0.6, "strikes out AW, which p = 0.6 keeps: what it keeps has 0.3"),
        (without_the_one_that_crosses, 0.05, "strikes out every token (p = 0.05)"),
        (share_above_p, 0.6, "strikes out every token (p = 0.6)"),
        (unsorted, 0.3, "keeps"),
        (lambda logits, p: logits, 0.5, "which p = 0.5 strikes out"),
    ],
)
def test_a_wrong_top_p_is_told_in_words(model, function, p, said):
    assert said in table(model, p=p, top_p_filter=function).results["problem"]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x, t, k, p: top_k_filter(x / t, k), "less than 0: probabilities are wanted, not logits"),
        (lambda x, t, k, p: (x / t).softmax(-1) * (top_k_filter(x, k) > NEVER), "has to be renormalised to 1"),
        (lambda x, t, k, p: (x / t).softmax(-1), "a share, which the filters strike out"),
        (lambda x, t, k, p: sampling_distribution(x, t, 1, p), "nothing, which the filters keep"),
        (lambda x, t, k, p: sampling_distribution(x, 1.0, k, p), "is wanted: the softmax of the logits after temp"),
        (lambda x, t, k, p: sampling_distribution(x * t, 1.0, k, p), "is wanted: the softmax of the logits after"),
        (lambda x, t, k, p: (x * math.nan).softmax(-1), "returned NaN"),
        (lambda x, t, k, p: None, "returned None; a tensor is wanted"),
    ],
)
def test_a_wrong_distribution_is_told_in_words_and_drawn_from_only_if_it_can_be(model, function, said):
    widget = table(model, temperature=2.0, k=3, draws=10, sampling_distribution=function)
    assert said in widget.results["problem"]
    shares = array(widget, "shares")
    assert bool(widget.results["counts"]) == bool((shares >= 0).all() and shares.sum() > 0)


def test_a_stub_leaves_the_table_usable(model):
    def top_k_filter(logits, k):
        raise NotImplementedError

    widget = table(model, k=3, top_k_filter=top_k_filter)
    assert widget.results["problem"] == "`top_k_filter` is not written yet."
    assert widget.results["filters"] == [KEPT] * V
    assert (array(widget, "shares") > 0).sum() == 3


def test_a_word_that_cannot_be_read_leaves_the_last_one(model):
    widget = table(model)
    widget.word = "r2d2"
    assert "'r2d2' has '2'" in widget.results["problem"] and widget.results["word"] == "rough"
    widget.word = "zzyzzx"
    assert widget.results["problem"] == "" and widget.results["word"] == "zzyzzx"
    assert widget.prefix == [] and not widget.results["known"]
    json.dumps(state_of(widget), allow_nan=False)


def test_a_model_that_fails_is_told(model, monkeypatch):
    def encode(source, source_mask=None):
        raise NotImplementedError

    monkeypatch.setattr(model, "encode", encode)
    widget = SamplingTable(model)
    assert widget.results == {"problem": "`encode` is not written yet."}
    assert widget.describe() == "Table of the next tokens of the word 'knight': `encode` is not written yet."


# -- the lanes --


def batch_of(*words: str):
    source = pad_rows([cmudict.letters_to_ids(word) for word in words])
    return source, pad_rows([listed(word)[0] for word in words])


@pytest.fixture(scope="module")
def untrained():
    """A small model with weights of its own, which seldom ends a word."""
    torch.manual_seed(2)
    return word_model(Size(d_model=32, heads=4, d_ff=64, encoder_layers=1, decoder_layers=2), own=False)


@torch.no_grad()
def test_teacher_forcing_reads_gold_but_for_the_wrong_token(untrained):
    source, gold = batch_of("planet", "cat", "crossing")
    steps, tokens = torch.tensor([2, 1, 4]), torch.tensor(ids("ZH OY NG"))
    put, clean = teacher_forced(untrained, source, gold, Wrong(steps, tokens)), teacher_forced(untrained, source, gold)
    for row, word in enumerate(("planet", "cat", "crossing")):
        said, probabilities = put.row(row)
        own_gold = listed(word)[0]
        step = int(steps[row])
        inputs = [START, *own_gold[:-1]]
        inputs[step] = int(tokens[row])
        memory = untrained.encode(torch.tensor([cmudict.letters_to_ids(word)]))
        shares = untrained.decode(torch.tensor([inputs]), memory)[0].softmax(-1)
        wanted = shares.argmax(-1).tolist()
        wanted[step - 1] = int(tokens[row])
        assert said == wanted and len(said) == len(own_gold)
        assert probabilities == pytest.approx([float(shares[i, token]) for i, token in enumerate(wanted)], abs=1e-5)
        assert clean.row(row)[0][: step - 1] == said[: step - 1]


def test_free_running_is_greedy_decoding(model):
    source, _ = batch_of("planet", "cat", "crossing")
    wanted = greedy_decode(model, source, padding_mask(source, PAD), START, END, PAD, 32)
    assert torch.equal(free_running(model, source).tokens, wanted)


@torch.no_grad()
def test_free_running_goes_on_from_the_wrong_token(untrained):
    source, _ = batch_of("planet", "cat", "crossing")
    steps, tokens = torch.tensor([2, 1, 4]), torch.tensor(ids("ZH OY NG"))
    lane = free_running(untrained, source, Wrong(steps, tokens), most=8)
    for row, word in enumerate(("planet", "cat", "crossing")):
        memory = untrained.encode(torch.tensor([cmudict.letters_to_ids(word)]))
        prefix = [START]
        while END not in prefix and len(prefix) <= 8:
            shares = untrained.decode(torch.tensor([prefix]), memory)[0, -1].softmax(-1)
            token = int(tokens[row]) if len(prefix) == steps[row] else int(shares.argmax())
            assert lane.probabilities[row, len(prefix) - 1] == pytest.approx(float(shares[token]), abs=1e-5)
            prefix.append(token)
        assert lane.row(row)[0] == prefix[1:]
    alone = free_running(untrained, source[:1], given=lane.tokens[:1, :2], most=8)
    assert alone.row()[0] == lane.row()[0]
    assert alone.row()[1] == pytest.approx(lane.row()[1], abs=1e-5)


def test_a_word_that_has_ended_stays_so(model):
    source, _ = batch_of("cat", "planet")
    lane = free_running(model, source, Wrong(torch.tensor([6, 6]), torch.tensor(ids("ZH ZH"))))
    assert lane.row(0)[0] == [*ids("K AE T"), END]
    assert lane.row(1)[0][5] == ids("ZH")[0]


@given(st.lists(st.integers(3, 6), max_size=7), st.lists(st.integers(3, 6), max_size=7))
def test_pairs_are_those_of_the_lesson(gold, said):
    pairs = paired(gold, said)
    assert [mine for mine, _ in pairs if mine is not None] == list(range(len(gold)))
    assert [own for _, own in pairs if own is not None] == list(range(len(said)))
    right = [own is not None and said[own] == gold[mine] for mine, own in pairs if mine is not None]
    assert right == matched(said, gold)


def test_the_interval_is_wilsons():
    assert interval(0.0, 10) == pytest.approx((0, 0.27753), abs=1e-4)
    assert interval(0.5, 100) == pytest.approx((0.40383, 0.59617), abs=1e-4)


@pytest.mark.parametrize(("errors", "way"), [(error_by_position, "same"), (aligned_error_by_position, "aligned")])
def test_the_mean_over_words_counts_each_word_once_at_each_distance(untrained, errors, way):
    words = held_out(40, AFTER + 2)
    found = Experiment(untrained, words, seed=3)
    for (mode, put), lane in found.lanes.items():
        right = torch.zeros(AFTER)
        for row, (_, gold) in enumerate(words):
            said = [token for token in lane[row].tolist() if token != PAD]
            step = int(found.steps[row])
            for distance in range(AFTER):
                place = step + distance
                if way == "aligned":
                    right[distance] += matched(said, gold)[place]
                else:
                    right[distance] += said[place : place + 1] == gold[place : place + 1]
        assert found.accuracy(errors, mode, put).tolist() == pytest.approx((right / len(words)).tolist(), abs=1e-6)


def test_a_wrong_token_is_wrong_for_all_lanes_and_leaves_what_is_before_it(model):
    found = Experiment(model, held_out(40, AFTER + 2))
    for row, step in enumerate(found.steps.tolist()):
        wrong = found.lanes["forced", True][row, step - 1]
        assert wrong == found.lanes["free", True][row, step - 1] or END in found.lanes["free", False][row, : step - 1]
        assert wrong not in (found.gold[row, step - 1], found.lanes["forced", False][row, step - 1])
        for mode in ("forced", "free"):
            assert torch.equal(found.lanes[mode, True][row, : step - 1], found.lanes[mode, False][row, : step - 1])


def test_what_was_replaced_is_counted_where_it_is_said_late(model):
    found = Experiment(model, held_out(60, AFTER + 2))
    answers = [
        (found.lanes["forced", True][row, step].item(), found.gold[row, step].item(), found.gold[row, step - 1].item())
        for row, step in enumerate(found.steps.tolist())
    ]
    wrong = [(said, before) for said, right, before in answers if said != right]
    assert found.said_late() == (len(wrong), sum(said == before for said, before in wrong))
    assert 0 < found.said_late()[1] < found.said_late()[0]


def test_held_out_words_are_of_the_test_part_and_have_one_pronunciation():
    test = {row["word"]: row["pronunciations"] for row in cmudict.load("test")}
    for word, said in held_out(50, 7):
        assert [cmudict.phonemes_to_ids(each) for each in test[word]] == [said] and len(said) >= 7


def test_pronunciations_that_differ_in_stress_alone_are_listed_once():
    assert [len(said) for said in listed("tomato")] == [7, 7]
    assert listed("Knight") == [[*ids("N AY T"), END]] and listed("zzyzzx") == []


# -- ExposureLanes --


def test_without_a_wrong_token_the_lanes_are_those_of_the_model(model):
    widget = ExposureLanes(model, "psychology")
    assert " ".join(widget.results["gold"]) == "S AY K AA L AH JH IY <end>"
    assert widget.results["tokens"] == {"forced": widget.results["gold"], "free": widget.results["gold"]}
    assert widget.results["marks"]["same"] == {"forced": ["right"] * 9, "free": ["right"] * 9}
    assert "Of 9 steps teacher-forced gets 9 right, free-running 9 (same index)." in widget.results["said"]["same"]


def test_one_token_too_many_is_wrong_from_there_on_or_nowhere(model):
    """What the widget is for: the same answer, compared at the same index and aligned."""
    widget = ExposureLanes(model, "psychology")
    widget.step = 3
    assert widget.results["wrong"] == "AY"
    assert " ".join(widget.results["tokens"]["free"]) == "S AY AY K AA L AH JH IY <end>"
    same, aligned = widget.results["marks"]["same"], widget.results["marks"]["aligned"]
    assert same["free"] == ["right", "right", "put in", *["wrong"] * 6, "extra"]
    assert aligned["free"].count("right") == 8 and "wrong" not in aligned["free"]
    assert same["forced"][:3] == ["right", "right", "put in"] and "extra" not in same["forced"]
    assert "free-running 0 (6 without), same index" in widget.results["said"]["same"]
    assert "Free-running is not right again by the end." in widget.results["said"]["same"]
    assert "free-running 6 (6 without), edits aligned" in widget.results["said"]["aligned"]


def test_another_seed_is_another_token_and_never_a_right_one(model):
    widget = ExposureLanes(model, "cat")
    widget.step = 2
    drawn = []
    for widget.seed in range(37):
        drawn.append(widget.results["wrong"])
    assert len(set(drawn)) == 37 and "AE" not in drawn and not set(drawn) & set(cmudict.SPECIAL)


def test_a_step_beyond_the_word_is_its_last_but_one(model):
    widget = ExposureLanes(model, "cat")
    widget.step = 99
    assert widget.results["step"] == widget.results["steps"] == 3


def test_a_word_that_is_not_listed_has_no_gold_and_says_so(model):
    widget = ExposureLanes(model, "blorfing")
    found = widget.results
    assert found["gold"] == [] and found["tokens"]["forced"] == []
    assert set(found["marks"]["same"]["free"]) == {""}
    assert "“blorfing” is not in the dictionary: there is no gold" in found["said"]["same"]
    widget.step = 2
    assert "was put in at step 2" in widget.results["said"]["aligned"]
    assert widget.results["marks"]["aligned"]["free"][1] == "put in"
    json.dumps(state_of(widget), allow_nan=False)


def test_any_listed_pronunciation_can_be_gold(model):
    widget = ExposureLanes(model, "tomato")
    assert widget.results["golds"] == ["T AH M EY T OW", "T AH M AA T OW"]
    widget.chosen = 1
    assert widget.results["gold"][3] == "AA"


def test_nothing_is_put_in_behind_the_end(untrained, monkeypatch):
    ending = exposure.Lane(torch.tensor([[*ids("K AE"), END]]), torch.tensor([[0.5, 0.5, 0.5]]))
    monkeypatch.setattr("crosstalk.widgets.exposure_lanes.free_running", lambda *a, **k: ending)
    widget = ExposureLanes(untrained, "planet")
    widget.step = 5
    assert "On its own the model had ended before step 5" in widget.results["said"]["same"]
    assert widget.results["marks"]["same"]["free"][3:] == ["missing"] * 4


def test_many_words_are_measured_once_with_the_students_functions(model):
    calls = []

    def errors(predicted, gold, pad_id):
        calls.append(1)
        return error_by_position(predicted, gold, pad_id)

    widget = ExposureLanes(model, "cat", errors, aligned_error_by_position)
    widget.words = 60
    assert widget.measured == {} and calls == []
    widget.asked = True
    assert widget.measured["words"] == 60 and widget.measured["problem"] == "" and calls
    shares = {(c["way"], c["mode"], c["put"]): c["shares"] for c in widget.measured["curves"]}
    assert len(shares) == 8
    for put in (True, False):
        assert shares["aligned", "forced", put] == shares["same", "forced", put]
    for curve in widget.measured["curves"]:
        assert all(low <= share <= high for share, (low, high) in zip(curve["shares"], curve["bands"], strict=True))
    first = f"{100 * shares['same', 'free', True][0]:.1f} % ("
    assert first in widget.measured["said"]["same"] and "of 60 words" in widget.describe()
    calls.clear()
    widget.measure()
    assert calls == []
    json.dumps(state_of(widget), allow_nan=False)


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        (lambda p, g, pad: 1 - error_by_position(p, g, pad), "is wanted; what it finds is drawn."),
        (lambda p, g, pad: error_by_position(g, g, pad), "finds 0.000 of the words wrong at place"),
        (lambda p, g, pad: error_by_position(p, g, pad)[:3], "returned shape (3,)"),
        (lambda p, g, pad: 0.5, "returned a float; a tensor of shape"),
        (lambda p, g, pad: (p != g).float().mean(0), "stopped with RuntimeError"),
    ],
)
def test_a_wrong_function_is_told_in_words(model, errors, said):
    widget = ExposureLanes(model, "cat", errors, aligned_error_by_position)
    widget.words = 30
    widget.measure()
    assert said in widget.measured["problem"]
    assert len(widget.measured["curves"]) == 8


def test_a_stub_is_measured_with_the_stand_in(model):
    def error_by_position(predicted, gold, pad_id):
        raise NotImplementedError

    widget = ExposureLanes(model, "cat", error_by_position, aligned_error_by_position)
    widget.words = 30
    widget.measure()
    assert widget.measured["problem"] == "`error_by_position` is not written yet. The figures below are the stand-in's."
