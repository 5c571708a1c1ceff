"""Phantom cohorts that many tests read and none changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hepar.phantom import PhantomConfig, PhantomPatient, make_cohort, write_cohort


@pytest.fixture(scope="session")
def config() -> PhantomConfig:
    """Small enough to make in seconds; each label four times."""
    return PhantomConfig(patients=12, slices=5, size=128, seed=3)


@pytest.fixture(scope="session")
def patients(config: PhantomConfig) -> list[PhantomPatient]:
    """The cohort in memory, to compare with what is on disk."""
    return list(make_cohort(config))


@pytest.fixture(scope="session")
def written(config: PhantomConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same cohort on disk in every format."""
    folder = tmp_path_factory.mktemp("phantom")
    write_cohort(folder, config)
    return folder
