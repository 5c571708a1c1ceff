"""Support vector machines as plain arrays: one against the rest, calibrated to probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.data import LabelSet
from hepar.errors import BundleError
from hepar.model.head import HEADS, Arrays, LinearHead, row_products
from hepar.model.slope import Slope

__all__ = ["SvmHead"]

Floats = NDArray[np.float64]


@HEADS.add("svm")
@dataclass(frozen=True)
class SvmHead:
    """A machine for each label against the rest, on standardised features.

    Attributes:
        labels: the classes, in order.
        mean: (d,) of the training features.
        scale: (d,) of the training features.
        vectors: (m, d) support vectors; with a linear kernel (k, d), the weights themselves.
        coefficients: (k, m); with a linear kernel the identity.
        bias: (k,).
        gamma: of the kernel exp(-gamma * distance squared); 0 for the linear kernel.
        calibration: from the k scores to probabilities, fitted on scores of left-out patients.
    """

    labels: LabelSet
    mean: Floats
    scale: Floats
    vectors: Floats
    coefficients: Floats
    bias: Floats
    gamma: float
    calibration: LinearHead

    @property
    def n_features(self) -> int:
        """Length of the features it takes."""
        return len(self.mean)

    def document(self) -> dict[str, Any]:
        """Return the kernel's gamma and the calibration's penalty."""
        return {"gamma": self.gamma}

    def scores(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return decision values (n, k) from features (n, d), in the same order for any row."""
        return row_products(self._kernel(self._standard(features)), self.coefficients) + self.bias

    def _standard(self, features: NDArray[np.floating[Any]]) -> Floats:
        return np.asarray((np.asarray(features, np.float64) - self.mean) / self.scale)

    def _kernel(self, standard: Floats) -> Floats:
        """Return the kernel (n, m) of standardised rows with the support vectors."""
        products = row_products(standard, self.vectors)
        if not self.gamma:
            return products
        own, squares = _squares(standard), _squares(self.vectors)
        return np.exp(-self.gamma * np.maximum(own[:, None] + squares - 2 * products, 0))

    def probabilities(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return probabilities (n, k) from features (n, d)."""
        return self.calibration.probabilities(self.scores(features))

    def slope(self, features: NDArray[np.floating[Any]]) -> Slope:
        """Return the derivative of the centred log-probabilities at features (n, d)."""
        standard = self._standard(features)
        n, k = len(standard), len(self.labels)
        if self.gamma:
            pulls = self.coefficients * self._kernel(standard)[:, None, :]
            moved = pulls @ self.vectors - pulls.sum(axis=2, keepdims=True) * standard[:, None, :]
            gradient = 2 * self.gamma * moved / self.scale
        else:
            own = self.coefficients @ self.vectors / self.scale
            gradient = np.broadcast_to(own, (n, k, len(self.mean)))
        machines = Slope(gradient, gradient * self.mean)
        return machines.through(self.calibration.slope(np.zeros((n, k))).gradient)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, in C order."""
        own = {
            name: np.ascontiguousarray(getattr(self, name))
            for name in ("mean", "scale", "vectors", "coefficients", "bias")
        }
        inner = self.calibration.to_arrays()
        return {**own, **{f"calibration/{name}": array for name, array in inner.items()}}

    @classmethod
    def from_document(
        cls, labels: LabelSet, document: Mapping[str, Any], arrays: Arrays
    ) -> SvmHead:
        """Return the head that `document` and `to_arrays` described.

        Raises:
            BundleError: an array is missing or shapes do not agree.
        """
        names = ("mean", "scale", "vectors", "coefficients", "bias")
        try:
            mean, scale, vectors, coefficients, bias = (arrays[name] for name in names)
        except KeyError as error:
            raise BundleError(f"head: expected the array {error}, got none.") from None
        shapes = (mean.shape, scale.shape, vectors.shape, coefficients.shape, bias.shape)
        d, m, k = mean.size, len(vectors), len(labels)
        if shapes != ((d,), (d,), (m, d), (k, m), (k,)):
            raise BundleError(
                f"head: expected mean, scale ({d},), vectors ({m}, {d}), coefficients ({k}, {m}) "
                f"and bias ({k},), got {shapes}."
            )
        inner = {
            name.removeprefix("calibration/"): array
            for name, array in arrays.items()
            if name.startswith("calibration/")
        }
        calibration = LinearHead.from_arrays(labels, inner)
        return cls(
            labels, mean, scale, vectors, coefficients, bias, float(document["gamma"]), calibration
        )


def _squares(rows: Floats) -> Floats:
    """Return the squared length (n,) of each of the rows (n, d)."""
    rows = np.ascontiguousarray(rows)
    return np.asarray(np.einsum("nd,nd->n", rows, rows))
