"""Cross-validation again and again on the same features, under the labels or others dealt anew."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepar.fit.heads import in_span, sample_weights, standardisation

__all__ = ["Refit", "deal_labels", "permuted_codes", "prepare_refit"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_TRIES = 200
"""Deals before it is given up that every training fold shows every label."""


@dataclass(frozen=True, eq=False)
class _Fold:
    """One fold, standardised once for all labels that it will be fitted to."""

    train: Integers
    test: Integers
    rows: Floats
    left_out: Floats


@dataclass(frozen=True, eq=False)
class Refit:
    """Features ready to be cross-validated under any labels.

    Attributes:
        patients: (n,) of the rows.
        folds: prepared.
        n_labels: k.
        penalty: L2 strength, one for all fits.
    """

    patients: NDArray[np.str_]
    folds: tuple[_Fold, ...]
    n_labels: int
    penalty: float

    def shows_all(self, codes: Integers) -> bool:
        """Return whether every training fold holds every label."""
        return all(len(np.unique(codes[f.train])) == self.n_labels for f in self.folds)

    def scores(self, deals: Sequence[Integers]) -> Floats:
        """Return out-of-fold probabilities (deals, n, k) of a linear head under given labels.

        Args:
            deals: label codes (n,) each, that `shows_all` answers with True.
        """
        import sklearn.linear_model  # noqa: F401 (once, not by several threads at a time)
        from threadpoolctl import threadpool_limits

        found = np.zeros((len(deals), len(self.patients), self.n_labels))
        jobs = [(i, fold) for i in range(len(deals)) for fold in self.folds]

        def fit(job: tuple[int, _Fold]) -> None:
            i, fold = job
            found[i, fold.test] = self._fit(fold, deals[i])

        with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(fit, jobs))
        return found

    def _fit(self, fold: _Fold, codes: Integers) -> Floats:
        from sklearn.linear_model import LogisticRegression

        own = codes[fold.train]
        weights = sample_weights(own, self.patients[fold.train].tolist(), self.n_labels)
        model = LogisticRegression(C=1 / self.penalty, max_iter=2000)
        model.fit(fold.rows, own, sample_weight=weights)
        return np.asarray(model.predict_proba(fold.left_out), np.float64)


def prepare_refit(
    features: NDArray[np.floating],
    patients: NDArray[np.str_],
    fold: Integers,
    n_labels: int,
    penalty: float,
) -> Refit:
    """Standardise every fold once.

    Args:
        features: (n, d).
        patients: (n,) patient_ids.
        fold: (n,) the fold that leaves each row out.
        n_labels: of the labels to come.
        penalty: L2 strength of every fit.
    """
    folds = []
    _, owner, counts = np.unique(patients, return_inverse=True, return_counts=True)
    raw = np.asarray(features, np.float64)
    for held_out in np.unique(fold):
        train, test = np.flatnonzero(fold != held_out), np.flatnonzero(fold == held_out)
        mean, scale = standardisation(raw[train], 1 / counts[owner[train]])
        rows, left_out = (raw[train] - mean) / scale, (raw[test] - mean) / scale
        if len(rows) < rows.shape[1]:
            rows, basis = in_span(rows)
            left_out = left_out @ basis.T
        folds.append(_Fold(train, test, rows, left_out))
    return Refit(patients, tuple(folds), n_labels, penalty)


def deal_labels(codes: Integers, patients: NDArray[np.str_], rng: np.random.Generator) -> Integers:
    """Return labels dealt anew to patients, so that they say nothing about the images.

    Every patient gets the labels of another: all of one label where the other has one; else the
    other's sequence from slice to slice, stretched to length and turned by a random step, so that
    neighbours still carry one label as often as they did.

    Args:
        codes: (n,) label codes; a patient's rows in the order of the slices.
        patients: (n,) patient_ids.
        rng: of this deal.

    Example:
        >>> deal_labels(np.array([0, 0, 1]), np.array(["a", "a", "b"]), np.random.default_rng(3))
        array([1, 1, 0])
    """
    names, owner = np.unique(patients, return_inverse=True)
    rows = [np.flatnonzero(owner == i) for i in range(len(names))]
    dealt = np.empty_like(codes)
    for own, other in zip(rows, rng.permutation(len(rows)), strict=True):
        sequence = codes[rows[other]]
        stretched = sequence[np.arange(len(own)) * len(sequence) // len(own)]
        dealt[own] = np.roll(stretched, rng.integers(len(own)))
    return dealt


def permuted_codes(
    refit: Refit, codes: Integers, origin: Integers, n: int, seed: int
) -> list[Integers]:
    """Return up to n deals of labels under which every training fold shows every label.

    Args:
        refit: the folds.
        codes: (n,) the real labels.
        origin: (n,) row that each row is a copy of, itself where it is none; a copy keeps the label
            that was dealt to the original.
        n: deals wanted.
        seed: of the deals.

    Returns:
        The deals; fewer than n, or none, where too few patients carry a label.
    """
    rng = np.random.default_rng(seed)
    deals: list[Integers] = []
    for _ in range(_TRIES + n):
        dealt = deal_labels(codes, refit.patients, rng)[origin]
        if refit.shows_all(dealt):
            deals.append(dealt)
        if len(deals) == n:
            break
    return deals
