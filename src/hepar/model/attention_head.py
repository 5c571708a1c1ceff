"""A head that scores slices and says how much each weighs in its patient's answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.data import LabelSet
from hepar.errors import BundleError
from hepar.model.head import HEADS, LinearHead, row_products
from hepar.model.slope import Slope

__all__ = ["AttentionHead", "attention_over_views"]

Floats = NDArray[np.float64]

_NETWORK = ("tanh", "gate", "energy")


@HEADS.add("attention")
@dataclass(frozen=True)
class AttentionHead:
    """Gated attention over a patient's slices, on top of a linear score of each slice.

    A patient's score is the mean of its slices' scores, weighted by the softmax of their attention.
    What is said of one slice is what would be said of a patient who had this slice alone.

    Attributes:
        linear: from the features of a slice to its score.
        tanh: (m, d) on standardised features.
        gate: (m, d) on standardised features.
        energy: (m,); no unit (m = 0) is the plain mean.

    Source:
        Ilse, Tomczak and Welling, ICML 2018, equation 9; with a linear classifier on top the mean
        of the features scored is the mean of the scores.
    """

    linear: LinearHead
    tanh: Floats
    gate: Floats
    energy: Floats

    @property
    def labels(self) -> LabelSet:
        """The classes."""
        return self.linear.labels

    @property
    def n_features(self) -> int:
        """Length of the features it takes."""
        return self.linear.n_features

    def document(self) -> dict[str, Any]:
        """Return nothing: the arrays say it all."""
        return {}

    def probabilities(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return probabilities (n, k) from features (n, d), of each slice as if it were alone."""
        return self.linear.probabilities(features)

    def attention(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return (n,) the logarithm of how much each slice weighs, but for a constant."""
        rows = (features.astype(np.float64) - self.linear.mean) / self.linear.scale
        gated = np.tanh(row_products(rows, self.tanh)) / (
            1 + np.exp(-row_products(rows, self.gate))
        )
        return row_products(gated, self.energy[None])[:, 0]

    def slope(self, features: NDArray[np.floating[Any]]) -> Slope:
        """Return the derivative of the centred log-probabilities of slices at features (n, d)."""
        return self.linear.slope(features)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name in C order."""
        own = {name: np.ascontiguousarray(getattr(self, name)) for name in _NETWORK}
        return {**self.linear.to_arrays(), **own}

    @classmethod
    def from_document(
        cls, labels: LabelSet, document: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> AttentionHead:
        """Return the head that `to_arrays` described.

        Raises:
            BundleError: an array is missing or shapes do not agree.
        """
        del document
        linear = LinearHead.from_arrays(labels, arrays)
        try:
            tanh, gate, energy = (arrays[name] for name in _NETWORK)
        except KeyError as error:
            raise BundleError(f"head: expected the array {error}, got none.") from None
        wanted = (len(energy), linear.n_features)
        if energy.ndim != 1 or tanh.shape != wanted or gate.shape != wanted:
            raise BundleError(
                f"head: expected energy (m,) with tanh and gate (m, {linear.n_features}), got "
                f"{energy.shape}, {tanh.shape} and {gate.shape}."
            )
        return cls(linear, tanh, gate, energy)


def attention_over_views(head: object, features: NDArray[np.floating[Any]]) -> Floats | None:
    """Return attention (n,) from features (n, views, d): the mean over views; None without any."""
    if not isinstance(head, AttentionHead):
        return None
    n, views, d = features.shape
    rows = head.attention(features.reshape(n * views, d)).reshape(n, views)
    return np.asarray(rows.mean(axis=1), np.float64)
