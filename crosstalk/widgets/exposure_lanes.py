"""Three lanes in step: the right tokens, what a model says when given them, and what it says on its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import traitlets
from torch import Tensor

from crosstalk import my_model
from crosstalk.data import cmudict
from crosstalk.widgets import student
from crosstalk.widgets.base import CourseWidget
from crosstalk.widgets.exposure import (
    AFTER,
    MOST_STEPS,
    Experiment,
    Lane,
    Wrong,
    free_running,
    interval,
    paired,
    teacher_forced,
    wrong_tokens,
)
from crosstalk.widgets.listed_words import held_out, listed
from crosstalk.widgets.packing import pack

LONGEST_WORD = 24  # letters
WORDS = 400  # of the measurement
# An alignment with as few edits is not always the only one, so errors by position may differ a little.
_LIKE = 0.02
MODES, WAYS = ("forced", "free"), ("same", "aligned")

Function = Callable[..., Any]


class ExposureLanes(CourseWidget):
    """Gold, teacher-forced and free-running side by side; a wrong token can be put into both, at any step.

    Args:
        model: an EncoderDecoder from the letters to the phonemes of ``crosstalk.data.cmudict``.
        word: the first word; another can be typed. One that the dictionary does not list has no gold.
        error_by_position, aligned_error_by_position: the student's functions of lesson 09, with which the mean over
            many words is taken; their pieces unless given.

    ``step`` counts from 1 and says after which step both modes read a wrong token; 0 for none. ``seed`` chooses that
    token. ``chosen`` is which listed pronunciation is gold. The words are measured once, when ``asked`` becomes true
    or at :meth:`measure`.
    """

    name = "exposure_lanes"

    word = traitlets.Unicode().tag(sync=True)
    chosen = traitlets.Int(0).tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    aligned = traitlets.Bool(False).tag(sync=True)
    asked = traitlets.Bool(False).tag(sync=True)
    words = traitlets.Int(WORDS).tag(sync=True)
    measured = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        model: Any,
        word: str = "knight",
        error_by_position: Function | None = None,
        aligned_error_by_position: Function | None = None,
    ) -> None:
        self._model = model
        self._errors = {
            "same": error_by_position or my_model.get("error_by_position"),
            "aligned": aligned_error_by_position or my_model.get("aligned_error_by_position"),
        }
        self._letters: list[int] = []  # of the word shown, which is the last one that could be read
        self._golds: list[list[int]] = []  # its listed pronunciations
        self._free: Lane | None = None  # what the model says on its own, nothing put in
        self._unreadable = ""  # what is wrong with the word typed since
        super().__init__(word=word)
        self.observe(lambda _: self._new_word(), "word")
        self.observe(lambda _: self._compute(), ["chosen", "step", "seed"])
        self.observe(lambda _: self.measure(), "asked")
        self._new_word()

    @traitlets.validate("step", "seed", "chosen")
    def _not_negative(self, proposal: Any) -> int:
        return max(0, int(proposal["value"]))

    def _new_word(self) -> None:
        try:
            letters = cmudict.letters_to_ids(self.word.strip())
            if len(letters) > LONGEST_WORD:
                raise ValueError(f"{self.word!r} has {len(letters)} letters: give a word of at most {LONGEST_WORD}.")
            free = self._from_model(lambda: free_running(self._model, self._source(letters)))
        except ValueError as error:
            self._unreadable = str(error)
            self._send_results({**self.results, "problem": self._unreadable}, self.numbers)
            return
        self._letters, self._free, self._unreadable = letters, free, ""
        self._golds = listed(cmudict.ids_to_letters(letters))
        with self.hold_trait_notifications():
            self.step, self.chosen = 0, 0
        self._compute()

    def _source(self, letters: list[int]) -> Tensor:
        return torch.tensor([letters], device=next(self._model.parameters()).device)

    @staticmethod
    def _from_model(ask: Callable[[], Any]) -> Any:
        """Ask the model.

        Raises:
            ValueError: it failed; the message is a sentence for the student.
        """

        def model() -> Any:  # its name is what the sentence calls it
            return ask()

        outcome = student.call(model)
        if outcome.problem:
            raise ValueError(outcome.problem)
        return outcome.value

    def _compute(self) -> None:
        if self._free is None:
            return
        try:
            self._show(self._free)
        except ValueError as error:
            self._send_results({**self.results, "problem": str(error)}, self.numbers)

    def _show(self, free_before: Lane) -> None:
        source = self._source(self._letters)
        gold = self._golds[min(self.chosen, len(self._golds) - 1)] if self._golds else []
        target = torch.tensor([gold], device=source.device)
        model = self._model
        forced_before = self._from_model(lambda: teacher_forced(model, source, target)) if gold else None
        before = {"forced": forced_before.row() if forced_before else ([], []), "free": free_before.row()}
        lanes, wrong = dict(before), None
        steps = len(gold or before["free"][0]) - 1  # after the last nothing follows
        if (step := min(self.step, steps)) > 0:
            there = [lane[step - 1] for lane in (gold, *(tokens for tokens, _ in before.values())) if len(lane) >= step]
            others = wrong_tokens(there)
            random.Random(step).shuffle(others)
            wrong = others[self.seed % len(others)]  # so that the next seed gives another token
            put = Wrong(torch.tensor([step], device=source.device), torch.tensor([wrong], device=source.device))
            if gold:
                lanes["forced"] = self._from_model(lambda: teacher_forced(model, source, target, put)).row()
            if len(before["free"][0]) >= step:
                given = torch.cat([free_before.tokens[:, : step - 1], put.tokens[:, None]], dim=1)
                lanes["free"] = self._from_model(lambda: free_running(model, source, given=given)).row()
        put_at = step if wrong is not None else 0
        pairs: dict[str, list[tuple[int | None, int | None]]] = {
            way: _pairs(gold, lanes["free"][0], way) for way in WAYS
        }
        layout, numbers = pack(
            **{mode: torch.tensor(probabilities) for mode, (_, probabilities) in lanes.items()},
        )
        self._send_results(
            {
                "problem": self._unreadable,
                "word": cmudict.ids_to_letters(self._letters),
                "golds": [" ".join(cmudict.ids_to_phonemes(each)) for each in self._golds],
                "chosen": min(self.chosen, max(0, len(self._golds) - 1)),
                "gold": _names(gold),
                "steps": steps,
                "step": put_at,
                "seed": self.seed,
                "wrong": "" if wrong is None else cmudict.PHONEMES[wrong],
                "tokens": {mode: _names(tokens) for mode, (tokens, _) in lanes.items()},
                "marks": {
                    way: _marks(gold, {mode: tokens for mode, (tokens, _) in lanes.items()}, pairs[way], put_at)
                    for way in WAYS
                },
                "pairs": pairs,
                "said": {way: self._say(gold, before, lanes, put_at, way) for way in WAYS},
                "arrays": layout,
            },
            numbers,
        )

    def _say(self, gold: list[int], before: dict[str, Any], lanes: dict[str, Any], step: int, way: str) -> str:
        """What happens behind the wrong token, in sentences."""
        free = lanes["free"][0]
        endless = "" if free[-1:] == [cmudict.END] else f" On its own it finds no end in {MOST_STEPS} steps."
        word = cmudict.ids_to_letters(self._letters)
        if not gold:
            put = f" {cmudict.PHONEMES[free[step - 1]]} was put in at step {step}." if step else ""
            return (
                f"“{word}” is not in the dictionary: there is no gold, so nothing can be forced and nothing is right "
                f"or wrong. What the model says on its own is all there is to see.{put}{endless}"
            )
        counted = {
            (mode, changed): _right(gold, (lanes if changed else before)[mode][0], way if mode == "free" else "same")
            for mode in MODES
            for changed in (False, True)
        }
        how = "edits aligned" if way == "aligned" else "same index"
        if not step:
            here = {mode: sum(counted[mode, False]) for mode in MODES}
            return (
                f"Nothing is put in yet. Of {len(gold)} steps teacher-forced gets {here['forced']} right, "
                f"free-running {here['free']} ({how}).{endless}"
            )
        if len(free) < step:
            return f"On its own the model had ended before step {step}, so nothing could be put in there."
        later = {key: sum(right[step:]) for key, right in counted.items()}
        rest = len(gold) - step
        steps = "the one step" if rest == 1 else f"the {rest} steps"
        wrong = cmudict.PHONEMES[free[step - 1]]
        return (
            f"{wrong} is put in at step {step}, where {cmudict.PHONEMES[gold[step - 1]]} is right. Of {steps} after it "
            f"teacher-forced gets {later['forced', True]} right ({later['forced', False]} without {wrong}), "
            f"free-running {later['free', True]} ({later['free', False]} without), {how}."
            f"{_recovery(counted['forced', True], counted['free', True], step)}{endless}"
        )

    def measure(self) -> None:
        """Put a wrong token into many held-out words and see how often each mode is right behind it; once."""
        if self.measured:
            return
        try:
            words = held_out(self.words, AFTER + 2)
            found = self._from_model(lambda: Experiment(self._model, words))
        except ValueError as error:
            self.measured = {"problem": str(error)}
            return
        self.measured = self._means(found)

    def _means(self, found: Experiment) -> dict[str, Any]:
        """Accuracy by distance with its intervals, in both modes, with and without the wrong token, both ways."""
        curves: list[dict[str, Any]] = []
        problems = []
        for way in WAYS:
            function, problem = self._usable(way, found)
            if problem:
                problems.append(problem)
            for mode in MODES:
                for put in (False, True):
                    # An answer to a place of gold belongs to that place: in this mode there is nothing to align.
                    errors = function if mode == "free" or way == "same" else self._usable("same", found)[0]
                    shares = found.accuracy(errors, mode, put).tolist()
                    bands = [interval(min(1.0, max(0.0, share)), found.words) for share in shares]
                    curves.append({"way": way, "mode": mode, "put": put, "shares": shares, "bands": bands})
        return {"problem": " ".join(problems), "words": found.words, "after": AFTER, "curves": curves,
                "said": {way: _findings(curves, way, found) for way in WAYS}}  # fmt: skip

    def _usable(self, way: str, found: Experiment) -> tuple[Function, str]:
        """The student's function, or the stand-in where it cannot be used, and what is wrong with it."""
        function = self._errors[way]
        right = my_model.stand_in("error_by_position" if way == "same" else "aligned_error_by_position")
        name = student.name_of(function)
        predicted = found.lanes["free", True]
        outcome = student.call(function, predicted, found.gold, cmudict.PAD)
        wanted = right(predicted, found.gold, cmudict.PAD)
        given, problem = outcome.value, outcome.problem
        if not problem and not (isinstance(given, Tensor) and given.shape == wanted.shape):
            got = (
                f"shape {student.shape_text(given.shape)}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
            )
            problem = f"`{name}` returned {got}; a tensor of shape {student.shape_text(wanted.shape)} is wanted."
        if problem:
            return right, f"{problem} The figures below are the stand-in's."
        apart = (given.double() - wanted).abs().nan_to_num(nan=0.0)
        if float(apart.max()) > (1e-4 if way == "same" else _LIKE):
            place = int(apart.argmax())
            return function, (
                f"`{name}` finds {float(given[place]):.3f} of the words wrong at place {place + 1}, "
                f"where {float(wanted[place]):.3f} is wanted; what it finds is drawn."
            )
        return function, ""

    def describe(self) -> str:
        found = self.results
        if "said" not in found:
            return f"Lanes of the word {self.word!r}: {found['problem']}"
        way = WAYS[self.aligned]
        lines = [f"{name}: {' '.join(tokens)}" for name, tokens in
                 (("gold", found["gold"]), ("teacher-forced", found["tokens"]["forced"]),
                  ("free-running", found["tokens"]["free"])) if tokens]  # fmt: skip
        measured = [self.measured["said"][way]] if "said" in self.measured else []
        return "\n".join([f"What a model says of “{found['word']}”.", *lines, found["said"][way], *measured])


