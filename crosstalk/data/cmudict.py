"""The CMU Pronouncing Dictionary: how English words are spelt, and how they are said.

    >>> from crosstalk.data import cmudict
    >>> words = cmudict.load("train")
    >>> cmudict.letters_to_ids("cat")
    [8, 6, 25]
    >>> cmudict.phonemes_to_ids("K AE T")
    [22, 4, 33, 2]

The data, its splits and its traps are described in the card, assets/data/cmudict/README.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from crosstalk.places import assets_folder

if TYPE_CHECKING:  # each takes a second or more to import, so only the functions that need one do
    import datasets
    import torch

Split = Literal["train", "validation", "test"]
By = Literal["family", "random"]

SPECIAL = ("<pad>", "<start>", "<end>")
PAD, START, END = range(3)

#: The source vocabulary: a letter's place in it is its id.
LETTERS: tuple[str, ...] = (*SPECIAL, *"'-.", *"abcdefghijklmnopqrstuvwxyz")
#: The target vocabulary, 39 phonemes without stress marks: a phoneme's place in it is its id.
PHONEMES: tuple[str, ...] = (
    *SPECIAL,
    *("AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH"),
    *("IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V"),
    *("W", "Y", "Z", "ZH"),
)

_LETTER_IDS = {letter: index for index, letter in enumerate(LETTERS) if letter not in SPECIAL}
_PHONEME_IDS = {phoneme: index for index, phoneme in enumerate(PHONEMES) if phoneme not in SPECIAL}

#: The column of the parquet file that holds each kind of split.
SPLIT_COLUMNS: dict[By, str] = {"family": "split", "random": "random_split"}
_LESSON_COLUMNS = ["word", "pronunciations", "stressed", "family"]


def parquet_file() -> Path:
    """Where the data is."""
    return assets_folder() / "data" / "cmudict" / "cmudict.parquet"


def load(split: Split = "train", by: By = "family") -> datasets.Dataset:
    """Load one part of the dictionary, one row per word, in alphabetical order.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``.
        by: ``"family"`` keeps a word and its relatives (*walk*, *walked*) in one part; ``"random"``
            ignores families, as the literature does.

    Returns:
        Columns ``word``; ``pronunciations``, a list of strings such as ``"K AE T"``, the dictionary's
        first one first; ``stressed``, the same with stress marks, ``"K AE1 T"``; and ``family``. It is
        held in memory: nothing is downloaded and nothing is written.

    Raises:
        ValueError: there is no such split.
        FileNotFoundError: the data is missing; the message says how to make it.
    """
    for given, allowed in ((split, get_args(Split)), (by, get_args(By))):
        if given not in allowed:
            raise ValueError(f"There is no split {given!r}: choose one of {', '.join(map(repr, allowed))}.")
    file = parquet_file()
    if not file.is_file():
        raise FileNotFoundError("The pronouncing dictionary is missing: run `crosstalk data cmudict`.")

    import datasets
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    column = SPLIT_COLUMNS[by]
    table = pq.read_table(file, columns=[*_LESSON_COLUMNS, column])
    table = table.filter(pc.equal(table[column], split)).select(_LESSON_COLUMNS)
    return datasets.Dataset(datasets.table.InMemoryTable(table))


def letters_to_ids(word: str) -> list[int]:
    """Turn a word into the ids of its letters, with no special tokens; capitals count as small letters.

    Raises:
        ValueError: the word is empty or holds something the dictionary never spells with.
    """
    if not word:
        raise ValueError("The word is empty: give at least one letter.")
    for letter in word.lower():
        if letter not in _LETTER_IDS:
            raise ValueError(
                f"{word!r} has {letter!r}, which no word of the dictionary has: "
                "write it with the letters a to z, apostrophe ('), hyphen (-) or dot (.)."
            )
    return [_LETTER_IDS[letter] for letter in word.lower()]


def ids_to_letters(ids: Iterable[int]) -> str:
    """Turn ids back into a word: the inverse of ``letters_to_ids``, leaving out special tokens."""
    return "".join(_tokens(ids, LETTERS))


def phonemes_to_ids(pronunciation: str | Sequence[str], end: bool = True) -> list[int]:
    """Turn a pronunciation into the ids of its phonemes.

    Args:
        pronunciation: ``"K AE T"`` or ``["K", "AE", "T"]``; stress marks (``"AE1"``) are dropped.
        end: whether ``<end>`` follows, as it does in what a decoder has to predict.

    Raises:
        ValueError: something in it is not one of the 39 phonemes.
    """
    said = pronunciation.split() if isinstance(pronunciation, str) else pronunciation
    plain = [without_stress(phoneme) for phoneme in said]
    for phoneme, given in zip(plain, said, strict=True):
        if phoneme not in _PHONEME_IDS:
            raise ValueError(
                f"{given!r} is not a phoneme: the 39 are {' '.join(_PHONEME_IDS)}, "
                "written in capitals with spaces between them."
            )
    return [_PHONEME_IDS[phoneme] for phoneme in plain] + [END] * end


def ids_to_phonemes(ids: Iterable[int]) -> list[str]:
    """Turn ids back into phonemes: the inverse of ``phonemes_to_ids``, leaving out special tokens."""
    return _tokens(ids, PHONEMES)


def without_stress(pronunciation: str) -> str:
    """Drop the stress marks: ``"AH0 T EH1 N SH AH0 N"`` gives ``"AH T EH N SH AH N"``."""
    return pronunciation.translate({ord(mark): None for mark in "012"})


def batch(words: Sequence[str]) -> torch.Tensor:
    """Put words side by side, each padded at its end with ``PAD`` to the longest.

    Returns:
        Letter ids, shape (batch, letters), dtype int64.

    Raises:
        ValueError: there are no words, one string is given for a list, or a word cannot be spelt.
    """
    if isinstance(words, str):
        raise ValueError(f"Give a list of words: batch([{words!r}]) and not batch({words!r}).")
    if not words:
        raise ValueError("There are no words to put into a batch: give at least one.")

    import torch

    rows = [torch.tensor(letters_to_ids(word)) for word in words]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)


def _tokens(ids: Iterable[int], vocabulary: tuple[str, ...]) -> list[str]:
    tokens = []
    for index in map(int, ids):
        if not 0 <= index < len(vocabulary):
            raise ValueError(f"There is no token {index}: ids go from 0 to {len(vocabulary) - 1}.")
        if vocabulary[index] not in SPECIAL:
            tokens.append(vocabulary[index])
    return tokens
