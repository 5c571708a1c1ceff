"""The pretrained 3D network as a segmenter: whole series of HU, and a word for all others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from hepar.backbone import LIVER_UNET, read_graph
from hepar.backbone.graph import parameters
from hepar.config import BackboneConfig, IngestConfig
from hepar.data import LIVER
from hepar.errors import SegmentError, WeightsNotFoundError
from hepar.ingest import ingest_files
from hepar.model import (
    Outlines,
    Segmenter,
    find_segmenter,
    load_predictor,
    segmenter,
    write_bundle,
)
from hepar.outline_job import outline_files
from hepar.preprocess import NetworkInput, make_recipe
from hepar.provenance import stamp

SPACING = (4.0, 3.0, 3.0)
LIVER_HU = 110.0


class Bright:
    """Stands for the network: what is as bright as the liver is liver, cut like its answers."""

    def run(self, outputs, inputs):
        assert outputs == ["probability"]
        (volume,) = inputs.values()
        inner = volume[:, :, 13:-13, 13:-13, 13:-13] * 400
        return [((inner > 70) & (inner < 150)).astype(np.float32)]


@pytest.fixture
def whole(monkeypatch):
    """The segmenter that `--segmenter liver-unet` names, with arrays of zeros."""
    arrays = {
        key: np.zeros(shape, np.float32)
        for name in ("liver_unet_3d", "liver_lesion_unet")
        for key, shape in parameters(read_graph(name)).items()
    }
    monkeypatch.setattr(segmenter, "read_liver_unet", lambda: arrays)
    monkeypatch.setattr(segmenter, "open_session", lambda *_, **__: (Bright(), None))
    return find_segmenter(LIVER_UNET)


def write_volume(path, *, ball=True):
    """Write a body with a ball for a liver; return where the ball is (z, y, x)."""
    z, y, x = (np.arange(n) * mm for n, mm in zip((30, 90, 120), SPACING, strict=True))
    hu = np.full((len(z), len(y), len(x)), -1000, np.int16)
    hu[:, ((y[:, None] - y.mean()) / 120) ** 2 + ((x - x.mean()) / 165) ** 2 < 1] = 30
    inside = (z[:, None, None] - 60) ** 2 + (y[:, None] - 130) ** 2 + (x - 120) ** 2 < 45**2
    if ball:
        hu[inside] = LIVER_HU
    affine = np.diag([*SPACING[::-1], 1.0])
    nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0)[::-1, ::-1], affine), path)
    return inside


@pytest.fixture
def volumes(tmp_path):
    """A patient with a liver, and one without."""
    folder = tmp_path / "in"
    folder.mkdir()
    inside = write_volume(folder / "a.nii.gz")
    write_volume(folder / "b.nii.gz", ball=False)
    return SimpleNamespace(manifest=ingest_files([folder], IngestConfig()), inside=inside)


def outlined(outlines, samples):
    return np.stack([outlines(sample, (90, 120)) for sample in samples])


def test_a_series_is_outlined_as_one_volume_whatever_slice_is_asked_for_first(whole, volumes):
    samples = [s for s in volumes.manifest.samples if s.patient_id == "a.nii.gz"]
    forwards = outlined(Outlines(volumes.manifest, whole), samples)
    backwards = outlined(Outlines(volumes.manifest, whole), samples[::-1])[::-1]
    np.testing.assert_array_equal(forwards, backwards)
    assert set(np.unique(forwards)) == {0, LIVER}
    both = ((forwards > 0) & volumes.inside).sum()
    assert 2 * both / ((forwards > 0).sum() + volumes.inside.sum()) > 0.95


def test_pictures_are_refused_before_a_run_and_told_in_service(whole, volumes):
    pictures = replace(
        volumes.manifest,
        samples=tuple(replace(s, spacing_mm=None) for s in volumes.manifest.samples),
    )
    outlines = Outlines(pictures, whole)
    with pytest.raises(SegmentError, match=r"patient a.nii.gz: liver-unet: expected a volume"):
        outlines.check()
    assert not outlines(pictures.samples[0], (90, 120)).any()
    assert "spacing None" in outlines.remarks[0]


def test_a_series_larger_than_memory_allows_is_told_and_not_read(whole, volumes, monkeypatch):
    monkeypatch.setattr(segmenter, "_MOST_BYTES", 1 << 20)
    outlines = Outlines(volumes.manifest, whole)
    assert not outlines(volumes.manifest.samples[0], (90, 120)).any()
    assert "expected a series of at most 1 MB, got 1 MB" in outlines.remarks[0]


def test_a_bundle_carries_the_network_and_answers_for_whole_series(
    whole, volumes, small_bundle, tmp_path
):
    recipe = make_recipe(
        "liver", volumes.manifest, NetworkInput(64, (0.5,) * 3, (0.5,) * 3), outlined=True
    )
    part = replace(small_bundle.parts[0], recipe=recipe)
    bundle = replace(small_bundle, parts=(part,), segmenter=whole.part, kinds=("hu",))
    write_bundle(tmp_path / "bundle", bundle)
    predictor = load_predictor(tmp_path / "bundle", threads=1)
    assert Segmenter(predictor.bundle.segmenter).sees_volumes
    answer = predictor.predict(volumes.manifest, BackboneConfig())
    assert [(a.patient_id, a.reason) for a in answer.answers] == [
        ("a.nii.gz", ""),
        ("b.nii.gz", "no slice shows the liver"),
    ]


def test_the_command_outlines_what_it_can_and_names_the_rest(whole, volumes, tmp_path, monkeypatch):
    monkeypatch.setattr("hepar.model.find_segmenter", lambda _: whole)
    bare = tuple(
        replace(s, spacing_mm=None) if s.patient_id == "b.nii.gz" else s
        for s in volumes.manifest.samples
    )
    manifest = replace(volumes.manifest, samples=bare)
    rows = outline_files(Path(LIVER_UNET), manifest, tmp_path / "out", "", stamp("test"))
    assert [row["patient_id"] for row in rows] == ["a.nii.gz"]
    assert rows[0]["liver_ml"] == pytest.approx(volumes.inside.sum() * 0.036, rel=0.1)
    assert [p.name for p in (tmp_path / "out").glob("*.nii.gz")] == ["a_mask.nii.gz"]
    told = json.loads((tmp_path / "out" / "outlines.json").read_text())["remarks"]
    assert any("b.nii.gz: no mask was written: patient b.nii.gz: liver-unet" in one for one in told)


def test_where_no_series_can_be_outlined_the_first_reason_is_given(
    whole, volumes, tmp_path, monkeypatch
):
    monkeypatch.setattr("hepar.model.find_segmenter", lambda _: whole)
    bare = tuple(replace(s, spacing_mm=None) for s in volumes.manifest.samples)
    manifest = replace(volumes.manifest, samples=bare)
    with pytest.raises(SegmentError, match="with its spacing in mm, got spacing None"):
        outline_files(Path(LIVER_UNET), manifest, tmp_path / "out", "", stamp("test"))
    assert not (tmp_path / "out").exists()


def test_weights_that_were_not_fetched_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("HEPAR_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(WeightsNotFoundError, match="hepar weights fetch liver-unet"):
        find_segmenter(LIVER_UNET)


def test_a_series_is_outlined_once_for_all_stages_of_a_run(whole, volumes, tmp_path, monkeypatch):
    samples = [s for s in volumes.manifest.samples if s.patient_id == "a.nii.gz"]
    first = outlined(Outlines(volumes.manifest, whole, cache=tmp_path / "outlines"), samples)
    (path,) = (tmp_path / "outlines").iterdir()
    with monkeypatch.context() as off:
        off.setattr(segmenter, "outline_volume", None)
        again = outlined(Outlines(volumes.manifest, whole, cache=tmp_path / "outlines"), samples)
    np.testing.assert_array_equal(first, again)
    path.write_bytes(b"spoilt")
    mended = outlined(Outlines(volumes.manifest, whole, cache=tmp_path / "outlines"), samples)
    np.testing.assert_array_equal(first, mended)
