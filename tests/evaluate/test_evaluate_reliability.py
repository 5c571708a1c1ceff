from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate import (
    CALIBRATION_METRICS,
    Undefined,
    apply_temperature,
    measure_calibration,
    reliability_curve,
)

FEW = EvaluateConfig(resamples=300)
LABELS = ("a", "b")


def drawn(make, n=400, sureness=1.0, seed=0):
    """Patients whose probabilities are right at sureness 1, and too sure above."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, n)
    has = rng.random(n) < 1 / (1 + np.exp(-z))
    return make(np.where(has, "b", "a"), 1 / (1 + np.exp(-sureness * z)), labels=LABELS)


def sliced(make, table, times):
    """The same patients with each row several times."""
    return make(
        np.repeat(table.reference, times),
        np.repeat(table.probabilities[:, 1], times),
        patients=np.repeat(table.patient_id, times),
        labels=LABELS,
    )


def find(records, metric, label=None):
    (record,) = [r for r in records if r["metric"] == metric and r["label"] == label]
    return record


def ends(record):
    return record["low"], record["value"], record["high"]


def test_every_number_is_recorded_once_in_the_shape_of_an_evaluation(make):
    records = measure_calibration(drawn(make), FEW)
    assert [(r["metric"], r["label"]) for r in records] == [
        ("brier", None),
        ("log_loss", None),
        ("ece", None),
        ("classwise_ece", None),
        ("classwise_ece", "a"),
        ("classwise_ece", "b"),
        ("calibration_slope", "b"),
        ("calibration_intercept", "b"),
    ]
    assert {r["metric"] for r in records} == set(CALIBRATION_METRICS)
    for record in records:
        assert (record["level"], record["partition"]) == ("patient", "out-of-fold")
        assert (record["n_patients"], record["n_samples"]) == (400, 400)
        assert record["undefined"] is record["no_interval"] is None
        assert record["low"] <= record["value"] <= record["high"]
        basic = record["metric"].endswith("ece")
        assert record["method"] == ("bootstrap-basic" if basic else "bootstrap")
        assert (record["ece_floor"] is not None) == basic


def test_a_calibration_error_is_what_paper_and_pencil_give(make):
    """Five groups of two: 0.5 + 0.4 + 0.05 + 0.05 + 0.05 too far, divided by five."""
    given = [0.05, 0.15, 0.25, 0.35, 0.40, 0.50, 0.60, 0.70, 0.90, 1.00]
    has = [True, False, True, False, True, False, True, False, True, True]
    table = make(np.where(has, "b", "a"), given, labels=LABELS)
    gaps = [0.5 - 0.1, 0.5 - 0.3, 0.5 - 0.45, 0.65 - 0.5, 1.0 - 0.95]
    records = measure_calibration(table, FEW)
    assert find(records, "classwise_ece", "b")["value"] == pytest.approx(sum(gaps) / 5)
    assert find(records, "classwise_ece", "a")["value"] == pytest.approx(sum(gaps) / 5)
    assert find(records, "classwise_ece")["value"] == pytest.approx(sum(gaps) / 5)


def test_the_sureness_of_an_answer_is_that_of_the_likeliest_label(make):
    p = np.tile([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], (10, 1))
    table = make(["c"] * 20, p, labels=("a", "b", "c"))
    ece = find(measure_calibration(table, FEW), "ece")  # 0.5 and right, 0.6 and wrong
    assert ece["value"] == pytest.approx((0.5 + 0.6) / 2)
    tied = make(["b"] * 20, np.full(20, 0.5), labels=LABELS)  # "b", the severer one, is the answer
    assert find(measure_calibration(tied, FEW), "ece")["value"] == pytest.approx(0.5)
    tied = make(["a"] * 15 + ["b"] * 5, np.full(20, 0.5), labels=LABELS)
    assert find(measure_calibration(tied, FEW), "ece")["value"] == pytest.approx(0.25)
    p = np.tile([[0.5, 0.1, 0.4], [0.1, 0.45, 0.45]], (10, 1))
    tied = make(["a", "b"] * 10, p, labels=("a", "b", "c"))
    assert find(measure_calibration(tied, FEW), "ece")["value"] == pytest.approx((0.5 + 0.45) / 2)


def test_right_probabilities_have_an_error_near_its_floor(make):
    found = [find(measure_calibration(drawn(make, seed=s), FEW), "ece") for s in range(20)]
    assert np.mean([r["value"] for r in found]) == pytest.approx(
        np.mean([r["ece_floor"] for r in found]), rel=0.15
    )
    assert sum(r["low"] == 0 for r in found) >= 18
    assert all(r["low"] <= r["value"] <= r["high"] for r in found)
    wrong = find(measure_calibration(drawn(make, sureness=2.5), FEW), "ece")
    assert wrong["value"] > 2 * wrong["ece_floor"]
    assert wrong["low"] > 0


def test_intervals_of_a_calibration_error_hold_that_of_a_large_cohort(make):
    """It is 0.060 of probabilities 1.5 times too sure; percentiles hold it in 1 % of cohorts."""
    held = 0
    for seed in range(30):
        ece = find(measure_calibration(drawn(make, 150, 1.5, seed), FEW), "classwise_ece", "b")
        held += ece["low"] <= 0.060 <= ece["high"]
    assert held >= 23


def test_the_floor_of_slices_that_are_alike_is_that_of_their_patients(make):
    base = drawn(make, 100)
    one, five = (find(measure_calibration(t, FEW), "ece") for t in (base, sliced(make, base, 5)))
    assert five["ece_floor"] == pytest.approx(one["ece_floor"])


def test_intervals_are_of_patients_and_do_not_narrow_with_their_slices(make):
    base = drawn(make, 60)
    both = [measure_calibration(t, FEW) for t in (base, sliced(make, base, 5))]
    for one, five in zip(*both, strict=True):
        assert ends(one) == pytest.approx(ends(five), abs=1e-6)
        assert one["low"] < one["high"]
        assert (five["n_patients"], five["n_samples"], five["level"]) == (60, 300, "slice")


def test_the_order_of_the_rows_does_not_matter(make):
    table = sliced(make, drawn(make, 60), 3)
    moved = table.select(np.random.default_rng(1).permutation(len(table)))
    for one, other in zip(*(measure_calibration(t, FEW) for t in (table, moved)), strict=True):
        assert ends(one) == pytest.approx(ends(other), abs=1e-6)
        assert one["ece_floor"] == pytest.approx(other["ece_floor"], abs=1e-12)


def test_intervals_of_a_slope_hold_the_true_one_about_as_often_as_promised(make):
    held = 0
    for seed in range(60):
        slope = find(
            measure_calibration(drawn(make, 150, 2.0, seed), FEW), "calibration_slope", "b"
        )
        held += slope["low"] <= 0.5 <= slope["high"]
    assert 52 <= held <= 60


def test_partitions_are_measured_apart_and_unlabelled_rows_left_out(make):
    table = drawn(make, 200)
    held = np.arange(200) >= 120
    fields = {
        "partition": np.where(held, "test", "train"),
        "fold": np.where(held, "", "0"),
        "reference": np.where(np.arange(200) < 20, "", table.reference),
    }
    records = measure_calibration(replace(table, **fields), FEW)
    briers = {r["partition"]: r for r in records if r["metric"] == "brier"}
    assert {name: r["n_samples"] for name, r in briers.items()} == {"out-of-fold": 100, "test": 80}
    alone = find(measure_calibration(table.select(held), FEW), "brier")
    assert ends(briers["test"]) == ends(alone)
    with pytest.raises(EvaluateError, match="rows with a reference in the train or test partition"):
        measure_calibration(table.select(np.zeros(200, bool)), FEW)
    with pytest.raises(EvaluateError, match="'s00000': expected a train row predicted out of fold"):
        measure_calibration(replace(table, fold=np.full(200, "")), FEW)


def test_constant_probabilities_have_no_slope_and_one_label_no_recalibration(make):
    flat = make(["a", "b", "b", "a"] * 10, np.full(40, 0.5), labels=LABELS)
    records = measure_calibration(flat, FEW)
    why = "the probability of 'b' is the same everywhere"
    assert find(records, "calibration_slope", "b")["undefined"] == why
    assert find(records, "calibration_intercept", "b")["value"] == pytest.approx(0, abs=1e-9)
    assert find(records, "brier")["no_interval"] == "every resample gives the same value"
    assert reliability_curve(flat, "b") == Undefined(why)
    only = make(["a"] * 20, np.linspace(0.1, 0.9, 20), labels=LABELS)
    for metric in ("calibration_slope", "calibration_intercept"):
        record = find(measure_calibration(only, FEW), metric, "b")
        assert record["undefined"] == "all patients or none are 'b'"
        assert ends(record) == (None, None, None)
        assert (record["method"], record["no_interval"]) == ("none", None)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("middle", [[], [0.5, 0.5]])
def test_labels_told_apart_without_an_error_have_no_slope_and_say_so(make, turned, middle):
    """A tie of both labels in the middle does not help: the best slope is infinite all the same."""
    score = np.r_[np.linspace(0.1, 0.4, 20), middle, np.linspace(0.6, 0.9, 20)]
    labels = ["a"] * 20 + ["a", "b"][: len(middle)] + ["b"] * 20
    table = make(labels, 1 - score if turned else score, labels=LABELS)
    slope = find(measure_calibration(table, FEW), "calibration_slope", "b")
    assert slope["undefined"] == "labels are told apart without an error, so the slope is infinite"
    assert find(measure_calibration(table, FEW), "calibration_intercept", "b")["low"] is not None


def test_a_slope_that_is_often_infinite_has_no_interval(make):
    score = np.r_[np.linspace(0.1, 0.5, 20), 0.7, 0.3, np.linspace(0.5, 0.9, 20)]
    table = make(["a"] * 21 + ["b"] * 21, score, labels=LABELS)
    slope = find(measure_calibration(table, FEW), "calibration_slope", "b")
    assert slope["value"] > 1
    assert slope["low"] is None
    assert slope["no_interval"] == "in too many resamples the slope is infinite"


def test_probabilities_of_0_and_1_are_undefined_where_they_say_nothing(make):
    hard = np.tile([0.0, 1.0, 1.0, 1.0], 10)
    records = measure_calibration(make(["a", "b", "a", "b"] * 10, hard, labels=LABELS), FEW)
    why = "all probabilities of 'b' are 0 or 1, which have no log odds"
    assert find(records, "calibration_slope", "b")["undefined"] == why
    assert find(records, "calibration_intercept", "b")["undefined"] == why
    loss = find(records, "log_loss")
    assert loss["undefined"] == "10 patients had probability 0 of the reference"
    assert loss["value"] is None
    assert find(records, "brier")["value"] == pytest.approx(0.5)
    assert find(records, "ece")["ece_floor"] == 0
    hard[1] = 0.5  # one that is not makes the rest count as 1e-6 away
    records = measure_calibration(make(["a", "b", "a", "b"] * 10, hard, labels=LABELS), FEW)
    assert np.isfinite(find(records, "calibration_slope", "b")["value"])


def test_few_patients_give_numbers_without_intervals(make):
    records = measure_calibration(drawn(make, 8), FEW)
    for record in records:
        assert record["low"] is None
        assert "and an interval here needs 10" in (record["no_interval"] or record["undefined"])
    p = np.tile([0.2, 0.4, 0.6, 0.8, 0.3], 8)
    rare = make(["b", "a", "b", "a"] + ["a"] * 36, p, labels=LABELS)
    records = measure_calibration(rare, FEW)
    why = "rests on 2 patients, and an interval here needs 10"
    assert find(records, "calibration_intercept", "b")["no_interval"] == why
    assert find(records, "classwise_ece", "b")["no_interval"] == why
    assert find(records, "brier")["low"] is not None


def test_images_of_unknown_patients_have_no_interval(make):
    table = replace(drawn(make, 100), unit="image")
    for record in measure_calibration(table, FEW):
        assert record["value"] is not None
        assert record["no_interval"] == "patients are unknown, and images of one patient are alike"
    curve = reliability_curve(table, "b")
    assert curve.low is curve.high is None
    assert curve.no_interval == "patients are unknown, and images of one patient are alike"


def test_a_temperature_divides_the_slope(make):
    table = drawn(make)
    softer = replace(table, probabilities=apply_temperature(table.probabilities, 2.0))
    one, other = (
        find(measure_calibration(t, FEW), "calibration_slope", "b") for t in (table, softer)
    )
    assert np.multiply(ends(one), 2.0) == pytest.approx(ends(other), rel=1e-5)


def test_the_curve_counts_rows_and_takes_its_intervals_from_patients(make):
    base = drawn(make, 200)
    assert len(reliability_curve(base, "b").seen) == 15
    curve = reliability_curve(base, "b", 10)
    assert curve.n_samples == curve.n_patients == (20,) * 10
    assert list(curve.given) == sorted(curve.given)
    assert all(a <= s <= b for a, s, b in zip(curve.low, curve.seen, curve.high, strict=True))
    again = reliability_curve(sliced(make, base, 3), "b", 10)
    assert again.low == pytest.approx(curve.low)
    assert (again.given, again.seen) == (pytest.approx(curve.given), pytest.approx(curve.seen))
    assert again.n_samples == (60,) * 10
    assert again.n_patients == curve.n_patients


def test_a_curve_of_no_label_no_row_or_several_partitions_is_refused(make):
    table = drawn(make, 40)
    with pytest.raises(EvaluateError, match="expected one of a, b, got 'B'"):
        reliability_curve(table, "B")
    with pytest.raises(EvaluateError, match="of one partition, got none"):
        reliability_curve(replace(table, reference=np.full(40, "")), "b")
    mixed = replace(table, partition=np.where(np.arange(40) < 20, "train", "test"))
    with pytest.raises(EvaluateError, match="of one partition, got test, train"):
        reliability_curve(mixed, "b")
    half = reliability_curve(
        replace(table, reference=np.where(np.arange(40) < 20, "", table.reference)), "b", 4
    )
    assert sum(half.n_samples) == 20
