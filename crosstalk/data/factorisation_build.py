"""Train a small encoder-decoder on CMUdict and write down what it thinks of some pronunciations.

    python -m crosstalk.data.factorisation_build

One thread, one seed, a budget in steps. It writes the table that `crosstalk.data.factorisation` loads and puts
its own log into the card. The model is PyTorch's, since lesson 00 comes before any piece of the student's own.
"""

from __future__ import annotations

import io
import math
import random
import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from crosstalk.data import cmudict
from crosstalk.data.cmudict import END, LETTERS, PAD, PHONEMES, START
from crosstalk.data.cmudict_card import fill
from crosstalk.data.factorisation import HELD_OUT, table_file
from crosstalk.places import write_atomically

SEED, STEPS, BATCH, RATE = 0, 4000, 96, 2e-3
D_MODEL, HEADS, LAYERS, D_FF = 128, 4, (3, 2), 384
LONGEST = 24  # generated tokens
HELD_OUT_WORDS = 100

LETTER_BY_LETTER, CUT_SHORT = "letter by letter", "cut short"
#: The words to look at, each with wrong pronunciations and what is wrong with them. No word of their
#: families is trained on.
WORDS: dict[str, dict[str, str]] = {
    "cat": {CUT_SHORT: "K AE", "as in cut": "K AH T"},
    "tomato": {CUT_SHORT: "T AH M EY"},
    "read": {"as in ride": "R AY D"},
    "catalog": {CUT_SHORT: "K AE T"},
    "banana": {CUT_SHORT: "B AH N AE N", "as in nation": "B AH N EY N AH"},
    "island": {LETTER_BY_LETTER: "IH S L AH N D"},
    "colonel": {LETTER_BY_LETTER: "K AA L AH N EH L"},
    "tough": {"as in through": "T UW", "as in though": "T OW"},
    "though": {"as in tough": "DH AH F", "as in through": "DH UW"},
    "through": {"as in though": "TH R OW", "as in tough": "TH R AH F"},
    "knight": {LETTER_BY_LETTER: "K N IH G T"},
    "queue": {LETTER_BY_LETTER: "K W UW"},
    "yacht": {LETTER_BY_LETTER: "Y AE CH T"},
    "choir": {LETTER_BY_LETTER: "CH OY ER"},
    "psychology": {LETTER_BY_LETTER: "P S IH K AA L AH G IY"},
    "chaos": {LETTER_BY_LETTER: "CH EY AA S"},
    "women": {"as in woman": "W UH M AH N"},
    "machine": {LETTER_BY_LETTER: "M AE CH IY N"},
    "giraffe": {LETTER_BY_LETTER: "G IH R AE F"},
    "lead": {"as in laid": "L EY D"},
    "wind": {"as in wined": "W AY N"},
    "either": {"as in ether": "IY TH ER"},
    "route": {CUT_SHORT: "R UW"},
    "desert": {"as in deserve": "D IH Z ER V"},
    "attention": {LETTER_BY_LETTER: "AH T EH N T IH AA N"},
    "crosstalk": {CUT_SHORT: "K R AO S"},
}


