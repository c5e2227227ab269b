"""The training loop: it learns, stops and goes on without loss, and says what it does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from crosstalk.data import cmudict
from crosstalk.data.word_batches import WordBatches
from crosstalk.layers import lean_attention, use_attention
from crosstalk.machine import small_model
from crosstalk.metrics import compare, error_rates, pronounce
from crosstalk.models import Size, word_model
from crosstalk.optimizers import BatchedMuon, MuonAndAdamW
from crosstalk.stand_ins.lesson_02 import masked_attention
from crosstalk.stand_ins.lesson_04 import EncoderDecoder
from crosstalk.stand_ins.lesson_05 import shift_right, token_cross_entropy, train_step
from crosstalk.training import schedule, train
from crosstalk.training_log import TrainingLog
from crosstalk.training_state import State, training_file

CPU = torch.device("cpu")
TINY = Size(d_model=32, heads=2, d_ff=64, encoder_layers=1, decoder_layers=1)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CROSSTALK_WORK", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def batches() -> WordBatches:
    return WordBatches(cmudict.load("validation"), size=32)


def tiny(size: Size = TINY) -> EncoderDecoder:
    torch.manual_seed(0)
    return word_model(size, own=False)


def stopping_after(steps: int):
    """A train step that presses the stop button at a step."""
    done = 0

    def step(*args) -> float:
        nonlocal done
        done += 1
        if done == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return train_step(*args)

    return step


def test_a_stop_while_the_state_is_loaded_is_a_stop(
    work: Path, batches: WordBatches, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = State.load

    def pressed(state: State) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        load(state)

    train(tiny(), batches, 6, stopping_after(3), name="early", device=CPU)
    capsys.readouterr()
    monkeypatch.setattr(State, "load", pressed)
    log = train(tiny(), batches, 6, train_step, name="early", device=CPU)
    assert log.step == 3
    assert "Stopped: run the cell again to go on." in capsys.readouterr().out


def test_a_model_learns(batches: WordBatches) -> None:
    log = train(tiny(), batches, 60, train_step, words=(), device=CPU)
    assert log.step == 60
    assert log.losses[0] > 3.4  # near ln 42 = 3.74
    assert sum(log.losses[-10:]) / 10 < 2.9


@pytest.mark.parametrize("bfloat16", [False, True])
def test_what_is_trained_is_what_is_used_afterwards(batches: WordBatches, bfloat16: bool) -> None:
    """In both precisions: autocast's cache once kept the weights of the first step."""
    model, source, target = tiny(), *batches[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    with small_model(model, CPU, bfloat16):
        losses = [train_step(model, source, target, optimizer, 0, 1) for _ in range(40)]
    outside = token_cross_entropy(model(source, shift_right(target, 1), source.ne(0)[:, None, None]), target, 0)
    assert losses[-1] < 0.8 * losses[0]
    assert outside.item() == pytest.approx(losses[-1], rel=0.1)


@pytest.mark.usefixtures("two_threads")
def test_bfloat16_gives_float_logits_and_leaves_nothing_behind(batches: WordBatches) -> None:
    model, (source, target) = tiny(), batches[0]
    with small_model(model, CPU, bfloat16=True):
        assert model(source, target).dtype == torch.float32
        assert model.encode(source).dtype == torch.bfloat16
    assert model.encode(source).dtype == torch.float32
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("size", [TINY, Size(32, 2, 64, 1, 1, dropout=0.2)], ids=["plain", "dropout"])
def test_stopped_and_gone_on_is_the_same_as_in_one_go(
    work: Path, batches: WordBatches, size: Size, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tiny(size)
    expected = train(whole, batches, 30, train_step, name="whole", device=CPU)

    stopped = train(tiny(size), batches, 30, stopping_after(11), name="halves", device=CPU)
    assert stopped.step == 11
    assert "Stopped: run the cell again to go on." in capsys.readouterr().out
    torch.manual_seed(99)
    again = word_model(size, own=False)
    log = train(again, batches, 30, train_step, name="halves", device=CPU)
    assert "Going on from step 11." in capsys.readouterr().out
    assert log.losses == expected.losses
    assert log.said == expected.said
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_a_second_press_breaks_off(batches: WordBatches) -> None:
    def hanging(*args) -> float:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        train(tiny(), batches, 5, hanging, words=(), device=CPU)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_finished_training_is_not_run_again(
    work: Path, batches: WordBatches, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny()
    train(model, batches, 10, train_step, name="done", words=(), device=CPU)
    capsys.readouterr()

    def never(*args) -> float:
        raise AssertionError("a step was run")

    other = word_model(TINY, own=False)
    train(other, batches, 10, never, name="done", words=(), device=CPU)
    assert "Trained already" in capsys.readouterr().out
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:100]), "cannot be read"),
        (lambda file: file.write_text(""), "cannot be read"),
    ],
)
def test_a_broken_state_is_kept_aside(
    work: Path, batches: WordBatches, capsys: pytest.CaptureFixture[str], spoil, why: str
) -> None:
    train(tiny(), batches, 8, stopping_after(4), name="spoilt", words=(), device=CPU)
    spoil(training_file("spoilt"))
    log = train(tiny(), batches, 8, train_step, name="spoilt", words=(), device=CPU)
    assert why in capsys.readouterr().out
    assert log.step == 8
    assert training_file("spoilt.old").is_file()


