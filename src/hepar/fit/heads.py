"""Fitting a head on cached features: seconds on two cores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hepar.config import HeadConfig
from hepar.data import LabelSet
from hepar.errors import FitError
from hepar.model.head import Head, LinearHead
from hepar.provenance import digest
from hepar.registry import nearest

__all__ = [
    "HEAD_KINDS",
    "check_labels",
    "choose_penalty",
    "fit_head",
    "fit_linear_head",
    "in_span",
    "inner_folds",
    "sample_weights",
    "standardisation",
]

HEAD_KINDS = ("linear", "svm", "svm-rbf", "attention", "dense")
"""What head.kind may say."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def sample_weights(codes: Integers, patients: Sequence[str], n_labels: int) -> Floats:
    """Return weights by which patients count alike, and then labels.

    Every patient's samples share a weight of 1, so one with many slices counts no more than one
    with few; then each label's total is made equal, so a rare label is not drowned.

    Args:
        codes: (n,) label codes 0 .. n_labels - 1.
        patients: n patient_ids.
        n_labels: number of labels.

    Returns:
        (n,) weights of mean 1.

    Example:
        >>> sample_weights(np.array([0, 0, 1]), ["a", "a", "b"], 2)
        array([0.75, 0.75, 1.5 ])
    """
    _, inverse, counts = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    weights = 1.0 / counts[inverse]
    totals = np.bincount(codes, weights, minlength=n_labels)
    weights = weights / totals[codes]
    return np.asarray(weights * len(weights) / weights.sum(), np.float64)


_FLOOR = 0.1
"""Of the median spread. A feature that hardly moves in training may move hundreds of its own
standard deviations in a new patient, and would answer alone; the floor was set before it was tried
(docs/explanations.md)."""


def standardisation(features: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return weighted mean and scale (d,) of features (n, d).

    The scale is the standard deviation, but a tenth of the features' median at least; 1 where all
    features are constant.
    """
    mean = np.average(features, axis=0, weights=weights)
    spread = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weights))
    moving = spread[spread > 1e-8]
    if not len(moving):
        return mean, np.ones_like(spread)
    return mean, np.maximum(spread, _FLOOR * np.median(moving))


def check_labels(codes: Integers, labels: LabelSet) -> None:
    """Refuse training samples that lack a label, or a label set with nothing to tell apart.

    Raises:
        FitError: a label has no sample, or there are fewer than two labels.
    """
    if len(labels) < 2:
        raise FitError(f"head: expected two labels or more to tell apart, got {list(labels)}.")
    missing = [name for i, name in enumerate(labels) if not (codes == i).any()]
    if missing:
        raise FitError(
            f"head: expected samples of every label, got none of {missing} in the training folds. "
            "Use fewer folds, or merge labels."
        )


def _solve(
    rows: Floats, basis: Floats | None, codes: Integers, weights: Floats, penalty: float
) -> tuple[Floats, Floats]:
    """Fit multinomial logistic regression; return weight (k, d) and bias (k,) for k labels.

    The rows are in coordinates of the basis (r, d), if there is one.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / penalty, max_iter=2000)
    model.fit(rows, codes, sample_weight=weights)
    weight = model.coef_ if basis is None else model.coef_ @ basis
    bias = model.intercept_
    if len(weight) == 1:
        weight, bias = np.vstack([-weight, weight]) / 2, np.array([-bias[0], bias[0]]) / 2
    return weight, bias


def in_span(features: Floats) -> tuple[Floats, Floats]:
    """Return coordinates (n, r) of rows in a basis of their span, and the orthonormal basis (r, d).

    By the eigenvectors of the rows' products: features = coordinates @ basis.
    """
    squares, vectors = np.linalg.eigh(features @ features.T)
    kept = squares > 1e-12 * squares[-1]
    if not kept.any():
        raise FitError(
            "head: expected features that differ between samples, got the same for all. "
            "Are all images the same, or empty after the recipe?"
        )
    lengths = np.sqrt(squares[kept])
    return vectors[:, kept] * lengths, (vectors[:, kept] / lengths).T @ features


def fit_linear_head(
    features: NDArray[np.floating],
    codes: Integers,
    patients: Sequence[str],
    labels: LabelSet,
    penalty: float,
) -> LinearHead:
    """Fit a linear head with a given L2 strength.

    Args:
        features: (n, d).
        codes: (n,) label codes.
        patients: n patient_ids.
        labels: the label set.
        penalty: L2 strength, the inverse of scikit-learn's C; above 0.

    Returns:
        The head.

    Raises:
        FitError: a label has no sample.
    """
    return _fit_each([penalty], features, codes, patients, labels)[0]


