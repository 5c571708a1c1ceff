"""What leaving out the least sure answers buys."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import EvaluateConfig
from hepar.evaluate.intervals import MIN_PATIENTS, Undefined, resamples
from hepar.evaluate.predictions import Predictions

__all__ = ["risk_coverage"]

Floats = NDArray[np.float64]


def risk_coverage(predictions: Predictions, config: EvaluateConfig) -> dict[str, Any] | Undefined:
    """Return the share of wrong answers when only the surest patients are answered.

    Patients are ordered by their highest probability. Patients who are equally sure are answered
    together, so neither their order nor chance matters.

    Args:
        predictions: rows of one level and partition; those without a reference are left out.
        config: resamples of patients, coverage and seed of the band.

    Returns:
        {n, answered, risk, low, high, area}: `answered` is the share of patients answered, rising
        to 1; `risk` the share of them answered wrongly; `low` and `high` a pointwise band, None
        below 10 patients; `area` under the curve, the less the better. Undefined where all
        patients are equally sure.

    Source: Geifman and El-Yaniv 2017, Selective Classification for Deep Neural Networks.
    """
    table = predictions.select(predictions.reference != "")
    sure = table.probabilities.max(axis=1) if len(table) else np.zeros(0)
    levels, place = np.unique(-sure, return_inverse=True)
    if len(levels) < 2:
        return Undefined(f"all {len(table)} {table.unit}s are equally sure")
    wrong = (table.predicted != table.reference).astype(np.float64)
    n, k = len(table), len(levels)
    counts = np.bincount(place, minlength=k)
    answered = counts.cumsum() / n
    risk = np.bincount(place, wrong, k).cumsum() / counts.cumsum()
    low = high = None
    if n >= MIN_PATIENTS:
        order = np.argsort(place, kind="stable")
        starts = np.searchsorted(place[order], np.arange(k))
        drawn = [_risks(draw[:, order], wrong[order], starts) for draw in resamples(n, config)]
        low, high = _band(np.concatenate(drawn), (1 - config.level) / 2)
    return {
        "n": n,
        "answered": answered.tolist(),
        "risk": risk.tolist(),
        "low": low,
        "high": high,
        "area": float((risk * counts).sum() / n),
    }


def _risks(drawn: Floats, wrong: Floats, starts: NDArray[np.int64]) -> Floats:
    """Return the risk at each level of sureness in each resample, NaN where nobody is answered."""
    totals = np.add.reduceat(drawn, starts, axis=1).cumsum(axis=1)
    errors = np.add.reduceat(drawn * wrong, starts, axis=1).cumsum(axis=1)
    return np.where(totals > 0, errors / np.maximum(totals, 1), np.nan)


def _band(risks: Floats, tail: float) -> tuple[list[float | None], list[float | None]]:
    """Return quantiles by column, None where one resample in ten or more answers nobody."""
    seen = (~np.isnan(risks)).mean(axis=0) > 0.9
    risks = np.where(seen, risks, 0.0)
    ends = [np.nanquantile(risks, q, axis=0) for q in (tail, 1 - tail)]
    low, high = (
        [float(v) if is_seen else None for v, is_seen in zip(end, seen, strict=True)]
        for end in ends
    )
    return low, high
