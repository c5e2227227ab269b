"""The curve doctor in a real browser."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from crosstalk.data import bug_clinic
from crosstalk.widgets import CurveDoctor
from crosstalk.widgets.standalone import mount, settle

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def said(page: Page) -> list[str]:
    return page.locator(".ctk-says").all_inner_texts()


def test_patients_are_examined_with_the_keyboard(sheet):
    patients = bug_clinic.load()
    widget = CurveDoctor(patients=patients)
    mount(sheet, widget)
    assert said(sheet) == patients["X"]["samples"]["1500"]
    sheet.get_by_role("radio", name="X", exact=True).focus()
    sheet.keyboard.press("ArrowRight")
    settle(sheet)
    assert widget.chosen == 1 and said(sheet) == patients["A"]["samples"]["1500"]
    sheet.get_by_role("radio", name="1,500").focus()
    sheet.keyboard.press("ArrowLeft")
    settle(sheet)
    assert said(sheet) == patients["A"]["samples"]["600"]
    live = sheet.locator("[aria-live]").filter(has_text="Patient A. At steps 1,491 to 1,500")
    live.wait_for(state="attached", timeout=5000)


def test_evidence_comes_when_it_is_asked_for(sheet):
    widget = CurveDoctor(patients=bug_clinic.load())
    mount(sheet, widget)
    assert sheet.get_by_text("words after which it says the end token").count() == 0
    sheet.get_by_role("switch", name="how long it speaks").focus()
    sheet.keyboard.press("Space")
    sheet.get_by_role("radio", name="A", exact=True).check()
    settle(sheet)
    row = sheet.get_by_role("row").filter(has_text="words after which it says the end token")
    assert row.get_by_role("cell").all_inner_texts() == ["0 %", "100 %"]
    assert widget.asked == ["ends"]
    sheet.get_by_role("switch", name="how far the weights went").check()
    settle(sheet)
    assert sheet.get_by_role("row").filter(has_text="way from its start").count() == 4


def test_curves_can_be_read_point_by_point(sheet):
    patients = bug_clinic.load()
    mount(sheet, CurveDoctor(patients=patients))
    slider = sheet.get_by_role("slider")
    slider.focus()
    sheet.keyboard.press("Home")
    settle(sheet)
    first = [patients[name]["losses"][0] for name in ("X", "healthy")]
    expected = f"At steps 1 to 10: patient X {first[0]:.2f}, healthy {first[1]:.2f}."
    assert slider.get_attribute("aria-valuetext") == expected == sheet.locator(".ctk-reading").inner_text()
    sheet.get_by_role("switch", name="healthy one beside it").uncheck()
    settle(sheet)
    assert sheet.locator(".ctk-line").count() == 1
    sheet.get_by_role("switch", name="loss on held-out words").check()
    settle(sheet)
    assert sheet.locator(".ctk-line-held").count() == 1
    assert "held-out words from 3.8" in sheet.locator("svg").get_attribute("aria-label")


def test_a_curve_of_ones_own_is_read_and_nan_leaves_a_gap(sheet):
    losses = [3.7 - 0.03 * step for step in range(60)] + [math.nan] * 20
    mount(sheet, CurveDoctor(losses, vocabulary=42))
    assert sheet.locator(".ctk-seen").all_inner_texts() == ["From step 61 on, the loss is NaN."]
    assert sheet.locator(".ctk-findings code").all_inner_texts() == ["torch.autograd.set_detect_anomaly(True)"]
    drawn = sheet.locator(".ctk-line-mine").get_attribute("d")
    assert drawn.count("M") + drawn.count("L") == 60 and "NaN" not in drawn
    assert sheet.locator(".ctk-reading").inner_text() == "At step 80: training loss NaN."
    assert sheet.get_by_text("2.78: least with a softmax too many").is_visible()
