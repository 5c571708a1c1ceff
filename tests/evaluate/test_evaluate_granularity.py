"""Digits allow what arithmetic allows: checked against every count, matrix and mean."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepar.errors import EvaluateError
from hepar.evaluate.granularity import (
    MOST_SIZES,
    chance_size,
    f1_bounds,
    mean_steps,
    parse_printed,
    sizes_of,
    tail_of_mixed,
    whole_percent_classes,
)


def printed(text, *, percent=True):
    return parse_printed(text, "Table 1", percent=percent)


@pytest.mark.parametrize(
    ("text", "percent", "value", "digits"),
    [
        ("99.25", True, "0.9925", 4),
        ("99,25 %", False, "0.9925", 4),
        ("99.25%", False, "0.9925", 4),
        (".9925", False, "0.9925", 4),
        ("0.91 ± 0.02", False, "0.91", 2),
        ("91.2 (88.0-94.1)", True, "0.912", 3),
        ("91.2 ± 0.3 %", False, "0.912", 3),
        ("100%", False, "1", 2),
        ("0", False, "0", 0),
        ("1.00", False, "1", 2),
    ],
)
def test_a_cell_is_read_with_all_its_digits(text, percent, value, digits):
    found = printed(text, percent=percent)
    assert (found.value, found.digits) == (Fraction(value), digits)


@pytest.mark.parametrize(
    "text", ["ninety", "nan", "inf", "-5", "1e2", "0.88-0.95", "%", "9" * 30, "99..1", "٩٩"]
)
def test_a_cell_that_is_not_a_number_is_refused(text):
    with pytest.raises(EvaluateError, match=r"Table 1: expected a number such as 99\.25"):
        printed(text)


@pytest.mark.parametrize(
    ("text", "percent", "most"),
    [("100.01", True, "100 %"), ("120%", False, "100 %"), ("1.2", False, "1")],
)
def test_more_than_all_is_refused(text, percent, most):
    with pytest.raises(EvaluateError, match=f"Table 1: expected 0 to {most}, got {text}"):
        printed(text, percent=percent)


def test_digits_beyond_twelve_are_rounded_and_still_hold_the_number():
    found = printed("0.91328413284132841328", percent=False)
    assert found.digits == 12
    assert found.low <= Fraction("0.91328413284132841328") <= found.high
    assert sizes_of(found, 2000)[542 - 1]  # 495 of 542


@given(st.integers(0, 1000), st.integers(0, 3))
@settings(max_examples=40)
def test_sizes_are_those_of_every_count_tried_by_hand(thousandths, digits):
    value = printed(f"{thousandths / 10:.{digits}f}")
    low = Fraction(value.scaled * 2 - 1, 2 * 10**value.digits)
    unit = Fraction(1, 10**value.digits)
    rounded = [any(low <= Fraction(k, n) <= low + unit for k in range(n + 1)) for n in range(1, 61)]
    cut = [
        any(value.value <= Fraction(k, n) < value.value + unit for k in range(n + 1))
        for n in range(1, 61)
    ]
    assert sizes_of(value, 60).tolist() == rounded
    assert sizes_of(value, 60, cut=True).tolist() == cut


@given(st.integers(1, 3000), st.data())
def test_a_true_accuracy_makes_its_own_test_set_possible(n, data):
    k = data.draw(st.integers(0, n))
    for digits in (1, 2, 4):
        assert sizes_of(printed(f"{100 * k / n:.{digits}f}"), n)[n - 1]


def test_every_size_is_possible_where_n_is_finer_than_the_digits():
    assert sizes_of(printed("99.33"))[10_000 - 1 :].all()


def test_sizes_are_bounded():
    with pytest.raises(EvaluateError, match=f"largest: expected 1 to {MOST_SIZES} cases, got 0"):
        sizes_of(printed("50"), 0)


def test_random_digits_need_about_as_many_cases_as_the_median_says():
    """Simulated: the smallest n of 4 random accuracies of one decimal, 400 times."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(400):
        values = [printed(f"{v / 10:.1f}") for v in generator.integers(600, 1000, size=4)]
        found.append(int(np.logical_and.reduce([sizes_of(v, 1000) for v in values]).argmax()) + 1)
    assert chance_size([printed("90.1")] * 4) == pytest.approx(np.median(found), rel=0.15)


