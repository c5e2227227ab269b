"""The widgets of sampling and of exposure bias in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sheets import axe_finds_nothing, wait_until

from crosstalk.checkpoints import load_model
from crosstalk.data.cmudict import PHONEMES
from crosstalk.stand_ins.lesson_09 import aligned_error_by_position, error_by_position
from crosstalk.widgets import ExposureLanes, SamplingTable
from crosstalk.widgets.standalone import mount, settle

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def model():
    return load_model("cmudict-lesson", own=False)


# -- SamplingTable --


def made(page: Page) -> list[str | None]:
    """What the filters made of each token, in the order of the rows."""
    return [row.get_attribute("data-made") for row in page.locator("tr[data-token]").all()]


def cells(page: Page, token: str) -> list[str]:
    return page.locator(f"tr[data-token='{token}'] > *").all_inner_texts()


def test_a_word_is_said_step_by_step_with_the_keyboard(sheet, model):
    widget = SamplingTable(model, "rough")
    mount(sheet, widget)
    first = sheet.locator("tr[data-token] button").first
    assert first.inner_text() == "R"
    first.focus()
    sheet.keyboard.press("Enter")
    wait_until(sheet, ".ctk-prefix", "R")
    settle(sheet)
    assert widget.prefix == [PHONEMES.index("R")]
    assert "◂ listed" in cells(sheet, "AH")[0]
    sheet.keyboard.press("ArrowDown")  # the focus is in the new table
    assert sheet.evaluate("document.activeElement.textContent") == PHONEMES[widget.results["order"][1]]
    sheet.keyboard.press("Enter")
    settle(sheet)
    assert [PHONEMES[token] for token in widget.prefix] == ["R", "AW"]
    wait_until(sheet, "[aria-live]", "R AW")
    sheet.keyboard.press("Backspace")
    sheet.keyboard.press("Backspace")
    settle(sheet)
    assert widget.prefix == [] and sheet.get_by_role("button", name="Take back").is_disabled()


def test_a_word_ends_at_its_end_token(sheet, model):
    widget = SamplingTable(model, "rough")
    widget.prefix = [PHONEMES.index(token) for token in ("R", "AH", "F")]
    mount(sheet, widget)
    sheet.get_by_role("button", name="<end>: go on with it").click()
    wait_until(sheet, ".ctk-verdict", "The word is over: after <end> nothing is drawn.")
    settle(sheet)
    assert sheet.locator(".ctk-window").is_hidden()
    sheet.get_by_role("button", name="Take back").click()
    settle(sheet)
    assert sheet.locator(".ctk-window").is_visible() and len(widget.prefix) == 3


def test_tokens_struck_out_stay_in_the_table_and_say_by_what(sheet, model):
    widget = SamplingTable(model, "rough")
    widget.prefix = [PHONEMES.index("R")]
    mount(sheet, widget)
    assert made(sheet) == ["kept"] * 42
    assert sheet.locator("output").all_inner_texts() == ["1.00", "off", "off"]
    temperature = sheet.get_by_role("slider", name="temperature")
    temperature.focus()
    for _ in range(10):
        sheet.keyboard.press("ArrowRight")
    wait_until(sheet, "thead", "÷ 1.50")
    sheet.get_by_role("slider", name="top-k").focus()
    sheet.keyboard.press("Home")
    for _ in range(7):
        sheet.keyboard.press("ArrowRight")
    wait_until(sheet, ".ctk-verdict", "8 of 42 tokens kept")
    assert made(sheet) == ["kept"] * 8 + ["top-k"] * 34
    slider = sheet.get_by_role("slider", name="top-p")
    slider.focus()
    for _ in range(10):
        sheet.keyboard.press("ArrowLeft")
    wait_until(sheet, ".ctk-verdict", "3 struck out by top-p")
    settle(sheet)
    assert (widget.temperature, widget.k, widget.p) == (1.5, 8, 0.9)
    assert slider.get_attribute("aria-valuetext") == "p = 0.90"
    assert made(sheet) == ["kept"] * 5 + ["top-p"] * 3 + ["top-k"] * 34
    struck = sheet.locator("tr[data-token='AA'] button")
    assert struck.evaluate("face => getComputedStyle(face).textDecorationLine") == "line-through"
    token, logit, scaled, before, filtered, after, draws = cells(sheet, "AA")
    assert (token, filtered, after, draws) == ("AA", "✕ top-p", "0", "–")
    assert float(scaled) == pytest.approx(float(logit) / 1.5, abs=0.006) and float(before) > 0
    wait_until(sheet, "[aria-live]", "5 of 42 tokens kept")
    axe_finds_nothing(sheet)


def test_draws_are_counted_beside_the_probabilities(sheet, model):
    widget = SamplingTable(model, "rough")
    widget.prefix = [PHONEMES.index("R")]
    mount(sheet, widget)
    sheet.get_by_role("button", name="Draw").click()
    wait_until(sheet, "thead", "of 100")
    settle(sheet)

    def counts() -> list[int]:
        return [int(text.replace(",", "")) for text in sheet.locator("tr[data-token] td:last-child").all_inner_texts()]

    assert sum(counts()) == 100
    assert counts() == [widget.results["counts"][token] for token in widget.results["order"]]
    sheet.get_by_role("combobox", name="how often").select_option(label="1,000")
    wait_until(sheet, "thead", "of 1,000")
    assert sum(counts()) == 1000
    before = counts()
    seed = sheet.get_by_role("spinbutton", name="seed")
    seed.fill("7")
    seed.press("Enter")
    wait_until(sheet, ".ctk-verdict", "1,000 draws with seed 7")
    assert widget.seed == 7 and counts() != before
    seed.press("Backspace")  # which edits the seed and takes no token back
    settle(sheet)
    assert len(widget.prefix) == 1


def test_a_wrong_filter_is_told_and_shown_as_it_is(sheet, model):
    def top_k_filter(logits, k):
        return logits.masked_fill(logits > logits.topk(k, largest=False).values[..., -1:], float("-inf"))

    widget = SamplingTable(model, "rough", top_k_filter=top_k_filter)
    widget.k = 2
    mount(sheet, widget)
    assert "which k = 2 keeps." in sheet.locator(".ctk-problem").inner_text()
    assert made(sheet) == ["top-k"] * 40 + ["kept"] * 2
    sheet.get_by_role("slider", name="top-k").focus()
    sheet.keyboard.press("End")
    sheet.locator(".ctk-problem").wait_for(state="hidden", timeout=5000)


def test_a_word_is_typed_and_a_bad_one_told(sheet, model):
    widget = SamplingTable(model, "rough")
    mount(sheet, widget)
    box = sheet.get_by_role("textbox", name="Word")
    box.fill("r2")
    sheet.keyboard.press("Enter")
    wait_until(sheet, ".ctk-problem", "'r2' has '2', which no word of the dictionary has")
    box.fill("blorfing")
    sheet.get_by_role("button", name="Show").click()
    wait_until(sheet, ".ctk-verdict", "“blorfing” is not in the dictionary, so no token is marked as listed.")
    assert sheet.locator("tr[data-token] button").first.inner_text() == "B"
    assert sheet.locator(".ctk-listed").count() == 0


# -- ExposureLanes --


def lane(page: Page, name: str) -> list[str]:
    return page.locator(f"tr[data-lane={name}] b").all_inner_texts()


def marks(page: Page, name: str) -> list[str | None]:
    return [cell.get_attribute("data-mark") for cell in page.locator(f"tr[data-lane={name}] td").all()]


def test_a_wrong_token_is_put_in_with_the_keyboard_and_lanes_are_aligned(sheet, model):
    widget = ExposureLanes(model, "psychology")
    mount(sheet, widget)
    assert lane(sheet, "gold") == lane(sheet, "forced") == lane(sheet, "free") == widget.results["gold"]
    slider = sheet.get_by_role("slider", name="A wrong token at")
    assert slider.get_attribute("aria-valuetext") == "nowhere"
    slider.focus()
    for _ in range(3):
        sheet.keyboard.press("ArrowRight")
    wait_until(sheet, ".ctk-verdict", "AY is put in at step 3, where K is right.")
    settle(sheet)
    assert widget.step == 3 and slider.get_attribute("aria-valuetext") == "step 3"
    assert marks(sheet, "free") == ["right", "right", "put in", *["wrong"] * 6, "extra"]
    assert sheet.locator("tr[data-lane=free] td").nth(3).inner_text().split("\n")[:2] == ["K", "✗ wrong"]
    assert sheet.locator("tr[data-lane=forced] td").nth(2).inner_text().split("\n")[1] == "! put in"
    wait_until(sheet, "[aria-live]", "free-running 0 (6 without), same index")
    axe_finds_nothing(sheet)
    sheet.get_by_role("switch", name="edit-aligned").check()
    wait_until(sheet, ".ctk-verdict", "free-running 6 (6 without), edits aligned")
    settle(sheet)
    assert marks(sheet, "free").count("right") == 8 and widget.aligned
    assert len(marks(sheet, "free")) == len(marks(sheet, "forced")) == len(widget.results["pairs"]["aligned"])
    sheet.get_by_role("button", name="Another").click()
    settle(sheet)
    assert widget.seed == 1 and sheet.get_by_role("spinbutton", name="seed").input_value() == "1"
    assert sheet.locator("td[data-mark='put in'] b").all_inner_texts() == [widget.results["wrong"]] * 2


def test_many_words_are_measured_on_request_and_drawn_both_ways(sheet, model):
    widget = ExposureLanes(model, "cat", error_by_position, aligned_error_by_position)
    widget.words = 60
    mount(sheet, widget)
    assert sheet.locator(".ctk-plotted").is_hidden()
    sheet.get_by_role("button", name="Measure 60 held-out words").click()
    wait_until(sheet, ".ctk-plain caption", "Right, in % of 60 words, with 95 % intervals")
    settle(sheet)
    assert sheet.locator("path[data-curve]").count() == 4
    shown = {}
    for way in ("same", "aligned"):
        sheet.locator(f".ctk-plain[data-way={way}]").wait_for(timeout=5000)
        wanted = [c["shares"] for c in widget.measured["curves"] if c["way"] == way and c["put"]]
        for distance in range(5):
            row = sheet.locator(".ctk-plain tbody tr").nth(distance).locator("td").all_inner_texts()
            figures = [float(text.split()[0]) for text in row]
            assert figures == pytest.approx([100 * shares[distance] for shares in wanted], abs=0.051)
        shown[way] = sheet.locator(".ctk-found").inner_text()
        axe_finds_nothing(sheet)
        sheet.get_by_role("switch", name="edit-aligned").check()
    assert "same index" in shown["same"] and "that is one token too many" in shown["aligned"]
    assert sheet.get_by_role("button", name="Measure").count() == 0


def test_a_stub_is_told_beside_the_figures(sheet, model):
    def error_by_position(predicted, gold, pad_id):
        raise NotImplementedError

    widget = ExposureLanes(model, "cat", error_by_position, aligned_error_by_position)
    widget.words = 30
    mount(sheet, widget)
    sheet.get_by_role("button", name="Measure").click()
    wait_until(sheet, ".ctk-differs", "error_by_position is not written yet. The figures below are the stand-in's.")
    assert sheet.locator("path[data-curve]").count() == 4


def test_words_without_gold_and_with_two(sheet, model):
    widget = ExposureLanes(model, "cat")
    mount(sheet, widget)
    box = sheet.get_by_role("textbox", name="Word")
    box.fill("blorfing")
    sheet.keyboard.press("Enter")
    wait_until(sheet, ".ctk-verdict", "“blorfing” is not in the dictionary: there is no gold")
    assert sheet.locator("tr[data-lane=gold]").count() == sheet.locator("tr[data-lane=forced]").count() == 0
    assert set(marks(sheet, "free")) == {""}
    box.fill("tomato")
    sheet.get_by_role("button", name="Show").click()
    wait_until(sheet, "tr[data-lane=gold]", "EY")
    sheet.get_by_role("combobox", name="Gold").select_option(label="T AH M AA T OW")
    wait_until(sheet, "tr[data-lane=gold]", "AA")
    assert widget.chosen == 1
    box.fill("c7")
    sheet.keyboard.press("Enter")
    wait_until(sheet, ".ctk-problem", "'c7' has '7'")
    assert lane(sheet, "gold")[0] == "T"


@pytest.mark.parametrize("make", [SamplingTable, ExposureLanes])
def test_both_fit_a_phone(sheet, model, make):
    sheet.set_viewport_size({"width": 360, "height": 700})
    widget = make(model, "characterization")
    if isinstance(widget, ExposureLanes):
        widget.words = 30
        widget.step = 4
        widget.measure()
    mount(sheet, widget)
    assert sheet.evaluate("document.documentElement.scrollWidth") <= 360
    assert sheet.locator(".ctk-verdict").inner_text()
