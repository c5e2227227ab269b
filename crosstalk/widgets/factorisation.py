"""log P(y|x) = Σ log P(y_t | y_<t, x), token by token."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import traitlets
from torch import Tensor

from crosstalk.widgets import student
from crosstalk.widgets.base import CourseWidget
from crosstalk.widgets.packing import pack


class Factorisation(CourseWidget):
    """Walk through a pronunciation and watch its log-probability grow downward.

    Args:
        examples: one mapping for each word and pronunciation: ``word``; ``tokens``, the target with its end
            token; ``vocabulary``, all tokens; ``log_probs``, (target, vocabulary), row t given the word and
            the tokens before t; optionally ``label``, which tells several pronunciations of a word apart.
        score: the student's ``sequence_log_prob(log_probs, target)``, with ``log_probs`` float
            (target, vocabulary) and ``target`` int64 (target,), giving a scalar. Its result is compared with
            the widget's own sum.
        end: the end token; the switch leaves it out where it is the last token.

    Raises:
        ValueError: an example lacks something, or its shapes do not fit.
    """

    name = "factorisation"

    examples = traitlets.List(traitlets.Dict()).tag(sync=True)
    end = traitlets.Unicode("<end>").tag(sync=True)
    score_name = traitlets.Unicode("").tag(sync=True)
    chosen = traitlets.Int(0).tag(sync=True)
    with_end = traitlets.Bool(True).tag(sync=True)
    step = traitlets.Int(1).tag(sync=True)

    def __init__(
        self,
        examples: Sequence[Mapping[str, Any]],
        score: Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        end: str = "<end>",
    ) -> None:
        if not examples:
            raise ValueError("Factorisation needs at least one example.")
        self._log_probs: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._score = score
        listed = [self._read(i, example) for i, example in enumerate(examples)]
        layout, numbers = pack(**{str(i): table for i, table in enumerate(self._log_probs)})
        for i, example in enumerate(listed):
            example["start"] = layout[str(i)]["start"]
        super().__init__(examples=listed, numbers=numbers, end=end, score_name=student.name_of(score) if score else "")
        self.observe(lambda _: self._compare(), ["chosen", "with_end"])
        self._compare()

    def _read(self, index: int, example: Mapping[str, Any]) -> dict[str, Any]:
        lacking = [key for key in ("word", "tokens", "vocabulary", "log_probs") if key not in example]
        if lacking:
            raise ValueError(f"Example {index} lacks {', '.join(lacking)}.")
        tokens = [str(token) for token in example["tokens"]]
        vocabulary = [str(token) for token in example["vocabulary"]]
        table = torch.as_tensor(example["log_probs"]).detach().to("cpu", torch.float32)
        if tuple(table.shape) != (len(tokens), len(vocabulary)):
            raise ValueError(
                f"Example {index}: log_probs has shape {tuple(table.shape)}, but there are "
                f"{len(tokens)} tokens and {len(vocabulary)} in the vocabulary: "
                f"({len(tokens)}, {len(vocabulary)}) is wanted."
            )
        unknown = [token for token in tokens if token not in vocabulary]
        if unknown:
            raise ValueError(f"Example {index}: {unknown[0]!r} is not in its vocabulary.")
        target = [vocabulary.index(token) for token in tokens]
        self._log_probs.append(table)
        self._targets.append(torch.tensor(target, dtype=torch.int64))
        return {
            "word": str(example["word"]),
            "label": str(example.get("label", "")),
            "tokens": tokens,
            "vocabulary": vocabulary,
            "target": target,
        }

    def _counted(self) -> tuple[Tensor, Tensor]:
        """Table and target of the chosen example, without the end token where the switch says so."""
        table, target = self._log_probs[self.chosen], self._targets[self.chosen]
        tokens = self.examples[self.chosen]["tokens"]
        if not self.with_end and len(tokens) > 1 and tokens[-1] == self.end:
            return table[:-1], target[:-1]
        return table, target

    def log_prob(self) -> float:
        """The widget's own sum for what is chosen, in nats."""
        table, target = self._counted()
        return float(table.double().gather(1, target[:, None]).sum())

    def _compare(self) -> None:
        if self._score is None:
            self._send_results({}, self.numbers)
            return
        state, said = self._judge(self._score)
        about = [self.chosen, self.with_end]
        self._send_results({"state": state, "said": said, "about": about}, self.numbers)

    def _judge(self, score: Callable[[Tensor, Tensor], Tensor]) -> tuple[str, str]:
        name = student.name_of(score)
        outcome = student.call(score, *self._counted())
        if outcome.problem:
            return "problem", outcome.problem
        given = outcome.value
        if isinstance(given, Tensor):
            if given.numel() != 1:
                return (
                    "problem",
                    f"`{name}` returned a tensor of shape {student.shape_text(given.shape)}; one number is wanted.",
                )
            given = given.item()
        if isinstance(given, bool) or not isinstance(given, int | float):
            what = "None" if given is None else f"a {type(given).__name__}"
            return "problem", f"`{name}` returned {what}; one number is wanted."
        if math.isnan(given):
            return "differs", f"`{name}` gives NaN."
        own = self.log_prob()
        shown = f"{given:.4f}".replace("-", "−")
        if given == own or abs(given - own) <= 1e-4 * (1 + abs(own)):
            return "agrees", f"`{name}` gives {shown}: the same as the sum above."
        if math.isinf(given) or math.isinf(own):
            return "differs", f"`{name}` gives {shown}; the sum above is something else."
        side = "more" if given > own else "less"
        return "differs", f"`{name}` gives {shown}: {abs(given - own):.4f} {side} than the sum above."

    def describe(self) -> str:
        lines = ["log P(y|x) = Σ log P(y_t | y_<t, x)"]
        for example, table, target in zip(self.examples, self._log_probs, self._targets, strict=True):
            total = float(table.gather(1, target[:, None]).sum())
            lines.append(f"{example['word']} → {' '.join(example['tokens'])}: log P = {total:.3f}")
        return "\n".join(lines)