def test_there_is_no_chance_size_below_a_bound_that_is_too_low():
    assert chance_size([printed("90.1234")] * 6, 100) is None


def f1_of(p, r):
    return 2 * p * r / (p + r) if p + r else Fraction(0)


fractions = st.fractions(0, 1, max_denominator=50)


@given(st.lists(st.tuples(fractions, fractions, st.integers(1, 9)), min_size=1, max_size=6))
def test_every_weighted_mean_of_f1_lies_in_its_bounds(parts):
    weights = sum(w for _, _, w in parts)
    p, r, f1 = (
        sum(w * value for value, w in zip(values, (w for *_, w in parts), strict=True)) / weights
        for values in (
            [p for p, _, _ in parts],
            [r for _, r, _ in parts],
            [f1_of(p, r) for p, r, _ in parts],
        )
    )
    low, high = f1_bounds((p, p), (r, r))
    assert low <= f1 <= high


def test_both_bounds_of_f1_are_reached():
    p, r = Fraction(3, 4), Fraction(1, 2)
    low, high = f1_bounds((p, p), (r, r))
    assert high == f1_of(p, r)
    classes = [(1, 1), (1, 0), (1, 0), (0, 1)]  # precision 3/4, sensitivity 1/2
    assert low == sum((f1_of(Fraction(a), Fraction(b)) for a, b in classes), Fraction(0)) / 4


def test_rounding_each_class_first_can_lift_a_mean_f1_over_its_bound():
    """(99,100,100), (100,99,100), (99,99,99), (99,99,99): means 99.25, 99.25, 99.50."""
    assert whole_percent_classes(printed("99.25"), printed("99.25"), printed("99.50")) == (4, 8)


@given(st.lists(st.tuples(st.integers(95, 100), st.integers(95, 100)), min_size=4, max_size=4))
@settings(max_examples=30)
def test_means_of_rounded_classes_are_found_over_their_number(classes):
    """Per class half a percent above p and r, as far as it goes: its F1 is rounded down at most."""
    exact = [
        (min(Fraction(100), p + Fraction(49, 100)), min(Fraction(100), r + Fraction(49, 100)))
        for p, r in classes
    ]
    f1 = [int(f1_of(p, r) + Fraction(1, 2)) for p, r in exact]
    means = [f"{sum(v) / 4:.2f}" for v in (*zip(*classes, strict=True), f1)]
    spread = max(abs(p - sum(c[0] for c in classes) / 4) for p, _ in classes)
    spread = max(spread, *(abs(r - sum(c[1] for c in classes) / 4) for _, r in classes))
    if spread <= 2:
        assert 4 in whole_percent_classes(*map(printed, means))


@pytest.mark.parametrize(
    ("text", "k", "hit", "chance"),
    [
        ("94.75", 4, True, 0.04),
        ("94.52", 4, False, 0.04),
        ("94.5", 4, True, 0.6),  # .0, .2 or .3, .5, .7 or .8
        ("33.33", 3, True, 0.03),
        ("33.34", 3, False, 0.03),
        ("92.0", 1, True, 0.1),
    ],
)
def test_multiples_and_their_chance_are_as_counted_by_hand(text, k, hit, chance):
    assert mean_steps(printed(text), k) == (hit, pytest.approx(chance))


@given(st.integers(0, 20), st.integers(1, 20), st.floats(0.01, 0.99))
def test_the_tail_of_equal_chances_is_binomial(hits, n, chance):
    from scipy.stats import binom

    assert tail_of_mixed(hits, [chance] * n) == pytest.approx(
        binom.sf(hits - 1, n, chance), abs=1e-12
    )
