"""The head: plain arrays that turn features into probabilities, without scikit-learn or pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hepar.data import LabelSet
from hepar.errors import BundleError
from hepar.model.slope import Slope, centring
from hepar.registry import Registry

__all__ = [
    "HEADS",
    "DenseHead",
    "Head",
    "LinearHead",
    "head_from_document",
    "head_to_document",
    "row_products",
    "softmax",
]

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]


class Head(Protocol):
    """From features to probabilities: plain arrays, on any machine to the same bits.

    Attributes:
        labels: the classes, in order.
        n_features: length of the features it takes.
    """

    @property
    def labels(self) -> LabelSet:
        """The classes."""
        ...

    @property
    def n_features(self) -> int:
        """Length of the features."""
        ...

    def probabilities(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return probabilities (n, k) from features (n, d), a row alone or in any company alike."""
        ...

    def slope(self, features: NDArray[np.floating[Any]]) -> Slope:
        """Return the derivative of the centred log-probabilities at features (n, d)."""
        ...

    def document(self) -> dict[str, Any]:
        """Return JSON-able values that, with `arrays`, describe the head."""
        ...

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, in C order."""
        ...


HEADS: Registry[Any] = Registry("head")
"""Kind in a document -> class with `from_document(labels, document, arrays)`."""


def head_to_document(head: Head) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return a head as JSON-able values and arrays, as a bundle stores them."""
    kinds = {kind: name for name, kind in HEADS.items()}
    document = {"kind": kinds[type(head)], **head.document()}
    return document, {k: np.ascontiguousarray(v) for k, v in head.to_arrays().items()}


def head_from_document(labels: LabelSet, document: Mapping[str, Any], arrays: Arrays) -> Head:
    """Return the head that `head_to_document` described.

    Raises:
        BundleError: a value or an array is missing, or shapes do not agree.
        RegistryError: the kind is unknown.
    """
    try:
        head: Head = HEADS.get(document["kind"]).from_document(labels, document, arrays)
    except KeyError as error:
        raise BundleError(
            f"head: expected {error} in its document, got {sorted(document)}. Fit it again."
        ) from None
    return head


def row_products(rows: NDArray[Any], others: NDArray[Any]) -> Floats:
    """Return the inner product (n, m) of each of the rows (n, d) with each of the others (m, d).

    Summed in a fixed order, whatever the arrays' memory order, and not by BLAS, whose last bits
    depend on a row's neighbours: an image gets the same answer alone and in any company.
    """
    left = np.ascontiguousarray(rows, np.float64)
    right = np.ascontiguousarray(others, np.float64)
    return np.asarray(np.einsum("nd,md->nm", left, right))


def softmax(scores: NDArray[np.floating[Any]]) -> Floats:
    """Return probabilities (n, k) from scores (n, k); each row sums to 1."""
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float64)


@HEADS.add("linear")
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

    @property
    def n_features(self) -> int:
        """Length of the features it takes."""
        return len(self.mean)

    def document(self) -> dict[str, Any]:
        """Return nothing: the arrays say it all."""
        return {}

    def scores(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return raw scores (n, k) from features (n, d)."""
        standard = (features.astype(np.float64) - self.mean) / self.scale
        return row_products(standard, self.weight) + self.bias

    def probabilities(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return probabilities (n, k) from features (n, d)."""
        return softmax(self.scores(features))

    def slope(self, features: NDArray[np.floating[Any]]) -> Slope:
        """Return the derivative of the centred log-probabilities at features (n, d)."""
        one = self.scores_slope(len(features))
        return one.through(centring(len(self.labels)))

    def scores_slope(self, n: int) -> Slope:
        """Return the derivative of the raw scores, which is the same (k, d) for any of n rows."""
        gradient = self.weight / self.scale
        shape = (n, *gradient.shape)
        return Slope(np.broadcast_to(gradient, shape), np.broadcast_to(gradient * self.mean, shape))

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
    def from_document(
        cls, labels: LabelSet, document: Mapping[str, Any], arrays: Arrays
    ) -> LinearHead:
        """Return the head that `to_arrays` described."""
        del document
        return cls.from_arrays(labels, arrays)

    @classmethod
    def from_arrays(cls, labels: LabelSet, arrays: Arrays) -> LinearHead:
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


@HEADS.add("dense")
@dataclass(frozen=True)
class DenseHead:
    """Dense layers with ReLU between them and softmax at the end: what fine-tuning trains on top.

    Attributes:
        labels: the classes, in order.
        layers: (weight (out, in), bias (out,)) of each layer, the output layer last.
    """

    labels: LabelSet
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

    @property
    def n_features(self) -> int:
        """Length of the features it takes."""
        return int(self.layers[0][0].shape[1])

    def document(self) -> dict[str, Any]:
        """Return how many hidden layers there are."""
        return {"hidden": len(self.layers) - 1}

    def probabilities(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return probabilities (n, k) from features (n, d)."""
        values = np.asarray(features, np.float64)
        for number, (weight, bias) in enumerate(self.layers):
            values = row_products(values, weight) + bias
            if number < len(self.layers) - 1:
                values = np.maximum(values, 0)
        return softmax(values)

    def slope(self, features: NDArray[np.floating[Any]]) -> Slope:
        """Return the derivative of the centred log-probabilities at features (n, d)."""
        values = np.asarray(features, np.float64)
        alive = []
        for weight, bias in self.layers[:-1]:
            values = np.maximum(row_products(values, weight) + bias, 0)
            alive.append(values > 0)
        back = np.repeat(centring(len(self.labels))[None], len(values), axis=0)
        for number in reversed(range(len(self.layers))):
            back = back @ np.asarray(self.layers[number][0], np.float64)
            if number:
                back = back * alive[number - 1][:, None, :]
        return Slope(back, np.zeros_like(back))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, in C order."""
        names = [f"hidden{i}" for i in range(len(self.layers) - 1)] + ["out"]
        return {
            f"{name}.{leaf}": np.ascontiguousarray(array)
            for name, layer in zip(names, self.layers, strict=True)
            for leaf, array in zip(("weight", "bias"), layer, strict=True)
        }

    @classmethod
    def from_document(
        cls, labels: LabelSet, document: Mapping[str, Any], arrays: Arrays
    ) -> DenseHead:
        """Return the head that `document` and `to_arrays` described.

        Raises:
            BundleError: an array is missing or shapes do not agree.
        """
        names = [f"hidden{i}" for i in range(int(document["hidden"]))] + ["out"]
        try:
            layers = tuple((arrays[f"{name}.weight"], arrays[f"{name}.bias"]) for name in names)
        except KeyError as error:
            raise BundleError(f"head: expected the array {error}, got none.") from None
        before = layers[0][0].shape[-1]
        for name, (weight, bias) in zip(names, layers, strict=True):
            width = len(labels) if name == "out" else len(bias)
            if weight.shape != (width, before) or bias.shape != (width,):
                raise BundleError(
                    f"head: expected {name}.weight ({width}, {before}) and bias ({width},), got "
                    f"{weight.shape} and {bias.shape}."
                )
            before = width
        return cls(labels, layers)
