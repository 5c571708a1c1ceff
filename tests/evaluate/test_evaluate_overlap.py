"""The Dice coefficient of a patient, against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from hepar.evaluate import measure_overlap


def test_dice_is_of_all_slices_together_and_not_their_mean():
    big, small = np.ones((10, 10), bool), np.zeros((10, 10), bool)
    small[0, 0] = True
    found = measure_overlap("A", [big, small], [big, ~small])
    assert found.dice == pytest.approx(2 * 100 / (101 + 199))
    assert found.worst == pytest.approx(1.0)  # the small slice has less than 1 % of the liver


def test_the_same_outline_is_1_and_another_0():
    rng = np.random.default_rng(0)
    drawn = [rng.random((8, 8)) > 0.5 for _ in range(3)]
    assert measure_overlap("A", drawn, drawn).dice == 1
    assert measure_overlap("A", drawn, [~one for one in drawn]).dice == 0


def test_nothing_drawn_has_no_volume_error():
    nothing = [np.zeros((4, 4), bool)]
    assert measure_overlap("A", nothing, nothing).dice == 1
    assert measure_overlap("A", nothing, nothing).volume_error is None
