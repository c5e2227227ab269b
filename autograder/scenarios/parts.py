"""Try what works on parts that are handed to it: a function on an attention, a model on its five modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from autograder.messages import Tree
from autograder.observe import described
from autograder.scenarios.call import accepts, backward, changed, tensors_of, with_leaves
from autograder.scenarios.module import recorded, take_weights

ATTENTION = "the attention"  # stands in the arguments where the attention is put


def attending(answer: Any, inputs: dict, earlier: Mapping[str, Any]) -> Tree:
    """Call ``answer(*args, **kwargs)`` with a `MultiHeadAttention` among the arguments, and go backward.

    ``inputs`` has args and kwargs, where ``ATTENTION`` marks the attention's place; ``size`` (d_model, heads)
    and ``attention`` (its weights by name); ``record``: which arguments of what each head does are noted loosely,
    and whether it returns None for the weights (see `autograder.scenarios.module`). It may have ``again``: the args
    and kwargs of a second call with the same attention.

    Returns:
        ``result``, ``changed``, ``gradients`` at the arguments and at the weights, and ``calls`` of the function
        that each head does, in the first call; where there is a second one, ``again``, its result.
    """
    accepts(answer, "", inputs["args"], inputs["kwargs"])
    calls: list[Tree] = []
    attention = attention_of(inputs, earlier, calls)
    before = [tensor.clone() for _, tensor in tensors_of({key: inputs[key] for key in ("args", "kwargs")})]
    passed, leaves = with_leaves(inputs)
    copies = {"args": list(passed["args"]), "kwargs": dict(passed["kwargs"])}
    leaves += [parameter for _, parameter in sorted(attention.named_parameters())]
    result = answer(*in_place(passed["args"], attention), **in_place(passed["kwargs"], attention))
    for noted in calls:  # no mask, and one that allows everything, are the same
        noted.pop("mask")
    seen: dict[str, Tree] = {
        "result": described(result),
        "changed": changed(copies, before),
        "gradients": backward(result, leaves),
        "calls": list(calls),
    }
    if again := inputs.get("again"):
        following = answer(*in_place(again["args"], attention), **in_place(again["kwargs"], attention))
        seen["again"] = described(following)
    return seen


def attention_of(inputs: Mapping[str, Any], earlier: Mapping[str, Any], calls: list[Tree]) -> nn.Module:
    """The attention of a case, with its weights; what each head does is written down in ``calls``."""
    inner = recorded(earlier["masked_attention"], inputs["record"], calls)
    attention = earlier["MultiHeadAttention"](*inputs["size"], attention=inner)
    take_weights(attention, inputs["attention"])
    return attention


def in_place(arguments: Any, attention: nn.Module) -> Any:
    """The arguments (a list, or a dict by name) with the attention where it belongs."""
    if isinstance(arguments, dict):
        return {key: attention if value == ATTENTION else value
                for key, value in arguments.items()}  # fmt: skip
    return [attention if isinstance(value, str) and value == ATTENTION else value for value in arguments]


def with_attention(inputs: Mapping[str, Any], earlier: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of an ``attending`` case, its attention among them, for the student to try by hand."""
    attention = attention_of(inputs, earlier, [])
    return in_place(inputs["args"], attention), in_place(inputs["kwargs"], attention)


def assembled(answer: Any, inputs: dict, earlier: Mapping[str, Any]) -> Tree:
    """Build ``answer`` from five toy modules, call one of its methods, and go backward.

    ``inputs`` has ``method``, ``forward`` (args and kwargs of the call), ``start`` (tokens that are already
    there), ``weights`` of the toys by name, ``tied`` (the generator shares the target table), ``features`` (the
    source is no tokens but features), ``again``, a second call with its own method and start, or None, and may have
    ``evaluating``: is the model in evaluation mode?

    Returns:
        ``kind``, ``parameters`` (name → shape), and, where the names fit, ``result``, ``again``, ``changed``,
        ``gradients`` of inputs and parameters, ``called`` (module → number of calls in the first call) and
        ``masks`` that reached encoder and decoder, broadcast; no mask is one that allows everything; also
        ``training``, the model's mode, if it is no longer the one that it was in.
    """
    toys = toys_of(inputs)
    accepts(answer, "", list(toys.values()), {})
    built = answer(*toys.values())
    if not isinstance(built, nn.Module):
        return {"kind": described(built)}
    shapes = {name: list(p.shape) for name, p in sorted(built.named_parameters(remove_duplicate=False))}
    seen: dict[str, Tree] = {"kind": "module", "parameters": shapes, "attributes": {}}
    if shapes.keys() != inputs["weights"].keys():
        return seen
    method, forward = getattr(built, inputs["method"], None), inputs["forward"]
    if method is None:
        return seen | {"result": {"$kind": f"missing method {inputs['method']}"}}
    accepts(method, inputs["method"], forward["args"], forward["kwargs"])
    training = not inputs.get("evaluating", False)
    built.train(training)
    before = [tensor.clone() for _, tensor in tensors_of(forward)]
    passed, leaves = with_leaves(forward)
    # At the toys that were handed in: a copy of them would have no gradient.
    leaves += [p for _, p in sorted((f"{name}.{of}", p) for name, toy in toys.items()
                                    for of, p in toy.named_parameters())]  # fmt: skip
    call = built if inputs["method"] == "forward" else method
    result = call(*passed["args"], **passed["kwargs"])
    called = {name: toy.called for name, toy in toys.items()}
    masks = {f"{name}.{key}": mask for name, toy in toys.items() for key, mask in toy.masks.items()}
    again = inputs["again"]
    if again:
        for toy in toys.values():
            toy.start = again["start"]
        again = getattr(built, again["method"])(*again["args"], **again["kwargs"])
    if any(part.training != training for part in built.modules()):
        seen["training"] = not training
    return seen | {
        "again": described(again),
        "result": described(result),
        "changed": changed(passed, before),
        "gradients": backward(result, leaves),
        "called": called,
        "masks": masks,
    }


