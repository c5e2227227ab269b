"""A verdict as a person sees it: HTML in the notebook, plain text elsewhere.

Colours come from JupyterLab's theme where there is one; right and wrong are always told in words too.
Everything that came from student code is escaped.
"""

from __future__ import annotations

import html as escaping
import re

import torch

from autograder.messages import Tree
from autograder.verdict import CaseResult, Verdict

MAX_SHOWN = 64  # numbers of one tensor

_STYLE = (
    "border-left:4px solid {colour};padding:.4em .9em;margin:.3em 0;max-width:62em;line-height:1.45;"
    "color:var(--jp-content-font-color1,inherit);font-family:var(--jp-content-font-family,sans-serif)"
)
_PRE = (
    "margin:.3em 0;padding:.4em .6em;overflow-x:auto;background:var(--jp-cell-editor-background,#f5f5f5);"
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
        lines.append(f"  {'right' if case.right else 'wrong'}: {case.title}")
        if not case.right:
            lines.append(f"    {case.sentence}")
    if first := _first_wrong(verdict):
        if first.reproduction:
            lines += ["", "See it again:", *("    " + line for line in first.reproduction.splitlines())]
        if first.shown:
            lines += ["", "yours:", shown(first.got), "expected:", shown(first.expected)]
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
    if verdict.cases and not verdict.passed:
        parts.append("<ul>" + "".join(map(_case_line, verdict.cases)) + "</ul>")
    if first := _first_wrong(verdict):
        parts.append(_example(first))
    parts += [_note(note) for note in verdict.notes]
    parts += [f"<p>{_inline(after)}</p>" for after in verdict.after]
    if verdict.solutions:
        inside = "".join(f'<pre style="{_PRE}">{escaping.escape(solution)}</pre>' for solution in verdict.solutions)
        parts.append(f"<details><summary>Right answers to compare with</summary>{inside}</details>")
    opening = (
        f'<div style="{_STYLE.format(colour=colour)}" data-crosstalk-verdict="{escaping.escape(verdict.exercise)}">'
    )
    return f"{opening}{''.join(parts)}</div>"


def shown(value: Tree) -> str:
    """A result in print: small tensors whole, large ones by their corner."""
    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        head = f"{dtype} {tuple(value.shape)}\n"
        if value.numel() > MAX_SHOWN and value.dim() > 2:
            first = value[(0,) * (value.dim() - 2)]
            return f"{head}first of {value[..., 0, 0].numel()}:\n{_numbers(first)}"
        return head + _numbers(value)
    return repr(value)


def inline(escaped: str) -> str:
    """`code` in text that is already escaped."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)


def _inline(plain: str) -> str:
    return inline(escaping.escape(plain))


def _numbers(tensor: torch.Tensor) -> str:
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


def _first_wrong(verdict: Verdict) -> CaseResult | None:
    return next((case for case in verdict.cases if not case.right and not case.hidden), None)


def _case_line(case: CaseResult) -> str:
    if case.right:
        return f"<li>right: {_inline(case.title)}</li>"
    return f"<li><strong>wrong</strong>: {_inline(case.title)}<br>{_inline(case.sentence)}</li>"


def _example(case: CaseResult) -> str:
    parts = []
    if case.reproduction:
        parts.append(
            f'<p>See it again, in a new cell:</p><pre style="{_PRE}">{escaping.escape(case.reproduction)}</pre>'
        )
    if case.shown:
        sides = "".join(
            f'<div style="min-width:14em"><em>{title}</em>'
            f'<pre style="{_PRE}">{escaping.escape(shown(value))}</pre></div>'
            for title, value in (("yours", case.got), ("expected", case.expected))
        )
        parts.append(f'<div style="display:flex;flex-wrap:wrap;gap:1em">{sides}</div>')
    return "".join(parts)


def _note(note: str) -> str:
    first, _, rest = note.partition("\n")
    return f"<p>{_inline(first)}</p>" + (f'<pre style="{_PRE}">{escaping.escape(rest)}</pre>' if rest else "")
