"""Net benefit against dcurves, on the cohort of men that its authors publish with it."""

import numpy as np
import pytest

from hepar.config import EvaluateConfig
from hepar.evaluate import Predictions, decide, decision_curve

LABELS = ("benign", "malignant")
THRESHOLDS = (0.05, 0.10, 0.20, 0.35, 0.50)


def cohort(found, alarmed, scores, n_with=105, n_without=645):
    """Men by how many with cancer, and without, reach each of several rising scores."""
    steps = [np.diff([*reversed(counts), 0], prepend=0)[:-1] for counts in (found, alarmed)]
    reached = [np.repeat(scores[::-1], step) for step in steps]
    score = np.concatenate(
        [
            np.pad(some, (0, n - len(some)), constant_values=0.001)
            for some, n in zip(reached, (n_with, n_without), strict=True)
        ]
    )
    n = n_with + n_without
    ids = np.array([f"p{i}" for i in range(n)])
    probabilities = np.stack([1 - score, score], axis=1)
    return Predictions(
        sample_id=ids,
        patient_id=ids,
        partition=np.full(n, "test"),
        fold=np.full(n, ""),
        reference=np.repeat(LABELS[::-1], (n_with, n_without)),
        predicted=decide(probabilities, LABELS),
        probabilities=probabilities,
        labels=LABELS,
        level="patient",
    )


def test_net_benefits_are_those_dcurves_finds():
    """750 men, 105 cancers: df_binary of dcurves 1.1.7, columns cancerpredmarker and famhistory.

    Counts of men at each threshold and net benefits as `dcurves.dca` printed them.
    """
    marker = cohort((96, 87, 75, 57, 33), (320, 193, 98, 36, 17), np.array(THRESHOLDS) + 0.01)
    curve = decision_curve(marker, THRESHOLDS, EvaluateConfig(resamples=10))
    theirs = [0.105544, 0.087407, 0.067333, 0.050154, 0.021333]
    assert curve["model"] == pytest.approx(theirs, abs=1e-6)
    everybody = [0.094737, 0.044444, -0.075000, -0.323077, -0.720000]
    assert curve["all"] == pytest.approx(everybody, abs=1e-6)
    family = cohort((24,), (91,), np.array([1.0]))
    curve = decision_curve(family, THRESHOLDS, EvaluateConfig(resamples=10))
    theirs = [0.025614, 0.018519, 0.001667, -0.033333, -0.089333]
    assert curve["model"] == pytest.approx(theirs, abs=1e-6)
