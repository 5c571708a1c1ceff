"""Slices that a model learned from, kept as features: whom a new slice resembles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Known"]


@dataclass(frozen=True, eq=False)
class Known:
    """Some slices of the training patients; no pixel and no name of them.

    Attributes:
        features: (n, d) float16 of all networks, the plain view.
        labels: (n,) positions in the bundle's labels.
        patients: (n,) numbers that say which slices are of one patient, and nothing else.
    """

    features: NDArray[np.float16]
    labels: NDArray[np.int32]
    patients: NDArray[np.int32]
