"""What judges: exercises, scenarios, packs, verdicts.

In a notebook: check, hint, trace, case, calls, gradients, dropped.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autograder.cases import calls, case, gradients
    from autograder.notebook import check, hint
    from autograder.scenarios.module import dropped
    from autograder.tracing import trace

__all__ = ["calls", "case", "check", "dropped", "gradients", "hint", "trace"]

# Loaded at first use: the command line reads this package too, and must not wait for torch.
_HOMES = {
    "case": "cases",
    "calls": "cases",
    "gradients": "cases",
    "check": "notebook",
    "hint": "notebook",
    "trace": "tracing",
    "dropped": "scenarios.module",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"autograder has no {name!r}; it has {', '.join(__all__)}")
    from autograder.answers import watch_cells

    watch_cells()
    return getattr(importlib.import_module(f"autograder.{_HOMES[name]}"), name)
