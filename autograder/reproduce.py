"""A failing case as two lines that a student can copy into a cell."""

from __future__ import annotations

import torch

from autograder.messages import Tree
from autograder.packs import Case, ExercisePack
from autograder.scenarios import MADE_BY

MAX_LITERAL = 160  # characters of an argument list that is still pleasant to read


def reproduction(pack: ExercisePack, case: Case) -> str:
    """Two lines: make the inputs, call the student's own function."""
    if case.scenario in ("module", "cache"):
        if case.inputs.get("initial"):
            made = ", ".join(map(repr, case.inputs["build"]["args"]))
            look = "{name: (weight.mean(), weight.std()) for name, weight in made.named_parameters()}"
            return f"made = {pack.name}({made})\nsorted(made.state_dict()), {look}"
        if calls := case.inputs.get("dropped"):
            return (f'from autograder import case, dropped; build, forward = case("{pack.name}", "{case.title}")\n'
                    f"dropped(build({pack.name}), *forward, calls={calls})")  # fmt: skip
        return (f'from autograder import case; build, forward = case("{pack.name}", "{case.title}")\n'
                f"build({pack.name})(*forward.args, **forward.kwargs)")  # fmt: skip
    if case.scenario == "assembled":
        return (f'from autograder import case; build, inputs = case("{pack.name}", "{case.title}")\n'
                f"build({pack.name}).{case.inputs['method']}(*inputs.args, **inputs.kwargs)")  # fmt: skip
    if case.scenario == "cached_attention":
        return (f'from autograder import calls; made = calls("{pack.name}", "{case.title}")\n'
                f"[{pack.name}(*each.args, **each.kwargs) for each in made]")  # fmt: skip
    if case.scenario in MADE_BY:
        return (f'from autograder import case; inputs = case("{pack.name}", "{case.title}")\n'
                f"{pack.name}(*inputs.args, **inputs.kwargs)")  # fmt: skip
    arguments, options = case.inputs["args"], case.inputs["kwargs"]
    names = case.names[: len(arguments)]
    given = [_literal(value) for value in arguments]
    named = {key: _literal(value) for key, value in options.items()}
    literal = "; ".join(f"{name} = {value}" for name, value in zip(names, given, strict=True))
    fetched = f'case("{pack.name}", "{case.title}")'
    tools, passed = [], [*names, *(f"{key}={value}" for key, value in named.items())]
    if None in named.values():
        tools, made, passed = ["case"], f"inputs = {fetched}", ["*inputs.args", "**inputs.kwargs"]
    elif None in given or len(literal) > MAX_LITERAL:
        tools, made = ["case"], f"{', '.join(names)}{',' if len(names) == 1 else ''} = {fetched}.args"
    else:
        made = literal or "import torch"
    if case.scenario == "gradients":
        tools.append("gradients")
        call = f"gradients({', '.join([pack.name, *passed])})"
    else:
        call = f"{pack.name}({', '.join(passed)})"
    return f"from autograder import {', '.join(tools)}; {made}\n{call}" if tools else f"{made}\n{call}"


def _literal(value: Tree) -> str | None:
    """The value as source, or None where it would be too long or would not come back the same."""
    if not isinstance(value, torch.Tensor):
        return str(value) if isinstance(value, torch.dtype) else repr(value)
    if value.numel() > 24 or not value.is_contiguous() or not value.isfinite().all():
        return None
    numbers = _rounded(value.tolist())
    if not torch.equal(torch.tensor(numbers, dtype=value.dtype), value):
        return None
    kind = "" if value.dtype in (torch.float32, torch.int64, torch.bool) else f", dtype={value.dtype}"
    return f"torch.tensor({numbers}{kind})"


def _rounded(values: Tree) -> Tree:
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    return round(values, 4) if isinstance(values, float) else values
