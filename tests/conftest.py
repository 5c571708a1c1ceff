"""Cohorts that many tests read and none changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from hepar.data import LabelSet, Manifest, Sample

settings.register_profile("hepar", deadline=None)  # no test is timed
settings.load_profile("hepar")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """The development data beside the checkout; tests on real CT skip without it."""
    if not SHARED.is_dir():
        pytest.skip("the development data is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def make_manifest() -> Callable[..., Manifest]:
    """Make a manifest from {patient: [labels of its slices]}, for tests that need no pixels."""

    def make(patients: dict[str, Sequence[str]], **extra: dict[str, str]) -> Manifest:
        samples = [
            Sample(
                sample_id=f"{patient}/{i:03d}.png",
                patient_id=patient,
                path=f"{patient}/{i:03d}.png",
                label=label,
                slice_index=i,
                extra=extra.get(patient, {}),
            )
            for patient, labels in patients.items()
            for i, label in enumerate(labels)
        ]
        labels = LabelSet.infer(sample.label for sample in samples)
        return Manifest(tuple(samples), labels, Path())

    return make
