"""Levels other than the slice, from the run to answers and maps of new data."""

from __future__ import annotations

import csv
import json
import shutil

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
