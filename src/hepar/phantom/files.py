"""The cohort on disk: DICOM series, NIfTI volumes, pictures, tables of labels and of the truth."""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.errors import PhantomError
from hepar.phantom.cohort import PhantomPatient, make_patient
from hepar.phantom.dicom import LEVEL_HU, WIDTH_HU, write_dicom
from hepar.phantom.lesions import Lesion
from hepar.phantom.roster import Copy, PhantomConfig, plan_copies
from hepar.progress import LOG, track
from hepar.provenance import package_version, read_artefact, stamp, write_artefact, write_atomic

__all__ = ["FORMATS", "draw_contact_sheet", "write_cohort"]

FORMATS = ("dicom", "nifti", "png")
"""Each holds every slice; "masks" may be asked for besides: the NIfTI masks without the volumes."""

PICTURE_MASK = np.array([0, 127, 255], np.uint8)
"""Grey value of background, liver and lesion in a picture mask."""


@dataclass(frozen=True)
class Written:
    """What remains of a patient once the pixels are on disk."""

    patient_id: str
    label: str
    phase: str
    kernel: str
    spacing_mm: tuple[float, float, float]
    slices: int
    lesions: tuple[Lesion, ...]
    copies: tuple[Copy, ...]


def write_cohort(out: Path, config: PhantomConfig, formats: Sequence[str] = FORMATS) -> Path:
    """Write a cohort as files, with the tables that label it and the truth about it.

    `truth.json` is written last: a folder that has it is complete. A complete cohort of the same
    config and package version is kept as it is.

    Args:
        out: folder to write into; made if missing.
        config: what cohort.
        formats: any of "dicom", "nifti", "png", "masks".

    Returns:
        `truth.json`: the config, every patient and lesion, planted copies and the provenance.

    Raises:
        PhantomError: a format is unknown, or `out` already holds another cohort.
    """
    known = (*FORMATS, "masks")
    if not formats or not set(formats) <= set(known):
        raise PhantomError(f"formats: expected some of {', '.join(known)}, got {list(formats)}.")
    truth = out / "truth.json"
    if truth.exists():
        _check_same(truth, config, formats)
        LOG.info("%s: kept, it is this cohort already", out)
        return truth
    copies = plan_copies(config)
    # imported once before the threads: a lazy import in several of them is not safe
    if "dicom" in formats:
        import pydicom  # noqa: F401
    if "nifti" in formats or "masks" in formats:
        import nibabel  # noqa: F401

    def make_and_write(number: int) -> Written:
        patient = make_patient(config, number, copies.get(number, ()))
        if "dicom" in formats:
            write_dicom(out / "dicom", patient, config.seed)
        if "nifti" in formats or "masks" in formats:
            _write_nifti(out / "nifti", patient, masks_only="nifti" not in formats)
        if "png" in formats:
            _write_pictures(out, patient)
        return Written(
            patient_id=patient.patient_id,
            label=patient.label,
            phase=patient.phase,
            kernel=patient.scan.kernel,
            spacing_mm=patient.spacing_mm,
            slices=config.slices,
            lesions=patient.lesions,
            copies=patient.copies,
        )

    with _one_thread_each(), ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        jobs = pool.map(make_and_write, range(1, config.patients + 1))
        written = list(track(jobs, "phantom", total=config.patients))
    _write_tables(out, written, formats)
    _write_truth(out, written, config, formats)
    return truth


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keep BLAS and OpenCV to one thread: patients are made side by side already."""
    from threadpoolctl import threadpool_limits

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        cv2.setNumThreads(threads)


def _check_same(truth: Path, config: PhantomConfig, formats: Sequence[str]) -> None:
    """Refuse a folder that holds a cohort of another config or version, or lacks a format."""
    found = read_artefact(truth, "phantom_truth")
    there = set(found["formats"]) | ({"masks"} if "nifti" in found["formats"] else set())
    differs = [name for name, value in asdict(config).items() if found["config"].get(name) != value]
    if found["provenance"]["version"] != package_version():
        differs.append("version")
    if not set(formats) <= there:
        differs.append("formats")
    if differs:
        raise PhantomError(
            f"{truth.parent}: expected no cohort or this one, got one with another "
            f"{', '.join(differs)}. Name another folder or remove it."
        )


def _write_nifti(folder: Path, patient: PhantomPatient, *, masks_only: bool) -> None:
    """Write volume and mask; the affine says that columns run to the left and rows to the back."""
    import nibabel as nib

    folder.mkdir(parents=True, exist_ok=True)
    depth, height, width = patient.spacing_mm
    _, rows, columns = patient.volume.voxels.shape
    affine = np.diag([-width, -height, depth, 1.0])
    affine[:2, 3] = (columns - 1) / 2 * width, (rows - 1) / 2 * height
    arrays = {"mask": patient.volume.mask}
    if not masks_only:
        arrays["ct"] = patient.volume.voxels.astype(np.int16)
    for name, array in arrays.items():
        image = nib.Nifti1Image(np.asarray(array).transpose(2, 1, 0), affine)  # type: ignore[no-untyped-call]
        image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
        packed = gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)
        (folder / f"{patient.patient_id}_{name}.nii.gz").write_bytes(packed)


def window_picture(hu: NDArray[Any]) -> NDArray[np.uint8]:
    """Return HU as 8-bit grey values in the soft-tissue window."""
    grey = (np.asarray(hu, np.float32) - (LEVEL_HU - WIDTH_HU / 2)) * (255 / WIDTH_HU)
    return np.asarray(np.rint(np.clip(grey, 0, 255)), np.uint8)


def _write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, packed = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise PhantomError(f"{path}: expected a picture that PNG can hold, got {picture.shape}.")
    path.write_bytes(packed.tobytes())


def _picture_name(patient_id: str, index: int) -> str:
    return f"{patient_id}_{index:03d}.png"


def _write_pictures(out: Path, patient: PhantomPatient) -> None:
    for index, hu in enumerate(patient.volume.voxels):
        name = _picture_name(patient.patient_id, index)
        _write_png(out / "png" / patient.label / name, window_picture(hu))
        mask = np.asarray(patient.volume.mask)[index]
        _write_png(out / "png_masks" / name, PICTURE_MASK[mask])


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


def _write_tables(out: Path, written: Sequence[Written], formats: Sequence[str]) -> None:
    """Write labels.csv, which every format shares, and an index of NIfTI files and of pictures."""
    masks = "nifti" in formats or "masks" in formats

    def mask_of(patient_id: str) -> str:
        return f"nifti/{patient_id}_mask.nii.gz" if masks else ""

    _write_csv(
        out / "labels.csv",
        ("patient_id", "label", "mask", "phase", "kernel"),
        [(w.patient_id, w.label, mask_of(w.patient_id), w.phase, w.kernel) for w in written],
    )
    if "nifti" in formats:
        _write_csv(
            out / "nifti" / "index.csv",
            ("path", "label", "patient_id", "mask"),
            [
                (f"{w.patient_id}_ct.nii.gz", w.label, w.patient_id, f"{w.patient_id}_mask.nii.gz")
                for w in written
            ],
        )
    if "png" in formats:
        rows = []
        for w in written:
            for index in range(w.slices):
                name = _picture_name(w.patient_id, index)
                mask = f"../png_masks/{name}"
                rows.append((f"{w.label}/{name}", w.label, w.patient_id, index, mask))
        columns = ("path", "label", "patient_id", "slice_index", "mask")
        _write_csv(out / "png" / "index.csv", columns, rows)


def _lesion_row(lesion: Lesion) -> tuple[object, ...]:
    slices = " ".join(map(str, lesion.slices))
    return lesion.lesion_id, lesion.kind, lesion.diameter_mm, slices


def _write_truth(
    out: Path, written: Sequence[Written], config: PhantomConfig, formats: Sequence[str]
) -> None:
    """Write what is true: a row per lesion, then the config, the copies and the provenance."""
    _write_csv(
        out / "truth.csv",
        ("patient_id", "lesion_id", "kind", "diameter_mm", "slices"),
        [(w.patient_id, *_lesion_row(lesion)) for w in written for lesion in w.lesions],
    )
    content = {
        "config": asdict(config),
        "formats": list(formats),
        "patients": [asdict(w) for w in written],
        "duplicates": [
            {"patient_id": w.patient_id, **asdict(c)} for w in written for c in w.copies
        ],
    }
    provenance = stamp("hepar.phantom.write_cohort", seed=config.seed)
    write_artefact(out / "truth.json", "phantom_truth", content, provenance)


def draw_contact_sheet(
    path: Path, patients: Iterable[PhantomPatient], columns: int = 8, tile: int = 256
) -> None:
    """Draw one row of slices for each patient, from the feet to the head, in soft-tissue window.

    Args:
        path: PNG to write.
        patients: whom to show.
        columns: most slices in a row, evenly picked.
        tile: pixels along each side of a slice.
    """
    rows = []
    for patient in patients:
        picks = np.linspace(0, len(patient.volume.voxels) - 1, columns)
        picks = np.unique(np.rint(picks).astype(int))
        tiles = [np.zeros((tile, tile), np.uint8) for _ in range(columns)]
        for k, index in enumerate(picks):
            picture = window_picture(patient.volume.voxels[index])
            small = cv2.resize(picture, (tile, tile), interpolation=cv2.INTER_AREA)
            tiles[k] = np.asarray(small, np.uint8)
        row = np.hstack(tiles)
        caption = f"{patient.patient_id} {patient.label} {patient.phase}"
        cv2.putText(row, caption, (6, tile - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 210, 1, cv2.LINE_AA)
        rows.append(row)
    if not rows:
        raise PhantomError("contact sheet: expected one patient or more, got none.")
    _write_png(path, np.vstack(rows))
