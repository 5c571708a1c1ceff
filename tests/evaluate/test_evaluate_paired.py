"""Paired tests against direct computation, published values and simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate import (
    Difference,
    Predictions,
    Undefined,
    compare_all,
    decide,
    delong,
    holm,
    mcnemar,
    paired_bootstrap,
)

LABELS = ("normal", "malignant")
CONFIG = EvaluateConfig(resamples=500)


def patients(scores, truth, level="patient"):
    p = 1 / (1 + np.exp(-np.asarray(scores, float)))
    probabilities = np.stack([1 - p, p], axis=1)
    ids = np.array([f"P{i:03d}" for i in range(len(p))])
    return Predictions(
        ids, ids, np.full(len(p), "train"), np.full(len(p), "0"), np.array(LABELS)[truth],
        decide(probabilities, LABELS), probabilities, LABELS, level,
    )  # fmt: skip


def pair(n=60, lead=0.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    shared = rng.normal(size=n)
    first = truth * (1.2 + lead) + shared + 0.7 * rng.normal(size=n) - 0.6
    second = truth * 1.2 + shared + 0.7 * rng.normal(size=n) - 0.6
    return patients(first.round(1), truth), patients(second.round(1), truth), truth


def direct_delong(a, b, truth):
    """DeLong's structural components, pair by pair, ties one half."""
    parts = []
    for table in (a, b):
        s = table.probabilities[:, 1]
        x, y = s[truth == 1][:, None], s[truth == 0][None]
        wins = (x > y) + 0.5 * (x == y)
        parts.append((wins.mean(), wins.mean(axis=1), wins.mean(axis=0)))
    ten = np.cov(parts[0][1], parts[1][1]) / len(parts[0][1])
    one = np.cov(parts[0][2], parts[1][2]) / len(parts[0][2])
    s = ten + one
    return parts[0][0] - parts[1][0], float(np.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1]))


@pytest.mark.parametrize("seed", range(5))
def test_delong_is_its_own_definition(seed):
    a, b, truth = pair(50 + seed, 0.5, seed)
    found = delong(a, b, "malignant")
    difference, deviation = direct_delong(a, b, truth)
    assert found.value == pytest.approx(difference, abs=1e-12)
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * deviation, rel=1e-6)


def test_delong_agrees_with_the_bootstrap_on_how_sure_it_is():
    a, b, _ = pair(300, 0.4)
    close, drawn = delong(a, b, "malignant"), paired_bootstrap(a, b, "auroc", EvaluateConfig())
    assert close.value == pytest.approx(drawn.value, abs=1e-9)
    assert close.high - close.low == pytest.approx(drawn.high - drawn.low, rel=0.15)


def test_the_same_answers_twice_are_no_difference():
    a, _, _ = pair()
    assert delong(a, a, "malignant") == Difference(0.0, 0.0, 0.0, 1.0)
    assert mcnemar(a, a).p == 1.0
    drawn = paired_bootstrap(a, a, "balanced_accuracy", CONFIG)
    assert (drawn.value, drawn.low, drawn.high, drawn.p) == (0.0, 0.0, 0.0, 1.0)


def test_mcnemar_is_the_exact_binomial_on_the_discordant():
    truth = np.arange(40) % 2
    right = np.where(truth == 1, 1.0, -1.0)
    a, b = right.copy(), right.copy()
    a[:3] *= -1
    b[10:19] *= -1
    found = mcnemar(patients(a, truth), patients(b, truth))
    assert found.value == pytest.approx((9 - 3) / 40)
    assert found.p == pytest.approx(binomtest(9, 12).pvalue)
    assert found.p == pytest.approx(0.146, abs=5e-4)  # 2 * (1+12+66+220) / 4096


def test_holm_adjusts_step_by_step():
    """By hand: 4 x .005, 3 x .01, 2 x .03, then no less than the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([None, 0.9, 0.6]) == [None, 1.0, 1.0]
    assert holm([]) == []


def test_without_a_difference_a_test_at_five_percent_cries_wolf_about_as_often():
    """400 cohorts of 60 patients; 1 to 10 % leaves room for chance and for the small cohort."""
    alarms = np.zeros(3)
    for seed in range(400):
        a, b, _ = pair(60, 0.0, seed)
        tests = (
            delong(a, b, "malignant"),
            mcnemar(a, b),
            paired_bootstrap(a, b, "auroc", EvaluateConfig(resamples=200)),
        )
        alarms += [test.p < 0.05 for test in tests]
    rates = alarms / 400
    assert 0.01 < rates[0] < 0.10
    assert rates[1] < 0.07
    assert 0.01 < rates[2] < 0.10


def test_a_true_difference_is_found_and_its_sign_is_the_firsts():
    a, b, _ = pair(300, 2.0)
    for found in (
        delong(a, b, "malignant"),
        mcnemar(a, b),
        paired_bootstrap(a, b, "balanced_accuracy", CONFIG),
    ):
        assert found.value > 0
        assert found.p < 0.01
    assert delong(b, a, "malignant").value < 0


def test_the_order_of_rows_does_not_matter():
    a, b, _ = pair()
    turned = b.select(np.arange(len(b))[::-1])
    assert delong(a, turned, "malignant") == delong(a, b, "malignant")
    assert mcnemar(a, turned) == mcnemar(a, b)
    assert paired_bootstrap(a, turned, "f1", CONFIG) == paired_bootstrap(a, b, "f1", CONFIG)


def test_other_patients_are_refused_by_name():
    a, b, _ = pair()
    with pytest.raises(EvaluateError, match="got 'P000' in one alone"):
        mcnemar(a, b.select(np.arange(len(b)) > 0))


def test_what_cannot_be_tested_says_why():
    a, b, _ = pair(8)
    assert paired_bootstrap(a, b, "auroc", CONFIG).reason.startswith("rests on 4 patients")
    truth = np.zeros(20, int)
    one = patients(np.arange(20.0), truth)
    assert isinstance(delong(one, one, "malignant"), Undefined)


def test_all_models_are_tested_against_the_best():
    a, b, truth = pair(60, 1.0)
    c = patients(np.random.default_rng(5).normal(size=60), truth)

    def both(table):
        return replace(table, level="slice"), table

    found = compare_all({"b": both(b), "a": both(a), "c": both(c)}, CONFIG)
    assert found["best"] == "a"
    assert [(r["model"], r["test"]) for r in found["tests"]] == [
        (model, test) for test in ("delong", "mcnemar", "bootstrap") for model in ("b", "c")
    ]
    for test in ("delong", "mcnemar", "bootstrap"):
        family = [r for r in found["tests"] if r["test"] == test]
        assert [r["p_holm"] for r in family] == holm([r["p"] for r in family])
        assert all(r["against"] == "a" and r["difference"] <= 0 for r in family)
    slices = compare_all({"b": both(b), "a": both(a)}, CONFIG, "slice")
    assert {r["test"] for r in slices["tests"]} == {"bootstrap"}


def test_images_of_unknown_patients_are_not_tested():
    a, b, _ = pair()
    bare = [replace(table, patients_known=False, level="slice") for table in (a, b)]
    assert paired_bootstrap(*bare, "auroc", CONFIG).reason.startswith("patients are unknown")
