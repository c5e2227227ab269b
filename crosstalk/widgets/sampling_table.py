"""What is drawn from at one step of a word: logits, temperature, filters, what is left, and draws from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import traitlets
from torch import Tensor

from crosstalk import my_model
from crosstalk.data import cmudict
from crosstalk.widgets import sampling_checks as checks
from crosstalk.widgets import student
from crosstalk.widgets.base import CourseWidget
from crosstalk.widgets.interventions import evaluating, one_thread
from crosstalk.widgets.listed_words import listed
from crosstalk.widgets.packing import pack

V = len(cmudict.PHONEMES)
LONGEST_WORD = 24  # letters
MOST_STEPS = 24  # tokens in the prefix
MOST_DRAWS = 10_000
KEPT, BY_K, BY_P = range(3)  # what the filters made of a token

Function = Callable[..., Any]


class SamplingTable(CourseWidget):
    """The next token of a word: every token with its logit, what the filters make of it, and how often it is drawn.

    Args:
        model: an EncoderDecoder from the letters to the phonemes of ``crosstalk.data.cmudict``.
        word: the first word; another can be typed.
        sampling_distribution, top_k_filter, top_p_filter: the student's functions of lesson 08; their pieces unless
            given. The table shows what they return, and says so where that is plainly wrong.

    ``prefix`` holds the tokens chosen so far. A filter is off at its end: ``k`` at the size of the vocabulary, ``p`` at
    1; its function is not called then. ``draws`` is how often to draw (0: not yet), with the seed ``seed``.
    """

    name = "sampling_table"

    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    word = traitlets.Unicode().tag(sync=True)
    prefix = traitlets.List(traitlets.Int()).tag(sync=True)
    temperature = traitlets.Float(1.0).tag(sync=True)
    k = traitlets.Int(V).tag(sync=True)
    p = traitlets.Float(1.0).tag(sync=True)
    draws = traitlets.Int(0).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        model: Any,
        word: str = "knight",
        sampling_distribution: Function | None = None,
        top_k_filter: Function | None = None,
        top_p_filter: Function | None = None,
    ) -> None:
        self._model = model
        self._distribution = sampling_distribution or my_model.get("sampling_distribution")
        self._filter_k = top_k_filter or my_model.get("top_k_filter")
        self._filter_p = top_p_filter or my_model.get("top_p_filter")
        self._shown = ""  # the word of the table: the last one that could be read
        self._unreadable = ""  # what is wrong with the word typed since
        self._listed: list[list[int]] = []
        self._memory: Tensor | None = None  # (1, source, d_model)
        self._steps: tuple[tuple[int, ...], Tensor] | None = None  # a prefix and its logits (steps, V)
        super().__init__(word=word, tokens=list(cmudict.PHONEMES))
        self.observe(lambda _: self._new_word(), "word")
        self.observe(lambda _: self._compute(), ["prefix", "temperature", "k", "p", "draws", "seed"])
        self._new_word()

    @traitlets.validate("prefix")
    def _known_tokens(self, proposal: Any) -> list[int]:
        prefix: list[int] = proposal["value"]
        if any(not 0 <= token < V for token in prefix) or cmudict.END in prefix[:-1]:
            raise traitlets.TraitError(f"The prefix holds ids from 0 to {V - 1}, the end token only at its end.")
        return prefix[:MOST_STEPS]

    @traitlets.validate("temperature")
    def _warm(self, proposal: Any) -> float:
        return min(3.0, max(0.1, proposal["value"]))

    @traitlets.validate("k")
    def _some(self, proposal: Any) -> int:
        return min(V, max(1, proposal["value"]))

    @traitlets.validate("p")
    def _share(self, proposal: Any) -> float:
        return min(1.0, max(0.05, proposal["value"]))

    @traitlets.validate("draws")
    def _not_too_many(self, proposal: Any) -> int:
        return min(MOST_DRAWS, max(0, proposal["value"]))

    def _new_word(self) -> None:
        try:
            letters = cmudict.letters_to_ids(self.word.strip())
            if len(letters) > LONGEST_WORD:
                raise ValueError(f"{self.word!r} has {len(letters)} letters: give a word of at most {LONGEST_WORD}.")
            source = torch.tensor([letters], device=next(self._model.parameters()).device)  # (1, source)
            memory = self._from_model(lambda: self._model.encode(source))
        except ValueError as error:
            self._unreadable = str(error)
            self._send_results({**self.results, "problem": self._unreadable}, self.numbers)
            return
        self._memory, self._steps, self._unreadable = memory, None, ""
        self._shown = cmudict.ids_to_letters(letters)
        self._listed = listed(self._shown)
        with self.hold_trait_notifications():
            self.prefix = []
        self._compute()

    def _from_model(self, ask: Callable[[], Tensor]) -> Tensor:
        """Ask the model.

        Raises:
            ValueError: it failed; the message is a sentence for the student.
        """

        def model() -> Tensor:  # its name is what the sentence calls it
            with one_thread(), evaluating(self._model):
                return ask()

        outcome = student.call(model)
        if outcome.problem:
            raise ValueError(outcome.problem)
        answer: Tensor = outcome.value
        return answer

    def _logits(self) -> Tensor:
        """The logits after each token of the prefix, (steps, V), kept as long as the prefix stays."""
        memory, prefix = self._memory, tuple(self.prefix)
        assert memory is not None
        if self._steps is None or self._steps[0] != prefix:
            target = torch.tensor([[cmudict.START, *prefix]], device=memory.device)  # (1, steps)
            logits = self._from_model(lambda: self._model.decode(target, memory)[0].float().cpu())
            self._steps = prefix, logits
        return self._steps[1]

    def _compute(self) -> None:
        if self._memory is None:
            return
        try:
            steps = self._logits()
        except ValueError as error:
            self._send_results({**self.results, "problem": str(error)}, self.numbers)
            return
        logits = steps[-1]  # (V,)
        scaled = logits / self.temperature
        filters, wrong = self._filters(scaled)
        shares, wrong_shares = self._shares(logits, scaled)
        counts = self._draw(shares)
        chosen = steps[:-1].softmax(-1).gather(1, torch.tensor(self.prefix, dtype=torch.long)[:, None])[:, 0]
        layout, numbers = pack(
            logits=logits, scaled=scaled, before=checks.shares_of(scaled), shares=shares, chosen=chosen
        )
        said = " ".join(filter(None, [self._unreadable, *wrong, wrong_shares]))
        self._send_results(
            {
                "problem": said,
                "word": self._shown,
                "prefix": list(self.prefix),
                "ended": self.prefix[-1:] == [cmudict.END],
                "full": len(self.prefix) == MOST_STEPS,
                "order": logits.argsort(descending=True, stable=True).tolist(),
                "filters": filters,
                "listed": self._next_listed(),
                "known": bool(self._listed),
                "counts": counts,
                "settings": [self.temperature, self.k, self.p, self.draws, self.seed],
                "said": self._say(filters, scaled, shares, counts),
                "arrays": layout,
            },
            numbers,
        )

    def _next_listed(self) -> list[int]:
        """Tokens with which a listed pronunciation goes on from here."""
        here = len(self.prefix)
        return sorted({said[here] for said in self._listed if len(said) > here and list(said[:here]) == self.prefix})

    def _filters(self, scaled: Tensor) -> tuple[list[int], list[str]]:
        """What the student's filters make of each token, and what is wrong with them."""
        made, wrong = torch.full((V,), KEPT), []
        left = scaled
        for function, setting, off, bounds, mark, letter in (
            (self._filter_k, self.k, self.k == V, checks.bounds_of_k, BY_K, "k"),
            (self._filter_p, self.p, self.p == 1, checks.bounds_of_p, BY_P, "p"),
        ):
            if off:
                continue
            name = student.name_of(function)
            filtered, problem = self._row(function, left[None], setting)
            if not problem:
                must, may = bounds(left, setting)
                wanted = f"{letter} = {setting:g}"
                problem = checks.wrong_with_filter(name, left, filtered, must, may, self.tokens, wanted)
                struck = checks.kept_of(left) & ~checks.kept_of(filtered)
                made[struck] = mark
                left = left.masked_fill(struck, float("-inf"))
            if problem:
                wrong.append(problem)
        return made.tolist(), wrong

    def _shares(self, logits: Tensor, scaled: Tensor) -> tuple[Tensor, str]:
        """What the student's distribution is, (V,), NaN where there is none, and what is wrong with it."""
        k, p = (None if self.k == V else self.k), (None if self.p == 1 else self.p)
        name = student.name_of(self._distribution)
        shares, problem = self._row(self._distribution, logits[None], self.temperature, k, p)
        if problem:
            return torch.full((V,), float("nan")), problem
        must_k, may_k = checks.bounds_of_k(scaled, self.k)
        left = scaled.masked_fill(~may_k, float("-inf"))
        must_p, may_p = checks.bounds_of_p(left, self.p)
        must, may = must_k & must_p, may_k & may_p
        return shares, checks.wrong_with_distribution(name, shares, scaled, must, may, self.tokens)

    @staticmethod
    def _row(function: Function, *arguments: Any) -> tuple[Tensor, str]:
        """Call a function of (1, V) that returns (1, V): its row, and the sentence on what came instead."""
        name, outcome = student.name_of(function), student.call(function, *arguments)
        given = outcome.value
        if outcome.problem:
            return torch.empty(0), outcome.problem
        if not isinstance(given, Tensor):
            got = "None" if given is None else f"a {type(given).__name__}"
            return torch.empty(0), f"`{name}` returned {got}; a tensor is wanted."
        if given.shape != (1, V) or not given.is_floating_point():
            return torch.empty(0), (
                f"`{name}` returned {given.dtype} of shape {student.shape_text(given.shape)}; "
                f"floats of shape {student.shape_text((1, V))} are wanted, the shape of the logits."
            )
        return given[0].detach().float().cpu(), ""

    def _draw(self, shares: Tensor) -> list[int]:
        """How often each token is drawn; empty where nothing is to be drawn or can be."""
        if not self.draws or not bool((shares >= 0).all()) or not 0 < float(shares.sum()) < float("inf"):
            return []
        drawn = torch.multinomial(
            shares, self.draws, replacement=True, generator=torch.Generator().manual_seed(self.seed)
        )
        return drawn.bincount(minlength=V).tolist()

    def _say(self, filters: list[int], scaled: Tensor, shares: Tensor, counts: list[int]) -> str:
        if self.prefix[-1:] == [cmudict.END]:
            return "The word is over: after <end> nothing is drawn."
        likeliest = int(shares.nan_to_num(-1).argmax())
        kept = sum(made == KEPT for made in filters)
        struck = [f"{filters.count(made)} struck out by {by}" for made, by in ((BY_K, "top-k"), (BY_P, "top-p"))
                  if made in filters]  # fmt: skip
        sentence = f"{kept} of {V} tokens kept"
        if struck:
            mass = float(checks.shares_of(scaled)[torch.tensor(filters) == KEPT].sum())
            sentence += f", with {mass:.3f} of the probability; {' and '.join(struck)}"
        if not bool(shares.isnan().any()):
            sentence += f"; likeliest {self.tokens[likeliest]} with {float(shares[likeliest]):.3f}"
        if counts:
            kinds = sum(count > 0 for count in counts)
            different = "one token" if kinds == 1 else f"{kinds} different tokens"
            sentence += f". {self.draws:,} draws with seed {self.seed}: {different}"
        return f"{sentence}."

    def describe(self) -> str:
        found = self.results
        if "said" not in found:
            return f"Table of the next tokens of the word {self.word!r}: {found['problem']}"
        prefix = " ".join(["<start>", *(self.tokens[token] for token in self.prefix)])
        return (
            f"The next token of “{found['word']}” after {prefix}, at temperature {self.temperature:g}, "
            f"k {'off' if self.k == V else self.k}, p {'off' if self.p == 1 else format(self.p, 'g')}. "
            f"{found['said']} {found['problem']}"
        ).strip()
