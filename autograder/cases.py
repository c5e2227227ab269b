"""The inputs of a case, for the student to try by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from autograder.messages import decode, encode
from autograder.packs import visible_pack
from autograder.scenarios import MADE_BY
from autograder.scenarios.cached import all_calls, cache_builder
from autograder.scenarios.call import gradients as try_gradients
from autograder.scenarios.module import recorded, take_weights
from autograder.scenarios.parts import assembler
from crosstalk import my_model
from crosstalk.course import course
from crosstalk.layers import fused_attention, use_attention


class Arguments(NamedTuple):
    """Arguments of a call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def case(name: str, title: str) -> Any:
    """The inputs of a visible case.

    Returns:
        `Arguments` for a function (a model among them is made anew each time); for a class, ``build`` (makes an
        object from your class and copies the case's weights in, or calls it as often as comes before the last call)
        and the `Arguments` of the call.

    Raises:
        KeyError: there is no such case; the message lists those there are.
    """
    scenario, inputs = _found(name, title)
    if make := MADE_BY.get(scenario):
        args, kwargs = make(inputs, _stand_ins(name))
        return Arguments(tuple(args), kwargs)
    if scenario == "cache":
        return cache_builder(inputs), Arguments(tuple(inputs["script"][-1]["args"]), {})
    if scenario not in ("module", "assembled"):
        return Arguments(tuple(inputs["args"]), inputs["kwargs"])
    build = assembler(inputs) if scenario == "assembled" else _builder(inputs)
    return build, Arguments(tuple(inputs["forward"]["args"]), inputs["forward"]["kwargs"])


def calls(name: str, title: str) -> list[Arguments]:
    """The `Arguments` of all calls of a visible case of `attend_with_cache`, to be made in this order.

    They share their attentions and caches, so each call leaves to the next what it has appended.

    Raises:
        KeyError: there is no such case; the message lists those there are.
    """
    _, inputs = _found(name, title)
    return [Arguments(tuple(args), kwargs) for args, kwargs in all_calls(inputs, _stand_ins(name))]


def gradients(function: Callable[..., Any], *args: Any, **kwargs: Any) -> list[torch.Tensor | None]:
    """The gradients that the check looks at: at each floating-point argument, from a weighted sum of the results.

    None where nothing reached an argument. Your tensors stay as they are.
    """
    inputs = decode(encode({"args": list(args), "kwargs": kwargs}))
    return try_gradients(function, inputs, {})["gradients"]


def _found(name: str, title: str) -> tuple[str, dict[str, Any]]:
    """The scenario of a visible case, and a copy of its inputs: the student may change it."""
    lesson, _ = course().find(name)
    cases = {case.title: case for case in visible_pack(lesson).exercises[name].cases}
    if title not in cases:
        raise KeyError(f"{name} has no case {title!r}; it has {', '.join(map(repr, cases))}")
    return cases[title].scenario, decode(encode(cases[title].inputs))


def _stand_ins(name: str) -> dict[str, Any]:
    return {other: my_model.stand_in(other) for other in course().earlier_exercises(name)}


def _builder(inputs: dict[str, Any]) -> Callable[[type], torch.nn.Module]:
    def build(made_from: type) -> torch.nn.Module:
        options = dict(inputs["build"]["kwargs"])
        if record := inputs.get("record"):
            options[record["as"]] = recorded(my_model.stand_in(record["name"]), record, [])
        module = made_from(*inputs["build"]["args"], **options)
        has = dict(module.named_parameters())  # a class that is half written can be tried too
        take_weights(module, {name: weight for name, weight in inputs["weights"].items() if name in has})
        if inputs.get("fused"):
            use_attention(module, fused_attention)
        return module.train(inputs["train"])

    return build
