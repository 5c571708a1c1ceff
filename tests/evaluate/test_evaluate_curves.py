"""Bands around curves: whose they are, when there is none, and that they hold what they promise."""

from __future__ import annotations

import dataclasses
from statistics import NormalDist

import numpy as np
import pytest

from hepar.config import EvaluateConfig
from hepar.evaluate import Predictions, decide, measure_curves, precision_recall_curve

LABELS = ("normal", "malignant")


@pytest.fixture
def make():
    """Return predictions of n patients of each label, told apart by so many sigmas."""

    def predictions(n, apart=1.2, slices=1, seed=0):
        draw = np.random.default_rng(seed)
        positive = np.repeat([False, True], n * slices)
        patients = np.repeat(np.arange(2 * n), slices)
        score = draw.normal(size=2 * n)[patients] + apart * positive
        p = 1 / (1 + np.exp(-score))
        probabilities = np.stack([1 - p, p], axis=1)
        return Predictions(
            sample_id=np.array([f"s{i:04d}" for i in range(len(p))]),
            patient_id=np.array([f"P{i:03d}" for i in patients]),
            partition=np.full(len(p), "train"),
            fold=np.zeros(len(p), int),
            reference=np.where(positive, "malignant", "normal"),
            predicted=decide(probabilities, LABELS),
            probabilities=probabilities,
            labels=LABELS,
            level="slice",
        )

    return predictions


CONFIG = EvaluateConfig(resamples=300)


def test_a_band_holds_its_curve_and_is_of_patients_not_of_slices(make):
    alone, together = (measure_curves(make(20, slices=n), 1, CONFIG) for n in (1, 20))
    for curves in (alone, together):
        low, high = curves.roc_band
        at = np.interp(curves.grid, *curves.roc)
        assert (low - 1e-9 <= at).all()
        assert (at <= high + 1e-9).all()
        low, high = curves.average_precision_interval
        assert low < curves.average_precision < high
    np.testing.assert_allclose(alone.roc_band, together.roc_band)
    np.testing.assert_allclose(alone.precision_band, together.precision_band)


def test_a_band_holds_the_sensitivity_of_other_cohorts(make):
    """Of two normal distributions, at a specificity of 0.8, with 40 patients of each label."""
    truth = 1 - NormalDist(1.2).cdf(NormalDist().inv_cdf(0.8))
    held = []
    for seed in range(60):
        low, high = measure_curves(make(40, seed=seed), 1, CONFIG).roc_band[:, 20]
        held.append(low <= truth <= high)
    assert 0.85 <= np.mean(held) <= 1.0


@pytest.mark.parametrize(
    ("n", "apart", "changes"),
    [(9, 1.2, {}), (20, 30.0, {}), (20, 1.2, {"unit": "image"})],
    ids=["few patients", "no error", "unknown patients"],
)
def test_there_is_no_band_where_it_would_promise_too_much(make, n, apart, changes):
    curves = measure_curves(dataclasses.replace(make(n, apart), **changes), 1, CONFIG)
    assert len(curves.grid) == 0
    assert curves.average_precision_interval is None
    assert len(curves.roc[0]) > 2


def test_of_a_label_that_all_have_there_is_no_curve(make):
    table = make(12)
    assert measure_curves(table.select(table.reference == "malignant"), 1, CONFIG) is None


def test_precision_of_a_tie_is_that_of_all_it_holds():
    recall, precision = precision_recall_curve(
        np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False])
    )
    assert recall.tolist() == [0.5, 1.0, 1.0]
    assert precision.tolist() == [1.0, pytest.approx(2 / 3), 0.5]
