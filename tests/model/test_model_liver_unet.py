from __future__ import annotations

import numpy as np
import pytest

from hepar.backbone import read_liver_unet
from hepar.config import IngestConfig
from hepar.data import Volume
from hepar.errors import SegmentError, WeightsNotFoundError
from hepar.ingest import ingest, read_slices
from hepar.model import liver_unet, segment_volume

LIVER_HU = 110.0


class Threshold:
    """Stands for both networks: what is as bright as the liver is liver, cut like their answers.

    It remembers what it was shown.
    """

    def __init__(self, cut, low=70.0, high=130.0):
        self.cut = cut
        self.low = low
        self.high = high
        self.shown = []

    def run(self, outputs, inputs):
        assert outputs == ["probability"]
        (volume,) = inputs.values()
        assert volume.dtype == np.float32
        self.shown.append(volume)
        inner = tuple(slice(side, -side) for side in self.cut)
        bright = (volume[0, 0] * 400 > self.low) & (volume[0, 0] * 400 < self.high)
        return [bright[inner][None, None].astype(np.float32)]


@pytest.fixture
def liver_stand_in(monkeypatch):
    """The liver network as a threshold: what is left to test is the geometry around it."""
    network = Threshold((13, 13, 13))
    monkeypatch.setattr(liver_unet, "_session", lambda *_: (network, None))
    return network


def abdomen(shape, spacing, centre_mm, radius_mm=50.0):
    """Return a body with a ball for a liver, and the ball; the body leaves air at the sides."""
    z, y, x = (np.arange(n) * mm for n, mm in zip(shape, spacing, strict=True))
    middle_y, middle_x = y.mean(), x.mean()
    hu = np.full(shape, -1000, np.float32)
    body = ((y[:, None] - middle_y) / 120) ** 2 + ((x - middle_x) / 170) ** 2 < 1
    hu[:, body] = 30
    at = [a - c for a, c in zip((z, y, x), centre_mm, strict=True)]
    ball = at[0][:, None, None] ** 2 + at[1][:, None] ** 2 + at[2] ** 2 < radius_mm**2
    hu[ball] = LIVER_HU
    return hu, ball


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.usefixtures("liver_stand_in")
@pytest.mark.parametrize("spacing", [(3.0, 3.0, 3.0), (5.0, 1.6, 1.6), (1.5, 2.0, 1.75)])
def test_the_liver_is_where_the_network_sees_it(spacing):
    shape = tuple(round(length / mm) for length, mm in zip((180, 300, 400), spacing, strict=True))
    hu, ball = abdomen(shape, spacing, (80, 130, 130))
    mask = segment_volume(Volume(hu, spacing))
    assert mask.shape == hu.shape
    assert set(np.unique(mask)) == {0, 1}
    assert dice(mask > 0, ball) > 0.95


def test_the_network_sees_the_patient_from_left_to_right_and_back_to_front(liver_stand_in):
    hu, ball = abdomen((60, 100, 130), (3.0, 3.0, 3.0), (40, 100, 130))
    segment_volume(Volume(hu, (3.0, 3.0, 3.0)))
    (seen,) = liver_stand_in.shown
    assert seen.shape == (1, 1, 189, 162, 162)
    assert -0.5 <= seen.min() <= seen.max() <= 0.5
    x, y, z = (places.mean() for places in np.nonzero(np.abs(seen[0, 0] * 400 - LIVER_HU) < 5))
    middle = [189 / 2, 162 / 2, 162 / 2]
    # the ball lies to the patient's right (high x), to the front (high y), below the middle
    assert x > middle[0] + 10
    assert y > middle[1] + 5
    assert z < middle[2] - 10
    assert ball.any()


