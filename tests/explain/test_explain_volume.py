"""Maps of series lie where the lesion is, on a network whose answer is known."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from hepar.config import IngestConfig
from hepar.data import LESION, LabelSet, Slice, stack_series
from hepar.errors import RegistryError
from hepar.explain import (
    Model,
    SeriesEvidence,
    aim_of_planes,
    check_map,
    hottest_planes,
    look_at_series,
    planes_of,
)
from hepar.explain.look import between
from hepar.explain.volume import hottest
from hepar.ingest import ingest
from hepar.model import InputReader, LinearHead
from hepar.preprocess import Box, NetworkInput, make_recipe

LABELS = LabelSet(("normal", "malignant"))
HEAD = LinearHead(
    LABELS, np.zeros(2), np.ones(2), np.array([[0.0, 0.0], [4e3, 0.0]]), np.array([0.0, -2.0]), 1.0
)
LESION_MM = (94.0, 40.0, 94.0)
"""(z, y, x) of the middle of the dark ball, from the first voxel; that of a cell of 48 mm."""


class Dark:
    """A network whose maps are, in 4 x 6 x 6 cells, how dark the volume is, and how bright."""

    def __init__(self, sign=-1):
        self.sign = sign

    def maps_and_features(self, images):
        ways = np.concatenate([self.sign * images, -self.sign * images], axis=1)
        kept = np.maximum(ways - 0.5, 0).reshape(len(images), 2, 4, 4, 6, 8, 6, 8)
        maps = kept.mean(axis=(3, 5, 7), dtype=np.float32)
        return maps, maps.mean(axis=(2, 3, 4))

    def features(self, images):
        return self.maps_and_features(images)[1]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A patient with a dark ball low in the liver, and one with hardly any liver."""
    folder = tmp_path_factory.mktemp("series")
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:40, :64, :72]
    z, y, x = z * 4.0, y * 2.0, x * 2.0
    lesion = (z - LESION_MM[0]) ** 2 + (y - LESION_MM[1]) ** 2 + (x - LESION_MM[2]) ** 2 < 14**2
    for name, radius in (("a", 58.0), ("b", 7.0)):
        liver = (z - 70) ** 2 + (y - 64) ** 2 + (x - 70) ** 2 < radius**2
        mask = np.where(liver & lesion, LESION, liver.astype(np.uint8))
        voxels = np.where(liver, 110 - 60 * lesion, -100) + rng.normal(0, 4, mask.shape)
        affine = np.diag([-2.0, -2.0, 4.0, 1.0])
        for suffix, array, kind in (("", voxels, np.int16), ("_mask", mask, np.uint8)):
            image = nibabel.Nifti1Image(array.transpose(2, 1, 0).astype(kind), affine)
            nibabel.save(image, folder / f"{name}{suffix}.nii.gz")
    return stack_series(ingest(folder, IngestConfig(patient_pattern=r"^(\w)")))


def reader(cohort, windows=1):
    network = NetworkInput(48, (0.5,) * 3, (0.5,) * 3, windows)
    return InputReader(cohort, make_recipe("volume", cohort, network))


def looks(cohort, method="grad-cam", windows=1):
    own = reader(cohort, windows)
    return own, list(look_at_series(Model((Dark(),), HEAD), own, [0, 1], method))


@pytest.mark.parametrize(
    ("method", "windows"), [("grad-cam", 1), ("grad-cam", 3), ("occlusion", 1)]
)
def test_the_hottest_place_is_in_the_lesion_and_nothing_is_hot_outside_the_liver(
    cohort, method, windows
):
    own, (look, _) = looks(cohort, method, windows)
    planes = list(planes_of(own, look, 1))
    assert all((plane.heat[plane.image.mask == 0] == 0).all() for plane in planes)
    heat = np.stack([plane.heat for plane in planes])
    numbers, rows, columns = np.nonzero(heat > 0.9 * heat.max())
    heights = np.array(own.heights(0))
    place = (heights[numbers].mean(), 2 * rows.mean(), 2 * columns.mean())
    np.testing.assert_allclose(place, LESION_MM, atol=12)
    assert aim_of_planes(planes).hit == 1
    shown = hottest_planes(own, look, 1, 3)
    assert [plane.number for plane in shown] == sorted(plane.number for plane in shown)
    assert min(abs(heights[plane.number] - LESION_MM[0]) for plane in shown) <= 14


def test_a_series_is_looked_at_as_it_is_answered(cohort):
    own, (look, _) = looks(cohort, windows=3)
    features = Dark().features(np.stack(own([0, 1, 2])))
    np.testing.assert_array_equal(look.features, features)
    np.testing.assert_allclose(look.probabilities, HEAD.probabilities(features).mean(axis=0))


def test_the_cells_of_a_window_have_the_mean_of_its_score(cohort):
    _, (look, _) = looks(cohort)
    scores = HEAD.slope(look.features)
    wanted = (scores.gradient[0] @ look.features[0]) - scores.zero[0].sum(axis=1)
    np.testing.assert_allclose(look.evidence.cells[0].mean(axis=(1, 2, 3)), wanted, atol=1e-5)


def test_a_series_without_liver_has_an_empty_map(cohort):
    own, (_, look) = looks(cohort)
    assert look.evidence is None
    assert not any(plane.heat.any() for plane in planes_of(own, look, 1))


def test_an_unknown_method_is_refused(cohort):
    with pytest.raises(RegistryError, match="unknown method 'gradcam'"):
        list(look_at_series(Model((Dark(),), HEAD), reader(cohort), [0], "gradcam"))


def test_cells_say_how_large_they_are_and_windows_are_averaged_where_they_overlap():
    planes = np.arange(16.0)[None] * 4 + np.array([[0.0], [32.0]])
    box = Box((48.0, 48.0), planes, (0.0, 94.0), 4.0, 96.0)
    cells = np.stack([np.full((1, 2, 3, 3), value, np.float32) for value in (1.0, 3.0)])
    evidence = SeriesEvidence(box, cells, np.ones((2, 16, 48, 48), bool))
    assert evidence.cell_mm == (32.0, 32.0, 32.0)
    assert evidence.largest(0) == 3
    whole = Slice(np.zeros((96, 96), np.float32), "hu", np.ones((96, 96), np.uint8), (1.0, 1.0))
    said = [float(evidence.heat(0, whole, height).mean()) for height in (0, 40, 92, 120)]
    assert said == [1, 2, 3, 0]


def test_planes_lie_between_the_layers_of_cells():
    cells = np.arange(2, dtype=np.float32)[:, None, None]
    found = [float(between(cells, plane, 8)[0, 0]) for plane in (0, 1.5, 3.5, 5.5, 7)]
    assert found == [0, 0, 0.5, 1, 1]


def test_planes_shown_are_apart_and_show_liver():
    liver = [0, *[5] * 30, 0]
    evidence = [9, *np.linspace(0, 1, 30), 9]
    assert hottest(evidence, liver, 4) == [21, 24, 27, 30]
    assert hottest([0] * 32, [0] * 5 + [3, 7, 3] + [0] * 24, 3) == [5, 6, 7]


@pytest.mark.parametrize("method", ["grad-cam", "hirescam", "occlusion"])
def test_a_true_map_of_a_volume_takes_away_and_gives_back_what_counts(cohort, method):
    (image,) = reader(cohort)([0])
    found = check_map(Model((Dark(),), HEAD), Dark(1), image, 1, method, 1)
    assert found.deletion < found.deletion_random - 0.05
    assert found.insertion > found.insertion_random + 0.05
    assert found.randomised < 0.2
    assert found.shifted > 0.6
