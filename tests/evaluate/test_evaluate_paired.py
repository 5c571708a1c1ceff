"""Paired tests against direct computation, published values and simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate import (
    Difference,
    Predictions,
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
    nothing = Difference(0.0, None, None, 1.0)  # an interval of no width would claim too much
    assert delong(a, a, "malignant") == nothing
    assert mcnemar(a, a) == nothing
    assert paired_bootstrap(a, a, "balanced_accuracy", CONFIG) == nothing


def test_two_perfect_models_differ_by_nothing_and_two_opposite_ones_by_everything():
    truth = np.arange(40) % 2
    a, b = patients(truth - 0.5, truth), patients(2.0 * truth - 0.7, truth)
    assert delong(a, b, "malignant") == Difference(0.0, None, None, 1.0)
    worst = patients(0.5 - truth, truth)
    assert delong(a, worst, "malignant").reason == "the difference does not vary between patients"
    drawn = paired_bootstrap(a, worst, "auroc", CONFIG)
    assert drawn == Difference(1.0, None, None, pytest.approx(2 / 501))


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


def test_mcnemar_is_as_published():
    """Two media for tubercle bacilli, 20, 12, 2, 16: Armitage and Berry 1994, p. 127; p = .0129."""
    truth = np.ones(50, int)
    first = np.repeat([1, 1, -1, -1], [20, 12, 2, 16])
    second = np.repeat([1, -1, 1, -1], [20, 12, 2, 16])
    found = mcnemar(patients(first, truth), patients(second, truth))
    assert found.value == pytest.approx(0.2)
    assert found.p == pytest.approx(0.0129, abs=5e-5)


def test_holm_rejects_what_was_published():
    """Benjamini and Hochberg 1995, J R Stat Soc B 57:289: 3 of 15 by Bonferroni and by Hochberg.

    Holm lies between the two, so it rejects the same three.
    """
    p = [.0001, .0004, .0019, .0095, .0201, .0278, .0298, .0344, .0459, .3240, .4262, .5719, .6528,
         .7590, 1.0]  # fmt: skip
    adjusted = holm(p)
    assert [q < 0.05 for q in adjusted] == [True] * 3 + [False] * 12
    assert adjusted[:4] == pytest.approx([0.0015, 0.0056, 0.0247, 0.114])


@given(st.lists(st.none() | st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_never_lowers_a_p(p):
    adjusted = holm(p)
    assert [q is None for q in adjusted] == [q is None for q in p]
    known = sorted((a, b) for a, b in zip(p, adjusted, strict=True) if a is not None)
    assert all(a <= b <= min(1, max(len(known) * a, b)) for a, b in known)
    assert [b for _, b in known] == sorted(b for _, b in known)
    if known:
        assert known[0][1] == min(1, len(known) * known[0][0])


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


def test_the_interval_holds_a_known_difference():
    """200 cohorts; right 85 and 70 % of the time. 88 % leaves room for chance and few patients."""
    truth, held = np.arange(60) % 2, 0
    for seed in range(200):
        right = np.random.default_rng(seed).random((2, 60)) < [[0.85], [0.70]]
        a, b = (patients(np.where(row == truth, 1.0, -1.0), truth) for row in right)
        found = paired_bootstrap(a, b, "balanced_accuracy", EvaluateConfig(resamples=200))
        assert found.low <= found.value <= found.high
        held += found.low <= 0.15 <= found.high
    assert 176 <= held < 200


def test_whole_patients_are_drawn_whatever_their_slices():
    a, b, _ = pair(60, 0.5)
    index = np.tile(np.arange(60), 3)

    def repeat(table):
        columns = ("patient_id", "partition", "fold", "reference", "predicted", "probabilities")
        ids = np.array([f"s{i:03d}" for i in range(180)])
        rows = {name: getattr(table, name)[index] for name in columns}
        return Predictions(ids, labels=LABELS, level="slice", **rows)

    once = paired_bootstrap(a, b, "auroc", CONFIG)
    thrice = paired_bootstrap(repeat(a), repeat(b), "auroc", CONFIG)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert thrice.p == once.p


def test_the_order_of_rows_does_not_matter():
    a, b, _ = pair()
    turned = b.select(np.arange(len(b))[::-1])
    assert delong(a, turned, "malignant") == delong(a, b, "malignant")
    assert mcnemar(a, turned) == mcnemar(a, b)
    assert paired_bootstrap(a, turned, "f1", CONFIG) == paired_bootstrap(a, b, "f1", CONFIG)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.select(np.arange(len(t)) > 0), "got 'P000' in one alone"),
        (lambda t: replace(t, level="slice"), "got level patient and slice"),
        (lambda t: replace(t, unit="image"), "got unit patient and image"),
        (
            lambda t: replace(t, reference=np.append("malignant", t.reference[1:])),
            "got reference 'normal' and 'malignant' at 'P000'",
        ),
        (
            lambda t: replace(t, labels=LABELS[::-1], probabilities=t.probabilities[:, ::-1]),
            "got labels",
        ),
    ],
)
def test_two_tables_that_do_not_match_are_refused_by_name(change, message):
    a, b, _ = pair()
    for test in (
        lambda: delong(a, change(b), "malignant"),
        lambda: mcnemar(a, change(b)),
        lambda: paired_bootstrap(a, change(b), "auroc", CONFIG),
    ):
        with pytest.raises(EvaluateError, match=message):
            test()


def test_another_patient_behind_a_sample_is_refused():
    a, b, _ = pair()
    slices = [replace(table, level="slice") for table in (a, b)]
    other = replace(slices[1], patient_id=np.append("Q", slices[1].patient_id[1:]))
    with pytest.raises(EvaluateError, match="got patient_id 'P000' and 'Q' at 'P000'"):
        paired_bootstrap(slices[0], other, "auroc", CONFIG)


def test_a_row_without_reference_is_not_taken_for_one_without_the_label():
    tables = [replace(t, reference=np.append("", t.reference[1:])) for t in pair()[:2]]
    with pytest.raises(EvaluateError, match="labelled rows, got reference '' and '' at 'P000'"):
        delong(*tables, "malignant")


def test_an_unknown_label_is_answered_with_the_nearest():
    a, b, _ = pair()
    with pytest.raises(EvaluateError, match=r"got 'malign'\. Did you mean 'malignant'"):
        delong(a, b, "malign")


def test_few_patients_of_a_label_are_not_tested_by_what_needs_many():
    for n, why in ((18, "rests on 9 patients"), (8, "rests on 4 patients")):
        a, b, _ = pair(n)
        assert delong(a, b, "malignant").reason == f"{why}, and DeLong's test needs 10"
        found = paired_bootstrap(a, b, "auroc", CONFIG)
        assert found.reason == f"{why}, and a bootstrap needs 10"
        assert isinstance(mcnemar(a, b), Difference)  # exact at any number
    a, b, _ = pair(20)
    assert isinstance(delong(a, b, "malignant"), Difference)
    assert isinstance(paired_bootstrap(a, b, "auroc", CONFIG), Difference)


def test_the_weaker_of_two_models_decides_whether_there_are_enough_patients():
    a, _, truth = pair(40)
    shy = patients(np.where(np.arange(40) < 3, 1.0, -1.0), truth)
    for first, second in ((a, shy), (shy, a)):
        found = paired_bootstrap(first, second, "precision", CONFIG)
        assert found.reason == "rests on 3 patients, and a bootstrap needs 10"


def both(table):
    return replace(table, level="slice"), table


def test_all_models_are_tested_against_the_best_and_corrected_together():
    a, b, truth = pair(60, 1.0)
    c = patients(np.random.default_rng(5).normal(size=60), truth)
    found = compare_all({"b": both(b), "a": both(a), "c": both(c)}, CONFIG)
    assert found["best"] == "a"
    tests = found["tests"]
    assert [(r["model"], r["test"]) for r in tests] == [
        (model, test) for test in ("delong", "mcnemar", "bootstrap") for model in ("b", "c")
    ]
    assert [r["p_holm"] for r in tests] == holm([r["p"] for r in tests])
    assert tests[0]["p_holm"] > tests[0]["p"]
    assert all(r["against"] == "a" and r["difference"] <= 0 for r in tests)


def test_slices_are_compared_by_the_bootstrap_alone():
    a, b, _ = pair(60, 1.0)
    found = compare_all({"b": both(b), "a": both(a)}, CONFIG, "slice")
    assert [r["test"] for r in found["tests"]] == ["bootstrap"]
    slices = both(a)[0], both(b)[0]
    assert "slices of one patient are alike" in delong(*slices, "malignant").reason
    assert "slices of one patient are alike" in mcnemar(*slices).reason


def test_of_models_equally_good_the_first_named_is_the_best():
    a = pair()[0]
    assert compare_all({"x": both(a), "y": both(a)}, CONFIG)["best"] == "x"
    assert compare_all({"y": both(a), "x": both(a)}, CONFIG)["best"] == "y"
    dull = replace(a, probabilities=np.where(a.probabilities > 0.5, 0.9, 0.1))
    found = compare_all({"dull": both(dull), "sharp": both(a)}, CONFIG)
    assert found["best"] == "sharp"  # the same decisions; AUROC breaks the tie


def test_only_the_labelled_patients_of_the_partition_count():
    good, bad, truth = pair(60, 2.0)
    part = np.where(np.arange(60) < 30, "train", "test")

    def mixed(first, second):
        probabilities = np.where((part == "train")[:, None], first, second)
        table = patients(np.zeros(60), truth)
        predicted = decide(probabilities, LABELS)
        return replace(table, probabilities=probabilities, predicted=predicted, partition=part)

    early = mixed(good.probabilities, bad.probabilities)
    late = mixed(bad.probabilities, good.probabilities)
    unlabelled = [replace(t, reference=np.append(t.reference[:-1], "")) for t in (early, late)]
    tables = dict(zip(("early", "late"), map(both, unlabelled), strict=True))
    assert compare_all(tables, CONFIG)["best"] == "early"
    found = compare_all(tables, CONFIG, partition="test")
    assert found["best"] == "late"
    (record,) = (r for r in found["tests"] if r["test"] == "mcnemar")
    assert record["difference"] * 29 == pytest.approx(round(record["difference"] * 29))


def test_what_cannot_be_tested_is_a_record_with_its_reason():
    a, b, _ = pair(12, 1.0)
    found = compare_all({"a": both(a), "b": both(b)}, CONFIG)
    records = {r["test"]: r for r in found["tests"]}
    for test in ("delong", "bootstrap"):
        assert records[test]["undefined"].startswith("rests on 6 patients")
        assert [records[test][k] for k in ("difference", "low", "high", "p", "p_holm")] == [
            None
        ] * 5
    assert records["mcnemar"]["undefined"] is None
    assert records["mcnemar"]["p_holm"] == records["mcnemar"]["p"]  # the only test made
    empty = compare_all({"a": both(a), "b": both(b)}, CONFIG, partition="test")
    assert {r["undefined"] for r in empty["tests"][:2]} == {"no patients"}


def test_images_of_unknown_patients_are_not_tested():
    a, b, _ = pair()
    bare = [replace(table, unit="image", level="slice") for table in (a, b)]
    for found in (
        delong(*bare, "malignant"),
        mcnemar(*bare),
        paired_bootstrap(*bare, "auroc", CONFIG),
    ):
        assert found.reason.startswith("patients are unknown")
