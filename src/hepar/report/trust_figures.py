"""Figures of what probabilities are worth: reliability, decision curve, risk against coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hepar.report.figures import (
    COLOURS,
    DASHES,
    FAINT,
    INK,
    new_figure,
    plain,
    to_svg,
    write_legend,
)

__all__ = ["draw_abstention", "draw_decision_curve", "draw_reliability"]

Record = Mapping[str, Any]


def draw_reliability(curves: Sequence[Record], labels: Sequence[str]) -> str:
    """Draw how often each label is right where it is given a probability.

    Args:
        curves: defined records of `trust.json`, one a label.
        labels: all of them, in order, for their colours.

    Returns:
        SVG with a panel a label; bars are intervals where there are some.
    """
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure, axes = new_figure(2.9 * columns + 0.2, 2.9 * rows + 0.2, columns, rows)
    for axis in axes[len(curves) :]:
        axis.set_visible(False)
    for axis, curve in zip(axes, curves, strict=False):
        at = list(labels).index(curve["label"])
        axis.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
        reach = None
        if curve["low"] is not None:
            ends = zip(curve["low"], curve["seen"], curve["high"], strict=True)
            reach = list(zip(*((seen - low, high - seen) for low, seen, high in ends), strict=True))
        axis.errorbar(
            curve["given"],
            curve["seen"],
            yerr=reach,
            color=COLOURS[at % len(COLOURS)],
            marker="o",
            markersize=4,
            linewidth=1.4,
            elinewidth=0.9,
        )
        axis.set_xlim(-0.02, 1.02)
        axis.set_ylim(-0.02, 1.02)
        axis.set_aspect("equal")
        axis.set_xlabel(f"probability of {plain(curve['label'], 24)}", color=INK, fontsize=9)
    for axis in axes[::columns]:
        axis.set_ylabel("how often it is the reference", color=INK, fontsize=9)
    listed = ", ".join(curve["label"] for curve in curves)
    return to_svg(figure, f"Reliability diagram of {listed}: on the diagonal they keep their word.")


def draw_decision_curve(curve: Record) -> str:
    """Draw the net benefit of acting on the model, on everybody and on nobody.

    Args:
        curve: a record of `trust.json`.
    """
    figure, (axis,) = new_figure(4.8, 3.3)
    at, label = curve["thresholds"], curve["label"]
    if curve["low"] is not None:
        axis.fill_between(at, curve["low"], curve["high"], color=COLOURS[0], alpha=0.18, lw=0)
    axis.plot(at, curve["model"], color=COLOURS[0], linewidth=1.8, label="on the model")
    axis.plot(at, curve["all"], color=COLOURS[1], linestyle=DASHES[1], lw=1.6, label="on everybody")
    axis.axhline(0, color=INK, linestyle=DASHES[2], linewidth=1.2, label="on nobody")
    top = max(*curve["model"], *(curve["high"] or []), curve["all"][0], 0.02)
    axis.set_ylim(-0.25 * top, 1.15 * top)
    axis.set_xlim(0, 1)
    axis.set_xlabel(f"probability of {plain(label, 20)} at which one acts", color=INK, fontsize=9)
    axis.set_ylabel("net benefit", color=INK, fontsize=9)
    write_legend(figure, [axis], columns=3)
    return to_svg(figure, f"Decision curve: net benefit of acting on the model for {label}.")


def draw_abstention(curves: Sequence[Record]) -> str:
    """Draw the share of wrong answers against the share of patients answered.

    Args:
        curves: defined records of `trust.json`, one a way of telling how sure an answer is.
    """
    figure, (axis,) = new_figure(4.8, 3.3)
    top = 0.05
    for i, curve in enumerate(curves):
        banded = [
            (x, low, high)
            for x, low, high in zip(
                curve["answered"],
                curve["low"] or [None] * len(curve["answered"]),
                curve["high"] or [None] * len(curve["answered"]),
                strict=True,
            )
            if low is not None
        ]
        if banded and i == 0:
            xs, lows, highs = zip(*banded, strict=True)
            axis.fill_between(xs, lows, highs, color=COLOURS[0], alpha=0.18, lw=0, step="post")
            top = max(top, *highs)
        axis.step(
            curve["answered"],
            curve["risk"],
            where="post",
            color=COLOURS[i],
            linestyle=DASHES[i],
            linewidth=1.8,
            label=f"surest first, by {curve['by']}",
        )
        top = max(top, *curve["risk"])
    axis.set_xlim(0, 1.01)
    axis.set_ylim(-0.02 * top, 1.08 * top)
    axis.set_xlabel("share of patients answered", color=INK, fontsize=9)
    axis.set_ylabel("share of answers wrong", color=INK, fontsize=9)
    write_legend(figure, [axis], columns=2)
    return to_svg(figure, "Risk against coverage: what leaving out the least sure answers buys.")
