"""The head: plain arrays that turn features into probabilities, without scikit-learn or pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.data import LabelSet
from hepar.errors import BundleError

__all__ = ["LinearHead", "softmax"]

Floats = NDArray[np.float64]


def softmax(scores: NDArray[np.floating[Any]]) -> Floats:
    """Return probabilities (n, k) from scores (n, k); each row sums to 1."""
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float64)


@dataclass(frozen=True)
class LinearHead:
    """Multinomial logistic regression on standardised features.

    Attributes:
        labels: the classes, in order.
        mean: (d,) of the training features.
        scale: (d,) standard deviation of the training features, 1 where a feature is constant.
        weight: (k, d).
        bias: (k,).
        penalty: the L2 strength it was fitted with.
    """

    labels: LabelSet
    mean: Floats
    scale: Floats
    weight: Floats
    bias: Floats
    penalty: float

    def scores(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return raw scores (n, k) from features (n, d).

        Summed in a fixed order and not by BLAS, whose last bits depend on a row's neighbours: an
        image gets the same answer alone and in any company.
        """
        standard = (features.astype(np.float64) - self.mean) / self.scale
        return np.asarray(np.einsum("nd,kd->nk", standard, self.weight) + self.bias, np.float64)

    def probabilities(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return probabilities (n, k) from features (n, d)."""
        return softmax(self.scores(features))

    def to_arrays(self) -> dict[str, Floats]:
        """Return the arrays by name in C order, as a bundle stores them.

        Scikit-learn's coefficients come in Fortran order, and safetensors writes memory as it lies.
        """
        arrays = {
            "mean": self.mean,
            "scale": self.scale,
            "weight": self.weight,
            "bias": self.bias,
            "penalty": np.array([self.penalty]),
        }
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, labels: LabelSet, arrays: Mapping[str, Floats]) -> LinearHead:
        """Return the head that `to_arrays` described.

        Raises:
            BundleError: an array is missing or shapes do not agree.
        """
        try:
            mean, scale = arrays["mean"], arrays["scale"]
            weight, bias = arrays["weight"], arrays["bias"]
            penalty = float(arrays["penalty"][0])
        except (KeyError, IndexError) as error:
            raise BundleError(f"head: expected the array {error}, got none.") from None
        shapes = (mean.shape, scale.shape, bias.shape)
        if weight.ndim != 2 or shapes != ((weight.shape[1],),) * 2 + ((len(labels),),):
            raise BundleError(
                f"head: expected weight ({len(labels)}, d) with mean, scale (d,) and bias "
                f"({len(labels)},), got {weight.shape}, {shapes}."
            )
        return cls(labels, mean, scale, weight, bias, penalty)
