"""What 2.5D sees: three slices of one series, cut alike, on the scale of the middle one."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from hepar.data import LabelSet, Manifest, Sample, Slice, find_beside
from hepar.errors import RecipeError
from hepar.preprocess import NetworkInput, make_recipe
from hepar.preprocess.slab import LiverSlab, Slab

NETWORK = NetworkInput(64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
STEP = LiverSlab(mm=5.0, size=64, reach=3.0, margin=0.02, sigma=0.5)


def series(n=6, spacing=(5.0, 1.0, 1.0), skip=(), patient="P", mask="m", name="s", first=0):
    return [
        Sample(
            f"{patient}{name}{i}", patient, f"{i}", "x", kind="hu", series_id=name, slice_index=i,
            spacing_mm=spacing, mask=mask,
        )
        for i in range(first, first + n)
        if i not in skip
    ]  # fmt: skip


def cohort(samples):
    return Manifest(tuple(samples), LabelSet(("x",)), root=None)


def indices(samples, mm):
    """Return slice_index of (below, own, above) for each sample."""
    manifest = cohort(samples)
    rows = manifest.samples
    return [
        (rows[below].slice_index, rows[i].slice_index, rows[above].slice_index)
        for i, (below, above) in enumerate(find_beside(manifest, mm))
    ]


def test_neighbours_lie_as_far_away_as_asked_whatever_the_slices_are_apart():
    assert indices(series(3), 5) == [(0, 0, 1), (0, 1, 2), (1, 2, 2)]
    assert indices(series(9, spacing=(1.25, 1, 1)), 5)[4] == (0, 4, 8)
    assert indices(series(3, spacing=(10, 1, 1)), 5)[1] == (0, 1, 2)
    assert indices(series(3, spacing=None), 5)[1] == (0, 1, 2)


def test_a_gap_is_filled_by_a_near_slice_or_by_the_slice_itself():
    assert indices(series(9, spacing=(1.25, 1, 1), skip=(0,)), 5)[3] == (1, 4, 8)
    assert indices(series(4, skip=(1,)), 5) == [(0, 0, 0), (2, 2, 3), (2, 3, 3)]


def test_slices_of_another_series_or_patient_are_never_beside():
    rows = [*series(2), *series(2, name="t", first=2), *series(2, patient="Q", first=2)]
    assert indices(rows, 5) == [(0, 0, 1), (0, 1, 1)] + 2 * [(2, 2, 3), (2, 3, 3)]


def test_slices_without_an_order_have_no_neighbours():
    rows = [*series(2), replace(series(1)[0], sample_id="again")]
    assert all(own == below == above for below, own, above in indices(rows, 5))


def test_a_cohort_of_lone_slices_is_refused_by_name():
    lone = cohort([*series(1), *series(1, patient="Q")])
    with pytest.raises(
        RecipeError, match=r"recipe 'slab': expected series of several slices.*2 sl"
    ):
        make_recipe("slab", lone, NETWORK)


def liver(grey, at=(48, 40), radius=20, noise=4.0, seed=0):
    mask = cv2.circle(np.zeros((96, 96), np.uint8), at, radius, 1, -1)
    pixels = np.random.default_rng(seed).normal(grey, noise, (96, 96))
    return Slice(pixels.astype(np.float32), "hu", mask, (1.0, 1.0))


def test_channels_are_below_own_and_above_on_the_scale_of_the_own_liver():
    own, darker, brighter = liver(100), liver(92, seed=1), liver(108, seed=2)
    seen = STEP(replace(own, beside=(darker, brighter))).pixels
    middle = seen[24:40, 24:40].mean(axis=(0, 1))
    np.testing.assert_allclose(middle, [0.5 - 2 / 6, 0.5, 0.5 + 2 / 6], atol=0.03)
    assert seen.shape == (64, 64, 3)


def test_each_channel_is_blank_outside_its_own_liver_and_cut_by_the_middle_one():
    own, small = liver(110), liver(80, radius=8)
    shown = STEP(replace(own, beside=(small, own)))
    assert shown.window == (19, 27, 43, 43)
    below, middle, _ = shown.pixels.transpose(2, 0, 1)
    assert (below != 0.5).mean() == pytest.approx(8**2 / 20**2 * (middle != 0.5).mean(), rel=0.15)


def test_a_missing_neighbour_is_the_slice_itself():
    own = liver(100)
    blank = replace(own, mask=np.zeros_like(own.mask))
    other = Slice(own.pixels[:50], "hu", own.mask[:50])
    expected = STEP(own).pixels
    for beside in ((blank, blank), (other, other), (own, own)):
        np.testing.assert_array_equal(STEP(replace(own, beside=beside)).pixels, expected)
    np.testing.assert_array_equal(expected[..., 0], expected[..., 1])


def test_whole_slices_are_cut_by_the_body_of_the_middle_one():
    recipe = make_recipe("slab_whole", cohort(series(3, mask="")), NETWORK)
    air = np.full((96, 96), -1000, np.float32)
    body = cv2.circle(air.copy(), (48, 48), 30, 40, -1)
    shown = recipe.run(Slice(body, "hu", spacing_mm=(1, 1), beside=(Slice(air, "hu"),) * 2))
    assert shown.window == (18, 18, 61, 61)  # opened: its tips are gone
    np.testing.assert_allclose(shown.pixels[32, 32], [-1, 0, -1], atol=0.01)


@pytest.mark.parametrize("make", [lambda: Slab(0, 0), lambda: LiverSlab(-1, 64, 3, 0.02, 3)])
def test_a_distance_of_nothing_is_refused(make):
    with pytest.raises(RecipeError, match=r"slab: expected a distance above 0 mm"):
        make()
