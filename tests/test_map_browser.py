"""The map of the model, as a browser draws it."""

from __future__ import annotations

from typing import get_args

import pytest

from crosstalk.course import Part
from crosstalk.map import ModelMap, PartState


@pytest.mark.browser
@pytest.mark.parametrize(("width", "smallest"), [(700, 14), (360, 8)])
def test_labels_stay_inside_their_boxes_and_can_be_read(page, width: int, smallest: int) -> None:
    everything = ModelMap("x", {part: PartState(True, 1, 1) for part in get_args(Part)})
    page.set_viewport_size({"width": width, "height": 900})
    page.set_content(f'<body style="margin:0">{everything._repr_html_()}</body>')
    outside = page.evaluate(
        """() => [...document.querySelectorAll("svg g:has(> title)")].flatMap(group => {
            const box = [...group.querySelectorAll("rect")].at(-1).getBoundingClientRect();
            return [...group.querySelectorAll(":scope > text")].filter(text => {
                const t = text.getBoundingClientRect();
                return t.left < box.left || t.right > box.right || t.top < box.top || t.bottom > box.bottom;
            }).map(text => text.textContent);
        })"""
    )
    assert outside == []
    sizes = page.evaluate(
        """() => [...document.querySelectorAll("svg text")].map(text =>
            parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)"""
    )
    assert min(sizes) >= smallest
    assert page.evaluate("document.documentElement.scrollWidth") <= width
