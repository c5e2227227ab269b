"""Try a cache, and what attends with one: several calls in a row, what each gave, and what is there at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from autograder.messages import Tree
from autograder.observe import described
from autograder.scenarios.call import NotAccepted, accepts, changed, tensors_of
from autograder.scenarios.parts import attention_of


def cache(answer: Any, inputs: dict, earlier: Mapping[str, Any]) -> Tree:
    """Make ``inputs["caches"]`` objects of the class ``answer``, and play a script with them.

    ``inputs["script"]`` has steps ``{"cache", "call", "args"}``: the index of a cache, the name of its method
    (``append`` or ``select``), the arguments. The last one is an ``append``.

    Returns:
        ``empty``, the length of each cache before anything was called; ``steps``: for each, what ``append`` gave, and
        the length of its cache afterwards; ``result``, what the last one gave; ``kept``, what the steps had given,
        looked at again at the end; ``changed``, which inputs the calls changed.
    """
    accepts(answer, "", [], {})
    before = [tensor.clone() for _, tensor in tensors_of(inputs)]
    caches = [answer() for _ in range(inputs["caches"])]
    empty = [described(getattr(each, "length", None)) for each in caches]
    given: list[Any] = []
    steps: list[Tree] = []
    for step in inputs["script"]:
        result = _step(caches, step)
        given.append(result)
        steps.append({"gave": described(result), "length": described(getattr(caches[step["cache"]], "length", None))})
    return _told(given, steps) | {"empty": empty, "changed": changed(inputs, before)}


def _step(caches: Sequence[Any], step: Mapping[str, Any]) -> Any:
    """What ``append`` gives; of ``select`` nothing is asked but that it selects."""
    method = getattr(caches[step["cache"]], step["call"], None)
    if method is None:
        raise NotAccepted(step["call"], "nothing: there is no such method")
    accepts(method, step["call"], step["args"], {})
    result = method(*step["args"])
    return result if step["call"] == "append" else None


def cache_builder(inputs: Mapping[str, Any]) -> Callable[[type], Callable[..., Any]]:
    """What makes a cache from a student's class and plays all of the script but its last step: that one is theirs."""

    def build(made_from: type) -> Callable[..., Any]:
        caches = [made_from() for _ in range(inputs["caches"])]
        *first, last = inputs["script"]
        for step in first:
            _step(caches, step)
        return getattr(caches[last["cache"]], last["call"])

    return build


def cached_attention(answer: Any, inputs: dict, earlier: Mapping[str, Any]) -> Tree:
    """Call ``answer(attention, states, cache, mask)`` once for each step of a script, as a decoder does.

    ``inputs`` has ``size`` (d_model, heads), ``attentions`` (the weights of each layer's, by name), ``record`` (see
    `autograder.scenarios.parts.attending`), ``caches`` (how many), and ``script``: steps ``{"layer", "cache",
    "states", "mask"}``, with ``"by_name"`` where the arguments are named. A mask that is missing is not passed.

    Returns:
        ``steps``: for each call what it gave, the ``length`` of its cache afterwards, the shapes that it
        ``appended``, and how many ``extra`` rows it handed to the projections beside those of the new tokens;
        ``result``, what the last one gave; ``kept``, what the steps had given, looked at again at the end;
        ``changed``, which inputs the calls changed; and ``calls`` of the function that each head does.
    """
    calls: list[Tree] = []
    before = [tensor.clone() for _, tensor in tensors_of(inputs)]
    layers = [_Watched(inputs, weights, earlier, calls) for weights in inputs["attentions"]]
    caches = [_noting(earlier["KeyValueCache"])() for _ in range(inputs["caches"])]
    given: list[Any] = []
    steps: list[Tree] = []
    with torch.no_grad():
        for step in inputs["script"]:
            layer, memory = layers[step["layer"]], caches[step["cache"]]
            args, kwargs = _arguments(layer.attention, memory, step)
            accepts(answer, "", args, kwargs)
            layer.rows.update(dict.fromkeys(layer.rows, 0))
            memory.appended.clear()
            result = answer(*args, **kwargs)
            given.append(result)
            new = step["states"].shape[:2].numel()
            steps.append({
                "gave": described(result),
                "length": memory.length,
                "appended": list(memory.appended),
                "extra": {name: max(0, rows - new) for name, rows in layer.rows.items()},
            })  # fmt: skip
    for noted in calls:  # no mask, and one that allows everything, are the same
        noted.pop("mask")
    return _told(given, steps) | {"changed": changed(inputs, before), "calls": calls}


def all_calls(inputs: Mapping[str, Any], earlier: Mapping[str, Any]) -> list[tuple[list[Any], dict[str, Any]]]:
    """The arguments of each call, for the student to make one after the other: they fill the caches themselves."""
    layers = [attention_of(_one(inputs, weights), earlier, []) for weights in inputs["attentions"]]
    caches = [earlier["KeyValueCache"]() for _ in range(inputs["caches"])]
    return [_arguments(layers[step["layer"]], caches[step["cache"]], step) for step in inputs["script"]]


def last_call(inputs: Mapping[str, Any], earlier: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the last call, its cache filled by those before, for the student to try by hand."""
    layers = [attention_of(_one(inputs, weights), earlier, []) for weights in inputs["attentions"]]
    caches = [earlier["KeyValueCache"]() for _ in range(inputs["caches"])]
    *first, last = inputs["script"]
    with torch.no_grad():
        for step in first:
            caches[step["cache"]].append(*earlier["project_memory"](layers[step["layer"]], step["states"]))
    return _arguments(layers[last["layer"]], caches[last["cache"]], last)


def _told(given: Sequence[Any], steps: Sequence[Tree]) -> dict[str, Tree]:
    return {"steps": list(steps), "result": steps[-1]["gave"], "kept": [described(each) for each in given]}


def _arguments(attention: nn.Module, memory: Any, step: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    masks = {} if step["mask"] is None else {"mask": step["mask"]}
    if step.get("by_name"):
        return [], {"attention": attention, "states": step["states"], "cache": memory, **masks}
    return [attention, step["states"], memory, *masks.values()], {}


def _one(inputs: Mapping[str, Any], weights: Tree) -> dict[str, Any]:
    return {"size": inputs["size"], "attention": weights, "record": inputs["record"]}


def _noting(kind: type) -> type:
    """The cache, made to write down the shapes of what is appended."""

    class Noting(kind):
        def __init__(self) -> None:
            super().__init__()
            self.appended: list[Tree] = []

        def append(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            self.appended.append([list(keys.shape), list(values.shape)])
            return super().append(keys, values)

    Noting.__name__ = kind.__name__  # which error messages name
    return Noting


class _Watched:
    """An attention, and how many rows each of its four maps has been handed."""

    def __init__(self, inputs: Mapping[str, Any], weights: Tree, earlier: Mapping[str, Any], calls: list[Tree]) -> None:
        self.attention = attention_of(_one(inputs, weights), earlier, calls)
        self.rows = {"query": 0, "key": 0, "value": 0, "output": 0}
        for name in self.rows:
            getattr(self.attention, name).register_forward_pre_hook(self._counter(name))

    def _counter(self, name: str) -> Callable[[nn.Module, tuple], None]:
        def count(module: nn.Module, args: tuple) -> None:
            self.rows[name] += args[0].shape[:-1].numel()

        return count
