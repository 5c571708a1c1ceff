"""Training as a user starts it: killed and taken up, on two processes, served without torch."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from hepar.evaluate import read_predictions

pytestmark = [pytest.mark.torch, pytest.mark.slow]
HEPAR = [sys.executable, "-m", "hepar.cli"]
SMALL = [
    "--preset", "paper", "--backbone", "efficientnet_lite0", "--folds", "2", "--epochs", "3",
    "--set", "recipe.size=64", "--set", "augment.views=2", "--set", "evaluate.resamples=200",
    "--set", "finetune.batch=16", "--set", "finetune.learning_rate=1e-3",
]  # fmt: skip


def arguments(cohort, out, *more):
    source = [cohort / "dicom", "--labels", cohort / "labels.csv", "--out", out]
    return [str(a) for a in ("run", *source, *SMALL, *more)]


@pytest.fixture(scope="module")
def trained(cohort, hepar, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    hepar(*arguments(cohort, out))
    return out


def test_the_paper_preset_leaves_a_history_and_no_scaffolding(trained):
    names = {path.name for path in trained.iterdir()}
    assert names >= {"history.csv", "predictions.csv", "report.html", "bundle"}
    assert not names & {"checkpoints", "boundary"}
    rows = (trained / "history.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 3
    assert 'id="training"' in (trained / "report.html").read_text()


def test_a_training_killed_at_random_moments_ends_with_the_same_bytes(cohort, trained, tmp_path):
    dice, out = random.Random(0), tmp_path / "run"
    for _ in range(6):
        started = subprocess.Popen(
            [*HEPAR, *arguments(cohort, out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(dice.uniform(3, 9))
        started.send_signal(signal.SIGKILL)
        if started.wait() == 0:
            break
    subprocess.run([*HEPAR, *arguments(cohort, out)], check=True, capture_output=True)
    for name in ("predictions.csv", "patients.csv", "history.csv"):
        assert (out / name).read_bytes() == (trained / name).read_bytes()
    weights = "bundle/weights-0.safetensors"
    assert (out / weights).read_bytes() == (trained / weights).read_bytes()


def test_a_trained_bundle_predicts_without_torch_or_scikit_learn(cohort, trained, tmp_path):
    """And the held-out share of the answers is what the final network said in training."""
    blocked = (
        "sys.modules.update(dict.fromkeys(('torch', 'torchvision', 'timm', 'onnx', 'sklearn')))"
    )
    call = ["hepar", "predict", str(trained / "bundle"), str(cohort / "nifti" / "index.csv")]
    code = (
        f"import sys; {blocked}; sys.argv = {[*call, '--out', str(tmp_path / 'p.csv')]!r}; "
        "from hepar.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = read_predictions(tmp_path / "p.csv")
    assert len(answers) == 48
    assert np.ptp(answers.probabilities[:, 0]) > 0.01


def test_two_processes_train_to_what_one_does(cohort, tmp_path):
    """No norms learn here: their batch statistics are each process's own, and would differ."""
    plain = ["--set", "finetune.freeze_norm=true", "--epochs", "2"]
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run([*HEPAR, *arguments(cohort, one, *plain)], check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            [*HEPAR, *arguments(cohort, two, *plain)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    first, second = (read_predictions(out / "predictions.csv") for out in (one, two))
    assert first.sample_id.tolist() == second.sample_id.tolist()
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=2e-3)
