"""Figures as SVG that takes its ink from the page: one drawing for light, dark and print."""

from __future__ import annotations

import contextlib
import io
import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hepar.evaluate import Curves, Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "DASHES",
    "FAINT",
    "INK",
    "any_glyph",
    "draw_histograms",
    "draw_precision_recall",
    "draw_roc",
    "new_figure",
    "plain",
    "to_svg",
    "write_legend",
]

COLOURS = ("#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")
"""Okabe and Ito's palette, told apart by colour-blind readers; one colour a label, in order."""

DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), "-.", (0, (8, 2)), ":")
INK, FAINT = "#010203", "#040506"
"""What is drawn in these follows the theme of the page."""

_THEME = {INK: "var(--ink)", FAINT: "var(--rule)"}


_BAND = 0.13
"""Opacity of a band: three of them over each other still show their curves."""

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_PART_ID = re.compile(r' id="[A-Za-z0-9.]+_\d+"')


def new_figure(
    width: float, height: float, columns: int = 1, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure and its panels, row by row.

    Args:
        width: inches; a page holds 10.
        height: inches.
        columns: panels beside each other.
        rows: panels above each other.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel().tolist()
    for axis in axes:
        axis.set_facecolor("none")
        for side, spine in axis.spines.items():
            spine.set_visible(side in {"left", "bottom"})
            spine.set_color(FAINT)
        axis.tick_params(which="both", colors=INK, labelsize=9, color=FAINT)
    return figure, axes


def write_legend(figure: Figure, axes: Sequence[Axes], columns: int) -> None:
    """Write one legend above all panels, each name once, in as many columns as have room."""
    entries: dict[str, Any] = {}
    for axis in axes:
        handles, names = axis.get_legend_handles_labels()
        entries |= dict(zip(names, handles, strict=True))
    width = 34 + 4.6 * max(map(len, entries), default=0)
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside upper left",
        ncols=max(1, min(columns, int(72 * figure.get_figwidth() / width))),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
    )


def plain(text: str, longest: int = 32) -> str:
    """Return a name as matplotlib is to draw it: cut where long, no formula, no hidden entry.

    Marks that turn the direction of writing are left out, and a name that is written from the right
    ends with one that turns back, so that no name can turn the numbers beside it around.
    """
    shown = _UNSEEN.sub("", text)
    if len(shown) > longest:
        shown = f"{shown[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"
    if any(unicodedata.bidirectional(letter) in {"R", "AL"} for letter in shown):
        shown += "\N{LEFT-TO-RIGHT MARK}"
    shown = shown.replace("$", r"\$")
    return f"\u200b{shown}" if shown.startswith("_") else shown


