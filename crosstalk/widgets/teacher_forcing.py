"""What the decoder reads and what it is asked for, and what training makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import traitlets
from torch import Tensor

from crosstalk.data import teacher_forcing
from crosstalk.data.cmudict import END, PHONEMES, SPECIAL, START, parquet_file
from crosstalk.widgets import student
from crosstalk.widgets.base import CourseWidget

MEAN_OF = 10  # steps that make one point of a curve
_START_TOKEN, _FOREIGN = -1, -2  # where an input comes from, if not from a place of the target


def pronunciation(word: str) -> list[str]:
    """The dictionary's first pronunciation of ``word``, with the end token.

    Raises:
        ValueError: the dictionary does not have the word.
    """
    import pyarrow.parquet as pq

    found = pq.read_table(parquet_file(), columns=["pronunciations"], filters=[("word", "==", word.lower())])
    if not found.num_rows:
        raise ValueError(f"{word!r} is not in the dictionary: choose another word, such as 'planet'.")
    return [*found["pronunciations"][0].as_py()[0].split(), PHONEMES[END]]


def _means(losses: list[float]) -> list[float]:
    """One mean for each ``MEAN_OF`` steps."""
    return [round(float(part.mean()), 4) for part in torch.tensor(losses).split(MEAN_OF)]


def _loss_after(losses: list[float], step: int) -> float:
    """The mean over the last ``MEAN_OF`` steps up to ``step``; at step 0 the first loss."""
    last = losses[max(0, step - MEAN_OF) : step] or losses[:1]
    return round(sum(last) / len(last), 4)


class TeacherForcing(CourseWidget):
    """The inputs and labels of one word's decoder, shifted by 0, 1 or 2, beside what each training led to.

    Args:
        shift_right: the student's ``shift_right(target, start_id)`` → inputs of the same shape. The lane of the
            inputs is drawn from it wherever the shift is not 0.
        word: a word of the dictionary.

    Raises:
        ValueError: the dictionary does not have the word.
        FileNotFoundError: the record of the trainings is missing.
    """

    name = "teacher_forcing"

    word = traitlets.Unicode().tag(sync=True)
    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    record = traitlets.Dict().tag(sync=True)
    shift = traitlets.Int(1).tag(sync=True)
    place = traitlets.Int(2).tag(sync=True)
    at = traitlets.Int().tag(sync=True)

    def __init__(self, shift_right: Callable[..., Any] | None = None, word: str = "planet") -> None:
        tokens = pronunciation(word)
        record = teacher_forcing.load()
        for training in record["trainings"]:
            losses = training.pop("losses")
            training["curve"] = _means(losses)
            training["loss"] = [_loss_after(losses, step) for step in record["steps"]]
        record["mean_of"] = MEAN_OF
        super().__init__(word=word.lower(), tokens=tokens, record=record, at=len(record["steps"]) - 1)
        self._send_results(self._lanes(shift_right))

    def _lanes(self, shift_right: Callable[..., Any] | None) -> dict[str, Any]:
        """For each shift, where each input comes from and which place each label has in the target."""
        # Each place of the target has an id of its own, so that an input says which place it was taken from.
        own = torch.arange(len(SPECIAL), len(SPECIAL) + len(self.tokens))[None]  # (1, length)
        lanes: list[dict[str, Any]] = []
        for shift in teacher_forcing.SHIFTS:
            inputs, labels = teacher_forcing.inputs_and_labels(own, shift)
            lanes.append({"inputs": self._origins(inputs[0], own[0]), "labels": self._origins(labels[0], own[0])})
        results: dict[str, Any] = {"lanes": lanes, "state": "", "said": ""}
        if shift_right is not None:
            results["state"], results["said"], theirs = self._judge(shift_right, own)
            if theirs is not None:
                lanes[1]["inputs"], lanes[2]["inputs"] = theirs, theirs[:-1]
        return results

    def _origins(self, ids: Tensor, own: Tensor) -> list[int]:
        places = {int(token): place for place, token in enumerate(own)} | {START: _START_TOKEN}
        return [places.get(int(token), _FOREIGN) for token in ids]

    def _judge(self, shift_right: Callable[..., Any], own: Tensor) -> tuple[str, str, list[int] | None]:
        """Run the student's function: a state, a sentence, and where its inputs come from."""
        name = student.name_of(shift_right)
        outcome = student.call(shift_right, own, START)
        if outcome.problem:
            return "problem", outcome.problem, None
        given = outcome.value
        if not isinstance(given, Tensor):
            got = "None" if given is None else f"a {type(given).__name__}"
            return "problem", f"`{name}` returned {got}; a tensor is wanted.", None
        if given.shape != own.shape:
            return (
                "problem",
                f"`{name}` returned shape {student.shape_text(given.shape)}; "
                f"{student.shape_text(own.shape)} is wanted, the shape of the target.",
                None,
            )
        theirs = self._origins(given[0], own[0])
        wanted = [_START_TOKEN, *range(len(self.tokens) - 1)]
        if theirs == wanted:
            return "agrees", f"The inputs are what your `{name}` gives: the start token, then all but the last.", theirs
        place = next(i for i, (a, b) in enumerate(zip(theirs, wanted, strict=True)) if a != b)
        said, right = self._token(theirs[place]), self._token(wanted[place])
        return "differs", f"Your `{name}` puts {said} into place {place + 1}, where {right} is wanted.", theirs

    def _token(self, origin: int) -> str:
        if origin == _FOREIGN:
            return "a token that is not in the word"
        return "`<start>`" if origin == _START_TOKEN else f"`{self.tokens[origin]}`"

    def describe(self) -> str:
        lines = [f"Inputs and labels of the decoder for “{self.word}”, and what training led to:"]
        for lane, training in zip(self.results["lanes"], self.record["trainings"], strict=True):
            goes_in = " ".join(self._token(place).strip("`") for place in lane["inputs"])
            asked = " ".join(self.tokens[place] for place in lane["labels"])
            lines.append(
                f"shift {training['shift']}: {goes_in} → {asked}; after {self.record['steps'][-1]:,} steps "
                f"loss {training['loss'][-1]:.3f}, PER {training['per'][-1]:.1f} % decoding on its own"
            )
        return "\n".join(lines)
