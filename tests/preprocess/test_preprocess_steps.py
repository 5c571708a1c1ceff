"""Grey values and geometry after each step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hepar.data import Slice
from hepar.errors import RecipeError
from hepar.preprocess.geometry import BodyCrop, LiverCrop, Resize
from hepar.preprocess.intensity import (
    Background,
    Clahe,
    Gaussian,
    HuWindow,
    HuWindows,
    LiverScale,
    LiverSmooth,
    PictureScale,
)

HU = hnp.arrays(np.float32, (6, 7), elements=st.floats(-2000, 4000, width=32))


def hu_slice(pixels, mask=None):
    return Slice(np.asarray(pixels, np.float32), "hu", mask, (1.0, 1.0))


def liver_slice(seed=0, kind="hu"):
    rng = np.random.default_rng(seed)
    pixels = rng.normal(-100, 30, (60, 80))
    mask = np.zeros((60, 80), np.uint8)
    mask[20:45, 10:40] = 1
    mask[30:34, 20:24] = 2
    pixels[mask > 0] = rng.normal(100, 15, (mask > 0).sum())
    if kind == "picture":
        return Slice(np.clip(pixels + 50, 0, 255).astype(np.uint8), "picture", mask)
    return hu_slice(pixels, mask)


def test_the_liver_window_maps_its_ends_to_zero_and_one():
    window = HuWindow(level=60, width=200)
    out = window(hu_slice([[-1024, -40, 60, 160, 3000]])).pixels
    np.testing.assert_array_equal(out, np.float32([[0, 0, 0.5, 1, 1]]))


@given(HU, st.floats(-500, 500), st.floats(1, 2000))
def test_windows_are_bounded_monotone_and_pure(pixels, level, width):
    before = pixels.copy()
    out = HuWindow(level, width)(hu_slice(pixels)).pixels
    assert (out >= 0).all()
    assert (out <= 1).all()
    order = np.argsort(pixels, axis=None)
    assert (np.diff(out.ravel()[order]) >= 0).all()
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize(
    "step", [HuWindow(60, 200), HuWindows(((60, 200),) * 3), BodyCrop(-300, 0)]
)
def test_a_hu_step_refuses_an_8_bit_picture(step):
    with pytest.raises(RecipeError, match=r"8-bit picture, not HU; step '.*' needs HU"):
        step(Slice(np.zeros((8, 8), np.uint8)))


def test_a_picture_step_refuses_hu():
    with pytest.raises(RecipeError, match="HU, not a picture"):
        PictureScale()(hu_slice(np.zeros((4, 4))))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_picture_is_scaled_by_the_range_of_its_type(dtype):
    top = np.iinfo(dtype).max
    out = PictureScale()(Slice(np.array([[0, top]], dtype))).pixels
    np.testing.assert_array_equal(out, np.float32([[0, 1]]))


@pytest.mark.parametrize("step", [LiverScale(3), Background(0.5), LiverSmooth(2), LiverCrop(0, 0)])
@pytest.mark.parametrize("mask", [None, np.zeros((4, 4), np.uint8)])
def test_a_liver_step_without_a_liver_names_the_way_out(step, mask):
    with pytest.raises(RecipeError, match=r"no liver mask; step '.*' needs one.*recipe 'ct'"):
        step(hu_slice(np.ones((4, 4)), mask))


def test_the_livers_median_becomes_one_half():
    image = liver_slice()
    out = LiverScale(reach=3)(image).pixels
    assert np.median(out[image.mask > 0]) == pytest.approx(0.5, abs=1e-6)


def test_liver_scale_forgets_the_display_window():
    image = liver_slice()
    shifted = hu_slice(image.pixels * 2.5 + 37, image.mask)
    np.testing.assert_allclose(
        LiverScale(3)(image).pixels, LiverScale(3)(shifted).pixels, atol=1e-4
    )


def test_liver_smooth_lets_nothing_in_across_the_edge():
    image = liver_slice()
    scaled = LiverScale(3)(image)
    other = np.where(image.mask > 0, scaled.pixels, np.float32(99))
    inside = image.mask > 0
    smooth = LiverSmooth(3)
    one = smooth(scaled).pixels[inside]
    two = smooth(hu_slice(other, image.mask)).pixels[inside]
    np.testing.assert_allclose(one, two, atol=1e-6)
    assert one.std() < 0.5 * scaled.pixels[inside].std()


def test_background_is_constant_outside_and_untouched_inside():
    image = liver_slice()
    out = Background(7.0)(image).pixels
    assert (out[image.mask == 0] == 7).all()
    np.testing.assert_array_equal(out[image.mask > 0], image.pixels[image.mask > 0])


def test_liver_crop_is_a_square_that_holds_the_whole_liver():
    image = liver_slice()
    out = LiverCrop(margin=0.1, fill=-1024)(image)
    assert out.pixels.shape == (36, 36)
    assert (out.mask > 0).sum() == (image.mask > 0).sum()
    np.testing.assert_array_equal(out.pixels[out.mask > 0], image.pixels[image.mask > 0])


def test_a_crop_beyond_the_slice_is_filled():
    mask = np.zeros((20, 60), np.uint8)
    mask[5:15, 2:58] = 1
    out = LiverCrop(margin=0.0, fill=-7)(hu_slice(np.zeros((20, 60)), mask))
    assert out.pixels.shape == (56, 56)
    assert (out.pixels == -7).any()


def test_body_crop_leaves_the_table_out():
    pixels = np.full((100, 100), -1000.0)
    pixels[20:70, 30:80] = 40
    pixels[90:92, 10:95] = 300
    out = BodyCrop(threshold=-300, margin=0)(hu_slice(pixels))
    assert out.pixels.shape == (50, 50)
    assert (out.pixels == 40).all()


def test_resize_keeps_the_mean_and_scales_the_spacing():
    image = Slice(np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64), "hu", None, (2, 2))
    out = Resize(32)(image)
    assert out.pixels.mean() == pytest.approx(image.pixels.mean(), abs=1e-4)
    assert out.spacing_mm == (4.0, 4.0)


def test_gaussian_keeps_a_constant_and_lowers_noise():
    rng = np.random.default_rng(0)
    noise = hu_slice(rng.normal(0, 1, (64, 64)))
    assert Gaussian(2)(noise).pixels.std() < 0.25
    np.testing.assert_allclose(Gaussian(2)(hu_slice(np.full((9, 9), 5))).pixels, 5, rtol=1e-6)


def test_clahe_widens_the_range_of_a_flat_picture():
    rng = np.random.default_rng(0)
    flat = hu_slice(np.clip(rng.normal(0.5, 0.02, (128, 128)), 0, 1))
    out = Clahe(2.0, 8)(flat).pixels
    assert out.dtype == np.float32
    assert 0 <= out.min() < flat.pixels.min()
    assert flat.pixels.max() < out.max() <= 1


@pytest.mark.parametrize("width", [0, -5])
def test_a_window_without_width_names_a_good_one(width):
    with pytest.raises(RecipeError, match=r"expected width > 0 HU.*level=60, width=200"):
        HuWindow(60, width)
