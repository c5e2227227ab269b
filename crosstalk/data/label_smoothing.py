"""Two models trained alike, one with label smoothing, and how well the probabilities of each fit what happens.

    >>> from crosstalk.data import label_smoothing
    >>> [model["smoothing"] for model in label_smoothing.load()["models"]]
    [0.0, 0.1]

How they were trained and measured is described in the card, assets/data/label_smoothing/README.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crosstalk.places import assets_folder

#: ε of each model, and the name of its checkpoint (`crosstalk.checkpoints.load_model`).
CHECKPOINTS = {0.0: "cmudict-smoothing-0", 0.1: "cmudict-smoothing-01"}


def table_file() -> Path:
    """Where the table is."""
    return assets_folder() / "data" / "label_smoothing" / "calibration.json"


def load() -> dict[str, Any]:
    """What was measured on words that neither model was trained on.

    Returns:
        ``words`` and ``tokens``, how many; ``models``, one mapping for each, and ``differences``, the second
        model's figure less the first's. A model has ``smoothing``, ``confidence`` (mean), ``bins`` (see
        `crosstalk.data.label_smoothing_measure.reliability`) and the figures ``accuracy``, ``ece``, ``nll`` (nats
        a token), ``per`` and ``wer`` (percent). Each figure and each difference is ``value`` with its 95 %
        interval, ``low`` and ``high``.

    Raises:
        FileNotFoundError: the table is missing; the message says how to make it.
    """
    file = table_file()
    if not file.is_file():
        raise FileNotFoundError(
            "The table of calibration is missing: run `python -m crosstalk.data.label_smoothing_build`."
        )
    return json.loads(file.read_text(encoding="utf-8"))
