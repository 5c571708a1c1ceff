"""One number that makes probabilities as sure as they should be, without changing who wins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hepar.errors import EvaluateError

__all__ = ["apply_temperature", "fit_temperature"]

Floats = NDArray[np.float64]
_LEAST = 1e-12
_RANGE = (0.05, 20.0)


def apply_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Return probabilities (n, k) made less sure (temperature above 1) or surer (below 1).

    The order of the labels stays, and 1 changes nothing, but for probabilities below 1e-12, which
    are taken for that.

    Example:
        >>> apply_temperature(np.array([[0.2, 0.8]]), 2.0).round(3).tolist()
        [[0.333, 0.667]]
    """
    logits = _logits(probabilities) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _logits(probabilities: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(probabilities, _LEAST)))


def fit_temperature(probabilities: Floats, codes: NDArray[np.int64], weights: Floats) -> float:
    """Return the temperature of least weighted log loss, between 0.05 and 20.

    The loss is convex in 1 / temperature, so there is one least value: a low temperature where
    every answer is right, the upper end where every answer is wrong.

    Args:
        probabilities: (n, k) of rows that were not learned from, n above 0.
        codes: (n,) label codes, 0 to k - 1.
        weights: (n,) of each row, 0 or more.

    Raises:
        EvaluateError: there is no row, or a code is not of a label.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    from scipy.optimize import minimize_scalar

    n, k = probabilities.shape
    if not n or codes.min() < 0 or codes.max() >= k:
        got = f"{codes.min()} to {codes.max()}" if n else "no row"
        raise EvaluateError(
            f"temperature: expected label codes from 0 to {k - 1}, got {got}. "
            "Leave out unlabelled rows."
        )
    logits, rows = _logits(probabilities), np.arange(n)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        scaled -= scaled.max(axis=1, keepdims=True)
        return float(weights @ (np.log(np.exp(scaled).sum(axis=1)) - scaled[rows, codes]))

    low, high = np.log(_RANGE)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded")
    return float(np.exp(found.x))
