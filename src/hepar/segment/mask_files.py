"""Masks go back to disk beside the source they were made for: NIfTI and DICOM SEG."""

from __future__ import annotations

import gzip
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import IngestConfig
from hepar.data import LESION, Manifest, Sample
from hepar.errors import SegmentError
from hepar.ingest import read_datasets, read_grid
from hepar.provenance import atomic_writer, package_version, write_atomic

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.dataset import Dataset

__all__ = ["by_series", "write_dicom_seg", "write_masks", "write_nifti", "write_values"]

Mask = NDArray[np.uint8]

_SERIES_NUMBER = 900
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PixelSpacing")
_LESION_CODE = ("4147007", "Mass")
_LIVER_CODE = ("10200004", "Liver")


def write_masks(
    folder: Path,
    manifest: Manifest,
    masks: Sequence[Mask],
    kind: str = "nifti",
    *,
    algorithm: str = "hepar",
    taken: Sequence[Path] = (),
) -> list[Path]:
    """Write a mask file per series of a manifest.

    A file is called after its NIfTI volume (`liver_1.nii.gz` gives `liver_1_mask.nii.gz`, which
    `hepar ingest` finds beside it), else after its patient.

    Args:
        folder: made if missing.
        manifest: the samples the masks are of.
        masks: (y, x) of every sample, in the manifest's order, with 0, LIVER and LESION.
        kind: "nifti" or "dicom-seg".
        algorithm: what made them, for DICOM SEG.
        taken: files that are there already, whose names are not given twice.

    Returns:
        The files, in the order of the series.

    Raises:
        SegmentError: the kind is unknown, masks do not fit the samples, or a package is missing.
        IngestError: a source file is missing, damaged or of another kind.
    """
    if kind not in {"nifti", "dicom-seg"}:
        raise SegmentError(f"mask files: expected nifti or dicom-seg, got {kind!r}.")
    if len(masks) != len(manifest):
        raise SegmentError(
            f"mask files: expected a mask for each of {len(manifest)} samples, got {len(masks)}."
        )
    rows = {sample.sample_id: row for row, sample in enumerate(manifest.samples)}
    written: list[Path] = []
    for samples in by_series(manifest):
        planes = [masks[rows[sample.sample_id]] for sample in samples]
        if len({plane.shape for plane in planes}) > 1:
            raise SegmentError(
                f"mask of series {_name(samples[0])}: expected slices of one size, got several. "
                "Give pictures of several sizes a series_id each."
            )
        stem = _free(samples[0], [*taken, *written])
        if kind == "nifti":
            path = folder / f"{stem}.nii.gz"
            write_nifti(path, np.stack(planes), manifest, samples)
        else:
            path = folder / f"{stem}.dcm"
            write_dicom_seg(path, np.stack(planes), manifest, samples, algorithm=algorithm)
        written.append(path)
    return written


def by_series(manifest: Manifest) -> list[list[Sample]]:
    """Return the samples of each series, from the feet up; pictures without one by patient."""
    series: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in manifest.samples:
        key = (sample.patient_id, sample.study_id, sample.series_id)
        series.setdefault(key, []).append(sample)
    return [sorted(one, key=lambda s: s.slice_index) for one in series.values()]


def write_nifti(
    path: Path,
    mask: Mask,
    manifest: Manifest,
    samples: Sequence[Sample],
    config: IngestConfig | None = None,
) -> None:
    """Write the mask of one series as NIfTI, on the source's own voxels.

    A mask of a NIfTI volume has its shape, axis order and affine. One of a DICOM series runs along
    x, y and z of the patient, with an empty level where a slice is missing. One of pictures lies at
    0 mm: its place in the patient is unknown, its sides are not.

    Args:
        path: `.nii.gz`, or `.nii` for an uncompressed file.
        mask: (n, y, x) with 0, LIVER and LESION, of every sample.
        manifest: says where the source's files lie.
        samples: of one series, from the feet up.
        config: the bounds a source file must keep; None for the default ones.

    Raises:
        SegmentError: the mask does not fit the samples.
        IngestError: a source file is missing, damaged or of another size, or the slices lie too
            unevenly for NIfTI.
    """
    _check(mask, samples)
    write_values(path, mask, manifest, samples, config)


