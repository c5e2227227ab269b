"""Drive a tiny model whose logits stand in a table, so that what it will say is known, and its calls are counted."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from autograder.messages import Tree
from autograder.observe import described
from autograder.scenarios.asked import MAX_ROWS, Asked, Questions, TooManyCalls, bounded
from autograder.scenarios.call import accepts, changed, tensors_of


def table(
    rows: Mapping[tuple[tuple[int, ...] | None, tuple[int, ...]], torch.Tensor],
    otherwise: torch.Tensor,
    patience: int,
    growing: bool = False,
    newest: bool = False,
) -> dict[str, Tree]:
    """A model as data, the ``model`` of a case.

    Args:
        rows: the logits (vocabulary,) of the next token, by source and prefix. The source is the tuple of its
            real tokens, or None for any; the prefix is all that the decoder was given, start token included.
        otherwise: (places, vocabulary): the logits for all other prefixes, by place; the last for all beyond.
        patience: how many calls of ``decode`` are borne.
        growing: refuse more tokens in a call of ``decode`` than can have been said by then, one in each call.
        newest: ``decode`` gives the logits of the newest place alone, as a model with a cache does.
    """
    named = {_key(source, prefix): row for (source, prefix), row in rows.items()}
    more = {key: True for key, asked in (("growing", growing), ("newest", newest)) if asked}
    return {"rows": named, "otherwise": otherwise, "patience": patience, **more}


def table_model(answer: Any, inputs: dict, earlier: Mapping[str, Any]) -> Tree:
    """Call ``answer(model, *rest)`` with a `TableModel`.

    ``inputs`` has ``model`` (see `table`; or a mark, see `autograder.held`), ``args`` (its first is None: there the
    model comes), ``kwargs``, and ``counts``: which of ``encoded`` and ``decoded``, the numbers of calls, are part of
    what is asked.

    Returns:
        ``result``, ``changed``, and (where the table is here) the numbers in ``counts``; also ``training``, where the
        model, which comes in evaluation mode, was asked in training mode or left in it.
    """
    (model, *rest), kwargs = with_model(inputs, earlier)
    accepts(answer, "", [model, *rest], kwargs)
    before = [tensor.clone() for _, tensor in tensors_of(inputs)]
    result = answer(model, *rest, **kwargs)
    counted = model.table.counted(inputs["counts"])
    mode = {"training": True} if model.training or model.asked_in_training else {}
    return {"result": described(result), "changed": changed(inputs, before), **counted, **mode}


def with_model(inputs: Mapping[str, Any], earlier: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the call, with the model in its place."""
    return [TableModel(inputs["model"]).eval(), *inputs["args"][1:]], inputs["kwargs"]


class WordTable:
    """What a tiny model says, and how often it was asked.

    Args:
        model: see `table`.
    """

    def __init__(self, model: Mapping[str, Any]) -> None:
        self.known = {_read(key): at for at, key in enumerate(model["rows"])}
        self.table = torch.stack([*model["rows"].values(), *model["otherwise"]])  # (known + places, vocabulary)
        self.last, self.vocabulary = len(self.table) - 1, self.table.size(-1)
        self.patience, self.growing = model["patience"], model.get("growing", False)
        self.encoded = self.decoded = 0

    def encode(self) -> None:
        """One more call of ``encode``."""
        self.encoded += 1

    def decode(self, questions: Questions | None) -> torch.Tensor:
        """One more call of ``decode``; None where nothing can be asked in it, because it was called wrongly.

        Returns:
            (questions, vocabulary), the logits.

        Raises:
            TooManyCalls: there is no end to it.
            ValueError: more tokens were given than have been said by now.
        """
        self.decoded += 1
        if self.decoded > self.patience:
            raise TooManyCalls(f"the model was called {self.decoded} times, and there is no end to it")
        if questions is None:
            return torch.empty(0)
        if self.growing and (given := max(questions.places) + 1) > self.decoded:
            raise ValueError(
                f"decode was given {given} tokens of each row in call {self.decoded}, and no more than {self.decoded} "
                "can be there yet, the start token among them: hand it what has been said so far, (batch, so far)"
            )
        return self.table[[self._place(*question) for question in zip(*questions, strict=True)]]

    def counted(self, names: Sequence[str]) -> dict[str, Tree]:
        """The numbers of these names, ``encoded`` and ``decoded``."""
        return {name: getattr(self, name) for name in names}

    def __deepcopy__(self, memo: object) -> WordTable:
        """A copied model is the same model: its calls are counted, too."""
        return self

    def _place(self, word: Sequence[int], whole: bool, prefix: Sequence[int], place: int) -> int:
        otherwise = min(len(self.known) + place, self.last)
        if not whole:
            return otherwise
        said = tuple(prefix)
        return self.known.get((tuple(word), said), self.known.get((None, said), otherwise))