class Speller(nn.Module):
    """Letters in, logits over phonemes out: ``torch.nn.Transformer`` with learned positions."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS), D_MODEL, padding_idx=PAD)
        self.phonemes = nn.Embedding(len(PHONEMES), D_MODEL, padding_idx=PAD)
        self.source_positions = nn.Parameter(torch.randn(40, D_MODEL) * 0.1)
        self.target_positions = nn.Parameter(torch.randn(40, D_MODEL) * 0.1)
        with warnings.catch_warnings():  # that norm_first keeps a speed-up of inference out
            warnings.simplefilter("ignore", UserWarning)
            self.layers = nn.Transformer(D_MODEL, HEADS, *LAYERS, D_FF, dropout=0.0, norm_first=True, batch_first=True)
        self.generator = nn.Linear(D_MODEL, len(PHONEMES))

    def encode(self, source: Tensor) -> Tensor:
        """Letter ids (batch, source) to the memory (batch, source, d_model)."""
        states = self.letters(source) + self.source_positions[: source.size(1)]
        return self.layers.encoder(states, src_key_padding_mask=source.eq(PAD))

    def decode(self, inputs: Tensor, memory: Tensor, source: Tensor) -> Tensor:
        """Phonemes so far (batch, target) to the logits of the next (batch, target, vocabulary)."""
        length = inputs.size(1)
        states = self.phonemes(inputs) + self.target_positions[:length]
        future = torch.ones(length, length, dtype=torch.bool).triu(1)  # True = blocked, as nn.Transformer has it
        states = self.layers.decoder(
            states, memory, tgt_mask=future, tgt_is_causal=True, memory_key_padding_mask=source.eq(PAD)
        )
        return self.generator(states)

    def log_probs(self, source: Tensor, target: Tensor) -> Tensor:
        """log P(· | y_<t, x) for each place of the target.  # (batch, target, vocabulary)"""
        inputs = torch.cat([torch.full_like(target[:, :1], START), target[:, :-1]], dim=1)
        return self.decode(inputs, self.encode(source), source).log_softmax(dim=-1)

    @torch.no_grad()
    def greedy(self, source: Tensor) -> list[list[int]]:
        """The likeliest token at each step, up to the end token, which is left out."""
        memory = self.encode(source)
        said = torch.full((len(source), 1), START)
        for _ in range(LONGEST):
            said = torch.cat([said, self.decode(said, memory, source)[:, -1:].argmax(-1)], dim=1)
            if said.eq(END).any(dim=1).all():
                break
        rows = [[*row, END] for row in said[:, 1:].tolist()]
        return [row[: row.index(END)] for row in rows]


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of ids side by side, ``PAD`` after each.  # (batch, longest)"""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=PAD)


def edits(said: Sequence[int], right: Sequence[int]) -> int:
    """Fewest insertions, deletions and substitutions that turn one into the other (Levenshtein)."""
    row = list(range(len(right) + 1))
    for i, phoneme in enumerate(said, start=1):
        diagonal, row[0] = row[0], i
        for j, wanted in enumerate(right, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (phoneme != wanted))
    return row[-1]


