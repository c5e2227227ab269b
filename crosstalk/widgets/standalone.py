"""A widget in a page of its own, with Python behind it but without Jupyter: for tests, stills and timing."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosstalk.widgets.base import CourseWidget

if TYPE_CHECKING:
    from playwright.sync_api import Page

_PAGE = Path(__file__).with_name("standalone.html")
_NOT_OURS = {"layout", "tabbable", "tooltip"}  # ipywidgets' own


def _encoded(value: Any) -> Any:
    return {"bytes": base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value


def state_of(widget: CourseWidget) -> dict[str, Any]:
    """What the widget's JavaScript sees of it, bytes in base64."""
    state = widget.get_state()
    return {k: _encoded(v) for k, v in state.items() if not k.startswith("_") and k not in _NOT_OURS}


def mount(page: Page, widget: CourseWidget, *, dark: bool = False) -> None:
    """Show ``widget`` in ``page``; what is done there reaches Python, and its answer the page.

    A page takes one widget; its JavaScript finds the model as ``window.model``.
    """

    def to_python(changes: dict[str, Any]) -> dict[str, Any]:
        before = state_of(widget)
        widget.set_state(changes)
        after = state_of(widget)
        return {name: value for name, value in after.items() if value != before[name]}

    page.set_content(_PAGE.read_text("utf-8"))
    page.expose_function("toPython", to_python)
    page.evaluate("dark => { document.body.dataset.jpThemeLight = String(!dark) }", dark)
    page.evaluate(
        "([esm, css, state]) => mountWidget(esm, css, state, toPython)",
        [str(widget._esm), str(widget._css), state_of(widget)],
    )
    settle(page)


def settle(page: Page) -> None:
    """Wait until Python has answered and what has changed is painted."""
    page.evaluate("settle()")