def test_a_state_of_another_training_is_kept_aside(
    work: Path, batches: WordBatches, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny(), batches, 8, stopping_after(4), name="other", words=(), device=CPU)
    train(tiny(), batches, 9, train_step, name="other", words=(), device=CPU)
    assert "belongs to a training of 8 steps" in capsys.readouterr().out
    train(tiny(Size(64, 2, 64, 1, 1)), batches, 9, train_step, name="other", words=(), device=CPU)
    assert "belongs to a model of another size" in capsys.readouterr().out


def test_it_runs_in_another_thread(batches: WordBatches) -> None:
    logs: list[TrainingLog] = []
    thread = threading.Thread(target=lambda: logs.append(train(tiny(), batches, 3, train_step, words=(), device=CPU)))
    thread.start()
    thread.join()
    assert logs[0].step == 3


def test_the_schedule_rises_and_falls() -> None:
    assert schedule(0.025) == pytest.approx(0.5)
    assert schedule(0.05) == pytest.approx(1.0)
    assert schedule(0.525) == pytest.approx(0.5)
    assert schedule(1.0) == 0.0


def test_every_parameter_has_one_optimizer() -> None:
    model = tiny()
    optimizer = MuonAndAdamW(model)
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    assert len(parameters) == len({id(each) for each in parameters}) == len(list(model.parameters()))
    muon, rest = (part.param_groups[0]["params"] for part in optimizer.parts)
    tables = {model.source_embedding.table.weight, model.target_embedding.table.weight, model.generator.weight}
    assert tables <= set(rest)
    assert all(each.ndim == 2 for each in muon)


def test_batches_are_a_function_of_step_and_seed() -> None:
    words = cmudict.load("validation")
    first, second = WordBatches(words, 32, seed=1), WordBatches(words, 32, seed=1)
    source, target = first[first.per_epoch + 3]  # of the second epoch
    assert all(torch.equal(a, b) for a, b in zip((source, target), second[second.per_epoch + 3], strict=True))
    other, _ = WordBatches(words, 32, seed=2)[3]
    assert source.shape != other.shape or not torch.equal(source, other)


def test_an_epoch_holds_each_pronunciation_once_and_little_padding() -> None:
    words = cmudict.load("validation")
    batches = WordBatches(words, 32)
    rows, real, places = set(), 0, 0
    for step in range(batches.per_epoch):
        source, target = batches[step]
        rows |= {(*a, -1, *b) for a, b in zip(source.tolist(), target.tolist(), strict=True)}
        real += int(source.ne(0).sum() + target.ne(0).sum())
        places += source.numel() + target.numel()
        assert (target.eq(2).sum(1) == 1).all()  # one end token in each row
    assert len(rows) == batches.per_epoch * 32
    assert real / places > 0.8


def test_too_few_words_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="A batch of 64 words cannot be filled from"):
        WordBatches(cmudict.load("validation").select(range(10)), 64)


