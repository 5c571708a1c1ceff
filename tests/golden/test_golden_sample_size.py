"""Published sample sizes and powers, and those of other programs."""

import pytest

from hepar.evaluate.sample_size import (
    design_effect,
    hanley_mcneil,
    pairs_for_difference,
    patients_for_difference,
    patients_for_proportion,
    power_of_mcnemar,
)


def test_141_patients_give_five_points_at_ninety_percent():
    """By hand: z sqrt(.09/n + z^2/4n^2) / (1 + z^2/n) is .05018 at 140 and .05000 at 141.

    Without Wilson's terms it is z^2 .09 / .0025 = 138.3 (statsmodels 0.15.0,
    samplesize_confint_proportion: 138.2925).
    """
    z2 = 1.959963984540054**2
    half = {n: (z2 * 0.09 / n + (z2 / (2 * n)) ** 2) ** 0.5 / (1 + z2 / n) for n in (140, 141)}
    assert half[140] > 0.05 > half[141]
    assert patients_for_proportion(0.9, 0.05) == 141


@pytest.mark.parametrize(
    ("first", "second", "power", "ratio", "exact"),
    [
        (0.5, 0.75, 0.9, 1, 76.7069),  # R, power.prop.test(p1=.5, p2=.75, power=.9): 76.7
        (0.9, 0.85, 0.8, 1, 685.5969),  # statsmodels 0.15.0, samplesize_proportions_2indep_onetail
        (0.8, 0.9, 0.8, 1, 198.9634),  # the same, alpha .05, two-sided
        (0.9, 0.85, 0.8, 2, 525.3318),  # the same, ratio 2
    ],
)
def test_two_groups_are_as_large_as_in_r_and_statsmodels(first, second, power, ratio, exact):
    n = int(exact) + 1
    assert patients_for_difference(first, second, power, ratio=ratio) == (n, n * ratio)


def test_power_of_mcnemar_is_that_of_gpower():
    """G*Power 3.1 manual, McNemar, after O'Brien 2002: odds ratio 0.25, 0.4 discordant, 50 pairs.

    One-sided at .05: power 0.839343. Two-sided at .10 adds the other tail, of 1.5e-5.
    """
    assert power_of_mcnemar(50, 0.24, 0.4, level=0.9) == pytest.approx(0.839343, abs=2e-5)


def test_power_without_a_difference_is_the_actual_error():
    """The same table of the manual: actual alpha 0.032578 on one side."""
    assert power_of_mcnemar(50, 1e-9, 0.4, level=0.9) / 2 == pytest.approx(0.032578, abs=1e-6)


@pytest.mark.parametrize(("difference", "discordance"), [(0.1, 0.2), (0.1, 0.3), (0.05, 0.15)])
def test_exact_pairs_are_somewhat_more_than_the_normal_approximation(difference, discordance):
    """Connor 1987, Biometrics 43:207; its formula is for the test without continuity."""
    z_error, z_power = 1.959963984540054, 0.8416212335729143
    root = z_error * discordance**0.5 + z_power * (discordance - difference**2) ** 0.5
    connor = (root / difference) ** 2
    assert connor < pairs_for_difference(difference, discordance) < 1.1 * connor + 5


def test_standard_error_of_an_auroc_is_that_of_its_formula():
    """Hanley and McNeil 1982, Radiology 143:29, by hand for 0.893, 51 and 58.

    Q1 = .893 / 1.107 = .80668, Q2 = 2 (.797449) / 1.893 = .84252; the variance is
    (.09555 + 50 (.00923) + 57 (.04507)) / 2958 = .0010569.
    """
    assert hanley_mcneil(0.893, 51, 58) == pytest.approx(0.03251, abs=5e-5)


def test_design_effect_is_kish():
    assert design_effect(20, 0.05) == pytest.approx(1.95)
