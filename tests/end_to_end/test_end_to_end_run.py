"""From a source to a report and a bundle, and from the bundle to answers, as a user does it."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest

from hepar.data import read_manifest
from hepar.evaluate import read_predictions
from hepar.ingest import read_slices
from hepar.report import DOCUMENTS

HEPAR = [sys.executable, "-m", "hepar.cli"]
OFF = ["--set", "controls.run=false", "--set", "explain.run=false"]
FAST = ["--set", "recipe.size=96", "--set", "evaluate.resamples=200", *OFF]
PATIENT_OF_PICTURE = re.compile(r"P\d+")


def hepar(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*HEPAR, *map(str, arguments)], capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    """A finished run on the DICOM tree."""
    out = tmp_path_factory.mktemp("runs") / "dicom"
    hepar("run", cohort / "dicom", "--labels", cohort / "labels.csv", "--out", out, *FAST)
    return out


def test_the_artefacts_of_the_contract_are_there(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        "manifest.csv", "split.json", "recipe.json", "predictions.csv", "patients.csv",
        "evaluation.json", "run.json", "report.html", "bundle",
    }  # fmt: skip
    header = (finished / "predictions.csv").read_text().partition("\n")[0]
    assert header == (
        "sample_id,patient_id,partition,fold,reference,predicted,p_normal,p_benign,p_malignant"
    )
    record = json.loads((finished / "evaluation.json").read_text())["metrics"][0]
    assert set(record) >= {
        "metric", "level", "label", "value", "undefined", "low", "high", "method", "n_patients",
        "n_samples",
    }  # fmt: skip


def test_every_slice_is_predicted_once_by_a_fold_without_its_patient(finished):
    predictions = read_predictions(finished / "predictions.csv")
    manifest = read_manifest(finished / "manifest.csv")
    assert sorted(predictions.sample_id) == sorted(s.sample_id for s in manifest.samples)
    for patient in np.unique(predictions.patient_id):
        assert len(set(predictions.fold[predictions.patient_id == patient])) == 1


def test_dicom_nifti_and_png_twins_are_the_same_people_and_the_first_two_the_same_hu(
    cohort, finished, tmp_path
):
    tables = {"dicom": read_manifest(finished / "manifest.csv")}
    for kind in ("nifti", "png"):
        hepar("ingest", cohort / kind, "--out", tmp_path / f"{kind}.csv")
        tables[kind] = read_manifest(tmp_path / f"{kind}.csv")
    labels = {
        kind: {p: table.patient_label(rows) for p, rows in table.patients.items()}
        for kind, table in tables.items()
    }
    assert labels["dicom"] == labels["nifti"] == labels["png"]
    dicom, nifti = (tables[kind] for kind in ("dicom", "nifti"))
    for patient in list(dicom.patients)[:4]:
        pairs = zip(
            read_slices(dicom, dicom.patients[patient]),
            read_slices(nifti, nifti.patients[patient]),
            strict=True,
        )
        for one, other in pairs:
            np.testing.assert_array_equal(one.pixels, other.pixels)
            np.testing.assert_array_equal(one.mask, other.mask)


class Checker(HTMLParser):
    VOID = frozenset({"meta", "img", "br", "line", "link", "input", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        for name, value in attrs:
            beside = tag == "a" and value in DOCUMENTS
            asks = name in {"src", "href"} and not (value or "").startswith(("#", "data:"))
            assert beside or not asks, value
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_report_is_one_well_formed_page_that_asks_for_nothing(finished):
    page = (finished / "report.html").read_text()
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert {"svg", "table", "caption"} <= checker.seen
    assert "http" not in page.replace("http-equiv", "")
    assert "Research use only" in page
    assert len(page) < 3_000_000
    shown = ("cohort", "metrics", "confusion", "curves", "per_patient", "samples")
    for section in (*shown, "calibration", "decisions", "subgroups"):
        assert f'<section id="{section}">' in page


def test_a_second_run_keeps_every_stage(cohort, finished):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    done = hepar(
        "run", cohort / "dicom", "--labels", cohort / "labels.csv", "--out", finished, *FAST
    )
    assert done.stderr.count("kept from before") == 11
    assert before == {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}


def test_another_seed_splits_anew_and_keeps_the_features(cohort, finished, tmp_path):
    out = tmp_path / "again"
    shutil.copytree(finished, out)
    chunks = sorted((out / "features").rglob("*.npz"))
    arguments = ("run", cohort / "dicom", "--labels", cohort / "labels.csv", "--out", out, *FAST)
    done = hepar(*arguments, "--seed", 5)
    assert "ingest    kept from before" in done.stderr
    assert sorted((out / "features").rglob("*.npz")) == chunks
    old, new = ((p / "predictions.csv").read_bytes() for p in (finished, out))
    assert old != new


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(cohort, finished, tmp_path):
    out = tmp_path / "killed"
    command = [*HEPAR, "run", cohort / "dicom", "--labels", cohort / "labels.csv", "--out", out]
    moments = random.Random(7)
    for _ in range(10):
        process = subprocess.Popen(
            [*map(str, command), *FAST], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(moments.uniform(0.3, 4.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    hepar(*command[3:], *FAST)
    for name in ("predictions.csv", "patients.csv", "manifest.csv"):
        assert (out / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_bundle_answers_for_a_series_a_volume_and_a_folder(cohort, finished, tmp_path):
    series = next((cohort / "dicom" / "P001").iterdir())
    volume = cohort / "nifti" / "P002_ct.nii.gz"
    done = hepar("predict", finished / "bundle", series, volume, "--out", tmp_path / "p.csv")
    assert "P001" in done.stdout
    slices = read_predictions(tmp_path / "p.csv")
    patients = read_predictions(tmp_path / "p_patients.csv")
    assert len(patients) == 2
    assert set(slices.partition) == {"predict"}
    answer = json.loads(hepar("predict", finished / "bundle", series, "--json").stdout)
    assert answer["patients"][0]["patient_id"] == "P001"
    assert any(finding["code"] == "liver-guessed" for finding in answer["findings"])


def answers_for(bundle, source, *options):
    done = json.loads(hepar("predict", bundle, source, "--json", *options).stdout)
    return {row["patient_id"]: row for row in done["patients"]}, done["findings"]


def test_new_patients_are_answered_and_what_the_model_was_not_made_for_is_refused(
    finished, tmp_path
):
    hepar("phantom", "--out", tmp_path / "new", "--patients", 6, "--slices", 5, "--seed", 50)
    proper = tmp_path / "new" / "dicom"
    answers, findings = answers_for(finished / "bundle", proper)
    assert "refused" not in {finding["code"] for finding in findings}
    turned = tmp_path / "turned"
    shutil.copytree(proper, turned)
    for path in turned.rglob("*.dcm"):
        image = pydicom.dcmread(path)
        image.PixelData = image.pixel_array[::-1].tobytes()
        image.save_as(path)
    answers, findings = answers_for(finished / "bundle", turned)
    over = [row["reason"] for row in answers.values() if not row["answer"]]
    assert sum("upside down" in reason for reason in over) >= 5
    assert findings[0]["code"] == "refused"
    answers, _ = answers_for(finished / "bundle", turned, "--no-gate")
    assert not any("upside down" in row["reason"] for row in answers.values())


def test_a_picture_is_refused_by_a_model_of_hu(finished, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise)
    answers, _ = answers_for(finished / "bundle", tmp_path / "noise.png")
    (row,) = answers.values()
    assert row["answer"] == ""
    assert row["reason"] == "8-bit picture, and the model was trained on HU"


def test_training_and_service_give_the_same_probabilities(cohort, finished, tmp_path):
    """The bundle, given the training slices with their masks, runs the very same input path."""
    table = cohort / "nifti" / "index.csv"
    hepar("predict", finished / "bundle", table, "--out", tmp_path / "p.csv")
    slices = read_predictions(tmp_path / "p.csv")
    from hepar.backbone import Network
    from hepar.model import InputReader, load_predictor

    predictor = load_predictor(finished / "bundle")
    manifest = read_manifest(finished / "manifest.csv")
    (part,) = predictor.bundle.parts
    reader = InputReader(manifest, part.recipe)
    features = Network(part.graph, part.weights).features(np.stack(reader(range(4))))
    expected = predictor.bundle.head.probabilities(features)
    own = slices.probabilities[slices.patient_id == manifest.samples[0].patient_id]
    np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere", "--out", "x"], "nowhere"),
        (["run", ".", "--out", "x", "--set", "split.fold=3"], "Did you mean 'folds'"),
        (["run", ".", "--out", "x", "--backbone", "resnet5"], "Did you mean 'resnet50'"),
        (["predict", "nowhere", "x.png"], "expected a bundle folder"),
        (["report", "nowhere"], "expected the folder of a run"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(tmp_path, arguments, message):
    done = subprocess.run([*HEPAR, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr


def test_unknown_patients_stop_a_run_and_are_said_everywhere_when_it_goes_on(cohort, tmp_path):
    folder = tmp_path / "bare"
    for label in ("benign", "malignant", "normal"):
        shutil.copytree(cohort / "png" / label, folder / label)
    done = hepar("run", folder, "--out", tmp_path / "run", *FAST, check=False)
    assert done.returncode == 2
    assert "--patients-unknown" in done.stderr
    hepar("run", folder, "--out", tmp_path / "run", "--patients-unknown", *FAST)
    page = (tmp_path / "run" / "report.html").read_text()
    said = page.count("Folds of groups inferred from the images: patient ids are unknown.")
    assert said >= page.count("<caption>") + page.count("<figcaption>ROC")
    predictions = read_predictions(tmp_path / "run" / "predictions.csv")
    true = [PATIENT_OF_PICTURE.search(name)[0] for name in predictions.sample_id]
    folds = {(patient, fold) for patient, fold in zip(true, predictions.fold, strict=True)}
    assert len(folds) == len(set(true)), "a patient's slices lie in one fold"


def test_image_level_folds_are_said_everywhere(cohort, tmp_path):
    folder = tmp_path / "bare"
    for label in ("benign", "malignant", "normal"):
        shutil.copytree(cohort / "png" / label, folder / label)
    images = ("--patients-unknown", "--set", "audit.groups=false")
    hepar("run", folder, "--out", tmp_path / "run", *images, *FAST)
    page = (tmp_path / "run" / "report.html").read_text()
    said = page.count("Image-level folds: not what a new patient would see.")
    assert said >= page.count("<caption>") + page.count("<figcaption>ROC")
    levels = {
        r["level"]
        for r in json.loads((tmp_path / "run" / "evaluation.json").read_text())["metrics"]
    }
    assert levels == {"slice"}


def test_help_shows_the_life_of_a_model():
    text = hepar("--help").stdout
    for command in ("run", "demo", "predict", "ingest", "split", "report", "phantom", "backbones"):
        assert f" {command} " in text


@pytest.fixture(scope="module")
def lits(real_ct, tmp_path_factory):
    """A run on slices of four patients of LiTS."""
    out = tmp_path_factory.mktemp("runs") / "lits"
    hepar("run", real_ct / "lits_slices" / "index.csv", "--out", out, *FAST)
    return out


@pytest.mark.real_ct
def test_a_browser_finds_no_fault_in_the_report_of_lits(lits, tmp_path, find_faults):
    faults, n_images = find_faults(lits / "report.html", tmp_path)
    assert faults == {}
    assert n_images > 0


@pytest.mark.real_ct
def test_lits_gives_four_patients_left_out_in_turn(real_ct, lits, tmp_path):
    split = json.loads((lits / "split.json").read_text())
    assert split["folds"] == 4
    assert sorted(place["fold"] for place in split["assignments"].values()) == [0, 1, 2, 3]
    done = hepar(
        "predict", lits / "bundle", real_ct / "tcga_lihc_dicom", "--out", tmp_path / "t.csv"
    )
    assert "TCGA-BC-A10X" in done.stdout
    order = [s.rpartition("/")[2] for s in read_predictions(tmp_path / "t.csv").sample_id]
    assert order != sorted(order)
    volume = hepar("predict", lits / "bundle", real_ct / "lits117_nifti", "--json")
    assert json.loads(volume.stdout)["patients"][0]["predicted"] in {"tumour", "no_tumour"}


def test_paths_are_posix_in_the_manifest(finished):
    text = (finished / "manifest.csv").read_text()
    assert os.sep == "/" or "\\" not in text
    assert Path(read_manifest(finished / "manifest.csv").root).is_absolute()


def test_the_bundle_knows_the_patients_it_was_fitted_on(cohort, finished, tmp_path):
    """A bundle that contradicts its own training data was spoiled on its way to the disk."""
    hepar(
        "predict", finished / "bundle", cohort / "nifti" / "index.csv", "--out", tmp_path / "p.csv"
    )
    patients = read_predictions(tmp_path / "p_patients.csv")
    assert len(patients) == 12
    assert (patients.predicted == patients.reference).mean() >= 0.9
