"""Fitting ensembles on out-of-fold predictions, and on nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hepar.data import LabelSet
from hepar.errors import FitError
from hepar.evaluate import Predictions, decide, fit_temperature
from hepar.fit.crossval import CrossValidation
from hepar.fit.heads import choose_penalty_among, fit_linear_head, sample_weights
from hepar.model import Member, StackHead, VoteHead, log_probabilities

__all__ = ["fit_ensemble"]

Floats = NDArray[np.float64]
_STACK_PENALTIES = (1.0, 10.0, 100.0, 1000.0)


def fit_ensemble(
    how: str, predictions: Sequence[Predictions], members: Sequence[Member], labels: LabelSet
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

    Returns:
        Predictions in the order of the first member's, and the combined head.

    Raises:
        FitError: the members were not predicted on the same samples and folds, or a label is
            missing in the other folds of one.
    """
    first = predictions[0]
    for other in predictions[1:]:
        same = len(other) == len(first) and (
            (other.sample_id == first.sample_id).all() and (other.fold == first.fold).all()
        )
        if not same:
            raise FitError(
                "ensemble: expected members predicted on the same samples and folds, got others. "
                "Fit them on one split."
            )
    each = np.stack([table.probabilities for table in predictions])
    known = np.flatnonzero((first.partition == "train") & (first.reference != ""))
    probabilities = np.zeros(each.shape[1:])
    for fold in np.unique(first.fold[known]):
        learn = known[first.fold[known] != fold]
        rows = np.flatnonzero(first.fold == fold)
        head = _combiner(how, each, first, learn, members, labels)
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
        patients_known=first.patients_known,
    )
    return CrossValidation(combined, final)


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
    if len(np.unique(codes)) < len(labels):
        raise FitError(
            "ensemble: expected every label in the other folds of each fold. Use fewer folds."
        )
    patients = table.patient_id[rows].tolist()
    weights = sample_weights(codes, patients, len(labels))
    if how == "vote":
        temperatures = [fit_temperature(p[rows], codes, weights) for p in each]
        return VoteHead(labels, tuple(members), np.array(temperatures))
    features = log_probabilities(each[:, rows])
    penalty = choose_penalty_among(_STACK_PENALTIES, features, codes, patients, labels)
    head = fit_linear_head(features, codes, patients, labels, penalty)
    weight = head.weight / head.scale
    return StackHead(labels, tuple(members), weight, head.bias - weight @ head.mean)
