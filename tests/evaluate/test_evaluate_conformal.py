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
    conformal_from_json,
    conformal_sureness,
    fit_conformal,
    measure_conformal,
)
from hepar.evaluate.conformal import least_patients, own_misfits

LABELS = ("normal", "benign", "malignant")


def patients(make, rng, n, labels=LABELS, folds=5):
    """Exchangeable patients whose probabilities are those of their labels, in folds."""
    probabilities = rng.dirichlet(np.ones(len(labels)), n)
    codes = (rng.random((n, 1)) > probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)
    reference = np.array(labels)[codes]
    fold = [str(i % folds) for i in range(n)]
    return make(reference, probabilities, labels=labels, fold=fold)


def one_rank_lower(rule, learn):
    """The rule that counting n instead of n + 1 patients, or from 1 instead of 0, would give."""
    own = own_misfits(rule.method, learn)
    ranks = [int(np.searchsorted(own[a], b)) for a, b in zip(LABELS, rule.thresholds, strict=True)]
    lower = tuple(float(own[a][rank - 1]) for a, rank in zip(LABELS, ranks, strict=True))
    return replace(rule, thresholds=lower)


def held(make, method, changed=None):
    """Mean coverage of each label over 200 cohorts, and what the ranks of the thresholds promise.

    The mean coverage of the k-th smallest of n scores is k / (n + 1). Its standard error over 200
    cohorts of 60 patients is below 0.008.
    """
    rng = np.random.default_rng(0)
    covered, promised = [], []
    for _ in range(200):
        learn, new = patients(make, rng, 60), patients(make, rng, 200)
        rule = fit_conformal(learn, method, 0.8)
        used = changed(rule, learn) if changed else rule
        sets, codes = used.sets(new.probabilities), new.reference_index
        covered.append([sets[codes == c, c].mean() for c in range(3)])
        n = np.array([rule.n[label] for label in LABELS])
        promised.append(np.ceil((n + 1) * 0.8) / (n + 1))
    return np.mean(covered, axis=0), np.mean(promised, axis=0)


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_every_label_is_covered_as_often_as_promised_over_200_cohorts(make, method):
    covered, promised = held(make, method)
    np.testing.assert_allclose(covered, promised, atol=0.024)
    assert covered.min() > 0.8 - 0.016


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_a_threshold_one_rank_too_low_would_be_seen(make, method):
    covered, promised = held(make, method, one_rank_lower)
    assert (promised - covered).max() > 0.024
    assert covered.min() < 0.8 - 0.016


@given(st.floats(0.5, 0.95), st.sampled_from(["lac", "aps"]))
def test_sureness_is_the_coverage_up_to_which_a_set_holds_one_label(make, coverage, method):
    """p-values, computed by counting, agree with thresholds, found by sorting."""
    table = patients(make, np.random.default_rng(6), 150)
    new = replace(table, partition=np.where(table.fold == "4", "test", "train"))
    sure = conformal_sureness(new, method)[new.partition == "test"]
    sets = fit_conformal(new, method, coverage).sets(new.probabilities[new.partition == "test"])
    clear = np.abs(sure - coverage) > 1e-9
    np.testing.assert_array_equal((sets.sum(axis=1) <= 1)[clear], (sure > coverage)[clear])


def test_rounding_of_a_sum_decides_about_no_label(make):
    """The least likely label has the sum of all as its score: 1, but for the last bits."""
    rng = np.random.default_rng(7)
    p = rng.dirichlet(np.ones(3) * 3, 300)
    reference = [LABELS[c] for c in p.argmin(axis=1)]  # every patient has the least likely label
    rule = fit_conformal(make(reference, p, labels=LABELS), "aps", 0.9)
    assert rule.thresholds == (1.0, 1.0, 1.0)
    assert rule.sets(p * (1 - 3e-8)).all()
    assert rule.sets(p.astype(np.float32)).all()


def test_a_patients_own_reference_never_sets_that_patients_threshold(make):
    table = patients(make, np.random.default_rng(1), 150)
    own = table.fold == "0"
    assert measure_conformal(table, "lac", 0.8)[0]["covered"]["n"] == 150
    turned = replace(table, reference=np.where(own, "normal", table.reference))
    rest = [t.select(t.fold != "0") for t in (table, turned)]
    first, second = (fit_conformal(t, "lac", 0.8) for t in rest)
    assert first.thresholds == second.thresholds
    assert fit_conformal(table).thresholds != fit_conformal(turned).thresholds


def test_a_level_that_too_few_patients_cannot_support_is_refused_with_one_they_can(make):
    table = make(["a"] * 30 + ["b"] * 12, np.full(42, 0.5), labels=("a", "b"))
    rule = fit_conformal(table, "lac", 0.95)
    assert rule.reason == (
        "95 % needs 19 patients of each label, and 'b' has 12; up to 92 % could be promised"
    )
    with pytest.raises(EvaluateError, match="conformal: expected a rule, got none: 95 % needs"):
        rule.sets(table.probabilities)
    assert not fit_conformal(table, "lac", 0.92).reason
    assert measure_conformal(table, "lac", 0.95)[0]["undefined"]


