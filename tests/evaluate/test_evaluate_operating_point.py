from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hepar.errors import EvaluateError
from hepar.evaluate import (
    Undefined,
    choose_operating_point,
    measure_operating_point,
    operating_point_from_json,
    predictive_values,
    wilson,
)

LABELS = ("benign", "malignant")


def patients(make, n=100, seed=0, **changes):
    rng = np.random.default_rng(seed)
    has = np.arange(n) % 2 == 1
    score = 1 / (1 + np.exp(-rng.normal(np.where(has, 1.0, -1.0))))
    reference = np.where(has, *reversed(LABELS))
    fold = [str(i // 2 % 5) for i in range(n)]
    return make(reference, score, labels=LABELS, fold=fold, **changes)


def test_the_highest_threshold_that_finds_enough_is_chosen(make):
    score = [0.9, 0.8, 0.7, 0.6, 0.5, 0.1, 0.55]
    table = make([*["malignant"] * 5, "benign", "benign"], score, labels=LABELS)
    point = choose_operating_point(table, 0.8)
    assert (point.threshold, point.n_with, point.n_without) == (0.6, 5, 2)
    assert choose_operating_point(table, 0.81).threshold == 0.5
    assert choose_operating_point(table, 0.2).threshold == 0.9


def test_equal_scores_are_flagged_together(make):
    table = make(["malignant"] * 4 + ["benign"], [0.5, 0.5, 0.5, 0.2, 0.1], labels=LABELS)
    assert choose_operating_point(table, 0.25).threshold == 0.5


def test_a_lower_end_is_reached_or_the_patients_needed_are_said(make):
    table = patients(make, 200)
    point = choose_operating_point(table, 0.9, "lower")
    has = table.reference == "malignant"
    found = (table.probabilities[has, 1] >= point.threshold).sum()
    assert wilson(found, 100)[0] >= 0.9 > wilson(found - 1, 100)[0]
    none = choose_operating_point(patients(make, 40), 0.95, "lower")
    assert isinstance(none, Undefined)
    assert "20 patients with 'malignant' cannot show a sensitivity of 0.95" in none.reason
    assert none.reason.endswith("it takes 73")
    assert wilson(73, 73)[0] >= 0.95 > wilson(72, 72)[0]


def test_one_label_only_has_no_operating_point(make):
    table = make(["malignant"] * 4, [0.1] * 4, labels=LABELS)
    assert "all patients or none are 'malignant'" in choose_operating_point(table).reason


def test_a_fold_is_judged_by_the_threshold_of_the_others(make):
    table = patients(make)
    (record,) = measure_operating_point(table, 0.9, "estimate")
    assert len(record["thresholds"]) == 5
    own = table.fold == "0"
    probabilities = table.probabilities.copy()
    probabilities[own] = [0.0, 1.0]  # all of fold 0 said to be malignant: others' numbers stay
    (other,) = measure_operating_point(replace(table, probabilities=probabilities), 0.9, "estimate")
    assert other["thresholds"][0] == record["thresholds"][0]
    assert record["sensitivity"]["n"] == record["specificity"]["n"] == 50
    assert 0.75 <= record["sensitivity"]["value"] <= 1


def test_test_patients_are_judged_by_the_frozen_threshold(make):
    table = patients(make, 120)
    rows = np.arange(120) >= 100
    table = replace(
        table,
        partition=np.where(rows, "test", "train"),
        fold=np.where(rows, "", table.fold),
    )
    _, record = measure_operating_point(table, 0.9, "estimate")
    point = choose_operating_point(table, 0.9)
    assert record["thresholds"] == [point.threshold]
    score, has = table.probabilities[rows, 1], table.reference[rows] == "malignant"
    assert record["sensitivity"]["value"] == (score[has] >= point.threshold).mean()


def test_an_operating_point_survives_its_json_and_others_are_refused(make):
    point = choose_operating_point(patients(make))
    assert operating_point_from_json(json.loads(json.dumps(point.to_json()))) == point


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"more": 1}, "operating point: expected label, threshold, target"),
        ({"threshold": "x"}, "expected threshold a float, got 'x'"),
        ({"threshold": float("nan")}, "expected a threshold in"),
        ({"threshold": 1.5}, "expected a threshold in"),
        ({"threshold": True}, "expected threshold a float, got True"),
        ({"target": "ppv"}, "expected target sensitivity or specificity, got 'ppv'"),
        ({"value": 95}, "expected a sensitivity above 0 and up to 1, got 95"),
        ({"bound": None}, "expected bound a str, got None"),
        ({"n_with": 0}, "chosen on patients with and without the label"),
        ({"n_without": 2.5}, "expected n_without a int, got 2.5"),
    ],
)
def test_a_document_that_is_no_operating_point_is_refused(make, changes, said):
    document = choose_operating_point(patients(make)).to_json()
    with pytest.raises(EvaluateError, match=said):
        operating_point_from_json({**document, **changes})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"bound": "lowr"}, "expected bound estimate or lower, got 'lowr'. Did you mean 'lower'"),
        ({"target": "ppv"}, "expected target sensitivity or specificity"),
        ({"value": 95}, "expected a sensitivity above 0 and up to 1, got 95. 0.95 is usual"),
        ({"value": 0.0}, "expected a sensitivity above 0"),
        ({"label": "malign"}, "expected one of benign, malignant, got 'malign'"),
    ],
)
def test_a_senseless_request_is_refused(make, arguments, said):
    with pytest.raises(EvaluateError, match=said):
        choose_operating_point(patients(make), **arguments)


