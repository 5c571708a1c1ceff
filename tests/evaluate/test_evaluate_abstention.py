from __future__ import annotations

import numpy as np
import pytest

from hepar.config import EvaluateConfig
from hepar.evaluate import Undefined, risk_coverage

FEW = EvaluateConfig(resamples=200)


def test_the_surest_are_answered_first(make):
    reference = ["b", "b", "a", "b"]
    table = make(reference, [0.95, 0.2, 0.3, 0.6], labels=("a", "b"))  # the second is wrong
    found = risk_coverage(table, FEW)
    assert found["answered"] == [0.25, 0.5, 0.75, 1.0]
    assert found["risk"] == pytest.approx([0, 0.5, 1 / 3, 1 / 4])
    assert found["area"] == pytest.approx(np.mean([0, 0.5, 1 / 3, 1 / 4]))
    assert found["low"] is None


def test_patients_who_are_equally_sure_are_answered_together_whatever_their_order(make):
    reference, score = np.array(list("ab") * 10), np.repeat([0.9, 0.6], 10)
    table = make(reference, score, labels=("a", "b"))
    turned = make(reference[::-1], score[::-1], labels=("a", "b"))
    first, second = risk_coverage(table, FEW), risk_coverage(turned, FEW)
    assert first["answered"] == second["answered"] == [0.5, 1.0]
    assert first["risk"] == second["risk"] == [0.5, 0.5]


def test_the_band_holds_the_curve_and_ends_at_the_error_of_all(make):
    rng = np.random.default_rng(0)
    score = rng.random(200)
    reference = np.where(rng.random(200) < score, "b", "a")
    table = make(reference, score, labels=("a", "b"))
    found = risk_coverage(table, FEW)
    assert found["risk"][-1] == pytest.approx((table.predicted != table.reference).mean())
    half = len(found["risk"]) // 2
    assert found["low"][half] <= found["risk"][half] <= found["high"][half]
    assert found["risk"][half] < found["risk"][-1]


def test_constant_scores_have_no_curve(make):
    table = make(["a", "b"] * 10, np.full(20, 0.7), labels=("a", "b"))
    assert risk_coverage(table, FEW) == Undefined("all 20 patients are equally sure")
