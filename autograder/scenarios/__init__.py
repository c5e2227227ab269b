"""The few ways to try an exercise. They ship to students and return observations.

A scenario is a function of the student's object, the inputs of a case, and the stand-ins of earlier
exercises; it returns a tree (see `autograder.messages`). It holds no expected value and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from autograder.messages import Tree
from autograder.scenarios.cached import cache, cached_attention, last_call
from autograder.scenarios.call import call, gradients
from autograder.scenarios.drawing import drawing, with_rows
from autograder.scenarios.module import module
from autograder.scenarios.parts import assembled, attending, with_attention
from autograder.scenarios.sealed import sealed
from autograder.scenarios.table_model import table_model, with_model
from autograder.scenarios.table_step import table_step, with_step
from autograder.scenarios.training import first_step, training

Scenario = Callable[[Any, Any, Mapping[str, Any]], Tree]

SCENARIOS: dict[str, Scenario] = {
    "call": call,
    "gradients": gradients,
    "module": module,
    "attending": attending,
    "assembled": assembled,
    "table_model": table_model,
    "table_step": table_step,
    "drawing": drawing,
    "training": training,
    "cache": cache,
    "cached_attention": cached_attention,
    "sealed": sealed,
}

#: Where the arguments of the call have to be made first: from the inputs and the stand-ins of earlier exercises.
MADE_BY: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[list[Any], dict[str, Any]]]] = {
    "attending": with_attention,
    "table_model": with_model,
    "table_step": with_step,
    "drawing": with_rows,
    "training": first_step,
    "cached_attention": last_call,
}
