from __future__ import annotations

from pathlib import Path

import pytest

from hepar.phantom import PhantomConfig, PhantomPatient, make_cohort, write_cohort

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
CONFIG = PhantomConfig(patients=3, slices=6, size=96, seed=5)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real CT beside the checkout: what a phantom cannot show."""
    if not SHARED.is_dir():
        pytest.skip("the development data is not beside the checkout")
    return SHARED.resolve()


@pytest.fixture(scope="session")
def patients() -> dict[str, PhantomPatient]:
    """Livers and lesions that are known to the voxel."""
    return {one.patient_id: one for one in make_cohort(CONFIG)}


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same patients as DICOM series and NIfTI volumes; tests copy what they change."""
    folder = tmp_path_factory.mktemp("segment")
    write_cohort(folder, CONFIG, ("dicom", "nifti"))
    return folder
