"""Fitting ensembles on out-of-fold predictions, and on nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hepar.data import LabelSet
from hepar.errors import FitError
from hepar.evaluate import Predictions, decide, fit_temperature
from hepar.evaluate.calibration_maps import PULL
from hepar.fit.crossval import CrossValidation
from hepar.fit.heads import check_labels, choose_penalty_among, fit_linear_head, sample_weights
from hepar.model import Member, StackHead, VoteHead, log_probabilities
from hepar.registry import nearest

__all__ = ["fit_ensemble"]

Floats = NDArray[np.float64]
_WAYS = ("vote", "stack")
_STACK_PENALTIES = (1.0, 10.0, 100.0, 1000.0)


def fit_ensemble(
    how: str,
    predictions: Sequence[Predictions],
    members: Sequence[Member],
    labels: LabelSet,
    of_folds: Sequence[Sequence[Member]] = (),
) -> CrossValidation:
    """Combine models that were cross-validated on one split.

    What is learned (temperatures; the regression of a stack) is learned from out-of-fold rows. The
    rows of a fold are combined by what the other folds' rows taught; test rows, and new data, by
    what all out-of-fold rows taught.

    Args:
        how: "vote" or "stack".
        predictions: of each member, of the same samples, with their folds.
        members: the shipped heads, in the same order.
        labels: the label set.
        of_folds: the members of folds 0, 1, ..., to be combined, too; empty for no fold's head.

    Returns:
        Predictions in the order of the first member's, and the combined heads.

    Raises:
        FitError: there is no such way, the members were not predicted on the same samples, folds
            and labels, or a label is missing in the other folds of one.
    """
    if how not in _WAYS:
        raise FitError(
            f"ensemble: expected vote or stack, got {how!r}. {nearest(how, _WAYS)}".rstrip()
        )
    if not members or len(members) != len(predictions):
        raise FitError(
            "ensemble: expected predictions of each member, got "
            f"{len(predictions)} tables and {len(members)} members."
        )
    first = predictions[0]
    for table in predictions:
        _check_alike(first, table, labels)
    each = np.stack([table.probabilities for table in predictions])
    known = np.flatnonzero((first.partition == "train") & (first.reference != ""))
    probabilities, heads = np.zeros(each.shape[1:]), {}
    for fold in np.unique(first.fold[first.fold != ""]):
        learn = known[first.fold[known] != fold]
        rows = np.flatnonzero(first.fold == fold)
        own = of_folds[int(fold)] if of_folds else members
        heads[str(fold)] = head = _combiner(how, each, first, learn, own, labels)
        probabilities[rows] = head.combine(each[:, rows])
    final = _combiner(how, each, first, known, members, labels)
    rest = np.flatnonzero(first.fold == "")
    if len(rest):
        probabilities[rest] = final.combine(each[:, rest])
    combined = Predictions(
        sample_id=first.sample_id,
        patient_id=first.patient_id,
        partition=first.partition,
        fold=first.fold,
        reference=first.reference,
        predicted=decide(probabilities, labels.names),
        probabilities=probabilities,
        labels=first.labels,
        unit=first.unit,
    )
    fold_heads = tuple(heads.get(str(fold), final) for fold in range(len(of_folds)))
    return CrossValidation(combined, final, fold_heads)


def _check_alike(first: Predictions, other: Predictions, labels: LabelSet) -> None:
    """Refuse a table of other samples, folds, references or labels, naming a sample."""
    if tuple(other.labels) != labels.names:
        raise FitError(
            f"ensemble: expected members of the labels {list(labels)}, got {list(other.labels)}."
        )
    wish = "ensemble: expected members predicted on the same samples and folds, got"
    mend = "Fit them on one split."
    lone = np.setxor1d(first.sample_id, other.sample_id)
    if len(lone) or len(first) != len(other):
        name = lone[0] if len(lone) else "one sample twice"
        raise FitError(f"{wish} {len(first)} and {len(other)} rows, {name} in one alone. {mend}")
    for column in ("sample_id", "patient_id", "partition", "fold", "reference"):
        ours, theirs = getattr(first, column), getattr(other, column)
        at = np.flatnonzero(ours != theirs)
        if len(at):
            raise FitError(
                f"{wish} {column} {ours[at[0]]} and {theirs[at[0]]} at sample "
                f"{first.sample_id[at[0]]}. {mend}"
            )


def _combiner(
    how: str,
    each: Floats,
    table: Predictions,
    rows: NDArray[np.int64],
    members: Sequence[Member],
    labels: LabelSet,
) -> VoteHead | StackHead:
    """Learn how to combine from some rows alone."""
    codes = np.array([labels.index(name) for name in table.reference[rows].tolist()])
    check_labels(codes, labels)
    patients = table.patient_id[rows].tolist()
    weights = sample_weights(codes, patients, len(labels))
    if how == "vote":
        by_patient = weights * (len(set(patients)) / weights.sum())
        temperatures = [fit_temperature(p[rows], codes, by_patient, PULL) for p in each]
        return VoteHead(labels, tuple(members), np.array(temperatures))
    features = log_probabilities(each[:, rows])
    penalty = choose_penalty_among(_STACK_PENALTIES, features, codes, patients, labels)
    head = fit_linear_head(features, codes, patients, labels, penalty)
    weight = head.weight / head.scale
    return StackHead(labels, tuple(members), weight, head.bias - weight @ head.mean)
