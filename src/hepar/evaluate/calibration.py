"""One number that makes probabilities as sure as they should be, without changing who wins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["apply_temperature", "fit_temperature"]

Floats = NDArray[np.float64]
_LEAST = 1e-12
_RANGE = (0.05, 20.0)


def apply_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Return probabilities (n, k) made less sure (temperature above 1) or surer (below 1).

    Example:
        >>> apply_temperature(np.array([[0.2, 0.8]]), 2.0).round(3).tolist()
        [[0.333, 0.667]]
    """
    logits = np.log(np.maximum(probabilities, _LEAST)) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def fit_temperature(probabilities: Floats, codes: NDArray[np.int64], weights: Floats) -> float:
    """Return the temperature of least weighted log loss, between 0.05 and 20.

    Args:
        probabilities: (n, k) of rows that were not learned from.
        codes: (n,) label codes.
        weights: (n,) of each row.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(codes))

    def loss(log_temperature: float) -> float:
        calibrated = apply_temperature(probabilities, float(np.exp(log_temperature)))
        return float(-(weights @ np.log(np.maximum(calibrated[rows, codes], _LEAST))))

    low, high = np.log(_RANGE)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded")
    return float(np.exp(found.x))
