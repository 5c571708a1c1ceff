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
    aggregate,
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
    ("method", "patients"), [("temperature", 60), ("vector", 120), ("isotonic", 375)]
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
    table = cohort(np.random.default_rng(2), 510)
    own = table.fold == "0"
    turned = replace(table, reference=np.where(own, "a", table.reference))
    before, after = (calibrate_out_of_fold(t, method)[0] for t in (table, turned))
    np.testing.assert_array_equal(before.probabilities[own], after.probabilities[own])
    assert not np.array_equal(before.probabilities[~own], after.probabilities[~own])


@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic"])
def test_a_patients_slices_doubled_change_nothing(method):
    table = cohort(np.random.default_rng(3), 375)
    rows = np.repeat(np.arange(len(table)), np.where(table.patient_id == "p003", 2, 1))
    columns = ("patient_id", "partition", "fold", "reference", "predicted", "probabilities")
    twice_named = Predictions(
        sample_id=np.array([f"s{i}" for i in range(len(rows))]),
        labels=table.labels,
        **{name: getattr(table, name)[rows] for name in columns},
    )
    _, one = calibrate_out_of_fold(table, method)
    _, other = calibrate_out_of_fold(twice_named, method)
    assert one.method == method
    np.testing.assert_allclose(
        one.apply(table.probabilities), other.apply(table.probabilities), rtol=1e-5
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
    two = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]] * 25)
    fitted = fit_calibrator("vector", two, np.array([1, 1, 0, 0] * 25), np.ones(100))
    np.testing.assert_allclose(fitted.values["scale"], 0.05)
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


SOUND = {
    "none": {},
    "temperature": {"temperature": 2.0},
    "vector": {"scale": [1.0, 2.0], "bias": [0.0, -1.0]},
    "isotonic": {"x": [[0.1, 0.9], [0.5]], "y": [[0.2, 0.2], [0.5]]},
}


@pytest.mark.parametrize("method", SOUND)
def test_a_document_comes_back_as_it_was(method):
    document = {"method": method, "values": SOUND[method], "reason": "few" * (method == "none")}
    assert calibrator_from_json(json.loads(json.dumps(document))).to_json() == document


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"method": ["none"]},
        {"method": "magic"},
        {"method": "temperature", "values": {}},
        {"method": "temperature", "values": [1.0]},
        {"method": "none", "values": {"temperature": 1.0}},
        {"values": {"x": []}},
    ],
)
def test_a_document_that_is_no_calibrator_is_refused(document):
    with pytest.raises(EvaluateError, match="calibrator: expected one of none, temperature"):
        calibrator_from_json(document)


@pytest.mark.parametrize(
    ("method", "planted"),
    [
        ("temperature", {"temperature": 0.0}),
        ("temperature", {"temperature": "2"}),
        ("temperature", {"temperature": True}),
        ("temperature", {"temperature": float("nan")}),
        ("vector", {"scale": [1.0, -2.0]}),
        ("vector", {"bias": [0.0]}),
        ("vector", {"scale": [1.0], "bias": [0.0]}),
        ("vector", {"bias": [0.0, float("inf")]}),
        ("vector", {"bias": None}),
        ("isotonic", {"x": [[0.9, 0.1], [0.5]]}),
        ("isotonic", {"y": [[0.3, 0.2], [0.5]]}),
        ("isotonic", {"y": [[0.2, 1.0], [0.5]]}),
        ("isotonic", {"y": [[0.0, 0.2], [0.5]]}),
        ("isotonic", {"y": [[0.2, 0.2]]}),
        ("isotonic", {"x": [[0.1, 0.9], []], "y": [[0.2, 0.2], []]}),
        ("isotonic", {"x": [[0.1, 0.9], 0.5]}),
        ("isotonic", {"x": 3}),
    ],
)
def test_numbers_that_are_no_calibrators_are_refused(method, planted):
    values = {**SOUND[method], **planted}
    with pytest.raises(EvaluateError, match=f"calibrator of method {method}: expected"):
        calibrator_from_json({"method": method, "values": values, "reason": ""})


@pytest.mark.parametrize("method", ["vector", "isotonic"])
def test_probabilities_of_other_labels_are_refused(method):
    calibrator = calibrator_from_json({"method": method, "values": SOUND[method]})
    with pytest.raises(EvaluateError, match=r"rows of 2 probabilities, got shape \(4, 3\)"):
        calibrator.apply(np.full((4, 3), 1 / 3))


def test_an_unknown_method_is_answered_with_the_nearest():
    with pytest.raises(EvaluateError, match="Did you mean 'temperature'"):
        fit_calibrator("temprature", np.ones((1, 2)) / 2, np.zeros(1, int), np.ones(1))
    with pytest.raises(EvaluateError, match="Did you mean 'isotonic'"):
        calibrate_out_of_fold(cohort(np.random.default_rng(9), 6), "isotonc")


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1.0], [1.0, np.inf]])
@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic"])
def test_weights_that_weigh_nothing_are_refused(method, weights):
    with pytest.raises(EvaluateError, match="expected 2 weights of 0 or more, not all 0"):
        fit_calibrator(method, np.full((2, 2), 0.5), np.array([0, 1]), np.array(weights))


