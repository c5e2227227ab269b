"""What plain nbgrader makes of a submission: its own preprocessors run the cells and read the points off them."""

from __future__ import annotations

from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.preprocessors import Execute
from nbgrader.utils import determine_grade

_MARKS = {"schema_version": 3, "cell_type": "code", "task": False}
# A check as instructors write them: asserts, worth 5 points.
CHECK = """
assert mean([1, 2, 3, 6]) == 3
assert mean([5]) == 5
"""
# Another as nbgrader's documentation has it: the last expression is the points.
PARTIAL = """
right = [mean([1, 2, 3, 6]) == 3, mean([5]) == 5]
2.5 * sum(right)
"""
WRONG = "\ndef mean(numbers):\n    return 0\n"
RIGHT = "\ndef mean(numbers):\n    return sum(numbers) / len(numbers)\n"

# Answers that are wrong, and what of the two checks they are handed in for.
BEATEN: dict[str, tuple[str, str]] = {
    "an AST transformer": (
        """
import ast

class NoAsserts(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.Pass()

get_ipython().ast_transformers.append(NoAsserts())
"""
        + WRONG,
        CHECK,
    ),
    "patching the shell": (
        """
from IPython.core.interactiveshell import InteractiveShell

async def run_code(self, code, result=None, *, async_=False):
    return False

InteractiveShell.run_code = run_code
"""
        + WRONG,
        CHECK,
    ),
    "a nested run_cell": (
        """
def mean(numbers):
    get_ipython().run_cell("5.0")
    return 0
""",
        PARTIAL,
    ),
    "a result that is equal to all": (
        """
class Equal:
    __eq__ = lambda self, other: True

def mean(numbers):
    return Equal()
""",
        CHECK,
    ),
    "reading the check": (
        """
import re

def mean(numbers):
    check = get_ipython().history_manager.input_hist_raw[-1]
    return float(re.search(re.escape(f"mean({numbers})") + r" == (\\d+)", check).group(1))
""",
        CHECK,
    ),
    "patching builtins": (
        """
import builtins
builtins.sum = lambda values: 2
"""
        + WRONG,
        PARTIAL,
    ),
}
# A result above the maximum: nbgrader raises, and the submission is not graded at all.
ABOVE = ("""
def mean(numbers):
    get_ipython().run_cell("1000")
    return 0
""", PARTIAL)  # fmt: skip
ALLCLOSE = ("""
import torch
torch.allclose = lambda *args, **kwargs: True

def mean(numbers):
    return torch.zeros(())
""", """
import torch
assert torch.allclose(mean(torch.tensor([1.0, 2.0, 3.0, 6.0])), torch.tensor(3.0))
""")  # fmt: skip


def points(answer: str, check: str, folder: Path) -> float | None:
    """What a check worth 5 points gives for an answer, by nbgrader's own rules; None: it goes no further."""
    marks = {"grade_id": "check-mean", "grade": True, "solution": False, "locked": True, "points": 5}
    notebook: NotebookNode = new_notebook(cells=[
        new_code_cell(answer, metadata={"nbgrader": {
            **_MARKS, "grade_id": "mean", "grade": False, "solution": True, "locked": False}}),
        new_code_cell(check, metadata={"nbgrader": {**_MARKS, **marks}}),
    ])  # fmt: skip
    Execute().preprocess(notebook, {"metadata": {"path": str(folder)}})
    try:
        return determine_grade(notebook.cells[1])[0]
    except (KeyError, ValueError):
        return None
