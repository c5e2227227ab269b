"""The optimiser of the lessons' trainings: Muon for the matrices of the layers, AdamW for all else.

Muon (Jordan et al. 2024) takes a step of the same size in every direction of a matrix. To compare it with AdamW alone
at the lessons' size: benchmarks/training.py.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import nn


class BatchedMuon(torch.optim.Muon):
    """PyTorch's Muon, with all matrices of one shape in one product.

    Theirs takes matrix after matrix, and at the lessons' size most of that time goes into starting operations.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape[matrix.shape].append(matrix)
            for shape, matrices in by_shape.items():
                for matrix in matrices:
                    self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix))
                momenta = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
                gradients = [matrix.grad for matrix in matrices]
                torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov's look ahead
                directions = orthogonal(torch.stack(ahead), group["ns_coefficients"], group["ns_steps"], group["eps"])
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                torch._foreach_add_(matrices, list(directions.to(matrices[0].dtype)), alpha=-rate)


def orthogonal(
    matrices: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """(matrices, rows, columns), each with all its singular values near 1, by Newton and Schulz's iteration."""
    a, b, c = coefficients
    tall = matrices.size(1) > matrices.size(2)
    result = matrices.bfloat16().mT if tall else matrices.bfloat16()
    result = result / result.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = result @ result.mT
        result = torch.baddbmm(result, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), result, beta=a)
    return result.mT if tall else result


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
            BatchedMuon(matrices, lr=matrix_rate, weight_decay=weight_decay),
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
