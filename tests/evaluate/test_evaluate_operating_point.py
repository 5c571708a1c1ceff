from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate import (
    Undefined,
    choose_operating_point,
    decision_curve,
    measure_operating_point,
    operating_point_from_json,
    predictive_values,
    wilson,
)

FEW = EvaluateConfig(resamples=200)
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
    with pytest.raises(EvaluateError, match="operating point: expected one of hepar, got"):
        operating_point_from_json({"threshold": 0.5})


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
    with pytest.raises(EvaluateError, match="expected patients and thresholds between 0 and 1"):
        decision_curve(patients(make), [0.0, 0.5], FEW)
