"""Levels that see more than a slice at a time, from the run to answers for new data."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from hepar.cohort_job import new_ledger
from hepar.compare_plan import read_plan
from hepar.config import RunConfig, read_config
from hepar.ensemble_job import fit_ensemble_model
from hepar.errors import ConfigError, FitError
from hepar.settings import check

SMALL = [
    "--set", "recipe.size=96", "--set", "evaluate.resamples=100", "--set", "split.folds=2",
    "--set", "controls.permutations=20", "--set", "explain.slices=12",
    "--set", "explain.checked=2",
]  # fmt: skip


def rows(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def run_level(cohort, hepar, folder, level, *more):
    out = folder / level
    source, labels = cohort / "dicom", cohort / "labels.csv"
    hepar("run", source, "--labels", labels, "--out", out, "--level", level, *SMALL, *more)
    return out


@pytest.fixture(scope="module")
def mil(cohort, hepar, tmp_path_factory):
    return run_level(cohort, hepar, tmp_path_factory.mktemp("runs"), "mil")


@pytest.mark.slow
def test_a_slab_is_a_run_as_any_other(cohort, hepar, tmp_path):
    out = run_level(cohort, hepar, tmp_path, "slab", "--set", "controls.run=false")
    assert json.loads((out / "run.json").read_text())["recipe"] == "slab"
    done = hepar("predict", out / "bundle", cohort / "nifti" / "index.csv", "--no-gate", "--json")
    assert len(json.loads(done.stdout)["patients"]) == 12


@pytest.mark.slow
def test_attention_weighs_slices_in_the_run_and_in_its_bundle(cohort, hepar, mil, tmp_path):
    from hepar.evaluate import aggregate, read_predictions

    scores = read_predictions(mil / "scores.csv")
    assert np.ptp(scores.attention) >= 0
    patients = read_predictions(mil / "patients.csv")
    joined = aggregate(scores, "attention")
    np.testing.assert_allclose(joined.probabilities, patients.probabilities, atol=1e-12)
    new = tmp_path / "p.csv"
    hepar("predict", mil / "bundle", cohort / "nifti" / "index.csv", "--no-gate", "--out", new)
    assert "attention" in rows(new)[0]
    decision = json.loads((mil / "bundle" / "decision.json").read_text())
    assert decision["aggregate"] == "attention"
    page = (mil / "report.html").read_text()
    assert "slices are joined by “attention”" in page
    notes = json.loads((mil / "controls.json").read_text())["notes"]
    assert notes == ["Controls and meter use a linear head, and the mean of slices."]


@pytest.mark.slow
def test_attention_draws_maps_of_new_data(cohort, hepar, mil, tmp_path):
    index = cohort / "nifti" / "index.csv"
    hepar("explain", mil / "bundle", index, "--out", tmp_path / "maps", "--no-gate")
    document = json.loads((tmp_path / "maps" / "explanations.json").read_text())
    assert len(document["patients"]) == 12


@pytest.mark.parametrize(
    ("level", "settings", "said"),
    [
        (
            "",
            "head.aggregate=attention",
            "expected head.kind=attention, got linear. Use --level mil",
        ),
        ("mil", "finetune.freeze=early", "expected finetune.freeze=all, got early"),
        ("lesion", "head.kind=attention", "another head than attention"),
        ("", "backbone.name=resnet10_3d", "expected resnet10_3d alone and recipe.name=volume"),
        ("", "recipe.name=volume", "expected a network of volumes, got 'efficientnet_lite0'"),
        ("", "recipe.windows=3", "expected 1 but for volumes, got 3. Use --level volume"),
        ("volume", "recipe.windows=0", "recipe.windows: expected 1 to 16, got 0"),
        ("volume", "recipe.size=32", "expected 48 pixels or more for resnet10_3d"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_file_is_read(level, settings, said):
    with pytest.raises(ConfigError) as refused:
        check(read_config(settings=[settings], level=level))
    assert said in str(refused.value)


def test_an_ensemble_of_all_before_it_leaves_out_those_that_weigh_slices():
    plan = read_plan(names=["efficientnet_lite0", "mil", "slab", "vgg16:attention", "vote"])
    assert plan.models[-1].members == ("efficientnet_lite0", "slab")
    assert plan.models[3].config.head.aggregate == "attention"


@pytest.mark.slow
def test_an_ensemble_of_attention_is_refused(mil, tmp_path):
    with pytest.raises(FitError, match="expected members that weigh slices alike"):
        fit_ensemble_model(None, [mil, mil], new_ledger(tmp_path), RunConfig(), "vote", tmp_path)


@pytest.fixture(scope="module")
def levels(cohort, hepar, segmenter, tmp_path_factory):
    """All levels compared, the 3D network in two windows, left-out livers as the segmenter's."""
    pytest.importorskip("torch")
    out = tmp_path_factory.mktemp("levels") / "levels"
    plan = out.with_suffix(".toml")
    plan.write_text(
        "[base]\nrecipe.size = 64\nevaluate.resamples = 100\nsplit.folds = 2\n"
        "finetune.epochs = 1\naugment.views = 1\nexplain.checked = 1\nexplain.slices = 2\n"
        f"segment.model = '{segmenter}'\n"
        "[models.efficientnet_lite0]\n[models.slab]\nlevel = 'slab'\n[models.mil]\nlevel = 'mil'\n"
        "[models.volume]\nlevel = 'volume'\nrecipe.size = 48\nrecipe.windows = 2\n"
        "explain.run = true\nexplain.method = 'grad-cam'\n"
        "controls.run = true\ncontrols.permutations = 5\n"
    )
    source, labels = cohort / "dicom", cohort / "labels.csv"
    hepar("compare", source, "--labels", labels, "--out", out, "--plan", plan)
    return out


