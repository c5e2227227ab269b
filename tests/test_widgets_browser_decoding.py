"""The widgets of a decode and of a beam search in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sheets import axe_finds_nothing, wait_until

from crosstalk import my_model
from crosstalk.checkpoints import load_model
from crosstalk.stand_ins.lesson_08 import beam_search
from crosstalk.widgets import BeamTree, DecodeSteps
from crosstalk.widgets.standalone import mount, settle

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def model():
    return load_model("cmudict-lesson", own=False)


# -- DecodeSteps --


def states(page: Page, row: str, index: int = 0) -> list[str]:
    """What becomes of the places of one row."""
    cells = page.locator(f"[data-row={row}]").nth(index).locator("td")
    return [cells.nth(i).get_attribute("data-state") or "" for i in range(cells.count())]


def figure(page: Page, row: str, column: str) -> float:
    return float(page.locator(f".ctk-figures [data-row={row}] [data-col={column}]").inner_text())


def test_a_decode_is_stepped_through_with_the_cache(sheet, model):
    widget = DecodeSteps(model, "knight")
    mount(sheet, widget)
    assert states(sheet, "encoder") == ["new"] * 6 and states(sheet, "memory") == ["none"] * 6
    assert states(sheet, "decoder") == ["none"] * 4
    sheet.get_by_role("button", name="Step →").click()
    settle(sheet)
    assert states(sheet, "encoder") == ["done"] * 6 and states(sheet, "memory") == ["new"] * 6
    assert states(sheet, "decoder") == ["new", "none", "none", "none"]
    sheet.get_by_role("button", name="Step →").click()
    sheet.get_by_role("button", name="Step →").click()
    settle(sheet)
    assert widget.step == 3
    assert states(sheet, "decoder", 1) == ["read", "read", "new", "none"] and states(sheet, "memory", 1) == ["read"] * 6
    assert states(sheet, "generator") == ["done", "done", "new", "none"]
    named = sheet.locator(".ctk-named").inner_text()
    assert "the newest token is AY, the next is T. The decoder computes 1 place." in named
    wait_until(sheet, "[aria-live]", "Step 3 of 4")
    # Keys and values, 128 numbers of 4 bytes, in 2 layers: of 2 tokens and 6 letters, and of one token.
    assert figure(sheet, "read", "step-cached") == pytest.approx(2 * 128 * 4 * 2 * 8 / 1024)
    assert figure(sheet, "written", "step-cached") == pytest.approx(2 * 128 * 4 * 2 / 1024)
    assert figure(sheet, "flops", "step-cached") == pytest.approx(0.94) and figure(sheet, "flops", "step-plain") == 3.6
    axe_finds_nothing(sheet)


def test_without_the_cache_places_are_computed_again(sheet, model):
    widget = DecodeSteps(model, "knight")
    mount(sheet, widget)
    sheet.get_by_role("switch", name="cache of keys and values").uncheck()
    slider = sheet.get_by_role("slider", name="step")
    slider.focus()
    sheet.keyboard.press("End")
    settle(sheet)
    assert widget.step == 4 and not widget.cached
    assert slider.get_attribute("aria-valuetext") == "step 4 of 4"
    assert states(sheet, "decoder") == ["again", "again", "again", "new"]
    assert states(sheet, "generator") == ["again", "again", "again", "new"] and states(sheet, "memory") == ["again"] * 6
    assert states(sheet, "encoder", 2) == ["done"] * 6
    # What is marked is said in words too.
    assert "computed again" in (sheet.locator("[data-row=decoder] td").first.text_content() or "")
    assert figure(sheet, "read", "sum-plain") == 0 and figure(sheet, "read", "sum-cached") > 0
    assert figure(sheet, "flops", "sum-plain") == pytest.approx(19.65) and figure(sheet, "ms", "sum-plain") > 0
    assert sheet.get_by_role("button", name="Step →").is_disabled()
    sheet.keyboard.press("ArrowLeft")
    settle(sheet)
    assert widget.step == 3 and sheet.locator(".ctk").get_attribute("data-step") == "3"
    bars = sheet.locator("rect[data-part=projections]")
    heights = [float(bars.nth(i).get_attribute("height") or 0) for i in range(1, 5)]
    assert heights == sorted(heights) and heights[0] < heights[-1]


def test_what_is_computed_lights_up_unless_motion_is_unwanted(sheet, model):
    mount(sheet, DecodeSteps(model, "knight"))
    press = """async () => {
        const frame = () => new Promise(done => requestAnimationFrame(done));
        [...document.querySelectorAll("button")].find(b => b.textContent === "Step →").click();
        await frame();
        const lit = document.getAnimations().map(each => each.effect.target).filter(each => each.dataset.state);
        await frame();
        await frame();
        return lit.filter(each => each.isConnected).map(each => each.parentNode.dataset.row).sort();
    }"""
    # Logits and two layers of one place; keys and values of six letters for two layers.
    assert sheet.evaluate(press) == ["decoder"] * 2 + ["generator"] + ["memory"] * 12
    assert sheet.evaluate(press)[-3:] == ["decoder", "decoder", "generator"]
    sheet.emulate_media(reduced_motion="reduce")
    settle(sheet)
    sheet.wait_for_function("document.getAnimations().length === 0")
    assert sheet.evaluate(press) == []


def test_another_word_and_a_bad_one(sheet, model):
    widget = DecodeSteps(model, "cat")
    widget.step = 2
    mount(sheet, widget)
    box = sheet.get_by_role("textbox", name="Word")
    box.fill("ca7")
    sheet.keyboard.press("Enter")
    wait_until(sheet, ".ctk-problem", "'ca7' has '7'")
    assert states(sheet, "memory") == ["none"] * 3
    box.fill("island")
    sheet.get_by_role("button", name="Decode").click()
    sheet.locator(".ctk-problem").wait_for(state="hidden", timeout=5000)
    assert states(sheet, "encoder") == ["new"] * 6 and widget.step == 0
    assert "IH" in sheet.locator(".ctk-places").first.inner_text()


def test_a_cache_that_fails_leaves_the_plain_decode(sheet, model, monkeypatch):
    def attend_with_cache(attention, states, cache, mask=None):
        raise NotImplementedError

    broken = {"attend_with_cache": attend_with_cache}
    monkeypatch.setattr(my_model, "get", lambda name, own=True: broken.get(name) or my_model.stand_in(name))
    mount(sheet, DecodeSteps(model, "cat"))
    assert sheet.locator(".ctk-problem").inner_text().endswith("attend_with_cache is not written yet.")
    assert sheet.get_by_role("switch").is_disabled() and not sheet.get_by_role("switch").is_checked()
    sheet.get_by_role("button", name="Step →").click()
    settle(sheet)
    assert states(sheet, "decoder")[0] == "new"
    axe_finds_nothing(sheet)


# -- BeamTree --


def nodes(page: Page, marks: str) -> list[tuple[str, str]]:
    """Names and kinds of the nodes with a class, in the order of their steps."""
    found = page.locator(f"button.ctk-node.{marks}")
    return [
        (found.nth(i).locator("b").inner_text().lstrip("★◆\u2009"), found.nth(i).get_attribute("data-kind") or "")
        for i in range(found.count())
    ]


def test_the_width_decides_what_is_found(sheet, model):
    widget = BeamTree(model, "island", 1, search=beam_search)
    mount(sheet, widget)
    assert [name for name, _ in nodes(sheet, "ctk-best")] == ["IH", "S", "L", "AH", "N", "D", "<end>"]
    assert nodes(sheet, "ctk-gold") == [("AY", "pruned")]
    slider = sheet.get_by_role("slider", name="beam width")
    slider.focus()
    sheet.keyboard.press("ArrowRight")
    sheet.locator(".ctk[data-width='2']").wait_for(timeout=5000)
    settle(sheet)
    assert widget.width == 2 and slider.get_attribute("aria-valuetext") == "2"
    assert [name for name, _ in nodes(sheet, "ctk-best")] == ["AY", "L", "AH", "N", "D", "<end>"]
    assert nodes(sheet, "ctk-gold")[-1] == ("<end>", "finished")
    assert "what the search found is right" in sheet.locator(".ctk-verdict").inner_text()
    assert "AY L AH N D <end>" in sheet.locator("tr[data-best=true] th").inner_text()
    wait_until(sheet, "[aria-live]", "The search with width 2 says AY L AH N D <end>")
    # Kept above the line, dropped below, at every step.
    for step in range(1, 5):
        kinds = sheet.locator(f"[data-step='{step}']").evaluate_all("all => all.map(e => e.dataset.kind)")
        assert kinds[:2] == ["kept", "kept"] and set(kinds[2:]) == {"pruned"}


def test_the_penalty_prefers_the_longer(sheet, model):
    widget = BeamTree(model, "island", 3, search=beam_search)
    mount(sheet, widget)
    sheet.get_by_role("slider", name="length penalty α").focus()
    sheet.keyboard.press("End")
    sheet.locator(".ctk[data-alpha='2']").wait_for(timeout=5000)
    settle(sheet)
    assert widget.alpha == 2.0
    assert sheet.locator("caption").inner_text().endswith("by score = log P / length^2.0")
    assert "IH S L AH N D <end>" in sheet.locator("tr[data-best=true]").inner_text()


def test_a_node_is_told_with_the_mouse_and_the_keyboard(sheet, model):
    widget = BeamTree(model, "choir", 3, search=beam_search)
    mount(sheet, widget)
    told = sheet.locator(".ctk-told")
    assert told.inner_text().startswith("Step 4: <end> after CH OY R.")
    first = widget.results["levels"][0]["nodes"]
    sheet.locator("[data-step='1'][data-rank='2']").hover()
    assert told.inner_text().startswith("Step 1: K. log p of the token −0.81 (p = 0.44")
    assert "Number 2 of 42 expansions, kept; listed pronunciation." in told.inner_text()
    sheet.locator("[data-step='1'][data-rank='1']").focus()
    sheet.keyboard.press("ArrowDown")
    assert sheet.evaluate("document.activeElement.dataset.key") == first[1]["key"]
    sheet.keyboard.press("ArrowRight")  # its best expansion
    assert told.inner_text().startswith("Step 2: OY after K.")
    sheet.keyboard.press("ArrowLeft")
    sheet.keyboard.press("End")
    assert told.inner_text().startswith("Step 1: T.") and "Number 6 of 42 expansions, dropped." in told.inner_text()
    wait_until(sheet, "[aria-live]", "Step 1: T.")
    # A slider moves, and the focus stays with its node.
    sheet.evaluate("window.model.set('width', 4); window.model.save_changes()")
    sheet.locator(".ctk[data-width='4']").wait_for(timeout=5000)
    settle(sheet)
    assert told.inner_text().startswith("Step 1: T.")
    assert sheet.evaluate("document.activeElement.dataset.rank") == "6"
    axe_finds_nothing(sheet)


def test_a_search_that_goes_astray_is_told_and_drawn_as_it_is(sheet, model):
    def greedy(step, start, end, width, longest, alpha):
        return beam_search(step, start, end, 1, longest, alpha)

    mount(sheet, BeamTree(model, "island", 3, search=greedy))
    assert "At step 1 “AY” (log P = −0.95) is number 2" in sheet.locator(".ctk-differs").inner_text()
    kinds = sheet.locator("[data-step='1']").evaluate_all("all => all.map(e => e.dataset.kind)")
    assert kinds[:3] == ["kept", "pruned", "pruned"]


def test_a_search_not_written_yet_leaves_the_controls(sheet, model):
    def stub(step, start, end, width, longest, alpha):
        raise NotImplementedError

    mount(sheet, BeamTree(model, "cat", search=stub))
    assert sheet.locator(".ctk-problem").inner_text().endswith("stub is not written yet.")
    assert sheet.locator(".ctk-tree").is_hidden() and sheet.get_by_role("slider").count() == 2


def test_a_word_is_typed(sheet, model):
    mount(sheet, BeamTree(model, "cat", search=beam_search))
    box = sheet.get_by_role("textbox", name="Word")
    box.fill("characterisations")
    sheet.keyboard.press("Enter")
    wait_until(sheet, ".ctk-problem", "has 17 letters: give a word of at most 16")
    box.fill("asdfjk")
    sheet.get_by_role("button", name="Search", exact=True).click()
    sheet.locator(".ctk[data-word=asdfjk]").wait_for(timeout=5000)
    assert "does not have this word" in sheet.locator(".ctk-verdict").inner_text()
    assert sheet.locator("button.ctk-gold").count() == 0
