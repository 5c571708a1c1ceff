"""Calibration: the same numbers as scikit-learn gives."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from hepar.config import EvaluateConfig
from hepar.evaluate import (
    Predictions,
    apply_temperature,
    decide,
    fit_calibrator,
    fit_temperature,
    measure_calibration,
    reliability_curve,
)

LABELS = ("normal", "benign", "malignant")
FEW = EvaluateConfig(resamples=100)


@pytest.fixture(params=[0, 1, 2])
def rows(request):
    """Too sure by half, in three labels; a fifth of each cohort is shifted to the last label."""
    rng = np.random.default_rng(request.param)
    logits = rng.normal(0, 1.2, (300, 3))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    codes = (rng.random((300, 1)) >= np.cumsum(p, axis=1)[:, :-1]).sum(axis=1)
    said = np.exp(1.5 * logits + [0, 0, 0.4])
    said /= said.sum(axis=1, keepdims=True)
    ids = [f"P{i:03d}" for i in range(300)]
    names = np.array(LABELS)[codes]
    return Predictions(
        ids, ids, ["test"] * 300, [""] * 300, names, decide(said, LABELS), said, LABELS, "patient"
    )


def value(rows, metric, label=None):
    (record,) = [
        r for r in measure_calibration(rows, FEW) if r["metric"] == metric and r["label"] == label
    ]
    return record["value"]


def test_brier_and_log_loss_equal_scikit_learn(rows):
    order = sorted(LABELS)
    p = rows.probabilities[:, [LABELS.index(label) for label in order]]
    expected = brier_score_loss(rows.reference, p, labels=order, scale_by_half=False)
    assert value(rows, "brier") == pytest.approx(expected, rel=1e-12)
    assert value(rows, "log_loss") == pytest.approx(log_loss(rows.reference, p), rel=1e-12)


def test_curve_and_calibration_error_equal_scikit_learn(rows):
    """300 rows make 15 groups of 20, which weigh the same."""
    gaps = []
    for column, label in enumerate(LABELS):
        p, has = rows.probabilities[:, column], rows.reference == label
        seen, given = calibration_curve(has, p, n_bins=15, strategy="quantile")
        curve = reliability_curve(rows, label)
        np.testing.assert_allclose(curve.seen, seen, rtol=1e-12)
        np.testing.assert_allclose(curve.given, given, rtol=1e-12)
        gaps.append(np.abs(seen - given).mean())
        assert value(rows, "classwise_ece", label) == pytest.approx(gaps[-1], rel=1e-12)
    assert value(rows, "classwise_ece") == pytest.approx(np.mean(gaps), rel=1e-12)
    right, sure = rows.predicted == rows.reference, rows.probabilities.max(axis=1)
    seen, given = calibration_curve(right, sure, n_bins=15, strategy="quantile")
    assert value(rows, "ece") == pytest.approx(np.abs(seen - given).mean(), rel=1e-12)


def test_slope_equals_a_logistic_regression_and_intercept_one_with_an_offset(rows):
    p, has = rows.probabilities[:, -1], rows.reference == LABELS[-1]
    z = np.log(p / (1 - p))
    fitted = LogisticRegression(C=np.inf, tol=1e-10).fit(z[:, np.newaxis], has)
    slope = value(rows, "calibration_slope", LABELS[-1])
    assert slope == pytest.approx(fitted.coef_[0, 0], rel=1e-5)

    def deviance(shift):
        return (np.logaddexp(0, z + shift[0]) - has * (z + shift[0])).sum()

    offset = minimize(deviance, np.zeros(1), tol=1e-10).x[0]
    found = value(rows, "calibration_intercept", LABELS[-1])
    assert found == pytest.approx(offset, abs=1e-5)
    assert (1 / (1 + np.exp(-(z + found)))).sum() == pytest.approx(has.sum(), abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_slopes_far_from_1_equal_a_logistic_regression_too(seed):
    """Where a plain Newton step would leave the range, too: slopes from 1e-3 to 1e3 and turned."""
    from hepar.evaluate.recalibration import calibration_slope

    rng = np.random.default_rng(seed)
    z = rng.normal(rng.normal(0, 3), 10 ** rng.uniform(-2, 1), 40)
    has = rng.random(40) < 1 / (1 + np.exp(-rng.normal(0, 3) * (z - z.mean()) / z.std()))
    has[:2] = True, False
    unit = (z - z.mean()) / z.std()
    weights = rng.integers(0, 3, 40).astype(float)
    weights[:2] = 1
    found = calibration_slope(z, has, np.arange(40), [np.ones((1, 40)), weights[np.newaxis]])
    for slope, weight in zip(found, (np.ones(40), weights), strict=True):
        if np.isfinite(slope):
            model = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky", max_iter=1000)
            fitted = model.fit(unit[:, np.newaxis], has, sample_weight=weight)
            assert slope * z.std() == pytest.approx(fitted.coef_[0, 0], rel=1e-4)
        else:
            on, off = z[has & (weight > 0)], z[~has & (weight > 0)]
            assert off.max() <= on.min() if slope > 0 else on.max() <= off.min()


def test_a_temperature_equals_that_of_scikit_learn(rows):
    p, codes = rows.probabilities, rows.reference_index
    says_what_it_gets = LogisticRegression().fit(np.log(p), codes)
    says_what_it_gets.coef_, says_what_it_gets.intercept_ = np.eye(3), np.zeros(3)
    theirs = CalibratedClassifierCV(FrozenEstimator(says_what_it_gets), method="temperature")
    ours = apply_temperature(p, fit_temperature(p, codes, np.ones(300)))
    np.testing.assert_allclose(ours, theirs.fit(np.log(p), codes).predict_proba(np.log(p)), 1e-4)


def test_isotonic_maps_equal_scikit_learn_inside_the_clip(rows):
    p, codes = rows.probabilities, rows.reference_index
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 1.5, 300)
    least = 0.5 / (weights.sum() + 1)
    fitted = fit_calibrator("isotonic", p, codes, weights)
    new = rng.dirichlet([1, 1, 1], 100)
    columns = []
    for label in range(3):
        free = IsotonicRegression(out_of_bounds="clip").fit(p[:, label], codes == label, weights)
        columns.append(np.clip(free.predict(new[:, label]), least, 1 - least))
        x, y = fitted.values["x"][label], fitted.values["y"][label]
        clipped = np.clip(free.predict(np.asarray(x)), least, 1 - least)
        np.testing.assert_allclose(y, clipped, atol=1e-12)
    raised = np.stack(columns, axis=1)
    expected = raised / raised.sum(axis=1, keepdims=True)
    # Between steps that the clip cuts the two straight lines differ a little.
    np.testing.assert_allclose(fitted.apply(new), expected, atol=2e-3)
    np.testing.assert_allclose(fitted.apply(new).sum(axis=1), 1)


def test_vector_scaling_is_the_least_of_its_loss(rows):
    """No small move of any slope or shift lowers the summed log loss with its pull."""
    p, codes = rows.probabilities, rows.reference_index
    found = fit_calibrator("vector", p, codes, np.ones(300)).values
    best = np.array([*found["scale"], *found["bias"]])

    def loss(theta):
        given = np.exp(np.log(p) * theta[:3] + theta[3:])
        given /= given.sum(axis=1, keepdims=True)
        away = theta - [1, 1, 1, 0, 0, 0]
        return -np.log(given[np.arange(300), codes]).sum() + 1.5 * away @ away

    for axis in np.eye(6):
        for size in (1e-3, -1e-3):
            assert loss(best) < loss(best + size * axis)