def assembler(inputs: dict[str, Any]) -> Callable[[Any], nn.Module]:
    """What puts the toys of an ``assembled`` case into a student's class."""

    def build(made_from: Any) -> nn.Module:
        model: nn.Module = made_from(*toys_of(inputs).values())
        return model.eval() if inputs.get("evaluating") else model

    return build


def toys_of(inputs: dict) -> dict[str, Toy]:
    """The five modules of a case, with their weights, by the names that the model gives them."""
    weights = inputs["weights"]
    target_table = nn.Parameter(weights["target_embedding.weight"].clone())
    tables = {name: nn.Parameter(weights[f"{name}.weight"].clone()) for name in ("source_embedding", "encoder",
                                                                                "decoder", "generator")}  # fmt: skip
    if inputs["tied"]:
        tables["generator"] = target_table
    kind = ToyFeatures if inputs["features"] else ToySource
    return {
        "source_embedding": kind(tables["source_embedding"], inputs["start"]),
        "encoder": ToyEncoder(tables["encoder"], inputs["start"]),
        "target_embedding": ToyTarget(target_table, inputs["start"]),
        "decoder": ToyDecoder(tables["decoder"], inputs["start"]),
        "generator": ToyGenerator(tables["generator"], inputs["start"]),
    }


class Toy(nn.Module):
    """A module small enough to be followed by hand; it counts its calls and keeps the masks of the last.

    Args:
        weight: its one parameter.
        start: how many tokens a decoder has already seen.
    """

    def __init__(self, weight: nn.Parameter, start: int) -> None:
        super().__init__()
        self.weight, self.start = weight, start
        self.called = 0
        self.masks: dict[str, torch.Tensor] = {}

    def _mask(self, name: str, mask: torch.Tensor | None, batch: int, queries: int, keys: int) -> torch.Tensor:
        """The mask in full, (batch, heads, queries, keys) with two heads; what is not boolean stays as it is."""
        shape = (batch, 2, queries, keys)
        try:
            full = torch.ones(shape, dtype=torch.bool) if mask is None else torch.broadcast_to(mask, shape)
        except RuntimeError:
            given = tuple(mask.shape) if mask is not None else None
            raise ValueError(
                f"{name} has shape {given}, which cannot be broadcast to (batch, heads, queries, keys) = {shape}"
            ) from None
        self.masks[name] = full.clone()
        return full


class ToySource(Toy):
    """A vector for each source token, and nothing more."""

    def forward(self, source: torch.Tensor) -> torch.Tensor:
        """(batch, source) → (batch, source, d_model)."""
        self.called += 1
        return self.weight[source]


class ToyFeatures(Toy):
    """A linear map of features: what stands for the source embedding where the source is no text."""

    def forward(self, source: torch.Tensor) -> torch.Tensor:
        """(batch, source, features) → (batch, source, d_model)."""
        self.called += 1
        return source @ self.weight


class ToyTarget(Toy):
    """A vector for each target token, moved by its position."""

    def forward(self, tokens: torch.Tensor, start: int = 0) -> torch.Tensor:
        """(batch, length) → (batch, length, d_model)."""
        self.called += 1
        positions = torch.arange(start, start + tokens.size(1), dtype=self.weight.dtype)
        return self.weight[tokens] + 0.1 * positions[:, None]


class ToyEncoder(Toy):
    """Adds to each state a mean over the places that its mask allows."""

    def forward(self, states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, source, d_model), mask → (batch, source, d_model)."""
        self.called += 1
        batch, length, _ = states.shape
        return states + _mean(states, self._mask("mask", mask, batch, length, length)) @ self.weight


class ToyDecoder(Toy):
    """Adds to each state a mean over the tokens, and one over the memory, that its masks allow.

    Where ``start`` tokens are already there, it has a state of each, as a decoder with a cache has.
    """

    def forward(
        self,
        states: torch.Tensor,
        memory: torch.Tensor,
        target_mask: torch.Tensor | None = None,
        memory_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(batch, length, d_model), (batch, source, d_model), masks → (batch, length, d_model)."""
        self.called += 1
        batch, length, d_model = states.shape
        past = torch.arange(1.0, self.start + 1, dtype=states.dtype)[None, :, None].expand(batch, -1, d_model)
        tokens = torch.cat([past, states], dim=1)  # (batch, start + length, d_model)
        own = self._mask("target_mask", target_mask, batch, length, tokens.size(1))
        read = self._mask("memory_mask", memory_mask, batch, length, memory.size(1))
        return states + _mean(tokens, own) @ self.weight + _mean(memory, read)


class ToyGenerator(Toy):
    """Scores each token of the vocabulary by a dot product."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(batch, length, d_model) → logits (batch, length, vocabulary)."""
        self.called += 1
        return states @ self.weight.T


def _mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Means over the allowed places, the second head counting double: (batch, queries, d_model)."""
    heads = torch.tensor([1.0, 2.0], dtype=states.dtype)[:, None, None]
    weights = (mask * heads).sum(dim=1)  # (batch, queries, keys)
    total = weights.sum(dim=-1, keepdim=True).clamp(min=1)
    return weights.to(states.dtype) @ states / total
