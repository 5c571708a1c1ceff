"""The mean of a measurement over patients, each patient counting once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hepar.config import EvaluateConfig
from hepar.evaluate.intervals import MIN_PATIENTS, Estimate, resamples
from hepar.words import counted

__all__ = ["patient_mean"]


def patient_mean(
    values: NDArray[np.float64], patients: Sequence[str], config: EvaluateConfig
) -> Estimate:
    """Return the mean over patients of each patient's mean, with a bootstrap interval.

    Args:
        values: (n,), n above 0, of slices.
        patients: (n,) whose they are.
        config: resamples, level and seed.

    Example:
        >>> patient_mean(np.array([0.0, 1.0, 1.0]), ["a", "b", "b"], EvaluateConfig()).value
        0.5
    """
    names, place = np.unique(np.asarray(patients), return_inverse=True)
    means = np.bincount(place, values) / np.bincount(place)
    value, n = float(means.mean()), len(names)
    if n < MIN_PATIENTS:
        why = f"rests on {counted(n, 'patient')}, and an interval here needs {MIN_PATIENTS}"
        return Estimate(value, None, None, "none", n, len(values), why)
    drawn = np.concatenate([counts @ means / n for counts in resamples(n, config)])
    tail = (1 - config.level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), "bootstrap", n, len(values))
