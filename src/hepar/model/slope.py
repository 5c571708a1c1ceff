"""How a head's answer changes with its features: what heat maps are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Slope", "centring", "log_softmax_slope"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Slope:
    """The derivative of a head's centred log-probabilities at some features.

    Centred: log p minus its mean over the labels. That is what softmax leaves of the scores; adding
    the same weights to every label changes scores and no answer.

    Attributes:
        gradient: (n, k, d).
        zero: (n, k, d), gradient times the feature value that the head counts as nothing: the mean
            over its training rows where it standardises, else 0.
    """

    gradient: Floats
    zero: Floats

    def through(self, jacobian: Floats) -> Slope:
        """Return the slope of what is computed from these values.

        Args:
            jacobian: (n, j, k) or (j, k), of j values from these k.
        """
        return Slope(jacobian @ self.gradient, jacobian @ self.zero)

    def __add__(self, other: Slope) -> Slope:
        """Return the slope of a sum."""
        return Slope(self.gradient + other.gradient, self.zero + other.zero)


def centring(k: int) -> Floats:
    """Return the matrix (k, k) that subtracts the mean."""
    return np.eye(k) - 1 / k


def log_softmax_slope(probabilities: Floats) -> Floats:
    """Return the derivative (n, k, k) of log-softmax at probabilities (n, k) by its scores."""
    k = probabilities.shape[1]
    return np.eye(k) - np.repeat(probabilities[:, None, :], k, axis=1)
