"""Training steps per second and peak memory: the course's model against torch.nn.Transformer of the same size.

    python benchmarks/training_speed.py

Both train on the same batches of words with the same optimiser in the same precision, turn by turn in one process.
Ours is the model of the course's own pieces (the stand-ins), with the attention that the lessons build or with
`lean_attention`; and, in the last rows, of the solutions as they are printed, with softmax and layer norm written out.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import accumulate, product

import torch
from torch import nn
from torch.profiler import profile

from autograder import solutions
from autograder.packs import cases_hash
from crosstalk import my_model
from crosstalk.course import course
from crosstalk.data import cmudict
from crosstalk.data.cmudict import LETTERS, PAD, PHONEMES, START
from crosstalk.data.word_batches import WordBatches
from crosstalk.layers import lean_attention
from crosstalk.machine import small_model
from crosstalk.models import Size, word_model
from crosstalk.stand_ins.lesson_02 import causal_mask, masked_attention
from crosstalk.stand_ins.lesson_03 import TokenEmbedding
from crosstalk.stand_ins.lesson_05 import train_step

OURS: dict[str, Callable | None] = {"the lessons' attention": masked_attention, "lean attention": lean_attention,
                                    "the solutions line by line": None}  # fmt: skip
SIZES = {"d 128, 3+2 layers (the lessons')": Size(), "d 256, 3+2 layers": Size(256, 4, 1024)}
WARM_UP, ROUNDS, STEPS, BATCH = 3, 21, 5, 128
CPU = torch.device("cpu")


class Peer(nn.Module):
    """torch.nn.Transformer between the same embeddings, called as the course's model is."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.source_embedding = TokenEmbedding(len(LETTERS), size.d_model, PAD)
        self.target_embedding = TokenEmbedding(len(PHONEMES), size.d_model, PAD)
        self.transformer = nn.Transformer(
            size.d_model, size.heads, size.encoder_layers, size.decoder_layers, size.d_ff, size.dropout,
            batch_first=True, norm_first=True,
        )  # fmt: skip
        self.generator = nn.Linear(size.d_model, len(PHONEMES))

    def forward(self, source: torch.Tensor, target: torch.Tensor, source_mask: torch.Tensor) -> torch.Tensor:
        padded = ~source_mask[:, 0, 0]  # (batch, source), True = may not be read
        states = self.transformer(
            self.source_embedding(source), self.target_embedding(target),
            tgt_mask=~causal_mask(target.size(1), target.size(1)), tgt_is_causal=True,
            src_key_padding_mask=padded, memory_key_padding_mask=padded,
        )  # fmt: skip
        return self.generator(states)


def built(which: str, size: Size, attention: Callable | None) -> nn.Module:
    """The model of one side, ready to train; ours of a student's pieces where no attention is given."""
    torch.manual_seed(0)
    ours = word_model(size, own=attention is None, attention=attention)
    return (ours if which == "ours" else Peer(size)).train()


def keep_solutions(folder: str) -> None:
    """Have a student who has handed in all solutions of lessons 01 to 05, with their work in this folder."""
    os.environ["CROSSTALK_WORK"] = folder
    for lesson in course().lessons[1:6]:
        notebook = solutions.read_source(lesson)
        for name in (entry.name for entry in lesson.exercises):
            source = solutions.answer_source(notebook, name)
            my_model.keep(name, source, solutions.setup_source(notebook), cases_hash(name))
            assert my_model.is_own(name)


def batches() -> WordBatches:
    """The same for both sides."""
    return WordBatches(cmudict.load("validation"), BATCH)


def steps_per_second(models: dict[str, nn.Module], bfloat16: bool) -> dict[str, float]:
    """The median over rounds in which both sides train the same batches, one after the other."""
    words = batches()
    optimizers = {which: torch.optim.AdamW(model.parameters(), fused=True) for which, model in models.items()}
    rates: dict[str, list[float]] = {which: [] for which in models}
    for turn in range(WARM_UP + ROUNDS):
        for which in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
            with small_model(models[which], CPU, bfloat16):
                begin = time.perf_counter()
                for step in range(STEPS):
                    train_step(models[which], *words[turn * STEPS + step], optimizers[which], PAD, START)
                if turn >= WARM_UP:
                    rates[which].append(STEPS / (time.perf_counter() - begin))
    return {which: statistics.median(each) for which, each in rates.items()}


def peak_megabytes(model: nn.Module, bfloat16: bool) -> float:
    """Most bytes that tensors held at once during some training steps, beside the model and its optimiser."""
    words, optimizer = batches(), torch.optim.AdamW(model.parameters(), fused=True)
    with small_model(model, CPU, bfloat16):
        train_step(model, *words[0], optimizer, PAD, START)
        optimizer.zero_grad()  # what is freed within was then allocated within: of no other block is the size known
        with profile(profile_memory=True) as profiled:
            for step in range(STEPS):
                train_step(model, *words[step], optimizer, PAD, START)
    held = accumulate(event.nbytes() for event in profiled.profiler.kineto_results.events()
                      if event.name() == "[memory]")  # fmt: skip
    return max(held) / 2**20


def main() -> None:
    """Print the table."""
    warnings.filterwarnings("ignore", "enable_nested_tensor")  # PyTorch's own, about a shortcut for inference
    head = ("size", "ours", "precision", "ours, steps/s", "nn.Transformer, steps/s", "ratio",
            "peak memory, ours / theirs (MB)")  # fmt: skip
    print(f"| {' | '.join(head)} |\n{'| --- ' * len(head)}|")
    with tempfile.TemporaryDirectory() as work:
        keep_solutions(work)
        for (label, size), (name, attention), bfloat16 in product(SIZES.items(), OURS.items(), (False, True)):
            models = {which: built(which, size, attention) for which in ("ours", "theirs")}
            ours, theirs = steps_per_second(models, bfloat16).values()
            memory = [peak_megabytes(model, bfloat16) for model in models.values()]
            print(f"| {label} | {name} | {'bfloat16' if bfloat16 else 'float32'} | {ours:.1f} | {theirs:.1f} "
                  f"| {ours / theirs:.2f} | {memory[0]:.1f} / {memory[1]:.1f} |", flush=True)  # fmt: skip
    with small_model(models["ours"], CPU):
        chosen = f"{torch.get_num_threads()} thread(s), {'bfloat16' if torch.is_autocast_enabled('cpu') else 'float32'}"
    print(f"\nbatches of {BATCH} words, AdamW, torch {torch.__version__}; measured best on this machine: {chosen}")


if __name__ == "__main__":
    main()
