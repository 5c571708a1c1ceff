"""Intervals: of patients, never of slices; honest or absent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate.intervals import (
    Estimate,
    Undefined,
    estimate,
    mean_of_proportions,
    newcombe_auroc,
    wilson,
)
from hepar.evaluate.metrics import count_by_patient

FEW = EvaluateConfig(resamples=300)


def cohort(make, n_patients=40, each=20, seed=0):
    """Slices whose accuracy differs from patient to patient."""
    generator = np.random.default_rng(seed)
    owner = np.repeat(np.arange(n_patients), each)
    skill = generator.beta(3.2, 0.8, n_patients)[owner]
    right = generator.random(len(owner)) < skill
    sick = generator.random(len(owner)) < 0.5
    score = np.where(right == sick, 0.7, 0.3) + generator.normal(0, 0.05, len(owner))
    patients = np.char.add("P", owner.astype(str))
    return make(np.where(sick, "tumour", "no_tumour"), np.clip(score, 0, 1), patients)


def test_every_interval_holds_its_estimate(make):
    found = estimate(count_by_patient(cohort(make)), "slice", FEW)
    for result in found.values():
        assert isinstance(result, Estimate)
        assert 0 <= result.low <= result.value <= result.high <= 1
        assert result.high > result.low


def test_the_same_seed_gives_the_same_interval_whatever_the_order(make):
    rows = cohort(make)
    mixed = rows.select(np.random.default_rng(1).permutation(len(rows)))
    first = estimate(count_by_patient(rows), "slice", FEW)
    assert first == estimate(count_by_patient(mixed), "slice", FEW)
    other = estimate(count_by_patient(rows), "slice", EvaluateConfig(resamples=300, seed=1))
    assert first["accuracy", None].low != other["accuracy", None].low


def test_repeating_every_slice_does_not_narrow_the_interval(make):
    rows = cohort(make)
    index = np.tile(np.arange(len(rows)), 3)
    tripled = make(rows.reference[index], rows.probabilities[index], rows.patient_id[index])
    once, thrice = (estimate(count_by_patient(t), "slice", FEW) for t in (rows, tripled))
    for key, result in once.items():
        np.testing.assert_allclose(
            [result.low, result.high], [thrice[key].low, thrice[key].high], rtol=1e-9
        )


def test_the_interval_narrows_with_more_patients(make):
    widths = []
    for n in (20, 80, 320):
        result = estimate(count_by_patient(cohort(make, n)), "slice", FEW)["auroc", 1]
        widths.append(result.high - result.low)
    assert widths[0] > widths[1] > widths[2]


def test_the_interval_covers_the_truth_where_one_over_slices_does_not(make):
    """40 patients: simulated coverage is 93 % over patients and 60 % over slices."""
    held = naive = 0
    for seed in range(60):
        rows = cohort(make, 40, 20, seed)
        result = estimate(count_by_patient(rows), "slice", FEW)["accuracy", None]
        held += result.low <= 0.8 <= result.high
        low, high = wilson(result.value * len(rows), len(rows))
        naive += low <= 0.8 <= high
    assert held >= 51
    assert naive <= 48


@pytest.mark.parametrize("level", ["patient", "slice"])
def test_a_perfect_result_never_has_an_interval_without_width(make, level):
    reference = ["tumour"] * 22 + ["no_tumour"] * 22
    patients = None if level == "patient" else [f"P{i}" for i in range(44)]
    rows = make(reference, [0.9] * 22 + [0.1] * 22, patients)
    found = estimate(count_by_patient(rows), level, FEW)
    assert (found["sensitivity", 1].method, found["auroc", 1].method) == ("wilson", "newcombe")
    assert round(found["sensitivity", 1].low, 3) == 0.851
    for result in found.values():
        assert result.value == 1
        assert (result.low is None) == bool(result.no_interval)
        assert result.low is None or result.low < 0.95


def test_a_perfect_result_on_slices_is_as_sure_as_its_patients_are_many(make):
    """22 patients of 5 slices with a tumour and 22 without: Wilson of 22, never of 110."""
    owner = np.repeat(np.arange(44), 5)
    sick = owner < 22
    names = np.where(sick, "tumour", "no_tumour")
    rows = make(names, np.where(sick, 0.9, 0.1), [f"P{i}" for i in owner])
    found = estimate(count_by_patient(rows), "slice", FEW)
    for key, n, ends in (
        (("sensitivity", 1), 22, wilson(22, 22)),
        (("specificity", 1), 22, wilson(22, 22)),
        (("precision", 1), 22, wilson(22, 22)),
        (("accuracy", None), 44, wilson(44, 44)),
        (("balanced_accuracy", None), 44, mean_of_proportions(np.full(2, 22), np.full(2, 22))),
        (("auroc", 1), 44, newcombe_auroc(1.0, 22, 22)),
    ):
        assert found[key].n_patients == n
        assert found[key].n_samples == 5 * n
        assert (found[key].low, found[key].high) == pytest.approx(ends)


@pytest.mark.parametrize(("n_sick", "method"), [(9, "newcombe"), (10, "bootstrap")])
def test_few_patients_have_newcombes_interval_of_their_auroc(make, n_sick, method):
    score = np.linspace(0.2, 0.8, 40)
    sick = np.isin(np.arange(40), np.linspace(15, 39, n_sick).astype(int))
    rows = make(np.where(sick, "tumour", "no_tumour"), score)
    found = estimate(count_by_patient(rows), "patient", FEW)
    result = found["auroc", 1]
    assert result.method == method
    expected = newcombe_auroc(result.value, n_sick, 40 - n_sick)
    same = (result.low, result.high) == pytest.approx(expected)
    assert same == (method == "newcombe")
    assert found["auroc", None].method == ("none" if method == "newcombe" else "bootstrap")


def test_few_patients_have_no_bootstrap_interval(make):
    rows = cohort(make, 4)
    result = estimate(count_by_patient(rows), "slice", FEW)["auroc", 1]
    assert result.low is None
    assert result.method == "none"
    assert result.no_interval == "rests on 4 patients, and an interval here needs 10"


def test_resamples_that_are_undefined_are_not_passed_over_in_silence(make):
    reference = ["tumour"] * 10 + ["no_tumour"] * 30
    predicted = np.array(["tumour"] * 2 + ["no_tumour"] * 38)
    rows = make(reference, np.linspace(0.9, 0.1, 40), predicted=predicted)
    result = estimate(count_by_patient(rows), "patient", FEW)["precision", None]
    assert result.low is None
    assert "rests on 2 patients" in result.no_interval


def test_unknown_patients_have_no_interval(make):
    rows = cohort(make)
    found = estimate(count_by_patient(rows), "slice", FEW, grouped=False)
    assert {result.low for result in found.values()} == {None}
    assert "patients are unknown" in found["accuracy", None].no_interval


def test_what_cannot_be_computed_says_why(make):
    found = estimate(count_by_patient(make(["tumour"] * 3, [0.9, 0.8, 0.7])), "patient", FEW)
    assert found["auroc", 1] == Undefined("no patients with a reference other than 'tumour'")
    assert found["sensitivity", None] == Undefined("no patients with reference 'no_tumour'")


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_proportion_and_is_symmetric(n, data):
    x = data.draw(st.integers(0, n))
    low, high = wilson(x, n)
    assert 0 <= low <= x / n <= high <= 1
    assert high > low
    np.testing.assert_allclose(wilson(n - x, n), (1 - high, 1 - low), atol=1e-12)


@given(st.floats(0, 1), st.integers(1, 200), st.integers(1, 200))
def test_newcombe_holds_the_auroc_and_is_symmetric(value, m, n):
    low, high = newcombe_auroc(value, m, n)
    assert 0 <= low <= value + 1e-9
    assert value - 1e-9 <= high <= 1
    assert high > low
    np.testing.assert_allclose(newcombe_auroc(1 - value, m, n), (1 - high, 1 - low), atol=1e-6)


def test_the_mean_of_one_proportion_is_that_proportion():
    np.testing.assert_allclose(
        mean_of_proportions(np.array([17.0]), np.array([20.0])), wilson(17, 20)
    )


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_coverage_outside_0_to_1_is_refused(level):
    with pytest.raises(EvaluateError, match="coverage between 0 and 1"):
        wilson(1, 2, level)


def test_impossible_counts_are_refused():
    with pytest.raises(EvaluateError, match="got 3 of 2"):
        wilson(3, 2)
    with pytest.raises(EvaluateError, match="at least one positive"):
        newcombe_auroc(0.5, 0, 3)
