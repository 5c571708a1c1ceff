"""Metrics as ratios of weighted counts, for one weighting of the patients or thousands at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hepar.errors import EvaluateError
from hepar.evaluate.predictions import Predictions
from hepar.registry import Registry

__all__ = [
    "METRICS",
    "Metric",
    "PatientCounts",
    "Tally",
    "count_by_patient",
    "values",
    "why_undefined",
]

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Rows = Literal["all", "reference", "other", "predicted"]

_EMPTY: dict[Rows, str] = {
    "all": "no {units}",
    "reference": "no {units} with reference {label!r}",
    "other": "no {units} with a reference other than {label!r}",
    "predicted": "no {units} predicted as {label!r}",
}
_BLOCK = 4_000_000
"""Numbers held at once while weights are spread from patients to samples (32 MB)."""


@dataclass(frozen=True)
class Tally:
    """Weighted counts; the leading axes (...) are weightings of the patients.

    Attributes:
        confusion: (..., k, k) weight by reference (row) and predicted label (column).
        wins: (..., k) weight of the pairs of one sample with the label and one without in which the
            first has the higher probability of the label; a tie counts one half.
    """

    confusion: Floats
    wins: Floats

    @property
    def hits(self) -> Floats:
        """Weight predicted as the label whose reference is the label, (..., k)."""
        return np.diagonal(self.confusion, axis1=-2, axis2=-1)

    @property
    def reference(self) -> Floats:
        """Weight whose reference is the label, (..., k)."""
        return np.asarray(self.confusion.sum(axis=-1))

    @property
    def predicted(self) -> Floats:
        """Weight predicted as the label, (..., k)."""
        return np.asarray(self.confusion.sum(axis=-2))

    @property
    def total(self) -> Floats:
        """Weight of everything, (..., 1)."""
        return np.asarray(self.confusion.sum(axis=(-2, -1)))[..., None]


@dataclass(frozen=True)
class Metric:
    """One measure of how good predictions are.

    Attributes:
        title: its name in a report.
        meaning: one plain sentence.
        ratio: Tally -> numerator and denominator, each (..., k) for a metric of each label against
            the rest, or (..., 1) for one of all labels together.
        interval: at patient level "wilson" for a proportion of patients, "wilson-mean" for the mean
            of such over labels, else "bootstrap"; at slice level it is always the bootstrap.
        rests_on: the rows it is computed from; it is undefined where they are missing.
        per_label: False for a metric of all labels together.
        direction: whether a higher or a lower value is better.
    """

    title: str
    meaning: str
    ratio: Callable[[Tally], tuple[Floats, Floats]]
    interval: Literal["wilson", "wilson-mean", "bootstrap"]
    rests_on: tuple[Rows, ...]
    per_label: bool = True
    direction: Literal["higher", "lower"] = "higher"


METRICS: Registry[Metric] = Registry("metric")


def _metric(
    name: str,
    interval: Literal["wilson", "wilson-mean", "bootstrap"],
    *rests_on: Rows,
    title: str = "",
    per_label: bool = True,
) -> Callable[[Callable[[Tally], tuple[Floats, Floats]]], Callable[..., tuple[Floats, Floats]]]:
    def register(
        ratio: Callable[[Tally], tuple[Floats, Floats]],
    ) -> Callable[..., tuple[Floats, Floats]]:
        meaning = (ratio.__doc__ or "").strip()
        METRICS.add(name)(
            Metric(title or name, meaning, ratio, interval, rests_on, per_label=per_label)
        )
        return ratio

    return register


@_metric(
    "balanced_accuracy", "wilson-mean", "reference", title="balanced accuracy", per_label=False
)
def _balanced_accuracy(t: Tally) -> tuple[Floats, Floats]:
    """The mean of the sensitivities of all labels: a rare label counts as much as a common one."""
    shares = _divide(t.hits, t.reference).sum(axis=-1, keepdims=True)
    return shares, np.full_like(shares, t.confusion.shape[-1])


@_metric("accuracy", "wilson", "all", per_label=False)
def _accuracy(t: Tally) -> tuple[Floats, Floats]:
    """The share predicted as their reference; it flatters where one label is common."""
    return np.asarray(t.hits.sum(axis=-1, keepdims=True)), t.total


@_metric("auroc", "bootstrap", "reference", "other", title="AUROC")
def _auroc(t: Tally) -> tuple[Floats, Floats]:
    """How often one with the label scores above one without it; 0.5 is a coin."""
    return t.wins, t.reference * (t.total - t.reference)


@_metric("sensitivity", "wilson", "reference")
def _sensitivity(t: Tally) -> tuple[Floats, Floats]:
    """Of those whose reference is the label, the share predicted as it."""
    return t.hits, t.reference


@_metric("specificity", "wilson", "other")
def _specificity(t: Tally) -> tuple[Floats, Floats]:
    """Of those whose reference is another label, the share not predicted as this one."""
    return t.total - t.reference - t.predicted + t.hits, t.total - t.reference


@_metric("precision", "wilson", "predicted", title="precision (PPV)")
def _precision(t: Tally) -> tuple[Floats, Floats]:
    """Of those predicted as the label, the share whose reference it is; falls with prevalence."""
    return t.hits, t.predicted


@_metric("f1", "bootstrap", "reference", "predicted", title="F1")
def _f1(t: Tally) -> tuple[Floats, Floats]:
    """The harmonic mean of sensitivity and precision."""
    return 2 * t.hits, t.reference + t.predicted


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    """Return the quotient, NaN (inside this room only) where the denominator is 0."""
    out = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.asarray(np.divide(numerator, denominator, out=out, where=denominator > 0))


def values(metric: Metric, tally: Tally) -> Floats:
    """Return a metric for each weighting: (..., 1), or (..., k + 1) with the macro mean last.

    NaN stands for undefined. The macro mean is undefined where one label is: leaving labels
    out of a mean makes the means of two cohorts two different things.
    """
    each = _divide(*metric.ratio(tally))
    return np.append(each, each.mean(axis=-1, keepdims=True), axis=-1) if metric.per_label else each


@dataclass(frozen=True)
class _Ranks:
    """Scores of one label, sorted once, so that a resample costs one cumulative sum.

    Attributes:
        with_owner: patient of each sample with the label, by rising score.
        without_owner: patient of each sample without it, by rising score.
        below: for each sample with the label, how many without it score lower.
        upto: the same, lower or equal.
    """

    with_owner: Indices
    without_owner: Indices
    below: Indices
    upto: Indices

    def wins(self, weights: Floats) -> Floats:
        """Return the weight of the pairs in the right order, shape (b,), for (b, P) weights."""
        without = np.take(weights, self.without_owner, axis=1)
        reached = np.zeros((len(weights), without.shape[1] + 1))
        np.cumsum(without, axis=1, out=reached[:, 1:])
        beaten = np.take(reached, self.below, axis=1)
        beaten += np.take(reached, self.upto, axis=1)
        each = np.take(weights, self.with_owner, axis=1)
        return np.asarray(np.einsum("bi,bi->b", each, beaten) / 2)


@dataclass(frozen=True)
class PatientCounts:
    """Everything the metrics need, by patient, so that patients can be weighted.

    Attributes:
        patients: (P,) patient ids, sorted.
        cells: (P, k, k) rows of each patient by reference and predicted label.
        ranks: the sorted scores of each label.
        labels: k labels.
    """

    patients: NDArray[np.str_]
    cells: Floats
    ranks: tuple[_Ranks, ...]
    labels: tuple[str, ...]

    def tally(self, weights: Floats | None = None) -> Tally:
        """Return the weighted counts.

        Args:
            weights: (b, P) weight of each patient, such as how often a resample drew it; None for
                one of each.

        Returns:
            The counts, with a leading axis of b; without one where `weights` is None.
        """
        if weights is None:
            alone = self.tally(np.ones((1, len(self.patients))))
            return Tally(alone.confusion[0], alone.wins[0])
        b, k = len(weights), len(self.labels)
        confusion = weights @ self.cells.reshape(len(self.patients), k * k)
        wins = np.empty((b, k))
        step = max(1, _BLOCK // max(1, int(self.cells.sum())))
        for start in range(0, b, step):
            some = weights[start : start + step]
            for column, ranks in enumerate(self.ranks):
                wins[start : start + step, column] = ranks.wins(some)
        return Tally(confusion.reshape(b, k, k), wins)

    def _cells_of(self, kind: Rows, label: int | None) -> NDArray[np.bool_]:
        """Return which cells of a confusion matrix hold the rows of a kind, shape (k, k)."""
        own = np.arange(len(self.labels)) == label
        shape = (len(own), len(own))
        if kind == "all" or label is None:
            return np.ones(shape, dtype=np.bool_)
        if kind == "predicted":
            return np.broadcast_to(own[None, :], shape)
        return np.broadcast_to((own if kind == "reference" else ~own)[:, None], shape)

    def rows(self, kind: Rows, label: int | None) -> Floats:
        """Return how many rows of a kind each patient has, shape (P,)."""
        return np.asarray(self.cells[:, self._cells_of(kind, label)].sum(axis=1))

    def size(self, metric: Metric, label: int | None) -> tuple[int, int]:
        """Return how many patients and rows a metric of a label is computed from."""
        cells = np.logical_or.reduce([self._cells_of(kind, label) for kind in metric.rests_on])
        counted = self.cells[:, cells].sum(axis=1)
        return int((counted > 0).sum()), int(counted.sum())

    def n_patients(self, kind: Rows, label: int | None) -> int:
        """Return how many patients have rows of a kind."""
        return int((self.rows(kind, label) > 0).sum())

    def fewest_patients(self, metric: Metric, label: int | None) -> int:
        """Return the patients behind the weakest part of a metric; all labels where it is None."""
        several = range(len(self.labels)) if label is None else [label]
        return min(self.n_patients(kind, c) for kind in metric.rests_on for c in several)


def count_by_patient(predictions: Predictions) -> PatientCounts:
    """Count once what every resample reuses; the order of the rows does not matter.

    Raises:
        EvaluateError: a row has no reference.
    """
    reference, predicted = predictions.reference_index, predictions.predicted_index
    if (reference < 0).any():
        row = int(np.argmax(reference < 0))
        raise EvaluateError(
            f"{str(predictions.sample_id[row])!r}: expected a reference to measure against, "
            "got none. Leave out unlabelled rows."
        )
    k = len(predictions.labels)
    patients, owner = np.unique(predictions.patient_id, return_inverse=True)
    flat = (owner * k + reference) * k + predicted
    cells = np.bincount(flat, minlength=len(patients) * k * k).astype(np.float64)
    ranks = []
    for label in range(k):
        score = predictions.probabilities[:, label]
        order = np.argsort(score, kind="stable")
        own = reference[order] == label
        having, lacking = score[order][own], score[order][~own]
        below = np.searchsorted(lacking, having, side="left")
        upto = np.searchsorted(lacking, having, side="right")
        ranks.append(_Ranks(owner[order][own], owner[order][~own], below, upto))
    return PatientCounts(
        patients, cells.reshape(len(patients), k, k), tuple(ranks), predictions.labels
    )


def why_undefined(metric: Metric, counts: PatientCounts, label: int | None, units: str) -> str:
    """Say in words which rows a metric lacks.

    Args:
        metric: an undefined one.
        counts: what it was computed from.
        label: position of the label, None for a metric of all labels or a macro mean.
        units: "patients" or "slices".
    """
    several = range(len(counts.labels)) if label is None else [label]
    reasons = [
        _EMPTY[kind].format(units=units, label=counts.labels[c])
        for c in several
        for kind in metric.rests_on
        if not counts.rows(kind, c).any()
    ]
    return " and ".join(dict.fromkeys(reasons))
