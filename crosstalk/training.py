"""The one training loop of the course.

>>> log = train(model, WordBatches(cmudict.load("train")), 1_000, train_step, name="first")

It shows its progress, can be stopped at any moment, and goes on from there when the same cell is run again.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from crosstalk import training_state
from crosstalk.data.cmudict import PAD, START
from crosstalk.machine import best_device, small_model
from crosstalk.optimizers import MuonAndAdamW
from crosstalk.training_log import TrainingLog
from crosstalk.training_view import TrainingView

TrainStep = Callable[[nn.Module, torch.Tensor, torch.Tensor, torch.optim.Optimizer, int, int], float]
SAVE_EVERY = 30.0  # seconds


class Batches(Protocol):
    """``batches[step]`` gives source (batch, source) and target (batch, length)."""

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]: ...


def train(
    model: nn.Module,
    batches: Batches,
    steps: int,
    train_step: TrainStep,
    *,
    name: str | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    words: Sequence[str] = ("attention", "memory", "decoder"),
    device: torch.device | None = None,
) -> TrainingLog:
    """Train ``model`` for ``steps`` steps in all, with a rate that rises over the first 5 % and falls to 0.

    Args:
        model: an EncoderDecoder; it is changed, and comes back to the device that it was on.
        batches: such as `crosstalk.data.word_batches.WordBatches`.
        steps: where the training ends, those of an earlier, stopped run included.
        train_step: ``(model, source, target, optimizer, pad_id, start_id)`` → loss.
        name: under which the state is kept in ``work/training``; None keeps nothing.
        optimizer: `MuonAndAdamW` unless given; its learning rates are the highest of the schedule.
        words: said aloud by the model every now and then.
        device: a GPU where there is one, unless given.

    Returns:
        the log: the loss of each step, and what the model said on the way.
    """
    with _stop_asked() as stop:  # from here on, so that a press while the state is loaded is no error either
        device = device or best_device()
        home = next(model.parameters()).device
        model.to(device).train()
        optimizer = optimizer or MuonAndAdamW(model)
        rates = [group["lr"] for group in optimizer.param_groups]
        log = TrainingLog(steps)
        state = training_state.State(name, model, optimizer, log, steps)
        state.load()
        view = TrainingView(log, model, words)
        with small_model(model, device):
            while log.step < steps and not stop.is_set():
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * schedule((log.step + 0.5) / steps)
                source, target = (each.to(device) for each in batches[log.step])
                log.losses.append(train_step(model, source, target, optimizer, PAD, START))
                view.update()
                if state.seconds_since_saved() > SAVE_EVERY:
                    state.save()
        state.save()
    model.to(home).eval()
    view.end(stopped=stop.is_set())
    return log


def schedule(progress: float, warm_up: float = 0.05) -> float:
    """The share of the highest rate at ``progress`` (0 to 1): a straight rise, then a straight fall to 0."""
    return min(progress / warm_up, (1 - progress) / (1 - warm_up))


@contextmanager
def _stop_asked() -> Iterator[threading.Event]:
    """An event that the stop button (an interrupt) sets, so that no step is cut in half; a second press breaks off."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only there may interrupts be handled
        yield stop
        return

    def ask(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
