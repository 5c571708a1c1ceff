"""Heat maps from the run to the page of new data."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest

from hepar.data import LESION, read_manifest
from hepar.ingest import read_slices
from hepar.model import read_bundle

SETTINGS = [
    "--set", "recipe.size=96", "--set", "evaluate.resamples=200", "--set", "controls.run=false",
    "--set", "explain.slices=24", "--set", "explain.checked=3",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(cohort, hepar, tmp_path_factory):
    """A run on the DICOM tree, maps included."""
    out = tmp_path_factory.mktemp("runs") / "maps"
    labels = cohort / "labels.csv"
    hepar("run", cohort / "dicom", "--labels", labels, "--out", out, *SETTINGS)
    return out


@pytest.fixture(scope="module")
def document(run):
    return json.loads((run / "explanations.json").read_text())


def test_maps_are_measured_against_the_lesions_of_slices_that_have_some(run, document):
    manifest = read_manifest(run / "manifest.csv")
    lesions = {
        sample.label
        for sample, image in zip(
            manifest.samples, read_slices(manifest, manifest.samples), strict=True
        )
        if (image.mask == LESION).any()
    }
    assert {record["label"] for record in document["localisation"]} == lesions
    for record in document["localisation"]:
        assert record["region"] == "liver"
        assert record["energy"]["n_patients"] == record["n_patients"] <= 4
        assert record["energy"]["low"] is None
        assert 0 < record["chance"]["value"] < 0.5
    assert document["n_looked"] <= 24 + 12
    assert document["checks"]["n_slices"] == 3


def test_every_picture_of_the_report_has_its_map(run, document):
    shown = json.loads((run / "figures" / "samples.json").read_text())
    assert {one["sample_id"] for one in shown} == {one["sample_id"] for one in document["maps"]}
    page = (run / "report.html").read_text()
    assert page.count("The same slice with what speaks for") == len(shown)
    assert "Whether the heat maps may be believed" in page
    assert read_bundle(run / "bundle").map_scale == document["scale"] > 0


def test_similar_slices_are_of_patients_that_the_model_learned_from(run, document):
    split = json.loads((run / "split.json").read_text())["assignments"]
    manifest = read_manifest(run / "manifest.csv")
    owner = {sample.sample_id: sample.patient_id for sample in manifest.samples}
    for one in document["maps"]:
        own = split[owner[one["sample_id"]]]
        named = [other["patient_id"] for other in one["similar"]]
        assert len(named) == len(set(named)) == 3
        assert all(split[name]["fold"] != own["fold"] for name in named)


def test_the_stage_is_kept_and_can_be_left_out(cohort, hepar, run, tmp_path):
    again = hepar(
        "run", cohort / "dicom", "--labels", cohort / "labels.csv", "--out", run, *SETTINGS
    )
    assert "explain   kept from before" in again.stderr
    bare = [*SETTINGS, "--set", "explain.run=false"]
    done = hepar(
        "run", cohort / "dicom", "--labels", cohort / "labels.csv", "--out", tmp_path / "r", *bare
    )
    assert "explain" not in done.stderr
    assert not (tmp_path / "r" / "explanations.json").exists()
    assert "Whether the heat maps" not in (tmp_path / "r" / "report.html").read_text()
    assert read_bundle(tmp_path / "r" / "bundle").map_scale is None


def series(hepar, run, out, *arguments):
    done = hepar("explain", run / "bundle", *arguments, "--out", out)
    return done, json.loads((out / "explanations.json").read_text())


@pytest.fixture(scope="module")
def maps(cohort, hepar, run, tmp_path_factory):
    """The page and the pictures of the same patients, come back as new ones."""
    out = tmp_path_factory.mktemp("explained") / "maps"
    return out, series(hepar, run, out, cohort / "nifti" / "index.csv")[1]


def test_a_browser_finds_no_fault_in_the_pages_of_a_real_run(run, maps, tmp_path, find_faults):
    shown = json.loads((run / "figures" / "samples.json").read_text())
    faults, n_images = find_faults(run / "report.html", tmp_path)
    assert faults == {}
    assert n_images >= 2 * len(shown) > 0
    out, found = maps
    faults, n_images = find_faults(out / "index.html", tmp_path)
    assert faults == {}
    assert n_images >= sum(len(patient["slices"]) for patient in found["patients"])


def test_new_data_are_answered_as_predict_answers_and_drawn(cohort, hepar, run, maps, tmp_path):
    source = cohort / "nifti" / "index.csv"
    out, found = maps
    hepar("predict", run / "bundle", source, "--out", tmp_path / "p.csv")
    for name in ("", "_patients", "_answers"):
        ours = (out / f"predictions{name}.csv").read_bytes()
        assert ours == (tmp_path / f"p{name}.csv").read_bytes()
    assert found["absolute"]
    page = (out / "index.html").read_text()
    for patient in found["patients"]:
        assert patient["map_label"] == patient["predicted"]
        assert len(patient["slices"]) == 4
        for one in patient["slices"]:
            picture = cv2.imread(str(out / one["file"]))
            assert picture.shape == (256, 256, 3)
            coloured = (picture != picture[..., :1]).any(axis=2).mean()
            assert one["largest"] <= 0 or coloured > 0.001
            assert f'src="{one["file"]}"' in page
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_training_slices_are_most_like_themselves_and_have_no_names(run, maps):
    bundle, split = read_bundle(run / "bundle"), json.loads((run / "split.json").read_text())
    assert len(set(bundle.known.patients.tolist())) == len(split["assignments"])
    out, found = maps
    first = [
        {one["similar"][0]["training_patient"] for one in patient["slices"]}
        for patient in found["patients"]
    ]
    assert [len(numbers) for numbers in first] == [1] * 12
    assert len(set.union(*first)) == 12
    page = (out / "index.html").read_text()
    assert "Of left-out patients in training, grad-cam: " in page
    assert "<br>like <bdi" in page
    kept = (run / "bundle" / "known.json").read_bytes()
    kept += (run / "bundle" / "known.safetensors").read_bytes()
    assert not any(patient.encode() in kept for patient in split["assignments"])


def test_one_label_of_one_picture_series_of_one_slice(cohort, hepar, run, tmp_path):
    picture = next((cohort / "png").rglob("*.png"))
    done, found = series(
        hepar, run, tmp_path / "m", picture, "--no-gate", "--label", "benign",
        "--patient-pattern", r"(P\d+)", "--method", "grad-cam++",
    )  # fmt: skip
    (patient,) = found["patients"]
    assert patient["map_label"] == "benign"
    assert not found["absolute"]
    assert "says nothing about other series" in (tmp_path / "m" / "index.html").read_text()
    assert (tmp_path / "m" / patient["strip"]).is_file()
    assert "page " in done.stdout


def test_no_map_is_drawn_of_a_patient_that_the_gate_refuses(hepar, run, tmp_path):
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "photo.png"), rng.integers(0, 255, (300, 300, 3), np.uint8))
    _, found = series(
        hepar, run, tmp_path / "m", tmp_path / "photo.png", "--patient-pattern", "(photo)"
    )
    (patient,) = found["patients"]
    assert patient["refused"]
    assert patient["strip"] is None
    assert "file" not in patient["slices"][0]
    assert "Refused:" in (tmp_path / "m" / "index.html").read_text()
    assert not list((tmp_path / "m").rglob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--label", "cyst"), "--label: expected one of normal, benign, malignant, got 'cyst'"),
        (("--method", "gradcam"), "'gradcam'.*grad-cam"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(hepar, run, tmp_path, arguments, match):
    done = hepar("explain", run / "bundle", tmp_path, "--out", tmp_path / "m", *arguments, check=0)
    assert done.returncode == 2
    assert re.search(match, done.stderr)
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_folder_with_other_files_is_left_alone(cohort, hepar, run, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    done = hepar("explain", run / "bundle", cohort / "nifti", "--out", tmp_path, check=False)
    assert "expected a new folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_is_not_overwritten_by_maps_of_new_data(cohort, hepar, run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    done = hepar("explain", run / "bundle", cohort / "nifti", "--out", run, check=False)
    assert done.returncode == 2
    assert "expected a new folder or one that `hepar explain` wrote" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
