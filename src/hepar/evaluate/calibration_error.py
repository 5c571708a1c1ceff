"""How far probabilities are from how often they come true, and what chance alone would show."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepar.evaluate.predictions import Predictions

__all__ = ["Key", "Rows", "distances", "floors", "n_bins", "read_rows", "score_groups"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Key = tuple[str, str | None]
"""Name of a number, and the label that it is of; None for all labels."""

_FLOOR_DRAWS = 400


class Rows(NamedTuple):
    """Rows in a form that resamples of patients can weigh.

    Attributes:
        probabilities: (n, k).
        hit: (n, k) whether the column is the reference.
        owner: (n,) position of the patient.
        n_patients: how many there are.
    """

    probabilities: Floats
    hit: Bools
    owner: NDArray[np.int64]
    n_patients: int

    def by_patient(self, values: Floats) -> Floats:
        """Return sums over the rows of each patient, (n_patients, m), of values (n, m)."""
        sums = [np.bincount(self.owner, column, self.n_patients) for column in values.T]
        return np.stack(sums, axis=1)


def read_rows(part: Predictions) -> Rows:
    """Return rows that all have a reference, so that resamples of patients can weigh them."""
    patients, owner = np.unique(part.patient_id, return_inverse=True)
    hit = part.reference_index[:, np.newaxis] == np.arange(len(part.labels))
    return Rows(part.probabilities, hit, owner.astype(np.int64), len(patients))


def n_bins(n_patients: int) -> int:
    """Return how many groups calibration is looked at in: ten patients each, but 5 to 15 groups.

    Example:
        >>> [n_bins(n) for n in (20, 80, 500)]
        [5, 8, 15]
    """
    return min(15, max(5, n_patients // 10))


def score_groups(score: Floats, bins: int) -> NDArray[np.int64]:
    """Return the group of each row: as many rows in each as ties allow, in the order of score."""
    edges = np.quantile(score, np.linspace(0, 1, bins + 1)[1:-1])
    return np.asarray(np.unique(np.searchsorted(edges, score), return_inverse=True)[1], np.int64)


def _in_groups(values: Floats, group: NDArray[np.int64]) -> Floats:
    """Return values (n,) spread over one column a group, (n, groups)."""
    return np.where(group[:, np.newaxis] == np.arange(group.max() + 1), values[:, np.newaxis], 0.0)


def _surest(probabilities: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return the probability of the likeliest label, and which it is; ties go to the severer."""
    codes = probabilities.shape[1] - 1 - np.argmax(probabilities[:, ::-1], axis=1)
    return probabilities[np.arange(len(codes)), codes], codes


def distances(part: Predictions, rows: Rows) -> dict[Key, Floats]:
    """Return what is summed over rows (n, m) for each number that is a mean of distances.

    The number is the sum over columns of the size of the column's sum, divided by the rows.
    """
    p, hit, bins = rows.probabilities, rows.hit, n_bins(rows.n_patients)
    given = p[hit]
    top, codes = _surest(p)
    right = hit[np.arange(len(codes)), codes]
    labels: dict[Key, Floats] = {
        ("classwise_ece", label): _in_groups(hit[:, j] - p[:, j], score_groups(p[:, j], bins))
        for j, label in enumerate(part.labels)
    }
    return {
        ("brier", None): ((p - hit) ** 2).sum(axis=1, keepdims=True),
        ("log_loss", None): -np.log(np.where(given > 0, given, 1.0))[:, np.newaxis],
        ("ece", None): _in_groups(right - top, score_groups(top, bins)),
        ("classwise_ece", None): np.concatenate(list(labels.values()), axis=1) / p.shape[1],
        **labels,
    }


def floors(part: Predictions, rows: Rows, seed: int) -> dict[Key, Floats]:
    """Return the calibration errors of references drawn from the probabilities, (draws,) each.

    One number is drawn for each patient, so that the slices of a patient go together as far as
    their probabilities let them. Simulated with 20 slices a patient and probabilities that are
    right, calibration errors of 20 patients whose slices differ little are 0.126 on average; this
    gives 0.110, and slices drawn apart 0.033. Where slices differ a lot (0.036) it gives 0.061, and
    slices drawn apart 0.030.
    """
    rng, p, bins = np.random.default_rng(seed), rows.probabilities, n_bins(rows.n_patients)
    top, codes = _surest(p)
    keys: list[Key] = [("ece", None), *(("classwise_ece", label) for label in part.labels)]
    scores = [top, *p.T]
    groups = [score_groups(score, bins) for score in scores]
    expected = [np.bincount(g, score) for g, score in zip(groups, scores, strict=True)]
    below = np.cumsum(p, axis=1)[:, :-1]
    gaps = np.zeros((_FLOOR_DRAWS, len(keys)))
    for row in gaps:
        drawn = (rng.random(rows.n_patients)[rows.owner, np.newaxis] >= below).sum(axis=1)
        hits = [drawn == codes, *(drawn == j for j in range(p.shape[1]))]
        row[:] = [
            np.abs(np.bincount(g, h, len(e)) - e).sum()
            for g, h, e in zip(groups, hits, expected, strict=True)
        ]
    errors = gaps.T / len(part)
    found = dict(zip(keys, errors, strict=True))
    return {**found, ("classwise_ece", None): errors[1:].mean(axis=0)}
