"""The cache and the batched search give what plain decoding gives, and each token is computed once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from crosstalk.caching import caching
from crosstalk.checkpoints import load_model
from crosstalk.data.cmudict import END, PAD, PHONEMES, START, letters_to_ids
from crosstalk.data.word_batches import pad_rows
from crosstalk.decoding import beam_decode, fast_greedy_decode, stepping
from crosstalk.layers import fused_attention
from crosstalk.stand_ins.lesson_02 import masked_attention, padding_mask
from crosstalk.stand_ins.lesson_04 import EncoderDecoder
from crosstalk.stand_ins.lesson_05 import greedy_word
from crosstalk.stand_ins.lesson_07 import greedy_decode
from crosstalk.stand_ins.lesson_08 import beam_search

WORDS = ["attention", "a", "knight", "beam", "uncharacteristically"]


@pytest.fixture(scope="module", params=[masked_attention, fused_attention])
def model(request: pytest.FixtureRequest) -> Iterator[EncoderDecoder]:
    with torch.inference_mode():
        yield load_model("cmudict-lesson", own=False, attention=request.param)


@pytest.fixture
def source() -> torch.Tensor:
    return pad_rows([letters_to_ids(word) for word in WORDS])


def test_cached_logits_are_the_uncached_ones(model: EncoderDecoder, source: torch.Tensor) -> None:
    mask, target = padding_mask(source, PAD), torch.randint(3, len(PHONEMES), (len(source), 12))
    target[:, 0] = START
    memory = model.encode(source, mask)
    plain = model.decode(target, memory, memory_mask=mask)
    with caching(model, own=False) as memories:
        memory = model.encode(source, mask)
        ends = [1, 2, 5, 12]
        parts = [model.decode(target[:, :end], memory, memory_mask=mask) for end in ends]
        assert memories.taken == [1, 1, 3, 7]
        torch.testing.assert_close(torch.cat(parts, dim=1), plain, rtol=1e-5, atol=1e-5)
        with pytest.raises(ValueError, match="at least one new one"):
            model.decode(target, memory, memory_mask=mask)
    torch.testing.assert_close(model.decode(target, memory, memory_mask=mask), plain)  # and it is as it was


def test_the_new_tokens_alone_with_start_are_the_same(model: EncoderDecoder, source: torch.Tensor) -> None:
    mask, target = padding_mask(source, PAD), torch.randint(3, len(PHONEMES), (len(source), 6))
    with caching(model, own=False):
        memory = model.encode(source, mask)
        model.decode(target[:, :4], memory, memory_mask=mask)
        alone = model.decode(target[:, 4:], memory, memory_mask=mask, start=4)
    plain = model.decode(target, memory, memory_mask=mask)[:, 4:]
    torch.testing.assert_close(alone, plain, rtol=1e-5, atol=1e-5)


def test_greedy_decoding_takes_one_token_a_step_and_projects_the_memory_once(
    model: EncoderDecoder, source: torch.Tensor
) -> None:
    mask = padding_mask(source, PAD)
    plain = greedy_decode(model, source, mask, START, END, PAD, 40)
    runs = []
    key = model.decoder.layers[0].cross_attention.key  # type: ignore[index, union-attr]
    matrix = torch.nn.functional.linear
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key, "forward", lambda states: runs.append(1) or matrix(states, key.weight, key.bias))
        with caching(model, own=False) as memories:
            cached = greedy_decode(model, source, mask, START, END, PAD, 40)
    assert torch.equal(cached, plain)
    assert memories.taken == [1] * plain.size(1)
    assert len(runs) == 1
    assert torch.equal(fast_greedy_decode(model, source, mask, START, END, PAD, 40), plain)
    for row, word in zip(plain.tolist(), WORDS, strict=True):
        alone = greedy_word(model, torch.tensor([letters_to_ids(word)]), START, END, 40)
        assert [token for token in row if token != PAD] == alone


@pytest.mark.parametrize(("width", "alpha"), [(1, 0.0), (3, 0.0), (4, 0.6), (50, 2.0)])
def test_the_batched_search_is_the_search_of_each_word(
    model: EncoderDecoder, source: torch.Tensor, width: int, alpha: float
) -> None:
    ids, scores = beam_decode(model, source, padding_mask(source, PAD), START, END, PAD, 30, width, alpha)
    for row, score, word in zip(ids.tolist(), scores.tolist(), WORDS, strict=True):
        with stepping(model, torch.tensor([letters_to_ids(word)]), own=False) as step:
            best, best_score = beam_search(step, START, END, width, 30, alpha)
        assert [token for token in row if token != PAD] == best
        assert score == pytest.approx(best_score, rel=1e-4)


def test_an_unfinished_search_gives_what_it_has(model: EncoderDecoder, source: torch.Tensor) -> None:
    ids, _ = beam_decode(model, source[-1:], None, START, END, PAD, 3, 4)
    with stepping(model, source[-1:], own=False) as step:
        best, _ = beam_search(step, START, END, 4, 3, 0.0)
    assert ids[0].tolist() == best and len(best) == 3 and END not in best


def test_steps_that_do_not_follow_begin_anew(model: EncoderDecoder) -> None:
    source = torch.tensor([letters_to_ids("beam")])
    with stepping(model, source, own=False) as step:
        first = step(torch.tensor([[START, 5, 6], [START, 7, 8]]))
        step(torch.tensor([[START]]))
        torch.testing.assert_close(step(torch.tensor([[START, 5, 6], [START, 7, 8]])), first, rtol=1e-4, atol=1e-5)
