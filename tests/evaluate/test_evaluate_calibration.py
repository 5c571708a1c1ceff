from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hepar.errors import EvaluateError
from hepar.evaluate import (
    Predictions,
    apply_temperature,
    calibrate_out_of_fold,
    calibrator_from_json,
    decide,
    fit_calibrator,
    fit_temperature,
)


def softmax(logits):
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found(true):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 3)) * 2
    codes = np.array([rng.choice(3, p=p) for p in softmax(logits)])
    spoiled = softmax(logits * true)
    assert fit_temperature(spoiled, codes, np.ones(20_000)) == pytest.approx(true, rel=0.05)


def test_weights_decide_who_is_listened_to():
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.1, 0.9]] * 10)
    codes = np.zeros(20, int)
    codes[[0, 1]] = 1  # of the first ten, eight are right; of the others, none
    first = fit_temperature(probabilities, codes, np.repeat([1.0, 0.0], 10))
    assert 1.2 < first < 2.0
    assert fit_temperature(probabilities, codes, np.repeat([0.0, 1.0], 10)) > 15


def test_the_temperature_is_where_the_loss_has_no_slope():
    """There the logit of the reference is what the probabilities expect (Guo et al. 2017, claim 1).

    A thousand right answers of 60 % and one wrong one of 95 %: a loss cut off at 1e-12 would take
    the least temperature, 0.05, because it no longer sees how wrong the one is.
    """
    probabilities = np.array([[0.6, 0.4]] * 1000 + [[0.05, 0.95]])
    codes, logits = np.zeros(1001, int), np.log(probabilities)
    temperature = fit_temperature(probabilities, codes, np.ones(1001))
    assert 0.06 < temperature < 0.2
    expected = (apply_temperature(probabilities, temperature) * logits).sum(axis=1)
    assert (logits[:, 0] - expected).sum() == pytest.approx(0, abs=1e-3)


@given(arrays(float, (5, 4), elements=st.floats(0.01, 1)), st.floats(0.05, 20))
def test_the_order_of_labels_stays_and_one_changes_nothing(raw, temperature):
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(apply_temperature(probabilities, 1.0), probabilities)
    changed = apply_temperature(probabilities, temperature)
    np.testing.assert_allclose(changed.sum(axis=1), 1)
    order = np.argsort(probabilities, axis=1)
    assert (np.diff(np.take_along_axis(changed, order, axis=1), axis=1) > -1e-12).all()
    surest = np.sign(changed.max(axis=1) - probabilities.max(axis=1)).astype(int)
    same = np.isclose(changed.max(axis=1), probabilities.max(axis=1))
    assert (same | (surest == np.sign(1 - temperature))).all()


@pytest.mark.parametrize("sure", [1.0, 0.9])
def test_always_right_and_always_wrong_stay_in_range(sure):
    probabilities = np.array([[sure, 1 - sure], [1 - sure, sure]])
    right = fit_temperature(probabilities, np.array([0, 1]), np.ones(2))
    wrong = fit_temperature(probabilities, np.array([1, 0]), np.ones(2))
    assert 0.05 <= right < 0.6
    assert wrong == pytest.approx(20, rel=1e-3)
    assert wrong <= 20
    alike = np.full((2, 2), 0.5)  # any temperature is as good
    fitted = fit_temperature(alike, np.array([0, 1]), np.ones(2))
    np.testing.assert_allclose(apply_temperature(alike, fitted), alike)


@pytest.mark.parametrize(("codes", "got"), [([0, -1], "-1 to 0"), ([0, 2], "0 to 2"), ([], "no")])
def test_rows_without_a_label_are_refused(codes, got):
    n = len(codes)
    with pytest.raises(EvaluateError, match=f"codes from 0 to 1, got {got}"):
        fit_temperature(np.full((n, 2), 0.5), np.array(codes, int), np.ones(n))


def cohort(rng, patients=60, slices=4, sharpness=2.0, labels=("a", "b", "c"), folds=5):
    """Predictions of slices that are too sure by a known factor, in folds of patients."""
    codes = np.arange(patients) % len(labels)
    rows = np.repeat(codes, slices)
    logits = rng.normal(size=(len(rows), len(labels)))
    logits[np.arange(len(rows)), rows] += 1.5
    probabilities = softmax(1.5 * logits * sharpness)
    names = np.repeat([f"p{i:03d}" for i in range(patients)], slices)
    return Predictions(
        sample_id=np.array([f"s{i}" for i in range(len(rows))]),
        patient_id=names,
        partition=np.full(len(rows), "train"),
        fold=np.repeat([str(i % folds) for i in range(patients)], slices),
        reference=np.array(labels)[rows],
        predicted=decide(probabilities, labels),
        probabilities=probabilities,
        labels=labels,
    )


def log_loss(table):
    rows = table.probabilities[np.arange(len(table)), table.reference_index]
    return -np.log(rows).mean()


