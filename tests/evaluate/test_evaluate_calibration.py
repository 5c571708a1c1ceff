from __future__ import annotations

import numpy as np
import pytest

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


def test_who_wins_stays_and_one_changes_nothing():
    probabilities = softmax(np.random.default_rng(1).normal(size=(50, 4)))
    np.testing.assert_allclose(apply_temperature(probabilities, 1.0), probabilities)
    for temperature in (0.05, 0.5, 20.0):
        changed = apply_temperature(probabilities, temperature)
        np.testing.assert_allclose(changed.sum(axis=1), 1)
        assert (changed.argmax(axis=1) == probabilities.argmax(axis=1)).all()


def test_always_right_and_always_wrong_stay_in_range():
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0]])
    right = fit_temperature(probabilities, np.array([0, 1]), np.ones(2))
    wrong = fit_temperature(probabilities, np.array([1, 0]), np.ones(2))
    assert 0.05 <= right < wrong <= 20
