from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepar.config import AugmentConfig
from hepar.errors import RecipeError
from hepar.preprocess import IDENTITY, Draw, augment, draw, draw_view

ALL = AugmentConfig(flip_lr=True, flip_ud=True)


def image(side=32):
    return np.random.default_rng(0).normal(size=(3, side, side)).astype(np.float32)


@given(st.integers(0, 2**32))
def test_a_draw_replays_from_its_json_to_the_same_array(seed):
    one = draw(np.random.default_rng(seed), ALL)
    again = Draw.from_json(json.loads(json.dumps(one.to_json())))
    assert again == one
    before = image()
    first = augment(before, one)
    np.testing.assert_array_equal(first, augment(image(), again))
    np.testing.assert_array_equal(before, image())
    assert first.dtype == np.float32
    assert first.flags.c_contiguous


@given(st.integers(0, 2**32))
def test_a_draw_stays_inside_its_ranges(seed):
    one = draw(np.random.default_rng(seed), AugmentConfig())
    assert abs(one.rotation) <= 15
    assert 0.9 <= one.zoom <= 1.1
    assert max(abs(one.shift_x), abs(one.shift_y)) <= 0.05
    assert not one.flip_lr
    assert not one.flip_ud
    assert 0 <= one.noise <= 0.05


def test_no_change_gives_equal_pixels_in_a_new_array():
    plain = image()
    same = augment(plain, IDENTITY)
    np.testing.assert_array_equal(same, plain)
    assert not np.shares_memory(same, plain)


@pytest.mark.parametrize(
    ("one", "corner"),
    [
        (Draw(flip_lr=True), (0, 8)),
        (Draw(flip_ud=True), (8, 0)),
        (Draw(rotation=90), (8, 0)),
        (Draw(shift_x=2 / 9), (0, 2)),
        (Draw(shift_y=2 / 9), (2, 0)),
    ],
)
def test_geometry_moves_the_top_left_corner_where_it_should(one, corner):
    plain = np.zeros((3, 9, 9), np.float32)
    plain[:, 0, 0] = 1
    moved = augment(plain, one)
    assert np.allclose(moved[:, *corner], 1, atol=1e-3)


def test_zoom_enlarges():
    plain = np.zeros((3, 21, 21), np.float32)
    plain[:, 8:13, 8:13] = 1
    assert augment(plain, Draw(zoom=1.5)).sum() > 1.8 * plain.sum()


def test_grey_values_are_scaled_shifted_and_noised():
    plain = np.ones((3, 200, 200), np.float32)
    assert np.allclose(augment(plain, Draw(gain=1.1, offset=0.2)), 1.3)
    noisy = augment(plain, Draw(noise=0.05, seed=3)) - 1
    assert noisy.std() == pytest.approx(0.05, rel=0.02)
    np.testing.assert_array_equal(noisy[0], noisy[2])


def test_a_views_draw_depends_on_sample_and_number_alone():
    views = {(s, v): draw_view(ALL, 0, s, v) for s in ("a", "b") for v in range(4)}
    assert views["a", 0] == IDENTITY
    assert draw_view(ALL, 0, "b", 3) == views["b", 3]
    assert len({views[k].rotation for k in views if k[1]}) == 6
    assert draw_view(ALL, 1, "b", 3) != views["b", 3]


@pytest.mark.parametrize(
    ("name", "value"), [("rotation", -5), ("zoom", 1.0), ("views", 0), ("noise", -1)]
)
def test_a_range_without_sense_is_refused_by_name(name, value):
    with pytest.raises(RecipeError, match=rf"augment\.{name}: expected .*, got {value}"):
        draw(np.random.default_rng(0), AugmentConfig(**{name: value}))
