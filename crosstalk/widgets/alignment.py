"""Where the decoder reads while it says a word, and what it says when that is changed."""

from __future__ import annotations

from typing import Any

import traitlets

from crosstalk.data import cmudict
from crosstalk.widgets import student
from crosstalk.widgets.base import CourseWidget
from crosstalk.widgets.interventions import Decoded, Forced, aligned, decode
from crosstalk.widgets.packing import pack

LONGEST_WORD = 16  # letters
MOST_STEPS = 20  # tokens generated, the end token included
EVERY = -1  # every layer, or all heads, in the traits


def _name(token: int) -> str:
    return cmudict.PHONEMES[token]


class Alignment(CourseWidget):
    """A trained model says a word: its cross-attention weights, letters to knock out, weights to force elsewhere.

    Args:
        model: an EncoderDecoder from the letters to the phonemes of ``crosstalk.data.cmudict``. Each attention may
            be fused: the weights are seen by a watcher around the cross-attentions' ``attention`` for the time
            of one decode.
        word: the first word; another can be typed.

    ``step`` counts from 1: row t has the input y_{t-1} and predicts y_t. ``head`` -1 is the mean of the heads.
    ``knocked`` holds the places of letters that the memory mask hides. ``forced`` is ``[step, letter, layer,
    head]``, layer or head -1 for all of them, or empty; ``share`` is how much of the weight it moves, in percent.
    """

    name = "alignment"

    word = traitlets.Unicode().tag(sync=True)
    layers = traitlets.Int().tag(sync=True)
    heads = traitlets.Int().tag(sync=True)
    layer = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(EVERY).tag(sync=True)
    step = traitlets.Int(1).tag(sync=True)
    mode = traitlets.Enum(["knock", "force"], "knock").tag(sync=True)
    knocked = traitlets.List(traitlets.Int()).tag(sync=True)
    forced = traitlets.List(traitlets.Int()).tag(sync=True)
    share = traitlets.Int(100).tag(sync=True)

    def __init__(self, model: Any, word: str = "knight") -> None:
        self._model = model
        self._letters: list[int] = []  # of the word shown, which is the last one that could be read
        self._before: Decoded | None = None  # what the model says of it without an intervention, and with it
        self._after: Decoded | None = None
        self._unreadable = ""  # what is wrong with the word typed since
        layers = list(model.decoder.layers)
        super().__init__(
            word=word, layers=len(layers), heads=layers[0].cross_attention.heads, layer=max(0, len(layers) - 1)
        )
        self.observe(lambda _: self._new_word(), "word")
        self.observe(lambda _: self._compute(), ["knocked", "forced", "share"])
        self._new_word()

    @traitlets.validate("forced")
    def _whole_force(self, proposal: Any) -> list[int]:
        forced: list[int] = proposal["value"]
        if forced and len(forced) != 4:
            raise traitlets.TraitError("What is forced is [step, letter, layer, head], or nothing.")
        return forced

    @traitlets.validate("share")
    def _percent(self, proposal: Any) -> int:
        return min(100, max(0, int(proposal["value"])))

    def _new_word(self) -> None:
        try:
            letters = cmudict.letters_to_ids(self.word.strip())
            if len(letters) > LONGEST_WORD:
                raise ValueError(f"{self.word!r} has {len(letters)} letters: give a word of at most {LONGEST_WORD}.")
            self._before = self._after = self._decode(letters)
        except ValueError as error:
            self._unreadable = str(error)
            self._send_results({**self.results, "problem": self._unreadable}, self.numbers)
            return
        self._letters, self._unreadable = letters, ""
        with self.hold_trait_notifications():
            self.knocked, self.forced, self.step = [], [], 1
        self._compute()

    def _decode(self, letters: list[int], **intervention: Any) -> Decoded:
        """Let the model say the word.

        Raises:
            ValueError: it failed; the message is a sentence for the student.
        """

        def model() -> Decoded:  # its name is what the sentence calls it
            return decode(self._model, letters, cmudict.START, cmudict.END, MOST_STEPS, **intervention)

        outcome = student.call(model)
        if outcome.problem:
            raise ValueError(outcome.problem)
        decoded: Decoded = outcome.value
        return decoded

    def _compute(self) -> None:
        if self._before is None or self._after is None:
            return
        after = self._before
        if self.knocked or self.forced:
            try:
                after = self._decode(
                    self._letters, knocked_out=self.knocked, forced=self._force(), expected=self._after.tokens
                )
            except ValueError as error:
                self._send_results({**self.results, "problem": str(error)}, self.numbers)
                return
        self._after = after
        self._show(self._before, after)

    def _force(self) -> Forced | None:
        if not self.forced:
            return None
        step, letter, layer, head = self.forced
        return Forced(
            step - 1,
            letter,
            self.share / 100,
            None if layer == EVERY else layer,
            None if head == EVERY else head,
        )

    def _word(self) -> str:
        return cmudict.ids_to_letters(self._letters)

    def _show(self, before: Decoded, after: Decoded) -> None:
        pairs = aligned(before.tokens, after.tokens)
        changed = [pair for pair in pairs if None in pair or before.tokens[pair[0] or 0] != after.tokens[pair[1] or 0]]
        layout, numbers = pack(weights=after.weights, before=before.probabilities, after=after.probabilities)
        self._send_results(
            {
                "problem": self._unreadable,
                "word": self._word(),
                "letters": list(self._word()),
                "before": [_name(token) for token in before.tokens],
                "after": [_name(token) for token in after.tokens],
                "pairs": pairs,
                "knocked": list(self.knocked),
                "forced": list(self.forced),
                "share": self.share,
                "changed": len(changed),
                "said": self._say(before, after, len(changed)),
                "arrays": layout,
            },
            numbers,
        )

    def _say(self, before: Decoded, after: Decoded, changed: int) -> str:
        letters = self._word()
        cut = "" if after.tokens[-1] == cmudict.END else f" No end token came in {MOST_STEPS} steps."
        if self.knocked:
            named = ", ".join(f"“{letters[i]}” (place {i})" for i in sorted(self.knocked))
            what = f"With {named} knocked out"
            # What a null result does and does not show.
            caution = "The encoder had read all letters, so other rows of the memory may carry what was hidden."
        elif self.forced:
            step, letter, layer, head = self.forced
            where = "every layer" if layer == EVERY else f"layer {layer}"
            which = "all heads" if head == EVERY else f"head {head}"
            what = (
                f"With {self.share} % of the weight of step {step} forced onto “{letters[letter]}” (place {letter}), "
                f"{where}, {which}"
            )
            caution = "Other steps, and the heads left alone, read what they read before."
        else:
            return f"Nothing is changed yet: {' '.join(map(_name, before.tokens))}.{cut}"
        if changed:
            tokens = "one token changes" if changed == 1 else f"{changed} tokens change"
            return f"{what}, {tokens}.{cut}"
        return f"{what}, no token changes. {caution}{cut}"

    def describe(self) -> str:
        found = self.results
        if "said" not in found:
            return f"Alignment of the word {self.word!r}: {found['problem']}"
        return (
            f"Cross-attention of {self.layers} layers with {self.heads} heads each over the letters of "
            f"“{found['word']}”. Without an intervention the model says {' '.join(found['before'])}; "
            f"now {' '.join(found['after'])}. {found['said']}"
        )
