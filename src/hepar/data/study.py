"""The row of a manifest, and what ingest noticed about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Finding", "Kind", "Sample", "Unit"]

Kind = Literal["hu", "picture", "rgb"]

Unit = Literal["patient", "group", "image"]
"""What a patient_id stands for: a patient; where patient ids are unknown, a group of images that
look like one patient's; or where that is unknown, too, one image."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a network sees once: a slice, a tile, or with `slices` a whole series of slices.

    Attributes:
        sample_id: unique in the manifest: `path`, or `path#frame` in a file of many slices.
        patient_id: the person; the unit of splitting, of resampling and of the interval.
        path: the file, relative to the manifest's root, with forward slashes.
        label: the reference standard's verdict on this sample; "" where it is unknown.
        kind: "hu" for calibrated Hounsfield units, "picture" for 8- or 16-bit grey values, "rgb"
            for stained tiles in colour.
        frame: index of the slice inside its file, as the file stores it; 0 in single-slice files.
        study_id: one visit; "" where unknown.
        series_id: one acquisition, or one slide; "" where unknown.
        slice_index: rank along the slice normal inside the series, 0 = lowest (towards the feet).
        mask: file of the liver mask, relative to the root; "" where there is none.
        mask_frame: index of the mask's slice inside its file, as the file stores it.
        spacing_mm: (z, y, x) voxel size in mm; None where unknown.
        sha256: of the file's bytes.
        mask_sha256: of the mask file's bytes; "" where there is none.
        extra: the source table's other columns, kept as text.
        slices: of a series that is one sample, from the feet up; empty for a slice.
    """

    sample_id: str
    patient_id: str
    path: str
    label: str = ""
    kind: Kind = "picture"
    frame: int = 0
    study_id: str = ""
    series_id: str = ""
    slice_index: int = 0
    mask: str = ""
    mask_frame: int = 0
    spacing_mm: tuple[float, float, float] | None = None
    sha256: str = ""
    mask_sha256: str = ""
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)
    slices: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a person should know about the data: refused, set aside, repaired or odd.

    Attributes:
        code: a short stable word, such as "corrupt", "localizer", "uneven-spacing".
        where: the file, series or patient_id it is about; never a name, birth date or accession
            number.
        message: one line in the form of an error message.
        severity: "refused" (the file or series is not used), "set-aside" (not meant for this use),
            "warning" (used, with care) or "note".
    """

    code: str
    where: str
    message: str
    severity: Literal["refused", "set-aside", "warning", "note"] = "warning"
