from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate import Undefined, conformal_sureness, risk_coverage
from hepar.evaluate.intervals import resamples

FEW = EvaluateConfig(resamples=200)


def drawn(make, n=200, seed=0, **changes):
    """Patients whose probabilities are right, in five folds."""
    rng = np.random.default_rng(seed)
    score = rng.random(n)
    reference = np.where(rng.random(n) < score, "b", "a")
    return make(reference, score, labels=("a", "b"), fold=[str(i % 5) for i in range(n)], **changes)


def test_the_surest_are_answered_first(make):
    reference = ["b", "b", "a", "b"]
    table = make(reference, [0.95, 0.2, 0.3, 0.6], labels=("a", "b"))  # the second is wrong
    found = risk_coverage(table, FEW)
    assert found["answered"] == [0.25, 0.5, 0.75, 1.0]
    assert found["risk"] == pytest.approx([0, 0.5, 1 / 3, 1 / 4])
    assert found["area"] == pytest.approx(np.mean([0, 0.5, 1 / 3, 1 / 4]))
    assert found["low"] is None


def test_patients_who_are_equally_sure_are_answered_together_whatever_their_order(make):
    reference, score = np.array(list("ab") * 10), np.repeat([0.9, 0.6], 10)
    table = make(reference, score, labels=("a", "b"))
    turned = make(reference[::-1], score[::-1], labels=("a", "b"))
    first, second = risk_coverage(table, FEW), risk_coverage(turned, FEW)
    assert first["answered"] == second["answered"] == [0.5, 1.0]
    assert first["risk"] == second["risk"] == [0.5, 0.5]


def test_the_band_holds_the_curve_and_ends_at_the_error_of_all(make):
    table = drawn(make)
    found = risk_coverage(table, FEW)
    assert found["risk"][-1] == pytest.approx((table.predicted != table.reference).mean())
    half = len(found["risk"]) // 2
    assert found["low"][half] <= found["risk"][half] <= found["high"][half]
    assert found["risk"][half] < found["risk"][-1]


def test_constant_scores_have_no_curve(make):
    table = make(["a", "b"] * 10, np.full(20, 0.7), labels=("a", "b"))
    assert risk_coverage(table, FEW) == Undefined("all 20 patients are equally sure")


def test_constant_scores_but_for_rounding_have_no_curve(make):
    score = np.full(20, 0.7) + np.tile([0.0, 2e-16], 10)
    assert len(set(score)) == 2
    table = make(["a", "b"] * 10, score, labels=("a", "b"))
    assert isinstance(risk_coverage(table, FEW), Undefined)


def test_fewer_than_two_references_have_no_curve(make):
    table = make(["a", ""], [0.2, 0.7], labels=("a", "b"))
    few = Undefined("fewer than two patients have a reference")
    assert risk_coverage(table, FEW) == risk_coverage(table.select(np.arange(0)), FEW) == few


def test_two_patients_have_a_curve_without_a_band(make):
    found = risk_coverage(make(["a", "b"], [0.1, 0.2], labels=("a", "b")), FEW)
    assert (found["answered"], found["risk"]) == ([0.5, 1.0], [0.0, 0.5])
    assert found["no_interval"] == "rests on 2 patients, and an interval needs 10"


def test_probabilities_of_0_and_1_have_no_curve(make):
    table = make(["a", "b"] * 10, np.tile([0.0, 1.0], 10), labels=("a", "b"))
    assert "equally sure" in risk_coverage(table, FEW).reason


def test_the_area_lies_in_its_interval_and_a_blind_order_gives_the_error_of_all(make):
    table = drawn(make, 400)
    found = risk_coverage(table, FEW)
    assert found["area_low"] < found["area"] < found["area_high"] < found["risk"][-1]
    blind = risk_coverage(table, FEW, np.random.default_rng(1).random(400))
    assert blind["area_low"] < blind["risk"][-1] < blind["area_high"]


