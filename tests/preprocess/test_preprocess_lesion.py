"""What a lesion finder sees: relative to the patient's own liver, in millimetres, liver alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hepar.data import LESION, LIVER, Slice
from hepar.errors import RecipeError
from hepar.preprocess import measure_parenchyma
from hepar.preprocess.lesion_input import LesionInput


def abdomen(level=110.0, noise=8.0, mm=0.75, side=400, seed=0, lesion=0.0):
    """A round liver of 120 mm in HU, with a dark lesion over a share of its area."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] * mm
    centre = side * mm / 2
    liver = (y - centre) ** 2 + (x - centre) ** 2 < 60**2
    spot = (y - centre) ** 2 + (x - centre - 10) ** 2 < 60**2 * lesion
    pixels = rng.normal(-60, noise, (side, side))
    pixels[liver] += 60 + level
    pixels[spot] -= 60
    mask = np.where(spot, LESION, np.where(liver, LIVER, 0)).astype(np.uint8)
    return Slice(pixels.astype(np.float32), "hu", mask, (mm, mm))


def test_the_level_is_the_parenchymas_even_where_lesions_fill_four_tenths():
    plain, diseased = (measure_parenchyma([abdomen(lesion=share)]) for share in (0.0, 0.4))
    assert plain[0] == pytest.approx(110, abs=3)
    assert diseased[0] == pytest.approx(110, abs=3)
    assert diseased[1] == pytest.approx(plain[1], abs=3)


def test_the_spread_does_not_grow_with_the_noise_of_smaller_pixels():
    """The same noise in each pixel is less in 1.5 mm where pixels are small."""
    fine = measure_parenchyma([abdomen(noise=20, mm=0.5, side=600)])
    coarse = measure_parenchyma([abdomen(noise=20 / 3, mm=1.5, side=200)])
    assert fine[1] == pytest.approx(coarse[1], rel=0.15)


def test_hardly_any_liver_has_no_level():
    image = abdomen()
    assert measure_parenchyma([]) is None
    assert measure_parenchyma([replace(image, mask=np.zeros_like(image.mask))]) is None
    small = np.zeros_like(image.mask)
    small[:10, :10] = LIVER
    assert measure_parenchyma([replace(image, mask=small)]) is None


def test_16_bit_pictures_are_measured_in_their_own_unit():
    mask = np.ones((64, 64), np.uint8)
    grey = np.clip(np.random.default_rng(0).normal(120, 6, (64, 64)), 0, 255)
    eight = measure_parenchyma([Slice(grey.astype(np.uint8), mask=mask)])
    sixteen = measure_parenchyma([Slice(grey.astype(np.uint16) * np.uint16(257), mask=mask)])
    np.testing.assert_allclose(np.array(sixteen), np.array(eight) * 257, rtol=0.05)


STEP = LesionInput(size=192, mm=1.5, reach=6.0)


def test_a_lesion_stands_where_it_is_in_millimetres_whatever_the_pixels():
    for mm, side in ((0.75, 400), (1.0, 300)):
        seen = STEP(
            replace(abdomen(mm=mm, side=side, lesion=0.1, noise=1), parenchyma=(110.0, 10.0))
        )
        assert seen.pixels.shape == (192, 192, 3)
        assert seen.pixels.dtype == np.float32
        relative, liver, depth = seen.pixels.transpose(2, 0, 1)
        assert liver.sum() * 1.5**2 == pytest.approx(np.pi * 60**2, rel=0.02)
        assert (seen.mask == LESION).sum() * 1.5**2 == pytest.approx(np.pi * 60**2 * 0.1, rel=0.05)
        assert relative[seen.mask == LESION].mean() == pytest.approx(-6, abs=0.4)
        assert relative[(seen.mask == LIVER) & (liver > 0)].mean() == pytest.approx(0, abs=0.2)
        assert depth.max() == pytest.approx(4.0)
        assert (seen.pixels[liver == 0] == 0).all()


def test_nothing_outside_the_liver_is_seen():
    image = replace(abdomen(lesion=0.1), parenchyma=(110.0, 10.0))
    other = image.pixels.copy()
    other[image.mask == 0] = 1000
    np.testing.assert_allclose(STEP(image).pixels, STEP(replace(image, pixels=other)).pixels)


def test_the_window_is_where_the_grid_lies_even_beyond_the_edge():
    image = abdomen()
    top, left, height, width = STEP(image).window
    assert (height, width) == (384, 384)
    assert (top, left) == (8, 8)
    rolled = np.roll(image.mask, -130, axis=1)
    rolled[:, 200:] = 0
    assert STEP(replace(image, mask=rolled)).window[1] < 0


def test_a_slice_of_an_unmeasured_patient_is_relative_to_itself():
    relative = STEP(abdomen()).pixels[:, :, 0]
    inside = STEP(abdomen()).pixels[:, :, 1] > 0
    assert relative[inside].mean() == pytest.approx(0, abs=0.3)


@pytest.mark.parametrize("step", [LesionInput(16, 1.5, 6), LesionInput(64, 0, 6)])
def test_senseless_parameters_are_refused(step):
    with pytest.raises(RecipeError, match=r"lesion_input: expected a side of 32 pixels or more"):
        step(abdomen())


def test_a_slice_without_liver_is_refused():
    image = abdomen()
    with pytest.raises(RecipeError, match="no liver mask"):
        STEP(replace(image, mask=np.zeros_like(image.mask)))