def write_values(
    path: Path,
    values: NDArray[np.uint8 | np.float32],
    manifest: Manifest,
    samples: Sequence[Sample],
    config: IngestConfig | None = None,
) -> None:
    """Write a value for each voxel of a series, such as a heat map, as `write_nifti` a mask.

    Args:
        path: `.nii.gz`, or `.nii` for an uncompressed file.
        values: (n, y, x), of every sample.
        manifest: says where the source's files lie.
        samples: of one series, from the feet up.
        config: the bounds a source file must keep; None for the default ones.

    Raises:
        IngestError: a source file is missing, damaged or of another size, or the slices lie too
            unevenly for NIfTI.
    """
    import nibabel

    grid = read_grid(manifest, samples, (values.shape[1], values.shape[2]), config)
    stored = grid.lay(values)
    sides = np.linalg.norm(grid.affine[:3, :3], axis=0)
    if grid.is_placed:
        image = nibabel.Nifti1Image(stored, grid.affine)  # type: ignore[no-untyped-call]
        image.set_sform(grid.affine, code=1)  # type: ignore[no-untyped-call]
        image.set_qform(grid.affine, code=1, strip_shears=True)  # type: ignore[no-untyped-call]
        if not np.allclose(image.get_qform(), grid.affine, atol=1e-3):  # type: ignore[no-untyped-call]
            image.set_qform(None, code=0)  # type: ignore[no-untyped-call]
    else:
        image = nibabel.Nifti1Image(stored, None)  # type: ignore[no-untyped-call]
        image.header.set_zooms(sides)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    data = image.to_bytes()
    write_atomic(path, gzip.compress(data, 6, mtime=0) if path.suffix == ".gz" else data)


def write_dicom_seg(
    path: Path,
    mask: Mask,
    manifest: Manifest,
    samples: Sequence[Sample],
    *,
    algorithm: str = "hepar",
) -> None:
    """Write the mask of one DICOM series as a DICOM segmentation that refers to its slices.

    Two binary segments: "Liver", the organ with its lesions, and "Liver lesion", left out where no
    voxel has one. Frames without a voxel are left out, too.

    **The file names the patient.** As the standard asks, it carries the patient, study and frame of
    reference modules of the source images as they are: name, birth date and accession number, if
    the source has them. De-identify the source first, or treat the file as the source is treated.

    Args:
        path: `.dcm`.
        mask: (n, y, x) with 0, LIVER and LESION, of every sample.
        manifest: says where the source's files lie.
        samples: of one DICOM series, from the feet up.
        algorithm: what made the mask, such as "hepar liver-unet".

    Raises:
        SegmentError: the extra [dicom-seg] is missing, the mask does not fit the samples, or the
            source lacks what a segmentation must repeat.
        IngestError: a source file is missing, damaged or no DICOM.

    Source:
        DICOM PS3.3 A.51, Segmentation IOD; PS3.16 CID 7150, 7159 and 7166 for the codes.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise SegmentError(
            "DICOM SEG: expected the package highdicom, got none. pip install 'hepar[dicom-seg]'."
        ) from None

    _check(mask, samples)
    found = read_datasets(manifest, samples)
    sources = [dataset for dataset, _ in found]
    for dataset in sources:
        if not dataset.get("SpecificCharacterSet"):  # empty is the default repertoire, as is none
            dataset.pop("SpecificCharacterSet", None)
    planes = [header.lay(plane) for (_, header), plane in zip(found, mask, strict=True)]
    if len({plane.shape for plane in planes}) > 1 or found[0][1].shown != mask.shape[1:]:
        raise SegmentError(
            f"mask of series {_name(samples[0])}: expected {found[0][1].shown} pixels, got "
            f"{mask.shape[1:]}. Masks are never resampled."
        )
    stored = np.stack(planes)
    missing = [keyword for keyword in _NEEDED if not all(one.get(keyword) for one in sources)]
    if missing:
        raise SegmentError(
            f"mask of series {_name(samples[0])}: expected a source that DICOM SEG can refer to, "
            f"got one without {', '.join(missing)}. Write NIfTI instead."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # highdicom's say the patient's name
        dataset = _segmentation(sources, stored, algorithm, _name(samples[0]))
    with atomic_writer(path) as stream:
        dataset.save_as(stream)


def _segmentation(
    sources: Sequence[Dataset], stored: Mask, algorithm: str, name: str
) -> Segmentation:
    """Return the data set: a mask (n, row, column) as stored, of the images it was made from."""
    from highdicom.seg import Segmentation, SegmentationTypeValues

    segments = [stored > 0, stored == LESION] if (stored == LESION).any() else [stored > 0]
    version = package_version()
    source = str(sources[0].SeriesInstanceUID)
    try:
        return Segmentation(
            source_images=sources,
            pixel_array=np.stack(segments, axis=-1).astype(np.uint8),
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=_descriptions(algorithm, version)[: len(segments)],
            series_instance_uid=_uid("series", source, algorithm, version),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=_uid("mask", source, algorithm, version, stored.tobytes()),
            instance_number=1,
            manufacturer="hepar",
            manufacturer_model_name=algorithm,
            software_versions=version,
            device_serial_number="none",
            series_description=f"Liver mask by {algorithm}"[:64],
            content_label="LIVER",
            omit_empty_frames=bool(stored.any()),
        )
    except (AttributeError, ValueError, TypeError, KeyError) as error:
        # only an AttributeError's text is sure to hold no value of the patient's
        why = str(error) if isinstance(error, AttributeError) else type(error).__name__
        raise SegmentError(
            f"mask of series {name}: expected a source that DICOM SEG can refer to, got {why}. "
            "Write NIfTI instead."
        ) from None


def _descriptions(algorithm: str, version: str) -> list[SegmentDescription]:
    """Return what the two segments are and what made them."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from pydicom.sr.coding import Code

    made_by = AlgorithmIdentificationSequence(
        name=algorithm,
        family=Code("123109", "DCM", "Artificial Intelligence"),
        version=version,
    )
    liver = Code(_LIVER_CODE[0], "SCT", _LIVER_CODE[1])
    common: dict[str, Any] = {
        "algorithm_type": SegmentAlgorithmTypeValues.AUTOMATIC,
        "algorithm_identification": made_by,
        "tracking_uid": None,
    }
    return [
        SegmentDescription(
            segment_number=1,
            segment_label="Liver",
            segmented_property_category=Code("123037004", "SCT", "Anatomical Structure"),
            segmented_property_type=liver,
            **common,
        ),
        SegmentDescription(
            segment_number=2,
            segment_label="Liver lesion",
            segmented_property_category=Code(
                "49755003", "SCT", "Morphologically Altered Structure"
            ),
            segmented_property_type=Code(_LESION_CODE[0], "SCT", _LESION_CODE[1]),
            anatomic_regions=[liver],
            **common,
        ),
    ]