def _names(tokens: list[int]) -> list[str]:
    return [cmudict.PHONEMES[token] for token in tokens]


def _pairs(gold: list[int], free: list[int], way: str) -> list[tuple[int | None, int | None]]:
    """The columns of the lanes: places of gold and of the free-running lane, None where there is nothing."""
    if way == "aligned":
        return paired(gold, free)
    longest = max(len(gold), len(free))
    return [(i if i < len(gold) else None, i if i < len(free) else None) for i in range(longest)]


def _marks(
    gold: list[int], lanes: dict[str, list[int]], pairs: list[tuple[int | None, int | None]], step: int
) -> dict[str, list[str]]:
    """For each column and lane: put in, right, wrong, missing or extra; "" where there is no gold or no token."""
    marks: dict[str, list[str]] = {"forced": [], "free": []}
    for mine, own in pairs:
        for mode, place in (("forced", mine), ("free", own)):
            if place is not None and place == step - 1:
                mark = "put in"
            elif not gold or (mine is None and mode == "forced"):
                mark = ""
            elif place is None:
                mark = "missing"
            elif mine is None:
                mark = "extra"
            else:
                mark = "right" if lanes[mode][place] == gold[mine] else "wrong"
            marks[mode].append(mark)
    return marks


def _right(gold: list[int], said: list[int], way: str) -> list[bool]:
    """For each token of gold: is what stands there its like?"""
    own = {mine: place for mine, place in _pairs(gold, said, way) if mine is not None}
    return [own[mine] is not None and said[own[mine] or 0] == token for mine, token in enumerate(gold)]


