"""Nothing that a submission holds scripts, loads or restyles a page in a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_feedback_safety import (
    HONEST,
    HOSTILE,
    LESSON,
    RUN,
    class_settings,
    feedback,
    graded,
    hostile_notebook,
    nbgraders_tools,
    rendered,
    without,
)

from autograder.grading.feedback import POLICY
from autograder.grading.safe_html import clean_text
from autograder.judging import judge_source
from autograder.report import html as report_html
from crosstalk.places import course_folder

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["nbgraders_tools"]  # a fixture that every test uses

SITE = "http://class.test/feedback.html"


def watched(page: Page) -> dict[str, Any]:
    """What the page does: its requests to elsewhere and its dialogs; nothing leaves this machine."""
    done: dict[str, Any] = {"requests": [], "dialogs": [], "page": ""}

    def answer(route: Any) -> None:
        if route.request.url == SITE:
            route.fulfill(body=done["page"], content_type="text/html; charset=utf-8")
        else:
            done["requests"].append(route.request.url)
            route.abort()

    def dismiss(dialog: Any) -> None:
        done["dialogs"].append(dialog.message)
        dialog.dismiss()

    page.route("**/*", answer)
    page.on("dialog", dismiss)
    return done


@pytest.fixture
def seen(page: Page) -> dict[str, Any]:
    return watched(page)


LOOK = """() => { const look = element => { const s = getComputedStyle(element);
        return [s.display, s.position, s.backgroundColor, s.backgroundImage, s.color, s.fontSize, s.visibility]; };
    return [look(document.body), look(document.querySelector("h4")), look(document.querySelector(".panel-heading")),
            document.title, location.origin + location.pathname,
            document.querySelectorAll("iframe, form, base").length]; }"""
HONEST_NOTEBOOK = [new_markdown_cell(source) for source in HONEST]
graded(HONEST_NOTEBOOK[0], "essay", solution=True)


def show(page: Page, seen: dict[str, Any], html: str) -> list[Any]:
    """Open a page, use it as a curious reader would, and tell how it looks."""
    seen["page"] = html
    page.goto(SITE, wait_until="domcontentloaded")
    page.evaluate("() => new Promise(resolve => setTimeout(resolve, 500))")  # frames, animations and refreshes
    page.evaluate(
        """() => { for (const element of document.querySelectorAll("#notebook-container *")) {
            for (const kind of ["mouseover", "focus", "toggle", "pointerdown"])
                element.dispatchEvent(new Event(kind, {bubbles: true}));
            if (element.matches("a") && !/^https?:/.test(element.getAttribute("href") ?? "")) element.click();
        } }"""
    )
    return page.evaluate(LOOK)


@pytest.mark.browser
def test_feedback_runs_and_loads_nothing_in_a_browser(page: Page, seen: dict[str, Any], tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    html = feedback(tmp_path / "a", hostile_notebook(), class_settings(tmp_path / "a"))
    honest = feedback(tmp_path / "b", new_notebook(cells=HONEST_NOTEBOOK), class_settings(tmp_path / "b"))
    as_it_should = show(page, seen, honest)
    assert show(page, seen, html) == as_it_should
    assert page.evaluate("() => window.owned") is None
    assert seen["requests"] == [] and seen["dialogs"] == []
    assert as_it_should[3:5] == ["attention", SITE]
    overlaid = "() => [...document.querySelectorAll('*')].filter(e => getComputedStyle(e).position === 'fixed').length"
    assert page.evaluate(overlaid) == 0


@pytest.mark.browser
def test_without_our_settings_the_same_notebook_scripts(page: Page, seen: dict[str, Any], tmp_path: Path) -> None:
    """So the test above can fail."""
    seen["page"] = feedback(tmp_path, without(hostile_notebook(), "attachment:|refresh|</html>"))
    with page.expect_request(re.compile("evil.test")):
        page.goto(SITE, wait_until="domcontentloaded")
    page.wait_for_function("() => window.owned > 0")


@pytest.mark.browser
def test_each_of_it_alone_does_nothing_in_a_page_without_a_policy(page: Page) -> None:
    """As in formgrader, whose own page has scripts and so no policy against them."""
    from playwright.sync_api import Error

    def effects(source: str, page: Page, seen: dict[str, Any]) -> list[Any]:
        seen["page"] = f"<!DOCTYPE html><head><title>class</title></head><body>{rendered(source)}</body>"
        try:
            page.goto(SITE, wait_until="load")
            page.evaluate("() => document.querySelectorAll('a:not([href^=http])').forEach(link => link.click())")
            page.evaluate("() => new Promise(resolve => setTimeout(resolve, 30))")
            found = page.evaluate("() => [window.owned ?? 0, document.title, location.pathname, location.host]")
        except Error as error:  # it has left the page
            found = [str(error)]
        done = seen["requests"] + seen["dialogs"]
        return done if found == [0, "class", "/feedback.html", "class.test"] else done + found

    works = []
    for name, source in HOSTILE.items():
        if "attachment:" not in source:
            own = page.context.new_page()  # what it goes on with, it does there
            works += [name] if effects(source, own, watched(own)) else []
            own.close()
    assert len(works) > 30, works
    seen = watched(page)
    assert {name: done for name, source in HOSTILE.items() if (done := effects(clean_text(source), page, seen))} == {}


@pytest.mark.browser
def test_the_policy_alone_holds(page: Page, seen: dict[str, Any], tmp_path: Path) -> None:
    """Where a cell should get through after all, the browser still runs and loads nothing."""
    honest = feedback(tmp_path, new_notebook(cells=HONEST_NOTEBOOK), class_settings(tmp_path))
    assert honest.count(POLICY) == 1
    leaky = (
        f"<script>{RUN}</script><img src=http://evil.test/i onerror={RUN}><svg onload={RUN}></svg>"
        "<style>@import 'http://evil.test/s.css';</style><link rel=stylesheet href=http://evil.test/l.css>"
        "<iframe src=http://evil.test/frame></iframe><object data=http://evil.test/o></object>"
        "<video src=http://evil.test/v></video><form action=http://evil.test/f id=sent></form>"
    )
    show(page, seen, honest.replace("</body>", f"{leaky}</body>"))
    page.evaluate("() => document.querySelector('#sent').submit()")
    page.wait_for_timeout(300)
    assert page.evaluate("() => window.owned") is None and page.url.removesuffix("#top") == SITE
    assert seen["requests"] == []


@pytest.mark.browser
def test_our_report_and_pictures_show_in_the_feedback(page: Page, seen: dict[str, Any], tmp_path: Path) -> None:
    verdict = judge_source("softmax", "def softmax(scores, dim=-1):\n    return scores * 2  # <script>\n")
    result = new_output(
        "execute_result", data={"text/plain": "0", "text/html": report_html(verdict)}, execution_count=1
    )
    check = graded(new_code_cell("check('softmax')", outputs=[result]), "check-softmax", solution=False)
    lesson = nbformat.read(course_folder() / "lessons" / LESSON.notebook, as_version=4)
    pictured = next(cell for cell in lesson.cells if cell.get("attachments"))
    html = feedback(tmp_path, new_notebook(cells=[check, pictured]), class_settings(tmp_path))
    show(page, seen, html)
    report = page.locator("[data-crosstalk-verdict=softmax]")
    assert report.evaluate("element => getComputedStyle(element).borderLeftWidth") == "4px"
    assert report.locator("details[open]").count() == 1 and "softmax" in report.inner_text()
    page.locator("summary").last.click()
    picture = page.locator("#notebook-container img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
