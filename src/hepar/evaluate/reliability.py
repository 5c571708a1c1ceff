"""Whether probabilities mean what they say."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepar.config import EvaluateConfig
from hepar.evaluate.intervals import MIN_PATIENTS, Undefined, resamples, wilson
from hepar.evaluate.predictions import Predictions

__all__ = ["CALIBRATION_METRICS", "measure_calibration", "reliability_curve"]

Floats = NDArray[np.float64]
_CLIP = 1e-6
_BINS = 10
_FLOOR_DRAWS = 500

CALIBRATION_METRICS = {
    "brier": ("Brier score", "mean squared distance from the truth, summed over labels; 0 to 2"),
    "log_loss": ("log loss", "how surprised a reader would be; 0 is best"),
    "ece": (
        "calibration error",
        "expected calibration error: distance between how sure and how often right, in ten groups",
    ),
    "slope": (
        "calibration slope",
        "of the most severe label; 1 is right, below 1 the probabilities are too extreme",
    ),
    "intercept": (
        "calibration in the large",
        "log odds of the most severe label left over; 0 is right, above 0 it is said too seldom",
    ),
}
"""Name -> title, meaning."""


class _Table(NamedTuple):
    """Rows in a form that resamples of patients can weigh."""

    probabilities: Floats
    hit: Floats
    owner: NDArray[np.int64]
    n_patients: int


def _table(predictions: Predictions) -> _Table:
    patients, owner = np.unique(predictions.patient_id, return_inverse=True)
    hit = np.zeros(predictions.probabilities.shape)
    hit[np.arange(len(hit)), predictions.reference_index] = 1.0
    return _Table(predictions.probabilities, hit, owner, len(patients))


def _losses(table: _Table, drawn: Floats) -> dict[str, Floats]:
    """Return Brier score and log loss in each resample (r,) of patients (r, n_patients)."""
    n = np.bincount(table.owner, minlength=table.n_patients)
    square = ((table.probabilities - table.hit) ** 2).sum(axis=1)
    given = np.maximum((table.probabilities * table.hit).sum(axis=1), _CLIP)
    each = {"brier": square, "log_loss": -np.log(given)}
    rows = drawn @ n
    return {
        name: drawn @ np.bincount(table.owner, values, table.n_patients) / rows
        for name, values in each.items()
    }


def _groups(score: Floats, bins: int) -> NDArray[np.int64]:
    """Return the group of each row: as many rows in each as ties allow, in the order of score."""
    edges = np.quantile(score, np.linspace(0, 1, bins + 1)[1:-1])
    return np.unique(np.searchsorted(edges, score, side="right"), return_inverse=True)[1]


def _gaps(table: _Table, score: Floats, hit: Floats, drawn: Floats) -> Floats:
    """Return the expected calibration error of one score in each resample."""
    group = _groups(score, _BINS)
    k = int(group.max()) + 1
    sums = np.zeros((table.n_patients, k))
    np.add.at(sums, (table.owner, group), hit - score)
    counts = np.bincount(table.owner, minlength=table.n_patients)
    return np.asarray(np.abs(drawn @ sums).sum(axis=1) / (drawn @ counts))


def _top(table: _Table) -> tuple[Floats, Floats]:
    """Return how sure the answer of each row is, and whether it is right."""
    best = table.probabilities.argmax(axis=1)
    rows = np.arange(len(best))
    return table.probabilities[rows, best], table.hit[rows, best]


def _logistic(z: Floats, hit: Floats, weights: Floats, *, slope: bool) -> tuple[float, float]:
    """Return intercept and slope of hit on log odds z by Newton's method; NaN where none exists."""
    a, b = 0.0, 1.0
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(a + b * z, -40, 40)))
        error, spread = weights * (hit - p), weights * p * (1 - p)
        if slope:
            matrix = np.array([[spread.sum(), spread @ z], [spread @ z, spread @ z**2]])
            if np.linalg.cond(matrix) > 1e10:
                return np.nan, np.nan
            step = np.linalg.solve(matrix, [error.sum(), error @ z])
        else:
            step = np.array([error.sum() / max(spread.sum(), 1e-12), 0.0])
        a, b = a + step[0], b + step[1]
        if np.abs(step).max() < 1e-9:
            return float(a), float(b)
        if max(abs(a), abs(b)) > 100:
            break
    return np.nan, np.nan


def _recalibration(table: _Table, drawn: Floats) -> dict[str, Floats]:
    """Return slope and intercept of the most severe label in each resample."""
    p = np.clip(table.probabilities[:, -1], _CLIP, 1 - _CLIP)
    z, hit = np.log(p / (1 - p)), table.hit[:, -1]
    slopes, intercepts = [], []
    for row in drawn:
        weights = row[table.owner]
        slopes.append(_logistic(z, hit, weights, slope=True)[1])
        intercepts.append(_logistic(z, hit, weights, slope=False)[0])
    return {"slope": np.array(slopes), "intercept": np.array(intercepts)}


def _why_undefined(predictions: Predictions, name: str) -> str:
    if name not in {"slope", "intercept"}:
        return ""
    label = predictions.labels[-1]
    has = predictions.reference == label
    if has.all() or not has.any():
        return f"all {predictions.level}s or none are {label!r}"
    if name == "slope" and np.ptp(predictions.probabilities[:, -1]) < 1e-9:
        return f"the probability of {label!r} is the same everywhere"
    return ""


