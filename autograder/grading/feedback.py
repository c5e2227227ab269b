"""nbgrader's feedback with a policy that lets no browser run, load or send anything from it.

One line in nbgrader_config.py makes `nbgrader generate_feedback` and formgrader's button use it::

    c.GenerateFeedback.exporter_class = "autograder.grading.feedback.Feedback"
"""

from __future__ import annotations

from typing import Any

from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode

from autograder.grading.safe_html import CleanedCells

# Pictures stand in the page itself, as do all styles. nbgrader's template also asks a server elsewhere for MathJax,
# which would run in the page whatever it gets: it stays out, and formulas are shown as they were written.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; form-action 'none'; base-uri 'none'"
)
_META = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
_HEAD = "<head>"


class Feedback(HTMLExporter):
    """What `nbgrader generate_feedback` writes, from cleaned cells and with `POLICY`."""

    def from_notebook_node(  # type: ignore[override]  # as in HTMLExporter
        self, nb: NotebookNode, resources: dict[str, Any] | None = None, **kw: Any
    ) -> tuple[str, dict[str, Any]]:
        """Make the page of one notebook.

        Raises:
            ValueError: the template in use gives no page with a head, in which a policy could stand.
        """
        safe, _ = CleanedCells(parent=self).preprocess(nb, {})
        page, resources = super().from_notebook_node(safe, resources, **kw)
        before, head, after = page.partition(_HEAD)
        if not head or "<" in before.replace("<!DOCTYPE html>", "").replace("<html>", ""):
            raise ValueError("nbgrader's template for feedback gives no <head>: use template_name = 'feedback'.")
        return f"{before}{head}\n{_META}{after}", resources