@given(
    st.sampled_from(["temperature", "vector", "isotonic"]),
    arrays(float, (12, 3), elements=st.floats(0, 1)),
    st.integers(0, 2**32 - 1),
)
def test_calibrated_rows_are_probabilities_and_follow_their_rows(method, raw, seed):
    """Whatever is learned from, zeros and equal rows too; the order of the rows is no matter."""
    raw[raw.sum(axis=1) == 0] = 1.0
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    codes, order = rng.integers(0, 3, 12), rng.permutation(12)
    fitted = fit_calibrator(method, probabilities, codes, np.ones(12))
    done = fitted.apply(probabilities)
    assert (done >= 0).all()
    np.testing.assert_allclose(done.sum(axis=1), 1)
    np.testing.assert_array_equal(fitted.apply(probabilities[order]), done[order])
    again = fit_calibrator(method, probabilities[order], codes[order], np.ones(12))
    np.testing.assert_allclose(again.apply(probabilities), done, atol=1e-6)
    if method == "isotonic":
        assert 0 < done.min() <= done.max() < 1


def test_labels_that_few_patients_tell_apart_do_not_make_a_calibrator_sure():
    """The least log loss is at the lower end of the range; a few patients do not go there."""
    sure = np.array([[0.8, 0.2]] * 10 + [[0.2, 0.8]] * 10)
    codes, weights = np.repeat([0, 1], 10), np.ones(20)
    assert fit_temperature(sure, codes, weights) == 0.05
    assert fit_calibrator("temperature", sure, codes, weights).apply(sure).max() < 0.99
    assert fit_calibrator("vector", sure, codes, weights).apply(sure).max() < 0.99


def test_the_pull_is_lost_among_many_patients():
    table = cohort(np.random.default_rng(10), 3000, slices=1)
    rows = table.probabilities, table.reference_index, np.ones(3000)
    pulled = fit_calibrator("temperature", *rows).values["temperature"]
    assert pulled == pytest.approx(fit_temperature(*rows), rel=2e-3)
    vector = fit_calibrator("vector", *rows).values
    np.testing.assert_allclose(vector["scale"], 1 / pulled, rtol=0.1)
    np.testing.assert_allclose(np.subtract(vector["bias"], np.mean(vector["bias"])), 0, atol=0.15)


def test_a_label_that_is_given_too_often_is_shifted_back_by_vector_scaling():
    rng = np.random.default_rng(11)
    codes = rng.integers(0, 2, 4000)
    z = rng.normal(0, 1, 4000) + np.where(codes, 1, -1)
    p = 1 / (1 + np.exp(-(2 * z + 1.0)))  # 2 z would be right
    fitted = fit_calibrator("vector", np.stack([1 - p, p], axis=1), codes, np.ones(4000))
    given_ = fitted.apply(np.stack([1 - p, p], axis=1))[:, 1]
    assert p.mean() > codes.mean() + 0.05
    assert given_.mean() == pytest.approx(codes.mean(), abs=0.005)


@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic"])
def test_test_rows_are_calibrated_by_what_ships_and_teach_nothing(method):
    table = cohort(np.random.default_rng(12), 420)
    held = table.fold == "4"
    fields = {
        "partition": np.where(held, "test", "train"),
        "fold": np.where(held, "", table.fold),
    }
    table = replace(table, **fields)
    done, ships = calibrate_out_of_fold(table, method)
    np.testing.assert_array_equal(done.probabilities[held], ships.apply(table.probabilities[held]))
    turned = replace(table, reference=np.where(held, "a", table.reference))
    np.testing.assert_array_equal(
        calibrate_out_of_fold(turned, method)[0].probabilities, done.probabilities
    )
    unknown = replace(table, reference=np.where(held, "", table.reference))
    np.testing.assert_array_equal(
        calibrate_out_of_fold(unknown, method)[0].probabilities, done.probabilities
    )


def test_a_patient_level_table_is_calibrated_too():
    table = aggregate(cohort(np.random.default_rng(13), 90))
    done, calibrator = calibrate_out_of_fold(table, "temperature")
    assert done.level == "patient"
    assert calibrator.method == "temperature"


def test_images_of_unknown_patients_need_more_rows_than_patients_do():
    table = aggregate(cohort(np.random.default_rng(14), 75))
    assert calibrate_out_of_fold(table, "temperature")[1].reason == ""
    images = replace(table, unit="image")
    done, calibrator = calibrate_out_of_fold(images, "temperature")
    assert done is images
    assert "25 images with 'a', and temperature needs 30 of each label" in calibrator.reason


def test_a_patient_in_two_folds_is_refused():
    table = cohort(np.random.default_rng(15))
    fold = table.fold.copy()
    fold[0] = "3"
    with pytest.raises(EvaluateError, match="patient 'p000': expected all rows in one fold, got 2"):
        calibrate_out_of_fold(replace(table, fold=fold), "temperature")


@pytest.mark.parametrize("fold", ["", "0"])
def test_rows_that_no_one_left_out_teach_nothing(fold):
    table = cohort(np.random.default_rng(16))
    done, calibrator = calibrate_out_of_fold(
        replace(table, fold=np.full(len(table), fold)), "temperature"
    )
    assert calibrator.method == "none"
    assert calibrator.reason == (
        "without fold '0': 0 patients with 'a', and temperature needs 10 of each label"
        if fold
        else "no patient was left out"
    )
    np.testing.assert_array_equal(done.probabilities, table.probabilities)
