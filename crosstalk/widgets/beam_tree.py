"""A beam search as a tree: what it kept, what ended, what it dropped, and where the right answer went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import traitlets

from crosstalk import my_model
from crosstalk.data import cmudict
from crosstalk.widgets import student
from crosstalk.widgets.base import CourseWidget
from crosstalk.widgets.beam_record import CLOSE, Asked, Node, Prefix, Tree, grow
from crosstalk.widgets.listed_words import listed

LONGEST_WORD = 16  # letters
SPARE = 3  # tokens generated may be so many more than the letters
WIDEST = 8  # beams
PRUNED = 3  # dropped expansions shown at each step
LISTED = 8  # finished sequences shown


def _names(tokens: Sequence[int]) -> str:
    return " ".join(cmudict.PHONEMES[token] for token in tokens)


def _number(value: float) -> str:
    return f"{value:.{2 if abs(value) >= 0.1 else 4}f}".replace("-", "−")


def _key(prefix: Prefix) -> str:
    return " ".join(map(str, prefix))


class BeamTree(CourseWidget):
    """What a beam search asks for, drawn as a tree.

    Args:
        model: an EncoderDecoder from the letters to the phonemes of ``crosstalk.data.cmudict``.
        word: the first word; another can be typed.
        width: beams, 1 to 8.
        alpha: of the length penalty, 0 to 2: score = log P / length**alpha.
        search: a `beam_search(step, start_id, end_id, width, max_length, alpha)`; the student's own where it has
            passed its check, and else the stand-in, unless given. The widget sees only what it asks ``step``,
            and what it returns.
    """

    name = "beam_tree"

    word = traitlets.Unicode().tag(sync=True)
    width = traitlets.Int(3).tag(sync=True)
    alpha = traitlets.Float(0.0).tag(sync=True)

    def __init__(
        self,
        model: Any,
        word: str = "knight",
        width: int = 3,
        alpha: float = 0.0,
        search: Callable[..., tuple[list[int], float]] | None = None,
    ) -> None:
        self._model = model
        self._search = my_model.get("beam_search") if search is None else search
        self._asked: Asked | None = None  # of the last word that could be read
        self._letters: list[int] = []
        self._gold: list[list[int]] = []
        super().__init__(word=word, width=width, alpha=alpha)
        self.observe(lambda _: self._new_word(), "word")
        self.observe(lambda _: self._compute(), ["width", "alpha"])
        self._new_word()

    @traitlets.validate("width")
    def _few(self, proposal: Any) -> int:
        return min(WIDEST, max(1, int(proposal["value"])))

    @traitlets.validate("alpha")
    def _small(self, proposal: Any) -> float:
        return min(2.0, max(0.0, round(float(proposal["value"]), 2)))

    def _fail(self, problem: str) -> None:
        self._send_results({**self.results, "problem": problem})

    def _new_word(self) -> None:
        try:
            letters = cmudict.letters_to_ids(self.word.strip())
            if len(letters) > LONGEST_WORD:
                raise ValueError(f"{self.word!r} has {len(letters)} letters: give a word of at most {LONGEST_WORD}.")
        except ValueError as error:
            self._fail(str(error))
            return

        def model() -> Asked:  # its name is what the sentence calls it
            return Asked(self._model, letters, cmudict.START)

        read = student.call(model)
        if read.problem:
            self._fail(read.problem)
            return
        self._asked, self._letters = read.value, letters
        self._gold = listed(cmudict.ids_to_letters(letters))
        self._compute()
        if not self.results["problem"]:
            # The picture is on its way; meanwhile the model computes what other widths will ask for.
            for width in range(1, WIDEST + 1):
                self._run(read.value, width, 0.0)

    def _run(self, asked: Asked, width: int, alpha: float) -> student.Outcome:
        """Let the search ask; the value is what it returns, as plain numbers."""
        asked.begin(len(self._letters) + SPARE)

        def beam_search() -> tuple[list[int], float]:  # its name is what a sentence calls it
            tokens, score = self._search(asked, cmudict.START, cmudict.END, width, asked.longest, alpha)
            return [int(token) for token in tokens], float(score)

        return student.call(beam_search)

    def _compute(self) -> None:
        asked = self._asked
        if asked is None:
            return
        found = self._run(asked, self.width, self.alpha)
        if found.problem:
            self._fail(found.problem)
            return
        tokens, score = found.value
        if not asked.prefixes:
            self._fail("`beam_search` returned without asking `step` for anything.")
            return
        gold = max(self._gold, key=asked.log_prob, default=[])
        tree = grow(asked, self.width, cmudict.END, PRUNED, gold)
        self._send_results(self._told(asked, tree, tokens, score, gold))

    def _score(self, node: Node) -> float:
        return float(node.total / len(node.prefix) ** self.alpha)

    def _told(self, asked: Asked, tree: Tree, best: list[int], score: float, gold: list[int]) -> dict[str, Any]:
        complete = sorted(tree.of_kind("finished") or tree.of_kind("unfinished"), key=self._score, reverse=True)
        greedy = self._greedy(asked)
        return {
            "problem": "",
            "word": cmudict.ids_to_letters(self._letters),
            "width": self.width,
            "alpha": self.alpha,
            "levels": [
                {
                    "expansions": count,
                    "nodes": [self._node(node, best, gold) for node in level],
                }
                for level, count in zip(tree.levels, tree.expansions, strict=True)
            ],
            "complete": [
                {
                    "key": _key(node.prefix),
                    "tokens": _names(node.prefix),
                    "total": node.total,
                    "length": len(node.prefix),
                    "score": self._score(node),
                    "best": list(node.prefix) == best,
                    "gold": list(node.prefix) in self._gold,
                }
                for node in complete[:LISTED]
            ],
            "finished": len(tree.of_kind("finished")),
            "greedy": f"Greedy decoding says {_names(greedy)}, log P = {_number(asked.log_prob(greedy))}.",
            "beam": self._beam_words(asked, best, score, greedy),
            "gold": self._gold_words(asked, tree, complete, best, score, gold),
            "differs": self._differs(tree, complete, best, score),
        }

    def _node(self, node: Node, best: list[int], gold: list[int]) -> dict[str, Any]:
        length = len(node.prefix)
        return {
            "key": _key(node.prefix),
            "parent": _key(node.prefix[:-1]),
            "token": cmudict.PHONEMES[node.prefix[-1]],
            "path": _names(node.prefix),
            "log_prob": node.log_prob,
            "total": node.total,
            "score": self._score(node),
            "rank": node.rank,
            "kind": node.kind,
            "best": node.kind != "pruned" and list(node.prefix) == best[:length],
            "gold": list(node.prefix) == gold[:length],
        }

    def _greedy(self, asked: Asked) -> list[int]:
        tokens: list[int] = []
        while len(tokens) < asked.longest and cmudict.END not in tokens[-1:]:
            tokens.append(int(asked.rows([tuple(tokens)])[0].argmax()))
        return tokens

    def _formula(self, score: float) -> str:
        return f", log P / length^{self.alpha:g} = {_number(score)}" if self.alpha else ""

    def _beam_words(self, asked: Asked, best: list[int], score: float, greedy: list[int]) -> str:
        total = asked.log_prob(best)
        what = "the same" if best == greedy else f"{_names(best)}, log P = {_number(total)}"
        cut = "" if cmudict.END in best[-1:] else f" No end token came in {asked.longest} steps."
        return f"The search with width {self.width} says {what}{self._formula(score)}.{cut}"

    def _gold_words(
        self, asked: Asked, tree: Tree, complete: list[Node], best: list[int], score: float, gold: list[int]
    ) -> str:
        if not gold:
            return "The dictionary does not have this word, so no path is marked as right."
        several = len(self._gold) > 1
        which = f"{_names(gold)}, the likeliest of the {len(self._gold)} it lists," if several else f"{_names(gold)},"
        if best in self._gold:
            return f"The dictionary lists {_names(best)}: what the search found is right."
        finished = [number for number, node in enumerate(complete, 1) if list(node.prefix) == gold]
        total = asked.log_prob(gold)
        would = total / len(gold) ** self.alpha
        if finished and tree.of_kind("finished"):
            return f"The dictionary has {which} which finished as number {finished[0]} by score ({_number(would)})."
        lost = next((node for node in self._along(tree, gold) if node.kind == "pruned"), None)
        if lost is None:
            where = f"The dictionary has {which} which {asked.longest} steps are too few for."
        else:
            count = tree.expansions[len(lost.prefix) - 1]
            where = (
                f"The dictionary has {which} which was pruned at step {len(lost.prefix)}: "
                f"{cmudict.PHONEMES[lost.prefix[-1]]} was number {lost.rank} of {count} expansions."
            )
        if would > score:
            return f"{where} Its score, {_number(would)}, is higher than that of what was found: the search lost it."
        return (
            f"{where} Its score, {_number(would)}, is lower than that of what was found: "
            "by this score the wrong answer is the better one, and no search that finds both would choose otherwise."
        )

    @staticmethod
    def _along(tree: Tree, gold: list[int]) -> list[Node]:
        return [node for level in tree.levels for node in level if list(node.prefix) == gold[: len(node.prefix)]]

    def _differs(self, tree: Tree, complete: list[Node], best: list[int], score: float) -> str:
        """Where the search is not the beam search of the lesson, in a sentence; "" if it is."""
        if tree.strays:
            stray = tree.strays[0]
            which = f"“{_names(stray.node.prefix)}” (log P = {_number(stray.node.total)})"
            if stray.left_out:
                return (
                    f"At step {stray.step} {which} is number {stray.node.rank} of all expansions, and the width is "
                    f"{self.width}; your search does not go on with it."
                )
            return (
                f"At step {stray.step} your search goes on with {which}, which is number {stray.node.rank} of all "
                f"expansions, and the width is {self.width}."
            )
        if not complete:
            return ""
        top = complete[0]
        returned = next((node for node in complete if list(node.prefix) == best), None)
        if returned is None or self._score(returned) < self._score(top) - CLOSE:
            return (
                f"Your search returns {_names(best)}; {_names(top.prefix)} has the best score of what it found, "
                f"{_number(self._score(top))}."
            )
        if abs(score - self._score(returned)) > CLOSE:
            return f"Your search returns the score {_number(score)}; {_number(self._score(returned))} is wanted."
        return ""

    def describe(self) -> str:
        found = self.results
        if "levels" not in found:
            return f"The beam search of {self.word!r} as a tree: {found['problem']}"
        dropped = sum(node["kind"] == "pruned" for level in found["levels"] for node in level["nodes"])
        text = (
            f"The beam search of “{found['word']}” with width {found['width']} and length penalty {found['alpha']:g} "
            f"as a tree: {len(found['levels'])} steps, {found['finished']} sequences finished, {dropped} dropped "
            f"expansions shown. {found['greedy']} {found['beam']} {found['gold']}"
        )
        return " ".join([text, found["differs"], found["problem"]]).strip()
