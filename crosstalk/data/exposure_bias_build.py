"""Measure exposure bias, and whether scheduled sampling helps against it; write down what came of it.

    python -m crosstalk.data.exposure_bias_build

One thread. It trains what is not trained yet (`crosstalk.data.exposure_bias_trainings`), measures those models and a
shipped checkpoint on words that none of them has seen, writes the record that `crosstalk.data.exposure_bias` loads,
and puts its figures into the card.
"""

from __future__ import annotations

import json
from statistics import mean
from typing import Any

import torch

from crosstalk.checkpoints import load_model
from crosstalk.data import cmudict
from crosstalk.data.cmudict_card import fill
from crosstalk.data.exposure_bias import FIGURES, record_file
from crosstalk.data.exposure_bias_measure import (
    AFTER,
    ERRORS_AT,
    MODES,
    after_an_error,
    by_place,
    rates,
    with_one_pronunciation,
)
from crosstalk.data.exposure_bias_trainings import SEEDS, WAYS, batches_of, trained
from crosstalk.layers import fused_attention
from crosstalk.places import write_atomically
from crosstalk.stand_ins.lesson_04 import EncoderDecoder

CHECKPOINT = "cmudict-lesson"
COMPARED_WORDS = 4000  # of the test part, drawn with a fixed seed, on which the trainings are compared
PLACE = 3  # of the error put in, where the trainings are compared


def main() -> None:
    """Train, measure, write the record, and put the figures into the card."""
    torch.set_num_threads(1)
    test = cmudict.load("test")
    words = with_one_pronunciation(test)
    model = load_model(CHECKPOINT, own=False, attention=fused_attention)
    record: dict[str, Any] = {
        "checkpoint": CHECKPOINT,
        "by_place": by_place(model, words),
        "after_an_error": [
            after_an_error(model, words, place, likely) for likely in (False, True) for place in ERRORS_AT
        ],
    }
    print(f"{CHECKPOINT}: {record['by_place']['total']}", flush=True)

    compared = test.shuffle(seed=0).select(range(COMPARED_WORDS))
    ways: list[dict[str, Any]] = [
        {"name": way.name, "steps": way.steps, "share": way.share, "trainings": []} for way in WAYS
    ]
    for seed in SEEDS:
        batches = batches_of(seed)
        for way, entry in zip(WAYS, ways, strict=True):
            done = trained(way, seed, batches)
            row = {"seed": seed, "seconds": round(done.seconds, 1), "loss": round(done.loss, 4)}
            row |= figures_of(done.model, compared)
            entry["trainings"].append(row)
            print(f"{way.name}: {row}", flush=True)
    record["ways"] = ways
    record["differences"] = {way["name"]: differences(ways[0], way) for way in ways[1:]}
    write_atomically(record_file(), json.dumps(record, separators=(",", ":")).encode())
    card = record_file().parent / "README.md"
    write_atomically(card, fill(card.read_text(encoding="utf-8"), tables(record)))


def figures_of(model: EncoderDecoder, rows: Any) -> dict[str, float]:
    """`FIGURES` of one trained model."""
    words = with_one_pronunciation(rows)
    places, error = by_place(model, words), after_an_error(model, words, PLACE, likely=False)
    accuracy = {mode: places["total"][mode]["value"] for mode in MODES}
    after = {f"next_{mode}": error[mode]["with"][0]["value"] for mode in ("forced", "aligned")}
    return rates(model, rows) | accuracy | after | {"repairs": error["repairs"]["value"]}


def differences(first: dict[str, Any], other: dict[str, Any]) -> dict[str, list[float]]:
    """What ``other`` has more than ``first``, figure by figure, for each seed."""
    pairs = list(zip(first["trainings"], other["trainings"], strict=True))
    return {figure: [round(mine[figure] - its[figure], 3) for its, mine in pairs] for figure in FIGURES}


def tables(record: dict[str, Any]) -> dict[str, str]:
    """The figures of the card, as Markdown by name."""
    places = record["by_place"]
    columns = ["place", "words", *MODES]
    lines = [_row(columns), _row(["---"] * len(columns))]
    rows = [(str(number), each["words"], each) for number, each in enumerate(places["places"], 1)]
    for name, count, each in [*rows, ("all", places["words"], places["total"])]:
        lines.append(_row([name, f"{count:,}", *(_shown(each[mode]) for mode in MODES)]))
    gaps = places["gaps"]
    lines += ["", f"Given the right tokens less left alone: same place {_shown(gaps['free'])}, aligned "
              f"{_shown(gaps['aligned'])}. Edits per 100 gold tokens, insertions included: "
              f"{_shown(places['edits'])}. {places['tokens']:,} tokens in all."]  # fmt: skip

    error = [
        _row(["error at", "kind", "words", "repairs", "mode", *(f"+{n}" for n in range(1, AFTER + 1)), "without it"])
    ]
    error.append(_row(["---"] * (AFTER + 6)))
    for each in record["after_an_error"]:
        kind = "the model's likeliest wrong one" if each["likely"] else "any wrong one"
        for mode in MODES:
            without = " / ".join(f"{at['value']:.1f}" for at in each[mode]["without"])
            shown = [_shown(at) for at in each[mode]["with"]]
            error.append(
                _row(
                    [
                        str(each["place"]),
                        kind,
                        f"{each['words']:,}",
                        f"{each['repairs']['value']:.1f}",
                        mode,
                        *shown,
                        without,
                    ]
                )
            )

    columns = ["way", "steps", "seed", "seconds", *FIGURES]
    trainings = [_row(columns), _row(["---"] * len(columns))]
    for way in record["ways"]:
        for row in way["trainings"]:
            shown = [f"{row[figure]:.1f}" for figure in FIGURES]
            trainings.append(
                _row([way["name"], f"{way['steps']:,}", str(row["seed"]), f"{row['seconds']:.0f}", *shown])
            )
    columns = ["way", *FIGURES]
    compared = [_row(columns), _row(["---"] * len(columns))]
    for name, found in record["differences"].items():
        shown = [
            f"{mean(found[figure]):+.2f} ({', '.join(f'{one:+.1f}' for one in found[figure])})" for figure in FIGURES
        ]
        compared.append(_row([name, *shown]))
    return {
        "places": "\n".join(lines),
        "error": "\n".join(error),
        "trainings": "\n".join(trainings),
        "differences": "\n".join(compared),
    }


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(share: dict[str, float]) -> str:
    return f"{share['value']:.1f} ({share['low']:.1f} to {share['high']:.1f})"


if __name__ == "__main__":
    main()
