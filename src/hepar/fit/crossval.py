"""Folds of patients become heads, and out-of-fold predictions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepar.config import HeadConfig
from hepar.data import LabelSet, Sample
from hepar.evaluate import Predictions, decide
from hepar.fit.heads import fit_head
from hepar.model import Head, attention_over_views, mean_over_views
from hepar.progress import track
from hepar.split import Split

__all__ = ["CrossValidation", "cross_validate", "to_predictions"]


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What cross-validation leaves.

    Attributes:
        predictions: a row per sample; train rows by a head that never saw the patient, test rows by
            the final head.
        head: fitted on every train patient; the one that ships.
        fold_heads: of the folds, in their order.
    """

    predictions: Predictions
    head: Head
    fold_heads: tuple[Head, ...] = ()


def to_predictions(
    samples: Sequence[Sample],
    split: Split,
    labels: LabelSet,
    probabilities: NDArray[np.float64],
    attention: NDArray[np.float64] | None = None,
) -> Predictions:
    """Return the table of predictions that probabilities (n, k) of samples make.

    Args:
        samples: n samples.
        split: places every patient.
        labels: k labels.
        probabilities: (n, k).
        attention: (n,) of a head that weighs slices.
    """
    places = [split.of(sample) for sample in samples]
    return Predictions(
        sample_id=np.array([sample.sample_id for sample in samples]),
        patient_id=np.array([sample.patient_id for sample in samples]),
        partition=np.array([place.partition for place in places]),
        fold=np.array(["" if place.fold is None else str(place.fold) for place in places]),
        reference=np.array([sample.label for sample in samples]),
        predicted=decide(probabilities, labels.names),
        probabilities=probabilities,
        labels=labels.names,
        unit=split.unit,
        attention=attention,
    )


def cross_validate(
    features: NDArray[np.float32],
    samples: Sequence[Sample],
    split: Split,
    labels: LabelSet,
    config: HeadConfig,
    unseen: NDArray[np.float32] | None = None,
) -> CrossValidation:
    """Fit a head per fold and one on all train patients, and predict every sample once.

    A head learns from every view of a sample; a prediction is the mean over the views.

    Args:
        features: (n, d), or (n, views, d), a row per sample.
        samples: n labelled samples.
        split: places every patient.
        labels: the label set.
        config: kind of head, candidates, inner folds.
        unseen: features of the samples as a new patient's would be, to predict from; None for the
            same.

    Returns:
        Predictions in the order of `samples`, and the final head.

    Raises:
        FitError: the training part of a fold lacks a label.
    """
    import sklearn.linear_model  # noqa: F401 (here, once, and not by several threads at a time)
    import sklearn.svm  # noqa: F401
    from threadpoolctl import threadpool_limits

    seen = features if features.ndim == 3 else features[:, np.newaxis]
    new = seen if unseen is None else unseen
    places = [split.of(sample) for sample in samples]
    fold = np.array([-1 if place.fold is None else place.fold for place in places])
    codes = np.array([labels.index(sample.label) for sample in samples])
    patients = np.array([sample.patient_id for sample in samples])
    probabilities = np.zeros((len(samples), len(labels)))
    attention = np.zeros(len(samples)) if config.kind == "attention" else None
    views = seen.shape[1]

    def fit(held_out: int) -> Head:
        train = np.flatnonzero((fold != held_out) & (fold >= 0))
        return fit_head(
            seen[train].reshape(len(train) * views, -1),
            np.repeat(codes[train], views),
            np.repeat(patients[train], views).tolist(),
            labels,
            config,
        )

    folds = [*range(split.folds), -1]
    heads = []
    # One BLAS thread a fold: matrices this small take longer to share out than to multiply.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        for held_out, head in zip(
            folds, track(pool.map(fit, folds), "fit folds", total=len(folds)), strict=True
        ):
            out = np.flatnonzero(fold == held_out)
            if len(out):
                probabilities[out] = mean_over_views(head, new[out])
                if attention is not None:
                    attention[out] = attention_over_views(head, new[out])
            heads.append(head)
    predictions = to_predictions(samples, split, labels, probabilities, attention)
    return CrossValidation(predictions, heads[-1], tuple(heads[:-1]))