class TableModel(nn.Module):
    """Takes the place of an EncoderDecoder: the same methods and arguments, batches and masks included.

    The memory, (batch, source, 2), carries each source token, and how many tokens the encoder could see. So a row
    knows its word wherever it is moved to; a word that was encoded or is read with padding in sight is another
    word, and a prefix with a token hidden is another prefix.

    Attributes:
        table: what it says; asked, and its calls counted, here or, where ``model`` is a mark, elsewhere.
        asked_in_training: whether ``encode`` or ``decode`` was called in training mode.
    """

    def __init__(self, model: Mapping[str, Any]) -> None:
        super().__init__()
        self.table = Asked(model) if "held" in model else WordTable(model)
        self.unit = nn.Parameter(torch.ones(()))  # so that there are parameters, and logits carry a gradient
        self.asked_in_training = False
        self.newest = model.get("newest", False)

    def encode(self, source: torch.Tensor, source_mask: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, source) → memory (batch, source, 2)."""
        self.table.encode()
        self.asked_in_training |= self.training
        _ids(source, "encode")
        batch, length = source.shape
        seen = _allowed(batch, length, length, source_mask).any(dim=1).sum(dim=-1)  # (batch,)
        return torch.stack([source, seen[:, None].expand_as(source)], dim=-1) * self.unit

    def decode(
        self,
        target: torch.Tensor,
        memory: torch.Tensor,
        target_mask: torch.Tensor | None = None,
        memory_mask: torch.Tensor | None = None,
        start: int = 0,
    ) -> torch.Tensor:
        """(batch, length), (batch, source, 2) → logits (batch, length, vocabulary), or of the newest place alone.

        Raises:
            TooManyCalls: there is no end to it.
            ValueError: more tokens were given than have been said by now, where that is looked at.
        """
        self.asked_in_training |= self.training
        try:
            questions = self._questions(target, memory, target_mask, memory_mask, start)
        except Exception:
            self.table.decode(None)  # a call that fails is a call
            raise
        rows = self.table.decode(questions)  # (batch · length, vocabulary)
        logits = rows.view(-1, target.size(1), rows.size(-1)) * self.unit
        return logits[:, -1:] if self.newest else logits

    def forward(
        self,
        source: torch.Tensor,
        target: torch.Tensor,
        source_mask: torch.Tensor | None = None,
        target_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(batch, source), (batch, length) → logits (batch, length, vocabulary)."""
        return self.decode(target, self.encode(source, source_mask), target_mask, source_mask)

    def _questions(
        self,
        target: torch.Tensor,
        memory: torch.Tensor,
        target_mask: torch.Tensor | None,
        memory_mask: torch.Tensor | None,
        start: int,
    ) -> Questions:
        _ids(target, "decode")
        if int(target.max()) >= (vocabulary := self.table.vocabulary) or int(target.min()) < 0:
            raise IndexError(f"decode was given a token outside the vocabulary of {vocabulary}: {target.tolist()}")
        batch, length = max(len(target), len(memory)), target.size(1)
        sources = memory.detach().expand(batch, -1, -1).round().long()  # (batch, source, 2)
        bounded(batch * length, batch * length * (sources.size(1) + (length + 1) // 2), "decode")
        tokens = target.expand(batch, -1)
        readable = _allowed(batch, length, sources.size(1), memory_mask)  # (batch, length, source)
        known = _allowed(batch, length, length, target_mask if start == 0 else None).tril()  # (batch, length, length)
        words, whole, prefixes, places = [], [], [], []
        for b in range(batch):
            for t in range(length):
                word, seen = sources[b][readable[b, t]].unbind(dim=-1)
                words.append(word.tolist())
                whole.append(bool((seen == len(word)).all()))
                prefixes.append(tokens[b][known[b, t]].tolist() if start == 0 else [])
                places.append(min(operator.index(start + t), MAX_ROWS))  # all that are far out are one
        if places[0] < 0:
            raise IndexError(f"decode was given the place {places[0]} to start at")
        return Questions(words, whole, prefixes, places)


def _key(source: Sequence[int] | None, prefix: Sequence[int]) -> str:
    word = "any" if source is None else " ".join(map(str, source))
    return f"{word} > {' '.join(map(str, prefix))}"


def _read(key: str) -> tuple[tuple[int, ...] | None, tuple[int, ...]]:
    """The inverse of `_key`."""
    word, prefix = key.split(">")
    return None if word == "any " else tuple(map(int, word.split())), tuple(map(int, prefix.split()))


def _allowed(batch: int, queries: int, keys: int, mask: torch.Tensor | None) -> torch.Tensor:
    """Which keys any head of each query may attend to.  # (batch, queries, keys)"""
    every = torch.ones(batch, 1, queries, keys, dtype=torch.bool)
    return (every if mask is None else every & mask).any(dim=1)


def _ids(tokens: torch.Tensor, called: str) -> None:
    if not isinstance(tokens, torch.Tensor):
        raise TypeError(f"{called} takes a tensor of token ids, and was given a {type(tokens).__name__}")
    if tokens.is_floating_point() or tokens.dim() != 2:
        kind = str(tokens.dtype).removeprefix("torch.")
        raise TypeError(f"{called} takes token ids, int (batch, length), and was given {kind} {tuple(tokens.shape)}")
