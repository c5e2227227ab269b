"""Train three models that differ only in how inputs are shifted against labels, and write down what came of it.

    python -m crosstalk.data.teacher_forcing_build

One thread, one seed, the same batches for all. It writes the record that `crosstalk.data.teacher_forcing` loads and
puts its own log into the card.
"""

from __future__ import annotations

import json
import random
import time
from typing import Any

import torch

from crosstalk.data import cmudict
from crosstalk.data.cmudict import END, PAD, PHONEMES, START
from crosstalk.data.cmudict_card import fill
from crosstalk.data.teacher_forcing import SHIFTS, inputs_and_labels, record_file
from crosstalk.data.word_batches import WordBatches, pad_rows
from crosstalk.metrics import MAX_LENGTH, compare
from crosstalk.models import Size, word_model
from crosstalk.places import write_atomically
from crosstalk.stand_ins.lesson_02 import padding_mask
from crosstalk.stand_ins.lesson_04 import EncoderDecoder
from crosstalk.stand_ins.lesson_05 import token_cross_entropy
from crosstalk.stand_ins.lesson_07 import greedy_decode
from crosstalk.training import train

SEED, BATCH = 0, 64
SIZE = Size(d_model=64, heads=4, d_ff=128, encoder_layers=2, decoder_layers=1)
STEPS = (0, 25, 50, 100, 200, 400, 600)  # after which the models are asked
HELD_OUT_WORDS = 200
#: Words of the validation part, so no model has seen them or their relatives.
WORDS = ("button", "lizard", "orchid", "planet", "rhyme", "romantic", "spaceship", "syllable")


def build_model() -> EncoderDecoder:
    """The model that all three trainings begin with."""
    torch.manual_seed(SEED)
    return word_model(SIZE, own=False)


@torch.inference_mode()
def say(model: EncoderDecoder, words: list[str]) -> list[list[str]]:
    """Greedy decoding from the start token on: all tokens said, special ones too, with the end token if it came."""
    source = pad_rows([cmudict.letters_to_ids(word) for word in words])
    model.eval()
    rows = greedy_decode(model, source, padding_mask(source, PAD), START, END, PAD, MAX_LENGTH).tolist()
    model.train()
    return [[PHONEMES[i] for i in (row[: row.index(END) + 1] if END in row else row)] for row in rows]


class ShiftedStep:
    """A `train_step` with the inputs shifted by ``shift``; it asks the model at each of `STEPS`.

    Attributes:
        samples, per, wer: what came out, one for each of `STEPS`.
    """

    def __init__(self, shift: int, held_out: list[dict[str, Any]]) -> None:
        self.shift, self.held_out, self.done = shift, held_out, 0
        self.words = [row["word"] for row in held_out]
        self.samples: list[list[list[str]]] = []
        self.per: list[float] = []
        self.wer: list[float] = []

    def __call__(
        self,
        model: Any,
        source: torch.Tensor,
        target: torch.Tensor,
        optimizer: torch.optim.Optimizer,
        pad_id: int,
        start_id: int,
    ) -> float:
        """One step, as `crosstalk.training.train` calls it."""
        if self.done in STEPS:
            self.ask(model)
        inputs, labels = inputs_and_labels(target, self.shift)
        loss = token_cross_entropy(model(source, inputs, padding_mask(source, pad_id)), labels, pad_id)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self.done += 1
        return loss.item()

    def ask(self, model: EncoderDecoder) -> None:
        """Decode the words to show, and measure the error rates on held-out ones."""
        self.samples.append(say(model, list(WORDS)))
        said = [row[:-1] if row[-1] == PHONEMES[END] else row for row in say(model, self.words)]
        rates = compare(said, [[one.split() for one in row["pronunciations"]] for row in self.held_out])
        self.per.append(round(rates.per, 2))
        self.wer.append(round(rates.wer, 2))


def held_out_words() -> list[dict[str, Any]]:
    """Words of the validation part, drawn with a fixed seed."""
    plain = [row for row in cmudict.load("validation").to_list() if row["word"].isalpha()]
    return random.Random(SEED).sample(plain, HELD_OUT_WORDS)


def main() -> None:
    """Train, write the record, and put the log into the card."""
    listed = {row["word"]: row["pronunciations"] for row in cmudict.load("validation").to_list()}
    held_out = held_out_words()
    batches = WordBatches(cmudict.load("train"), BATCH, SEED)
    lines = [f"{sum(p.numel() for p in build_model().parameters()):,} parameters, seed {SEED}, {BATCH} words a step"]
    trainings: list[dict[str, Any]] = []
    for shift in SHIFTS:
        model, step, begun = build_model(), ShiftedStep(shift, held_out), time.monotonic()
        log = train(model, batches, STEPS[-1], step, words=(), device=torch.device("cpu"))
        step.ask(model)
        trainings.append({
            "shift": shift,
            "losses": [round(loss, 4) for loss in log.losses],
            "per": step.per,
            "wer": step.wer,
            "samples": step.samples,
        })  # fmt: skip
        lines.append(f"shift {shift}: {log!r}, PER {step.per[-1]:.1f} %, {time.monotonic() - begun:.0f} s")
        print(lines[-1], flush=True)
    record = {
        "vocabulary": len(PHONEMES),
        "held_out": len(held_out),
        "words": [{"word": word, "pronunciations": [one.split() for one in listed[word]]} for word in WORDS],
        "steps": list(STEPS),
        "trainings": trainings,
    }
    write_atomically(record_file(), json.dumps(record, separators=(",", ":")).encode())

    head = f"| shift | last 50 losses | PER after {', '.join(map(str, STEPS))} steps | says for “planet” at the end |"
    table = [head, "| --- " * 4 + "|"]
    for training in trainings:
        last = sum(training["losses"][-50:]) / 50
        per = ", ".join(f"{value:.1f}" for value in training["per"])
        said = training["samples"][-1][WORDS.index("planet")]
        table.append(f"| {training['shift']} | {last:.4f} | {per} | {' '.join(said[:12])}{' …' if said[12:] else ''} |")
    card = record_file().parent / "README.md"
    shown = "\n".join(["```", *lines, "```"])
    write_atomically(card, fill(card.read_text(encoding="utf-8"), {"log": shown, "table": "\n".join(table)}))


if __name__ == "__main__":
    main()
