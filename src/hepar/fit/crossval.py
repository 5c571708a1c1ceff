"""Folds of patients become heads, and out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepar.config import HeadConfig
from hepar.data import LabelSet, Sample
from hepar.evaluate import Predictions, decide
from hepar.fit.heads import choose_penalty, fit_linear_head
from hepar.model.head import LinearHead
from hepar.progress import track
from hepar.split import Split

__all__ = ["CrossValidation", "cross_validate"]


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What cross-validation leaves.

    Attributes:
        predictions: a row per sample; train rows by a head that never saw the patient, test rows by
            the final head.
        head: fitted on every train patient; the one that ships.
        penalties: the L2 strength chosen in each fold, by fold.
    """

    predictions: Predictions
    head: LinearHead
    penalties: tuple[float, ...]


def _fit(
    features: NDArray[np.float32],
    samples: Sequence[Sample],
    labels: LabelSet,
    config: HeadConfig,
) -> LinearHead:
    codes = np.array([labels.index(sample.label) for sample in samples])
    patients = [sample.patient_id for sample in samples]
    penalty = choose_penalty(features, codes, patients, labels, config)
    return fit_linear_head(features, codes, patients, labels, penalty)


def cross_validate(
    features: NDArray[np.float32],
    samples: Sequence[Sample],
    split: Split,
    labels: LabelSet,
    config: HeadConfig,
) -> CrossValidation:
    """Fit a head per fold and one on all train patients, and predict every sample once.

    Args:
        features: (n, d), a row per sample.
        samples: n labelled samples.
        split: places every patient.
        labels: the label set.
        config: candidates and inner folds.

    Returns:
        Predictions in the order of `samples`, the final head, the penalties.

    Raises:
        FitError: the training part of a fold lacks a label.
    """
    places = [split.of(sample) for sample in samples]
    fold = np.array([-1 if place.fold is None else place.fold for place in places])
    probabilities = np.zeros((len(samples), len(labels)))
    penalties = []
    for held_out in track(range(split.folds), "fit folds"):
        train = np.flatnonzero((fold != held_out) & (fold >= 0))
        out = np.flatnonzero(fold == held_out)
        head = _fit(features[train], [samples[int(i)] for i in train], labels, config)
        probabilities[out] = head.probabilities(features[out])
        penalties.append(head.penalty)
    train = np.flatnonzero(fold >= 0)
    final = _fit(features[train], [samples[int(i)] for i in train], labels, config)
    test = np.flatnonzero(fold < 0)
    if len(test):
        probabilities[test] = final.probabilities(features[test])
    predictions = Predictions(
        sample_id=np.array([sample.sample_id for sample in samples]),
        patient_id=np.array([sample.patient_id for sample in samples]),
        partition=np.array([place.partition for place in places]),
        fold=np.array(["" if place.fold is None else str(place.fold) for place in places]),
        reference=np.array([sample.label for sample in samples]),
        predicted=decide(probabilities, labels.names),
        probabilities=probabilities,
        labels=labels.names,
        patients_known=split.unit == "patient",
    )
    return CrossValidation(predictions, final, tuple(penalties))
