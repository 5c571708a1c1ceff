from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate import DECISION_THRESHOLDS, decision_curve
from hepar.evaluate.intervals import resamples

FEW = EvaluateConfig(resamples=200)
LABELS = ("benign", "malignant")


def patients(make, n=100, seed=0, **changes):
    rng = np.random.default_rng(seed)
    has = np.arange(n) % 2 == 1
    score = 1 / (1 + np.exp(-rng.normal(np.where(has, 1.0, -1.0))))
    return make(np.where(has, *reversed(LABELS)), score, labels=LABELS, **changes)


def test_net_benefit_is_that_of_the_definition(make):
    """Ten patients, counted by hand: at 0.25 a false positive costs a third of a true one."""
    reference = ["malignant"] * 4 + ["benign"] * 6
    score = [0.9, 0.6, 0.3, 0.1, 0.8, 0.3, 0.2, 0.1, 0.1, 0.05]
    curve = decision_curve(make(reference, score, labels=LABELS), [0.25, 0.5], FEW)
    assert curve["model"] == pytest.approx([(3 - 2 / 3) / 10, (2 - 1) / 10])
    assert curve["all"] == pytest.approx([(4 - 6 / 3) / 10, (4 - 6) / 10])
    assert curve["low"] is None  # four patients are too few for a band


def test_a_useless_model_is_worth_no_more_than_treating_all(make):
    table = make(["benign", "malignant"] * 50, np.full(100, 0.5), labels=LABELS)
    curve = decision_curve(table, [0.1, 0.4], FEW)
    assert curve["model"] == pytest.approx(curve["all"])
    assert all(
        a <= m <= b for a, m, b in zip(curve["low"], curve["model"], curve["high"], strict=True)
    )


def test_thresholds_outside_0_to_1_are_refused(make):
    with pytest.raises(
        EvaluateError, match="expected rows with a reference and thresholds between 0 and 1"
    ):
        decision_curve(patients(make), [0.0, 0.5], FEW)


def test_no_patients_with_a_reference_are_refused(make):
    table = patients(make)
    with pytest.raises(EvaluateError, match="decision curve: expected rows with a reference"):
        decision_curve(replace(table, reference=[""] * 100), DECISION_THRESHOLDS, FEW)


def test_copies_of_a_patients_slices_do_not_narrow_the_band(make):
    table = patients(make)
    rows = np.repeat(np.arange(100), 5)
    slices = make(
        table.reference[rows],
        table.probabilities[rows],
        patients=table.patient_id[rows],
        labels=LABELS,
    )
    once, five = (decision_curve(t, DECISION_THRESHOLDS, FEW) for t in (table, slices))
    for name in ("model", "low", "high", "all"):
        np.testing.assert_allclose(once[name], five[name], atol=1e-12)


def test_images_of_unknown_patients_and_few_patients_get_no_band(make):
    curve = decision_curve(patients(make, unit="image"), [0.2], FEW)
    assert (curve["low"], curve["high"]) == (None, None)
    assert curve["no_interval"] == "patients are unknown, and images of one are alike"
    few = decision_curve(patients(make, 18), [0.2], FEW)
    assert few["no_interval"].startswith("rests on 9 patients with or without 'malignant'")


def test_two_patients_have_a_curve_without_a_band(make):
    curve = decision_curve(patients(make, 2), DECISION_THRESHOLDS, FEW)
    assert len(curve["model"]) == len(DECISION_THRESHOLDS) == 99
    assert curve["low"] is None


def test_the_order_of_the_rows_does_not_matter(make):
    table = patients(make)
    turned = table.select(np.arange(100)[::-1])
    first, second = (decision_curve(t, DECISION_THRESHOLDS, FEW) for t in (table, turned))
    np.testing.assert_allclose(first["model"], second["model"], atol=1e-12)
    np.testing.assert_allclose(first["low"], second["low"], atol=1e-12)


def test_a_patient_at_the_threshold_is_acted_on(make):
    reference, score = ["malignant", "benign", "benign", "benign"], [0.5, 0.25, 0.2, 0.1]
    curve = decision_curve(make(reference, score, labels=LABELS), [0.25, 0.5], FEW)
    assert curve["model"] == pytest.approx([(1 - 1 / 3) / 4, 1 / 4])


def test_the_band_is_that_of_resampling_patients_one_by_one(make):
    """Patients of one to four slices each, mixed, counted in a plain loop."""
    rng = np.random.default_rng(0)
    names = [f"p{i:02d}" for i in range(24)]
    owners = rng.permutation(np.repeat(names, np.arange(24) % 4 + 1))
    score = rng.random(len(owners))
    reference = np.where(rng.random(len(owners)) < score, *reversed(LABELS))
    table = make(reference, score, patients=owners, labels=LABELS)
    config = EvaluateConfig(resamples=40)
    curve = decision_curve(table, [0.3], config)
    worth = (score >= 0.3) * np.where(reference == "malignant", 1, -0.3 / 0.7)
    drawn = []
    for times in np.concatenate(list(resamples(24, config))).astype(int):
        rows = [i for name, k in zip(names, times, strict=True) for i in _of(owners, name) * k]
        drawn.append(worth[rows].mean())
    assert [curve["low"][0], curve["high"][0]] == pytest.approx(np.quantile(drawn, [0.025, 0.975]))


def _of(owners, name):
    return np.flatnonzero(owners == name).tolist()
