"""Ask for a name out of a list, and report it sealed: no case and no report can give the right one away."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from autograder.messages import Tree
from autograder.observe import described
from autograder.scenarios.call import accepts


def sealed(answer: Any, inputs: dict, earlier: Mapping[str, Any]) -> Tree:
    """Call ``answer(*args, **kwargs)``, which gives one of ``inputs["names"]``, in any spelling of capitals.

    Returns:
        ``sealed``, a digest of the arguments and the name; or ``unlisted``, what it gave that is no such name.
    """
    accepts(answer, "", inputs["args"], inputs["kwargs"])
    given = answer(*inputs["args"], **inputs["kwargs"])
    name = " ".join(given.lower().split()) if isinstance(given, str) else ""
    if name not in inputs["names"]:
        return {"unlisted": described(given)}
    asked = repr((inputs["args"], sorted(inputs["kwargs"].items()), name))
    return {"sealed": hashlib.sha256(asked.encode()).hexdigest()[:16]}
