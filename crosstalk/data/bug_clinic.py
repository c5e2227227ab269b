"""Six trainings that ran without an error and went silently wrong, and a healthy one: what could be seen of them.

    >>> from crosstalk.data import bug_clinic
    >>> patients = bug_clinic.load()
    >>> list(patients)
    ['healthy', 'X', 'A', 'B', 'C', 'D', 'E', 'F']

How they were trained is described in the card, assets/data/bug_clinic/README.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crosstalk.places import assets_folder

#: The words that every patient was asked to say, and what the dictionary lists first for each. Neither they nor their
#: relatives were trained on.
WORDS = {
    "cat": "K AE T",
    "act": "AE K T",
    "night": "N AY T",
    "thing": "TH IH NG",
    "island": "AY L AH N D",
    "tomato": "T AH M EY T OW",
    "crosstalk": "K R AO S T AO K",
    "attention": "AH T EH N SH AH N",
}
EVERY = 10  #: steps in one number of a training loss
CHECKED = 100  #: steps between two looks at the loss on held-out words
SAMPLED = (50, 200, 600, 1500)  #: the steps after which the words were asked


def clinic_file() -> Path:
    """Where the observations are."""
    return assets_folder() / "data" / "bug_clinic" / "patients.json"


def load() -> dict[str, dict[str, Any]]:
    """What was seen of each training, by its letter; the first is the healthy one.

    Returns:
        For each: ``first``, the loss of the first batch; ``losses``, the training loss, each number the mean of 10
        steps; ``validation``, the loss on held-out words after step 1 and then every 100 steps; ``samples``,
        step → what it said to each of `WORDS`; and, at the end, on ``words`` held-out words: ``forced``, the share
        of tokens it got right when fed the right prefix, as its own code measured it; ``per``, its phoneme error
        rate when speaking on its own; ``length``, phonemes it said to a word, and ``true_length``, those of the
        dictionary; ``ended``, the share of words after which it said the end token; ``different``, how many
        different things it said; and ``moved``, part of the model → how far its weights went from the start, against
        their size then.

    Raises:
        FileNotFoundError: the observations are missing; the message says how to make them.
    """
    file = clinic_file()
    if not file.is_file():
        raise FileNotFoundError("The patients are missing: run `python -m crosstalk.data.bug_clinic_build`.")
    patients: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return patients
