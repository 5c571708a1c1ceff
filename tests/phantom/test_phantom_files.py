"""The cohort on disk says the same as the cohort in memory, in every format."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pydicom
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from hepar.data.volume import LESION
from hepar.errors import PhantomError
from hepar.phantom import (
    PhantomConfig,
    PhantomPatient,
    draw_contact_sheet,
    make_patient,
    write_cohort,
)
from hepar.provenance import read_artefact


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _series(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.glob("*/IM*.dcm"))]


def test_dicom_holds_the_volume_in_hu(written: Path, patients: list[PhantomPatient]) -> None:
    for patient in patients[:4]:
        slices = _series(written / "dicom" / patient.patient_id)
        slices.sort(key=lambda s: float(s.ImagePositionPatient[2]))
        hu = [s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices]
        np.testing.assert_array_equal(np.stack(hu), patient.volume.voxels)
        depth, height, width = patient.volume.spacing_mm
        assert [float(v) for v in slices[0].PixelSpacing] == [height, width]
        assert float(slices[0].SliceThickness) == depth
        assert slices[0].PatientName == f"PHANTOM^{patient.patient_id}"


def test_dicom_uids_are_valid_unique_and_the_same_in_every_run(
    written: Path, config: PhantomConfig, tmp_path: Path
) -> None:
    slices = [s for folder in sorted((written / "dicom").iterdir()) for s in _series(folder)]
    uids = [s.SOPInstanceUID for s in slices]
    assert len(set(uids)) == len(uids) == config.patients * config.slices
    assert all(uid.is_valid for uid in uids)
    write_cohort(tmp_path, replace(config, patients=3), formats=("dicom",))
    for path in sorted((tmp_path / "dicom").rglob("*.dcm")):
        assert path.read_bytes() == (written / path.relative_to(tmp_path)).read_bytes()


def test_dicom_file_names_do_not_follow_the_slices(written: Path) -> None:
    for folder in sorted((written / "dicom").iterdir()):
        places = [float(s.ImagePositionPatient[2]) for s in _series(folder)]
        assert places != sorted(places), folder.name


def test_nifti_read_canonically_holds_the_volume(
    written: Path, patients: list[PhantomPatient]
) -> None:
    for patient in patients[:4]:
        for name, true in (("ct", patient.volume.voxels), ("mask", patient.volume.mask)):
            image = nib.load(written / "nifti" / f"{patient.patient_id}_{name}.nii.gz")
            canonical = nib.as_closest_canonical(image)
            # RAS arrays run (x to the left of the picture's mirror, y to the front, z up)
            array = np.asarray(canonical.dataobj)[::-1, ::-1].transpose(2, 1, 0)
            np.testing.assert_array_equal(array, true)
            np.testing.assert_allclose(
                canonical.header.get_zooms(), patient.volume.spacing_mm[::-1]
            )


def test_pictures_and_their_masks_match_the_volume(
    written: Path, patients: list[PhantomPatient]
) -> None:
    rows = _rows(written / "png" / "index.csv")
    by_id = {p.patient_id: p for p in patients}
    assert len(rows) == sum(len(p.volume.voxels) for p in patients)
    for row in rows[::7]:
        patient, index = by_id[row["patient_id"]], int(row["slice_index"])
        hu, mask = patient.volume.voxels[index], patient.volume.mask[index]
        picture = cv2.imread(str(written / "png" / row["path"]), cv2.IMREAD_UNCHANGED)
        drawn = cv2.imread(str(written / "png" / row["mask"]), cv2.IMREAD_UNCHANGED)
        assert picture.dtype == np.uint8
        assert (picture[hu <= -140] == 0).all()
        assert (picture[hu >= 260] == 255).all()
        np.testing.assert_array_equal(drawn, np.array([0, 127, 255], np.uint8)[mask])
        assert row["label"] == patient.label


def test_tables_tell_the_truth(written: Path, patients: list[PhantomPatient]) -> None:
    labels = _rows(written / "labels.csv")
    assert [row["label"] for row in labels] == [p.label for p in patients]
    assert all((written / row["mask"]).is_file() for row in labels)
    lesions = _rows(written / "truth.csv")
    assert len(lesions) == sum(len(p.lesions) for p in patients)
    for row in lesions:
        mask = next(p for p in patients if p.patient_id == row["patient_id"]).volume.mask
        for index in map(int, row["slices"].split()):
            assert (mask[index] == LESION).any()


def test_masks_alone_come_without_volumes(config: PhantomConfig, tmp_path: Path) -> None:
    write_cohort(tmp_path, replace(config, patients=3, slices=2, size=64), formats=("masks",))
    assert len(list((tmp_path / "nifti").glob("*_mask.nii.gz"))) == 3
    assert not list((tmp_path / "nifti").glob("*_ct.nii.gz"))
    assert all((tmp_path / row["mask"]).is_file() for row in _rows(tmp_path / "labels.csv"))


def test_a_finished_cohort_of_the_same_config_is_kept(written: Path, config: PhantomConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*")}
    write_cohort(written, config)
    write_cohort(written, config, formats=("dicom", "masks"))
    assert {path: path.stat().st_mtime_ns for path in written.rglob("*")} == before


def test_a_cohort_of_another_config_is_refused(written: Path, config: PhantomConfig) -> None:
    with pytest.raises(PhantomError, match="got one with another seed"):
        write_cohort(written, replace(config, seed=99))


def test_threads_are_lent_to_the_cohort_and_given_back(
    config: PhantomConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blas_threads() -> list[int]:
        # NumPy's and SciPy's; an OpenMP one, such as faiss brings, counts threads by caller.
        return [
            pool["num_threads"]
            for pool in threadpool_info()
            if pool["user_api"] == "blas" and pool.get("threading_layer") != "openmp"
        ]

    seen: list[tuple[int, list[int]]] = []

    def make(*arguments: object) -> PhantomPatient:
        seen.append((cv2.getNumThreads(), blas_threads()))
        return make_patient(*arguments)

    monkeypatch.setattr("hepar.phantom.files.make_patient", make)
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        with threadpool_limits(2, user_api="blas"):
            write_cohort(tmp_path, replace(config, patients=3, slices=1, size=64), ("masks",))
            assert (cv2.getNumThreads(), set(blas_threads())) == (2, {2})
    finally:
        cv2.setNumThreads(before)
    assert len(seen) == 3
    assert all(opencv == 1 and set(blas) == {1} for opencv, blas in seen)


def test_an_unknown_format_is_refused(config: PhantomConfig, tmp_path: Path) -> None:
    with pytest.raises(PhantomError, match="formats: expected some of dicom"):
        write_cohort(tmp_path, config, formats=("dicom", "jpeg"))


def test_planted_copies_are_in_the_truth(config: PhantomConfig, tmp_path: Path) -> None:
    leaky = replace(config, patients=6, slices=2, size=64, duplicates=2)
    truth = read_artefact(write_cohort(tmp_path, leaky, formats=("png",)), "phantom_truth")
    assert len(truth["duplicates"]) == 2
    for copy in truth["duplicates"]:
        names = (
            f"{copy['patient_id']}_{copy['slice_index']:03d}.png",
            f"{copy['source_patient_id']}_{copy['source_slice_index']:03d}.png",
        )
        first, second = (next((tmp_path / "png").rglob(name)).read_bytes() for name in names)
        assert first == second


def test_a_contact_sheet_has_a_row_for_each_patient(
    patients: list[PhantomPatient], tmp_path: Path
) -> None:
    path = tmp_path / "sheet.png"
    draw_contact_sheet(path, patients[:3], columns=4, tile=64)
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape == (3 * 64, 4 * 64)
