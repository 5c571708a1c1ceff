"""Training curves: one panel a model, thin lines for folds, a thick one for their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hepar.report.figures import COLOURS, INK, new_figure, plain, to_svg, write_legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_training"]

_COLUMNS = 3
_PARTS = (("train", COLOURS[0], "-"), ("tune", COLOURS[2], (0, (5, 2))))

History = Sequence[Mapping[str, Any]]


def _curves(history: History, column: str) -> dict[Any, NDArray[np.float64]]:
    """Return, for each fold, (n, 2) epochs from 1 and values; None is the final fit."""
    points: dict[Any, list[tuple[float, float]]] = {}
    for row in history:
        if row[column] is not None:
            points.setdefault(row["fold"], []).append((row["epoch"] + 1, row[column]))
    return {fold: np.array(sorted(own), dtype=np.float64) for fold, own in points.items()}


def _mean(curves: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean over folds at every epoch that at least half of them reached."""
    stacked = np.concatenate(curves)
    epochs, owner, counts = np.unique(stacked[:, 0], return_inverse=True, return_counts=True)
    values = np.bincount(owner, weights=stacked[:, 1]) / counts
    return np.stack([epochs, values], axis=1)[2 * counts >= len(curves)]


def _draw_panel(axis: Axes, history: History, quantity: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for part, colour, dash in _PARTS:
        curves = _curves(history, f"{part}_{quantity}")
        final = curves.pop(None, None)
        for curve in curves.values():
            axis.plot(*curve.T, color=colour, linestyle=dash, linewidth=0.7, alpha=0.45)
        if curves:
            mean = _mean(list(curves.values()))
            axis.plot(*mean.T, color=colour, linestyle=dash, linewidth=2.2, label=part)
        if final is not None and part == "train":
            axis.plot(*final.T, color=INK, linestyle=":", linewidth=1.2, label="train, final fit")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.set_xlabel("epoch", color=INK, fontsize=9)


def draw_training(panels: Mapping[str, History], quantity: str = "loss") -> str:
    """Draw how training went.

    Args:
        panels: for each model its rows: fold (None for the final fit), epoch, and train_ and tune_
            of the quantity, None where it was not measured.
        quantity: "loss" or "accuracy".

    Returns:
        SVG with a panel a model.
    """
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = (4.6, 3.4) if len(panels) == 1 else (3.1 * columns, 2.4 * rows + 0.4)
    figure, axes = new_figure(*size, columns, rows)
    for axis, (name, history) in zip(axes, panels.items(), strict=False):
        _draw_panel(axis, history, quantity)
        axis.set_title(plain(name), color=INK, fontsize=9.5, loc="left")
    for axis in axes[::columns]:
        axis.set_ylabel(quantity, color=INK, fontsize=9)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    write_legend(figure, axes, columns=3)
    of = f" of {', '.join(filter(None, panels))}" if any(panels) else ""
    return to_svg(figure, f"Training and tuning {quantity} by epoch{of}.")
