"""Fitting support vector machines: the paper's hybrids, with patients kept whole throughout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepar.config import HeadConfig
from hepar.data import LabelSet
from hepar.errors import FitError
from hepar.fit.heads import inner_folds, sample_weights, standardisation
from hepar.model import LinearHead, SvmHead, softmax

__all__ = ["fit_svm_head"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_COSTS = {"svm": (1e-4, 1e-3, 1e-2, 1e-1), "svm-rbf": (0.1, 1.0, 10.0)}
"""Candidate values of C by kernel; gamma is 1 / d on standardised features."""


class _Machines(NamedTuple):
    """One machine a label, on training rows: scores of other rows come from the kernel alone."""

    coefficients: Floats
    bias: Floats


def _fit_machines(kernel: Floats, codes: Integers, weights: Floats, cost: float) -> _Machines:
    """Fit a machine for each label against the rest on a kernel matrix (n, n)."""
    from sklearn.svm import SVC

    coefficients, bias = [], []
    for code in range(int(codes.max()) + 1):
        machine = SVC(C=cost, kernel="precomputed", cache_size=500)
        machine.fit(kernel, np.where(codes == code, 1, -1), sample_weight=weights)
        row = np.zeros(len(kernel))
        row[machine.support_] = machine.dual_coef_[0]
        coefficients.append(row)
        bias.append(float(machine.intercept_[0]))
    return _Machines(np.stack(coefficients), np.array(bias))


def fit_svm_head(
    features: NDArray[np.floating],
    codes: Integers,
    patients: Sequence[str],
    labels: LabelSet,
    config: HeadConfig,
) -> SvmHead:
    """Fit support vector machines, C chosen and scores calibrated on left-out patients.

    Scikit-learn's own probabilities come from inner folds of rows, which here would be slices of
    the same patients; these come from inner folds of patients.

    Args:
        features: (n, d).
        codes: (n,) label codes; every label has samples, as `fit_head` checks.
        patients: n patient_ids.
        labels: the label set.
        config: kind "svm" (linear) or "svm-rbf", and the number of inner folds.

    Returns:
        The head.

    Raises:
        FitError: no inner fold leaves every label in training.
    """
    raw = np.asarray(features, np.float64)
    weights = sample_weights(codes, patients, len(labels))
    mean, scale = standardisation(raw, weights)
    standard = (raw - mean) / scale
    kernel = standard @ standard.T
    gamma = 0.0
    if config.kind == "svm-rbf":
        gamma = 1.0 / raw.shape[1]
        squares = np.diag(kernel)
        kernel = np.exp(-gamma * np.maximum(squares[:, None] + squares - 2 * kernel, 0))
    scored = {
        cost: _left_out_scores(kernel, codes, patients, weights, cost, config)
        for cost in _COSTS[config.kind]
    }
    cost = min(scored, key=lambda c: _loss(*scored[c], codes, labels, weights))
    scores, seen = scored[cost]
    calibration = _calibrated(scores[seen], codes[seen], weights[seen], labels)
    machines = _fit_machines(kernel, codes, weights, cost)
    used = np.flatnonzero(np.abs(machines.coefficients).max(axis=0) > 0)
    vectors, coefficients = standard[used], machines.coefficients[:, used]
    if not gamma:
        vectors, coefficients = coefficients @ vectors, np.eye(len(labels))
    return SvmHead(labels, mean, scale, vectors, coefficients, machines.bias, gamma, calibration)


def _left_out_scores(
    kernel: Floats,
    codes: Integers,
    patients: Sequence[str],
    weights: Floats,
    cost: float,
    config: HeadConfig,
) -> tuple[Floats, Integers]:
    """Return scores (n, k) of patients by machines that never saw them, and the rows that have one.

    Inner folds whose training part lacks a label are passed over.
    """
    fold = inner_folds(codes, patients, config.inner_folds)
    n_labels = int(codes.max()) + 1
    scores = np.zeros((len(codes), n_labels))
    seen: list[int] = []
    for held_out in range(int(fold.max()) + 1):
        train, test = np.flatnonzero(fold != held_out), np.flatnonzero(fold == held_out)
        if len(np.unique(codes[train])) < n_labels:
            continue
        machines = _fit_machines(kernel[np.ix_(train, train)], codes[train], weights[train], cost)
        scores[test] = kernel[np.ix_(test, train)] @ machines.coefficients.T + machines.bias
        seen += test.tolist()
    if len(np.unique(codes[seen])) < n_labels:
        raise FitError(
            "head: expected inner folds of patients that leave every label in training, got none. "
            "Add patients, or use --head linear."
        )
    return scores, np.array(sorted(seen))


def _calibrated(scores: Floats, codes: Integers, weights: Floats, labels: LabelSet) -> LinearHead:
    """Return softmax(slope * scores + bias) of least weighted log loss, with one slope above 0.

    A free regression may turn the scores round: with few patients, those left out of an inner fold
    can score against the trend, and a machine that is right would be made wrong.

    Source: Platt 1999, with the slope kept positive.
    """
    from scipy.optimize import minimize

    spread = float(scores.std()) or 1.0
    standard, rows = scores / spread, np.arange(len(codes))

    def loss(parameters: Floats) -> float:
        slope, bias = parameters[0], parameters[1:]
        chosen = softmax(slope * standard + bias)[rows, codes]
        return float(0.5 * parameters @ parameters - weights @ np.log(np.maximum(chosen, 1e-12)))

    k = len(labels)
    start = np.array([1.0, *np.zeros(k)])
    found = minimize(loss, start, method="L-BFGS-B", bounds=[(1e-2, None), *[(None, None)] * k])
    slope, bias = found.x[0], found.x[1:]
    return LinearHead(labels, np.zeros(k), np.full(k, spread), slope * np.eye(k), bias, 1.0)


def _loss(
    scores: Floats, seen: Integers, codes: Integers, labels: LabelSet, weights: Floats
) -> float:
    """Return the weighted log loss of calibrated scores."""
    head = _calibrated(scores[seen], codes[seen], weights[seen], labels)
    chosen = head.probabilities(scores[seen])[np.arange(len(seen)), codes[seen]]
    return float(-(weights[seen] @ np.log(np.maximum(chosen, 1e-12))))
