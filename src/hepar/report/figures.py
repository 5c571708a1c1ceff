"""Figures as SVG that takes its ink from the page: one drawing for light, dark and print."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from hepar.evaluate import Predictions, roc_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "draw_histograms", "draw_roc"]

COLOURS = ("#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")
"""Okabe and Ito's palette, told apart by colour-blind readers; one colour a label, in order."""

_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), "-.", (0, (8, 2)), ":")
_INK, _FAINT = "#010203", "#040506"
_THEME = {_INK: "var(--ink)", _FAINT: "var(--rule)"}


def _new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, columns)).tolist()
    for axis in axes:
        axis.set_facecolor("none")
        for side, spine in axis.spines.items():
            spine.set_visible(side in {"left", "bottom"})
            spine.set_color(_FAINT)
        axis.tick_params(colors=_INK, labelsize=9, color=_FAINT)
    return figure, axes


def _plain(text: str) -> str:
    """Return text that matplotlib draws as it is: no formulas, no hidden legend entries."""
    shown = text.replace("$", r"\$")
    return f"\u200b{shown}" if shown.startswith("_") else shown


def _svg(figure: Figure, description: str) -> str:
    """Return a figure as inline SVG with a description for those who do not see it."""
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--font)", text)
    text = re.sub(r' (xmlns(:xlink)?|version)="[^"]*"', "", text, count=3)
    text = text.replace("xlink:href", "href")
    for drawn, themed in _THEME.items():
        text = text.replace(drawn, themed)
    label = f'<svg role="img" aria-label="{escape(description)}"'
    return text.replace("<svg", label, 1)


def draw_roc(predictions: Predictions, aurocs: Sequence[str]) -> str:
    """Draw a ROC curve of each label against the rest.

    Args:
        predictions: rows with a reference.
        aurocs: for each label what the legend says of its area.

    Returns:
        SVG; labels that all rows or none have are left out.
    """
    figure, (axis,) = _new_figure(4.6, 4.2)
    axis.plot([0, 1], [0, 1], color=_FAINT, linewidth=1)
    for i, label in enumerate(predictions.labels):
        positive = predictions.reference_index == i
        if positive.all() or not positive.any():
            continue
        alarms, hits = roc_curve(predictions.probabilities[:, i], positive)
        axis.plot(
            alarms,
            hits,
            color=COLOURS[i % len(COLOURS)],
            linestyle=_DASHES[i % len(_DASHES)],
            linewidth=1.8,
            label=_plain(f"{label}  {aurocs[i]}"),
        )
    axis.set_xlim(-0.01, 1.01)
    axis.set_ylim(-0.01, 1.01)
    axis.set_aspect("equal")
    axis.set_xlabel("1 - specificity", color=_INK, fontsize=9)
    axis.set_ylabel("sensitivity", color=_INK, fontsize=9)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="lower right", frameon=False, fontsize=8.5, labelcolor=_INK)
    listed = "; ".join(f"{n}: {a}" for n, a in zip(predictions.labels, aurocs, strict=True))
    return _svg(figure, f"ROC curve of each label against the rest. Area under it: {listed}.")


def draw_histograms(predictions: Predictions) -> str:
    """Draw, for each label, how its probability spreads by reference.

    Args:
        predictions: rows with a reference.

    Returns:
        SVG with a panel a label.
    """
    k = len(predictions.labels)
    panels = range(k) if k > 2 else range(k - 1, k)
    figure, axes = _new_figure(2.9 * len(panels) + 0.6, 2.7, len(panels))
    edges = np.linspace(0, 1, 21)
    for axis, i in zip(axes, panels, strict=True):
        for j, label in enumerate(predictions.labels):
            own = predictions.probabilities[predictions.reference_index == j, i]
            if len(own):
                axis.stairs(
                    np.histogram(own, edges)[0],
                    edges,
                    color=COLOURS[j % len(COLOURS)],
                    linestyle=_DASHES[j % len(_DASHES)],
                    linewidth=1.6,
                    label=_plain(f"reference {label}"),
                )
        axis.set_xlim(0, 1)
        axis.set_xlabel(_plain(f"probability of {predictions.labels[i]}"), color=_INK, fontsize=9)
    axes[0].set_ylabel("number", color=_INK, fontsize=9)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside upper left",
        ncols=k,
        frameon=False,
        fontsize=8.5,
        labelcolor=_INK,
    )
    return _svg(figure, "Histograms of each label's probability, one line for each reference.")
