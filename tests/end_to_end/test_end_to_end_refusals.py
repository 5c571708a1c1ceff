"""What is refused is refused at once, and leaves nothing behind."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from hepar.cli import app
from hepar.compare_job import compare
from hepar.compare_plan import read_plan
from hepar.config import read_config
from hepar.data import read_manifest
from hepar.errors import ConfigError, HeparError, IngestError
from hepar.main_job import run
from hepar.reproduce_job import reproduce


@pytest.fixture
def pictures(tmp_path):
    """Two labels of one picture each, without patient ids."""
    for label in "ab":
        path = tmp_path / "in" / label / "x.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.eye(8, dtype=np.uint8))
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("head.aggregate=middle", "expected one of mean, top, max"),
        ("split.folds=1", "split.folds: expected 2 or more, got 1"),
        ("split.test=2", "split.test: expected 0 to 0.9, got 2"),
        ("split.test=nan", "split.test: expected 0 to 0.9, got nan"),
        ("split.seed=-1", "split.seed: expected 0 to"),
        ("recipe.size=16", "recipe.size: expected 32 pixels or more for efficientnet_lite0"),
        ("recipe.size=-64", "recipe.size: expected 0 to 4096"),
        ("backbone.batch=0", "backbone.batch: expected 1 or more"),
        ("backbone.name=vgg16+densenet121 finetune.freeze=early", "one network to fine-tune"),
        ("backbone.name=small_cnn backbone.weights=", "no pretrained weights to freeze"),
        ("backbone.name=lesion_finder", "expected recipe.name=lesion, got 'auto'"),
        ("recipe.name=lesion", "expected a network that looks for lesions"),
        ("backbone.name=darkest_point+vgg16 recipe.name=lesion", "stands alone"),
        ("backbone.name=darkest_point recipe.name=lesion head.kind=dense", "taught by masks"),
        ("backbone.name=darkest_point recipe.name=lesion head.views=4", "expected head.views=1"),
        ("finetune.start=middle", "expected one of random, linear"),
        ("finetune.start=linear head.kind=dense", "expected no hidden layers"),
        ("finetune.cache=yes", "expected one of auto, on, off"),
        ("finetune.dropout=2", "finetune.dropout: expected 0 to 0.99"),
        ("finetune.hidden=64,0", "finetune.hidden: expected 1 or more"),
        ("evaluate.resamples=0", "evaluate.resamples: expected 100 or more"),
        ("evaluate.level=2", "evaluate.level: expected 0.5 to"),
        ("ingest.max_megapixels=0", "ingest.max_megapixels: expected 0.001 or more"),
        ("recipe.name=livr", "Known: liver, slab, slab_whole, lesion, volume, paper, ct, picture"),
        ("backbone.name=vgg", "Did you mean 'vgg19'"),
        ("ingest.label_order=a,a", "none twice"),
        ("ingest.patient_pattern=(P", "expected a regular expression"),
        ("ingest.mask_values=kidney=1", "liver=VALUE"),
        ("head.top_k=0", "head.top_k: expected 1 or more"),
        ("head.inner_folds=1", "head.inner_folds: expected 2 or more"),
    ],
)
def test_a_senseless_setting_is_refused_before_the_source_is_looked_at(tmp_path, setting, message):
    config = read_config(settings=["backbone.weights=random", *setting.split()])
    with pytest.raises(HeparError, match=re.escape(message)):
        run(tmp_path / "nowhere", tmp_path / "out", config)
    assert not (tmp_path / "out").exists()


def test_a_refused_source_leaves_no_empty_folder_but_keeps_a_full_one(tmp_path, pictures):
    config = read_config(settings=["backbone.weights=random"])
    with pytest.raises(HeparError, match="got nothing there"):
        run(tmp_path / "nowhere", tmp_path / "out", config)
    with pytest.raises(HeparError, match="expected a patient_id"):
        run(pictures, tmp_path / "out", config)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(HeparError, match="expected a patient_id"):
        run(pictures, tmp_path / "out", config)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


@pytest.mark.usefixtures("pictures")
def test_mask_values_are_said_where_ingest_asks_for_them(tmp_path):
    cv2.imwrite(str(tmp_path / "m.png"), np.arange(5, 69, dtype=np.uint8).reshape(8, 8))
    table = tmp_path / "t.csv"
    table.write_text("path,label,patient_id,mask\nin/a/x.png,a,P,m.png\n")
    out = tmp_path / "m.csv"
    asked = CliRunner().invoke(app, ["ingest", str(table), "--out", str(out)])
    assert isinstance(asked.exception, IngestError)
    assert "--set ingest.mask_values=" in str(asked.exception)
    said = ["--set", "ingest.mask_values=liver=5"]
    answered = CliRunner().invoke(app, ["ingest", str(table), "--out", str(out), *said])
    assert answered.exit_code == 0, answered.output
    assert read_manifest(out).mask_values == {"liver": 5}


@pytest.mark.parametrize("command", [["ingest", "x"], ["predict", "bundle", "x"]])
def test_a_setting_of_another_stage_is_refused_where_it_would_change_nothing(command):
    done = CliRunner().invoke(app, [*command, "--set", "split.folds=3"])
    assert isinstance(done.exception, ConfigError)
    assert "expected ingest.KEY=VALUE in this command" in str(done.exception)


def test_a_refused_comparison_or_reproduction_leaves_no_folder(tmp_path, pictures):
    out = tmp_path / "new" / "out"
    random = {"backbone": {"weights": "random"}}
    for settings in (random, {**random, "split": {"folds": 1}}):
        with pytest.raises(HeparError, match=r"expected a patient_id|split\.folds"):
            compare(pictures, out, read_plan(names=["vgg16", "resnet50"], settings=settings))
        with pytest.raises(HeparError, match=r"expected a patient_id|split\.folds"):
            reproduce(pictures, out, ["vgg16", "resnet50"], settings)
    assert not out.parent.exists()


def test_an_ensemble_needs_no_network_of_its_own(tmp_path):
    shared = {"backbone": {"weights": "random"}, "finetune": {"freeze": "layer2"}}
    plan = read_plan(names=["resnet50", "resnet50:dense", "vote"], settings=shared)
    with pytest.raises(HeparError, match="got nothing there"):
        compare(tmp_path / "nowhere", tmp_path / "out", plan)
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused_before_the_source_is_looked_at(tmp_path):
    (tmp_path / "out").write_text("mine")
    config = read_config(settings=["backbone.weights=random"])
    for out in (tmp_path / "out", tmp_path / "out" / "run"):
        with pytest.raises(HeparError, match="expected a folder to write to"):
            run(tmp_path / "nowhere", out, config)


def test_a_run_left_with_one_label_names_the_one_that_was_lost_and_why(tmp_path, pictures):
    (pictures / "b" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    settings = ["backbone.weights=random", "ingest.patients_unknown=true"]
    with pytest.raises(
        HeparError, match=r"labelled 'b', got none of 1 .*b/x.png: expected a whole"
    ):
        run(pictures, tmp_path / "out", read_config(settings=settings))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_an_interrupted_command_says_how_to_go_on(cohort, tmp_path):
    command = [sys.executable, "-m", "hepar.cli", "run", str(cohort / "dicom")]
    command += ["--labels", str(cohort / "labels.csv"), "--out", str(tmp_path / "run")]
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=heard
    ) as process:  # a shell's background job, and what it starts, would not hear Ctrl-C
        line = process.stderr.readline()
        while "ingest" not in line:
            line = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "interrupted: a run or a comparison goes on when it is called again." in rest
    assert "Traceback" not in rest