def _recovery(forced: list[bool], free: list[bool], step: int) -> str:
    """From where on all is right again."""
    sentences = []
    for name, right in (("Teacher-forced", forced), ("Free-running", free)):
        last_wrong = max((place for place in range(step, len(right)) if not right[place]), default=step - 1)
        if last_wrong == step - 1:
            sentences.append(f"{name} is right again at once.")
        elif last_wrong == len(right) - 1:
            sentences.append(f"{name} is not right again by the end.")
        else:
            sentences.append(f"{name} is right again from step {last_wrong + 2} on.")
    return " " + " ".join(sentences)


def _findings(curves: list[dict[str, Any]], way: str, found: Experiment) -> str:
    """What the curves show at the first distance and the last, and what aligning does."""

    def shown(mode: str, put: bool, at: int) -> str:
        curve = next(each for each in curves if (each["way"], each["mode"], each["put"]) == (way, mode, put))
        low, high = curve["bands"][at]
        return f"{100 * curve['shares'][at]:.1f} % ({100 * low:.1f} to {100 * high:.1f})"

    how = "edit-aligned" if way == "aligned" else "same index"
    sentences = (
        f"One step after the wrong token teacher-forced is right in {shown('forced', True, 0)} of {found.words} words, "
        f"free-running in {shown('free', True, 0)}, {how}. {AFTER} steps after it: {shown('forced', True, AFTER - 1)} "
        f"and {shown('free', True, AFTER - 1)}; without a wrong token {shown('forced', False, AFTER - 1)} and "
        f"{shown('free', False, AFTER - 1)}. In brackets: 95 % intervals."
    )
    if way == "same":
        return sentences
    wrong, late = found.said_late()
    return (
        f"{sentences} Of the {wrong} words that teacher-forced has wrong one step after, {late} say there, late, what "
        "was replaced. Left alone, that is one token too many, which is at no place of gold and costs nothing here."
    )
