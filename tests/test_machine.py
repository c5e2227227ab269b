"""How the machine is set for small models."""

from __future__ import annotations

import torch
from torch import nn

from crosstalk import machine


def test_a_step_taken_in_bfloat16_is_seen_by_the_next_forward(monkeypatch):
    """Autocast keeps cast weights while its context lasts; a loop inside it would compute with the first ones."""
    monkeypatch.setattr(machine, "_bfloat16_is_faster", lambda device: True)
    layer = nn.Linear(4, 4, bias=False)
    with machine.small_model(torch.device("cpu")):
        before = layer(torch.ones(1, 4))
        assert before.dtype == torch.bfloat16
        before.sum().backward()
        with torch.no_grad():
            layer.weight.mul_(2)
        after = layer(torch.ones(1, 4))
    assert torch.allclose(after.float(), 2 * before.float(), rtol=1e-2)
