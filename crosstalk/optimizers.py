"""The optimiser of the lessons' trainings: Muon for the matrices of the layers, AdamW for all else.

Muon (Jordan et al. 2024) takes a step of the same size in every direction of a matrix. To compare it with AdamW alone
at the lessons' size: benchmarks/training.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class MuonAndAdamW(torch.optim.Optimizer):
    """Two optimisers that are used as one.

    Args:
        model: each 2-D parameter of a layer goes to Muon; tables, generator, norms and biases to AdamW.
        matrix_rate: learning rate of Muon.
        rate: learning rate of AdamW.
        weight_decay: of Muon's matrices.
    """

    def __init__(
        self, model: nn.Module, matrix_rate: float = 0.02, rate: float = 3e-3, weight_decay: float = 0.01
    ) -> None:
        edges = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        edges |= {id(parameter) for parameter in model.get_submodule("generator").parameters()}
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        matrices = [each for each in parameters if each.ndim == 2 and id(each) not in edges]
        inside = {id(each) for each in matrices}
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=matrix_rate, weight_decay=weight_decay, adjust_lr_fn="original"),
            torch.optim.AdamW(
                [each for each in parameters if id(each) not in inside], lr=rate, betas=(0.9, 0.98), weight_decay=0.0
            ),
        ]
        self.defaults: dict[str, Any] = {}

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The groups of both, whose ``lr`` a schedule may set."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step with each."""
        for part in self.parts:
            part.step(closure)

    def state_dict(self) -> dict[str, Any]:
        """Both states, by place: ``{"0": …, "1": …}``."""
        return {str(index): part.state_dict() for index, part in enumerate(self.parts)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take both states back."""
        for index, part in enumerate(self.parts):
            part.load_state_dict(state_dict[str(index)])
