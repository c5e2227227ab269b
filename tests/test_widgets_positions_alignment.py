"""What the widgets of lessons 03 and 04 compute and say, without a browser."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from crosstalk.data import cmudict
from crosstalk.layers import fused_attention, use_attention
from crosstalk.models import Size, word_model
from crosstalk.stand_ins.lesson_02 import masked_attention
from crosstalk.stand_ins.lesson_03 import TokenEmbedding, sinusoidal_positions
from crosstalk.stand_ins.lesson_05 import edit_distance
from crosstalk.widgets import Alignment, Positions
from crosstalk.widgets.interventions import Forced, aligned, decode
from crosstalk.widgets.positions import WIDTHS, embeddings, formula, letters_in_order, spread_by_offset


def numbers(widget, name):
    place = widget.results["arrays"][name]
    count = math.prod(place["shape"])
    return np.frombuffer(widget.numbers, "<f4")[place["start"] :][:count].reshape(place["shape"])


# -- Positions: the table --


def test_the_formula_has_the_values_that_one_works_out_by_hand():
    table = formula(3, 4)
    assert table[0].tolist() == [0, 1, 0, 1]
    assert table[2].tolist() == pytest.approx([math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)])


@pytest.mark.parametrize("d_model", WIDTHS)
def test_the_right_table_is_said_to_be_right_at_every_width(d_model):
    widget = Positions(sinusoidal_positions)
    widget.length, widget.d_model = 96, d_model
    assert widget.results["right"] and widget.results["by_offset"] and widget.results["problem"] == ""
    assert numbers(widget, "table") == pytest.approx(sinusoidal_positions(96, d_model).numpy())
    products = numbers(widget, "products")
    assert products[3, 10] == pytest.approx(products[40, 47], abs=1e-3)


def test_the_spread_is_the_largest_range_along_a_diagonal():
    products = torch.zeros(4, 4)
    products[1, 3] = products[3, 1] = -5
    assert spread_by_offset(products) == (5.0, 2)


def halves(length, d_model):
    """All sines, then all cosines."""
    table = sinusoidal_positions(length, d_model)
    return torch.cat([table[:, 0::2], table[:, 1::2]], dim=1)


def sines_only(length, d_model):
    """Sine in every column."""
    table = sinusoidal_positions(length, d_model)
    return table[:, 0::2].repeat_interleave(2, dim=1)


def test_a_wrong_table_is_told_in_words():
    found = Positions(halves).results
    assert not found["right"] and "differs from the formula's, most at position" in found["said"]
    # Its columns are another order of the right ones, so its dot products are the right ones.
    assert found["by_offset"]
    found = Positions(sines_only).results
    assert not found["right"] and not found["by_offset"]
    assert "two positions" in found["curves"] and "depending on where they stand" in found["curves"]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "returned None; a tensor is wanted"),
        (torch.zeros(64, 48), "`given(48, 64)` returned shape (64, 48); (48, 64) is wanted"),
        (torch.zeros(48, 64, dtype=torch.int64), "returned torch.int64; floats are wanted"),
        (torch.full((48, 64), math.nan), "returned nan at position 0, dimension 0; finite numbers are wanted"),
    ],
)
def test_what_is_no_table_is_told_in_words(returned, said):
    def given(length, d_model):
        return returned

    assert said in Positions(given).results["problem"]


def test_a_stub_leaves_the_letters_usable():
    def stub(length, d_model):
        raise NotImplementedError

    widget = Positions(stub)
    assert widget.results["problem"] == "`stub` is not written yet."
    assert "table" not in widget.results["arrays"] and not widget.results["letters"]["with_positions"]
    widget.order = widget.anagram
    assert widget.results["letters"]["new"] == 0
    assert "not written yet" in widget.describe() and "silent" in widget.describe()


# -- Positions: the letters --


def test_without_positions_an_anagram_has_the_same_vectors_and_with_them_it_has_not():
    widget = Positions(sinusoidal_positions)
    widget.order = widget.anagram
    assert widget.arrangement() == "silent"
    assert widget.results["letters"]["new"] == 5  # the i stands where it stood
    assert "5 of the 6 vectors of “silent” do not occur in “listen”, 1 does" in widget.results["letters"]["said"]
    moved = numbers(widget, "moved")
    table = sinusoidal_positions(6, 64)
    assert moved[1] == 0 and moved[0] == pytest.approx(float((table[0] - table[2]).norm()), abs=1e-5)
    widget.with_positions = False
    assert widget.results["letters"]["new"] == 0 and not numbers(widget, "moved").any()
    assert "the same 6 vectors as “listen”, in another order" in widget.results["letters"]["said"]


def test_the_same_letter_twice_changes_nothing():
    widget = Positions(sinusoidal_positions, word="off")
    widget.order = [0, 2, 1]
    assert widget.results["letters"]["new"] == 0
    assert widget.results["letters"]["said"].startswith("“off” stands as it did")


def test_positions_that_are_all_alike_are_seen_through():
    widget = Positions(lambda length, d_model: torch.ones(length, d_model))
    widget.order = widget.anagram
    assert widget.results["letters"]["said"].endswith("although positions are added.")


def test_embeddings_are_as_large_as_those_of_a_fresh_model():
    fresh = TokenEmbedding(29, 128, 0)
    theirs = fresh.table.weight[3:].detach().std() * 128**0.5
    ours = embeddings("abcdefghijklmnopqrstuvwxyz", 128)
    assert float(ours.std()) == pytest.approx(float(theirs), rel=0.1)
    assert torch.equal(embeddings("bob", 8)[0], embeddings("bob", 8)[2])


def test_an_anagram_is_found_and_another_word_refused():
    assert letters_in_order("letter", "rettle") == [5, 1, 2, 3, 0, 4]
    with pytest.raises(ValueError, match="'tables' is not made of the letters of 'letter'"):
        Positions(sinusoidal_positions, word="letter", anagram="tables")


@pytest.mark.parametrize("word", ["a", "two words", "abcdefghijklm", "naïve", ""])
def test_words_that_cannot_be_moved_are_refused_in_words(word):
    with pytest.raises(ValueError, match="give a word of 2 to 12 letters a to z"):
        Positions(sinusoidal_positions, word=word)


def test_settings_that_the_sliders_do_not_have_are_refused():
    widget = Positions(sinusoidal_positions)
    for name, value, said in (
        ("order", [0, 0, 1, 2, 3, 4], "once"),
        ("d_model", 7, "d_model"),
        ("length", 4, "length"),
    ):
        with pytest.raises(Exception, match=said):
            setattr(widget, name, value)


# -- interventions --

SMALL = Size(d_model=32, heads=4, d_ff=64, encoder_layers=2, decoder_layers=3, dropout=0.5)
WORD = cmudict.letters_to_ids("crosstalk")
STEPS = 7


def model_that_reads(attention=fused_attention):
    """Untrained, the same every time; its values are large, so that what it reads decides what it says."""
    torch.manual_seed(4)
    model = word_model(SMALL, own=False, attention=attention)
    with torch.no_grad():
        for layer in model.decoder.layers:
            layer.cross_attention.value.weight *= 8
            layer.cross_attention.query.weight *= 4
    return model


@pytest.fixture(scope="module")
def model():
    return model_that_reads()


def say(model, **intervention):
    # An end id that no token has: all steps are taken.
    return decode(model, WORD, cmudict.START, -1, STEPS, **intervention)


def plainly(model, memory, steps=STEPS, mask=None):
    """A greedy decode without watchers: tokens and their probabilities."""
    tokens, shares = [], []
    for _ in range(steps):
        logits = model.decode(torch.tensor([[cmudict.START, *tokens]]), memory, memory_mask=mask)[0, -1]
        tokens.append(int(logits.argmax()))
        shares.append(logits.softmax(-1)[tokens[-1]])
    return tokens, torch.stack(shares)


@torch.no_grad()
def test_watching_changes_nothing(model):
    model.eval()
    tokens, shares = plainly(model, model.encode(torch.tensor([WORD])))
    seen = say(model)
    assert seen.tokens == tokens
    torch.testing.assert_close(seen.probabilities, shares)
    assert seen.weights.shape == (3, 4, STEPS, len(WORD))
    torch.testing.assert_close(seen.weights.sum(-1), torch.ones(3, 4, STEPS))


@torch.no_grad()
def test_the_weights_are_those_that_the_models_own_modules_return(model):
    unfused = model_that_reads(masked_attention).eval()
    returned = []
    for layer in unfused.decoder.layers:
        layer.cross_attention.register_forward_hook(lambda module, given, result: returned.append(result[1]))
    seen = say(model)
    inputs = torch.tensor([[cmudict.START, *seen.tokens[:-1]]])
    unfused(torch.tensor([WORD]), inputs)
    torch.testing.assert_close(seen.weights, torch.cat(returned))
    torch.testing.assert_close(say(unfused).weights, seen.weights)


@torch.no_grad()
@pytest.mark.parametrize("places", [[0], [3, 4], list(range(8))])
def test_a_letter_knocked_out_is_a_letter_masked_and_a_row_of_the_memory_taken_away(model, places):
    model.eval()
    memory = model.encode(torch.tensor([WORD]))
    kept = [i for i in range(len(WORD)) if i not in places]
    mask = torch.tensor([i in kept for i in range(len(WORD))])[None, None, None]
    found = say(model, knocked_out=places)
    for tokens, shares in (plainly(model, memory, mask=mask), plainly(model, memory[:, kept])):
        assert found.tokens == tokens
        torch.testing.assert_close(found.probabilities, shares)
    assert not found.weights[..., places].any()
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(3, 4, STEPS))


def test_with_all_letters_knocked_out_nothing_is_read(model):
    found = say(model, knocked_out=range(len(WORD)))
    assert not found.weights.any() and bool(found.probabilities.isfinite().all())


@pytest.mark.parametrize("share", [1.0, 0.25])
@pytest.mark.parametrize(("layer", "head"), [(1, 2), (1, None), (None, 3), (None, None)])
def test_forcing_gives_exactly_that_row_and_leaves_what_came_before(model, layer, head, share):
    row, letter = 3, 5
    before, after = say(model), say(model, forced=Forced(row, letter, share, layer, head))
    layers = range(3) if layer is None else [layer]
    heads = range(4) if head is None else [head]
    onto = torch.eye(len(WORD))[letter]
    for at in layers:
        for which in heads:
            if share == 1:
                assert torch.equal(after.weights[at, which, row], onto)
            elif at == layers[0]:  # below it nothing has changed, so its own weights are the ones before
                mixed = (1 - share) * before.weights[at, which, row] + share * onto
                torch.testing.assert_close(after.weights[at, which, row], mixed)
    first = layers[0]
    others = [which for which in range(4) if which not in heads]
    torch.testing.assert_close(after.weights[first, others, row], before.weights[first, others, row])
    assert after.tokens[:row] == before.tokens[:row]
    torch.testing.assert_close(after.probabilities[:row], before.probabilities[:row])
    torch.testing.assert_close(after.weights[:, :, :row], before.weights[:, :, :row])
    torch.testing.assert_close(after.weights.sum(-1), torch.ones(3, 4, STEPS))
    # What was forced is what was carried on.
    assert float((after.probabilities[row] - before.probabilities[row]).abs()) > 1e-6


def test_forcing_all_weight_of_the_first_step_is_hiding_every_other_letter(model):
    others = [i for i in range(len(WORD)) if i != 2]
    forced = decode(model, WORD, cmudict.START, -1, 1, forced=Forced(0, 2))
    hidden = decode(model, WORD, cmudict.START, -1, 1, knocked_out=others)
    assert forced.tokens == hidden.tokens
    torch.testing.assert_close(forced.probabilities, hidden.probabilities)


@pytest.mark.parametrize("intervention", [{}, {"knocked_out": [1]}, {"forced": Forced(2, 4)}])
def test_a_guess_never_changes_the_answer(model, intervention):
    wanted = say(model, **intervention)
    said = say(model).tokens
    for guess in (wanted.tokens, said, said[:3], said[::-1], [7] * 30):
        found = say(model, expected=guess, **intervention)
        assert found.tokens == wanted.tokens
        torch.testing.assert_close(found.probabilities, wanted.probabilities)
        torch.testing.assert_close(found.weights, wanted.weights)


def test_decoding_stops_at_the_end_token_whether_guessed_or_not(model):
    tokens = say(model).tokens
    end = tokens[2]
    first = tokens.index(end) + 1
    for guess in ((), tokens):
        found = decode(model, WORD, cmudict.START, end, STEPS, expected=guess)
        assert found.tokens == tokens[:first] and found.weights.shape[2] == first == len(found.probabilities)


class Plain(nn.Module):
    """An attention that is a module."""

    def forward(self, query, key, value, mask=None):
        return masked_attention(query, key, value, mask)


@pytest.mark.usefixtures("two_threads")
def test_the_model_is_left_as_it_was_even_after_an_error():
    model = model_that_reads()
    use_attention(model, masked_attention)
    module = model.decoder.layers[1].cross_attention
    del module.attention
    module.attention = Plain()  # registered among the modules, not in the instance
    before = [dict(vars(layer.cross_attention)) for layer in model.decoder.layers]
    model.train()
    say(model, forced=Forced(1, 1))
    with pytest.raises(IndexError):
        say(model, forced=Forced(1, 1), expected=[9999])
    assert model.training and torch.get_num_threads() == 2
    assert [dict(vars(layer.cross_attention)) for layer in model.decoder.layers] == before
    assert isinstance(module.attention, Plain)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_cannot_be_done_is_refused_in_words(model):
    with pytest.raises(ValueError, match="no letter 9: the word has 9, counted from 0"):
        say(model, knocked_out=[2, 9])
    with pytest.raises(ValueError, match="no letter 12"):
        say(model, forced=Forced(0, 12))
    deaf = model_that_reads()
    deaf.decoder.layers[1].forward = lambda states, memory, target_mask=None, memory_mask=None: states
    with pytest.raises(RuntimeError, match="layer 1 never called its `attention`"):
        say(deaf)


@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_aligning_takes_as_few_edits_as_there_are(before, after):
    pairs = aligned(before, after)
    edits = sum(i is None or j is None or before[i] != after[j] for i, j in pairs)
    assert edits == edit_distance(list(before), list(after))
    assert [i for i, _ in pairs if i is not None] == list(range(len(before)))
    assert [j for _, j in pairs if j is not None] == list(range(len(after)))


def test_one_insertion_does_not_mark_the_rest():
    assert aligned("KROSS", "KAROSS") == [(0, 0), (None, 1), (1, 2), (2, 3), (3, 4), (4, 5)]


# -- Alignment --


@pytest.fixture
def widget(model):
    return Alignment(model, "crosstalk")


def test_what_is_sent_is_what_was_decoded(model, widget):
    wanted = decode(model, WORD, cmudict.START, cmudict.END, 20)
    assert widget.results["before"] == widget.results["after"] == [cmudict.PHONEMES[t] for t in wanted.tokens]
    assert numbers(widget, "weights") == pytest.approx(wanted.weights.numpy())
    assert widget.results["said"].startswith("Nothing is changed yet: ")
    assert (widget.layers, widget.heads, widget.layer, widget.head) == (3, 4, 2, -1)


def test_knocking_out_is_told_and_undone(model, widget):
    before = widget.results["before"]
    told = []
    for place in range(9):
        widget.knocked = [place]
        wanted = decode(model, WORD, cmudict.START, cmudict.END, 20, knocked_out=[place])
        assert widget.results["after"] == [cmudict.PHONEMES[t] for t in wanted.tokens]
        assert widget.results["said"].startswith(f"With “{'crosstalk'[place]}” (place {place}) knocked out, ")
        assert (widget.results["changed"] == 0) == (widget.results["after"] == before)
        assert ("no token changes. The encoder had read" in widget.results["said"]) == (not widget.results["changed"])
        told.append(widget.results["changed"])
    assert any(told)
    widget.knocked = []
    assert widget.results["after"] == before and widget.results["changed"] == 0


def test_forcing_is_told_with_step_layer_head_and_share(model, widget):
    widget.share = 60
    widget.forced = [3, 5, 1, 2]
    wanted = decode(model, WORD, cmudict.START, cmudict.END, 20, forced=Forced(2, 5, 0.6, 1, 2))
    assert numbers(widget, "weights") == pytest.approx(wanted.weights.numpy(), abs=1e-5)
    said = widget.results["said"]
    assert said.startswith("With 60 % of the weight of step 3 forced onto “t” (place 5), layer 1, head 2, ")
    widget.forced = [1, 0, -1, -1]
    wanted = decode(model, WORD, cmudict.START, cmudict.END, 20, forced=Forced(0, 0, 0.6))
    assert numbers(widget, "weights") == pytest.approx(wanted.weights.numpy(), abs=1e-5)
    assert "every layer, all heads" in widget.results["said"]
    widget.share = 300
    assert widget.share == 100 and numbers(widget, "weights")[:, :, 0, 0] == pytest.approx(1)


def test_an_answer_that_does_not_end_is_told(widget):
    assert len(widget.results["after"]) == 20
    assert widget.results["said"].endswith("No end token came in 20 steps.")


def test_another_word_starts_afresh(widget):
    widget.knocked, widget.step = [8], 4
    widget.word = " Cat "
    assert widget.results["letters"] == list("cat") and widget.results["knocked"] == []
    assert (widget.knocked, widget.forced, widget.step) == ([], [], 1)
    assert numbers(widget, "weights").shape[-1] == 3


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("", "The word is empty: give at least one letter."),
        ("caf\u00e9", "which no word of the dictionary has"),
        ("a" * 17, "has 17 letters: give a word of at most 16."),
    ],
)
def test_a_word_that_cannot_be_read_leaves_the_one_before(widget, word, said):
    weights = widget.numbers
    widget.word = word
    assert said in widget.results["problem"] and widget.results["word"] == "crosstalk"
    assert widget.numbers == weights
    widget.knocked = [1]  # of the word still shown
    assert "“r” (place 1)" in widget.results["said"] and said in widget.results["problem"]
    widget.word = "cat"
    assert widget.results["problem"] == ""


def test_a_first_word_that_cannot_be_read_is_told(model):
    widget = Alignment(model, "h3llo")
    assert "'3'" in widget.results["problem"] and "'3'" in widget.describe()
    widget.knocked = [0]
    assert "'3'" in widget.results["problem"]
    widget.word = "hello"
    assert widget.results["letters"] == list("hello") and "“hello”" in widget.describe()


def test_a_piece_that_is_not_written_is_named():
    model = model_that_reads()

    def cross_attention(*given, **named):
        raise NotImplementedError

    model.decoder.layers[0].cross_attention.forward = cross_attention
    assert Alignment(model, "cat").results["problem"] == "`cross_attention` is not written yet."


def test_a_letter_that_is_not_there_is_told(widget):
    widget.knocked = [40]
    assert "There is no letter 40" in widget.results["problem"]
    with pytest.raises(Exception, match=r"\[step, letter, layer, head\]"):
        widget.forced = [1]
