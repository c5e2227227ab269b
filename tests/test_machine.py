"""How the machine is set for small models: what is chosen follows from what is measured."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crosstalk import machine


@pytest.fixture
def on_this_machine(monkeypatch: pytest.MonkeyPatch):
    """Say how many cores there are and how long products take: seconds by (threads, dtype)."""

    def settle(cores: int, seconds) -> None:
        for measured in (machine._best_threads, machine._bfloat16_is_faster):
            measured.cache_clear()
        monkeypatch.setattr(machine, "cores", lambda: cores)
        monkeypatch.setattr(machine, "_seconds", lambda dtype: seconds(torch.get_num_threads(), dtype))

    yield settle
    for measured in (machine._best_threads, machine._bfloat16_is_faster):
        measured.cache_clear()


@pytest.mark.parametrize(
    ("cores", "seconds", "threads"),
    [
        (1, lambda threads, dtype: 1.0, 1),
        (2, lambda threads, dtype: 1.0 / threads, 2),
        (2, lambda threads, dtype: 17.0 * threads, 1),  # a busy neighbour
        (2, lambda threads, dtype: 1.0 - 0.05 * threads, 1),  # hardly worth it
        (16, lambda threads, dtype: 1.0 / threads, 4),
    ],
)
def test_more_threads_must_win_clearly(on_this_machine, cores: int, seconds, threads: int) -> None:
    on_this_machine(cores, seconds)
    before = torch.get_num_threads()
    with machine.small_model(nn.Linear(2, 2), torch.device("cpu")):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("factor", "chosen"), [(0.3, True), (0.9, False), (3.0, False)])
def test_half_precision_must_win_clearly(on_this_machine, factor: float, chosen: bool) -> None:
    on_this_machine(1, lambda threads, dtype: factor if dtype == torch.bfloat16 else 1.0)
    with machine.small_model(nn.Linear(2, 2), torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu") is chosen
    assert not torch.is_autocast_enabled("cpu")


def test_what_is_measured_is_a_time() -> None:
    assert 0 < machine._seconds(torch.float32) < 60
    assert machine.cores() >= 1
    assert machine.best_device().type in ("cuda", "mps", "cpu")
