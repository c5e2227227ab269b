"""What beam search of several widths and length penalties does to 2,000 words, as it was measured.

    >>> from crosstalk.data import search
    >>> [row["width"] for row in search.load()["widths"]]
    [1, 2, 4, 8, 16]

How it was measured is described in the card, assets/data/search/README.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crosstalk.places import assets_folder


def table_file() -> Path:
    """Where the table is."""
    return assets_folder() / "data" / "search" / "beams.json"


def load() -> dict[str, Any]:
    """What was measured on words of the test part with the model that the lessons use.

    Returns:
        ``words``, how many; ``widths``, rows of alpha 0 by ``width``, and ``penalties``, rows of one width by
        ``alpha``. A row has ``per`` and ``wer`` in per cent (closest listed pronunciation); ``length``, the mean
        number of phonemes; ``log_prob``, the mean log-probability of what was found; and, against the first row of
        its list, ``changed``, the share of words said otherwise, and ``difference``: that in WER, ``value`` with its
        95 % interval, ``low`` and ``high``. Rows of ``widths`` also have ``seconds`` for all words, in batches.

    Raises:
        FileNotFoundError: the table is missing; the message says how to make it.
    """
    file = table_file()
    if not file.is_file():
        raise FileNotFoundError("The table of beams is missing: run `python -m crosstalk.data.search_build`.")
    return json.loads(file.read_text(encoding="utf-8"))
