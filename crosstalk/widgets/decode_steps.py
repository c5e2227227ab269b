"""A decode step by step: what is computed, what is computed again, and what the cache spares."""

from __future__ import annotations

from typing import Any

import torch
import traitlets

from crosstalk import my_model
from crosstalk.data import cmudict
from crosstalk.widgets import student
from crosstalk.widgets.base import CourseWidget
from crosstalk.widgets.decode_costs import Cost, Sizes, encoder_cost, step_cost
from crosstalk.widgets.decode_run import Measured, Run, measure, run

LONGEST_WORD = 16  # letters
MOST_STEPS = 20  # tokens generated, the end token included
RUNS = 11  # decodes of each kind that are timed
SAME = 1e-3  # logits with and without the cache that are further apart are not the same; they are about ±10
_PIECES = ("KeyValueCache", "attend_with_cache")


def _name(token: int) -> str:
    return cmudict.PHONEMES[token]


def _small(value: float) -> str:
    """A small number with one digit: 4·10⁻⁶."""
    if value == 0:
        return "0"
    digit, power = f"{value:.0e}".split("e")
    return f"{digit}·10{str(int(power)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def _written(cost: Cost) -> dict[str, int]:
    return {
        "projections": cost.projections,
        "attention": cost.attention,
        "feed_forward": cost.feed_forward,
        "generator": cost.generator,
        "flops": cost.flops,
        "read": cost.read,
        "written": cost.written,
    }


class DecodeSteps(CourseWidget):
    """A trained model says a word, step by step, with the cache of keys and values or without.

    Args:
        model: an EncoderDecoder from the letters to the phonemes of ``crosstalk.data.cmudict``. The cache is the one
            of ``crosstalk.caching``: the student's `KeyValueCache` and `attend_with_cache` where they have passed.
        word: the first word; another can be typed.

    ``step`` 0 is the encoder; step t feeds the decoder t tokens and gives the t-th. ``cached`` is the switch. The
    widget decodes both ways, counts the work from the model's sizes, and takes the median time of a few decodes.
    """

    name = "decode_steps"

    word = traitlets.Unicode().tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)
    cached = traitlets.Bool(True).tag(sync=True)

    def __init__(self, model: Any, word: str = "knight") -> None:
        self._model = model
        super().__init__(word=word)
        self._own = [name for name in _PIECES if my_model.is_own(name)]
        self.observe(lambda _: self._compute(), "word")
        self._compute()

    def _decode(self, letters: list[int], cached: bool) -> Run:
        return run(self._model, letters, cmudict.START, cmudict.END, MOST_STEPS, cached)

    def _compute(self) -> None:
        try:
            letters = cmudict.letters_to_ids(self.word.strip())
            if len(letters) > LONGEST_WORD:
                raise ValueError(f"{self.word!r} has {len(letters)} letters: give a word of at most {LONGEST_WORD}.")
        except ValueError as error:
            self._send_results({**self.results, "problem": str(error)})
            return

        def model() -> Run:  # its name is what the sentence calls it
            return self._decode(letters, False)

        def cache() -> Run:
            return self._decode(letters, True)

        plain, kept = student.call(model), student.call(cache)
        if plain.problem:
            self._send_results({**self.results, "problem": plain.problem})
            return
        decodes = [model] if kept.problem else [model, cache]
        timed = student.call(measure, decodes, RUNS)
        if timed.problem:
            self._send_results({**self.results, "problem": timed.problem})
            return
        times: list[Measured] = timed.value
        ways = {"plain": self._way(letters, plain.value, times[0], False)}
        if not kept.problem:
            ways["cached"] = self._way(letters, kept.value, times[1], True)
        self._send_results(
            {
                "problem": kept.problem,
                "word": cmudict.ids_to_letters(letters),
                "letters": list(cmudict.ids_to_letters(letters)),
                "encoder_layers": len(self._model.encoder.layers),
                "decoder_layers": len(self._model.decoder.layers),
                "runs": times[0].runs,
                "ways": ways,
                "pieces": self._whose(),
                "same": self._compare(plain.value, kept.value),
            }
        )

    def _way(self, letters: list[int], decoded: Run, times: Measured, cached: bool) -> dict[str, Any]:
        sizes = Sizes.of(self._model)
        costs = [encoder_cost(sizes, len(letters))]
        costs += [step_cost(sizes, len(letters), length, cached) for length in range(1, len(decoded.tokens) + 1)]
        return {
            "tokens": [_name(token) for token in decoded.tokens],
            "taken": decoded.taken,
            "ended": decoded.tokens[-1] == cmudict.END,
            "costs": [_written(cost) for cost in costs],
            "ms": [round(each, 4) for each in times.each],
            "ms_whole": round(times.whole, 4),
        }

    def _whose(self) -> str:
        if not self._own:
            return "The cache is the stand-in: yours takes its place once both pieces have passed their checks."
        missing = [name for name in _PIECES if name not in self._own]
        if missing:
            return f"The cache uses your `{self._own[0]}`; `{missing[0]}` is the stand-in until yours has passed."
        return "The cache is yours: `KeyValueCache` and `attend_with_cache`."

    @staticmethod
    def _compare(plain: Run, kept: Run | None) -> dict[str, Any]:
        """Whether the cache changes what the model says, in a sentence."""
        if kept is None:
            return {"state": "", "said": ""}
        common = min(len(plain.tokens), len(kept.tokens))
        apart = float((plain.logits[:common] - kept.logits[:common]).abs().nan_to_num(nan=torch.inf).max())
        if plain.tokens != kept.tokens:
            said = (
                f"With the cache the model says {' '.join(map(_name, kept.tokens))}, without it "
                f"{' '.join(map(_name, plain.tokens))}. The cache may save work, and nothing else may change."
            )
        elif apart > SAME:
            said = (
                f"The tokens are the same, but the logits differ by up to {apart:.2g}: the cache changes what is said."
            )
        else:
            said = (
                f"Both ways give the same {len(plain.tokens)} tokens; the logits differ by at most {_small(apart)}, "
                "which is rounding."
            )
            return {"state": "agrees", "said": said}
        return {"state": "differs", "said": said}

    def describe(self) -> str:
        found = self.results
        if "ways" not in found:
            return f"A decode of {self.word!r}, step by step: {found['problem']}"
        text = [f"A greedy decode of “{found['word']}”, step by step. The encoder runs once."]
        for name, label in (("plain", "Without the cache"), ("cached", "With the cache")):
            if name in found["ways"]:
                way = found["ways"][name]
                flops = sum(cost["flops"] for cost in way["costs"])
                text.append(
                    f"{label} the decoder computes {sum(way['taken'])} places in {len(way['tokens'])} steps "
                    f"({' '.join(way['tokens'])}): {flops / 1e6:.1f} MFLOP with the encoder, "
                    f"{way['ms_whole']:.1f} ms (median of {found['runs']} decodes)."
                )
        return " ".join([*text, found["same"]["said"], found["problem"]]).strip()
