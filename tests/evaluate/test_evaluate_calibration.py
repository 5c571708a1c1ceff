from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hepar.errors import EvaluateError
from hepar.evaluate import apply_temperature, fit_temperature


def softmax(logits):
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found(true):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 3)) * 2
    codes = np.array([rng.choice(3, p=p) for p in softmax(logits)])
    spoiled = softmax(logits * true)
    assert fit_temperature(spoiled, codes, np.ones(20_000)) == pytest.approx(true, rel=0.05)


def test_weights_decide_who_is_listened_to():
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.1, 0.9]] * 10)
    codes = np.zeros(20, int)
    codes[[0, 1]] = 1  # of the first ten, eight are right; of the others, none
    first = fit_temperature(probabilities, codes, np.repeat([1.0, 0.0], 10))
    assert 1.2 < first < 2.0
    assert fit_temperature(probabilities, codes, np.repeat([0.0, 1.0], 10)) > 15


def test_the_temperature_is_where_the_loss_has_no_slope():
    """There the logit of the reference is what the probabilities expect (Guo et al. 2017, claim 1).

    A thousand right answers of 60 % and one wrong one of 95 %: a loss cut off at 1e-12 would take
    the least temperature, 0.05, because it no longer sees how wrong the one is.
    """
    probabilities = np.array([[0.6, 0.4]] * 1000 + [[0.05, 0.95]])
    codes, logits = np.zeros(1001, int), np.log(probabilities)
    temperature = fit_temperature(probabilities, codes, np.ones(1001))
    assert 0.06 < temperature < 0.2
    expected = (apply_temperature(probabilities, temperature) * logits).sum(axis=1)
    assert (logits[:, 0] - expected).sum() == pytest.approx(0, abs=1e-3)


@given(arrays(float, (5, 4), elements=st.floats(0.01, 1)), st.floats(0.05, 20))
def test_the_order_of_labels_stays_and_one_changes_nothing(raw, temperature):
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(apply_temperature(probabilities, 1.0), probabilities)
    changed = apply_temperature(probabilities, temperature)
    np.testing.assert_allclose(changed.sum(axis=1), 1)
    order = np.argsort(probabilities, axis=1)
    assert (np.diff(np.take_along_axis(changed, order, axis=1), axis=1) > -1e-12).all()
    surest = np.sign(changed.max(axis=1) - probabilities.max(axis=1)).astype(int)
    same = np.isclose(changed.max(axis=1), probabilities.max(axis=1))
    assert (same | (surest == np.sign(1 - temperature))).all()


@pytest.mark.parametrize("sure", [1.0, 0.9])
def test_always_right_and_always_wrong_stay_in_range(sure):
    probabilities = np.array([[sure, 1 - sure], [1 - sure, sure]])
    right = fit_temperature(probabilities, np.array([0, 1]), np.ones(2))
    wrong = fit_temperature(probabilities, np.array([1, 0]), np.ones(2))
    assert 0.05 <= right < 0.6
    assert wrong == pytest.approx(20, rel=1e-3)
    assert wrong <= 20
    alike = np.full((2, 2), 0.5)  # any temperature is as good
    fitted = fit_temperature(alike, np.array([0, 1]), np.ones(2))
    np.testing.assert_allclose(apply_temperature(alike, fitted), alike)


@pytest.mark.parametrize(("codes", "got"), [([0, -1], "-1 to 0"), ([0, 2], "0 to 2"), ([], "no")])
def test_rows_without_a_label_are_refused(codes, got):
    n = len(codes)
    with pytest.raises(EvaluateError, match=f"codes from 0 to 1, got {got}"):
        fit_temperature(np.full((n, 2), 0.5), np.array(codes, int), np.ones(n))
