"""Places that nowhere reach the least likelihood are not marked."""

from __future__ import annotations

import numpy as np

from hepar.model import LIKELY, LesionStack
from hepar.model.lesions import _without_lesser


def test_a_place_is_kept_whole_or_not_at_all():
    likely = np.zeros((3, 20, 20), np.float32)
    likely[0:2, 2:8, 2:8] = 0.5
    likely[1, 4, 4] = 0.9
    likely[2, 12:18, 12:18] = 0.6
    kept = _without_lesser(likely, 0.8)
    np.testing.assert_array_equal(kept[:2], likely[:2])
    assert not kept[2].any()


def test_nothing_likely_stays_as_it_is():
    likely = np.full((4, 4), LIKELY / 2, np.float32)
    np.testing.assert_array_equal(_without_lesser(likely, 0.8), likely)


def test_lesions_come_at_the_slices_own_size():
    likely = np.zeros((10, 10), np.float32)
    likely[2:6, 4:8] = 1
    stack = LesionStack([likely], [likely > 0], (1.5, 1.5), ((20, 30),))
    found = stack.lesions(0)
    assert found.shape == (20, 30)
    assert found[8, 18]
    assert not found[15, 5]
