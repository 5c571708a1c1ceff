"""Logistic regression of a label on its own log odds, for thousands of weightings at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["calibration_intercept", "calibration_slope"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]
_STEP = 1.5
_NEAR = 1e-6
_MOST = 200
_BLOCK = 200_000
"""Numbers held at once: few enough for a processor to keep at hand."""


def calibration_slope(
    log_odds: Floats, hit: Bools, owner: Integers, weights: Sequence[Floats]
) -> Floats:
    """Return the slope of a logistic regression of the label on its log odds, for each weighting.

    Where no row without the label lies above one with it, or none below, the best slope is
    infinite, and so it is given. It is NaN where a label is missing.

    Args:
        log_odds: (n,) finite, not all the same.
        hit: (n,) whether a row has the label.
        owner: (n,) patient of each row.
        weights: (b, patients) each, 0 or more; the first of all is where the others start from.

    Returns:
        One number a weighting of all `weights`, in their order.

    Source: Cox 1958, Biometrika 45:562.
    """
    middle, spread = float(log_odds.mean()), float(log_odds.std())
    design = np.stack([np.ones_like(log_odds), (log_odds - middle) / spread], axis=1)

    def slopes(rows: Floats, start: Floats) -> Floats:
        found = np.stack([np.tile(start[0], len(rows)), _infinite(log_odds, hit, rows)], axis=1)
        ends = found[:, 1] == 0
        found[ends] = _newton(design, np.zeros_like(log_odds), hit, rows[ends], start)
        return found

    return _each(slopes, owner, weights, np.array([middle, spread]))[:, 1] / spread


def calibration_intercept(
    log_odds: Floats, hit: Bools, owner: Integers, weights: Sequence[Floats]
) -> Floats:
    """Return the shift that makes log odds right on average, their slope left at 1.

    It is NaN where a label is missing. Arguments and result are those of `calibration_slope`.

    Source: Van Calster et al. 2016, J Clin Epidemiol 74:167.
    """
    design = np.ones((len(hit), 1))

    def shifts(rows: Floats, start: Floats) -> Floats:
        found = np.full((len(rows), 1), np.nan)
        both = (rows[:, hit] > 0).any(axis=1) & (rows[:, ~hit] > 0).any(axis=1)
        found[both] = _newton(design, log_odds, hit, rows[both], start)
        return found

    return _each(shifts, owner, weights, np.zeros(1))[:, 0]


def _each(
    fit: Callable[[Floats, Floats], Floats],
    owner: Integers,
    weights: Sequence[Floats],
    start: Floats,
) -> Floats:
    """Return a fit of every weighting, a few at a time, begun where the first one ends."""
    step = max(1, _BLOCK // len(owner))
    first = fit(weights[0][:1, owner], start)
    begin = first[0] if np.isfinite(first).all() else start
    blocks = (w[i : i + step] for w in weights for i in range(0, len(w), step))
    return np.concatenate([fit(block[:, owner], begin) for block in blocks])


def _infinite(log_odds: Floats, hit: Bools, weights: Floats) -> Floats:
    """Return the slope of each weighting where it is infinite, NaN without one, and else 0."""

    def ends(rows: Bools) -> tuple[Floats, Floats]:
        counts, values = weights[:, rows] > 0, log_odds[rows]
        lowest = np.where(counts, values, np.inf).min(axis=1, initial=np.inf)
        return lowest, np.where(counts, values, -np.inf).max(axis=1, initial=-np.inf)

    (low, high), (low_without, high_without) = ends(hit), ends(~hit)
    slope = np.where(high <= low_without, -np.inf, 0.0)
    slope[high_without <= low] = np.inf
    slope[np.isinf(low) | np.isinf(low_without)] = np.nan
    return slope


def _newton(design: Floats, offset: Floats, hit: Bools, weights: Floats, start: Floats) -> Floats:
    """Return the coefficients (b, m) of least weighted log loss; infinite where none is found.

    A step never moves a row by more than 1.5 log odds, so far that the loss is sure to fall: its
    third derivative is at most its second.
    """
    b, m = len(weights), design.shape[1]
    found = np.tile(start, (b, 1)).astype(np.float64)
    squares = (design[:, :, np.newaxis] * design[:, np.newaxis, :]).reshape(len(hit), m * m)
    reach = np.abs(design).max(axis=0)
    left = np.arange(b)
    for _ in range(_MOST):
        if not len(left):
            return found
        own = weights[left]
        given = 1 / (1 + np.exp(-(found[left] @ design.T + offset)))
        slope = (own * (hit - given)) @ design
        curve = ((own * given * (1 - given)) @ squares).reshape(-1, m, m)
        # Enough to divide by where a curve is flat; where the slope is 0 stays where it is.
        curve += 1e-12 * np.trace(curve, axis1=1, axis2=2)[:, np.newaxis, np.newaxis] * np.eye(m)
        step = np.linalg.solve(curve, slope[:, :, np.newaxis])[:, :, 0]
        moves = np.abs(step) @ reach
        found[left] += step * np.minimum(1.0, _STEP / np.maximum(moves, _STEP))[:, np.newaxis]
        left = left[moves > _NEAR]
    found[left] = np.copysign(np.inf, found[left])
    return found