def _uid(*parts: str | bytes) -> str:
    """Return a UID that depends on nothing but its parts."""
    import hashlib

    from pydicom.uid import generate_uid

    hashes = [hashlib.sha256(p if isinstance(p, bytes) else p.encode()).hexdigest() for p in parts]
    return generate_uid(entropy_srcs=["hepar", *hashes])


def _check(mask: Mask, samples: Sequence[Sample]) -> None:
    """Refuse a mask that is not one of these samples."""
    if not samples:
        raise SegmentError("mask files: expected samples of a series, got none.")
    name = _name(samples[0])
    if mask.ndim != 3 or len(mask) != len(samples) or mask.dtype != np.uint8:
        raise SegmentError(
            f"mask of series {name}: expected ({len(samples)}, y, x) uint8, got {mask.shape} "
            f"{mask.dtype}."
        )
    if mask.max() > LESION:
        raise SegmentError(
            f"mask of series {name}: expected 0, 1 (liver) and 2 (lesion), got {mask.max()}."
        )


def _name(sample: Sample) -> str:
    return sample.series_id or sample.patient_id


def _free(sample: Sample, taken: Sequence[Path]) -> str:
    """Return a file's stem, safe on any system and not taken yet."""
    name = Path(sample.path).name
    volume = re.sub(r"\.nii(\.gz)?$", "", name, flags=re.IGNORECASE)
    wanted = volume if volume != name else sample.patient_id
    wanted = re.sub(r"[^A-Za-z0-9._-]+", "_", wanted).strip(".") or "series"
    names = {path.name.partition("_mask.")[0].lower() for path in taken}
    stem, number = wanted, 1
    while stem.lower() in names:
        number += 1
        stem = f"{wanted}_{number}"
    return f"{stem}_mask"
