"""Augmentation: a draw replays to the same array, stays in its ranges, and moves pixels as said."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepar.config import AugmentConfig, read_config
from hepar.errors import ConfigError
from hepar.preprocess import IDENTITY, Draw, augment, draw, draw_view

ALL = AugmentConfig(flip_lr=True, flip_ud=True)

configs = st.builds(
    AugmentConfig,
    rotation=st.floats(0, 180),
    zoom=st.floats(0, 0.9),
    shift=st.floats(0, 1),
    flip_lr=st.booleans(),
    flip_ud=st.booleans(),
    gain=st.floats(0, 0.9),
    offset=st.floats(0, 10),
    noise=st.floats(0, 10),
)


def image(side=32):
    return np.random.default_rng(0).normal(size=(3, side, side)).astype(np.float32)


def dots(side, *places):
    plain = np.zeros((3, side, side), np.float32)
    for row, column in places:
        plain[:, row, column] = 1
    return plain


@given(configs, st.integers(0, 2**32))
def test_a_draw_replays_from_its_json_to_the_same_array(config, seed):
    one = draw(np.random.default_rng(seed), config)
    again = Draw.from_json(json.loads(json.dumps(one.to_json())))
    assert again == one
    before = image()
    before.flags.writeable = False
    first = augment(before, one)
    np.testing.assert_array_equal(first, augment(image(), again))
    np.testing.assert_array_equal(before, image())
    assert first.shape == before.shape
    assert first.dtype == np.float32
    assert first.flags.c_contiguous
    assert np.isfinite(first).all()


@given(configs, st.integers(0, 2**32))
def test_a_draw_stays_inside_its_ranges(config, seed):
    one = draw(np.random.default_rng(seed), config)
    assert abs(one.rotation) <= config.rotation
    assert abs(one.zoom - 1) <= config.zoom + 1e-12
    assert max(abs(one.shift_x), abs(one.shift_y)) <= config.shift
    assert one.flip_lr <= config.flip_lr
    assert one.flip_ud <= config.flip_ud
    assert abs(one.gain - 1) <= config.gain + 1e-12
    assert abs(one.offset) <= config.offset
    assert 0 <= one.noise <= config.noise
    assert one.zoom > 0
    assert one.gain > 0


def test_draws_use_the_whole_of_their_ranges_evenly():
    generator = np.random.default_rng(0)
    drawn = [draw(generator, ALL) for _ in range(4000)]
    # four standard errors of the mean and spread of 4000 uniform numbers, or of as many coins
    for name, middle, reach in (
        ("rotation", 0, 15),
        ("zoom", 1, 0.1),
        ("shift_x", 0, 0.05),
        ("shift_y", 0, 0.05),
        ("gain", 1, 0.1),
        ("offset", 0, 0.1),
        ("noise", 0.025, 0.025),
    ):
        values = (np.array([getattr(d, name) for d in drawn]) - middle) / reach
        assert abs(values.mean()) < 4 / math.sqrt(3 * 4000), name
        assert values.std() == pytest.approx(1 / math.sqrt(3), rel=0.04), name
    for name in ("flip_lr", "flip_ud"):
        assert abs(np.mean([getattr(d, name) for d in drawn]) - 0.5) < 2 / math.sqrt(4000), name
    assert len({d.seed for d in drawn}) > 3990


def test_a_switched_off_change_leaves_the_others_as_they_were():
    still = dataclasses.replace(ALL, rotation=0.0, flip_lr=False)
    one, other = (draw(np.random.default_rng(5), c) for c in (ALL, still))
    assert dataclasses.replace(one, rotation=0.0, flip_lr=False) == other


def test_no_change_gives_equal_pixels_in_a_new_array():
    plain = image()
    same = augment(plain, IDENTITY)
    np.testing.assert_array_equal(same, plain)
    assert not np.shares_memory(same, plain)


def test_mirrors_are_exact():
    plain = image(33)
    np.testing.assert_array_equal(augment(plain, Draw(flip_lr=True)), plain[:, :, ::-1])
    np.testing.assert_array_equal(augment(plain, Draw(flip_ud=True)), plain[:, ::-1])


@pytest.mark.parametrize(
    ("one", "corner"),
    [
        (Draw(flip_lr=True), (0, 8)),
        (Draw(flip_ud=True), (8, 0)),
        (Draw(flip_lr=True, flip_ud=True), (8, 8)),
        (Draw(rotation=90), (8, 0)),  # counter-clockwise as seen
        (Draw(rotation=-90), (0, 8)),
        (Draw(flip_lr=True, rotation=90), (0, 0)),  # mirrored before it is turned
        (Draw(shift_x=2 / 9), (0, 2)),
        (Draw(shift_y=2 / 9), (2, 0)),
        (Draw(rotation=90, shift_x=2 / 9), (8, 2)),  # turned before it is shifted
    ],
)
def test_geometry_moves_the_top_left_corner_where_it_should(one, corner):
    moved = augment(dots(9, (0, 0)), one)
    assert np.allclose(moved[:, *corner], 1, atol=1e-3)


def test_a_small_turn_is_counter_clockwise_as_seen():
    # a dot right of the centre rises
    moved = augment(dots(41, (20, 36)), Draw(rotation=15))[0]
    row, column = np.unravel_index(moved.argmax(), moved.shape)
    angle = math.radians(15)
    assert abs(row - (20 - 16 * math.sin(angle))) < 1
    assert abs(column - (20 + 16 * math.cos(angle))) < 1


def test_a_shift_is_a_share_of_each_side_and_repeats_the_border():
    plain = np.random.default_rng(1).normal(size=(3, 20, 40)).astype(np.float32)
    moved = augment(plain, Draw(shift_x=0.1, shift_y=-0.1))
    np.testing.assert_allclose(moved[:, :-2, 4:], plain[:, 2:, :-4], atol=1e-6)
    np.testing.assert_allclose(moved[:, :-2, :4], plain[:, 2:, :1].repeat(4, 2), atol=1e-6)
    np.testing.assert_allclose(moved[:, -2:, 4:], plain[:, -1:, :-4].repeat(2, 1), atol=1e-6)


@pytest.mark.parametrize("zoom", [0.8, 1.25])
def test_zoom_scales_distances_from_the_centre(zoom):
    moved = augment(dots(41, (20, 20), (20, 30), (10, 20)), Draw(zoom=zoom))[0]
    for place in ((20, 20), (20, 20 + round(10 * zoom)), (20 - round(10 * zoom), 20)):
        box = moved[place[0] - 1 : place[0] + 2, place[1] - 1 : place[1] + 2]
        assert box.max() > 0.3


def test_grey_values_are_scaled_shifted_and_noised():
    plain = np.ones((3, 200, 200), np.float32)
    assert np.allclose(augment(plain, Draw(gain=1.1, offset=0.2)), 1.3)
    noisy = augment(plain, Draw(noise=0.05, seed=3)) - 1
    # four standard errors of 40,000 pixels
    assert abs(noisy[0].mean()) < 4 * 0.05 / 200
    assert noisy[0].std() == pytest.approx(0.05, rel=4 / math.sqrt(2 * 40_000))
    assert abs(np.mean(noisy[0, :, 1:] * noisy[0, :, :-1])) < 4 * 0.05**2 / 200
    np.testing.assert_array_equal(noisy[0], noisy[2])
    assert not np.array_equal(noisy, augment(plain, Draw(noise=0.05, seed=4)) - 1)


def test_a_views_draw_depends_on_seed_sample_and_number_alone():
    places = [(s, v) for s in ("a", "b") for v in range(4)]
    views = {place: draw_view(ALL, 0, *place) for place in places}
    assert {place: draw_view(ALL, 0, *place) for place in reversed(places)} == views
    assert views["a", 0] == views["b", 0] == IDENTITY
    assert len({views[place].rotation for place in places if place[1]}) == 6
    assert draw_view(ALL, 1, "b", 3) != views["b", 3]


def test_a_view_is_the_same_in_every_version():
    # views are part of what is cached and of what a bundle averages
    one = draw_view(AugmentConfig(), 0, "a", 1)
    assert one.rotation == pytest.approx(-0.8342278415431503, abs=1e-12)
    assert one.seed == 1623054881


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rotation", -5.0),
        ("zoom", 1.0),
        ("shift", 1.5),
        ("gain", math.nan),
        ("offset", math.inf),
        ("noise", -1.0),
        ("views", 0),
        ("views", -2),
    ],
)
def test_a_range_without_sense_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=rf"^augment\.{name}: expected .*, got {value}\.$"):
        AugmentConfig(**{name: value})
    with pytest.raises(ConfigError, match=rf"^augment\.{name}: "):
        read_config(settings=[f"augment.{name}={value}"])


def test_blur_softens_and_leaves_other_draws_as_they_were():
    plain, soft = AugmentConfig(), AugmentConfig(blur=2.0)
    for seed in range(5):
        before = draw(np.random.default_rng(seed), plain)
        after = draw(np.random.default_rng(seed), soft)
        assert dataclasses.replace(after, blur=0.0) == before
        assert 0 < after.blur < 2
    image = np.random.default_rng(0).normal(size=(3, 32, 32)).astype(np.float32)
    blurred = augment(image, Draw(blur=1.5))
    assert blurred.std() < 0.5 * image.std()
    np.testing.assert_array_equal(blurred, augment(image, Draw(blur=1.5)))