def without_families(rows: list[dict[str, Any]], everything: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that are no relatives of a word of `WORDS`, whatever part of ``everything`` that word is in."""
    families = {row["family"] for row in everything if row["word"] in WORDS}
    return [row for row in rows if row["family"] not in families]


def train(rows: list[dict[str, Any]], log: list[str]) -> Speller:
    """Train on ``rows``: each word once an epoch, with one of its pronunciations drawn anew."""
    torch.manual_seed(SEED)
    chance = random.Random(SEED)
    model = Speller()
    log.append(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(rows):,} words, seed {SEED}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.1)
    sources = [cmudict.letters_to_ids(row["word"]) for row in rows]
    targets = [[cmudict.phonemes_to_ids(said) for said in row["pronunciations"]] for row in rows]
    batches: list[list[int]] = []
    begun, losses = time.monotonic(), []
    for step in range(1, STEPS + 1):
        if not batches:  # words of like length together, so that little is padding
            order = sorted(range(len(rows)), key=lambda i: (len(sources[i]), chance.random()))
            batches = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
            chance.shuffle(batches)
        chosen = batches.pop()
        target = padded([chance.choice(targets[i]) for i in chosen])
        log_probs = model.log_probs(padded([sources[i] for i in chosen]), target)
        loss = nn.functional.nll_loss(log_probs.transpose(1, 2), target, ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 500 == 0:
            log.append(
                f"step {step:,}: loss {sum(losses[-200:]) / 200:.3f} (mean of 200), {time.monotonic() - begun:.0f} s"
            )
            print(log[-1], flush=True)
    return model.eval()


def evaluate(model: Speller, rows: list[dict[str, Any]]) -> str:
    """Phoneme and word error rate of greedy decoding, against the closest pronunciation."""
    wrong = errors = phonemes = 0
    for at in range(0, len(rows), 500):
        part = rows[at : at + 500]
        for row, said in zip(part, model.greedy(cmudict.batch([row["word"] for row in part])), strict=True):
            rights = [cmudict.phonemes_to_ids(right, end=False) for right in row["pronunciations"]]
            closest = min(rights, key=lambda right: edits(said, right))
            errors += edits(said, closest)
            phonemes += len(closest)
            wrong += said != closest
    return (
        f"{len(rows):,} validation words, greedy, closest pronunciation: "
        f"PER {100 * errors / phonemes:.1f} %, WER {100 * wrong / len(rows):.1f} %"
    )


@torch.no_grad()
def example(model: Speller, word: str, label: str, said: str, right: bool) -> dict[str, Any]:
    """One row of the table."""
    ids = cmudict.phonemes_to_ids(said)
    log_probs = model.log_probs(cmudict.batch([word]), torch.tensor([ids]))[0]  # (target, vocabulary)
    return {
        "word": word,
        "label": label,
        "right": right,
        "tokens": [PHONEMES[i] for i in ids],
        "log_probs": log_probs.flatten().tolist(),
    }


def examples(model: Speller, dictionary: dict[str, list[str]]) -> list[dict[str, Any]]:
    """For each word of `WORDS`: the dictionary's, the model's own where it differs, and the wrong ones."""
    rows = []
    for word, wrong in WORDS.items():
        rights = dictionary[word]
        several = len(rights) > 1
        for number, said in enumerate(rights, start=1):
            rows.append(example(model, word, f"dictionary, {number}" if several else "dictionary", said, True))
        own = " ".join(cmudict.ids_to_phonemes(model.greedy(cmudict.batch([word]))[0]))
        if own not in (*rights, *wrong.values()):
            rows.append(example(model, word, "what the model says", own, False))
        for label, said in wrong.items():
            rows.append(example(model, word, label, said, False))
    return rows


def main() -> None:
    """Train, write the table, and put the log into the card."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    torch.set_num_threads(1)
    parts = {part: cmudict.load(part).to_list() for part in ("train", "validation", "test")}
    everything = [row for part in parts.values() for row in part]
    seen = without_families(parts["train"], everything)
    log = [f"left out of training: {len(parts['train']) - len(seen)} words, those to look at and their families"]
    model = train(seen, log)
    log.append(evaluate(model, parts["validation"]))

    dictionary = {row["word"]: row["pronunciations"] for row in everything}
    rows = examples(model, dictionary)
    plain = [row for row in without_families(parts["validation"], everything) if row["word"].isalpha()]
    for row in random.Random(SEED).sample(plain, HELD_OUT_WORDS):
        rows.append(example(model, row["word"], HELD_OUT, row["pronunciations"][0], True))
    table = pa.table({
        "word": pa.array([row["word"] for row in rows]),
        "label": pa.array([row["label"] for row in rows]),
        "right": pa.array([row["right"] for row in rows]),
        "tokens": pa.array([row["tokens"] for row in rows], pa.list_(pa.string())),
        "log_probs": pa.array([row["log_probs"] for row in rows], pa.list_(pa.float32())),
    })  # fmt: skip
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd")
    write_atomically(table_file(), content.getvalue())
    log.append(f"{len(rows)} rows, {len(content.getvalue()):,} bytes")

    card = table_file().parent / "README.md"
    shown = "\n".join(["```", *log, "```"])
    samples = ["| word | what it is | tokens | log P | P |", "| --- | --- | --- | --- | --- |"]
    for row in rows[:12]:
        ids = [PHONEMES.index(token) for token in row["tokens"]]
        total = sum(row["log_probs"][t * len(PHONEMES) + i] for t, i in enumerate(ids))
        samples.append(
            f"| {row['word']} | {row['label']} | {' '.join(row['tokens'])} | {total:.3f} | {math.exp(total):.4f} |"
        )
    figures = {"log": shown, "samples": "\n".join(samples)}
    write_atomically(card, fill(card.read_text(encoding="utf-8"), figures))
    print("\n".join(log))


if __name__ == "__main__":
    main()