def test_two_patients_promise_half_at_most(make):
    table = make(["a", "b"], [0.2, 0.9], labels=("a", "b"))
    assert "up to 50 % could be promised" in fit_conformal(table, "lac", 0.9).reason


@given(st.floats(0.05, 0.99))
def test_the_patients_needed_are_just_enough(coverage):
    n = least_patients(coverage)
    assert np.ceil(round((n + 1) * coverage, 9)) <= n
    assert np.ceil(round(n * coverage, 9)) > n - 1


def test_an_answer_says_why_it_is_none(make):
    table = patients(make, np.random.default_rng(2), 200)
    rule = replace(fit_conformal(table), thresholds=(0.6, 0.6, 0.6))
    rows = np.array([[0.8, 0.1, 0.1], [0.35, 0.35, 0.3], [0.45, 0.45, 0.1]])
    assert rule.answers(rows) == [
        (("normal",), ""),
        ((), "no label is likely enough at 90 % coverage: unlike the training patients"),
        (("normal", "benign"), "normal and benign are both possible at 90 % coverage"),
    ]


def test_constant_scores_leave_all_labels_possible(make):
    table = make(list("abc") * 20, np.full((60, 3), 1 / 3), labels=("a", "b", "c"))
    for method in ("lac", "aps"):
        rule = fit_conformal(table, method)
        assert rule.sets(table.probabilities).all()
        assert rule.answers(table.probabilities[:1])[0][1] == (
            "a, b and c are all possible at 90 % coverage"
        )


def test_probabilities_of_nothing_but_0_and_1_give_sets_of_one_label_or_all(make):
    reference = list("ab") * 30
    hard = np.array([1.0 if name == "b" else 0.0 for name in reference])
    table = make(reference, hard, labels=("a", "b"))
    assert (fit_conformal(table).sets(table.probabilities).sum(axis=1) == 1).all()
    hard[:8] = 1 - hard[:8]  # four wrong of thirty: more than a tenth
    wrong = make(reference, hard, labels=("a", "b"))
    assert fit_conformal(wrong).sets(wrong.probabilities).all()


@given(
    arrays(float, (6, 3), elements=st.floats(0.01, 1)),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.floats(0, 0.5),
)
def test_a_higher_threshold_never_takes_a_label_out(raw, limits, more):
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    for method in ("lac", "aps"):
        low, high = (
            conformal_from_json(
                {
                    "method": method,
                    "coverage": 0.9,
                    "labels": list("abc"),
                    "thresholds": [min(1.0, x + add) for x in limits],
                    "n": dict.fromkeys("abc", 20),
                    "reason": "",
                }
            )
            for add in (0, more)
        )
        assert (high.sets(probabilities) >= low.sets(probabilities)).all()


def test_a_rule_survives_its_json_to_the_bit(make):
    rule = fit_conformal(patients(make, np.random.default_rng(3), 100))
    again = conformal_from_json(json.loads(json.dumps(rule.to_json())))
    assert again.to_json() == rule.to_json()


def test_what_is_measured_adds_up(make):
    table = patients(make, np.random.default_rng(4), 300)
    test = replace(
        patients(make, np.random.default_rng(5), 40),
        sample_id=[f"t{i}" for i in range(40)],
        patient_id=[f"t{i}" for i in range(40)],
        partition=["test"] * 40,
        fold=[""] * 40,
    )
    names = ("sample_id", "patient_id", "partition", "fold", "reference", "predicted")
    both = replace(
        table,
        probabilities=np.concatenate([table.probabilities, test.probabilities]),
        **{n: np.concatenate([getattr(table, n), getattr(test, n)]) for n in names},
    )
    first, second = measure_conformal(both, "lac", 0.8)
    assert (first["partition"], first["n"], second["partition"], second["n"]) == (
        "out-of-fold",
        300,
        "test",
        40,
    )
    assert first["covered"]["k"] == sum(first["by_label"][name]["k"] for name in LABELS)
    assert first["right"]["n"] == first["answered"]["k"]
    assert 0.7 < first["covered"]["value"] < 0.9
    assert 1 < first["set_size"] < 3


