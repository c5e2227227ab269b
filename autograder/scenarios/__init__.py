"""The few ways to try an exercise. They ship to students and return observations.

A scenario is a function of the student's object, the inputs of a case, and the stand-ins of earlier
exercises; it returns a tree (see `autograder.messages`). It holds no expected value and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from autograder.messages import Tree
from autograder.scenarios.call import call, gradients
from autograder.scenarios.module import module

Scenario = Callable[[Any, Any, Mapping[str, Any]], Tree]

SCENARIOS: dict[str, Scenario] = {"call": call, "gradients": gradients, "module": module}
