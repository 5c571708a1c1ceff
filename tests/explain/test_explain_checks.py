"""Checks of maps tell a right map from a wrong one, on networks whose answer is known."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hepar.data import LESION, LIVER, LabelSet, Slice
from hepar.explain import (
    Model,
    check_map,
    draw_heat,
    draw_outlines,
    grey_picture,
    lesion_outlines,
    measure_aim,
)
from hepar.explain.faithfulness import likeness
from hepar.model import LinearHead

LABELS = LabelSet(("normal", "malignant"))
HEAD = LinearHead(
    LABELS, np.zeros(2), np.ones(2), np.array([[0.0, 0.0], [40.0, 0.0]]), np.array([0.0, -2.0]), 1.0
)


class Blocks:
    """A network whose two maps are means of the first two channels in 8 x 8 blocks."""

    def __init__(self, channels=(0, 1)):
        self.channels = list(channels)

    def maps_and_features(self, images):
        maps = images[:, self.channels].reshape(len(images), 2, 8, 8, 8, 8).mean(axis=(3, 5))
        return maps, maps.mean(axis=(2, 3))

    def features(self, images):
        return self.maps_and_features(images)[1]


def image(seed=0):
    """Return an image whose first channel is bright in one place."""
    rng = np.random.default_rng(seed)
    found = rng.normal(scale=0.05, size=(3, 64, 64)).astype(np.float32)
    found[0, 8:32, 24:48] += 1
    return found


def checks(network, untrained, method="grad-cam"):
    return check_map(Model((network,), HEAD), untrained, image(), 1, method, 0)


def test_a_true_map_takes_away_and_gives_back_what_counts():
    found = checks(Blocks(), Blocks((1, 0)))
    assert found.deletion < found.deletion_random - 0.1
    assert found.insertion > found.insertion_random + 0.1
    assert found.shifted > 0.8


def test_a_map_of_another_network_does_not():
    class Wrong(Blocks):
        """Answers from the first channel and shows the second."""

        def maps_and_features(self, images):
            maps, features = super().maps_and_features(images)
            return maps[:, ::-1] * 1.0, features

    found = checks(Wrong(), Blocks((1, 0)))
    assert abs(found.deletion - found.deletion_random) < 0.1


def test_a_map_that_does_not_depend_on_the_weights_is_told():
    assert checks(Blocks(), Blocks()).randomised == 1
    assert abs(checks(Blocks(), Blocks((1, 2))).randomised) < 0.4


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_likeness_is_a_correlation(seed):
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(2, 5, 5)).astype(np.float32)
    assert -1 <= likeness(one, other) <= 1
    assert likeness(one, 2 * one + 3) > 0.999
    assert likeness(one, -one) < -0.999
    assert likeness(one, np.zeros_like(one)) == 0


def liver(top=30, left=20, side=10):
    mask = np.zeros((100, 100), np.uint8)
    mask[20:80, 10:60] = LIVER
    mask[top : top + side, left : left + side] = LESION
    return Slice(np.full((100, 100), 60, np.float32), "hu", mask)


def test_maps_without_meaning_aim_as_chance():
    rng, aims = np.random.default_rng(1), []
    for _ in range(600):
        noise = cv2.resize(rng.uniform(size=(7, 7)).astype(np.float32), (100, 100))
        aims.append(measure_aim(noise, liver(rng.integers(20, 70), rng.integers(10, 50))))
    chance = 100 / 3000
    assert all(aim.chance == chance for aim in aims)
    assert abs(np.mean([aim.energy for aim in aims]) - chance) < 0.004
    assert abs(np.mean([aim.hit for aim in aims]) - chance) < 0.025


def test_maps_of_the_lesion_hit_it_and_heat_elsewhere_in_the_body_does_not_count():
    image = liver()
    heat = np.where(image.mask == LESION, 2.0, 0.0).astype(np.float32)
    heat[90, 90] = 50
    aim = measure_aim(heat, image)
    assert (aim.hit, aim.energy, aim.region) == (1, 1, "liver")


def test_an_empty_map_hits_nothing():
    aim = measure_aim(np.full((100, 100), -1, np.float32), liver())
    assert (aim.hit, aim.energy) == (0, 0)


def test_there_is_no_aim_without_a_lesion_or_without_a_mask():
    heat = np.ones((100, 100), np.float32)
    assert measure_aim(heat, Slice(np.zeros((100, 100), np.uint8))) is None
    assert measure_aim(heat, liver(side=0)) is None


def test_an_empty_map_leaves_the_picture_as_it_is():
    grey = grey_picture(liver(), 64)
    for heat in (np.zeros((100, 100)), np.full((100, 100), -3.0)):
        drawn = draw_heat(grey, heat.astype(np.float32), 5.0)
        np.testing.assert_array_equal(drawn, np.repeat(grey[..., None], 3, axis=2))


def test_the_same_value_has_the_same_colour_in_any_slice():
    grey = np.full((64, 64), 90, np.uint8)
    one, other = np.zeros((2, 64, 64), np.float32)
    one[10, 10], other[40, 40] = 2, 2
    other[5:20, 5:20] = 9
    first, second = draw_heat(grey, one, 4.0), draw_heat(grey, other, 4.0)
    np.testing.assert_array_equal(first[10, 10], second[40, 40])
    assert (second[8, 8] != first[10, 10]).any()


def test_a_lesion_is_outlined_where_it_lies():
    image = liver()
    drawn = draw_outlines(grey_picture(image, 100), lesion_outlines(image, 100))
    rows, columns = np.nonzero((drawn != drawn[..., :1]).any(axis=2))
    found = (rows.min(), rows.max(), columns.min(), columns.max())
    np.testing.assert_allclose(found, (30, 39, 20, 29), atol=1)


def test_a_tile_is_drawn_in_its_colours_under_its_heat():
    tile = np.full((40, 60, 3), (230, 120, 180), np.uint8)
    tile[:, 30:] = (80, 60, 140)
    picture = grey_picture(Slice(tile, "rgb"), 60)
    assert picture.shape == (60, 60, 3)
    assert picture[30, 10].tolist() == [180, 120, 230]  # blue first, as OpenCV writes it
    assert picture[30, 50].tolist() == [140, 60, 80]
    assert not picture[0].any()  # beside the tile
    heat = np.zeros((40, 60), np.float32)
    heat[:, :20] = 1
    drawn = draw_heat(picture, heat, 1.0)
    assert drawn[30, 50].tolist() == picture[30, 50].tolist()
    assert drawn[30, 5].tolist() != picture[30, 5].tolist()
