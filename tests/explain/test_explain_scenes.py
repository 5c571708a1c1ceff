"""Slices of a search show what was found, missed and wrongly taken for a lesion."""

from __future__ import annotations

import numpy as np
import pytest

from hepar.data import LIVER, Slice
from hepar.evaluate import search_series
from hepar.explain import CANDIDATE, DRAWN, FALSE, draw_scene, scenes_of


def boxes(*places, value=True):
    found = np.zeros((4, 64, 64), type(value))
    for z, top, left, size in places:
        found[z, top : top + size, left : left + size] = value
    return found


@pytest.fixture
def scenes():
    """A lesion found in slice 0, one missed in slice 1, a false place in slice 3."""
    drawn = boxes((0, 20, 20, 12), (1, 44, 44, 8))
    scores = boxes((0, 22, 22, 8), value=0.9) + boxes((3, 40, 10, 10), value=0.6)
    return scenes_of(search_series(drawn, scores.astype(np.float32), 0.4, (1, 1)), [7, 8, 9, 10])


def test_the_slices_are_of_the_largest_the_missed_and_the_false(scenes):
    rows = {kind: scene.row for kind, scene in scenes.items()}
    assert rows == {"largest": 7, "least found": 8, "falsest": 10}
    assert scenes["least found"].ranks["least found"] > scenes["largest"].ranks["least found"]


def test_a_series_without_anything_shows_nothing():
    assert (
        scenes_of(search_series(boxes(), np.zeros((4, 64, 64), np.float32), 0.4, (1, 1)), []) == {}
    )


def coloured(picture, colour):
    wanted = [int(colour[at : at + 2], 16) for at in (5, 3, 1)]
    return (np.abs(picture.astype(int) - wanted).max(axis=2) < 40).sum()


@pytest.mark.parametrize(
    ("kind", "shown", "absent"),
    [
        ("largest", (DRAWN, CANDIDATE), (FALSE,)),
        ("least found", (DRAWN,), (CANDIDATE, FALSE)),
        ("falsest", (FALSE,), (DRAWN, CANDIDATE)),
    ],
)
def test_each_kind_has_its_colour(scenes, kind, shown, absent):
    mask = np.zeros((128, 128), np.uint8)
    mask[20:110, 10:90] = LIVER
    image = Slice(np.full((128, 128), 90, np.uint8), mask=mask)  # twice as fine as the regions
    picture = draw_scene(scenes[kind], image, 0.5, 320)
    assert picture.shape == (320, 320, 3)
    assert all(coloured(picture, colour) > 30 for colour in shown)
    assert not any(coloured(picture, colour) for colour in absent)


def test_what_the_bundle_marks_is_drawn_thicker(scenes):
    image = Slice(np.zeros((64, 64), np.uint8))
    thick, thin = (coloured(draw_scene(scenes["falsest"], image, at, 320), FALSE) for at in (0, 1))
    assert thick > 1.2 * thin


def test_a_slice_is_cut_to_its_liver(scenes):
    pixels = np.zeros((64, 64), np.uint8)
    pixels[:, 60:] = 255  # far from the liver
    mask = np.zeros((64, 64), np.uint8)
    mask[10:50, 5:40] = LIVER
    picture = draw_scene(scenes["falsest"], Slice(pixels, mask=mask), 2.0, 320)
    assert not (picture == 255).all(axis=2).any()
