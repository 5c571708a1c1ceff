"""The background recipe shows nothing of the liver, and everything else."""

import numpy as np
import pytest

from hepar.data import LabelSet, Manifest, Sample, Slice
from hepar.errors import RecipeError
from hepar.preprocess import NetworkInput, make_recipe
from hepar.preprocess.hiding import HideLiver

NETWORK = NetworkInput(64, (0.5,) * 3, (0.25,) * 3)


def image(liver_hu=60.0, shift=0):
    rng = np.random.default_rng(0)
    pixels = rng.normal(0, 30, (100, 100)).astype(np.float32)
    mask = np.zeros((100, 100), np.uint8)
    mask[30:50, 20 + shift : 45] = 1
    mask[30, 20] = mask[49, 44] = 1
    pixels[mask > 0] = liver_hu
    return Slice(pixels, "hu", mask, (1.0, 1.0))


def test_a_rectangle_hides_the_liver_and_its_outline():
    hidden = HideLiver(margin=0.02, value=0.5)(image()).pixels
    assert (hidden[28:52, 18:47] == 0.5).all()
    assert (hidden != 0.5).sum() == 100 * 100 - 24 * 29


def test_two_livers_in_one_place_look_alike_behind_it():
    one, other = image(60.0), image(-200.0, shift=10)
    plain = image(60.0).pixels
    other = Slice(np.where(other.mask > 0, other.pixels, plain), "hu", other.mask, (1.0, 1.0))
    samples = [Sample(f"{i}", f"{i}", f"{i}", kind="hu", mask="m") for i in range(2)]
    recipe = make_recipe("background", Manifest(tuple(samples), LabelSet(()), None), NETWORK)
    np.testing.assert_array_equal(recipe.apply(one), recipe.apply(other))


def test_a_slice_without_liver_is_refused():
    empty = Slice(np.zeros((9, 9), np.float32), "hu", np.zeros((9, 9), np.uint8), (1.0, 1.0))
    with pytest.raises(RecipeError, match="hide_liver"):
        HideLiver(margin=0.02, value=0.5)(empty)


def test_a_mark_in_the_corner_stays():
    marked = image()
    marked.pixels[2:6, 2:6] = 1500
    hidden = HideLiver(margin=0.02, value=0.5)(marked).pixels
    assert (hidden[2:6, 2:6] == 1500).all()
