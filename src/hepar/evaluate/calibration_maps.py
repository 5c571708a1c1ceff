"""The maps that make probabilities as sure as they should be: how each is applied and learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.errors import EvaluateError

__all__ = [
    "PULL",
    "apply_isotonic",
    "apply_temperature",
    "apply_vector",
    "fit_isotonic",
    "fit_temperature",
    "fit_vector",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
_LEAST = 1e-12
_RANGE = (0.05, 20.0)

PULL = 3.0
"""How strongly temperature and vector scaling are held near changing nothing, in patients.

It is the precision of a normal prior: PULL / 2 times the squared distance from changing nothing is
added to the summed log loss. Without it labels that a small cohort tells apart without an error
drive the temperature to its lower end, and the first wrong answer costs dearly. Simulated with
labels that overlap little (97 % right, three labels, already calibrated, 25 cohorts): a temperature
from 10 patients a label raises the log loss of new patients from 0.086 to 0.45 on average without
the pull, and to 0.090 with it. Where labels overlap (75 % right) and scores are twice too sure it
costs nearly nothing: the log loss falls by 0.114 in place of 0.117.
"""


def _softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _logits(probabilities: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(probabilities, _LEAST)))


# Temperature: one number; who wins stays.


def apply_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Return probabilities (n, k) made less sure (temperature above 1) or surer (below 1).

    The order of the labels stays, and 1 changes nothing, but for probabilities below 1e-12, which
    are taken for that.

    Example:
        >>> apply_temperature(np.array([[0.2, 0.8]]), 2.0).round(3).tolist()
        [[0.333, 0.667]]
    """
    return _softmax(_logits(probabilities) / temperature)


def fit_temperature(
    probabilities: Floats, codes: Codes, weights: Floats, pull: float = 0.0
) -> float:
    """Return the temperature of least weighted log loss, between 0.05 and 20.

    The loss is convex in 1 / temperature, so there is one least value: a low temperature where
    every answer is right, the upper end where every answer is wrong, and 1 where none is better.

    Args:
        probabilities: (n, k) of rows that were not learned from, n above 0.
        codes: (n,) label codes, 0 to k - 1.
        weights: (n,) of each row, 0 or more.
        pull: weight of the squared distance of 1 / temperature from 1; see `PULL`.

    Raises:
        EvaluateError: there is no row, a code is not of a label, or a weight is not one.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    from scipy.optimize import brentq

    _check(probabilities, codes, weights)
    logits = _logits(probabilities)
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(codes)), codes]

    def slope(sureness: float) -> float:
        expected = (_softmax(logits * sureness) * logits).sum(axis=1)
        return float(weights @ (expected - own) + pull * (sureness - 1.0))

    low, high = 1 / _RANGE[1], 1 / _RANGE[0]
    if slope(1.0) == 0:
        return 1.0
    if slope(low) >= 0:
        return _RANGE[1]
    if slope(high) <= 0:
        return _RANGE[0]
    return 1 / float(brentq(slope, low, high, xtol=1e-12))


def _check(probabilities: Floats, codes: Codes, weights: Floats) -> None:
    """Refuse rows that nothing can be learned from."""
    n, k = probabilities.shape
    if not n or codes.min() < 0 or codes.max() >= k:
        got = f"{codes.min()} to {codes.max()}" if n else "no row"
        raise EvaluateError(
            f"temperature: expected label codes from 0 to {k - 1}, got {got}. "
            "Leave out unlabelled rows."
        )
    if weights.shape != (n,) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise EvaluateError(
            f"calibration: expected {n} weights of 0 or more, not all 0, got "
            f"{weights.tolist()[:5]}. Weigh each row by 1 / (rows of its patient)."
        )


# Vector scaling: a slope and a shift a label.


def apply_vector(probabilities: Floats, scale: Floats, bias: Floats) -> Floats:
    """Return probabilities whose logarithms were scaled and shifted, label by label (k,)."""
    return _softmax(_logits(probabilities) * scale + bias)


def fit_vector(probabilities: Floats, codes: Codes, weights: Floats) -> dict[str, Any]:
    """Return a slope ("scale") and a shift ("bias") of each label, by weighted log loss.

    Slopes are held between 0.05 and 20, so that no score is ever turned round. Slopes and shifts
    are pulled towards changing nothing (`PULL`), so that they stay finite where labels are told
    apart without an error. The loss is convex, so there is one least value.

    Args:
        probabilities: (n, k).
        codes: (n,) label codes.
        weights: (n,) summing to the number of patients.

    Raises:
        EvaluateError: as `fit_temperature`.
    """
    from scipy.optimize import minimize

    _check(probabilities, codes, weights)
    logits, (n, k) = _logits(probabilities), probabilities.shape
    hit = np.zeros((n, k))
    hit[np.arange(n), codes] = 1.0
    nothing = np.append(np.ones(k), np.zeros(k))

    def loss(theta: Floats) -> tuple[float, Floats]:
        given = logits * theta[:k] + theta[k:]
        given -= given.max(axis=1, keepdims=True)
        total = np.log(np.exp(given).sum(axis=1, keepdims=True))
        value = weights @ (total[:, 0] - given[np.arange(n), codes])
        error = (np.exp(given - total) - hit) * weights[:, np.newaxis]
        moved = theta - nothing
        slope = np.append((error * logits).sum(axis=0), error.sum(axis=0)) + PULL * moved
        return float(value + PULL / 2 * moved @ moved), slope

    bounds = [_RANGE] * k + [(None, None)] * k
    exact = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1000}
    found = minimize(loss, nothing, jac=True, method="L-BFGS-B", bounds=bounds, options=exact).x
    return {"scale": found[:k].tolist(), "bias": found[k:].tolist()}


# Isotonic regression: any rising map a label, one against the rest.


def apply_isotonic(probabilities: Floats, x: list[list[float]], y: list[list[float]]) -> Floats:
    """Return each label's probability through its steps (x, y), rows divided by their sum.

    Between steps the map is a straight line, beyond them it stays level. No y is 0, so there is
    always something to divide by. Equal steps make equal probabilities, and `decide` gives those
    to the more severe label.
    """
    columns = [np.interp(*three) for three in zip(probabilities.T, x, y, strict=True)]
    raised = np.stack(columns, axis=1)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def fit_isotonic(probabilities: Floats, codes: Codes, weights: Floats) -> dict[str, Any]:
    """Return the steps "x" and "y" of a rising map for each label.

    With patients of weight W in all, y is kept between 0.5 / (W + 1) and 1 less that, half a
    patient away from 0 and 1, so no probability is exactly either.

    Args:
        probabilities: (n, k).
        codes: (n,) label codes.
        weights: (n,) summing to the number of patients.

    Raises:
        EvaluateError: as `fit_temperature`.

    Source: Zadrozny and Elkan 2002, Transforming Classifier Scores into Accurate Multiclass
    Probability Estimates.
    """
    from sklearn.isotonic import IsotonicRegression

    _check(probabilities, codes, weights)
    least = 0.5 / (float(weights.sum()) + 1)
    seen = weights > 0
    steps: Mapping[str, list[list[float]]] = {"x": [], "y": []}
    for label, column in enumerate(probabilities[seen].T):
        rising = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
        hit = (codes[seen] == label).astype(np.float64)
        rising.fit(column, hit, sample_weight=weights[seen])
        steps["x"].append(rising.X_thresholds_.tolist())
        steps["y"].append(rising.y_thresholds_.tolist())
    return dict(steps)
