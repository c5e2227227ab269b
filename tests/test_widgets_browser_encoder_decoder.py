"""The widgets of lessons 03 and 04 in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe

from crosstalk.stand_ins.lesson_03 import sinusoidal_positions
from crosstalk.widgets import Positions
from crosstalk.widgets.standalone import mount, settle

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture
def sheet(page: Page):
    """The page, watched: an error in its console fails the test."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    assert errors == []


def wait_until(page: Page, selector: str, words: str) -> None:
    page.locator(selector).filter(has_text=words).first.wait_for(state="attached", timeout=5000)


def read_out(page: Page, words: str) -> None:
    """Wait until the live region says it."""
    wait_until(page, "[aria-live]", words)


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


def test_a_stub_is_named_and_the_letters_can_be_moved(sheet):
    def sinusoidal_positions(length, d_model):
        raise NotImplementedError

    mount(sheet, Positions(sinusoidal_positions))
    assert sheet.locator(".ctk-problem").inner_text().endswith("sinusoidal_positions is not written yet.")
    assert sheet.locator("[data-ctk=table]").is_hidden()
    assert sheet.get_by_role("switch").is_disabled()
    sheet.get_by_role("button", name="reversed").click()
    wait_until(sheet, ".ctk-verdict", "“netsil” has the same 6 vectors")
    assert Axe().run(sheet).violations_count == 0