def test_a_long_curve_is_given_at_200_points_and_its_area_is_that_of_all(make):
    table = drawn(make, 3000)
    found = risk_coverage(table, FEW)
    assert 150 < len(found["risk"]) <= 200
    assert len(found["low"]) == len(found["high"]) == len(found["answered"]) == len(found["risk"])
    order = np.argsort(-table.probabilities.max(axis=1))
    wrong = (table.predicted != table.reference)[order]
    assert found["area"] == pytest.approx(np.mean(wrong.cumsum() / np.arange(1, 3001)))
    assert found["answered"][-1] == 1.0
    assert found["answered"][0] == 1 / 3000
    at = round(found["answered"][77] * 3000)
    assert found["risk"][77] == pytest.approx(wrong[:at].mean())


def test_copies_of_a_patients_slices_do_not_narrow_the_band(make):
    table = drawn(make, 40)
    rows = np.repeat(np.arange(40), 5)
    slices = make(
        table.reference[rows],
        table.probabilities[rows],
        patients=table.patient_id[rows],
        labels=("a", "b"),
    )
    once, five = risk_coverage(table, FEW), risk_coverage(slices, FEW)
    for name in ("risk", "area", "area_low", "area_high"):
        np.testing.assert_allclose(once[name], five[name], atol=1e-12)
    assert once["low"][-5:] == pytest.approx(five["low"][-5:])


def test_images_of_unknown_patients_get_no_band(make):
    found = risk_coverage(drawn(make, unit="image"), FEW)
    assert found["low"] is found["area_high"] is None
    assert "images of one are alike" in found["no_interval"]


def test_patients_are_ordered_by_conformal_sureness_too(make):
    table = drawn(make)
    sure = conformal_sureness(table)
    found = risk_coverage(table, FEW, sure)
    assert ((sure >= 0) & (sure < 1)).all()
    assert found["area"] < found["risk"][-1] - 0.05
    turned = table.select(np.arange(200)[::-1])
    assert risk_coverage(turned, FEW, conformal_sureness(turned))["risk"] == found["risk"]


def test_a_patients_own_reference_does_not_make_it_sure(make):
    table = drawn(make)
    own = table.fold == "2"
    turned = replace(table, reference=np.where(own, "a", table.reference))
    first, second = conformal_sureness(table), conformal_sureness(turned)
    np.testing.assert_array_equal(first[own], second[own])
    assert (first[~own] != second[~own]).any()


def test_without_left_out_patients_conformal_prediction_is_sure_of_nothing(make):
    table = replace(drawn(make), fold=[""] * 200)
    assert (conformal_sureness(table) == 0).all()
    assert "equally sure" in risk_coverage(table, FEW, conformal_sureness(table)).reason


@pytest.mark.parametrize("sureness", [np.zeros(3), np.full(200, np.nan), np.zeros((200, 1))])
def test_sureness_of_other_rows_is_refused(make, sureness):
    with pytest.raises(EvaluateError, match="expected a finite sureness for each of 200 rows"):
        risk_coverage(drawn(make), FEW, sureness)


def test_the_band_is_that_of_resampling_patients_one_by_one(make):
    """Patients of one to four slices each, mixed, many equally sure, counted in a plain loop."""
    rng = np.random.default_rng(0)
    names = [f"p{i:02d}" for i in range(24)]
    owners = rng.permutation(np.repeat(names, np.arange(24) % 4 + 1))
    score = np.round(rng.random(len(owners)), 1)
    reference = np.where(rng.random(len(owners)) < score, "b", "a")
    table = make(reference, score, patients=owners, labels=("a", "b"))
    config = EvaluateConfig(resamples=40)
    found = risk_coverage(table, config)
    sure = np.round(table.probabilities.max(axis=1), 9)
    wrong = table.predicted != table.reference
    levels = np.unique(sure)[::-1]
    risks, areas = [], []
    for times in np.concatenate(list(resamples(24, config))).astype(int):
        rows = np.array(
            [
                row
                for name, k in zip(names, times, strict=True)
                for row in np.flatnonzero(owners == name).tolist() * k
            ]
        )
        each = {level: wrong[rows][sure[rows] >= level].mean() for level in levels}
        risks.append(list(each.values()))
        areas.append(np.mean([each[level] for level in sure[rows]]))
    low, high = np.quantile(risks, [0.025, 0.975], axis=0)
    assert found["low"] == pytest.approx(low)
    assert found["high"] == pytest.approx(high)
    ends = [found["area_low"], found["area_high"]]
    assert ends == pytest.approx(np.quantile(areas, [0.025, 0.975]))
