"""Stains: tiles of two laboratories come to look alike, and views differ as a laboratory would."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from hepar.data import Slice
from hepar.errors import RecipeError
from hepar.phantom import TileConfig, make_tiles
from hepar.preprocess import Draw, augment
from hepar.preprocess.stain import RgbScale, StainNormalise, jitter_stains


@pytest.fixture(scope="module")
def tile():
    """Real colours need real tissue: one tile of laboratory A, with all there may be on it."""
    return make_tiles(TileConfig(tiles=1, size=128), 4)[0].pixels


def restained(pixels, strength=1.4):
    """Return the tile as another laboratory would show it: more stain, and another eosin."""
    density = -np.log(np.maximum(pixels, 1) / 240)
    other = density @ np.array([[strength, 0, 0], [0, strength, 0.15], [0, 0, strength]])
    return np.clip(240 * np.exp(-other), 0, 255).astype(np.uint8)


@pytest.fixture
def needs_library():
    pytest.importorskip("skimage")


@pytest.mark.usefixtures("needs_library")
def test_a_tile_stained_elsewhere_comes_to_look_the_same(tile):
    normalise = StainNormalise()
    here, there = (normalise(Slice(p, "rgb")).pixels for p in (tile, restained(tile)))
    before = np.abs(tile.astype(float) - restained(tile)).mean() / 255
    after = np.abs(here - there).mean()
    assert here.dtype == np.float32
    assert 0 <= here.min() <= here.max() <= 1
    assert after < before / 4


@pytest.mark.usefixtures("needs_library")
def test_the_reference_is_reached_and_stays_where_it_is(tile):
    normalise = StainNormalise()
    once = normalise(Slice(tile, "rgb")).pixels
    again = normalise(Slice(np.rint(255 * once).astype(np.uint8), "rgb")).pixels
    assert np.abs(again - once).mean() < 0.02  # stains are found anew among rounded values


@pytest.mark.usefixtures("needs_library")
def test_glass_and_a_single_stain_keep_their_colours():
    glass = np.full((64, 64, 3), (238, 235, 240), np.uint8)
    pink = np.full((64, 64, 3), (230, 140, 200), np.uint8)
    for pixels in (glass, pink):
        kept = StainNormalise()(Slice(pixels, "rgb")).pixels
        np.testing.assert_allclose(kept, RgbScale()(Slice(pixels, "rgb")).pixels)


@pytest.mark.parametrize("kind", ["hu", "picture"])
def test_ct_is_no_tile(kind):
    grey = Slice(np.zeros((64, 64), np.uint8), kind)
    for step in (StainNormalise(), RgbScale()):
        with pytest.raises(RecipeError, match=r"not an RGB tile; step '\w+' needs RGB"):
            step(grey)


@pytest.mark.usefixtures("needs_library")
def test_no_jitter_changes_nothing_and_more_stain_is_darker(tile):
    rgb = tile / 255
    same = jitter_stains(rgb, np.ones(3), np.zeros(3))
    np.testing.assert_allclose(same, rgb, atol=1e-9)
    nuclei = rgb[..., 0] < np.quantile(rgb[..., 0], 0.1)
    more = jitter_stains(rgb, np.array([1.3, 1, 1]), np.zeros(3))
    assert more[nuclei].mean() < rgb[nuclei].mean() - 0.02
    assert np.abs(more - rgb)[~nuclei].mean() < np.abs(more - rgb)[nuclei].mean()


@pytest.mark.usefixtures("needs_library")
def test_a_view_with_other_stains_replays_and_is_of_the_tile_on_its_own_scale(tile):
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    image = ((tile / 255 - mean) / std).astype(np.float32).transpose(2, 0, 1)
    draw = Draw(stain=0.1, seed=3)
    view = augment(image, draw, (mean, std))
    np.testing.assert_array_equal(view, augment(image, Draw.from_json(draw.to_json()), (mean, std)))
    shown = view.transpose(1, 2, 0) * std + mean
    assert -1e-6 < shown.min() < shown.max() < 1 + 1e-6
    assert 0.005 < np.abs(shown - tile / 255).mean() < 0.15


def test_without_the_library_one_line_says_what_to_install(tile, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(RecipeError, match=r"pip install 'hepar\[histology\]'`, or use recipe"):
        StainNormalise()(Slice(tile, "rgb"))
