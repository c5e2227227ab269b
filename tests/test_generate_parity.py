"""The course's model with the weights of Hugging Face's Pegasus gives its logits, and decoding gives its tokens."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from generate_speed import ours, sources, theirs, through_modules
from pegasus import PAD, START, both

from crosstalk.decoding import fast_greedy_decode
from crosstalk.models import Size
from crosstalk.stand_ins.lesson_02 import padding_mask

SIZES = {"lessons": (Size(), 64), "deeper": (Size(64, 8, 96, 4, 5), 300)}


@pytest.fixture(params=SIZES.values(), ids=list(SIZES))
def pair(request: pytest.FixtureRequest):
    with torch.inference_mode():
        yield (*both(*request.param), request.param[1])


def test_logits_are_the_same(pair) -> None:
    peer, model, vocabulary = pair
    source, target = sources(5, vocabulary), torch.randint(3, vocabulary, (5, 9))
    target[:, 0] = START
    wanted = peer(input_ids=source, attention_mask=(source != PAD).long(), decoder_input_ids=target).logits
    got = model(source, target, padding_mask(source, PAD))
    assert wanted.std() > 0.1
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_greedy_tokens_are_the_same(pair) -> None:
    peer, model, vocabulary = pair
    source = sources(6, vocabulary)
    wanted = theirs(peer, source, 1)
    assert len({tuple(row) for row in wanted.tolist()}) == 6
    assert torch.equal(ours(model, source, 1), wanted)
    assert torch.equal(through_modules(model, source), wanted)


def test_beam_tokens_are_the_same(pair) -> None:
    peer, model, vocabulary = pair
    source = sources(6, vocabulary)
    wanted = theirs(peer, source, 4)
    assert not torch.equal(wanted, theirs(peer, source, 1))
    assert torch.equal(ours(model, source, 4), wanted)


def test_rows_end_where_theirs_do(pair) -> None:
    peer, model, vocabulary = pair
    source = sources(8, vocabulary)
    said = theirs(peer, source, 1)
    end = int(said[0, 5])  # a token that some rows say early, some late, some never
    wanted = peer.generate(source, attention_mask=(source != PAD).long(), num_beams=1, do_sample=False,
                           max_new_tokens=32, eos_token_id=end)[:, 1:]  # fmt: skip
    got = fast_greedy_decode(model, source, padding_mask(source, PAD), START, end, PAD, 32)
    assert torch.equal(got, wanted)
    lengths = {row.index(end) if end in row else None for row in wanted.tolist()}
    assert len(lengths) > 1
