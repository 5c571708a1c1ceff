"""Which training patients a slice resembles, as the network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["nearest_of", "nearest_patients"]

Floats = NDArray[np.floating[Any]]


def nearest_of(
    asked: Floats, known: Floats, patients: Sequence[Any], k: int
) -> list[list[tuple[int, float]]]:
    """Return for every slice asked about the known slices most like it, of as many patients.

    Likeness is the cosine of features from which the mean of the known ones is taken: 1 for the
    same, 0 for nothing in common.

    Args:
        asked: (m, d).
        known: (n, d).
        patients: (n,) whose the known slices are.
        k: patients at most, each with its most similar slice.

    Returns:
        For each of m its rows of `known` and how alike they are, the most similar first.
    """
    mean = known.mean(axis=0)
    own, others = asked - mean, known - mean
    length = np.linalg.norm(own, axis=1)[:, None] * np.linalg.norm(others, axis=1)
    likeness = np.divide(own @ others.T, length, out=np.zeros_like(length), where=length > 0)
    found = []
    for row in likeness:
        first: dict[Any, tuple[int, float]] = {}
        for at in np.argsort(-row, kind="stable"):
            first.setdefault(patients[int(at)], (int(at), float(row[at])))
            if len(first) == k:
                break
        found.append(list(first.values()))
    return found


def nearest_patients(
    features: Floats, patients: Sequence[str], row: int, allowed: Sequence[int], k: int
) -> list[int]:
    """Return the slices most like one, of as many other patients.

    Args:
        features: (n, d).
        patients: (n,) whose the rows are.
        row: the slice asked about.
        allowed: rows that may be named: those that its model learned from.
        k: patients at most, each with its most similar slice.

    Example:
        >>> features = np.array([[1.0, 0], [2, 0.1], [3, 0], [-1, 0], [0, -2]])
        >>> nearest_patients(features, ["a", "b", "b", "c", "d"], 0, [1, 2, 3, 4], 2)
        [1, 3]
    """
    rows = [i for i in allowed if patients[i] != patients[row]]
    if not rows:
        return []
    known = features[rows].astype(np.float64)
    (near,) = nearest_of(features[[row]], known, [patients[i] for i in rows], k)
    return [rows[at] for at, _ in near]
