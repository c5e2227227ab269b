"""Lesson 01 as a student does it, in JupyterLab and in Notebook 7: write, run, check, read, play.

Each test stands on the whole lesson with right answers, which were typed into a fresh copy in the browser.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe
from lab_server import Notebook, server

from autograder import solutions
from autograder.build.freeze import wrong_source
from autograder.exercise import exercises_of
from crosstalk.course import course
from crosstalk.lab import copy_lesson

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LESSON = course().lesson("01")
POINTS = {entry.name: entry.points for entry in LESSON.exercises}
STAGES = "AttentionStages("

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def solution(name: str) -> str:
    return solutions.answer_source(solutions.read_source(LESSON), name)


@pytest.fixture(scope="module", params=["lab", "notebook"])
def opened(
    request: pytest.FixtureRequest, chromium: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Notebook, list[str], Path]]:
    """The lesson, solved and run; what the page asked for; the student's folder."""
    work = tmp_path_factory.mktemp(request.param)
    if request.param == "notebook":  # `crosstalk lab` copies by itself
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CROSSTALK_WORK", str(work))
            copy_lesson(LESSON)
    with server(request.param, work) as address:
        context = chromium.new_context(viewport={"width": 1300, "height": 900})
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda sent: asked.append(sent.url))
        place = "" if request.param == "lab" else f"/notebooks/{LESSON.notebook}"
        notebook = Notebook(page, address + place)
        for name in POINTS:
            notebook.write(f"answer-{name}", solution(name))
        notebook.run_all()
        yield notebook, asked, work
        context.close()


def plain(text: str) -> str:
    """As it is read: without marks for code, spaces as they fall."""
    return re.sub(r"\s+", " ", text.replace("`", "")).strip()


def report(notebook: Notebook, name: str) -> str:
    shown = notebook.output(f"check-{name}").locator(f'[data-crosstalk-verdict="{name}"]')
    shown.scroll_into_view_if_needed()  # what is far off has no text that could be read
    shown.get_by_text(name).first.wait_for()
    return plain(shown.inner_text())


def test_the_whole_lesson_runs(opened: tuple[Notebook, list[str], Path]) -> None:
    notebook, _, work = opened
    assert notebook.errors() == []
    for name, points in POINTS.items():
        assert f"all {len_cases(name)} cases right, {points:g} of {points:g} points" in report(notebook, name)
    assert {path.stem for path in (work / "my_model").iterdir()} >= set(POINTS)


def len_cases(name: str) -> int:
    return len(exercises_of(LESSON)[name].cases)


def test_no_dialog_and_nothing_from_elsewhere(opened: tuple[Notebook, list[str], Path]) -> None:
    notebook, asked, _ = opened
    assert notebook.page.locator(".jp-Dialog, .Toastify__toast").count() == 0
    here = notebook.page.evaluate("location.origin")
    assert [url for url in asked if re.match("https?:|wss?:", url) and not url.startswith(here)] == []


@pytest.mark.parametrize(
    ("name", "mistake"),
    [("softmax", "without_maximum"), ("scaled_dot_product_attention", "softmax_over_queries")],
)
def test_a_wrong_answer_is_named_and_the_right_one_earns_its_points(
    opened: tuple[Notebook, list[str], Path], name: str, mistake: str
) -> None:
    notebook, _, _ = opened
    exercise = exercises_of(LESSON)[name]
    index = [wrong.name for wrong in exercise.wrong].index(mistake)
    notebook.write(f"answer-{name}", wrong_source(exercise, index, solution(name)))
    notebook.run(f"answer-{name}")
    notebook.run(f"check-{name}")
    told = report(notebook, name)
    assert told.startswith(f"✗ {name}: ")
    assert plain(exercise.wrong[index].sentence) in told
    assert "See it again, in a new cell:" in told

    notebook.write(f"answer-{name}", solution(name))
    notebook.run(f"answer-{name}")
    notebook.run(f"check-{name}")
    told = report(notebook, name)
    assert told.startswith(f"✓ {name}: all {len_cases(name)} cases right, {POINTS[name]:g} of {POINTS[name]:g} points")
    assert "Kept as work/my_model/" in told


