"""Many models on one split, as a user asks for them."""

from __future__ import annotations

import csv
import json
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from hepar.backbone import Network
from hepar.compare_job import compare
from hepar.compare_plan import read_plan
from hepar.data import read_manifest
from hepar.errors import ConfigError, HeparError
from hepar.evaluate import read_predictions
from hepar.model import InputReader, read_bundle, read_folds

HEPAR = [sys.executable, "-m", "hepar.cli"]
FAST = ["--folds", "3", "--set", "recipe.size=64", "--set", "evaluate.resamples=200"]
MODELS = "efficientnet_lite0,efficientnet_lite0:svm,small_cnn,vote,stack"
PLAN = """
seeds = [0, 1]
[base.finetune]
epochs = 1
[models.lite]
backbone.name = "efficientnet_lite0"
[models.svm]
backbone.name = "efficientnet_lite0"
head.kind = "svm"
[models."from scratch"]
preset = "scratch"
augment.views = 1
[models.both]
members = ["lite", "svm"]
[models.stacked]
members = ["lite", "svm", "from scratch"]
combine = "stack"
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    path.write_text(PLAN)
    return path


def arguments(cohort, plan, out):
    source = [cohort / "dicom", "--labels", cohort / "labels.csv", "--out", out, "--plan", plan]
    return [str(a) for a in ("compare", *source, *FAST)]


@pytest.fixture(scope="module")
def compared(cohort, hepar, plan, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared") / "all"
    hepar(*arguments(cohort, plan, out))
    return out


pytestmark = [pytest.mark.torch, pytest.mark.slow]


def test_every_model_has_its_row_its_run_and_its_cost(compared):
    document = json.loads((compared / "comparison.json").read_text())
    models = {model["name"]: model for model in document["models"]}
    assert list(models) == ["lite", "svm", "from scratch", "both", "stacked"]
    assert [models[n]["kind"] for n in models] == [
        "frozen", "hybrid", "from scratch", "ensemble", "ensemble",
    ]  # fmt: skip
    assert models["from scratch"]["seeds"] == [0, 1]
    assert models["from scratch"]["metrics"]["accuracy"]["seed_min"] is not None
    assert models["lite"]["seeds"] == [0]
    for model in models.values():
        assert all(value is not None for value in model["cost"].values())
        assert (compared / model["folder"] / "report.html").is_file()
    assert document["best"] in models
    assert {row["test"] for row in document["tests"]} == {"delong", "mcnemar", "bootstrap"}
    with (compared / "comparison.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 5 * 7
    assert "from scratch" in (compared / "comparison.html").read_text()


def test_a_browser_finds_no_fault_in_the_pages(compared, tmp_path, find_faults):
    for page in (compared / "comparison.html", compared / "models/stacked/seed-0/report.html"):
        assert find_faults(page, tmp_path)[0] == {}, page


def test_all_models_were_predicted_on_the_same_folds(compared):
    tables = [read_predictions(path) for path in compared.glob("models/*/seed-0/predictions.csv")]
    assert len(tables) == 5
    for table in tables[1:]:
        assert table.sample_id.tolist() == tables[0].sample_id.tolist()
        assert table.fold.tolist() == tables[0].fold.tolist()


def test_a_second_call_keeps_everything(cohort, hepar, plan, compared):
    before = (compared / "models/lite/seed-0/bundle/bundle.json").read_bytes()
    done = hepar(*arguments(cohort, plan, compared))
    assert (compared / "models/lite/seed-0/bundle/bundle.json").read_bytes() == before
    stages = [line for line in done.stderr.splitlines() if line.startswith(("fit", "cost"))]
    assert stages
    assert all("kept from before" in line for line in stages)


def test_an_ensembles_bundle_says_what_its_members_say_together(cohort, hepar, compared, tmp_path):
    answers = []
    for name in ("lite", "svm", "both"):
        out = tmp_path / f"{name}.csv"
        bundle = compared / "models" / name / "seed-0" / "bundle"
        hepar("predict", bundle, cohort / "nifti" / "index.csv", "--out", out)
        answers.append(read_predictions(out).probabilities)
    parts = json.loads((bundle / "bundle.json").read_text())["parts"]
    assert len(parts) == 1  # both members look at the same features
    head = read_bundle(bundle).head
    np.testing.assert_allclose(answers[2], head.combine(np.stack(answers[:2])), atol=1e-9)


@pytest.mark.parametrize("name", ["both", "stacked"])
def test_an_ensembles_folds_answered_for_the_patients_they_never_saw(compared, name):
    folder = compared / "models" / name / "seed-0"
    bundle, manifest = read_bundle(folder / "bundle"), read_manifest(compared / "manifest.csv")
    folds = read_folds(folder / "folds.safetensors", bundle.labels)
    scores = read_predictions(folder / "scores.csv")
    assert scores.sample_id.tolist() == [sample.sample_id for sample in manifest.samples]
    assert len(folds) == 3
    for number, fold in enumerate(folds):
        rows = np.flatnonzero(scores.fold == str(number))[:4].tolist()
        features = [
            Network(part.graph, {**part.weights, **fold.of_part(i)}, 1).features(
                np.stack(InputReader(manifest, part.recipe)(rows))
            )
            for i, part in enumerate(bundle.parts)
        ]
        found = fold.head.probabilities(np.concatenate(features, axis=1))
        np.testing.assert_allclose(found, scores.probabilities[rows], atol=1e-4)


def test_ensembles_of_explained_models_are_explained(cohort, hepar, compared, tmp_path):
    shutil.copytree(compared, tmp_path / "all")
    explained = "[base.explain]\nrun = true\nslices = 6\nchecked = 0\n[base.finetune]"
    (tmp_path / "plan.toml").write_text(PLAN.replace("[base.finetune]", explained))
    done = hepar(*arguments(cohort, tmp_path / "plan.toml", tmp_path / "all"))
    assert "fit       kept from before" in done.stderr
    for name, similar in (("both", 3), ("stacked", 0)):
        folder = tmp_path / "all" / "models" / name / "seed-0"
        document = json.loads((folder / "explanations.json").read_text())
        assert {len(one["similar"]) for one in document["maps"]} == {similar}
        assert read_bundle(folder / "bundle").map_scale == document["scale"] > 0
        assert "Whether the heat maps may be believed" in (folder / "report.html").read_text()


def test_a_killed_comparison_ends_with_the_same_numbers(cohort, plan, compared, tmp_path):
    dice, out = random.Random(1), tmp_path / "again"
    for _ in range(4):
        started = subprocess.Popen(
            [*HEPAR, *arguments(cohort, plan, out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(dice.uniform(3, 9))
        started.send_signal(signal.SIGKILL)
        started.wait()
    subprocess.run([*HEPAR, *arguments(cohort, plan, out)], check=True, capture_output=True)
    one, two = (json.loads((p / "comparison.json").read_text()) for p in (compared, out))
    assert one["tests"] == two["tests"]
    for first, second in zip(one["models"], two["models"], strict=True):
        assert first["metrics"] == second["metrics"]


def test_one_model_that_fails_does_not_cost_the_others(cohort, tmp_path, monkeypatch):
    from hepar import compare_job

    real = compare_job.fit_model

    def fails(cohort, parts, ledger, config, cache=None):
        if config.head.kind == "svm":
            raise HeparError("no room on the moon")
        return real(cohort, parts, ledger, config, cache)

    monkeypatch.setattr(compare_job, "fit_model", fails)
    settings = {"recipe": {"size": 64}, "ingest": {"labels_csv": str(cohort / "labels.csv")}}
    plan = read_plan(names=["efficientnet_lite0", "efficientnet_lite0:svm"], settings=settings)
    compare_job.compare(cohort / "dicom", tmp_path / "out", plan, "test")
    document = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [model["name"] for model in document["models"]] == ["efficientnet_lite0"]
    assert any("no room on the moon" in warning for warning in document["warnings"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = 1", "unknown key 'model'. Did you mean 'models'"),
        ("[models.a]\nheads.kind = 'svm'", "unknown setting 'heads'. Did you mean 'head'"),
        ("[models.a]\nmembers = ['b']", "expected names of models before it, got 'b'"),
        ("[models.a]\n[models.b]\nmembers = ['a']", "expected two or more"),
        ("[models.a]\n[models.b]\n[models.c]\nmembers=['a','b']\ncombine='sum'", "vote or stack"),
        ("[models.'a b']\n[models.'a/b']", "two for 'a-b'"),
        ("seeds = [0, 0]\n[models.a]", "different whole numbers"),
        ("[models.a]\npreset = 'papr'", "Did you mean 'paper'"),
        ("[models", "expected a TOML file"),
    ],
)
def test_a_plan_without_sense_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(ConfigError) as error:
        read_plan(tmp_path / "plan.toml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_short_names_say_what_they_mean():
    plan = read_plan(names=[*MODELS.split(","), "efficientnet_lite0:paper"])
    by_name = {model.name: model for model in plan.models}
    assert by_name["efficientnet_lite0:svm"].config.head.kind == "svm"
    assert by_name["small_cnn"].config.finetune.freeze == "none"
    assert by_name["efficientnet_lite0:paper"].config.recipe.name == "paper"
    assert by_name["vote"].members == ("efficientnet_lite0", "efficientnet_lite0:svm", "small_cnn")
    with pytest.raises(ConfigError, match="Did you mean 'paper'"):
        read_plan(names=["vgg16", "vgg16:papr"])
    with pytest.raises(ConfigError, match="got 'vgg16' twice"):
        read_plan(names=["vgg16", "vgg16"])
    with pytest.raises(ConfigError, match="different whole numbers"):
        read_plan(names=["vgg16"], seeds="1,x")


def test_the_rule_is_compared_where_nobody_says_what_is(cohort, tmp_path):
    rule = read_plan().rule
    assert rule.config.backbone.name == "darkest_point"
    assert read_plan(names=["vgg16"]).rule is None
    assert read_plan(settings={"recipe": {"name": "picture"}}).rule is None
    quick = {"recipe": {"size": 64}, "split": {"folds": 2}, "evaluate": {"resamples": 100}}
    page = compare(cohort / "nifti" / "index.csv", tmp_path / "masks", read_plan(settings=quick))
    rows = (page.parent / "comparison.csv").read_text().splitlines()[1:]
    assert any(row.startswith("rule,") for row in rows)
