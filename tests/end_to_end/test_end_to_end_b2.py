"""EfficientNetB2, the preset's own network, from tiles to answers: its weights are the user's."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hepar import read_config, run_findings
from hepar.backbone import read_graph, untrained_arrays
from hepar.config import IngestConfig
from hepar.ingest import ingest_files
from hepar.model import load_findings
from hepar.phantom import TileConfig, write_tiles

pytest.importorskip("skimage")

pytestmark = pytest.mark.slow

SMALL = [
    "recipe.size=32", "split.folds=2", "evaluate.resamples=100", "controls.run=false",
    "explain.run=false", "audit.copies=false", "decide.gate=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """Four patients, half with each finding, a tile each; read by every test here."""
    folder = tmp_path_factory.mktemp("tiles")
    write_tiles(folder, TileConfig(patients=4, slides=1, tiles=1, size=64, difficulty=0.1))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file that a user may name: untrained numbers under timm's key names."""
    from safetensors.numpy import save_file

    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    save_file(untrained_arrays(read_graph("efficientnet_b2")), path)
    return path


def tiles_of(folder):
    return ingest_files([folder], IngestConfig(pixels="rgb"))


def test_the_preset_runs_it_from_a_file_that_the_user_names(tiles, weights, tmp_path):
    given = [*SMALL, f"backbone.weights={weights}", "head.views=2"]
    run_findings(tiles, tmp_path / "run", read_config(None, given, "histopathology"))
    document = json.loads((tmp_path / "run" / "findings.json").read_text())
    assert len(document["findings"]) == 4
    assert document["backbone"]["name"] == "efficientnet_b2"
    assert document["backbone"]["source"] == "file mine.safetensors"
    bundle = tmp_path / "run" / "bundle"
    shared = sum(path.stat().st_size for path in (bundle / "shared").iterdir())
    whole = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    assert whole < 1.3 * shared  # 31 MB once, and not four times
    answers = load_findings(bundle).predict(tiles_of(tiles))
    for answer in answers.values():
        assert np.isfinite(answer.patients.probabilities).all()
        assert len(answer.patients) == 4


@pytest.mark.torch
def test_its_last_stage_is_trained_for_a_finding(tiles, tmp_path):
    pytest.importorskip("torch")
    given = [
        *SMALL, "backbone.weights=random", "ingest.findings=steatosis", "head.kind=dense",
        "head.views=1", "augment.views=1", "finetune.freeze=early", "finetune.epochs=1",
        "finetune.batch=4", "finetune.tune=0",
    ]  # fmt: skip
    run_findings(tiles, tmp_path / "run", read_config(None, given, "histopathology"))
    own = tmp_path / "run" / "findings" / "steatosis"
    assert len((own / "history.csv").read_text().splitlines()) > 1
    (predictor,) = load_findings(tmp_path / "run" / "bundle").predictors.values()
    trained, first = (
        predictor.bundle.parts[0].weights,
        untrained_arrays(read_graph("efficientnet_b2")),
    )
    moved = {key for key, array in trained.items() if not np.array_equal(array, first[key])}
    assert moved
    assert not {key for key in moved if key.startswith(("conv_stem", "blocks.0"))}
    document = json.loads((tmp_path / "run" / "findings.json").read_text())
    assert "random" in " ".join(document["warnings"])
