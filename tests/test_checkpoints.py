"""The shipped models: small, described, loadable into a student's pieces, and as good as their card says."""

from __future__ import annotations

import math
import re

import pytest
import torch

from crosstalk.checkpoints import checkpoint_file, load_into, load_model
from crosstalk.data import cmudict
from crosstalk.data.cmudict_checkpoint_build import RECIPES
from crosstalk.metrics import error_rates
from crosstalk.models import Size, word_model
from crosstalk.places import assets_folder

FOLDER = assets_folder() / "checkpoints"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RECIPES)
def test_a_checkpoint_is_small_and_described(name: str) -> None:
    assert checkpoint_file(name).stat().st_size < 10_000_000
    assert f"## {name}\n" in CARD


def test_every_checkpoint_has_its_place_in_the_card() -> None:
    for file in FOLDER.glob("*.safetensors"):
        assert f"`{file.name}`" in CARD, file.name


@pytest.mark.parametrize("name", RECIPES)
def test_it_is_as_good_as_its_card_says(name: str) -> None:
    """On 600 of the test words; the card has all 12,000, and 600 may differ by three standard errors."""
    section = CARD.partition(f"## {name}\n")[2].partition("\n## ")[0]
    found = re.search(r"test, \w+ split: PER ([\d.]+), WER ([\d.]+) over 12,000 words", section)
    assert found
    words = cmudict.load("test", by=RECIPES[name].by)
    rates = error_rates(load_model(name, own=False), words.select(range(0, len(words), len(words) // 600)))
    told = float(found[2])
    assert abs(rates.wer - told) < 3 * 100 * math.sqrt(told / 100 * (1 - told / 100) / rates.words)


def test_a_log_comes_with_it_and_is_drawn() -> None:
    model = word_model(own=False)
    log = load_into(model, "cmudict-lesson")
    assert log.step == log.steps == RECIPES["cmudict-lesson"].steps
    assert log.losses[0] > 3 > 0.5 > log.losses[-1]
    assert "attention" in log.table()
    loaded = load_model("cmudict-lesson", own=False)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))


def test_bad_names_and_sizes_are_one_sentence() -> None:
    with pytest.raises(FileNotFoundError, match="There is no checkpoint 'other' in assets/checkpoints; there are: cmu"):
        load_model("other")
    with pytest.raises(ValueError, match="The checkpoint 'cmudict-lesson' has other sizes than this model"):
        load_into(word_model(Size(d_model=64), own=False), "cmudict-lesson")
