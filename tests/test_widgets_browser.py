"""The widgets in a real browser: keyboard, themes, narrow pages, screen readers, the way to Python and back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from sheets import read_out, wait_until

from crosstalk.widgets import AttentionStages, Factorisation, HeadViewer, MaskPainter, Predict
from crosstalk.widgets.base import CourseWidget
from crosstalk.widgets.exhibits import EXHIBITS, WORD, examples, letters, several_heads
from crosstalk.widgets.standalone import mount, settle

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def set_theme(page: Page, dark: bool) -> None:
    page.evaluate("dark => { document.body.dataset.jpThemeLight = String(!dark) }", dark)
    settle(page)


# -- what holds for all --


@pytest.mark.parametrize("name", EXHIBITS)
def test_axe_finds_nothing_in_light_or_dark(sheet, name):
    mount(sheet, EXHIBITS[name]())
    sheet.evaluate("() => document.querySelectorAll('details').forEach(d => { d.open = true })")
    for dark in (False, True):
        set_theme(sheet, dark)
        found = Axe().run(sheet)
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("name", EXHIBITS)
def test_nothing_is_wider_than_a_phone(sheet, name):
    sheet.set_viewport_size({"width": 360, "height": 700})
    mount(sheet, EXHIBITS[name]())
    assert sheet.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("name", EXHIBITS)
def test_jupyter_leaves_the_keys_of_every_control_alone(sheet, name):
    mount(sheet, EXHIBITS[name]())
    left = sheet.evaluate(
        """() => [...document.querySelectorAll("#widget *")]
            .filter(e => e.tabIndex >= 0 || e.hasAttribute("tabindex"))
            .filter(e => e.getAttribute("data-lm-suppress-shortcuts") !== "true").map(e => e.outerHTML)"""
    )
    assert left == []


@pytest.mark.parametrize("name", EXHIBITS)
def test_tab_reaches_few_stops_and_each_shows_where_it_is(sheet, name):
    mount(sheet, EXHIBITS[name]())
    seen = []
    for _ in range(40):
        sheet.keyboard.press("Tab")
        stop = sheet.evaluate(
            """() => { const e = document.activeElement; if (e === document.body) return null;
                const style = getComputedStyle(e);
                return [e.tagName + e.textContent.slice(0, 30) + e.className,
                    style.outlineStyle, style.outlineWidth] }"""
        )
        if stop is None:
            break
        seen.append(stop)
    assert 1 <= len(seen) <= 16, seen
    assert all(style == "solid" and width == "3px" for _, style, width in seen), seen


def test_motion_stops_for_those_who_ask(sheet):
    mount(sheet, EXHIBITS["factorisation"]())
    moves = "getComputedStyle(document.querySelector('.ctk-bar')).transitionDuration"
    assert sheet.evaluate(moves) != "0s"
    sheet.emulate_media(reduced_motion="reduce")
    assert sheet.evaluate(moves) == "0s"


@pytest.mark.parametrize("dark", [False, True])
def test_colours_keep_their_order_in_grey(sheet, dark):
    common = (Path(__file__).parents[1] / "crosstalk/widgets/common.js").read_text("utf-8")
    maps = sheet.evaluate(f"dark => {{ {common}; return [colours('weights', dark), colours('signed', dark)] }}", dark)

    def greys(colours):
        linear = [[((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb] for rgb in colours]
        return [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in linear]

    weights = greys(maps[0])[::16]
    assert weights == sorted(weights, reverse=not dark)
    signed = greys(maps[1])
    middle = signed[112:144:16]
    assert (max(middle) < min(signed[0], signed[-1])) if dark else (min(middle) > max(signed[0], signed[-1]))


def test_a_view_that_is_gone_watches_the_theme_no_more(sheet):
    mount(sheet, EXHIBITS["predict"]())
    sheet.evaluate("window.gone.abort()")
    set_theme(sheet, True)
    assert sheet.locator(".ctk").get_attribute("data-ctk-theme") == "light"


# -- Predict --


def test_a_question_is_answered_with_the_keyboard(sheet):
    widget = EXHIBITS["predict"]()
    mount(sheet, widget)
    sheet.keyboard.press("Tab")
    sheet.keyboard.press("Space")
    sheet.keyboard.press("Tab")
    sheet.keyboard.press("Enter")
    assert "✗ Not this one\n\nThey weigh 0 afterwards" in sheet.locator(".ctk-told").inner_text()
    assert sheet.locator(".ctk-mark").first.inner_text() == "✗ not this one"
    read_out(sheet, "Not this one.")
    sheet.keyboard.press("Shift+Tab")
    sheet.keyboard.press("ArrowDown")
    sheet.keyboard.press("Tab")
    sheet.keyboard.press("Enter")
    assert "✓ Correct\n\nThe pads took a share" in sheet.locator(".ctk-told").inner_text()
    assert sheet.get_by_text("What about the other choices?").is_visible()
    settle(sheet)
    assert widget.answers == ["Yes: pads weigh 0", "No"]


def test_only_code_and_emphasis_are_markup(sheet):
    choices = {"<b>bold</b>": "an `<i>` stays *as* it is: 2 * 3 * 4", "other": "no"}
    mount(sheet, Predict("<img src=x onerror=alert(1)> `code` *not* 3 * 4?", choices, "other"))
    assert sheet.locator("legend").inner_text() == "<img src=x onerror=alert(1)> code not 3 * 4?"
    assert sheet.locator("legend code").inner_text() == "code" and sheet.locator("legend em").inner_text() == "not"
    assert sheet.locator("#widget img, .ctk-choice b").count() == 0


# -- Factorisation --


def shown_sum(page: Page) -> float:
    return float(page.locator("[data-ctk=sum]").inner_text().replace("−", "-"))


def test_steps_with_arrow_keys_and_space(sheet):
    widget = Factorisation(examples(), score=lambda p, t: p.gather(1, t[:, None]).sum())
    mount(sheet, widget)
    assert shown_sum(sheet) == pytest.approx(math.log(0.96), abs=1e-3)
    sheet.locator(".ctk-chip").first.focus()
    sheet.keyboard.press("ArrowRight")
    settle(sheet)
    assert shown_sum(sheet) == pytest.approx(math.log(0.96 * 0.81), abs=1e-3)
    sheet.keyboard.press("Space")
    sheet.keyboard.press("Space")
    settle(sheet)
    assert shown_sum(sheet) == pytest.approx(widget.log_prob(), abs=1e-4)
    assert sheet.get_by_text("the same as the sum above").is_visible()
    read_out(sheet, "Token 4 of 4, <end>")
    sheet.keyboard.press("ArrowLeft")
    settle(sheet)
    assert sheet.locator("[aria-current=step]").inner_text() == "T"


def test_the_end_token_can_be_left_out_and_the_students_sum_follows(sheet):
    widget = Factorisation(examples(), score=lambda p, t: p.gather(1, t[:, None]).sum())
    mount(sheet, widget)
    sheet.get_by_role("switch").focus()
    sheet.keyboard.press("Space")
    wait_until(sheet, ".ctk-agrees", f"{math.log(0.96 * 0.81 * 0.97):.4f}".replace("-", "−"))
    assert sheet.locator(".ctk-chip").all_inner_texts() == ["K", "AE", "T"]
    assert widget.with_end is False


def test_another_pronunciation_is_chosen(sheet):
    widget = Factorisation(examples())
    mount(sheet, widget)
    sheet.get_by_role("combobox", name="Word").select_option(label="close")
    settle(sheet)
    sheet.get_by_role("combobox", name="Pronunciation").select_option(label="near")
    settle(sheet)
    assert sheet.locator(".ctk-chip").all_inner_texts() == ["K", "L", "OW", "S", "<end>"]
    assert sheet.locator(".ctk-plain").first.get_by_text("▸ near").is_visible()


def test_the_widget_says_what_is_not_written_and_stays_usable(sheet):
    def sequence_log_prob(log_probs, target):
        raise NotImplementedError

    mount(sheet, Factorisation(examples(), score=sequence_log_prob))
    assert sheet.locator(".ctk-problem").inner_text().endswith("sequence_log_prob is not written yet.")
    sheet.get_by_role("button", name="Next").click()
    settle(sheet)
    assert shown_sum(sheet) == pytest.approx(math.log(0.96 * 0.81), abs=1e-3)


# -- AttentionStages --


def attention(query, key, value):
    weights = (query @ key.mT / math.sqrt(query.shape[-1])).softmax(-1)
    return weights @ value, weights


def test_rows_are_read_with_the_keyboard(sheet):
    mount(sheet, AttentionStages(*letters(WORD), tokens_q=WORD))
    sheet.locator("[data-ctk=weights] tbody tr").first.focus()
    sheet.keyboard.press("ArrowDown")
    assert "Query “r”" in sheet.locator(".ctk-reading").inner_text()
    assert sheet.locator("tr.ctk-marked th").all_inner_texts() == ["r"] * 5
    read_out(sheet, "Query “r”: scores")
    assert sheet.locator("[data-ctk=weights] tbody tr[tabindex='0']").count() == 1


def test_the_slider_goes_through_python(sheet):
    mount(sheet, AttentionStages(*letters(WORD), tokens_q=WORD))
    slider = sheet.get_by_role("slider")
    assert slider.get_attribute("aria-valuetext") == "dₖ = 64"
    slider.focus()
    sheet.keyboard.press("End")
    wait_until(sheet, ".ctk-drawn", "At dₖ = 512")
    undivided = sheet.locator(".ctk-drawn").inner_text().split("divided, ")[1]
    assert float(undivided.split()[0]) < 0.3
    assert slider.get_attribute("aria-valuetext") == "dₖ = 512"


def test_the_switch_and_the_heads(sheet):
    widget = AttentionStages(*letters(WORD), tokens_q=WORD)
    mount(sheet, widget)
    sheet.get_by_role("switch").focus()
    sheet.keyboard.press("Space")
    wait_until(sheet, "caption", "2  not divided")
    sheet.get_by_role("combobox", name="Head").select_option("1")
    settle(sheet)
    assert widget.head == 1 and widget.scale is False
    first = sheet.locator("[data-ctk=weights] tbody td").first.inner_text()
    assert float(first) == pytest.approx(widget.stages()["weights"][0, 0].item(), abs=0.006)


def test_their_weights_are_drawn_and_judged(sheet):
    mount(sheet, AttentionStages(*letters(WORD), tokens_q=WORD, attention=attention))
    assert sheet.locator("[data-ctk=their_weights]").is_visible()
    assert "Each row of your weights sums to 1." in sheet.locator(".ctk-said").inner_text()


def test_nan_is_shown_as_such(sheet):
    def attention(query, key, value):
        weights = query @ key.mT * math.nan
        return weights @ value, weights

    mount(sheet, AttentionStages(*letters(WORD), tokens_q=WORD, attention=attention))
    assert sheet.locator("[data-ctk=their_weights] .ctk-cell").first.inner_text() == "NaN"
    assert "NaN" in sheet.locator(".ctk-said").inner_text()


# -- MaskPainter --


def cell(page: Page, query: int, key: int, keys: int = 5):
    return page.locator(f"[data-cell='{query * keys + key}']")


def test_a_mask_is_painted_with_the_keyboard(sheet):
    word = list("cross")
    widget = MaskPainter(*letters(word), tokens=word)
    mount(sheet, widget)
    cell(sheet, 0, 0).focus()
    sheet.keyboard.press("ArrowRight")
    sheet.keyboard.press("ArrowDown")
    sheet.keyboard.press("Space")
    read_out(sheet, "query r, key r: hidden")
    settle(sheet)
    assert not widget.mask_tensor()[1, 1] and widget.mask_tensor().sum() == 24
    assert cell(sheet, 1, 1).get_attribute("aria-label") == "query r, key r: hidden"
    for _ in range(4):
        sheet.keyboard.press("ArrowLeft")
    sheet.keyboard.press("Enter")
    settle(sheet)
    assert not widget.mask_tensor()[0, 2]


def test_a_mask_is_painted_with_the_mouse(sheet):
    word = list("cross")
    widget = MaskPainter(*letters(word), tokens=word)
    mount(sheet, widget)
    cell(sheet, 0, 1).hover()
    sheet.mouse.down()
    cell(sheet, 0, 2).hover()
    cell(sheet, 0, 3).hover()
    sheet.mouse.up()
    cell(sheet, 0, 4).hover()
    settle(sheet)
    assert widget.mask_tensor()[0].tolist() == [True, False, False, False, True]


def test_a_finger_turns_a_cell_when_it_taps_not_when_it_scrolls(chromium):
    context = chromium.new_context(has_touch=True, viewport={"width": 360, "height": 500})
    page = context.new_page()
    word = list("cross")
    widget = MaskPainter(*letters(word), tokens=word)
    mount(page, widget)
    cell(page, 1, 2).dispatch_event("pointerdown", {"pointerType": "touch", "button": 0, "bubbles": True})
    settle(page)
    assert widget.mask == "1" * 25
    cell(page, 1, 2).tap()
    settle(page)
    assert widget.mask_tensor().flatten().tolist() == [i != 7 for i in range(25)]
    context.close()


def test_impossible_and_unknown_tokens_are_drawn(sheet):
    cat = examples()[0]
    table = cat["log_probs"].clone()
    table[1] = -math.inf
    table[2] = math.nan
    mount(sheet, Factorisation([{**cat, "log_probs": table}]))
    sheet.get_by_role("button", name="Next").click()
    settle(sheet)
    assert sheet.locator("[data-ctk=sum]").inner_text() == "−∞"
    sheet.get_by_role("button", name="Next").click()
    settle(sheet)
    assert sheet.locator("[data-ctk=sum]").inner_text() == "NaN"


def test_buttons_empty_rows_and_illegal_influence(sheet):
    word = list("cross")
    widget = MaskPainter(*letters(word), tokens=word)
    mount(sheet, widget)
    sheet.get_by_role("button", name="causal").click()
    wait_until(sheet, ".ctk-said", "1 of 5 rows move, none of them illegally.")
    sheet.get_by_label("after the softmax").check()
    wait_until(sheet, ".ctk-said", "5 of 5 rows move, 4 of them illegally.")
    wait_until(sheet, ".ctk-said", "4 of 5 rows do not sum to 1.")
    sheet.get_by_label("before the softmax").check()
    sheet.get_by_label("number of padded keys").fill("5")
    sheet.get_by_role("button", name="hide padding").click()
    wait_until(sheet, ".ctk-said", "5 rows are empty: all weights 0.")
    assert widget.mask == "0" * 25
    sheet.get_by_role("button", name="all", exact=True).click()
    sheet.get_by_role("button", name="hide padding").click()
    sheet.get_by_role("combobox", name="Replace token").select_option(label="1: r")
    wait_until(sheet, ".ctk-bars caption", "“r” (place 1)")


def test_the_students_masked_attention_may_fail(sheet):
    def masked_attention(query, key, value, mask=None):
        if not mask.all():
            raise ValueError("no masks yet")
        return attention(query, key, value)

    word = list("cross")
    mount(sheet, MaskPainter(*letters(word), tokens=word, attention=masked_attention))
    assert sheet.locator(".ctk-problem").is_hidden()
    sheet.get_by_role("button", name="causal").click()
    wait_until(sheet, ".ctk-problem", "masked_attention stopped with ValueError: no masks yet")
    sheet.get_by_role("button", name="all", exact=True).click()
    sheet.locator(".ctk-problem").wait_for(state="hidden", timeout=5000)
    assert sheet.get_by_text("Every row sums to 1.").is_visible()


# -- HeadViewer --


def test_heads_are_chosen_and_read_with_the_keyboard(sheet):
    word = list("correspondence")
    weights = several_heads(len(word))
    mount(sheet, HeadViewer(weights, word))
    sheet.get_by_role("button", name="head 0").focus()
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        sheet.keyboard.press(key)
    assert sheet.locator("[aria-pressed=true] b").inner_text().startswith("head 2")
    read_out(sheet, "Head 2, mostly the first token.")
    sheet.locator(".ctk-large tbody tr").nth(0).focus()
    sheet.keyboard.press("ArrowDown")
    read_out(sheet, "query “o” (place 1)")
    assert float(sheet.locator("[data-ctk=weight]").inner_text()) == pytest.approx(weights[2, 1].max().item(), abs=0.01)


def test_a_large_head_has_a_cursor(sheet):
    weights = several_heads(40, heads=2)
    mount(sheet, HeadViewer(weights))
    sheet.locator(".ctk-stage").focus()
    for key in ("PageDown", "ArrowDown", "Home", "ArrowRight"):
        sheet.keyboard.press(key)
    assert "query “11” (place 11) → key “1” (place 1)" in sheet.locator(".ctk-reading").inner_text()
    shown = float(sheet.locator("[data-ctk=weight]").inner_text())
    assert shown == pytest.approx(weights[0, 11, 1].item(), abs=0.006)
    assert Axe().run(sheet).violations_count == 0


def test_one_layer_at_a_time(sheet):
    widget = HeadViewer(layers=[torch.eye(6).expand(3, 6, 6), torch.eye(6).roll(1, 0).expand(3, 6, 6)])
    mount(sheet, widget)
    assert sheet.locator(".ctk-head-remark").first.inner_text() == "mostly itself"
    sheet.get_by_role("combobox", name="Layer").select_option("1")
    wait_until(sheet, ".ctk-head-remark", "mostly the token before")
    assert widget.layer == 1


def test_nan_and_weights_that_are_none_are_told(sheet):
    weights = torch.full((2, 3, 3), 1 / 3)
    weights[0, 1] = math.nan
    weights[1, 0, 0] = -2.0
    mount(sheet, HeadViewer(weights, list("abc")))
    problem = sheet.locator(".ctk-problem").inner_text()
    assert "3 weights are NaN" in problem and "1 weights lie outside 0…1" in problem
    assert sheet.locator(".ctk-large .ctk-cell").nth(3).inner_text() == "NaN"


def test_the_canvas_follows_the_theme(sheet):
    mount(sheet, EXHIBITS["head_viewer"]())
    corner = "[...document.querySelector('.ctk-head canvas').getContext('2d').getImageData(13, 0, 1, 1).data]"
    light = sheet.evaluate(corner)
    set_theme(sheet, True)
    dark = sheet.evaluate(corner)
    assert sum(light[:3]) > 600 and sum(dark[:3]) < 200


@pytest.mark.parametrize("name", EXHIBITS)
def test_a_second_view_starts_where_the_first_is(sheet, name):
    widget: CourseWidget = EXHIBITS[name]()
    mount(sheet, widget)
    before = sheet.locator(".ctk-body").inner_text()
    sheet.evaluate(
        """async esm => { const url = URL.createObjectURL(new Blob([esm], {type: "text/javascript"}));
            const module = await import(url); const el = document.createElement("div"); el.id = "second";
            document.querySelector("main").append(el);
            await module.default.render({model: window.model, el}); }""",
        str(widget._esm),
    )
    settle(sheet)
    assert sheet.locator("#second .ctk-body").inner_text() == before
