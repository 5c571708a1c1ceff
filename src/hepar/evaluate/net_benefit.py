"""What acting on a model's probabilities is worth, against acting on everybody or on nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate.intervals import MIN_PATIENTS, resamples
from hepar.evaluate.predictions import Predictions
from hepar.words import counted

__all__ = ["DECISION_THRESHOLDS", "decision_curve"]

DECISION_THRESHOLDS = tuple(percent / 100 for percent in range(1, 100))
"""Probabilities at which somebody might act: 0.01 to 0.99."""


def decision_curve(
    predictions: Predictions, thresholds: Sequence[float], config: EvaluateConfig
) -> dict[str, Any]:
    """Return the net benefit of acting on the model and on everybody; on nobody it is 0.

    Net benefit is true positives less false positives, the latter weighted by the odds of the
    threshold, a row: what acting is worth to someone who would act at that probability. It takes
    the cohort's prevalence for granted.

    Args:
        predictions: rows of one partition; rows without a reference are left out.
        thresholds: probabilities of the most severe label, between 0 and 1, such as
            `DECISION_THRESHOLDS`.
        config: resamples of patients, coverage and seed of the band.

    Returns:
        {label, n, thresholds, model, low, high, all, no_interval}: net benefits at each threshold;
        `low` and `high` are None where `no_interval` says why.

    Raises:
        EvaluateError: there is no row with a reference, or a threshold not between 0 and 1.

    Source: Vickers and Elkin 2006, Med Decis Making 26:565.
    """
    table = predictions.select(predictions.reference != "")
    label = table.labels[-1]
    score, has = table.probabilities[:, -1], table.reference == label
    n, at = len(table), np.asarray(thresholds, np.float64)
    if not n or not len(at) or not ((at > 0) & (at < 1)).all():
        raise EvaluateError(
            f"decision curve: expected rows with a reference and thresholds between 0 and 1, got "
            f"{n} rows and thresholds {list(thresholds)[:3]}. Use DECISION_THRESHOLDS."
        )
    odds = at / (1 - at)
    flagged = score[:, np.newaxis] >= at  # (n, thresholds)
    worth = np.where(has[:, np.newaxis], 1.0, -odds) * flagged
    everybody = has.mean() - (1 - has.mean()) * odds
    patients, owner = np.unique(table.patient_id, return_inverse=True)
    why = _why_no_interval(table, owner, has)
    low = high = None
    if not why:
        sums = np.zeros((len(patients), len(at)))
        np.add.at(sums, owner, worth)
        rows = np.bincount(owner).astype(np.float64)
        drawn = [(d @ sums) / (d @ rows)[:, np.newaxis] for d in resamples(len(patients), config)]
        tails = [(1 - config.level) / 2, (1 + config.level) / 2]
        low, high = np.quantile(np.concatenate(drawn), tails, axis=0).tolist()
    return {
        "label": label,
        "n": n,
        "thresholds": at.tolist(),
        "model": worth.mean(axis=0).tolist(),
        "low": low,
        "high": high,
        "all": everybody.tolist(),
        "no_interval": why,
    }


def _why_no_interval(table: Predictions, owner: NDArray[np.int64], has: NDArray[np.bool_]) -> str:
    """Say why there is no band, "" where there is one."""
    if table.unit == "image":
        return "patients are unknown, and images of one are alike"
    fewest = min(len(np.unique(owner[rows])) for rows in (has, ~has))
    if fewest >= MIN_PATIENTS:
        return ""
    return (
        f"rests on {counted(fewest, table.unit)} with or without {table.labels[-1]!r}, and an "
        f"interval needs {MIN_PATIENTS}"
    )