def test_the_lowest_threshold_that_spares_enough_is_chosen(make):
    score = [0.9, 0.8, 0.35, 0.5, 0.4, 0.3, 0.2, 0.1]
    table = make([*["malignant"] * 3, *["benign"] * 5], score, labels=LABELS)
    point = choose_operating_point(table, 0.8, target="specificity")
    assert (point.threshold, point.target, point.value) == (0.5, "specificity", 0.8)
    assert choose_operating_point(table, 0.6, target="specificity").threshold == 0.35
    assert choose_operating_point(table, 1.0, target="specificity").threshold == 0.8


@given(st.integers(0, 10**6), st.floats(0.01, 1), st.sampled_from(["sensitivity", "specificity"]))
@example(38, 0.875, "sensitivity")  # one patient with the label lies below all without it
def test_no_threshold_that_reaches_the_value_gives_up_less(make, seed, value, target):
    """Against all thresholds in turn; scores of one digit, so that many are equal."""
    rng = np.random.default_rng(seed)
    score, has = np.round(rng.random(30), 1), rng.permutation(np.arange(30) < 12)
    table = make(np.where(has, *reversed(LABELS)), score, labels=LABELS)
    seen = table.probabilities[:, 1]
    both = [((seen[has] >= t).mean(), (seen[~has] < t).mean()) for t in np.unique(seen)]
    at, other = (0, 1) if target == "sensitivity" else (1, 0)
    best = max((pair[other] for pair in both if pair[at] >= value - 1e-12), default=0.0)
    point = choose_operating_point(table, value, target=target)
    if best == 0:
        assert isinstance(point, Undefined)
    else:
        pair = (seen[has] >= point.threshold).mean(), (seen[~has] < point.threshold).mean()
        assert pair[at] >= value - 1e-12
        assert pair[other] == best


def test_another_label_can_be_flagged(make):
    table = patients(make)
    point = choose_operating_point(table, 0.9, label="benign")
    has = table.reference == "benign"
    assert point.label == "benign"
    assert (table.probabilities[has, 0] >= point.threshold).mean() == 0.9
    (record,) = measure_operating_point(table, 0.9, label="benign")
    assert record["label"] == "benign"


@pytest.mark.parametrize(
    "score",
    [np.full(20, 0.7), np.tile([0.0, 1.0], 10), np.where(np.arange(20) < 2, 0.0, 1.0)],
    ids=["constant", "all wrong", "0 or 1"],
)
def test_a_threshold_that_flags_everybody_is_none(make, score):
    table = make(["malignant", "benign"] * 10, score, labels=LABELS)
    found = choose_operating_point(table, 0.95)
    assert found == Undefined("a sensitivity of 0.95 takes flagging all without 'malignant'")
    (record,) = measure_operating_point(table, 0.95)
    assert record["undefined"]


