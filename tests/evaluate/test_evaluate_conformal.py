from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hepar.errors import EvaluateError
from hepar.evaluate import conformal_from_json, fit_conformal, measure_conformal
from hepar.evaluate.conformal import least_patients

LABELS = ("normal", "benign", "malignant")


def patients(make, rng, n, labels=LABELS, folds=5):
    """Exchangeable patients whose probabilities are those of their labels, in folds."""
    probabilities = rng.dirichlet(np.ones(len(labels)), n)
    reference = [labels[rng.choice(len(labels), p=p)] for p in probabilities]
    fold = [str(i % folds) for i in range(n)]
    return make(reference, probabilities, labels=labels, fold=fold)


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_every_label_is_covered_as_often_as_promised_over_200_cohorts(make, method):
    """The mean coverage of a label with n patients lies between c and c + 1 / (n + 1).

    A threshold one rank too low would give 1 / (n + 1), here 5 points, too little.
    """
    rng = np.random.default_rng(0)
    held, promised = [], []
    for _ in range(200):
        learn, new = patients(make, rng, 60), patients(make, rng, 200)
        rule = fit_conformal(learn, method, 0.8)
        sets, codes = rule.sets(new.probabilities), new.reference_index
        held.append([sets[codes == c, c].mean() for c in range(3)])
        n = [rule.n[label] for label in LABELS]
        promised.append([np.ceil((k + 1) * 0.8) / (k + 1) for k in n])
    # The standard error of a mean over 200 cohorts is below 0.008.
    np.testing.assert_allclose(np.mean(held, axis=0), np.mean(promised, axis=0), atol=0.024)
    assert np.min(np.mean(held, axis=0)) > 0.78


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
    rule = replace(fit_conformal(table), thresholds=(0.4, 0.4, 0.4))
    rows = np.array([[0.8, 0.1, 0.1], [0.5, 0.3, 0.2], [0.6, 0.6, 0.2]])
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
                    "thresholds": [x + add for x in limits],
                    "n": {},
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


@pytest.mark.parametrize("document", [{}, {"method": "lac", "coverage": "x"}])
def test_a_document_that_is_no_rule_is_refused(document):
    with pytest.raises(EvaluateError, match="conformal rule: expected one of hepar"):
        conformal_from_json(document)


def test_an_unknown_method_or_coverage_is_refused(make):
    table = make(["a", "b"], [0.1, 0.9], labels=("a", "b"))
    with pytest.raises(EvaluateError, match="expected lac or aps with a coverage between 0 and 1"):
        fit_conformal(table, "raps")
    with pytest.raises(EvaluateError, match=r"got 'lac' with 1\.0"):
        fit_conformal(table, "lac", 1.0)
