"""The one plot that most lessons draw: a table of weights as colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LARGEST_WITH_NUMBERS = 100  # cells; in a larger table numbers could not be read


def heat_map(weights: torch.Tensor, rows: Sequence[Any], columns: Sequence[Any], title: str,
             ax: Axes | None = None, cells: Sequence[Sequence[str]] | None = None) -> None:  # fmt: skip
    """Draw weights as a table of colours, dark for 0 and bright for the largest.

    The colours (cividis) keep their order for colour-blind eyes and in print; the background is white in
    light and dark themes alike.

    Args:
        weights: (rows, columns), each 0 or more, usually shares that sum to one along a row.
        rows, columns: the labels.
        title: above the table.
        ax: where to draw; by default a figure of its own, of a size that fits.
        cells: what to write into each cell; by default the weight, where the table is small enough to be read.

    Raises:
        ValueError: the labels do not fit the weights.
    """
    import matplotlib.pyplot as plt

    table = weights.detach().to("cpu", torch.float64)
    if table.dim() != 2 or table.shape != (len(rows), len(columns)):
        raise ValueError(
            f"heat_map draws a table of {len(rows)} rows and {len(columns)} columns, as its labels say, "
            f"but the weights have shape {tuple(weights.shape)}: index batch and heads first."
        )
    if ax is None:
        size = (1.6 + 0.5 * len(columns), 1.1 + 0.4 * len(rows))
        ax = plt.subplots(figsize=size, facecolor="white", layout="constrained")[1]
    top = max(1e-9, float(table.nan_to_num(nan=0.0).max()))
    ax.imshow(table.numpy(), cmap="cividis", vmin=0, vmax=top, aspect="auto")
    ax.set_xticks(range(len(columns)), [str(label) for label in columns])
    ax.set_yticks(range(len(rows)), [str(label) for label in rows])
    ax.tick_params(length=0)
    ax.set_title(title, fontsize=11)
    if cells is None and table.numel() <= _LARGEST_WITH_NUMBERS:
        cells = [[f"{value:.2f}" for value in row] for row in table.tolist()]
    for i, texts in enumerate(cells or []):
        for j, text in enumerate(texts):
            colour = "black" if table[i, j] > 0.55 * top else "white"
            ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=9)
