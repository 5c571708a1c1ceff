"""What networks of volumes see: a series on a grid in mm, whatever its slices were like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hepar.data import LabelSet, Manifest, Sample, Slice, stack_series, unstack_series
from hepar.errors import DataError, RecipeError
from hepar.preprocess import IDENTITY, Draw, NetworkInput, augment, make_recipe, recipe_from_json
from hepar.preprocess.volume_input import VolumeInput

STEP = VolumeInput(size=48, depth=16, mm=6.0, z_mm=12.0, reach=6.0)
NETWORK = NetworkInput(48, (0.5,) * 3, (0.5,) * 3)


class Patient:
    """A ball of liver of 60 mm radius with a dark ball of 25 mm in it, cut into slices."""

    def __init__(self, z_mm=5.0, mm=(1.0, 1.0), level=100.0, tall=60.0, shift=0.0):
        self.heights = np.arange(-80 * tall / 60, 80 * tall / 60 + 1e-6, z_mm) + shift
        self.mm, self.level, self.tall, self.shift = mm, level, tall, shift
        self.reads = []

    def read(self, i):
        self.reads.append(i)
        z = (self.heights[i] - self.shift) * 60 / self.tall
        y, x = np.mgrid[: int(200 / self.mm[0]), : int(220 / self.mm[1])]
        y, x = (y + 0.5) * self.mm[0] - 90, (x + 0.5) * self.mm[1] - 120
        liver = x**2 + y**2 + z**2 < 60**2
        lesion = (x - 15) ** 2 + y**2 + z**2 < 25**2
        noise = np.random.default_rng(i).normal(0, 8, liver.shape)
        pixels = np.where(liver, self.level, -60) - 60 * lesion + noise
        return Slice(pixels.astype(np.float32), "hu", liver.astype(np.uint8), self.mm)

    def grid(self, step=STEP):
        found = step.grid(self.read, self.heights.tolist())
        return found and found[0]


def millilitres(grid, z_mm=12.0):
    return (grid != 0).sum() * 6 * 6 * z_mm / 1000


def test_a_liver_has_its_volume_and_its_lesion_whatever_the_slices_are():
    truth = 4 / 3 * np.pi * 6**3
    for z_mm, mm in ((5.0, (1.0, 1.0)), (1.25, (1.0, 1.0)), (10.0, (0.8, 1.6))):
        grid = Patient(z_mm, mm).grid()
        assert grid.shape == (1, 16, 48, 48)
        assert grid.dtype == np.float32
        assert millilitres(grid) == pytest.approx(truth, rel=0.08)
        assert np.median(grid[grid != 0]) == pytest.approx(0, abs=0.3)
        dark = np.argwhere(grid[0] < -1.2).mean(axis=0)
        np.testing.assert_allclose(dark, [7.5, 23.5, 26], atol=0.8)


def test_grey_values_are_relative_to_the_series_own_liver():
    one, other = Patient(level=60).grid(), Patient(level=140).grid()
    np.testing.assert_allclose(one, other, atol=0.15)


def test_a_liver_higher_than_the_grid_is_squeezed_into_it():
    tall = Patient(tall=180.0)
    box = STEP.place({float(h): (30.0, 150.0, 60.0, 180.0) for h in tall.heights}, tall.heights)
    assert box.step_mm > 12
    assert box.planes_mm[0, 0] == pytest.approx(tall.heights[0], abs=30)
    assert (tall.grid() != 0).any(axis=(0, 2, 3)).sum() > 13


def windows_of(patient, windows, z_mm):
    step = replace(STEP, windows=windows, z_mm=z_mm)
    return step.grid(patient.read, patient.heights.tolist())


def test_windows_share_the_liver_out_from_end_to_end_and_overlap_by_half():
    patient = Patient(z_mm=2.0)
    grid, box = windows_of(patient, 3, 4.0)
    assert grid.shape == (3, 16, 48, 48)
    bottom, top = box.planes_mm[:, 0] - 2, box.planes_mm[:, -1] + 2
    low, high = box.ends_mm
    assert (bottom[0], top[-1]) == pytest.approx((low, high), abs=1e-9)
    assert np.all(top[:-1] - bottom[1:] >= 32 - 1e-9)
    assert (grid != 0).any(axis=(1, 2, 3)).all()


def test_every_plane_of_every_window_shows_the_liver_at_its_height():
    grid, box = windows_of(Patient(z_mm=2.0), 3, 4.0)
    found = (grid != 0).sum(axis=(2, 3)) * 36
    inside = np.abs(box.planes_mm) < 50
    truth = np.pi * (60**2 - box.planes_mm**2)
    assert inside.sum() > 30
    np.testing.assert_allclose(found[inside], truth[inside], rtol=0.1)


def test_windows_of_a_liver_no_higher_than_one_are_the_same():
    grid, box = windows_of(Patient(), 3, 12.0)
    np.testing.assert_array_equal(grid[0], grid[2])
    np.testing.assert_array_equal(box.planes_mm[0], box.planes_mm[2])


def test_windows_that_cannot_reach_are_squeezed_and_leave_no_gap():
    tall = Patient(z_mm=4.0, tall=120.0)
    _, box = windows_of(tall, 3, 4.0)
    assert box.step_mm > 4
    low, high = box.ends_mm
    middle = (box.planes_mm[:, :1] + box.planes_mm[:, -1:]) / 2
    half = 8 * box.step_mm
    assert (middle[0, 0] - half, middle[-1, 0] + half) == pytest.approx((low, high))
    assert np.all(np.diff(middle[:, 0]) <= half + 1e-9)


def test_where_the_series_starts_does_not_matter():
    np.testing.assert_array_equal(Patient().grid(), Patient(shift=500.0).grid())


def test_a_series_is_read_slice_by_slice_and_twice_at_most():
    patient = Patient(z_mm=2.0)
    patient.grid()
    n = len(patient.heights)
    assert patient.reads[:n] == list(range(n))
    assert max(patient.reads.count(i) for i in range(n)) == 2


def test_a_series_held_open_needs_no_more_memory_than_its_grid_and_a_slice():
    import tracemalloc

    patient = Patient(z_mm=0.5)
    one = patient.read(0).pixels.nbytes
    tracemalloc.start()
    patient.grid()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.35 * one * len(patient.heights)


def test_a_series_of_one_slice_is_one_plane():
    patient = Patient()
    middle = len(patient.heights) // 2
    grid, _ = STEP.grid(lambda _: patient.read(middle), [0.0])
    assert 1 <= (grid != 0).any(axis=(0, 2, 3)).sum() <= 2


def test_no_liver_is_no_volume():
    patient = Patient()
    blank = replace(patient.read(0), mask=np.zeros((200, 220), np.uint8))
    assert STEP.grid(lambda _: blank, [0.0, 5.0]) is None


@pytest.mark.parametrize("changes", [{"size": 8}, {"depth": 2}, {"mm": 0.0}, {"reach": -1.0}])
def test_senseless_parameters_are_refused(changes):
    with pytest.raises(RecipeError, match="volume_input: expected 16 pixels and 4 planes or more"):
        Patient().grid(replace(STEP, **changes))


def test_a_slice_alone_is_refused():
    with pytest.raises(RecipeError, match="expected a series, got one of its slices"):
        STEP(Patient().read(16))


def samples(n=4, patients=("A", "B"), spacing=(5.0, 1.0, 1.0)):
    return tuple(
        Sample(
            f"{patient}{i}", patient, f"{patient}{i}.dcm", ("no", "yes")[i == 1], kind="hu",
            series_id=patient, slice_index=i, mask="m", spacing_mm=spacing,
        )
        for patient in patients
        for i in range(n)
    )  # fmt: skip


def cohort(rows):
    return Manifest(rows, LabelSet(("no", "yes")), root=None)


def test_series_become_samples_with_the_most_severe_label_and_back():
    flat = cohort(samples())
    stacked = stack_series(flat)
    assert [s.sample_id for s in stacked.samples] == ["A2", "B2"]
    assert [s.label for s in stacked.samples] == ["yes", "yes"]
    assert [s.slice_index for s in stacked.samples[0].slices] == [0, 1, 2, 3]
    assert unstack_series(stacked) == flat
    assert stack_series(stacked).samples[0].sample_id == "A2"


def test_slices_without_an_order_are_no_series():
    rows = samples(2, ("A",))
    twice = replace(rows[0], sample_id="again")
    with pytest.raises(DataError, match="patient A: expected each slice_index of a series once"):
        stack_series(cohort((*rows, twice)))


def test_volumes_without_spacing_or_of_lone_slices_are_refused_before_any_pixel_is_read():
    with pytest.raises(RecipeError, match=r"expected a spacing in mm for every slice, got 8 with"):
        make_recipe("volume", cohort(samples(spacing=None)), NETWORK)
    with pytest.raises(RecipeError, match="expected series of several slices, got 2 series of one"):
        make_recipe("volume", cohort(samples(1)), NETWORK)


def test_more_windows_are_finer_and_reach_as_far_together():
    one, three = (
        make_recipe("volume", cohort(samples()), replace(NETWORK, windows=n)) for n in (1, 3)
    )
    assert (one.windows, three.windows) == (1, 3)
    assert one.shape == three.shape
    assert three.steps[0].z_mm == one.steps[0].z_mm / 2
    assert one.key != three.key


def test_the_recipe_survives_json_and_knows_its_shape():
    recipe = make_recipe("volume", cohort(samples()), NETWORK)
    assert recipe_from_json(recipe.to_json()) == recipe
    assert recipe.shape == (1, 16, 48, 48)
    assert recipe.needs_series
    assert recipe.needs_mask


def test_all_planes_of_a_volume_are_augmented_alike():
    image = np.random.default_rng(0).normal(size=(1, 5, 32, 32)).astype(np.float32)
    image[0, 3] = image[0, 1]
    turned = augment(image, Draw(rotation=20, zoom=1.1, shift_x=0.1, gain=1.2))
    assert turned.shape == image.shape
    np.testing.assert_array_equal(turned[0, 3], turned[0, 1])
    assert not np.array_equal(turned[0, 1], image[0, 1])
    np.testing.assert_array_equal(augment(image, IDENTITY), image)
    noisy = augment(image, Draw(noise=0.5, seed=1))
    assert not np.array_equal(noisy[0, 3], noisy[0, 1])