@pytest.mark.parametrize(
    ("method", "patients"), [("temperature", 60), ("vector", 120), ("isotonic", 300)]
)
def test_left_out_patients_are_better_calibrated_by_every_method(method, patients):
    table = cohort(np.random.default_rng(1), patients)
    done, calibrator = calibrate_out_of_fold(table, method)
    assert calibrator.method == method
    assert log_loss(done) < log_loss(table) - 0.02
    np.testing.assert_allclose(done.probabilities.sum(axis=1), 1)
    assert (done.predicted == decide(done.probabilities, table.labels)).all()
    again = calibrator_from_json(json.loads(json.dumps(calibrator.to_json())))
    np.testing.assert_array_equal(
        again.apply(table.probabilities), calibrator.apply(table.probabilities)
    )


@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic"])
def test_a_patients_own_references_never_calibrate_that_patient(method):
    table = cohort(np.random.default_rng(2), 300)
    own = table.fold == "0"
    turned = replace(table, reference=np.where(own, "a", table.reference))
    before, after = (calibrate_out_of_fold(t, method)[0] for t in (table, turned))
    np.testing.assert_array_equal(before.probabilities[own], after.probabilities[own])
    assert not np.array_equal(before.probabilities[~own], after.probabilities[~own])


@pytest.mark.parametrize("method", ["temperature", "vector"])
def test_a_patients_slices_doubled_change_nothing(method):
    table = cohort(np.random.default_rng(3), 60)
    rows = np.repeat(np.arange(len(table)), np.where(table.patient_id == "p003", 2, 1))
    columns = ("patient_id", "partition", "fold", "reference", "predicted", "probabilities")
    twice_named = Predictions(
        sample_id=np.array([f"s{i}" for i in range(len(rows))]),
        labels=table.labels,
        **{name: getattr(table, name)[rows] for name in columns},
    )
    _, one = calibrate_out_of_fold(table, method)
    _, other = calibrate_out_of_fold(twice_named, method)
    np.testing.assert_allclose(
        one.apply(table.probabilities), other.apply(table.probabilities), atol=1e-4
    )


def test_with_two_labels_a_temperature_keeps_the_ranking_of_rows():
    table = cohort(np.random.default_rng(4), labels=("a", "b"))
    _, calibrator = calibrate_out_of_fold(table, "temperature")
    before, after = table.probabilities[:, 1], calibrator.apply(table.probabilities)[:, 1]
    assert (np.argsort(before, kind="stable") == np.argsort(after, kind="stable")).all()


def test_too_few_patients_leave_probabilities_as_they_are_and_say_so():
    table = cohort(np.random.default_rng(5), patients=12)
    done, calibrator = calibrate_out_of_fold(table, "temperature")
    assert done is table
    assert calibrator.method == "none"
    assert "patients with 'a', and temperature needs 10 of each label" in calibrator.reason


def test_a_score_is_never_turned_round():
    """Labels against the scores: every slope stays positive, and shifts alone can help."""
    rng = np.random.default_rng(6)
    table = cohort(rng, 60)
    wrong = np.roll(table.reference_index, 1)
    fitted = fit_calibrator("vector", table.probabilities, wrong, np.ones(len(table)))
    assert min(fitted.values["scale"]) > 0
    rising = fit_calibrator("isotonic", table.probabilities, wrong, np.ones(len(table)))
    assert all((np.diff(y) >= 0).all() for y in rising.values["y"])


def test_isotonic_maps_are_those_of_scikit_learn_and_never_sure():
    from sklearn.isotonic import IsotonicRegression

    table = cohort(np.random.default_rng(7), 60)
    n = len(table)
    given_ = fit_calibrator("isotonic", table.probabilities, table.reference_index, np.ones(n))
    done = given_.apply(table.probabilities)
    assert 0 < done.min() < done.max() < 1
    raw = np.stack(
        [
            IsotonicRegression(y_min=0.5 / (n + 1), y_max=1 - 0.5 / (n + 1)).fit_transform(
                table.probabilities[:, j], table.reference_index == j
            )
            for j in range(3)
        ],
        axis=1,
    )
    np.testing.assert_allclose(done, raw / raw.sum(axis=1, keepdims=True), atol=1e-9)


def test_probabilities_of_nothing_but_0_and_1_are_calibrated_without_complaint():
    table = cohort(np.random.default_rng(8), 60)
    hard = np.eye(3)[table.reference_index]
    hard[::7] = np.roll(hard[::7], 1, axis=1)
    for method in ("temperature", "vector", "isotonic"):
        fitted = fit_calibrator(method, hard, table.reference_index, np.ones(len(hard)))
        assert np.isfinite(fitted.apply(hard)).all()
        assert fitted.apply(hard).max() < 1


@pytest.mark.parametrize(
    "document",
    [{"method": "magic"}, {"method": "temperature", "values": {}}, {"values": {"x": []}}],
)
def test_a_document_that_is_no_calibrator_is_refused(document):
    with pytest.raises(EvaluateError, match="calibrator: expected one of none, temperature"):
        calibrator_from_json(document)


def test_an_unknown_method_is_answered_with_the_nearest():
    with pytest.raises(EvaluateError, match="Did you mean 'temperature'"):
        fit_calibrator("temprature", np.ones((1, 2)) / 2, np.zeros(1, int), np.ones(1))
