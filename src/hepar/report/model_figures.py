"""Figures that set models beside each other: their metrics, and their worth against their cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hepar.report.figures import (
    COLOURS,
    FAINT,
    INK,
    any_glyph,
    new_figure,
    plain,
    to_svg,
    write_legend,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

__all__ = ["BARS", "draw_bars", "draw_cost", "write_names"]

BARS = {
    "accuracy": "accuracy",
    "precision": "precision (PPV)",
    "sensitivity": "sensitivity (recall)",
    "f1": "F1",
}
"""Metrics of the bar chart, and what they are called there."""

_BAR = 0.2
_MARKS = "osD^vP"
_ANGLES = (0, 180, 90, 270, 30, 330, 150, 210, 60, 300, 120, 240)

Model = Mapping[str, Any]


def _reach(metric: Mapping[str, Any]) -> list[list[float]] | None:
    """Return how far an interval reaches below and above its value, as matplotlib wants it."""
    if metric["low"] is None or metric["high"] is None:
        return None
    value = metric["value"]
    return [[max(0.0, value - metric["low"])], [max(0.0, metric["high"] - value)]]


def draw_bars(models: Sequence[Model]) -> str:
    """Draw accuracy, precision, sensitivity and F1 of each model, with intervals as whiskers.

    Args:
        models: as in `comparison.json`; a metric without value is said to be undefined.

    Returns:
        SVG with a group of bars a model, first at the top.
    """
    figure, (axis,) = new_figure(7.2, 0.72 * len(models) + 0.9)
    for i, model in enumerate(models):
        for j, (name, title) in enumerate(BARS.items()):
            metric = model["metrics"][name]
            y = i + (j - (len(BARS) - 1) / 2) * _BAR
            if metric["value"] is None:
                axis.text(0.01, y, "undefined", va="center", fontsize=7.5, color=INK)
                continue
            axis.barh(y, metric["value"], _BAR * 0.9, color=COLOURS[j], label=title)
            reach = _reach(metric)
            if reach:
                axis.errorbar(metric["value"], y, xerr=reach, color=INK, lw=0.9, capsize=1.6)
    axis.set_yticks(range(len(models)), [plain(model["name"]) for model in models])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(models) - 0.4, -0.6)
    axis.set_xlim(0, 1)
    write_legend(figure, [axis], columns=len(BARS))
    listed = "; ".join(f"{m['name']} {_said(m['metrics']['accuracy']['value'])}" for m in models)
    return to_svg(
        figure,
        f"Accuracy, precision, sensitivity and F1 of each model. Accuracy: {listed}.",
    )


def _said(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _overlap(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(0.0, width) * max(0.0, height))


def _around(text: Bbox) -> list[tuple[float, float]]:
    """Return shifts of a text's middle from its point in pixels, the nearest first."""
    return [
        (np.cos(angle) * (gap + text.width / 2), np.sin(angle) * (gap + text.height / 2))
        for gap in range(8, 200, 8)
        for angle in np.deg2rad(_ANGLES)
    ]


def write_names(axis: Axes, points: Sequence[tuple[str, float, float]], taken: list[Bbox]) -> None:
    """Write each point's name as near to its point as it can stand without covering anything.

    Args:
        axis: in its final place in the figure.
        points: name, x and y of each.
        taken: boxes in pixels not to cover; the names' own are added.
    """
    from matplotlib.transforms import Bbox

    inside = axis.get_window_extent()
    to_points = 72 / axis.figure.dpi
    style: dict[str, Any] = {
        "textcoords": "offset points",
        "fontsize": 8.5,
        "color": INK,
        "zorder": 4,
    }
    for name, x, y in points:
        text = axis.annotate(name, (x, y), (0, 0), va="center", ha="center", **style)
        box = text.get_window_extent()
        shifts = _around(box)
        boxes = [Bbox(box.translated(*shift)) for shift in shifts]
        costs = [
            sum(_overlap(moved, other) for other in taken)
            + box.width * box.height
            - _overlap(moved, inside)
            for moved in boxes
        ]
        best = int(np.argmin(np.round(costs, 3)))
        text.set_position((shifts[best][0] * to_points, shifts[best][1] * to_points))
        taken.append(boxes[best])
        if best >= len(_ANGLES):
            point = axis.transData.transform((x, y))
            end = (np.clip(point, *boxes[best].get_points()) - point) * to_points
            line = {"arrowstyle": "-", "color": FAINT, "lw": 0.9, "shrinkA": 0}
            axis.annotate("", (x, y), end, textcoords="offset points", arrowprops=line)


def _boxes(axis: Axes, models: Sequence[Model]) -> list[Bbox]:
    """Return what marks and whiskers cover, in pixels."""
    from matplotlib.transforms import Bbox

    boxes = []
    for model in models:
        metric, cost = model["metrics"]["balanced_accuracy"], model["cost"]["predict_ms"]
        for low, high, half in (
            (metric["value"], metric["value"], 6),
            (metric["low"], metric["high"], 3),
        ):
            if low is not None and high is not None:
                (x, y0), (_, y1) = axis.transData.transform([(cost, low), (cost, high)])
                boxes.append(Bbox.from_extents(x - half, y0 - half, x + half, y1 + half))
    return boxes


def _draw_points(axis: Axes, models: Sequence[Model]) -> None:
    for i, kind in enumerate(dict.fromkeys(model["kind"] for model in models)):
        colour, mark = COLOURS[i % len(COLOURS)], _MARKS[i % len(_MARKS)]
        for model in (model for model in models if model["kind"] == kind):
            metric, cost = model["metrics"]["balanced_accuracy"], model["cost"]["predict_ms"]
            reach = _reach(metric)
            if reach:
                axis.errorbar(cost, metric["value"], reach, color=colour, lw=1, alpha=0.6)
            inside = "none" if model["is_random"] else colour
            axis.plot(cost, metric["value"], mark, color=colour, markerfacecolor=inside)
        axis.plot([], [], mark, color=colour, label=plain(kind))


def draw_cost(models: Sequence[Model]) -> str:
    """Draw balanced accuracy against the time of a prediction.

    Args:
        models: as in `comparison.json`; those without one of the two are left out.

    Returns:
        SVG; "" where no model has both.
    """
    shown = [
        model
        for model in models
        if model["cost"]["predict_ms"]
        and model["metrics"]["balanced_accuracy"]["value"] is not None
    ]
    if not shown:
        return ""
    from matplotlib.ticker import LogLocator

    figure, (axis,) = new_figure(7.2, 4.4)
    axis.set_xscale("log")
    _draw_points(axis, shown)
    costs = [model["cost"]["predict_ms"] for model in shown]
    axis.set_xlim(min(costs) / 2, max(costs) * 2)
    axis.margins(y=0.08)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("")
    axis.set_xlabel("time of a prediction, ms", color=INK, fontsize=9)
    axis.set_ylabel("balanced accuracy", color=INK, fontsize=9)
    write_legend(figure, [axis], columns=3)
    points = [
        (m["name"], m["cost"]["predict_ms"], m["metrics"]["balanced_accuracy"]["value"])
        for m in shown
    ]
    with any_glyph():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        write_names(axis, [(plain(name), x, y) for name, x, y in points], _boxes(axis, shown))
    listed = "; ".join(f"{name} {cost:.3g} ms, {value:.3f}" for name, cost, value in points)
    return to_svg(figure, f"Balanced accuracy of each model against its time: {listed}.")
