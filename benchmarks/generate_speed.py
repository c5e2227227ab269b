"""Tokens per second of decoding: the course's model with its cache against Hugging Face's generate().

    python benchmarks/generate_speed.py [--seconds 2]

The same architecture and weights on both sides (see pegasus.py), the same sources, turn by turn in one process. No
row ends before the last token, so that both generate equally many; what they generate is compared token for token.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from pegasus import PAD, START, both
from torch import nn
from transformers import PegasusForConditionalGeneration

from crosstalk.caching import Memories, caching
from crosstalk.decoding import beam_decode, fast_greedy_decode
from crosstalk.machine import small_model
from crosstalk.models import Size
from crosstalk.stand_ins.lesson_02 import padding_mask
from crosstalk.stand_ins.lesson_04 import EncoderDecoder
from crosstalk.stand_ins.lesson_07 import greedy_decode

SIZES = {"d 128, 3+2 layers (the lessons')": (Size(), 64), "d 512, 6+6 layers": (Size(512, 8, 2048, 6, 6), 8_000)}
BATCHES, BEAMS, SOURCE, TOKENS = (1, 16, 64), 4, 12, 32
NEVER = -1  # an end token that no model says
CPU = torch.device("cpu")


def sources(batch: int, vocabulary: int) -> torch.Tensor:
    """(batch, SOURCE), of several lengths, padded."""
    generator = torch.Generator().manual_seed(batch)
    source = torch.randint(3, vocabulary, (batch, SOURCE), generator=generator)
    lengths = torch.randint(SOURCE // 2, SOURCE + 1, (batch, 1), generator=generator)
    lengths[0] = SOURCE
    return source.masked_fill(torch.arange(SOURCE) >= lengths, PAD)


def ours(model: EncoderDecoder, source: torch.Tensor, beams: int, tokens: int = TOKENS) -> torch.Tensor:
    """(batch, tokens)"""
    mask = padding_mask(source, PAD)
    if beams > 1:
        return beam_decode(model, source, mask, START, NEVER, PAD, tokens, beams)[0]
    return fast_greedy_decode(model, source, mask, START, NEVER, PAD, tokens)


def through_modules(model: EncoderDecoder, source: torch.Tensor) -> torch.Tensor:
    """(batch, tokens): the exercise's greedy_decode with the exercise's cache."""
    with caching(model, own=False):
        return greedy_decode(model, source, padding_mask(source, PAD), START, NEVER, PAD, TOKENS)


def theirs(model: PegasusForConditionalGeneration, source: torch.Tensor, beams: int) -> torch.Tensor:
    """(batch, tokens)"""
    ids = model.generate(source, attention_mask=(source != PAD).long(), num_beams=beams, do_sample=False,
                         max_new_tokens=TOKENS, eos_token_id=None)  # fmt: skip
    return ids[:, 1:]


def seconds_of(runs: dict[str, Callable[[], torch.Tensor]], seconds: float) -> dict[str, list[float]]:
    """The time of each run, turn by turn, for at least ``seconds`` in all and five turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or len(times[next(iter(runs))]) < 5:
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times


def step_flops(size: Size, vocabulary: int, rows: int) -> float:
    """Operations of one cached step for ``rows`` rows, attention to SOURCE letters and TOKENS / 2 tokens."""
    d = size.d_model
    attention = 4 * d * (SOURCE + TOKENS / 2)
    layer = 2 * 6 * d * d + 2 * 2 * d * size.d_ff + attention  # four matrices of self-, two of cross-attention
    return rows * (size.decoder_layers * layer + 2 * d * vocabulary)


def product_rate() -> float:
    """Operations per second of a large matrix product on this machine."""
    a, b = torch.ones(1024, 1024), torch.ones(1024, 1024)
    times = seconds_of({"product": lambda: a @ b}, 1.0)["product"]
    return 2 * 1024**3 / statistics.median(times)


def speed(seconds: float) -> None:
    """Print the table against generate()."""
    rate = product_rate()
    print(f"{torch.get_num_threads()} thread(s), float32, matrix product {rate / 1e9:.0f} GFLOP/s\n")
    head = ("size", "search", "batch", "ours, tokens/s", "generate(), tokens/s", "ratio", "same tokens",
            "share of the matrix-product rate, ours", "lesson 07's cache, tokens/s")  # fmt: skip
    print(f"| {' | '.join(head)} |\n{'| --- ' * len(head)}|")
    for label, (size, vocabulary) in SIZES.items():
        peer, model = both(size, vocabulary)
        for beams, batch in itertools.product((1, BEAMS), BATCHES):
            source = sources(batch, vocabulary)
            runs = {"ours": partial(ours, model, source, beams), "theirs": partial(theirs, peer, source, beams)}
            if beams == 1:
                runs["lesson"] = partial(through_modules, model, source)
            first = [run() for run in runs.values()]
            same = int((first[0] == first[1]).all(dim=1).sum())
            times = seconds_of(runs, seconds)
            rates = {name: batch * TOKENS / statistics.median(each) for name, each in times.items()}
            ratio = statistics.median(b / a for a, b in zip(times["ours"], times["theirs"], strict=True))
            busy = step_flops(size, vocabulary, batch * beams) * rates["ours"] / batch / rate
            cells = (label, "greedy" if beams == 1 else f"beam {beams}", batch, f"{rates['ours']:,.0f}",
                     f"{rates['theirs']:,.0f}", f"{ratio:.1f}", f"{same} of {batch}", f"{100 * busy:.0f} %",
                     f"{rates['lesson']:,.0f}" if "lesson" in rates else "")  # fmt: skip
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


def growth(lengths: tuple[int, ...] = (16, 64, 128, 256)) -> None:
    """Print what a token costs at the end of longer and longer sequences, with the cache and without."""
    _, model = both(Size(), 64)
    source = sources(1, 64)
    memory = model.encode(source)
    head = ("tokens", "with the cache, ms a token", "without, ms a token")
    print(f"\n| {' | '.join(head)} |\n{'| --- ' * len(head)}|")
    for length in lengths:
        prefix = torch.randint(3, 64, (1, length), generator=torch.Generator().manual_seed(length))
        with caching(model, own=False) as memories:
            model.decode(prefix, memory)
            again = partial(newest_again, model, memories, prefix, memory)
            cached = statistics.median(seconds_of({"": again}, 0.5)[""])
        plain = statistics.median(seconds_of({"": partial(model.decode, prefix, memory)}, 0.5)[""])
        print(f"| {length} | {1000 * cached:.2f} | {1000 * plain:.2f} |", flush=True)


def newest_again(model: EncoderDecoder, memories: Memories, prefix: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
    """Logits (1, 1, vocabulary) of the newest token, which the cache forgets first."""
    memories.length = prefix.size(1) - 1
    for cache in memories.caches:
        cache.length = memories.length
    return model.decode(prefix, memory)


@torch.inference_mode()
def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row, at least")
    asked = parser.parse_args()
    with small_model(nn.Identity(), CPU, bfloat16=False):
        speed(asked.seconds)
        growth()


if __name__ == "__main__":
    main()