def test_error_rates_by_hand() -> None:
    said = [["K", "AE", "T"], ["D", "AO", "G"], ["AH"]]
    listed = [[["K", "AE", "T"]], [["D", "AA", "G"], ["D", "AO", "G"]], [["AH", "B"], ["EY", "B", "IY"]]]
    rates = compare(said, listed)
    # closest: 0 + 0 + 1 edits over 3 + 3 + 2 phonemes; first: 0 + 1 + 1 over 3 + 3 + 2
    assert (rates.per, rates.wer) == pytest.approx((100 / 8, 100 / 3))
    assert (rates.first_per, rates.first_wer) == pytest.approx((200 / 8, 200 / 3))


def test_words_are_said_in_the_order_in_which_they_were_given() -> None:
    model = tiny().eval()
    words = ["attention", "a", "memory", "it"]
    assert pronounce(model, words, batch=2) == [pronounce(model, [word])[0] for word in words]
    rates = error_rates(model, cmudict.load("validation").select(range(5)))
    assert rates.words == 5
    assert "closest listed pronunciation" in str(rates)


def test_the_curve_is_drawn_without_script() -> None:
    log = TrainingLog(100, [3.7 - 0.02 * step for step in range(70)] + [float("nan")], {10: {"<b>": "K AE T"}})
    drawn = log._repr_html_()
    assert "ln V: guessing" in drawn
    assert "<b>" not in drawn
    assert "<script" not in drawn
    assert "nan" not in drawn.replace("loss nan", "")
    assert "no step yet" in repr(TrainingLog(5))


@pytest.mark.usefixtures("two_threads")
def test_a_failing_step_leaves_the_machine_as_it_was(batches: WordBatches) -> None:
    def failing(*args) -> float:
        raise RuntimeError("mine")

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError, match="mine"):
        train(tiny(), batches, 3, failing, words=(), device=CPU)
    assert torch.get_num_threads() == 2
    assert signal.getsignal(signal.SIGINT) is handler


def test_muon_in_batches_is_pytorchs_muon() -> None:
    torch.manual_seed(0)
    theirs = [nn.Parameter(torch.randn(shape)) for shape in [(8, 8), (8, 8), (16, 8), (8, 16), (4, 8)]]
    ours = [nn.Parameter(each.detach().clone()) for each in theirs]
    optimizers = [torch.optim.Muon(theirs, lr=0.1), BatchedMuon(ours, lr=0.1)]
    for step in range(4):
        for mine, other in zip(ours, theirs, strict=True):
            other.grad = torch.randn_like(other)
            mine.grad = other.grad.clone()
        if step == 2:  # one that no gradient reached stays where it is, in both
            ours[1].grad = theirs[1].grad = None
        for optimizer in optimizers:
            optimizer.step()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02)  # bfloat16 inside, in another order
    assert not torch.equal(ours[0], ours[1])


@pytest.mark.parametrize("mask", [None, "padding", "causal", "an empty row"])
def test_the_lean_attention_is_masked_attention(mask: str | None) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 3, length, 4, generator=generator, dtype=torch.float64) for length in (5, 6, 6)]
    allowed = {
        None: None,
        "padding": torch.tensor([[True] * 6, [True] * 4 + [False] * 2])[:, None, None],
        "causal": torch.ones(5, 6, dtype=torch.bool).tril(1),
        "an empty row": torch.ones(5, 6, dtype=torch.bool).tril(-1),
    }[mask]

    def output_and_gradients(attention: Callable) -> list[torch.Tensor]:
        leaves = [each.clone().requires_grad_() for each in inputs]
        output, _ = attention(*leaves, allowed)
        return [output, *torch.autograd.grad(output.cos().sum(), leaves)]

    for lean, plain in zip(*map(output_and_gradients, (lean_attention, masked_attention)), strict=True):
        torch.testing.assert_close(lean, plain, rtol=1e-12, atol=1e-12)


def test_a_training_step_with_the_lean_attention_is_the_same(batches: WordBatches) -> None:
    losses = []
    for attention in (masked_attention, lean_attention):
        model = tiny()
        use_attention(model, attention)
        losses.append(train(model, batches, 5, train_step, words=(), device=CPU).losses)
    assert losses[0] == pytest.approx(losses[1], abs=0.02)  # bfloat16, where that is faster