@pytest.mark.usefixtures("liver_stand_in")
def test_only_the_largest_region_is_the_liver_without_holes():
    hu, ball = abdomen((60, 100, 130), (3.0, 3.0, 3.0), (90, 130, 120))
    hu[20:24, 40:44, 90:94] = LIVER_HU
    hu[28:32, 42:46, 38:42] = 30
    mask = segment_volume(Volume(hu, (3.0, 3.0, 3.0)))
    assert not mask[20:24, 40:44, 90:94].any()
    assert mask[28:32, 42:46, 38:42].all()
    assert dice(mask > 0, ball) > 0.95


@pytest.mark.usefixtures("liver_stand_in")
def test_of_a_long_volume_the_part_below_the_lungs_is_shown():
    spacing = (6.0, 3.0, 3.0)
    hu, ball = abdomen((150, 100, 130), spacing, (560, 130, 120))  # 90 cm
    hu[105:145, 35:65, 25:55] = hu[105:145, 35:65, 75:105] = -850  # lungs above 63 cm
    mask = segment_volume(Volume(hu, spacing))
    assert dice(mask > 0, ball) > 0.95
    assert not mask[: round((630 + 70 - 410) / 6)].any()


@pytest.mark.parametrize("spacing", [(3.0, 1.0, 1.0), (4.0, 1.5, 1.25)])
def test_lesions_are_where_the_second_network_sees_them(spacing, monkeypatch):
    networks = {
        "liver_unet_3d": Threshold((13, 13, 13), high=250.0),
        "liver_lesion_unet": Threshold((44, 44, 22), 150.0, 250.0),
    }
    monkeypatch.setattr(liver_unet, "_session", lambda graph, _: (networks[graph], None))
    shape = tuple(round(length / mm) for length, mm in zip((180, 260, 360), spacing, strict=True))
    hu, liver = abdomen(shape, spacing, (90, 120, 130), 60.0)
    _, first = abdomen(shape, spacing, (75, 100, 110), 12.0)
    _, second = abdomen(shape, spacing, (110, 145, 150), 15.0)
    _, outside = abdomen(shape, spacing, (90, 130, 260), 15.0)
    hu[first | second | outside] = 180
    mask = segment_volume(Volume(hu, spacing), lesions=True)
    assert dice(mask == 2, first | second) > 0.9
    assert dice(mask > 0, liver) > 0.95
    tiles = networks["liver_lesion_unet"].shown
    assert len(tiles) > 1
    assert {tile.shape for tile in tiles} == {(1, 1, 180, 172, 86)}


def test_air_has_no_liver(liver_stand_in):
    mask = segment_volume(Volume(np.full((20, 40, 40), -1000, np.float32), (5.0, 5.0, 5.0)))
    assert not mask.any()
    assert not liver_stand_in.shown


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (Volume(np.zeros((4, 4, 4), np.uint8), (1, 1, 1), "picture"), "in HU .* got a picture"),
        (Volume(np.zeros((4, 4, 4), np.float32)), "with its spacing in mm, got spacing None"),
    ],
)
def test_pictures_and_unknown_spacing_are_refused(volume, message):
    with pytest.raises(SegmentError, match=message):
        segment_volume(volume)


@pytest.mark.real_ct
@pytest.mark.slow
def test_the_real_network_finds_the_liver_of_a_healthy_donor(real_volume):
    voxels, spacing, liver = real_volume
    mask = segment_volume(Volume(voxels, spacing))
    assert dice(mask > 0, liver) > 0.95  # 0.963 when the graphs were made


@pytest.fixture
def real_volume(real_ct):
    """A CT that is not of LiTS, and its liver as radiologists drew it; weights must be at hand."""
    try:
        read_liver_unet()
    except WeightsNotFoundError:
        pytest.skip("run `hepar weights fetch liver-unet` first")
    manifest = ingest(real_ct / "chaos_ct_set3_dicom", IngestConfig())
    slices = read_slices(manifest, manifest.samples)
    spacing = manifest.samples[0].spacing_mm
    return (
        np.stack([one.pixels for one in slices]),
        spacing,
        np.stack([one.mask for one in slices]) > 0,
    )
