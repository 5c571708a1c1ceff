"""The picture of the first page: every patient as a dot, by what the model thought of the truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.evaluate import Predictions
from hepar.report.figures import COLOURS, FAINT, INK, new_figure, plain, to_svg, write_legend

__all__ = ["MOST_DOTS", "draw_answers", "take_dots"]

MOST_DOTS = 300
"""Of more patients, some are drawn; the page stays small whatever the cohort."""

_COLUMNS = 40
"""Stacks of dots from probability 0 to 1."""

_DOT, _LOWEST, _HIGHEST = 5.2, 0.42, 1.15
"""Diameter of a dot in points; least and greatest height of a row in inches."""


def take_dots(predictions: Predictions, most: int = MOST_DOTS) -> NDArray[np.int64]:
    """Return the rows to draw: all, or evenly some of each label's right and wrong ones.

    Args:
        predictions: n rows with a reference.
        most: how many to draw, about; a group that has any keeps one.

    Returns:
        Rows, sorted by reference, right before wrong, then probability of the reference.
    """
    reference, right = predictions.reference_index, predictions.predicted == predictions.reference
    order = np.lexsort((_of_reference(predictions), ~right, reference))
    step = max(1, math.ceil(len(order) / most))
    groups = np.split(order, np.flatnonzero(np.diff(2 * reference[order] + ~right[order])) + 1)
    return np.concatenate([own[(min(step, len(own)) - 1) // 2 :: step] for own in groups])


def _of_reference(predictions: Predictions) -> NDArray[np.float64]:
    rows = np.arange(len(predictions))
    return np.asarray(predictions.probabilities[rows, predictions.reference_index], np.float64)


def draw_answers(predictions: Predictions, unit: str) -> str:
    """Draw a row of dots for each reference label, by the probability that the label was given.

    Dots are filled where the answer was right and open where it was wrong, and stacked where they
    are many.

    Args:
        predictions: rows with a reference, at least one.
        unit: what a row is, in the singular.

    Returns:
        SVG.
    """
    rows = take_dots(predictions)
    reference = predictions.reference_index
    right = predictions.predicted == predictions.reference
    column = np.minimum((_of_reference(predictions)[rows] * _COLUMNS).astype(int), _COLUMNS - 1)
    level = _levels(reference[rows] * _COLUMNS + column)
    shown = [i for i in range(len(predictions.labels)) if (reference == i).any()]
    height = float(np.clip((level.max() + 2) * _DOT / 72, _LOWEST, _HIGHEST))
    step = min(_DOT / 72 / height, (1 - 2 * _DOT / 72 / height) / max(1, level.max()))
    place = {label: len(shown) - 1 - at for at, label in enumerate(shown)}
    y = np.array([place[i] for i in reference[rows]]) + level * step + _DOT / 72 / height
    figure, (axis,) = new_figure(4.1, height * len(shown) + 0.75)
    style: dict[str, Any] = {
        "linestyle": "none",
        "marker": "o",
        "markersize": _DOT - 1,
        "markeredgewidth": 1.2,
    }
    for name, own, colour in (
        ("right", right[rows], COLOURS[0]),
        ("wrong", ~right[rows], COLOURS[2]),
    ):
        face = colour if name == "right" else "none"
        x = (column[own] + 0.5) / _COLUMNS
        axis.plot(x, y[own], label=name, color=colour, markerfacecolor=face, clip_on=False, **style)
    told = []
    for label, at in place.items():
        own = reference == label
        axis.axhline(at, color=FAINT, linewidth=0.8)
        score = f"{int((own & right).sum())} of {int(own.sum())} right"
        told.append((plain(predictions.labels[label], 16), score, at))
    axis.set_yticks([at + 0.5 for *_, at in told], [f"{name}\n{score}" for name, score, _ in told])
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, len(shown))
    axis.set_xlabel("probability of the reference label", color=INK, fontsize=9)
    write_legend(figure, [axis], columns=2)
    listed = "; ".join(
        f"{predictions.labels[label]}: {score}"
        for label, (_, score, _) in zip(place, told, strict=True)
    )
    return to_svg(
        figure,
        f"Dots of {unit}s, one row for each reference label, by the probability of that "
        f"label; filled where the answer is right, open where it is wrong. {listed}.",
    )


def _levels(stack: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many earlier entries are of the same stack."""
    order = np.argsort(stack, kind="stable")
    own = stack[order]
    starts = np.flatnonzero(np.append(True, np.diff(own) != 0))
    level = np.empty(len(stack), np.int64)
    level[order] = np.arange(len(stack)) - np.repeat(starts, np.diff(np.append(starts, len(own))))
    return level
