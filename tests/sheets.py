"""What the browser tests of the widgets ask of a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axe_playwright_python.sync_playwright import Axe

if TYPE_CHECKING:
    from playwright.sync_api import Page


def wait_until(page: Page, selector: str, words: str) -> None:
    """Wait until something that the selector finds says it."""
    page.locator(selector).filter(has_text=words).first.wait_for(state="attached", timeout=5000)


def read_out(page: Page, words: str) -> None:
    """Wait until the live region says it."""
    wait_until(page, "[aria-live]", words)


def axe_finds_nothing(page: Page) -> None:
    """axe-core finds no fault with the page as it is."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
