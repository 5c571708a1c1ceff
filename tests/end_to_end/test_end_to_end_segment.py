"""A segmenter from drawn livers to answers for patients whose liver nobody has drawn."""

from __future__ import annotations

import csv
import json

import nibabel
import numpy as np
import pytest

pytest.importorskip("torch")
pytestmark = [pytest.mark.slow, pytest.mark.torch]

SMALL = ["--set", "segment.size=96", "--set", "segment.steps=60", "--set", "segment.batch=8"]
RUN = [
    "--folds", "2", "--set", "recipe.size=96", "--set", "evaluate.resamples=100",
    "--set", "controls.run=false", "--set", "explain.slices=8", "--set", "explain.checked=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(cohort, hepar, segmenter, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "outlined"
    hepar(
        "run", cohort / "dicom", "--labels", cohort / "labels.csv", "--out", out,
        "--segmenter", segmenter, *RUN,
    )  # fmt: skip
    return out


def test_livers_of_patients_left_out_are_found(segmenter):
    (found,) = json.loads((segmenter / "segmentation.json").read_text())["sources"]
    assert found["dice"]["value"] > 0.7
    rows = (segmenter / "segmentation.csv").read_text().splitlines()[1:]
    assert len(rows) == found["n_patients"]
    assert (segmenter / "figures" / "outlines.png").stat().st_size > 10_000


def test_a_finished_job_is_kept(cohort, hepar, segmenter):
    before = (segmenter / "segmenter" / "segmenter.json").read_bytes()
    source = cohort / "nifti" / "index.csv"
    done = hepar("segment", "fit", source, "--out", segmenter, "--folds", "2", *SMALL)
    assert "kept from before" in done.stderr
    assert (segmenter / "segmenter" / "segmenter.json").read_bytes() == before


def test_outlines_are_written_on_the_voxels_of_their_volume(cohort, hepar, segmenter, tmp_path):
    hepar("segment", "apply", segmenter, cohort / "nifti", "--out", tmp_path / "masks")
    (path, *_) = sorted((tmp_path / "masks").glob("*_mask.nii.gz"))
    source = nibabel.load(cohort / "nifti" / path.name.replace("_mask", ""))
    mask = nibabel.load(path)
    assert mask.shape == source.shape
    np.testing.assert_allclose(mask.affine, source.affine)
    assert set(np.unique(mask.get_fdata())) == {0, 1}


def test_masks_of_pictures_come_with_a_table_that_names_them(cohort, hepar, segmenter, tmp_path):
    hepar("segment", "apply", segmenter, cohort / "png", "--out", tmp_path / "masks")
    again = hepar("ingest", tmp_path / "masks" / "index.csv", "--out", tmp_path / "manifest.csv")
    assert again.returncode == 0


def test_a_run_says_who_outlined_the_liver_and_its_bundle_needs_no_mask(cohort, hepar, run):
    assert "outlined by a segmenter" in (run / "report.html").read_text()
    assert (run / "bundle" / "weights-segmenter.safetensors").is_file()
    done = hepar("predict", run / "bundle", cohort / "dicom", "--no-gate")
    assert "outlined by the bundle's segmenter" in done.stderr + done.stdout


def test_masks_are_not_needed_to_learn_where_a_segmenter_outlines(
    cohort, hepar, segmenter, tmp_path
):
    labels = tmp_path / "labels.csv"
    with (cohort / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    with labels.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["patient_id", "label"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    hepar(
        "run", cohort / "dicom", "--labels", labels, "--out", tmp_path / "run",
        "--segmenter", segmenter, "--set", "explain.run=false", *RUN,
    )  # fmt: skip
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["name"] == "liver"


def test_a_folder_without_a_segmenter_is_refused_before_anything_is_read(cohort, hepar, tmp_path):
    done = hepar(
        "run", cohort / "dicom", "--out", tmp_path / "run", "--segmenter", cohort, check=False
    )
    assert "expected a segmenter with segmenter.json" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_source_without_masks_teaches_no_segmenter(cohort, hepar, tmp_path):
    done = hepar("segment", "fit", cohort / "dicom", "--out", tmp_path / "job", check=False)
    assert "expected masks of the liver, got none" in done.stderr


def test_pictures_of_masks_are_for_pictures(cohort, hepar, segmenter, tmp_path):
    done = hepar(
        "segment", "apply", segmenter, cohort / "nifti", "--format", "png",
        "--out", tmp_path / "masks", check=False,
    )  # fmt: skip
    assert "expected pictures for masks in PNG" in done.stderr
    assert not (tmp_path / "masks").exists()