def test_an_answer_not_run_again_is_not_what_is_judged(opened: tuple[Notebook, list[str], Path]) -> None:
    """The check takes what was run last, as the student's own cells do."""
    notebook, _, _ = opened
    notebook.write("answer-split_heads", "def split_heads(states, heads):\n    return states")
    notebook.run("check-split_heads")
    assert report(notebook, "split_heads").startswith("✓")
    notebook.run("answer-split_heads")
    notebook.run("check-split_heads")
    assert report(notebook, "split_heads").startswith("✗")
    notebook.write("answer-split_heads", solution("split_heads"))
    notebook.run("answer-split_heads")


def test_the_slider_reaches_python_and_comes_back(opened: tuple[Notebook, list[str], Path]) -> None:
    notebook, _, _ = opened
    stages = notebook.output(notebook.cell_with(STAGES)).locator(".ctk")
    why = stages.locator(".ctk-why")
    slider = stages.locator("input[type=range]")
    slider.fill("0")  # the leftmost place, as a hand that drags it there
    stages.locator('.ctk-why[data-width="4"]').wait_for()
    slider.fill("14")
    stages.locator('.ctk-why[data-width="512"]').wait_for()
    assert "512" in why.locator(".ctk-drawn").inner_text()


def test_the_slider_can_be_moved_with_the_keyboard_alone(opened: tuple[Notebook, list[str], Path]) -> None:
    notebook, _, _ = opened
    cell = notebook.cell_with(STAGES)
    stages = notebook.output(cell).locator(".ctk")
    slider = stages.locator("input[type=range]")
    slider.fill("0")
    stages.locator('.ctk-why[data-width="4"]').wait_for()
    slider.focus()
    for width in (6, 8, 11):
        notebook.page.keyboard.press("ArrowRight")
        stages.locator(f'.ctk-why[data-width="{width}"]').wait_for()
    notebook.page.keyboard.press("ArrowLeft")
    stages.locator('.ctk-why[data-width="8"]').wait_for()
    assert notebook.active_cell() == cell  # the arrows were the slider's, not the notebook's


def test_a_question_can_be_answered_with_the_keyboard_alone(opened: tuple[Notebook, list[str], Path]) -> None:
    notebook, _, _ = opened
    question = notebook.output(notebook.cell_with("Predict(")).locator(".ctk")
    first = question.locator("input[type=radio]").first
    first.focus()
    notebook.page.keyboard.press("Space")
    notebook.page.keyboard.press("Tab")
    notebook.page.keyboard.press("Enter")
    told = question.locator(".ctk-told")
    told.filter(has_text=re.compile("Right|Not this one")).wait_for()
    assert first.is_checked()


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_in_widgets_and_reports(opened: tuple[Notebook, list[str], Path], dark: bool) -> None:
    """In JupyterLab's own themes, the cells brought into view one after the other."""
    notebook, _, _ = opened
    theme = "JupyterLab Dark" if dark else "JupyterLab Light"
    notebook.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
    notebook.page.locator(f'body[data-jp-theme-light="{str(not dark).lower()}"]').wait_for(state="attached")
    notebook.write("answer-merge_heads", "def merge_heads(states):\n    return states.flatten(1, 2)")
    notebook.run("answer-merge_heads")
    notebook.run("check-merge_heads")
    shown = {
        notebook.cell_with(STAGES): ".ctk",
        notebook.cell_with("Predict("): ".ctk",
        "check-softmax": "[data-crosstalk-verdict]",
        "check-merge_heads": "[data-crosstalk-verdict]",
    }
    found = {}
    for cell_id, selector in shown.items():
        notebook.output(cell_id).locator(selector).first.wait_for()
        scope = f".jp-Cell.jp-mod-active {selector}"
        result = Axe().run(notebook.page, context=scope)
        if result.violations_count:
            found[cell_id] = result.generate_report()
    assert found == {}, "\n".join(found.values())


def test_the_first_page_is_the_students_copy_in_this_environment(
    opened: tuple[Notebook, list[str], Path],
) -> None:
    notebook, asked, work = opened
    assert any(re.search(f"/(lab/tree|notebooks)/{LESSON.notebook}", url) for url in asked)
    assert (work / LESSON.notebook).is_file()
    python = notebook.page.evaluate(
        """async () => { const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            const reply = await kernel.requestExecute({ code: "", user_expressions: {
                which: "__import__('sys').executable" } }).done;
            return reply.content.user_expressions.which.data["text/plain"]; }"""
    )
    assert python == repr(sys.executable)
