"""What the widgets compute and say, without a browser."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import crosstalk.widgets
from crosstalk.widgets import AttentionStages, Factorisation, HeadViewer, MaskPainter, Predict, student
from crosstalk.widgets.attention_maths import masked_softmax, row_entropy, softmax_gradient
from crosstalk.widgets.attention_stages import WIDTHS, curves
from crosstalk.widgets.base import still_path
from crosstalk.widgets.exhibits import EXHIBITS, examples, letters
from crosstalk.widgets.mask_painter import causal
from crosstalk.widgets.packing import nan_bits, pack, weights_to_bytes
from crosstalk.widgets.standalone import state_of

SOURCES = Path(crosstalk.widgets.__file__).parent


def attention(query, key, value):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    weights = scores.softmax(-1)
    return weights @ value, weights


def masked_attention(query, key, value, mask=None):
    weights = masked_softmax(query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1]), mask)
    return weights @ value, weights


# -- how things travel --


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_a_weight_comes_back_within_two_thousandths_of_its_root(weights):
    sent = np.frombuffer(weights_to_bytes(torch.tensor(weights)), np.uint8)
    assert np.abs(sent / 255 - np.sqrt(np.float32(weights))).max() <= 0.5 / 255 + 1e-6


def test_the_bits_of_nan():
    weights = torch.full((2, 3, 3), 0.25)
    assert nan_bits(weights) == b""
    weights[0, 1, 2] = weights[1, 2, 0] = math.nan
    bits = np.unpackbits(np.frombuffer(nan_bits(weights), np.uint8))[: weights.numel()]
    assert np.flatnonzero(bits).tolist() == [5, 15]
    assert weights_to_bytes(weights)[5] == 0


def test_packed_arrays_lie_where_the_layout_says():
    first, second = torch.arange(6.0).reshape(2, 3).T, torch.tensor([math.nan, -math.inf], dtype=torch.float64)
    layout, sent = pack(first=first, second=second)
    numbers = np.frombuffer(sent, "<f4")
    assert layout == {"first": {"start": 0, "shape": [3, 2]}, "second": {"start": 6, "shape": [2]}}
    assert numbers[:6].tolist() == [0, 3, 1, 4, 2, 5]
    assert math.isnan(numbers[6]) and numbers[7] == -math.inf


@pytest.mark.parametrize("name", EXHIBITS)
def test_the_state_is_plain_json(name):
    json.dumps(state_of(EXHIBITS[name]()), allow_nan=False)


# -- the arithmetic --


def test_the_gradient_is_the_norm_of_the_jacobian():
    scores = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)) * 2
    wanted = [torch.autograd.functional.jacobian(lambda row: row.softmax(-1), row).norm().item() for row in scores]
    assert softmax_gradient(scores.softmax(-1)).tolist() == pytest.approx(wanted, rel=1e-4)


def test_entropy_of_an_even_row_and_of_a_certain_one():
    assert row_entropy(torch.tensor([[0.25] * 4, [0.0, 1.0, 0.0, 0.0]])).tolist() == pytest.approx([math.log(4), 0])


def test_a_masked_softmax_leaves_an_empty_row_at_zero():
    mask = torch.tensor([[True, False, True], [False, False, False]])
    weights = masked_softmax(torch.tensor([[1.0, 50.0, 1.0], [2.0, 3.0, 4.0]]), mask)
    assert weights.tolist() == [[0.5, 0.0, 0.5], [0.0, 0.0, 0.0]]


# -- calling a student's function --


def test_a_stub_is_called_not_written_by_its_own_name():
    def softmax(scores):
        raise NotImplementedError

    def outer(scores):
        return softmax(scores)

    assert student.call(outer, torch.ones(2)).problem == "`softmax` is not written yet."


def test_any_error_is_one_sentence():
    def answer(scores):
        return scores @ torch.ones(7)

    problem = student.call(answer, torch.ones(2, 3)).problem
    assert problem.startswith("`answer` stopped with RuntimeError: ") and "\n" not in problem


def test_inputs_are_copies_and_prints_are_dropped(capfd):
    def answer(scores):
        print("noise")
        scores.zero_()
        return scores

    given_scores = torch.ones(2)
    assert student.call(answer, given_scores).value.sum() == 0
    assert given_scores.tolist() == [1, 1]
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "returned None; two tensors are wanted"),
        (torch.ones(1), "returned a Tensor; two tensors are wanted"),
        ((torch.ones(2, 4), None), "returned None as its weights"),
        ((torch.ones(2, 4), torch.ones(3, 2)), "weights of shape (3, 2); (2, 3) is wanted"),
        ((torch.ones(4), torch.ones(2, 3)), "output of shape (4,); (2, 4) is wanted"),
        ((torch.ones(2, 4), torch.ones(2, 3, dtype=torch.int64)), "weights of torch.int64; floats are wanted"),
    ],
)
def test_what_does_not_look_like_an_attention(returned, said):
    outcome = student.call_attention(lambda: returned, output_shape=(2, 4), weights_shape=(2, 3))
    assert said in outcome.problem


# -- Predict --


def test_a_question_needs_two_choices_explanations_and_an_answer():
    with pytest.raises(ValueError, match="two choices"):
        Predict("?", {"a": "since"}, "a")
    with pytest.raises(ValueError, match="'c' is none of the choices"):
        Predict("?", {"a": "since", "b": "as"}, "c")
    with pytest.raises(ValueError, match="'b' has no explanation"):
        Predict("?", {"a": "since", "b": " "}, "a")


# -- Factorisation --


def sequence_log_prob(log_probs, target):
    return log_probs.gather(1, target[:, None]).sum()


def test_the_sum_with_and_without_the_end_token():
    widget = Factorisation(examples())
    assert widget.log_prob() == pytest.approx(math.log(0.96 * 0.81 * 0.97 * 0.99), abs=1e-5)
    widget.with_end = False
    assert widget.log_prob() == pytest.approx(math.log(0.96 * 0.81 * 0.97), abs=1e-5)


def test_a_right_score_agrees_whatever_is_chosen():
    widget = Factorisation(examples(), score=sequence_log_prob)
    for widget.chosen in range(3):
        for widget.with_end in (True, False):
            assert widget.results["state"] == "agrees"
            assert widget.results["about"] == [widget.chosen, widget.with_end]
            assert f"{widget.log_prob():.4f}".replace("-", "−") in widget.results["said"]


@pytest.mark.parametrize(
    ("score", "state", "said"),
    [
        (lambda p, t: p.gather(1, t[:, None]).mean(), "differs", "more than the sum above"),
        (lambda p, t: p.gather(1, t[:, None]).sum().exp(), "differs", "more than the sum above"),
        (lambda p, t: p.gather(1, t[:, None]).sum() * 2, "differs", "less than the sum above"),
        (lambda p, t: torch.tensor(math.nan), "differs", "gives NaN"),
        (lambda p, t: -math.inf, "differs", "−inf"),
        (lambda p, t: p.gather(1, t[:, None]), "problem", "a tensor of shape (4, 1); one number is wanted"),
        (lambda p, t: None, "problem", "returned None; one number is wanted"),
        (lambda p, t: p[99], "problem", "stopped with IndexError"),
    ],
)
def test_a_wrong_score_is_told_in_words(score, state, said):
    results = Factorisation(examples(), score=score).results
    assert results["state"] == state and said in results["said"]


def test_examples_that_do_not_fit_are_refused_in_words():
    with pytest.raises(ValueError, match="at least one"):
        Factorisation([])
    with pytest.raises(ValueError, match="lacks vocabulary, log_probs"):
        Factorisation([{"word": "a", "tokens": []}])
    cat = examples()[0]
    with pytest.raises(ValueError, match=r"shape \(3, 25\).*\(4, 25\) is wanted"):
        Factorisation([{**cat, "log_probs": cat["log_probs"][:3]}])
    with pytest.raises(ValueError, match="'Q' is not in its vocabulary"):
        Factorisation([{**cat, "tokens": ["K", "Q", "T", "<end>"]}])


def test_a_target_of_one_token_is_never_left_without_any():
    table = examples()[0]["log_probs"][3:]
    widget = Factorisation([{**examples()[0], "tokens": ["<end>"], "log_probs": table}])
    widget.with_end = False
    assert widget.log_prob() == pytest.approx(math.log(0.99), abs=1e-5)


# -- AttentionStages --


def test_the_stages_end_at_pytorchs_own_attention():
    query, key, value = letters(list("cross"))
    widget = AttentionStages(query[..., :3, :], key, value)
    wanted = torch.nn.functional.scaled_dot_product_attention(query[..., :3, :], key, value)
    for widget.head in (0, 1):
        torch.testing.assert_close(widget.stages()["output"].float(), wanted[widget.head])


@pytest.mark.parametrize("scale", [True, False])
def test_a_right_attention_is_said_to_be_right_with_the_switch_on_and_off(scale):
    widget = AttentionStages(*letters(list("cross")), attention=attention)
    widget.scale = scale
    assert widget.results["theirs"] == {
        "right": True,
        "said": "Each row of your weights sums to 1. Weights and output equal the widget's own.",
    }


def test_wrong_attentions_are_told_in_words():
    def columns(q, k, v):
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-2)
        return weights @ v, weights

    def unscaled(q, k, v):
        weights = (q @ k.mT).softmax(-1)
        return weights @ v, weights

    def carries_keys(q, k, v):
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        return weights @ k[..., : v.shape[-1]], weights

    def half(q, k, v):
        output, weights = attention(q, k, v)
        return output, weights / 2

    def broken(q, k, v):
        output, weights = attention(q, k, v)
        return output, weights * math.nan

    word = list("cross")
    said = {
        f.__name__: AttentionStages(*letters(word), tokens_q=word, attention=f).results["theirs"]
        for f in (columns, unscaled, carries_keys, half, broken)
    }
    assert not any(found["right"] for found in said.values())
    assert "columns of your weights sum to 1" in said["columns"]["said"]
    assert "most for query" in said["unscaled"]["said"]
    assert "output differs from weights @ value" in said["carries_keys"]["said"]
    assert "5 of 5 rows of your weights do not sum to 1: the row of 'c' sums to 0.50" in said["half"]["said"]
    assert "NaN, first in the row of 'c'" in said["broken"]["said"]


def test_a_stub_leaves_the_stages_usable():
    def scaled_dot_product_attention(query, key, value):
        raise NotImplementedError

    widget = AttentionStages(*letters(list("cross")), attention=scaled_dot_product_attention)
    assert widget.results["theirs"] == {"problem": "`scaled_dot_product_attention` is not written yet."}
    assert "their_weights" not in widget.results["arrays"] and "weights" in widget.results["arrays"]


def test_without_the_root_entropy_and_gradient_fall_with_width_and_with_it_they_do_not():
    (entropy_on, gradient_on), (entropy_off, gradient_off) = curves()
    for kept in (entropy_on, gradient_on):
        assert kept.min() > 0.9 * kept.max()
    for lost in (entropy_off, gradient_off):
        assert lost[WIDTHS.index(512)] < 0.3 * lost[WIDTHS.index(4)]


def test_inputs_that_do_not_fit_are_refused_in_words():
    query, key, value = letters(list("cross"))
    with pytest.raises(ValueError, match="do not fit"):
        AttentionStages(query, key, value[:, :3])
    with pytest.raises(ValueError, match="must have shape"):
        AttentionStages(query[0], key, value)
    with pytest.raises(ValueError, match="at most 32"):
        AttentionStages(*(torch.zeros(1, 33, 4) for _ in range(3)))
    with pytest.raises(ValueError, match="tokens_q has 2 entries, but there are 5"):
        AttentionStages(query, key, value, tokens_q=["a", "b"])


# -- MaskPainter --


def painter(function=None, **traits):
    word = list("cross")
    widget = MaskPainter(*letters(word), tokens=word, attention=function, mask=causal(5, 5))
    for name, value in traits.items():
        setattr(widget, name, value)
    return widget


def numbers(widget, name):
    place = widget.results["arrays"][name]
    count = math.prod(place["shape"])
    return np.frombuffer(widget.numbers, "<f4")[place["start"] :][:count].reshape(place["shape"])


@pytest.mark.parametrize("function", [None, masked_attention])
def test_a_mask_before_the_softmax_lets_nobody_read_the_future(function):
    widget = painter(function, edited=3)
    assert widget.results["rows"] == ["still", "still", "still", "own", "allowed"]
    assert numbers(widget, "sums") == pytest.approx(1)
    assert not numbers(widget, "weights")[~widget.mask_tensor().numpy()].any()


def test_a_mask_after_the_softmax_does():
    widget = painter(before=False, edited=3)
    assert widget.results["rows"] == ["hidden", "hidden", "hidden", "own", "allowed"]
    assert (numbers(widget, "sums")[:-1] < 0.999).all()


def test_a_function_that_ignores_the_mask_is_seen():
    assert painter(lambda q, k, v, mask: masked_attention(q, k, v), edited=4).results["rows"] == ["hidden"] * 4 + [
        "own"
    ]


def test_without_a_mask_reading_a_later_token_is_told_but_not_illegal():
    assert painter(mask="1" * 25, edited=3).results["rows"] == ["future", "future", "future", "own", "allowed"]


def test_an_empty_row_shows_what_the_students_function_makes_of_it():
    def plain(q, k, v, mask):
        weights = (q @ k.mT).masked_fill(~mask, -math.inf).softmax(-1)
        return weights @ v, weights

    empty_row = "00000" + "1" * 20
    assert np.isnan(numbers(painter(plain, mask=empty_row), "weights")[0]).all()
    assert painter(plain, mask=empty_row).results["rows"][0] == "nan"
    assert not numbers(painter(masked_attention, mask=empty_row), "weights")[0].any()


def test_the_mask_reaches_the_students_function_as_documented():
    seen = []

    def spy(q, k, v, mask):
        seen.append(mask)
        return masked_attention(q, k, v, mask)

    widget = painter(spy)
    assert seen[-1].shape == (1, 1, 5, 5) and seen[-1].dtype == torch.bool
    assert torch.equal(seen[-1][0, 0], causal(5, 5)) and torch.equal(widget.mask_tensor(), causal(5, 5))


def test_fewer_queries_than_keys_are_the_last_ones():
    query, key, value = letters(list("cross"))
    widget = MaskPainter(query[:, 3:], key, value, tokens=list("cross"))
    assert widget.tokens_q == ["s", "s"]
    assert causal(2, 5).tolist() == [[True] * 4 + [False], [True] * 5]
    widget.edited = 3
    assert widget.results["rows"][0] == "own"


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(Exception, match="25 characters"):
        painter(mask="101")
    with pytest.raises(ValueError, match=r"must broadcast to \(queries, keys\) = \(5, 5\)"):
        MaskPainter(*letters(list("cross")), mask=causal(4, 4))
    with pytest.raises(TypeError, match="bool tensor"):
        MaskPainter(*letters(list("cross")), mask=causal(5, 5).float())


# -- HeadViewer --


def test_layers_are_sent_one_at_a_time():
    layers = [torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    widget = HeadViewer(layers=layers)
    for widget.layer in (2, 0):
        assert widget.numbers == weights_to_bytes(layers[widget.layer]) and len(widget.numbers) == 48
        assert widget.results == {"layer": widget.layer, "shape": [2, 4, 6], "outside": 0}


def test_weights_that_are_none_are_counted():
    weights = torch.full((1, 2, 2), 0.5)
    weights[0, 0] = torch.tensor([math.nan, 3.0])
    widget = HeadViewer(weights)
    assert widget.results["outside"] == 1 and widget.missing == bytes([0b10000000])


def test_wrong_weights_are_refused_in_words():
    with pytest.raises(ValueError, match=r"choose one, such as weights\[0\]"):
        HeadViewer(torch.ones(2, 3, 4, 4))
    with pytest.raises(ValueError, match="either weights"):
        HeadViewer()
    with pytest.raises(ValueError, match="several shapes"):
        HeadViewer(layers=[torch.ones(1, 2, 2), torch.ones(1, 3, 3)])
    with pytest.raises(TypeError, match="not NoneType"):
        HeadViewer(layers=[None])


# -- where there is no kernel, and what may not be in the sources --


@pytest.mark.parametrize("name", EXHIBITS)
def test_every_widget_has_a_still_and_words(name):
    widget = EXHIBITS[name]()
    data, _ = widget._repr_mimebundle_()
    assert still_path(name).stat().st_size <= 80_000
    assert len(data["text/plain"]) > 40
    # The still of a question shows another question.
    assert ("image/png" in data) == (name != "predict")


def test_importing_the_package_loads_no_widget_and_no_torch():
    code = "import sys, crosstalk.widgets; print([m for m in ('torch', 'anywidget', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted(SOURCES.glob("*.js")), ids=lambda path: path.name)
def test_javascript_fetches_and_imports_nothing(path):
    text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|\bimport\b\s*[\w{*(\"']|\bfetch\(|XMLHttpRequest|innerHTML", text)


@pytest.mark.parametrize("path", sorted(SOURCES.glob("*.css")), ids=lambda path: path.name)
def test_css_touches_nothing_outside_its_widget(path):
    text = re.sub(r"/\*.*?\*/", "", path.read_text("utf-8"), flags=re.S)
    assert "url(" not in text and "@import" not in text
    scope = ".ctk" if path.stem == "common" else f".ctk.ctk-is-{path.stem} "
    for selectors in re.findall(r"(?:^|[{}])\s*([^{}@;]+?)\s*\{", text):
        for selector in re.split(r",(?![^(]*\))", selectors):
            assert f"{selector.strip()} ".startswith(scope), selector
