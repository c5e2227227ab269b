"""Log-probabilities that a trained model gave to pronunciations, one row for each token.

    >>> from crosstalk.data import factorisation
    >>> example = factorisation.load()[0]
    >>> example["word"], example["tokens"]
    ('cat', ['K', 'AE', 'T', '<end>'])
    >>> example["log_probs"].shape
    torch.Size([4, 42])

The model, its budget and its errors are described in the card, assets/data/factorisation/README.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crosstalk.data.cmudict import PHONEMES
from crosstalk.places import assets_folder


def table_file() -> Path:
    """Where the table is."""
    return assets_folder() / "data" / "factorisation" / "log_probs.parquet"


def load() -> list[dict[str, Any]]:
    """The words to look at closely, each with right and wrong pronunciations.

    Returns:
        one mapping for each word and pronunciation, as `crosstalk.widgets.Factorisation` takes them:
        ``word``; ``label``, which says what this pronunciation is; ``right``, whether it stands in the
        dictionary; ``tokens``, the phonemes and the end token; ``target``, their ids, int64 (target,);
        ``vocabulary``, all 42 tokens; ``log_probs``, float32 (target, vocabulary), where row t is
        log P(· | y_<t, x).

    Raises:
        FileNotFoundError: the table is missing; the message says how to make it.
    """
    return [row for row in _rows() if row["label"] != HELD_OUT]


def load_held_out() -> list[dict[str, Any]]:
    """Words of the validation part, each with the dictionary's first pronunciation, as `load` gives them."""
    return [row for row in _rows() if row["label"] == HELD_OUT]


#: The label of the words that `load_held_out` gives.
HELD_OUT = "validation word"


def _rows() -> list[dict[str, Any]]:
    file = table_file()
    if not file.is_file():
        raise FileNotFoundError(
            "The table of log-probabilities is missing: run `python -m crosstalk.data.factorisation_build`."
        )

    import pyarrow.parquet as pq
    import torch

    rows = []
    for row in pq.read_table(file).to_pylist():
        tokens = row["tokens"]
        log_probs = torch.tensor(row["log_probs"], dtype=torch.float32).view(len(tokens), len(PHONEMES))
        target = torch.tensor([PHONEMES.index(token) for token in tokens])
        rows.append({**row, "target": target, "vocabulary": list(PHONEMES), "log_probs": log_probs})
    return rows
