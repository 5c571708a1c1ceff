"""ROC and precision-recall curves, with a band of what other patients would have given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate.intervals import MIN_PATIENTS, resamples
from hepar.evaluate.predictions import Predictions

__all__ = ["Curves", "measure_curves", "precision_recall_curve", "roc_curve"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_GRID = np.linspace(0, 1, 101)


@dataclass(frozen=True, eq=False)
class Curves:
    """How one label is told from the rest, at every threshold.

    Attributes:
        roc: 1 - specificity and sensitivity, from (0, 0) to (1, 1).
        precision_recall: sensitivity and precision, from the highest threshold to the lowest.
        average_precision: precision, averaged over the steps of sensitivity.
        prevalence: share of rows with the label: the precision of a coin.
        grid: (101,) where the bands stand: 1 - specificity, or sensitivity; empty without a band.
        roc_band: (2, 101) lower and upper end of sensitivity.
        precision_band: (2, 101) of precision.
        average_precision_interval: its ends, or None.
    """

    roc: tuple[Floats, Floats]
    precision_recall: tuple[Floats, Floats]
    average_precision: float
    prevalence: float
    grid: Floats
    roc_band: Floats
    precision_band: Floats
    average_precision_interval: tuple[float, float] | None


def measure_curves(predictions: Predictions, label: int, config: EvaluateConfig) -> Curves | None:
    """Return the curves of one label against the rest, or None where all rows or none have it.

    Bands are percentiles, at each place for itself, over resamples of patients. They are left out
    with fewer than ten patients with the label or without it, and where both are told apart without
    an error: every resample is then the same, which says nothing about other patients.

    Args:
        predictions: rows with a reference.
        label: its place.
        config: resamples, coverage and seed.
    """
    score, positive = predictions.probabilities[:, label], predictions.reference_index == label
    if positive.all() or not positive.any():
        return None
    roc, precision_recall = roc_curve(score, positive), precision_recall_curve(score, positive)
    average = float(np.sum(np.diff(precision_recall[0], prepend=0) * precision_recall[1]))
    own = {str(patient) for patient in predictions.patient_id[positive]}
    other = {str(patient) for patient in predictions.patient_id[~positive]}
    nothing = np.empty((2, 0))
    grid, bands, interval = np.empty(0), (nothing, nothing), None
    enough = min(len(own), len(other)) >= MIN_PATIENTS and predictions.unit != "image"
    if enough and average < 1:
        drawn = _resampled(predictions, score, positive, config)
        ends = [(1 - config.level) / 2, (1 + config.level) / 2]
        grid = _GRID
        bands = (np.nanquantile(drawn[0], ends, axis=0), np.nanquantile(drawn[1], ends, axis=0))
        low, high = np.nanquantile(drawn[2], ends)
        interval = (float(low), float(high))
    prevalence = float(positive.mean())
    return Curves(roc, precision_recall, average, prevalence, grid, *bands, interval)


def _resampled(
    predictions: Predictions, score: Floats, positive: Bools, config: EvaluateConfig
) -> tuple[Floats, Floats, Floats]:
    """Return sensitivity and precision on the grid, and average precision, of each resample."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    names, place = np.unique(predictions.patient_id, return_inverse=True)
    sensitivities, precisions, averages = [], [], []
    for drawn in resamples(len(names), config):
        for weight in drawn:
            weighted = weight[place[order]]
            hits = np.cumsum(weighted * positive[order])[last]
            alarms = np.cumsum(weighted * ~positive[order])[last]
            if not hits[-1] or not alarms[-1]:
                continue
            sensitivity, alarmed = hits / hits[-1], alarms / alarms[-1]
            sensitivities.append(np.interp(_GRID, np.append(0, alarmed), np.append(0, sensitivity)))
            said = np.maximum(hits + alarms, 1e-12)
            at = np.minimum(np.searchsorted(sensitivity, _GRID - 1e-12), len(hits) - 1)
            precisions.append((hits / said)[at])
            averages.append(np.sum(np.diff(sensitivity, prepend=0) * hits / said))
    return np.array(sensitivities), np.array(precisions), np.array(averages)


def _counted(name: str, score: Floats, positive: Bools) -> tuple[Floats, Floats]:
    """Return how many with and without the label stand at or above each score, falling."""
    if positive.all() or not positive.any():
        raise EvaluateError(
            f"{name} curve: expected positives and negatives, got {int(positive.sum())} positives "
            f"of {len(positive)}. Leave the curve out."
        )
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    hits = np.cumsum(positive[order])[last_of_tie]
    return hits.astype(np.float64), np.cumsum(~positive[order])[last_of_tie].astype(np.float64)


def roc_curve(score: Floats, positive: Bools) -> tuple[Floats, Floats]:
    """Return 1 - specificity and sensitivity at every threshold, from (0, 0) to (1, 1).

    Args:
        score: (n,) higher means positive.
        positive: (n,) with at least one True and one False.

    Raises:
        EvaluateError: all are positive or none is.
    """
    hits, alarms = _counted("ROC", score, positive)
    start = np.zeros(1)
    return np.append(start, alarms / alarms[-1]), np.append(start, hits / hits[-1])


def precision_recall_curve(score: Floats, positive: Bools) -> tuple[Floats, Floats]:
    """Return sensitivity and precision at every threshold, from the highest to the lowest.

    Between its points precision does not move in a straight line: draw steps.

    Args:
        score: (n,) higher means positive.
        positive: (n,) with at least one True and one False.

    Raises:
        EvaluateError: all are positive or none is.

    Source:
        Davis and Goadrich, ICML 2006.
    """
    hits, alarms = _counted("precision-recall", score, positive)
    return hits / hits[-1], hits / (hits + alarms)