@pytest.mark.slow
@pytest.mark.torch
def test_volumes_are_trained_compared_and_answered(cohort, hepar, levels, tmp_path):
    document = json.loads((levels / "comparison.json").read_text())
    assert document["level"] == "patient"
    assert [model["kind"] for model in document["models"]] == [
        "frozen", "frozen", "attention", "from scratch",
    ]  # fmt: skip
    run = levels / "models" / "volume" / "seed-0"
    assert len(rows(run / "predictions.csv")) == len(rows(run / "patients.csv")) == 12
    new = tmp_path / "p.csv"
    hepar("predict", run / "bundle", cohort / "nifti" / "index.csv", "--no-gate", "--out", new)
    assert len(rows(new)) == 12


@pytest.mark.slow
@pytest.mark.torch
def test_volumes_of_left_out_patients_are_seen_through_the_segmenter(levels, segmenter):
    from hepar.backbone import Network
    from hepar.data import read_manifest, stack_series
    from hepar.evaluate import read_predictions
    from hepar.model import InputReader, Outlines, read_bundle, read_folds, read_segmenter

    run = levels / "models" / "volume" / "seed-0"
    bundle, manifest = read_bundle(run / "bundle"), read_manifest(levels / "manifest.csv")
    (part,), fold = bundle.parts, read_folds(run / "folds.safetensors", bundle.labels)[0]
    taught = read_segmenter(segmenter)
    network = Network(part.graph, {**part.weights, **fold.weights})
    scores = read_predictions(run / "scores.csv")
    row = int(np.flatnonzero(scores.fold == "0")[0])
    found = []
    for drawn in (False, True):
        outlines = Outlines(manifest, taught)
        reader = InputReader(
            stack_series(manifest), part.recipe, guess_liver=True, outlines=outlines, drawn=drawn
        )
        inputs = np.stack(reader([row * reader.each + window for window in range(reader.each)]))
        found.append(fold.head.probabilities(network.features(inputs)).mean(axis=0))
    np.testing.assert_allclose(scores.probabilities[row], found[0], atol=1e-4)
    assert np.abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.torch
def test_maps_of_volumes_are_drawn_measured_and_written(cohort, hepar, levels, tmp_path):
    import nibabel

    run = levels / "models" / "volume" / "seed-0"
    made = json.loads((run / "explanations.json").read_text())
    assert made["things"] == "series"
    assert made["checks"]["note"] == "Of the 2 windows of a series the middle one was checked."
    page = (run / "report.html").read_text()
    assert "mm (z, y, x), within which a map of a series says nothing of where" in page
    assert "Per series" not in page
    assert "The network before training" in page
    out, label = tmp_path / "m", ("--no-gate", "--label", "malignant")
    index = cohort / "nifti" / "index.csv"
    hepar("explain", run / "bundle", index, "--out", out, *label)
    document = json.loads((out / "explanations.json").read_text())
    assert (document["method"], document["absolute"]) == ("grad-cam", True)
    assert document["cell_mm"][1:] == [144, 144]
    first = document["patients"][0]
    assert 3 <= len(first["slices"]) <= 5
    assert all((out / one["file"]).is_file() for one in first["slices"])
    (name,) = [own for key, own in document["maps"].items() if key.startswith(first["patient_id"])]
    whole = nibabel.load(out / name)
    source = nibabel.load(cohort / "nifti" / f"{first['patient_id']}_ct.nii.gz")
    np.testing.assert_allclose(whole.affine, source.affine)
    assert whole.shape == source.shape
    liver = nibabel.load(cohort / "nifti" / f"{first['patient_id']}_mask.nii.gz").get_fdata() > 0
    assert not whole.get_fdata()[~liver].any()
    assert whole.get_fdata().max() == pytest.approx(max(o["largest"] for o in first["slices"]))
    hidden = tmp_path / "occlusion"
    one = cohort / "nifti" / "P001_ct.nii.gz"
    hepar("explain", run / "bundle", one, "--out", hidden, *label, "--method", "occlusion")
    document = json.loads((hidden / "explanations.json").read_text())
    assert document["cell_mm"][1:] == [36, 36]
    assert document["absolute"] is False


@pytest.mark.slow
def test_pictures_are_no_volumes_and_are_refused_before_anything_is_looked_at(
    cohort, hepar, tmp_path
):
    source = cohort / "png" / "index.csv"
    done = hepar("run", source, "--out", tmp_path / "r", "--level", "volume", check=False)
    assert done.returncode == 2
    assert "recipe 'volume': expected a spacing in mm for every slice" in done.stderr
    assert not (tmp_path / "r" / "audit.json").exists()