def measure_calibration(predictions: Predictions, config: EvaluateConfig) -> list[dict[str, Any]]:
    """Return how well calibrated the predictions of one level and partition are.

    Intervals are percentiles over resamples of patients; slope and intercept use 200 of them,
    because each needs a fit. The expected calibration error is never 0 in a finite cohort, even of
    perfect probabilities: `floor` is its mean over references drawn from the probabilities
    themselves, each patient's rows drawn apart.

    Args:
        predictions: rows with a reference, of one partition and level.
        config: resamples, coverage and seed.

    Returns:
        Records {metric, label, value, undefined, low, high, floor, n_patients, n_samples}; label
        None is of all labels, and the calibration error is given for each label, too.

    Source: Naeini et al. 2015 (ECE); Van Calster et al. 2016, J Clin Epidemiol 74:167 (slope and
    calibration in the large).
    """
    table = _table(predictions)
    found: dict[tuple[str, str | None], tuple[Floats, float | None]] = {}
    one = np.ones((1, table.n_patients))
    draws = list(resamples(table.n_patients, config)) if _has_interval(predictions) else []
    few = draws[0][:200] if draws else np.zeros((0, table.n_patients))

    def over(measure: Any) -> Floats:
        return np.concatenate([measure(one), *(measure(draw) for draw in draws)])

    for name in ("brier", "log_loss"):
        found[name, None] = (over(lambda d, name=name: _losses(table, d)[name]), None)
    scores: list[tuple[str | None, Floats, Floats]] = [(None, *_top(table))]
    scores += [
        (label, table.probabilities[:, j], table.hit[:, j])
        for j, label in enumerate(predictions.labels)
    ]
    for label, score, hit in scores:
        gaps = over(lambda d, score=score, hit=hit: _gaps(table, score, hit, d))
        found["ece", label] = (gaps, _floor(score, config.seed))
    label = predictions.labels[-1]
    fitted = _recalibration(table, np.concatenate([one, few]))
    found |= {(name, label): (values, None) for name, values in fitted.items()}
    return [
        _record(predictions, key, values, floor, config) for key, (values, floor) in found.items()
    ]


def _has_interval(predictions: Predictions) -> bool:
    n = len(np.unique(predictions.patient_id))
    return n >= MIN_PATIENTS and predictions.unit != "image"


def _floor(score: Floats, seed: int) -> float:
    """Return the mean calibration error of probabilities that are right."""
    rng, group = np.random.default_rng(seed), _groups(score, _BINS)
    k = int(group.max()) + 1
    expected = np.bincount(group, score, k)
    draws = max(20, min(_FLOOR_DRAWS, 5_000_000 // len(score)))
    gaps = [
        np.abs(np.bincount(group, rng.random(len(score)) < score, k) - expected).sum()
        for _ in range(draws)
    ]
    return float(np.mean(gaps)) / len(score)


def _record(
    predictions: Predictions,
    key: tuple[str, str | None],
    values: Floats,
    floor: float | None,
    config: EvaluateConfig,
) -> dict[str, Any]:
    name, label = key
    reason = _why_undefined(predictions, name)
    if not reason and np.isnan(values[0]):
        reason = "the labels are told apart without an error: the fit has no end"
    drawn = values[1:][~np.isnan(values[1:])]
    tail = (1 - config.level) / 2
    low = high = None
    if not reason and len(drawn) > 0.9 * len(values[1:]) and len(drawn):
        low, high = (float(np.quantile(drawn, q)) for q in (tail, 1 - tail))
        low, high = min(low, float(values[0])), max(high, float(values[0]))
    return {
        "metric": name,
        "level": predictions.level,
        "label": label,
        "value": None if reason else float(values[0]),
        "undefined": reason or None,
        "low": low,
        "high": high,
        "floor": floor,
        "n_patients": len(np.unique(predictions.patient_id)),
        "n_samples": len(predictions),
    }


def reliability_curve(
    predictions: Predictions, label: str, bins: int = _BINS, level: float = 0.95
) -> dict[str, Any] | Undefined:
    """Return how often a label is right where it is given a probability, in groups of rows.

    Intervals are Wilson's with the number of patients of the group, because slices of one patient
    are alike.

    Args:
        predictions: rows with a reference, of one partition and level.
        label: whose probability it is.
        bins: at most; ties make fewer.
        level: of the intervals.

    Returns:
        {label, given, seen, low, high, n}, each a list by group; Undefined with fewer than two
        groups.
    """
    column = predictions.labels.index(label)
    score, hit = predictions.probabilities[:, column], predictions.reference == label
    group = _groups(score, bins)
    k = int(group.max()) + 1
    if k < 2:
        return Undefined(f"the probability of {label!r} is the same everywhere")
    rows: dict[str, list[float]] = {name: [] for name in ("given", "seen", "low", "high", "n")}
    for g in range(k):
        own = group == g
        patients = len(np.unique(predictions.patient_id[own]))
        seen = float(hit[own].mean())
        low, high = wilson(seen * patients, patients, level)
        values = (float(score[own].mean()), seen, low, high, float(own.sum()))
        for name, value in zip(rows, values, strict=True):
            rows[name].append(value)
    return {"label": label, **rows}
