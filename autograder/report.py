"""A verdict as a person sees it: HTML in the notebook, plain text elsewhere.

Colours come from JupyterLab's theme where there is one; right and wrong are always told in words too.
Everything that came from student code is escaped.
"""

from __future__ import annotations

import html as escaping
import re
from typing import TYPE_CHECKING

import torch

from autograder.compare import place_of_largest
from autograder.messages import Tree

if TYPE_CHECKING:
    from autograder.verdict import CaseResult, Verdict

MAX_SHOWN = 64  # numbers of one tensor

_STYLE = (
    "border-left:4px solid {colour};padding:.4em .9em;margin:.3em 0;max-width:62em;line-height:1.45;"
    "color:var(--jp-content-font-color1,inherit);font-family:var(--jp-content-font-family,sans-serif)"
)
_PRE = (
    "margin:.3em 0;padding:.4em .6em;white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere;"
    "background:var(--jp-cell-editor-background,#f5f5f5);"
    "color:var(--jp-content-font-color1,#111);border:1px solid var(--jp-border-color2,#ccc);font-size:.92em"
)
_RIGHT, _WRONG = "#1b7837", "#b35806"  # told apart by people with any colour vision


def headline(verdict: Verdict) -> str:
    """One line: the exercise and its points."""
    if verdict.passed:
        mark, told = "✓", f"all {len(verdict.cases)} cases right, "
    else:
        right = sum(case.right for case in verdict.cases)
        mark, told = "✗", f"{right} of {len(verdict.cases)} cases right, " if verdict.cases else ""
    return f"{mark} {verdict.exercise}: {told}{verdict.points:g} of {verdict.max_points:g} points."


def text(verdict: Verdict) -> str:
    """The report as plain text."""
    lines = [headline(verdict)]
    lines += [verdict.problem or verdict.named] if verdict.problem or verdict.named else []
    for case in verdict.cases:
        lines.append(f"  {'right' if case.right else 'not yet' if case.untried else 'wrong'}: {case.title}")
        if not (case.right or case.untried):
            lines += ["    " + line for line in (case.sentence, *case.reproduction.splitlines())]
        if case.shown:
            yours, expected = beside(case.got, case.expected)
            lines += ["    yours:", _indented(yours), "    expected:", _indented(expected)]
    for note in (*verdict.notes, *verdict.after):
        lines += ["", note]
    for solution in verdict.solutions:
        lines += ["", "A good solution to compare with:", solution]
    return "\n".join(lines)


def html(verdict: Verdict) -> str:
    """The report as HTML, without script and without a style that reaches beyond it."""
    colour = _RIGHT if verdict.passed else _WRONG
    parts = [f"<strong>{escaping.escape(headline(verdict))}</strong>"]
    if sentence := verdict.problem or verdict.named:
        parts.append(f"<p>{_inline(sentence)}</p>")
    wrong = [case for case in verdict.cases if not (case.right or case.untried)]
    parts += [_wrong_case(case, opened=index == 0) for index, case in enumerate(wrong)]
    if not verdict.passed:
        for told, some in (
            ("Right", [case.title for case in verdict.cases if case.right]),
            ("Not yet", [case.title for case in verdict.cases if case.untried]),
        ):
            parts += [f"<p>{told}: {_inline('; '.join(some))}.</p>"] if some else []
    parts += [_note(note) for note in verdict.notes]
    parts += [f"<p>{_inline(after)}</p>" for after in verdict.after]
    if verdict.solutions:
        inside = "".join(f'<pre style="{_PRE}">{escaping.escape(solution)}</pre>' for solution in verdict.solutions)
        parts.append(f"<details><summary>Right answers to compare with</summary>{inside}</details>")
    opening = (
        f'<div style="{_STYLE.format(colour=colour)}" data-crosstalk-verdict="{escaping.escape(verdict.exercise)}">'
    )
    return f"{opening}{''.join(parts)}</div>"


def beside(got: Tree, expected: Tree) -> tuple[str, str]:
    """Two results in print, to stand side by side; of large tensors the matrix in which they differ most."""
    if not (isinstance(got, torch.Tensor) and isinstance(expected, torch.Tensor)):
        return shown(got), shown(expected)
    at = (0,) * max(0, expected.dim() - 2)
    if got.shape == expected.shape and expected.numel() and got.dim() > 2:
        gap = (got.double() - expected.double()).abs().nan_to_num(nan=float("inf"))
        at = place_of_largest(gap)[:-2]
    return shown(got, at), shown(expected, at)


def shown(value: Tree, at: tuple[int, ...] = ()) -> str:
    """A result in print: a small tensor whole, of a large one the matrix at an index."""
    if not isinstance(value, torch.Tensor):
        return repr(value)
    head = f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if value.numel() > MAX_SHOWN and len(at) == value.dim() - 2 and at:
        return f"{head}, here [{', '.join(map(str, at))}]:\n{_numbers(value[at])}"
    return f"{head}\n{_numbers(value)}"


def inline(escaped: str) -> str:
    """`code` in text that is already escaped."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)


def _inline(plain: str) -> str:
    return inline(escaping.escape(plain))


def _numbers(tensor: torch.Tensor) -> str:
    if not tensor.numel():
        return "(no elements)"
    rows = tensor.reshape(-1, tensor.shape[-1]) if tensor.dim() else tensor.reshape(1, 1)
    lines = []
    for row in rows[:12]:
        cells = [_number(value) for value in row[:12].tolist()]
        lines.append(" ".join(cells) + (" …" if row.numel() > 12 else ""))
    return "\n".join(lines + (["…"] if len(rows) > 12 else []))


def _number(value: float | int | bool) -> str:
    if isinstance(value, bool):
        return "True " if value else "False"
    return f"{value:8.4f}" if isinstance(value, float) else f"{value:4d}"


def _indented(lines: str) -> str:
    return "\n".join("      " + line for line in lines.splitlines())


def _wrong_case(case: CaseResult, opened: bool) -> str:
    summary = f"<summary><strong>wrong</strong>: {_inline(case.title)}</summary>"
    opening = "<details open>" if opened else "<details>"
    return f"{opening}{summary}<p>{_inline(case.sentence)}</p>{_example(case)}</details>"


def _example(case: CaseResult) -> str:
    parts = []
    if case.reproduction:
        parts.append(
            f'<p>See it again, in a new cell:</p><pre style="{_PRE}">{escaping.escape(case.reproduction)}</pre>'
        )
    if case.shown:
        sides = "".join(
            f'<div style="min-width:14em"><em>{title}</em><pre style="{_PRE}">{escaping.escape(printed)}</pre></div>'
            for title, printed in zip(("yours", "expected"), beside(case.got, case.expected), strict=True)
        )
        parts.append(f'<div style="display:flex;flex-wrap:wrap;gap:1em">{sides}</div>')
    return "".join(parts)


def _note(note: str) -> str:
    first, _, rest = note.partition("\n")
    return f"<p>{_inline(first)}</p>" + (f'<pre style="{_PRE}">{escaping.escape(rest)}</pre>' if rest else "")
