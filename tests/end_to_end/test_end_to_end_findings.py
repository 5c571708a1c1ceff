"""Several findings at once, from stained tiles to answers for new ones."""

from __future__ import annotations

import csv
import json
import shutil

import cv2
import numpy as np
import pytest

from hepar import read_config, run_findings
from hepar import run as run_one
from hepar.errors import ConfigError
from hepar.phantom import FINDINGS, TileConfig, write_tiles

pytest.importorskip("skimage")

pytestmark = pytest.mark.slow

SMALL = [
    "--backbone", "efficientnet_lite0", "--folds", "2", "--views", "1",
    "--set", "recipe.size=64", "--set", "evaluate.resamples=100", "--set", "controls.run=false",
    "--set", "explain.run=false",
]  # fmt: skip


def rows(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """Eight patients, half with each finding; read by every test here, changed by none."""
    folder = tmp_path_factory.mktemp("tiles")
    write_tiles(folder, TileConfig(patients=8, slides=2, tiles=2, size=96, difficulty=0.1))
    return folder


@pytest.fixture(scope="module")
def run(tiles, hepar, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "liver"
    hepar("run", tiles, "--out", out, "--preset", "histopathology", *SMALL)
    return out


def test_every_finding_has_a_run_and_all_share_split_and_features(run):
    page = (run / "findings.html").read_text(encoding="utf-8")
    document = json.loads((run / "findings.json").read_text())
    assert [one["name"] for one in document["findings"]] == list(FINDINGS)
    assert (document["level"], document["partition"]) == ("patient", "out-of-fold")
    splits = [json.loads((run / "split.json").read_text())["assignments"]]
    for one in document["findings"]:
        assert (one["n_patients"], one["n_patients_with"]) == (8, 4)
        assert one["metrics"]["balanced_accuracy"]["low"] is not None
        own = run / one["folder"]
        assert f'href="{one["folder"]}/report.html"' in page
        assert not (own / "features").exists()
        splits.append(json.loads((own / "split.json").read_text())["assignments"])
        header = (own / "manifest.csv").read_text().splitlines()[0].split(",")
        assert not set(FINDINGS) & set(header)  # no control may guess one finding from another
    assert all(split == splits[0] for split in splits)
    assert (run / "features").is_dir()


def test_slides_stand_between_tiles_and_patients(run):
    slides = rows(run / "slides.csv")
    assert len(slides) == 16
    assert {(row["slide_id"], row["patient_id"], row["tiles"]) for row in slides[:2]} == {
        ("P001-1", "P001", "2"), ("P001-2", "P001", "2"),
    }  # fmt: skip
    own = rows(run / "findings" / "fibrosis" / "predictions.csv")
    first = [float(r["p_fibrosis"]) for r in own if r["sample_id"].startswith("tiles/P001-1/")]
    said = float(slides[0]["p_fibrosis"])
    assert said == pytest.approx(sum(first) / len(first), abs=1e-5)  # of two tiles, the top three


def test_a_run_called_again_keeps_every_stage(run, tiles, hepar):
    done = hepar("run", tiles, "--out", run, "--preset", "histopathology", *SMALL)
    stages = [line for line in done.stderr.splitlines() if line.startswith(("fit ", "bundle "))]
    assert len(stages) == 5
    assert all(line.endswith("kept from before") for line in stages)


def test_the_bundle_answers_every_finding_for_new_tiles(run, tiles, hepar, tmp_path):
    out = tmp_path / "new.csv"
    hepar("predict", run / "bundle", tiles, "--out", out)
    answered = rows(out)
    assert [row["patient_id"] for row in answered] == [f"P{i:03d}" for i in range(1, 9)]
    for finding in FINDINGS:
        assert {row[finding] for row in answered} <= {"yes", "no", "none"}
        patients = rows(tmp_path / f"new_{finding}_patients.csv")
        for row, own in zip(answered, patients, strict=True):
            assert float(row[f"p_{finding}"]) == pytest.approx(float(own[f"p_{finding}"]), abs=6e-4)
    assert len(rows(tmp_path / "new_slides.csv")) == 16
    single = hepar("predict", run / "bundle" / "fibrosis", tiles, "--json")
    alone = {p["patient_id"]: p["p_fibrosis"] for p in json.loads(single.stdout)["patients"]}
    for row in answered:
        assert float(row["p_fibrosis"]) == pytest.approx(alone[row["patient_id"]], abs=6e-4)


def test_ct_is_refused_by_a_bundle_of_tiles_in_one_line(run, cohort, hepar):
    for source, said in (("png", "got a grey picture"), ("dicom", "got a DICOM file")):
        done = hepar("predict", run / "bundle", cohort / source, check=False)
        assert done.returncode == 2
        (line,) = [row for row in done.stderr.splitlines() if row.startswith("error")]
        assert "expected an RGB tile of a stained slide" in line
        assert said in line


def test_a_bundle_of_findings_names_its_bundles_where_one_is_needed(run, tiles, hepar, tmp_path):
    done = hepar("explain", run / "bundle", tiles, "--out", tmp_path / "maps", check=False)
    assert done.returncode == 2
    assert "Name one of its folders: ballooning, fibrosis, inflammation" in done.stderr


def test_an_exchanged_bundle_is_noticed(run, tiles, hepar, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(run / "bundle", bundle)
    shutil.rmtree(bundle / "fibrosis")
    shutil.copytree(run / "bundle" / "steatosis", bundle / "fibrosis")
    done = hepar("predict", bundle, tiles, check=False)
    assert done.returncode == 2
    assert "expected the bundle that the others were made with, got another" in done.stderr


def test_missing_weights_name_the_network_that_comes_with_hepar(tiles, hepar, tmp_path):
    nowhere = {"HEPAR_WEIGHTS": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}
    arguments = ("run", tiles, "--out", tmp_path / "r", "--preset", "histopathology")
    done = hepar(*arguments, check=False, env=nowhere)
    assert done.returncode == 2
    (line,) = [row for row in done.stderr.splitlines() if row.startswith("error")]
    assert "no weights for 'efficientnet_b2'" in line
    assert "--backbone efficientnet_lite0 comes with hepar" in line


def test_a_finding_that_nobody_has_stops_no_other(tiles, hepar, tmp_path):
    table = rows(tiles / "index.csv")
    folder = tmp_path / "source"
    shutil.copytree(tiles, folder)
    for row in table:
        row["rare"] = int(row["path"] == "tiles/P001-1/01.png")
        if row["patient_id"] == "P001":
            row["steatosis"] = ""  # unknown: the patient is left out
    with (folder / "index.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    hepar(
        "run", folder, "--out", tmp_path / "r", "--preset", "histopathology", *SMALL,
        "--set", "ingest.findings=rare,steatosis",
    )  # fmt: skip
    document = json.loads((tmp_path / "r" / "findings.json").read_text())
    assert [one["name"] for one in document["findings"]] == ["steatosis"]
    assert document["findings"][0]["n_patients"] == 7
    assert "rare could not be fitted: expected two patients or more" in " ".join(
        document["warnings"]
    )


def test_names_that_would_share_a_folder_and_calls_that_want_one_label_are_refused(tiles, tmp_path):
    table = rows(tiles / "index.csv")
    shutil.copytree(tiles, tmp_path / "source")
    for row in table:
        row["fibrosis?"] = row["fibrosis"]
        row["fibrosis!"] = row["fibrosis"]
    with (tmp_path / "source" / "index.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    settings = ["backbone.name=efficientnet_lite0", "audit.copies=false"]
    settings += ["ingest.findings=fibrosis?,fibrosis!"]
    config = read_config(None, settings, "histopathology")
    with pytest.raises(ConfigError, match="expected names that differ in letters or digits, got f"):
        run_findings(tmp_path / "source", tmp_path / "r", config)
    with pytest.raises(ConfigError, match=r"findings are run by hepar\.run_findings"):
        run_one(tmp_path / "source", tmp_path / "r", config)


def test_controls_and_maps_are_made_of_tiles(tiles, hepar, tmp_path):
    hepar(
        "run", tiles, "--out", tmp_path / "r", "--preset", "histopathology", *SMALL,
        "--set", "ingest.findings=fibrosis", "--set", "controls.run=true",
        "--set", "controls.permutations=20", "--set", "explain.run=true",
        "--set", "explain.slices=4", "--set", "explain.checked=1",
    )  # fmt: skip
    own = tmp_path / "r" / "findings" / "fibrosis"
    page = (own / "report.html").read_text(encoding="utf-8")
    assert "laboratory, 3 sources" in page
    controls = json.loads((own / "controls.json").read_text())
    (named,) = [c for c in controls["controls"] if c["name"] == "source"]
    assert not named["not_made"]
    pictures = sorted((own / "figures" / "maps").glob("*.png"))
    assert pictures
    drawn = cv2.imread(str(pictures[0])).astype(int)
    assert np.abs(drawn[..., 2] - drawn[..., 1]).mean() > 5  # in colour
    maps = tmp_path / "maps"
    hepar("explain", tmp_path / "r" / "bundle" / "fibrosis", tiles, "--out", maps)
    assert (maps / "index.html").is_file()
