"""Take README's picture anew: ``.venv/bin/python tests/screenshots.py`` (needs a browser, as the browser tests do).

Lesson 01 in JupyterLab with a wrong answer that the check names, as a student sees it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from browsers import ARGUMENTS, find_browser
from lab_server import Notebook, server
from playwright.sync_api import sync_playwright

from crosstalk.places import assets_folder

WRONG = '''\
def scaled_dot_product_attention(query, key, value):
    """softmax(Q Kᵀ / √d_k) V, and the weights."""
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    weights = softmax(scores, dim=-2)
    return weights @ value, weights
'''


def main() -> None:
    """Write assets/figures/lesson-01.png."""
    with tempfile.TemporaryDirectory() as folder, server("lab", Path(folder)) as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=find_browser(), headless=True, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 860}, color_scheme="light")
        notebook = Notebook(page, address)
        notebook.run("set-up")
        notebook.write("answer-scaled_dot_product_attention", WRONG)
        notebook.run("answer-scaled_dot_product_attention")
        notebook.run("check-scaled_dot_product_attention")
        notebook.go_to("answer-scaled_dot_product_attention").evaluate("cell => cell.scrollIntoView({block: 'start'})")
        page.wait_for_timeout(1500)  # for the page to settle where it was scrolled to
        page.screenshot(path=assets_folder() / "figures" / "lesson-01.png")
        browser.close()


if __name__ == "__main__":
    main()
