"""Heads: patients count alike, penalties are chosen on other patients, predictions match."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from hepar.config import HeadConfig
from hepar.data import LabelSet
from hepar.errors import ConfigError, FitError
from hepar.fit import choose_penalty, fit_head, fit_linear_head, heads, sample_weights

LABELS = LabelSet(("normal", "benign", "malignant"))


def cohort(n_patients=30, slices=4, signal=1.5, noise=0.0, seed=0):
    """Make features in which each label has its own direction, and each patient an offset."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(3, 20))
    codes, patients, rows = [], [], []
    for p in range(n_patients):
        offset = noise * rng.normal(size=20)
        for _ in range(slices):
            codes.append(p % 3)
            patients.append(f"P{p:02d}")
            rows.append(signal * directions[p % 3] + offset + rng.normal(size=20))
    return np.array(rows, np.float32), np.array(codes), patients


def test_a_patient_with_many_slices_counts_no_more_than_one_with_few():
    codes = np.array([0] * 10 + [0] + [1] * 3)
    patients = ["a"] * 10 + ["b"] + ["c"] * 3
    weights = sample_weights(codes, patients, 2)
    assert weights[:10].sum() == pytest.approx(weights[10])
    assert weights[codes == 0].sum() == pytest.approx(weights[codes == 1].sum())
    assert weights.mean() == pytest.approx(1)


def test_repeating_a_patients_slices_does_not_change_the_head():
    features, codes, patients = cohort()
    many = np.array([1 if name != "P00" else 7 for name in patients])
    once = fit_linear_head(features, codes, patients, LABELS, 10.0)
    # the penalty is relative to the number of samples: keep their ratio
    again = fit_linear_head(
        np.repeat(features, many, axis=0),
        np.repeat(codes, many),
        list(np.repeat(patients, many)),
        LABELS,
        10.0 * many.sum() / len(codes),
    )
    np.testing.assert_allclose(once.weight, again.weight, atol=2e-3)
    np.testing.assert_allclose(once.mean, again.mean, atol=1e-5)


@pytest.mark.parametrize("labels", [LABELS, LabelSet(("normal", "malignant"))])
def test_probabilities_are_scikit_learns(labels):
    features, codes, patients = cohort()
    codes = np.minimum(codes, len(labels) - 1)
    head = fit_linear_head(features, codes, patients, labels, penalty=3.0)
    standard = (features.astype(np.float64) - head.mean) / head.scale
    reference = LogisticRegression(C=1 / 3.0, max_iter=2000).fit(
        standard, codes, sample_weight=sample_weights(codes, patients, len(labels))
    )
    np.testing.assert_allclose(
        head.probabilities(features), reference.predict_proba(standard), atol=1e-9
    )


def test_noise_asks_for_a_stronger_penalty_than_signal():
    config = HeadConfig(penalties=(1.0, 100.0, 10000.0))
    clear = choose_penalty(*cohort(signal=3.0), LABELS, config)
    nothing = choose_penalty(*cohort(signal=0.0), LABELS, config)
    assert clear == 1.0
    assert nothing == 10000.0


def test_the_penalty_is_judged_on_patients_that_were_left_out():
    """Patients' own offsets carry no label; folds over slices would call them signal."""
    features, codes, patients = cohort(signal=0.0, noise=5.0, slices=10)
    assert choose_penalty(features, codes, patients, LABELS, HeadConfig()) >= 1e4


def test_the_order_of_rows_does_not_change_the_choice():
    features, codes, patients = cohort(signal=0.3)
    order = np.random.default_rng(3).permutation(len(codes))
    shuffled = (features[order], codes[order], [patients[i] for i in order])
    assert choose_penalty(features, codes, patients, LABELS, HeadConfig()) == choose_penalty(
        *shuffled, LABELS, HeadConfig()
    )


def test_a_label_without_samples_is_named():
    features, codes, patients = cohort()
    with pytest.raises(FitError, match=r"got none of \['malignant'\]"):
        fit_linear_head(features[codes < 2], codes[codes < 2], patients, LABELS, 1.0)


@pytest.mark.parametrize("kind", ["linear", "svm"])
def test_a_single_label_is_nothing_to_tell_apart(kind):
    features, codes, patients = cohort()
    with pytest.raises(FitError, match=r"two labels or more to tell apart, got \['normal'\]"):
        fit_head(features, codes * 0, patients, LabelSet(("normal",)), HeadConfig(kind=kind))


@pytest.mark.parametrize("penalties", [(), (0.0,), (1.0, -1.0), (float("nan"),), (float("inf"),)])
def test_penalties_that_cannot_be_are_refused_with_the_settings(penalties):
    with pytest.raises(ConfigError, match=r"head\.penalties: expected one or more numbers above 0"):
        HeadConfig(penalties=penalties)


@pytest.mark.parametrize("extra", [0, 200])
def test_penalties_tried_together_give_the_heads_they_give_alone(extra):
    features, codes, patients = cohort()
    rng = np.random.default_rng(3)
    wide = np.concatenate([features, rng.normal(size=(len(codes), extra))], axis=1)
    together = heads._fit_each((1.0, 100.0), wide, codes, patients, LABELS)
    for head, penalty in zip(together, (1.0, 100.0), strict=True):
        alone = fit_linear_head(wide, codes, patients, LABELS, penalty)
        np.testing.assert_array_equal(head.weight, alone.weight)
        np.testing.assert_array_equal(head.bias, alone.bias)
        assert head.penalty == penalty


def test_a_constant_feature_does_no_harm():
    features, codes, patients = cohort()
    features[:, 0] = 7
    head = fit_linear_head(features, codes, patients, LABELS, 1.0)
    assert np.isfinite(head.probabilities(features)).all()
    assert head.scale[0] > 0


def test_a_feature_that_hardly_moves_in_training_cannot_answer_alone():
    features, codes, patients = cohort()
    features[:, 0] = 1e-6 * np.random.default_rng(0).normal(size=len(features))
    head = fit_linear_head(features, codes, patients, LABELS, 1.0)
    plain = head.probabilities(features)
    features[:, 0] = 0.02
    np.testing.assert_allclose(head.probabilities(features), plain, atol=0.02)


def test_in_the_span_of_few_rows_the_solution_is_scikit_learns():
    """More features than rows; both solved far past their usual tolerance."""
    rng = np.random.default_rng(3)
    features, codes, patients = cohort()
    wide = np.concatenate([features, rng.normal(size=(len(codes), 200))], axis=1)
    head = fit_linear_head(wide, codes, patients, LABELS, 10.0)
    model = LogisticRegression(C=0.1, max_iter=5000, tol=1e-8)
    model.fit(
        (wide - head.mean) / head.scale, codes, sample_weight=sample_weights(codes, patients, 3)
    )
    np.testing.assert_allclose(head.weight, model.coef_, atol=2e-3)
    assert np.abs(head.weight).max() > 0.05


def test_features_that_are_all_the_same_are_refused_in_one_line():
    with pytest.raises(FitError, match="expected features that differ between samples"):
        fit_linear_head(np.ones((4, 9)), np.array([0, 1, 2, 0]), ["a", "b", "c", "d"], LABELS, 1.0)
