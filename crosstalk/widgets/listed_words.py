"""What the dictionary lists for a word, for widgets that compare what a model says with it."""

from __future__ import annotations

import random

from crosstalk.data.cmudict import SPLIT_COLUMNS, parquet_file, phonemes_to_ids


def listed(word: str) -> list[list[int]]:
    """The listed pronunciations of ``word`` as ids, each with the end token, the first one first; empty if unlisted."""
    import pyarrow.parquet as pq

    found = pq.read_table(parquet_file(), columns=["pronunciations"], filters=[("word", "==", word.lower())])
    if not found.num_rows:
        return []
    said = [phonemes_to_ids(each) for each in found["pronunciations"][0].as_py()]
    # Pronunciations that differ only in stress are the same here.
    return [each for place, each in enumerate(said) if each not in said[:place]]


def held_out(words: int, shortest: int, seed: int = 0) -> list[tuple[str, list[int]]]:
    """Words of the test part, split by family, that have one listed pronunciation.

    Args:
        words: how many, drawn at random.
        shortest: tokens that each pronunciation has at least, the end token included.

    Returns:
        pairs of a word and the ids of its pronunciation, with the end token.
    """
    import pyarrow.parquet as pq

    test = [(SPLIT_COLUMNS["family"], "==", "test")]
    table = pq.read_table(parquet_file(), columns=["word", "pronunciations"], filters=test).to_pylist()
    pairs = [(row["word"], phonemes_to_ids(row["pronunciations"][0]))
             for row in table if len(row["pronunciations"]) == 1]  # fmt: skip
    return random.Random(seed).sample([pair for pair in pairs if len(pair[1]) >= shortest], words)
