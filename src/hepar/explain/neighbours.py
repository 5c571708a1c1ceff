"""Which training patients a slice resembles, as the network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["nearest_patients"]


def nearest_patients(
    features: NDArray[np.floating[Any]],
    patients: Sequence[str],
    row: int,
    allowed: Sequence[int],
    k: int,
) -> list[int]:
    """Return the slices most like one, of as many patients.

    Likeness is the cosine of features from which the mean of the allowed rows is taken.

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
    rows = np.array([i for i in allowed if patients[i] != patients[row]], np.int64)
    if not len(rows):
        return []
    known = features[rows].astype(np.float64)
    mean = known.mean(axis=0)
    known, asked = known - mean, features[row].astype(np.float64) - mean
    length = np.linalg.norm(known, axis=1) * np.linalg.norm(asked)
    likeness = np.divide(known @ asked, length, out=np.zeros(len(rows)), where=length > 0)
    found: dict[str, int] = {}
    for at in np.argsort(-likeness, kind="stable"):
        found.setdefault(patients[int(rows[at])], int(rows[at]))
        if len(found) == k:
            break
    return list(found.values())
