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
        ("volume", "explain.run=true", "whose maps are not drawn"),
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


@pytest.mark.slow
@pytest.mark.torch
def test_volumes_are_trained_compared_and_answered(cohort, hepar, tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "levels"
    hepar(
        "compare", cohort / "dicom", "--labels", cohort / "labels.csv", "--out", out,
        "--models", "efficientnet_lite0,slab,mil,resnet10_3d",
        "--set", "recipe.size=64", "--set", "evaluate.resamples=100", "--set", "split.folds=2",
        "--set", "finetune.epochs=1", "--set", "augment.views=1",
    )  # fmt: skip
    document = json.loads((out / "comparison.json").read_text())
    assert document["level"] == "patient"
    assert [model["kind"] for model in document["models"]] == [
        "frozen", "frozen", "attention", "from scratch",
    ]  # fmt: skip
    run = out / "models" / "resnet10_3d" / "seed-0"
    assert len(rows(run / "predictions.csv")) == len(rows(run / "patients.csv")) == 12
    new = tmp_path / "p.csv"
    hepar("predict", run / "bundle", cohort / "nifti" / "index.csv", "--no-gate", "--out", new)
    assert len(rows(new)) == 12
    done = hepar(
        "explain", run / "bundle", cohort / "nifti" / "index.csv", "--out", tmp_path / "m",
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "expected a bundle that sees slices, got one of volumes" in done.stderr