def _fit_each(
    penalties: Sequence[float],
    features: NDArray[np.floating],
    codes: Integers,
    patients: Sequence[str],
    labels: LabelSet,
) -> list[LinearHead]:
    """Fit a linear head with each of some L2 strengths; what they share is computed once.

    With fewer rows than features a solution lies in the span of the rows, where it is sought.
    """
    check_labels(codes, labels)
    raw = features.astype(np.float64)
    weights = sample_weights(codes, patients, len(labels))
    mean, scale = standardisation(raw, weights)
    rows, basis = (raw - mean) / scale, None
    if len(rows) < rows.shape[1]:
        rows, basis = in_span(rows)
    heads = []
    for penalty in penalties:
        weight, bias = _solve(rows, basis, codes, weights, penalty)
        heads.append(LinearHead(labels, mean, scale, weight, bias, penalty))
    return heads


def fit_head(
    features: NDArray[np.floating],
    codes: Integers,
    patients: Sequence[str],
    labels: LabelSet,
    config: HeadConfig,
) -> Head:
    """Fit a head of the kind that is asked for, its penalty chosen by inner folds of patients.

    Args:
        features: (n, d).
        codes: (n,) label codes.
        patients: n patient_ids.
        labels: the label set.
        config: kind, candidates, inner folds.

    Raises:
        FitError: a label has no sample, or the kind is unknown.
    """
    check_labels(codes, labels)
    if config.kind in {"svm", "svm-rbf"}:
        from hepar.fit.svm import fit_svm_head

        return fit_svm_head(features, codes, patients, labels, config)
    if config.kind == "attention":
        from hepar.fit.attention import fit_attention_head

        return fit_attention_head(features, codes, patients, labels, config)
    if config.kind != "linear":
        kinds = HEAD_KINDS[:4]
        raise FitError(
            f"head.kind: expected {', '.join(kinds)} on given features, got {config.kind!r}. "
            f"{nearest(config.kind, kinds)}".rstrip()
        )
    penalty = choose_penalty(features, codes, patients, labels, config)
    return fit_linear_head(features, codes, patients, labels, penalty)


def inner_folds(codes: Integers, patients: Sequence[str], folds: int) -> Integers:
    """Deal patients into folds by label and a hash of their id; return a fold (n,) per sample."""
    severest: dict[str, int] = {}
    for patient, code in zip(patients, codes, strict=True):
        severest[patient] = max(severest.get(patient, 0), int(code))
    order = sorted(severest, key=lambda patient: (severest[patient], digest("inner", patient)))
    fold_of = {patient: i % min(folds, len(order)) for i, patient in enumerate(order)}
    return np.array([fold_of[patient] for patient in patients])


def choose_penalty(
    features: NDArray[np.floating],
    codes: Integers,
    patients: Sequence[str],
    labels: LabelSet,
    config: HeadConfig,
) -> float:
    """Return the configured penalty that does best on held-out patients of inner folds."""
    return choose_penalty_among(
        config.penalties, features, codes, patients, labels, config.inner_folds
    )


def choose_penalty_among(
    penalties: Sequence[float],
    features: NDArray[np.floating],
    codes: Integers,
    patients: Sequence[str],
    labels: LabelSet,
    folds: int = 3,
) -> float:
    """Return the L2 strength of least weighted log loss on held-out patients of inner folds.

    Inner folds whose training part lacks a label are passed over; with none left, the strongest
    penalty is the cautious answer.

    Args:
        penalties: the candidates.
        features: (n, d).
        codes: (n,) label codes.
        patients: n patient_ids; no patient is on both sides of an inner fold.
        labels: the label set.
        folds: number of inner folds.

    Returns:
        One of the candidates; the stronger where two tie.
    """
    fold = inner_folds(codes, patients, folds)
    names = np.asarray(patients)
    weights = sample_weights(codes, patients, len(labels))
    candidates = sorted(penalties, reverse=True)
    losses = np.zeros(len(candidates))
    for held_out in range(fold.max() + 1):
        train, test = fold != held_out, fold == held_out
        if len(np.unique(codes[train])) < len(labels):
            continue
        heads = _fit_each(candidates, features[train], codes[train], names[train], labels)
        for i, head in enumerate(heads):
            chosen = head.probabilities(features[test])[np.arange(test.sum()), codes[test]]
            losses[i] -= weights[test] @ np.log(np.maximum(chosen, 1e-12))
    return candidates[int(np.argmin(losses))]
