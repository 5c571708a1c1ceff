"""What is refused is refused at once, and leaves nothing behind."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from hepar.cli import app
from hepar.config import read_config
from hepar.data import read_manifest
from hepar.errors import ConfigError, HeparError, IngestError
from hepar.main_job import run


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
        ("split.folds=1", "expected 2 folds or more"),
        ("split.test=2", "test share from 0 to 0.9"),
        ("recipe.name=livr", "Known: liver, paper, ct, picture"),
        ("backbone.name=vgg", "Known: efficientnet_lite0, "),
        ("ingest.label_order=a,a", "none twice"),
        ("ingest.patient_pattern=(P", "expected a regular expression"),
        ("ingest.mask_values=kidney=1", "liver=VALUE"),
        ("head.top_k=0", "head.top_k: expected 1 or more"),
        ("head.inner_folds=1", "head.inner_folds: expected 2 or more"),
    ],
)
def test_a_senseless_setting_is_refused_before_the_source_is_looked_at(tmp_path, setting, message):
    config = read_config(settings=["backbone.weights=random", setting])
    with pytest.raises(HeparError, match=message.replace("(", r"\(")):
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
