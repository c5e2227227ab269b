"""Word families: which words of a list are inflections or derivations of one another.

A split that puts *walk* into training and *walking* into test measures memory of *walk* as much as
knowledge of spelling. So words that belong together are put on the same side, and this module says which
belong together. The rule looks at spelling alone. It errs towards joining: *car* and *care* share a family
through *cared*, which costs nothing, while a relative left apart would leak.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

#: Endings that inflect a word. What remains must be a word of at least three letters.
INFLECTIONS = ("s", "es", "ed", "ing", "ings", "er", "ers", "est", "ly", "ness")
#: Endings that derive a new word. What remains must be a word of at least four letters.
DERIVATIONS = (
    *("able", "age", "al", "ally", "ance", "ant", "ary", "ation", "ative", "en", "ful", "hood", "ial", "ian"),
    *("ible", "ic", "ical", "ically", "ion", "ise", "ism", "ist", "ity", "ive", "ization", "ize", "less"),
    *("like", "ment", "or", "ous", "ship", "y"),
)
#: Beginnings that derive a new word. What follows must be a word of at least four letters.
PREFIXES = ("dis", "mis", "non", "over", "re", "un")

SHORTEST_INFLECTED = 3
SHORTEST_DERIVED = 4


def letters_only(word: str) -> str:
    """The word without apostrophes, hyphens and dots: ``"o'brien's"`` gives ``"obriens"``."""
    return "".join(letter for letter in word if letter.isalpha())


def possible_bases(word: str) -> Iterator[str]:
    """Every spelling that ``word`` (letters only) may be made from; most of them are no words."""
    for endings, shortest in ((INFLECTIONS, SHORTEST_INFLECTED), (DERIVATIONS, SHORTEST_DERIVED)):
        for ending in endings:
            if word.endswith(ending):
                for base in _before(word.removesuffix(ending), ending):
                    if len(base) >= shortest:
                        yield base
    for prefix in PREFIXES:
        if word.startswith(prefix) and len(word) - len(prefix) >= SHORTEST_DERIVED:
            yield word.removeprefix(prefix)


def _before(rest: str, ending: str) -> Iterator[str]:
    yield rest  # walk-ed
    if ending[0] in "aeiouy":
        yield rest + "e"  # bak-ing, from bake
        if len(rest) > 2 and rest[-1] == rest[-2] and rest[-1] not in "aeiou":
            yield rest[:-1]  # stopp-ed, from stop
    if rest.endswith("i"):
        yield rest[:-1] + "y"  # happi-ness, from happy


def families(words: Iterable[str]) -> dict[str, str]:
    """Say of each word which family it is in.

    Words with the same letters (*well*, *we'll*) are one family; so are a word and each of its possible
    bases that is in the list itself; and what is joined to the same word is joined.

    Returns:
        word -> the name of its family, which is its shortest word (the first in the alphabet of several).
    """
    spelt: dict[str, list[str]] = defaultdict(list)
    for word in sorted(set(words)):
        spelt[letters_only(word)].append(word)

    parent = {letters: letters for letters in spelt}

    def root(letters: str) -> str:
        while parent[letters] != letters:
            parent[letters] = letters = parent[parent[letters]]
        return letters

    for letters in spelt:
        for base in possible_bases(letters):
            if base in spelt:
                parent[root(letters)] = root(base)

    members: dict[str, list[str]] = defaultdict(list)
    for letters, same in spelt.items():
        members[root(letters)].extend(same)
    return {
        word: name
        for family in members.values()
        for name in [min(family, key=lambda member: (len(member), member))]
        for word in family
    }
