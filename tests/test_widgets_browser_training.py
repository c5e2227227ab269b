"""The widgets of lesson 05 in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from sheets import wait_until
from torch.nn import functional as F

from crosstalk.data import label_smoothing, teacher_forcing
from crosstalk.stand_ins.lesson_05 import label_smoothing_loss, shift_right
from crosstalk.widgets import LabelSmoothing, TeacherForcing
from crosstalk.widgets.standalone import mount, settle

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def inputs(page: Page) -> list[str]:
    """The lane of the inputs: each token with the name of where it comes from."""
    return [text.replace("\n", " ") for text in page.locator(".ctk-input").all_inner_texts()]


def finds(page: Page) -> list[str | None]:
    """What each place finds among its inputs."""
    return [each.get_attribute("data-finds") for each in page.locator("button[data-place]").all()]


# -- TeacherForcing --


def test_the_timeline_is_walked_with_the_keyboard(sheet):
    widget = TeacherForcing(word="cat")
    mount(sheet, widget)
    assert inputs(sheet) == ["<start> start", "K y₁", "AE y₂", "T y₃"]
    sheet.locator("button[data-place='0']").focus()
    sheet.keyboard.press("ArrowRight")
    settle(sheet)
    assert widget.place == 1
    assert sheet.locator(".ctk-reading b").inner_text() == "Place 2 sees <start> K and is asked for AE."
    states = [each.get_attribute("data-state") for each in sheet.locator(".ctk-input").all()]
    assert states == ["seen", "seen", "hidden", "hidden"]
    assert [each.get_attribute("data-from") for each in sheet.locator("path[data-from]").all()] == ["0", "1"]
    wait_until(sheet, "[aria-live]", "Place 2 sees <start> K")
    sheet.keyboard.press("End")
    settle(sheet)
    assert sheet.locator("[aria-current=true]").inner_text().startswith("<end>")


def test_each_shift_says_what_a_place_can_do_with_its_inputs(sheet):
    widget = TeacherForcing(word="cat")
    mount(sheet, widget)
    assert finds(sheet) == ["none"] * 4
    sheet.get_by_label("0: not shifted").check()
    wait_until(sheet, ".ctk-reading", "The answer itself is among them")
    assert finds(sheet) == ["answer"] * 4 and inputs(sheet)[0] == "K y₁"
    assert sheet.locator(".ctk-input[data-state=leak]").count() == sheet.locator("path.ctk-leak").count() == 1
    sheet.get_by_label("2: inputs right, labels left").check()
    wait_until(sheet, ".ctk-reading", "is not among them: the place has to look further ahead")
    assert finds(sheet) == ["skipped"] * 3
    assert sheet.locator("button[data-place]").all_inner_texts() == ["AE\ny₂", "T\ny₃", "<end>\ny₄"]
    assert widget.shift == 2


def test_the_lane_is_the_students(sheet):
    mount(sheet, TeacherForcing(shift_right, word="cat"))
    assert sheet.locator(".ctk-agrees").first.inner_text().startswith("The inputs are what your shift_right gives")


def test_a_last_token_that_wraps_to_the_front_is_the_future_or_the_answer(sheet):
    def roll(target, start_id):
        return torch.roll(target, 1, dims=1)

    mount(sheet, TeacherForcing(roll, word="cat"))
    assert inputs(sheet)[0] == "<end> y₄"
    assert finds(sheet) == ["future", "future", "future", "answer"]
    assert "Your roll puts <end> into place 1, where <start> is wanted." in sheet.locator(".ctk-differs").inner_text()


def test_inputs_that_lie_ahead_or_are_of_no_word_are_told(sheet):
    def left(target, start_id):
        return F.pad(target[:, 1:], (0, 1))

    mount(sheet, TeacherForcing(left, word="cat"))
    assert finds(sheet) == ["future", "answer", "answer", "answer"]
    assert inputs(sheet)[-1] == "? not of the word"


def test_a_stub_leaves_the_timeline_usable(sheet):
    def shift_right(target, start_id):
        raise NotImplementedError

    mount(sheet, TeacherForcing(shift_right, word="cat"))
    assert sheet.locator(".ctk-problem").inner_text().endswith("shift_right is not written yet.")
    assert finds(sheet) == ["none"] * 4


def test_the_slider_shows_what_each_model_said_then(sheet):
    record = teacher_forcing.load()
    widget = TeacherForcing()
    mount(sheet, widget)
    slider = sheet.get_by_role("slider")
    assert slider.get_attribute("aria-valuetext") == f"step {record['steps'][-1]:,}"
    slider.focus()
    sheet.keyboard.press("Home")
    wait_until(sheet, ".ctk-step", "0")
    settle(sheet)
    assert widget.at == 0 and slider.get_attribute("aria-valuetext") == "step 0"
    sheet.keyboard.press("End")
    settle(sheet)
    for training in record["trainings"]:
        sheet.get_by_role("radio").nth(training["shift"]).check()
        settle(sheet)
        row = sheet.locator(f"tr[data-shift='{training['shift']}']").inner_text()
        assert row.startswith("▸") and f"{training['per'][-1]:.{1 if training['per'][-1] < 99.95 else 0}f} %" in row
        said = sheet.locator(".ctk-it-says").first.inner_text()
        first = [token for token in training["samples"][-1][0] if token != "<end>"]
        assert said.startswith(" ".join(first[:14]))
    wait_until(sheet, "[aria-live]", "Shift 2 after step")


def test_the_lowest_loss_and_the_lowest_error_rate_are_told_apart(sheet):
    mount(sheet, TeacherForcing())
    assert (
        sheet.locator(".ctk-lesson b").inner_text()
        == "The lowest loss here is shift 0’s, the lowest error rate shift 1’s."
    )


# -- LabelSmoothing --


def shown(page: Page, what: str) -> str:
    return page.locator(f"[data-ctk={what}]").inner_text()


def test_the_slider_moves_target_and_minimum(sheet):
    widget = LabelSmoothing()
    mount(sheet, widget)
    assert (shown(sheet, "share"), shown(sheet, "other"), shown(sheet, "gap")) == ("0.9024", "0.0024", "5.94")
    sheet.get_by_role("slider").focus()
    sheet.keyboard.press("ArrowRight")
    wait_until(sheet, "[data-ctk=share]", "0.8926")
    assert widget.smoothing == pytest.approx(0.11)
    sheet.keyboard.press("Home")
    wait_until(sheet, "[data-ctk=gap]", "∞")
    assert shown(sheet, "share") == "1.0000" and shown(sheet, "other") == "0.0000"
    assert sheet.get_by_role("slider").get_attribute("aria-valuetext") == "ε = 0.00"
    wait_until(sheet, "[aria-live]", "No lowest point")
    sheet.keyboard.press("End")
    wait_until(sheet, "[data-ctk=share]", "0.5119")
    assert Axe().run(sheet).violations_count == 0


def test_the_variants_are_told_apart(sheet):
    mount(sheet, LabelSmoothing())
    heights = "name => Number(document.querySelector(`[data-token='${name}']`).getAttribute('height'))"
    assert sheet.evaluate(heights, "<pad>") == sheet.evaluate(heights, "AA") > 0
    sheet.get_by_label("ε/(V−2)").check()
    wait_until(sheet, ".ctk-explained", "neither the true class nor padding")
    settle(sheet)
    assert shown(sheet, "share") == "0.9000" and shown(sheet, "other") == "0.0025"
    assert sheet.evaluate(heights, "<pad>") == 0 < sheet.evaluate(heights, "AA")
    sheet.get_by_label("ε/(V−1)").check()
    wait_until(sheet, "[data-ctk=other]", "0.0024")
    assert sheet.evaluate(heights, "<pad>") == sheet.evaluate(heights, "AA")


def test_the_students_loss_is_drawn_and_named(sheet):
    mount(sheet, LabelSmoothing(label_smoothing_loss))
    assert sheet.locator("path.ctk-their-loss").count() == 1
    assert "as PyTorch does: ε/V" in sheet.locator(".ctk-lowest .ctk-agrees").inner_text()

    def curve(name: str) -> list[float]:
        return [
            float(x)
            for x in (sheet.locator(f"path.{name}").get_attribute("d") or "M").strip("M").replace("L", " ").split()
        ]

    assert curve("ctk-their-loss") == pytest.approx(curve("ctk-loss"), abs=0.2)


def test_a_loss_that_is_not_written_or_ignores_epsilon_is_told(sheet):
    def label_smoothing_loss(logits, target, pad_id, smoothing):
        if smoothing == 0:
            raise NotImplementedError
        return F.cross_entropy(logits.transpose(1, 2), target, ignore_index=pad_id)

    mount(sheet, LabelSmoothing(label_smoothing_loss))
    assert "is wanted, and the other variants give" in sheet.locator(".ctk-differs").inner_text()
    assert sheet.locator("text.ctk-their-loss-name").inner_html() == "yours"
    sheet.get_by_role("slider").focus()
    sheet.keyboard.press("Home")
    wait_until(sheet, ".ctk-problem", "label_smoothing_loss is not written yet.")
    assert shown(sheet, "gap") == "∞"


def test_the_figures_of_the_trained_models_are_those_of_the_table(sheet):
    table = label_smoothing.load()
    mount(sheet, LabelSmoothing())
    for name, digits in (("ece", 3), ("nll", 3), ("accuracy", 3), ("per", 1), ("wer", 1)):
        cells = sheet.locator(f"tr[data-figure={name}] td").all_inner_texts()
        assert cells[:2] == [f"{model[name]['value']:.{digits}f}" for model in table["models"]]
    assert sheet.locator(".ctk-finding").count() == 4
    counted = [sum(each["count"] >= 20 for each in model["bins"]) for model in table["models"]]
    assert [sheet.locator(dots).count() - 1 for dots in ("circle.ctk-dot-0", "rect.ctk-dot-1")] == counted