@contextlib.contextmanager
def any_glyph() -> Iterator[None]:
    """Let a figure hold glyphs that matplotlib's font lacks: the page uses the reader's fonts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def to_svg(figure: Figure, description: str) -> str:
    """Return a figure as inline SVG with a description for those who do not see it."""
    import matplotlib

    stream = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": description}
    with matplotlib.rc_context(settings), any_glyph():
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = _PART_ID.sub("", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--font)", text)
    text = re.sub(r' (xmlns(:xlink)?|version)="[^"]*"', "", text, count=3)
    text = text.replace("xlink:href", "href")
    for drawn, themed in _THEME.items():
        text = text.replace(drawn, themed)
    label = f'<svg role="img" aria-label="{escape(description)}"'
    return text.replace("<svg", label, 1)


def draw_roc(labels: Sequence[str], curves: Sequence[Curves | None], legend: Sequence[str]) -> str:
    """Draw a ROC curve of each label against the rest, with its band.

    Args:
        labels: k names.
        curves: of each label; None for one that all rows or none have.
        legend: for each label what is said of its area.

    Returns:
        SVG.
    """
    figure, (axis,) = new_figure(4.6, 4.2)
    axis.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    for i, curve, style in _shown(labels, curves):
        if len(curve.grid):
            axis.fill_between(curve.grid, *curve.roc_band, color=style["color"], alpha=_BAND)
        axis.plot(*curve.roc, label=f"{plain(labels[i], 18)}  {legend[i]}", **style)
    axis.set_xlabel("1 - specificity", color=INK, fontsize=9)
    axis.set_ylabel("sensitivity", color=INK, fontsize=9)
    _square(axis, "lower right")
    listed = "; ".join(f"{labels[i]}: {legend[i]}" for i, _, _ in _shown(labels, curves))
    return to_svg(figure, f"ROC curve of each label against the rest. Area under it: {listed}.")


def draw_precision_recall(labels: Sequence[str], curves: Sequence[Curves | None]) -> str:
    """Draw precision against sensitivity of each label, with its band and a coin's precision.

    Args:
        labels: k names.
        curves: of each label; None for one that all rows or none have.

    Returns:
        SVG.
    """
    figure, (axis,) = new_figure(4.6, 4.2)
    listed = []
    for i, curve, style in _shown(labels, curves):
        if len(curve.grid):
            band = {"color": style["color"], "alpha": _BAND, "step": "pre"}
            axis.fill_between(curve.grid, *curve.precision_band, **band)
        axis.axhline(curve.prevalence, color=style["color"], linewidth=0.8, alpha=0.6)
        text = f"{curve.average_precision:.2f}"
        if curve.average_precision_interval:
            text += " ({:.2f} to {:.2f})".format(*curve.average_precision_interval)
        listed.append(f"{labels[i]}: {text}, a coin {curve.prevalence:.2f}")
        recall, precision = curve.precision_recall
        x, y = np.append(0, recall), np.append(precision[0], precision)
        axis.step(x, y, where="pre", label=f"{plain(labels[i], 18)}  {text}", **style)
    axis.set_xlabel("sensitivity", color=INK, fontsize=9)
    axis.set_ylabel("precision", color=INK, fontsize=9)
    _square(axis, "lower left")
    return to_svg(
        figure,
        f"Precision against sensitivity of each label. Average precision: {'; '.join(listed)}.",
    )


def _shown(
    labels: Sequence[str], curves: Sequence[Curves | None]
) -> Iterator[tuple[int, Curves, dict[str, Any]]]:
    """Yield the labels that have a curve, with its style; of two, the more severe alone."""
    for i, curve in enumerate(curves):
        if curve is not None and (len(labels) > 2 or i == len(labels) - 1):
            style = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)]}
            yield i, curve, {**style, "linewidth": 1.8}


def _square(axis: Axes, legend: Literal["lower left", "lower right"]) -> None:
    axis.set_xlim(-0.01, 1.01)
    axis.set_ylim(-0.01, 1.01)
    axis.set_aspect("equal")
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc=legend, frameon=False, fontsize=8.5, labelcolor=INK)


def draw_histograms(predictions: Predictions) -> str:
    """Draw, for each label, how its probability spreads by reference.

    Args:
        predictions: rows with a reference.

    Returns:
        SVG with a panel a label.
    """
    from matplotlib.ticker import MaxNLocator

    k = len(predictions.labels)
    panels = range(k) if k > 2 else range(k - 1, k)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(2.9 * columns + 0.6, 2.4 * rows + 0.3, columns, rows)
    edges = np.linspace(0, 1, 21)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis, i in zip(axes, panels, strict=False):
        for j, label in enumerate(predictions.labels):
            own = predictions.probabilities[predictions.reference_index == j, i]
            if len(own):
                axis.stairs(
                    np.histogram(own, edges)[0],
                    edges,
                    color=COLOURS[j % len(COLOURS)],
                    linestyle=DASHES[j % len(DASHES)],
                    linewidth=1.6,
                    label=f"reference {plain(label)}",
                )
        axis.set_xlim(0, 1)
        axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.set_xlabel(f"probability of {plain(predictions.labels[i], 24)}", color=INK, fontsize=9)
    for axis in axes[::columns]:
        axis.set_ylabel("number", color=INK, fontsize=9)
    write_legend(figure, axes, columns=k)
    place = "held out for testing" if (predictions.partition == "test").all() else "left out"
    whom = f"{len(predictions)} {'patients' if predictions.level == 'patient' else 'slices'}"
    return to_svg(
        figure,
        f"Histograms of each label's probability, one line for each reference: {whom} {place}.",
    )
