"""The widgets of lessons 03 and 04 in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from sheets import axe_finds_nothing, read_out, wait_until

from crosstalk.data import cmudict
from crosstalk.models import Size, word_model
from crosstalk.stand_ins.lesson_03 import sinusoidal_positions
from crosstalk.widgets import Alignment, Positions
from crosstalk.widgets.interventions import Forced, decode
from crosstalk.widgets.standalone import mount, settle

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


# -- Positions --


def slots(page: Page) -> str:
    return "".join(page.locator("[data-slot]").all_inner_texts())


def test_the_heat_map_is_read_with_the_keyboard(sheet):
    widget = Positions(sinusoidal_positions)
    mount(sheet, widget)
    sheet.locator(".ctk-stage").focus()
    for key in ("PageDown", "ArrowUp", "ArrowRight", "ArrowRight"):
        sheet.keyboard.press(key)
    settle(sheet)
    assert widget.place == 17
    shown = float(sheet.locator("[data-ctk=value]").inner_text().replace("−", "-"))
    assert shown == pytest.approx(sinusoidal_positions(48, 64)[17, 2].item(), abs=0.006)
    read_out(sheet, "Position 17, dimension 2")
    assert sheet.get_by_role("slider", name="position p").get_attribute("aria-valuetext") == "17"


def test_sliders_change_the_table(sheet):
    widget = Positions(sinusoidal_positions)
    mount(sheet, widget)
    sheet.get_by_role("slider", name="position p").focus()
    sheet.keyboard.press("End")
    settle(sheet)
    assert widget.place == 47
    sheet.get_by_role("slider", name="d_model").focus()
    sheet.keyboard.press("Home")
    wait_until(sheet, ".ctk-subtitle", "48 positions × 4 dimensions")
    sheet.get_by_role("slider", name="length").focus()
    sheet.keyboard.press("Home")
    wait_until(sheet, ".ctk-subtitle", "16 positions × 4 dimensions")
    # The chosen position no longer exists: the last one is shown.
    assert "Position 15" in sheet.locator(".ctk-reading").inner_text()
    assert "Position 15" not in sheet.locator("details").inner_text()
    sheet.locator("summary").click()
    settle(sheet)
    assert sheet.locator("details tbody tr").count() == 11
    last = float(sheet.locator("details tbody tr").last.locator("td").last.inner_text())
    assert last == pytest.approx(2.0)  # two sines² and two cosines²


def test_a_wrong_table_fans_out_and_is_told(sheet):
    def sinusoidal(length, d_model):
        return sinusoidal_positions(length, d_model) * torch.linspace(0, 1, length)[:, None]

    mount(sheet, Positions(sinusoidal))
    assert sheet.locator(".ctk-differs").count() == 2
    assert "depending on where they stand" in sheet.locator(".ctk-differs").last.inner_text()


def test_a_letter_is_moved_with_the_keyboard(sheet):
    widget = Positions(sinusoidal_positions)
    mount(sheet, widget)
    sheet.locator("[data-slot='0']").focus()
    sheet.keyboard.press("ArrowRight")
    sheet.keyboard.press("Space")
    read_out(sheet, "i at place 1, picked up")
    for _ in range(3):
        sheet.keyboard.press("ArrowRight")
    settle(sheet)
    assert slots(sheet) == "lstein" and widget.arrangement() == "lstein"
    assert sheet.locator("[aria-pressed=true]").get_attribute("data-slot") == "4"
    sheet.keyboard.press("Enter")
    assert sheet.locator("[data-slot][aria-pressed=true]").count() == 0
    read_out(sheet, "i put down at place 4: lstein")
    # Without a letter in the hand the arrows move the focus again.
    sheet.keyboard.press("ArrowLeft")
    assert slots(sheet) == "lstein"
    assert sheet.evaluate("document.activeElement.dataset.slot") == "3"


def test_a_letter_is_dragged_with_the_mouse(sheet):
    widget = Positions(sinusoidal_positions)
    mount(sheet, widget)
    sheet.locator("[data-slot='0']").hover()
    sheet.mouse.down()
    for slot in (1, 3):
        sheet.locator(f"[data-slot='{slot}']").hover()
    sheet.mouse.up()
    settle(sheet)
    assert slots(sheet) == "istlen" and widget.order == [1, 2, 3, 0, 4, 5]
    assert sheet.locator(".ctk-held").count() == 0
    assert "5 of the 6" not in sheet.locator(".ctk-verdict").inner_text()
    # A click, and a click elsewhere, do it too; so do keys after a drag.
    sheet.locator("[data-slot='5']").click()
    sheet.locator("[data-slot='0']").click()
    settle(sheet)
    assert slots(sheet) == "nistle"
    sheet.keyboard.press("Space")
    assert sheet.locator(".ctk-held").count() == 1


def test_the_anagram_with_and_without_positions(sheet):
    mount(sheet, Positions(sinusoidal_positions))
    sheet.get_by_role("button", name="silent").click()
    wait_until(sheet, ".ctk-verdict", "5 of the 6 vectors of “silent” do not occur in “listen”")
    assert sheet.locator("[data-moved=new]").count() == 5
    sheet.get_by_role("switch").focus()
    sheet.keyboard.press("Space")
    wait_until(sheet, ".ctk-verdict", "the same 6 vectors as “listen”, in another order")
    assert sheet.locator("[data-moved=same]").count() == 6


def test_an_anagram_that_is_the_word_reversed_has_one_button(sheet):
    mount(sheet, Positions(sinusoidal_positions, word="stressed", anagram="desserts"))
    assert sheet.get_by_role("button", name="desserts").count() == 1
    assert sheet.get_by_role("button", name="reversed").count() == 0


def test_a_stub_is_named_and_the_letters_can_be_moved(sheet):
    def sinusoidal_positions(length, d_model):
        raise NotImplementedError

    mount(sheet, Positions(sinusoidal_positions))
    assert sheet.locator(".ctk-problem").inner_text().endswith("sinusoidal_positions is not written yet.")
    assert sheet.locator("[data-ctk=table]").is_hidden()
    assert sheet.get_by_role("switch").is_disabled()
    sheet.get_by_role("button", name="reversed").click()
    wait_until(sheet, ".ctk-verdict", "“netsil” has the same 6 vectors")
    axe_finds_nothing(sheet)


# -- Alignment --


@pytest.fixture(scope="module")
def model():
    """Untrained, the same every time; its values are large, so that what it reads decides what it says."""
    torch.manual_seed(4)
    size = Size(d_model=32, heads=4, d_ff=64, encoder_layers=2, decoder_layers=3)
    model = word_model(size, own=False)
    with torch.no_grad():
        for layer in model.decoder.layers:
            layer.cross_attention.value.weight *= 8
            layer.cross_attention.query.weight *= 4
    return model


def says(model, word, **intervention):
    return decode(model, cmudict.letters_to_ids(word), cmudict.START, cmudict.END, 20, **intervention)


def names(decoded) -> list[str]:
    return [cmudict.PHONEMES[token] for token in decoded.tokens]


def row_of(page: Page, name: str) -> list[str]:
    """A row of the comparison, without what is left out."""
    return [text for text in page.locator(f"[data-ctk={name}] td").all_inner_texts() if text]


def shown_weights(page: Page) -> list[float]:
    return [float(text.replace("−", "-")) for text in page.locator(".ctk-weight").all_inner_texts()]


def test_a_step_is_chosen_with_the_keyboard_and_both_its_tokens_are_named(sheet, model):
    widget = Alignment(model, "cross")
    mount(sheet, widget)
    wanted = says(model, "cross")
    sheet.locator(".ctk-chip").first.focus()
    sheet.keyboard.press("ArrowRight")
    sheet.keyboard.press("ArrowRight")
    settle(sheet)
    assert widget.step == 3
    tokens = names(wanted)
    named = sheet.locator(".ctk-named").inner_text()
    assert f"Step 3: input y₂ = {tokens[1]}, predicts y₃ = {tokens[2]}." in named
    assert "mean over 4 heads of the cross-attention weight, layer\u00a02" in named
    assert shown_weights(sheet) == pytest.approx(wanted.weights[2].mean(0)[2].tolist(), abs=0.006)
    read_out(sheet, f"Step 3: input y₂ = {tokens[1]}")
    first = sheet.locator(".ctk-chip").first
    assert first.get_attribute("aria-label") == f"Step 1: input <start>, predicts {tokens[0]}"


def test_one_layer_and_head_are_named_as_such(sheet, model):
    widget = Alignment(model, "cross")
    mount(sheet, widget)
    wanted = says(model, "cross")
    sheet.get_by_role("combobox", name="Layer").select_option("0")
    sheet.get_by_role("combobox", name="Head").select_option(label="1")
    settle(sheet)
    assert (widget.layer, widget.head) == (0, 1)
    assert "The bars: cross-attention weight, layer\u00a00, head\u00a01." in sheet.locator(".ctk-named").inner_text()
    assert shown_weights(sheet) == pytest.approx(wanted.weights[0, 1, 0].tolist(), abs=0.006)
    sheet.locator(".ctk-matrix:not(.ctk-compare) tbody tr").nth(4).click()
    settle(sheet)
    assert widget.step == 5
    assert shown_weights(sheet) == pytest.approx(wanted.weights[0, 1, 4].tolist(), abs=0.006)


def test_letters_are_knocked_out_and_brought_back(sheet, model):
    widget = Alignment(model, "cross")
    mount(sheet, widget)
    assert sheet.locator("[data-ctk=now]").count() == 0
    sheet.locator("[data-letter='0']").focus()
    sheet.keyboard.press("ArrowRight")
    sheet.keyboard.press("Space")
    wait_until(sheet, ".ctk-verdict", "With “r” (place 1) knocked out")
    assert widget.knocked == [1]
    wanted = says(model, "cross", knocked_out=[1])
    assert row_of(sheet, "now") == names(wanted) != row_of(sheet, "as-it-is") == names(says(model, "cross"))
    letter = sheet.locator("[data-letter='1']")
    assert letter.get_attribute("aria-pressed") == "true"
    assert letter.get_attribute("aria-label") == "r, place 1, weight 0.00, knocked out"
    marked = sheet.locator("[data-kind]:not([data-kind=same])").count()
    assert marked == widget.results["changed"] > 0
    read_out(sheet, "With “r” (place 1) knocked out")
    axe_finds_nothing(sheet)
    sheet.locator("[data-letter='4']").click()
    wait_until(sheet, ".ctk-verdict", "With “r” (place 1), “s” (place 4) knocked out")
    sheet.get_by_role("button", name="Undo").click()
    wait_until(sheet, ".ctk-verdict", "Nothing is changed yet")
    assert sheet.locator("[data-ctk=now]").count() == 0


def test_weight_is_forced_onto_a_letter_and_decoding_goes_on_from_there(sheet, model):
    widget = Alignment(model, "cross")
    mount(sheet, widget)
    sheet.get_by_label("forces the weight of a step onto it").check()
    sheet.get_by_role("combobox", name="Layer").select_option("1")
    sheet.get_by_role("combobox", name="Head").select_option(label="3")
    sheet.locator(".ctk-chip").nth(1).click()
    wait_until(sheet, ".ctk-forcing", "A click acts on step 2, layer 1, head 3.")
    sheet.locator("[data-letter='2']").click()
    wait_until(sheet, ".ctk-verdict", "With 100 % of the weight of step 2 forced onto “o” (place 2), layer 1, head 3")
    assert widget.forced == [2, 2, 1, 3]
    assert shown_weights(sheet) == [0, 0, 1, 0, 0]
    assert sheet.locator(".ctk-named").inner_text().endswith("forced.")
    slider = sheet.get_by_role("slider", name="share of the weight")
    slider.focus()
    sheet.keyboard.press("ArrowLeft")
    sheet.keyboard.press("ArrowLeft")
    wait_until(sheet, ".ctk-verdict", "With 90 % of the weight")
    wanted = says(model, "cross", forced=Forced(1, 2, 0.9, 1, 3))
    assert shown_weights(sheet) == pytest.approx(wanted.weights[1, 3, 1].tolist(), abs=0.006)
    sheet.get_by_role("switch", name="in every layer").check()
    wait_until(sheet, ".ctk-verdict", "every layer, head 3")
    assert row_of(sheet, "now") == names(says(model, "cross", forced=Forced(1, 2, 0.9, None, 3)))
    assert sheet.locator(".ctk-chip.ctk-forced-step b").inner_text() == row_of(sheet, "now")[1]
    axe_finds_nothing(sheet)
    sheet.get_by_label("knocks it out").check()
    wait_until(sheet, ".ctk-verdict", "Nothing is changed yet")
    assert sheet.locator(".ctk-forcing").is_hidden() and widget.forced == []


def test_a_word_is_typed_and_a_bad_one_told_in_a_sentence(sheet, model):
    widget = Alignment(model, "cross")
    mount(sheet, widget)
    box = sheet.get_by_role("textbox", name="Word")
    box.fill("ca7")
    sheet.keyboard.press("Enter")
    wait_until(sheet, ".ctk-problem", "'ca7' has '7', which no word of the dictionary has")
    assert sheet.locator("[data-letter]").all_inner_texts() == list("cross")
    assert box.input_value() == "ca7"
    box.fill("Cat")
    sheet.get_by_role("button", name="Decode").click()
    sheet.locator(".ctk-problem").wait_for(state="hidden", timeout=5000)
    assert sheet.locator("[data-letter]").all_inner_texts() == list("cat")
    assert row_of(sheet, "as-it-is") == names(says(model, "cat"))


def test_a_model_that_fails_is_told_and_nothing_is_drawn(sheet, model):
    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.decoder = model.decoder
            self.generator = model.generator

        def encode(self, source, source_mask=None):
            raise NotImplementedError

    mount(sheet, Alignment(Broken(), "cross"))
    assert sheet.locator(".ctk-problem").inner_text().endswith("encode is not written yet.")
    assert sheet.locator(".ctk-track").is_hidden()


def test_sixteen_letters_and_twenty_steps_fit_a_phone(sheet, model):
    sheet.set_viewport_size({"width": 360, "height": 700})
    widget = Alignment(model, "characterisation")
    mount(sheet, widget)
    sheet.locator("[data-letter='15']").click()
    wait_until(sheet, ".ctk-verdict", "With “n” (place 15) knocked out")
    assert sheet.evaluate("document.documentElement.scrollWidth") <= 360
    assert len(widget.results["after"]) == 20
