from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from hepar.config import EvaluateConfig
from hepar.evaluate import Undefined, measure_calibration, reliability_curve

FEW = EvaluateConfig(resamples=300)


def drawn(make, n=400, temperature=1.0, seed=0):
    """Patients whose probabilities are right at temperature 1, and too sure below."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, n)
    has = rng.random(n) < 1 / (1 + np.exp(-z))
    return make(np.where(has, "b", "a"), 1 / (1 + np.exp(-z / temperature)), labels=("a", "b"))


def value(records, metric, label=None):
    return next(r for r in records if r["metric"] == metric and r["label"] == label)


def test_brier_and_log_loss_are_those_of_scikit_learn(make):
    table = drawn(make)
    records, has = measure_calibration(table, FEW), table.reference == "b"
    p = table.probabilities[:, 1]
    assert value(records, "brier")["value"] == pytest.approx(2 * brier_score_loss(has, p))
    assert value(records, "log_loss")["value"] == pytest.approx(log_loss(has, p))


def test_slope_and_intercept_are_those_of_a_logistic_regression(make):
    table = drawn(make, temperature=0.5)
    records = measure_calibration(table, FEW)
    z = np.log(table.probabilities[:, 1] / table.probabilities[:, 0])[:, np.newaxis]
    fitted = LogisticRegression(C=1e9, tol=1e-10).fit(z, table.reference == "b")
    assert value(records, "slope", "b")["value"] == pytest.approx(fitted.coef_[0, 0], rel=1e-3)
    assert 0.35 < value(records, "slope", "b")["value"] < 0.65
    shift = value(records, "intercept", "b")["value"]
    moved = 1 / (1 + np.exp(-(z[:, 0] + shift)))
    assert moved.mean() == pytest.approx((table.reference == "b").mean(), abs=1e-6)


def test_the_calibration_error_is_the_mean_gap_of_groups_of_equal_size(make):
    table = drawn(make, 200, temperature=0.4)
    records, has = measure_calibration(table, FEW), table.reference == "b"
    seen, given = calibration_curve(has, table.probabilities[:, 1], n_bins=10, strategy="quantile")
    assert value(records, "ece", "b")["value"] == pytest.approx(np.abs(seen - given).mean())
    assert value(records, "ece")["value"] > 2 * value(records, "ece")["floor"]


def test_right_probabilities_have_an_error_near_its_floor(make):
    found = [value(measure_calibration(drawn(make, seed=s), FEW), "ece", "b") for s in range(20)]
    assert np.mean([r["value"] for r in found]) == pytest.approx(
        np.mean([r["floor"] for r in found]), rel=0.15
    )


def test_intervals_are_of_patients_and_do_not_narrow_with_their_slices(make):
    base = drawn(make, 60)
    many = make(
        np.repeat(base.reference, 5),
        np.repeat(base.probabilities[:, 1], 5),
        patients=np.repeat(base.patient_id, 5),
        labels=("a", "b"),
    )
    for metric in ("brier", "log_loss"):
        one, five = (value(measure_calibration(t, FEW), metric) for t in (base, many))
        assert (one["low"], one["high"]) == pytest.approx((five["low"], five["high"]))
        assert one["low"] < one["value"] < one["high"]
    assert five["n_patients"] == 60


def test_constant_probabilities_have_no_slope_and_one_label_no_recalibration(make):
    flat = make(["a", "b"] * 20, np.full(40, 0.5), labels=("a", "b"))
    slope = value(measure_calibration(flat, FEW), "slope", "b")
    assert slope["value"] is None
    assert slope["undefined"] == "the probability of 'b' is the same everywhere"
    only = make(["a"] * 20, np.linspace(0.1, 0.9, 20), labels=("a", "b"))
    assert (
        "all patients or none are 'b'"
        in (value(measure_calibration(only, FEW), "intercept", "b")["undefined"])
    )
    assert reliability_curve(flat, "b") == Undefined(
        "the probability of 'b' is the same everywhere"
    )


def test_labels_told_apart_without_an_error_have_no_slope_and_say_so(make):
    score = np.r_[np.linspace(0.1, 0.4, 20), np.linspace(0.6, 0.9, 20)]
    table = make(["a"] * 20 + ["b"] * 20, score, labels=("a", "b"))
    slope = value(measure_calibration(table, FEW), "slope", "b")
    assert "without an error" in slope["undefined"]


def test_probabilities_of_0_and_1_give_finite_numbers(make):
    table = make(["a", "b"] * 20, np.tile([0.0, 1.0, 1.0, 1.0], 10), labels=("a", "b"))
    for record in measure_calibration(table, FEW):
        assert record["undefined"] or np.isfinite(record["value"])


def test_few_patients_give_numbers_without_intervals(make):
    table = drawn(make, 8)
    assert value(measure_calibration(table, FEW), "brier")["low"] is None


def test_the_curve_counts_rows_and_takes_its_intervals_from_patients(make):
    base = drawn(make, 200)
    curve = reliability_curve(base, "b")
    assert sum(curve["n"]) == 200
    assert all(
        a <= s <= b for a, s, b in zip(curve["low"], curve["seen"], curve["high"], strict=True)
    )
    many = make(
        np.repeat(base.reference, 3),
        np.repeat(base.probabilities[:, 1], 3),
        patients=np.repeat(base.patient_id, 3),
        labels=("a", "b"),
    )
    again = reliability_curve(many, "b")
    assert again["low"] == pytest.approx(curve["low"])
    assert sum(again["n"]) == 600
