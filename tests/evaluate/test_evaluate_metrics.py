"""Metrics: bounded, blind to the order of rows, and undefined in words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepar.errors import EvaluateError
from hepar.evaluate import roc_curve
from hepar.evaluate.metrics import METRICS, count_by_patient, values, why_undefined

LABELS = ("normal", "benign", "malignant")
ROWS = st.lists(
    st.tuples(
        st.sampled_from(LABELS),
        st.tuples(*[st.integers(0, 4)] * 3).filter(any),  # few values, so that scores tie
        st.sampled_from("abcd"),
    ),
    min_size=1,
    max_size=30,
)


def table(make, rows):
    p = np.array([row[1] for row in rows], dtype=float)
    return make(
        [row[0] for row in rows],
        p / p.sum(axis=1, keepdims=True),
        [row[2] for row in rows],
        LABELS,
    )


@given(rows=ROWS)
def test_every_metric_is_in_0_to_1_or_undefined_with_a_reason(make, rows):
    counts = count_by_patient(table(make, rows))
    for metric in map(METRICS.get, METRICS):
        found = values(metric, counts.tally())
        for column, value in enumerate(found):
            label = column if metric.per_label and column < 3 else None
            if np.isnan(value):
                assert why_undefined(metric, counts, label, "slices").startswith("no slices")
            else:
                assert 0 <= value <= 1 + 1e-12


@given(rows=ROWS, seed=st.integers(0, 9))
def test_the_order_of_rows_changes_no_metric(make, rows, seed):
    straight = table(make, rows)
    mixed = straight.select(np.random.default_rng(seed).permutation(len(rows)))
    for metric in map(METRICS.get, METRICS):
        np.testing.assert_array_equal(
            values(metric, count_by_patient(straight).tally()),
            values(metric, count_by_patient(mixed).tally()),
        )


@given(rows=ROWS, seed=st.integers(0, 9))
def test_weighting_a_patient_is_repeating_its_rows(make, rows, seed):
    once = table(make, rows)
    counts = count_by_patient(once)
    weights = np.random.default_rng(seed).integers(0, 4, len(counts.patients))
    weights[0] = max(weights[0], 1)
    times = weights[np.searchsorted(counts.patients, once.patient_id)]
    index = np.repeat(np.arange(len(once)), times)
    repeated = make(
        once.reference[index], once.probabilities[index], once.patient_id[index], LABELS
    )
    weighted = counts.tally(weights[None].astype(float))
    for metric in map(METRICS.get, METRICS):
        np.testing.assert_allclose(
            values(metric, weighted)[0], values(metric, count_by_patient(repeated).tally())
        )


def test_a_label_never_predicted_has_no_precision_but_an_f1_of_zero(make):
    counts = count_by_patient(make(["tumour", "no_tumour"], [0.1, 0.2]))
    precision, f1 = METRICS.get("precision"), METRICS.get("f1")
    assert np.isnan(values(precision, counts.tally())[1])
    assert why_undefined(precision, counts, 1, "patients") == "no patients predicted as 'tumour'"
    assert values(f1, counts.tally())[1] == 0


def test_one_label_alone_has_neither_auroc_nor_balanced_accuracy(make):
    counts = count_by_patient(make(["tumour"] * 4, [0.9, 0.8, 0.7, 0.2]))
    assert np.isnan(values(METRICS.get("auroc"), counts.tally())).all()
    why = why_undefined(METRICS.get("auroc"), counts, 1, "patients")
    assert why == "no patients with a reference other than 'tumour'"
    why = why_undefined(METRICS.get("balanced_accuracy"), counts, None, "patients")
    assert why == "no patients with reference 'no_tumour'"


def test_a_constant_score_has_an_auroc_of_one_half(make):
    counts = count_by_patient(make(["tumour", "no_tumour", "tumour"], [0.5, 0.5, 0.5]))
    np.testing.assert_array_equal(values(METRICS.get("auroc"), counts.tally()), 0.5)


def test_rows_without_reference_are_refused(make):
    with pytest.raises(EvaluateError, match="'s00001': expected a reference"):
        count_by_patient(make(["tumour", ""], [0.5, 0.5]))


def test_a_roc_curve_needs_both_kinds():
    with pytest.raises(EvaluateError, match="got 2 positives of 2"):
        roc_curve(np.array([0.1, 0.2]), np.array([True, True]))