def test_a_threshold_that_finds_nobody_is_none(make):
    table = make(["malignant", "benign"] * 10, np.tile([0.1, 0.8], 10), labels=LABELS)
    assert choose_operating_point(table, 0.9, target="specificity") == Undefined(
        "a specificity of 0.9 takes flagging none with 'malignant'"
    )


def test_probabilities_of_0_and_1_that_are_right_have_the_threshold_1(make):
    table = make(["malignant", "benign"] * 10, np.tile([1.0, 0.0], 10), labels=LABELS)
    assert choose_operating_point(table).threshold == 1.0


def test_two_patients_have_a_threshold_and_the_fold_that_cannot_be_judged_is_named(make):
    table = make(["benign", "malignant"], [0.2, 0.9], labels=LABELS, fold=["0", "1"])
    assert choose_operating_point(table).threshold == 0.9
    (record,) = measure_operating_point(table, 0.95)
    assert record["undefined"] == "without fold '0': all patients or none are 'malignant'"


def test_slices_of_one_patient_are_not_counted_as_patients(make):
    owners = np.repeat([f"p{i}" for i in range(10)], 4)
    table = make(["benign", "malignant"] * 20, np.full(40, 0.5), patients=owners, labels=LABELS)
    for ask in (choose_operating_point, lambda t: measure_operating_point(t, 0.9)):
        with pytest.raises(EvaluateError, match="one row a patient, got 40 rows of 10"):
            ask(table)


def test_images_of_unknown_patients_get_no_interval(make):
    (record,) = measure_operating_point(patients(make, unit="image"), 0.9)
    assert record["sensitivity"]["low"] is record["npv"]["high"] is None
    (row,) = predictive_values(record["sensitivity"], record["specificity"], [0.1])
    assert row["ppv"]["low"] is None
    assert 0 < row["ppv"]["value"] < 1


def test_predictive_values_are_those_counted_at_the_cohorts_own_prevalence(make):
    (record,) = measure_operating_point(patients(make), 0.9, "estimate")
    (row,) = predictive_values(record["sensitivity"], record["specificity"], [0.5])
    assert row["ppv"]["value"] == pytest.approx(record["ppv"]["value"])
    assert row["npv"]["value"] == pytest.approx(record["npv"]["value"])
    assert row["ppv"]["low"] < row["ppv"]["value"] < row["ppv"]["high"]
    rare, common = predictive_values(record["sensitivity"], record["specificity"], [0.05, 0.9])
    assert rare["ppv"]["value"] < row["ppv"]["value"] < common["ppv"]["value"]


def test_nobody_flagged_has_no_predictive_value():
    nothing = {"value": 0.0, "low": 0.0, "high": 0.0}
    everything = {"value": 1.0, "low": 1.0, "high": 1.0}
    (row,) = predictive_values(nothing, everything, [0.1])
    assert row["ppv"] is None
    assert row["npv"]["value"] == pytest.approx(0.9)


def test_predictive_values_are_those_of_the_published_liver_scans():
    """231 of 258 abnormal livers found, 54 of 86 normal ones spared; Altman and Bland 1994."""
    found, spared = {"value": 231 / 258}, {"value": 54 / 86}
    for share in (found, spared):
        share |= {"low": share["value"], "high": share["value"]}
    own, rarer = predictive_values(found, spared, [258 / 344, 0.25])
    assert own["ppv"]["value"] == pytest.approx(231 / 263)
    assert own["npv"]["value"] == pytest.approx(54 / 81)
    assert round(rarer["ppv"]["value"], 2) == 0.45
    assert round(rarer["npv"]["value"], 2) == 0.95


def test_a_prevalence_outside_0_to_1_is_refused():
    half = {"value": 0.5, "low": 0.4, "high": 0.6}
    with pytest.raises(EvaluateError, match="expected prevalences between 0 and 1, got 10"):
        predictive_values(half, half, [10])
