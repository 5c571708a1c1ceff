"""Several heads that answer as one: a soft vote, or a regression on what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.data import LabelSet
from hepar.errors import BundleError
from hepar.evaluate import apply_temperature
from hepar.model.head import (
    HEADS,
    Arrays,
    Head,
    head_from_document,
    head_to_document,
    row_products,
    softmax,
)
from hepar.model.slope import Slope, centring, log_softmax_slope

__all__ = ["Member", "StackHead", "VoteHead", "log_probabilities"]

Floats = NDArray[np.float64]

FLOOR = 1e-6
"""Probabilities below it are heard as it."""


@dataclass(frozen=True)
class Member:
    """One head of an ensemble, and which of the features side by side are its own.

    Attributes:
        columns: (start, stop) of each stretch of columns it sees, in its own order.
        head: from those to probabilities.
    """

    columns: tuple[tuple[int, int], ...]
    head: Head

    def probabilities(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return probabilities (n, k) from all features (n, d)."""
        return self.head.probabilities(self._own(features))

    def slope(self, features: NDArray[np.floating[Any]]) -> Slope:
        """Return the derivative of its centred log-probabilities by all features (n, d)."""
        inner = self.head.slope(self._own(features))
        shape = (*inner.gradient.shape[:2], features.shape[1])
        gradient, zero = np.zeros(shape), np.zeros(shape)
        at = 0
        for start, stop in self.columns:
            gradient[..., start:stop] += inner.gradient[..., at : at + stop - start]
            zero[..., start:stop] += inner.zero[..., at : at + stop - start]
            at += stop - start
        return Slope(gradient, zero)

    def _own(self, features: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        return np.concatenate([features[:, start:stop] for start, stop in self.columns], axis=1)


def log_probabilities(each: Floats) -> Floats:
    """Return centred log-probabilities (n, members * k) of members (members, n, k)."""
    logs = np.log(np.maximum(each, FLOOR))
    centred = logs - logs.mean(axis=2, keepdims=True)
    return np.concatenate(list(centred), axis=1)


def _total(slopes: list[Slope]) -> Slope:
    total = slopes[0]
    for slope in slopes[1:]:
        total = total + slope
    return total


def _documents(members: tuple[Member, ...]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    documents, arrays = [], {}
    for number, member in enumerate(members):
        document, own = head_to_document(member.head)
        documents.append({"columns": [list(pair) for pair in member.columns], "head": document})
        arrays.update({f"{number}/{name}": array for name, array in own.items()})
    return documents, arrays


def _members(
    labels: LabelSet, documents: list[Mapping[str, Any]], arrays: Arrays
) -> tuple[Member, ...]:
    members = []
    for number, document in enumerate(documents):
        prefix = f"{number}/"
        own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        columns = tuple((int(start), int(stop)) for start, stop in document["columns"])
        head = head_from_document(labels, document["head"], own)
        width = sum(stop - start for start, stop in columns)
        if width != head.n_features or any(start < 0 or stop < start for start, stop in columns):
            raise BundleError(
                f"head: expected columns for the {head.n_features} features of member {number}, "
                f"got {[list(pair) for pair in columns]}. Fit the ensemble again."
            )
        members.append(Member(columns, head))
    if not members:
        raise BundleError("head: expected members of the ensemble, got none. Fit it again.")
    return tuple(members)


def _width(members: tuple[Member, ...]) -> int:
    return max(stop for member in members for _, stop in member.columns)


def _own(arrays: Arrays, name: str, shape: tuple[int, ...]) -> Floats:
    if name not in arrays or arrays[name].shape != shape:
        got = arrays[name].shape if name in arrays else "none"
        raise BundleError(f"head: expected the array {name!r} of shape {shape}, got {got}.")
    return np.asarray(arrays[name], np.float64)


@HEADS.add("vote")
@dataclass(frozen=True)
class VoteHead:
    """The mean of the members' probabilities, each calibrated by a temperature first.

    Attributes:
        labels: the classes, in order.
        members: who votes.
        temperatures: (members,).
    """

    labels: LabelSet
    members: tuple[Member, ...]
    temperatures: Floats

    @property
    def n_features(self) -> int:
        """Length of the features it takes."""
        return _width(self.members)

    def document(self) -> dict[str, Any]:
        """Return the members' documents."""
        return {"members": _documents(self.members)[0]}

    def probabilities(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return probabilities (n, k) from features (n, d)."""
        each = np.stack([member.probabilities(features) for member in self.members])
        return self.combine(each)

    def combine(self, each: Floats) -> Floats:
        """Return probabilities (n, k) from those of the members (members, n, k)."""
        calibrated = [
            apply_temperature(p, float(t)) for p, t in zip(each, self.temperatures, strict=True)
        ]
        return np.asarray(np.mean(calibrated, axis=0))

    def slope(self, features: NDArray[np.floating[Any]]) -> Slope:
        """Return the derivative of the centred log-probabilities, weighted by votes."""
        each = np.stack([member.probabilities(features) for member in self.members])
        calibrated = np.stack(
            [apply_temperature(p, float(t)) for p, t in zip(each, self.temperatures, strict=True)]
        )
        votes = calibrated / np.maximum(calibrated.sum(axis=0), np.finfo(float).tiny)
        slopes = [
            member.slope(features).through(
                vote[:, :, None] * log_softmax_slope(own) / float(temperature)
            )
            for member, own, vote, temperature in zip(
                self.members, calibrated, votes, self.temperatures, strict=True
            )
        ]
        return _total(slopes).through(centring(len(self.labels)))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, in C order."""
        return {**_documents(self.members)[1], "temperatures": self.temperatures}

    @classmethod
    def from_document(
        cls, labels: LabelSet, document: Mapping[str, Any], arrays: Arrays
    ) -> VoteHead:
        """Return the head that `document` and `to_arrays` described.

        Raises:
            BundleError: an array is missing or shapes do not agree.
        """
        members = _members(labels, document["members"], arrays)
        return cls(labels, members, _own(arrays, "temperatures", (len(members),)))


@HEADS.add("stack")
@dataclass(frozen=True)
class StackHead:
    """Multinomial logistic regression on the members' log-probabilities.

    Attributes:
        labels: the classes, in order.
        members: whose answers are combined.
        weight: (k, members * k).
        bias: (k,).
    """

    labels: LabelSet
    members: tuple[Member, ...]
    weight: Floats
    bias: Floats

    @property
    def n_features(self) -> int:
        """Length of the features it takes."""
        return _width(self.members)

    def document(self) -> dict[str, Any]:
        """Return the members' documents."""
        return {"members": _documents(self.members)[0]}

    def probabilities(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return probabilities (n, k) from features (n, d)."""
        return self.combine(np.stack([m.probabilities(features) for m in self.members]))

    def combine(self, each: Floats) -> Floats:
        """Return probabilities (n, k) from those of the members (members, n, k)."""
        return softmax(row_products(log_probabilities(each), self.weight) + self.bias)

    def slope(self, features: NDArray[np.floating[Any]]) -> Slope:
        """Return the derivative of the centred log-probabilities at features (n, d)."""
        k = len(self.labels)
        slopes = []
        for number, member in enumerate(self.members):
            own = member.probabilities(features)
            heard = (own > FLOOR)[:, :, None] * log_softmax_slope(own)
            weight = self.weight[:, number * k : (number + 1) * k] @ centring(k)
            slopes.append(member.slope(features).through(weight @ heard))
        return _total(slopes).through(centring(k))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, in C order."""
        own = {"weight": self.weight, "bias": self.bias}
        return {**_documents(self.members)[1], **own}

    @classmethod
    def from_document(
        cls, labels: LabelSet, document: Mapping[str, Any], arrays: Arrays
    ) -> StackHead:
        """Return the head that `document` and `to_arrays` described.

        Raises:
            BundleError: an array is missing or shapes do not agree.
        """
        members = _members(labels, document["members"], arrays)
        k = len(labels)
        weight = _own(arrays, "weight", (k, k * len(members)))
        return cls(labels, members, weight, _own(arrays, "bias", (k,)))
