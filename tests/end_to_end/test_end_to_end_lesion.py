"""Levels other than the slice, from the run to answers and maps of new data."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

SMALL = [
    "--set", "recipe.size=96", "--set", "evaluate.resamples=100", "--set", "split.folds=2",
    "--set", "controls.permutations=20", "--set", "explain.slices=12",
    "--set", "explain.checked=2",
]  # fmt: skip


def rows(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def run(cohort, hepar, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "lesion"
    labels = cohort / "labels.csv"
    source = cohort / "dicom"
    hepar("run", source, "--labels", labels, "--out", out, "--level", "lesion", *SMALL)
    return out


@pytest.mark.slow
def test_a_finder_beats_chance_on_left_out_patients_and_says_what_it_is(run):
    page = (run / "report.html").read_text()
    assert "lesion_finder" in page
    controls = json.loads((run / "controls.json").read_text())
    assert controls["model"]["value"] > 0.8
    assert any("not taught with" in note for note in controls["notes"])


@pytest.mark.slow
def test_the_bundle_answers_and_draws_new_data(cohort, hepar, run, tmp_path):
    index = cohort / "nifti" / "index.csv"
    hepar("predict", run / "bundle", index, "--out", tmp_path / "p.csv", "--no-gate")
    answered = rows(tmp_path / "p.csv")
    assert len(answered) == 48
    done = hepar("explain", run / "bundle", index, "--out", tmp_path / "maps", "--no-gate")
    assert done.returncode == 0
    document = json.loads((tmp_path / "maps" / "explanations.json").read_text())
    drawn = {s["sample_id"]: s["probabilities"] for p in document["patients"] for s in p["slices"]}
    for row in answered:
        assert drawn[row["sample_id"]]["malignant"] == pytest.approx(
            float(row["p_malignant"]), abs=1e-5
        )


@pytest.mark.slow
def test_the_liver_is_guessed_aloud_where_none_is_drawn(cohort, hepar, run, tmp_path):
    done = hepar("predict", run / "bundle", cohort / "dicom", "--out", tmp_path / "p.csv")
    assert "no liver mask" in done.stderr + done.stdout


def test_the_rule_learns_a_threshold_alone(cohort, hepar, tmp_path):
    labels = cohort / "labels.csv"
    hepar(
        "run", cohort / "dicom", "--labels", labels, "--out", tmp_path / "r", "--level", "rule",
        *SMALL, "--set", "controls.run=false",
    )  # fmt: skip
    from hepar.model import read_bundle

    bundle = read_bundle(tmp_path / "r" / "bundle")
    assert bundle.head.n_features == 1
    assert {name: float(a[0]) for name, a in bundle.parts[0].weights.items()} == {"dark.weight": 1}
    assert not (tmp_path / "r" / "explanations.json").exists()


def test_a_level_that_is_none_is_answered_with_the_nearest(cohort, hepar, tmp_path):
    done = hepar(
        "run", cohort / "dicom", "--out", tmp_path / "r", "--level", "lession", check=False
    )
    assert done.returncode == 2
    assert (
        "level: expected one of slice, slab, mil, volume, lesion, rule, got 'lession'. Did you mean"
        in done.stderr
    )


@pytest.mark.slow
def test_masks_without_lesions_stop_a_finder_in_one_line(cohort, hepar, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(cohort / "nifti", source)
    done = hepar(
        "run", source / "index.csv", "--out", tmp_path / "r", "--level", "lesion",
        "--set", "ingest.mask_values=liver=1", *SMALL, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "expected masks that show lesions of one to 4 labels, got 0" in done.stderr
    assert "from patients' labels alone with --level mil" in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error")]) == 1


@pytest.mark.slow
def test_known_slices_are_kept_as_the_head_sees_them(run):
    """Beside their neighbours, as new slices are that are compared with them."""
    from hepar.config import BackboneConfig
    from hepar.data import read_manifest
    from hepar.model import compute_features, in_context, load_predictor

    predictor = load_predictor(run / "bundle")
    manifest = read_manifest(run / "manifest.csv")
    (reader,), (network,) = predictor.readers(manifest), predictor.networks
    plain = compute_features(network, reader, BackboneConfig())
    beside = in_context(plain, manifest.samples, beside=predictor.bundle.beside)[:, 0]
    known = predictor.bundle.known.features.astype(np.float32)
    assert len(known) == len(manifest) == 48
    np.testing.assert_allclose(known, beside, atol=2e-3)
    assert np.abs(known - plain[:, 0]).max() > 0.01


@pytest.mark.slow
def test_maps_and_pictures_show_lesions_on_a_scale_of_likelihood(run):
    maps = json.loads((run / "explanations.json").read_text())
    assert (maps["method"], maps["scale"]) == ("likelihood", 1.0)
    assert 0.5 < max(one["largest"] for one in maps["maps"]) <= 1
    (malignant,) = (one for one in maps["localisation"] if one["label"] == "malignant")
    assert malignant["energy"]["value"] > 2 * malignant["chance"]["value"]
    lesions = json.loads((run / "lesions.json").read_text())
    pictures = lesions["pictures"]
    assert {one["patient_id"] for one in pictures} <= {p["patient_id"] for p in lesions["patients"]}
    assert all((run / one["file"]).is_file() for one in pictures)
    assert any(one["n_found"] for one in pictures)
    page = (run / "report.html").read_text()
    assert "Method: likelihood." in page
    assert "log-odds" not in page[page.index('id="samples"') :]
    assert page[page.index('id="lesions"') :].count('alt="Slice ') >= len(pictures)