def test_an_empty_set_answers_nothing_and_covers_nothing(make):
    """Patients of "a" and "b" lie at 0.1 and 0.9, so 0.5 is like neither."""
    score = np.append(np.tile([0.1, 0.9], 20), np.full(4, 0.5))
    test = np.arange(44) >= 40
    table = make(
        np.append(np.tile(["a", "b"], 20), ["a"] * 4),
        score,
        labels=("a", "b"),
        partition=np.where(test, "test", "train"),
        fold=np.where(test, "", np.tile(list("0123"), 11)),
    )
    _, record = measure_conformal(table, "lac", 0.8)
    assert (record["empty"], record["set_size"], record["right"]) == (4, 0.0, None)
    assert record["answered"]["k"] == record["covered"]["k"] == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "raps"}, "expected lac or aps"),
        ({"coverage": 7.0}, "coverage between 0 and 1, got 'lac' with 7.0"),
        ({"coverage": "x"}, "expected one of hepar, got could not convert"),
        ({"thresholds": [0.5, 0.5]}, "expected 3 thresholds in"),
        ({"thresholds": [0.5, 0.5, float("nan")]}, "expected 3 thresholds in"),
        ({"thresholds": [0.5, 0.5, 1.5]}, "expected 3 thresholds in"),
        ({"thresholds": []}, "expected 3 thresholds in"),
        ({"thresholds": "011"}, "kinds of values that hepar writes"),
        ({"reason": "none"}, "expected 0 thresholds in"),
        ({"reason": None}, "kinds of values that hepar writes"),
        ({"labels": "abc"}, "kinds of values that hepar writes"),
        ({"labels": ["a", "a", "a"]}, "expected labels and a count of each"),
        ({"n": {"normal": 3}}, "expected labels and a count of each"),
        ({"n": 3}, "expected one of hepar"),
        ({"more": 1}, "kinds of values that hepar writes"),
    ],
)
def test_a_document_that_is_no_rule_is_refused(make, changes, said):
    document = fit_conformal(patients(make, np.random.default_rng(3), 100)).to_json()
    with pytest.raises(EvaluateError, match=said):
        conformal_from_json({**document, **changes})


def test_an_empty_document_is_refused():
    with pytest.raises(EvaluateError, match="conformal rule: expected one of hepar, got 'method'"):
        conformal_from_json({})


def test_a_rule_that_is_none_survives_its_json_too(make):
    rule = fit_conformal(make(["a", "b"], [0.2, 0.9], labels=("a", "b")))
    assert not rule.is_defined
    assert conformal_from_json(json.loads(json.dumps(rule.to_json()))).reason == rule.reason


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.full((2, 2), 0.5), r"expected 3 probabilities a row, got shape \(2, 2\)"),
        (np.full(3, 1 / 3), r"expected 3 probabilities a row, got shape \(3,\)"),
        (np.full((1, 3), np.nan), "expected probabilities that sum to 1, got"),
        (np.array([[2.0, -1.0, 0.0]]), "expected probabilities that sum to 1, got"),
        (np.array([[3.0, 1.0, 2.0]]), "expected probabilities that sum to 1, got"),
    ],
)
def test_rows_that_are_no_probabilities_of_the_labels_are_refused(make, rows, said):
    rule = fit_conformal(patients(make, np.random.default_rng(3), 100))
    with pytest.raises(EvaluateError, match=said):
        rule.sets(rows)


@pytest.mark.parametrize("n", [1, 2, 8, 9, 18, 19, 98, 99])
def test_the_coverage_offered_instead_can_be_had(make, n):
    table = make(["a"] * n + ["b"] * 200, np.full(n + 200, 0.5), labels=("a", "b"))
    reason = fit_conformal(table, "lac", 0.995).reason
    could = int(reason.split("up to ")[1].split(" %")[0])
    assert fit_conformal(table, "lac", could / 100).is_defined
    assert could == 99 or least_patients((could + 1) / 100) > n


def test_slices_of_one_patient_are_not_counted_as_patients(make):
    owners = np.repeat([f"p{i}" for i in range(10)], 6)
    table = make(["a", "b"] * 30, np.full(60, 0.5), patients=owners, labels=("a", "b"))
    for ask in (fit_conformal, lambda t: measure_conformal(t, "lac", 0.9), conformal_sureness):
        with pytest.raises(EvaluateError, match="one row a patient, got 60 rows of 10"):
            ask(table)


def test_images_of_unknown_patients_get_no_interval(make):
    table = replace(patients(make, np.random.default_rng(1), 150), unit="image")
    (record,) = measure_conformal(table, "lac", 0.8)
    assert record["covered"]["low"] is record["by_label"]["benign"]["high"] is None
    assert record["covered"]["value"] == pytest.approx(0.8, abs=0.1)


def test_the_fold_whose_patients_nobody_can_judge_is_named(make):
    reference = np.array(list("ab") * 11)
    fold = np.array(["1"] * 18 + ["2"] * 4)
    table = make(reference, np.full(22, 0.5), labels=("a", "b"), fold=fold)
    (record,) = measure_conformal(table, "lac", 0.9)
    assert fit_conformal(table, "lac", 0.9).is_defined
    assert record["undefined"] == (
        "without fold '1': 90 % needs 9 patients of each label, and 'a' has 2; up to 66 % could be "
        "promised"
    )


def test_rows_that_were_not_left_out_teach_nothing(make):
    table = make(list("ab") * 30, np.full(60, 0.5), labels=("a", "b"), fold=[""] * 60)
    assert fit_conformal(table).reason.endswith("'a' has 0")


def test_an_unknown_method_or_coverage_is_refused(make):
    table = make(["a", "b"], [0.1, 0.9], labels=("a", "b"))
    with pytest.raises(EvaluateError, match="expected lac or aps with a coverage between 0 and 1"):
        fit_conformal(table, "raps")
    with pytest.raises(EvaluateError, match=r"got 'lac' with 1\.0"):
        fit_conformal(table, "lac", 1.0)
