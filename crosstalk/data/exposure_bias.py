"""What was measured for lesson 09: errors by position, what an error leads to, and scheduled sampling.

    >>> from crosstalk.data import exposure_bias
    >>> record = exposure_bias.load()
    >>> [way["name"] for way in record["ways"]][:2]
    ['teacher forcing', 'scheduled sampling to 0.25']

How it was made is described in the card, assets/data/exposure_bias/README.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crosstalk.places import assets_folder

#: Of each training: what is measured, in percent.
FIGURES = ("per", "wer", "forced", "free", "aligned", "next_forced", "next_aligned", "repairs")


def record_file() -> Path:
    """Where the record is."""
    return assets_folder() / "data" / "exposure_bias" / "measured.json"


def load() -> dict[str, Any]:
    """What was measured.

    Returns:
        ``checkpoint``, its name; ``by_place`` (see `crosstalk.data.exposure_bias_measure.by_place`) and
        ``after_an_error``, a list (see the function of that name there), both of that checkpoint; and ``ways``, the
        ways to train that were compared, each with ``name``, ``steps``, ``share`` (of the model's tokens at the
        end) and ``trainings``, one for each seed, with ``seed``, ``seconds``, ``loss`` and `FIGURES` in percent:
        ``per``, ``wer``, the accuracy by each mode, ``next_…``, the accuracy at the first place after a random wrong
        third token, and ``repairs``, how often the model then says the token that was replaced.
        ``differences`` maps the name of each other way to what it has more than the first, by
        figure: ``seeds``, one number for each.

    Raises:
        FileNotFoundError: the record is missing; the message says how to make it.
    """
    file = record_file()
    if not file.is_file():
        raise FileNotFoundError(
            "The record of exposure bias is missing: run `python -m crosstalk.data.exposure_bias_build`."
        )
    return json.loads(file.read_text(encoding="utf-8"))
