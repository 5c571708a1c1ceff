"""Models compared on several findings, and a run of findings made again."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from hepar import read_config, run_findings
from hepar.compare_job import compare
from hepar.compare_plan import read_plan
from hepar.errors import ConfigError
from hepar.phantom import TileConfig, write_tiles
from hepar.reproduce_job import reproduce
from hepar.rerun_job import reproduce_run

pytest.importorskip("skimage")

pytestmark = pytest.mark.slow

NAMES = ["fibrosis", "steatosis"]
SETTINGS = {
    "ingest": {"pixels": "rgb", "findings": ",".join(NAMES)},
    "recipe": {"name": "histology", "size": 32},
    "split": {"folds": 2},
    "audit": {"copies": False},
    "decide": {"gate": False},
    "evaluate": {"resamples": 100},
}


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """Four patients, half with each finding; read by every test here, changed by none."""
    folder = tmp_path_factory.mktemp("tiles")
    write_tiles(folder, TileConfig(patients=4, slides=1, tiles=1, size=64, difficulty=0.1))
    return folder


def test_every_finding_has_a_comparison_on_one_split_and_one_page_lists_them(tiles, tmp_path):
    names = ["normalised", "raw"]
    plan = tmp_path / "plan.toml"
    plan.write_text('[models.normalised]\n[models.raw.recipe]\nname = "rgb"\n')
    page = compare(tiles, tmp_path / "c", read_plan(plan, settings=SETTINGS))
    text = page.read_text(encoding="utf-8")
    document = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert [one["name"] for one in document["findings"]] == NAMES
    splits = []
    for one in document["findings"]:
        own = tmp_path / "c" / one["folder"]
        found = json.loads((own / "comparison.json").read_text())
        assert [model["name"] for model in found["models"]] == names
        assert found["labels"] == [f"no_{one['name']}", one["name"]]
        assert f'href="{one["folder"]}/comparison.html"' in text
        assert not (own / "features").exists()  # all findings share the features of the whole
        splits.append(json.loads((own / "split.json").read_text())["assignments"])
    assert splits[0] == splits[1]
    with (tmp_path / "c" / "comparison.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {(row["finding"], row["model"]) for row in rows} == {
        (finding, name) for finding in NAMES for name in names
    }


def test_models_that_ask_for_other_findings_and_the_papers_table_are_refused(tiles, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(
        '[base.ingest]\npixels = "rgb"\nfindings = "fibrosis"\n'
        '[models.a]\nrecipe = {name = "rgb"}\n'
        '[models.b]\nrecipe = {name = "rgb"}\ningest = {findings = "steatosis"}\n'
    )
    with pytest.raises(ConfigError, match=r"models\.b: expected ingest\.findings='fibrosis'"):
        compare(tiles, tmp_path / "c", read_plan(plan))
    with pytest.raises(ConfigError, match="expected one label an image, as in the paper's table"):
        reproduce(tiles, tmp_path / "r", ["small_cnn"], SETTINGS)


def test_a_run_of_findings_is_made_again_byte_for_byte_and_a_change_is_named(tiles, tmp_path):
    flat = [f"{stage}.{k}={v}" for stage, own in SETTINGS.items() for k, v in own.items()]
    config = read_config(
        None,
        [*flat, "backbone.name=efficientnet_lite0", "controls.run=false", "explain.run=false"],
    )
    run_findings(tiles, tmp_path / "run", config)
    again = reproduce_run(tmp_path / "run", tmp_path / "again")
    assert again.same
    assert again.differences == ()
    shutil.copyfile(
        tmp_path / "run" / "findings" / "fibrosis" / "predictions.csv",
        tmp_path / "run" / "findings" / "steatosis" / "predictions.csv",
    )
    shutil.copyfile(
        tmp_path / "run" / "findings" / "fibrosis" / "predictions.meta.json",
        tmp_path / "run" / "findings" / "steatosis" / "predictions.meta.json",
    )
    changed = reproduce_run(tmp_path / "run", tmp_path / "again")
    assert not changed.same
    (said,) = changed.differences
    assert said.startswith("findings/steatosis: labels were no_fibrosis, fibrosis")
