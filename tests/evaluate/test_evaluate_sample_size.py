"""Sizes are the smallest that do, grow with what is asked, and agree with simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepar.errors import EvaluateError
from hepar.evaluate.intervals import newcombe_auroc, wilson
from hepar.evaluate.sample_size import (
    design_effect,
    hanley_mcneil,
    pairs_for_difference,
    patients_for_auroc,
    patients_for_difference,
    patients_for_proportion,
    patients_with_clusters,
    power_of_mcnemar,
)


@given(st.floats(0, 1), st.floats(0.01, 0.3), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_size_for_a_proportion_is_the_smallest_that_does(expected, half_width, level):
    n = patients_for_proportion(expected, half_width, level)

    def half(m):
        low, high = wilson(expected * m, m, level)
        return (high - low) / 2

    assert half(n) <= half_width
    assert n == 1 or half(n - 1) > half_width


def test_the_longer_side_of_an_interval_needs_more():
    n = patients_for_proportion(0.9, 0.05, width="below")
    assert 0.9 - wilson(0.9 * n, n)[0] <= 0.05 < 0.9 - wilson(0.9 * (n - 1), n - 1)[0]
    assert n > patients_for_proportion(0.9, 0.05)


@pytest.mark.parametrize("ratio", [0.5, 1, 3])
def test_the_size_for_an_auroc_gives_the_interval_that_is_reported(ratio):
    n, others = patients_for_auroc(0.9, 0.05, ratio)
    assert others == np.ceil(n * ratio)
    low, high = newcombe_auroc(0.9, n, others)
    assert (high - low) / 2 <= 0.05
    low, high = newcombe_auroc(0.9, n - 1, int(np.ceil((n - 1) * ratio)))
    assert (high - low) / 2 > 0.05


def test_hanley_and_mcneil_is_the_spread_of_exponential_scores():
    """Simulated, 3000 cohorts of 51 and 58; the standard error of a standard deviation is 1.3 %."""
    generator = np.random.default_rng(0)
    rate = 0.893 / (1 - 0.893)  # P(positive > negative) of exponentials with means rate and 1
    areas = [
        (generator.exponential(rate, 51)[:, None] > generator.exponential(1, 58)).mean()
        for _ in range(3000)
    ]
    assert np.mean(areas) == pytest.approx(0.893, abs=0.003)
    assert np.std(areas) == pytest.approx(hanley_mcneil(0.893, 51, 58), rel=0.06)


def test_hanley_and_mcneil_asks_for_fewer_of_two_equal_groups_near_one():
    few, _ = patients_for_auroc(0.95, 0.05, method="hanley-mcneil")
    assert few < patients_for_auroc(0.95, 0.05)[0]


def test_power_of_mcnemar_is_that_of_simulated_models():
    """20000 pairs of models on 60 patients, tested as `hepar compare` does."""
    from scipy.stats import binom

    generator = np.random.default_rng(0)
    cells = generator.multinomial(60, [0.25, 0.05, 0.7], size=20_000)
    only_a, only_b = cells[:, 0], cells[:, 1]
    p = np.minimum(1, 2 * binom.cdf(np.minimum(only_a, only_b), only_a + only_b, 0.5))
    assert power_of_mcnemar(60, 0.2, 0.3) == pytest.approx((p <= 0.05).mean(), abs=0.01)


@pytest.mark.parametrize(("difference", "discordance"), [(0.1, 0.2), (0.2, 0.2), (0.3, 0.5)])
def test_the_number_of_pairs_is_the_smallest_with_the_power(difference, discordance):
    n = pairs_for_difference(difference, discordance)
    assert power_of_mcnemar(n, difference, discordance) >= 0.8
    assert all(power_of_mcnemar(m, difference, discordance) < 0.8 for m in range(2, n))


def test_models_that_err_together_need_fewer_patients_than_two_groups():
    pairs = pairs_for_difference(0.05, 0.1)
    independent = pairs_for_difference(0.05, 0.9 * 0.15 + 0.1 * 0.85)
    assert 2 * pairs < independent
    assert 2 * pairs < patients_for_difference(0.9, 0.85)[0]


@given(st.integers(1, 10_000), st.floats(1, 100), st.floats(0, 1))
def test_clusters_lie_between_patients_and_observations(n, per_patient, icc):
    patients = patients_with_clusters(n, per_patient, icc)
    assert n / per_patient - 1e-6 <= patients <= n + 1
    assert design_effect(per_patient, icc) >= 1


def test_slices_that_are_all_alike_count_as_one():
    assert patients_with_clusters(141, 30, 1) == 141
    assert patients_with_clusters(141, 1, 0.5) == 141
    assert patients_with_clusters(141, 10, 0) == 15


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: patients_for_proportion(90, 0.05), "expected 0 to 1, got 90. Write 0.9"),
        (lambda: patients_for_proportion(float("nan"), 0.05), "expected 0 to 1, got nan"),
        (lambda: patients_for_proportion(0.9, 5), "half_width: expected between 0 and 0.5, got 5"),
        (lambda: patients_for_proportion(0.9, 0), "half_width: expected between 0 and 0.5, got 0"),
        (
            lambda: patients_for_proportion(0.9, 1e-5),
            "study of at most 1,000,000 patients, got more",
        ),
        (lambda: patients_for_proportion(0.9, 0.05, 95), "coverage between 0 and 1, got 95"),
        (lambda: patients_for_auroc(0.5, 0.05), "expected AUROC: expected between 0.5 and 1"),
        (lambda: patients_for_auroc(0.9, 0.05, 0), "ratio: expected between 0 and 1000, got 0"),
        (lambda: pairs_for_difference(0.2, 0.1), "discordance: expected at least the difference"),
        (lambda: pairs_for_difference(0, 0.1), "discordance: expected at least the difference"),
        (lambda: pairs_for_difference(0.1, 1.2), "at most 1, got 1.2"),
        (
            lambda: pairs_for_difference(0.1, 0.2, power=80),
            "power: expected between 0 and 1, got 80",
        ),
        (lambda: pairs_for_difference(1e-4, 0.1), "study of at most 1,000,000 patients"),
        (lambda: patients_for_difference(0.9, 0.9), "two proportions that differ, got 0.9 twice"),
        (lambda: patients_for_difference(90, 0.8), "first proportion: expected between 0 and 1"),
        (lambda: patients_for_difference(0.9, 0.9001), "study of at most 1,000,000 patients"),
        (lambda: design_effect(0, 0.5), "per_patient: expected 1 or more a patient, got 0"),
        (lambda: design_effect(5, 1.5), "icc: expected a correlation of 0 to 1, got 1.5"),
    ],
)
def test_what_cannot_be_planned_is_refused(call, message):
    with pytest.raises(EvaluateError, match=message):
        call()
