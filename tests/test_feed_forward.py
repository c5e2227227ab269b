"""The feed-forward block with its backward pass written out: the plain block's numbers, in less memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from crosstalk.layers import FeedForward
from crosstalk.models import Size

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from training_speed import OURS, built, peak_megabytes


def plain(block: FeedForward, states: torch.Tensor) -> torch.Tensor:
    """As lesson 03 writes it."""
    return block.contract(F.relu(block.expand(states)))


def output_and_gradients(forward: Callable, block: FeedForward, states: torch.Tensor) -> list[torch.Tensor]:
    leaf = states.clone().requires_grad_()
    output = forward(block, leaf)
    return [output, *torch.autograd.grad(output.double().cos().sum(), [leaf, *block.parameters()])]


@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 5, 6), (2, 0, 6)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_it_is_the_plain_block(shape: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    block, states = FeedForward(6, 10).to(dtype), torch.randn(shape, dtype=dtype)
    states[..., 0] = 0.0
    written, simple = (output_and_gradients(forward, block, states) for forward in (FeedForward.forward, plain))
    torch.testing.assert_close(written, simple, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_so_it_is_in_bfloat16(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    block, states = FeedForward(6, 10), torch.randn(2, 5, 6).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        written, simple = (output_and_gradients(forward, block, states) for forward in (FeedForward.forward, plain))
    torch.testing.assert_close(written, simple, rtol=2**-6, atol=2**-6)
    assert written[0].dtype == torch.bfloat16 and written[1].dtype == dtype
    assert all(gradient.dtype == torch.float32 for gradient in written[2:])


def test_what_the_backward_pass_needs_is_not_changed_by_it() -> None:
    torch.manual_seed(0)
    block = FeedForward(6, 10)
    output = block(torch.randn(5, 6)).cos().sum()
    first, second = (torch.autograd.grad(output, list(block.parameters()), retain_graph=True) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(5, 6), (2, 5, 6)])
def test_what_comes_out_may_be_changed_in_place(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    block, states = FeedForward(6, 10), torch.randn(shape)

    def doubled(forward: Callable) -> Callable:
        return lambda block, leaf: forward(block, leaf).mul_(2.0)

    written, simple = (
        output_and_gradients(doubled(forward), block, states) for forward in (FeedForward.forward, plain)
    )
    torch.testing.assert_close(written, simple)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("attention", ["the lessons' attention", "lean attention"])
def test_training_needs_no_more_memory_than_pytorchs_transformer(attention: str, bfloat16: bool) -> None:
    ours, theirs = (peak_megabytes(built(which, Size(), OURS[attention]), bfloat16) for which in ("ours", "theirs"))
    assert ours <= theirs
