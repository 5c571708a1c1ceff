from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepar.preprocess.resample import axis_weights, resample, resample_back

WHOLE = (slice(None),) * 3


@given(st.integers(1, 40), st.integers(1, 40))
def test_weights_are_means(size, new_size):
    weights = axis_weights(size, new_size)
    assert weights.shape == (new_size, size)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)


@given(st.integers(2, 30), st.integers(2, 30))
def test_away_from_the_edges_a_ramp_moves_by_less_than_a_quarter_of_a_voxel(size, new_size):
    there = axis_weights(size, new_size) @ ((np.arange(size) + 0.5) / size)
    middles = (np.arange(new_size) + 0.5) / new_size
    inner = np.abs(middles - 0.5) < 0.5 - 0.5 / size
    np.testing.assert_allclose(there[inner], middles[inner], atol=0.25 / size + 1e-5)


def test_shrinking_by_a_whole_number_is_the_mean_of_blocks():
    volume = np.random.default_rng(0).standard_normal((6, 8, 12)).astype(np.float32)
    blocks = volume.reshape(2, 3, 4, 2, 3, 4).mean(axis=(1, 3, 5))
    found = resample(volume, (1.0, 1.5, 0.75), (3.0, 3.0, 3.0), WHOLE)
    np.testing.assert_allclose(found, blocks, atol=1e-5)


def test_only_the_box_is_resampled():
    volume = np.zeros((6, 8, 12), np.float32)
    volume[2:4, 2:6, 4:8] = 7
    found = resample(volume, (2, 2, 2), (1, 4, 2), (slice(2, 4), slice(2, 6), slice(4, 8)))
    assert found.shape == (4, 2, 4)
    assert found == pytest.approx(7)


def test_going_there_and_back_keeps_a_smooth_mask():
    z, y, x = np.indices((30, 60, 60))
    ball = ((z * 2 - 30) ** 2 + (y - 30) ** 2 + (x - 28) ** 2) < 20**2
    small = resample(ball, (2, 1, 1), (3, 3, 3), WHOLE)
    back = resample_back(small, ball.shape) > 0.5
    assert 2 * (back & ball).sum() / (back.sum() + ball.sum()) > 0.97
