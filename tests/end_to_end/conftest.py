"""One small phantom cohort, and the command line as a user calls it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hepar.phantom import PhantomConfig, write_cohort

HEPAR = [sys.executable, "-m", "hepar.cli"]


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """Twelve phantom patients in all formats; read by every test here, changed by none."""
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, PhantomConfig(patients=12, slices=4, difficulty=0.2))
    return folder


@pytest.fixture(scope="session")
def hepar():
    """Return a function that runs the command line in a process of its own."""

    def run(*arguments, check=True, env=None):
        done = subprocess.run(
            [*HEPAR, *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, **(env or {})},
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def segmenter(cohort, hepar, tmp_path_factory):
    """A segmenter taught by the cohort in two folds; slow to make, so shared."""
    out = tmp_path_factory.mktemp("segmenter") / "job"
    small = ("segment.size=96", "segment.steps=60", "segment.batch=8")
    settings = [word for setting in small for word in ("--set", setting)]
    source = cohort / "nifti" / "index.csv"
    done = hepar("segment", "fit", source, "--out", out, "--folds", "2", *settings)
    assert "Dice" in done.stdout
    return out
