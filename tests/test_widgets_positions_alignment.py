"""What the widgets of lessons 03 and 04 compute and say, without a browser."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crosstalk.stand_ins.lesson_03 import TokenEmbedding, sinusoidal_positions
from crosstalk.widgets import Positions
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
