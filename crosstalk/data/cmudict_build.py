"""Make cmudict.parquet, and the figures of its card, from the dictionary's text.

The same text gives the same bytes each time, as long as pyarrow is the same version: rows are sorted,
parts are chosen by hash, and nothing depends on a clock, a seed or the order of a set.
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from crosstalk.data.cmudict import without_stress
from crosstalk.data.cmudict_card import figures, fill
from crosstalk.data.cmudict_source import Source
from crosstalk.data.families import families

if TYPE_CHECKING:
    import pyarrow

#: Words in each held-out part, the same in both columns, so that only the rule differs.
TEST_WORDS = 12_000
VALIDATION_WORDS = 2_670


def parse(dictionary: bytes) -> dict[str, list[str]]:
    """Read lines such as ``dail(2) D OY1 L # org, irish`` into word -> its pronunciations, in order.

    The ``(2)`` that marks a further pronunciation and the comments are dropped, and so is a pronunciation
    that repeats an earlier one of the same word.
    """
    entries: dict[str, list[str]] = defaultdict(list)
    for line in dictionary.decode("utf-8").splitlines():
        entry, _, _comment = line.partition("#")
        spelling, *phonemes = entry.split()
        entries[spelling.partition("(")[0]].append(" ".join(phonemes))
    return {word: list(dict.fromkeys(said)) for word, said in entries.items()}


def split(sizes: Mapping[str, int], salt: str) -> dict[str, str]:
    """Put each group of words into train, validation or test.

    Groups are taken in the order of the sha256 of ``salt:name``: into test while they fit its
    ``TEST_WORDS``, then into validation while they fit its ``VALIDATION_WORDS``, and the others into train.

    Args:
        sizes: name of the group -> how many words it has.
        salt: keeps one split's order independent of another's.

    Returns:
        name of the group -> part.
    """
    room = {"test": TEST_WORDS, "validation": VALIDATION_WORDS, "train": sum(sizes.values())}
    parts = {}
    for name in sorted(sizes, key=lambda name: hashlib.sha256(f"{salt}:{name}".encode()).digest()):
        part = next(part for part, left in room.items() if sizes[name] <= left)
        room[part] -= sizes[name]
        parts[name] = part
    return parts


def make_table(dictionary: bytes) -> pyarrow.Table:
    """Make the rows, one per word in alphabetical order, with the columns that the card describes."""
    import pyarrow as pa

    entries = parse(dictionary)
    words = sorted(entries)
    family = families(words)
    by_family = split(_sizes(family.values()), "family")
    by_word = split(dict.fromkeys(words, 1), "random")
    stressed = [entries[word] for word in words]
    return pa.table(
        {
            "word": words,
            "pronunciations": [list(dict.fromkeys(map(without_stress, said))) for said in stressed],
            "stressed": stressed,
            "family": [family[word] for word in words],
            "split": [by_family[family[word]] for word in words],
            "random_split": [by_word[word] for word in words],
        }
    )


def parquet_bytes(table: pyarrow.Table) -> bytes:
    """Write the table as parquet, as small as it gets."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        row_group_size=len(table),
        compression="zstd",
        compression_level=19,
        use_dictionary=["split", "random_split"],
        # Words are sorted, so each shares its beginning with the one before.
        column_encoding={"word": "DELTA_BYTE_ARRAY", "family": "DELTA_BYTE_ARRAY"},
    )
    return sink.getvalue()


def _sizes(names: Iterable[str]) -> dict[str, int]:
    sizes: dict[str, int] = defaultdict(int)
    for name in names:
        sizes[name] += 1
    return sizes


def built_files(source: Source, card: Path) -> dict[str, bytes]:
    """Make every file of the data's folder from the source.

    Args:
        source: what the package holds.
        card: the data card as it stands; its text stays, its figures are counted anew.

    Returns:
        File name -> content. The licence is missing if the source has none (a bare dictionary file).

    Raises:
        ValueError: the card is missing, or has no places for the figures.
    """
    if not card.is_file():
        raise ValueError(f"The data card {card} is missing: restore it, for it is written by hand.")
    table = make_table(source.dictionary)
    text = fill(card.read_text(encoding="utf-8"), figures(table.to_pylist()))
    files = {"cmudict.parquet": parquet_bytes(table), "README.md": text.encode()}
    if source.licence is not None:
        files["LICENSE"] = source.licence
    return files


def differences(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Name the files in ``folder`` that are not what was built.

    Where another pyarrow wrote the parquet file, its rows are compared instead of its bytes.
    """
    return [name for name, content in files.items() if not _same(folder / name, content)]


def other_pyarrow(folder: Path, files: Mapping[str, bytes]) -> str | None:
    """Say so, in a sentence, if the parquet file in ``folder`` was written by another pyarrow than this."""
    file = folder / "cmudict.parquet"
    there, here = (_writer(content) for content in (_bytes(file), files[file.name]))
    if there in (None, here):
        return None
    return f"{file.name} was written by {there} and this is {here}, so rows are compared and not bytes."


def _same(file: Path, content: bytes) -> bool:
    import pyarrow.parquet as pq

    found = _bytes(file)
    if found == content:
        return True
    if file.suffix != ".parquet" or _writer(found) in (None, _writer(content)):
        return False
    return bool(pq.read_table(io.BytesIO(found)).equals(pq.read_table(io.BytesIO(content))))


def _bytes(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else b""


def _writer(content: bytes) -> str | None:
    """What wrote a parquet file, such as ``parquet-cpp-arrow version 26.0.1``; None if it is not one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return str(pq.read_metadata(io.BytesIO(content)).created_by)
    except (pa.ArrowException, OSError):  # empty, cut short, or something else
        return None
