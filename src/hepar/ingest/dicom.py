"""DICOM series: headers of axial CT slices, and their order along the slice normal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hepar.config import IngestConfig
from hepar.data import Finding
from hepar.ingest.bounds import RefusedFileError, check_field, check_pixels
from hepar.ingest.dicom_file import Elements
from hepar.ingest.files import Entry, Listing, Source

__all__ = ["DicomHeader", "check_header", "order_series", "read_dicom_tree"]

T = TypeVar("T")

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MAX_TILT_DEGREES = 20.0
"""A gantry tilts by less; a coronal or sagittal series by much more."""

_SAME_MM = 0.01

_HU_TYPES = {"", "HU", "US"}
"""Rescale types of an original CT slice in HU; some converters write US, unspecified, for none."""


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """Of one CT slice: whose it is, where it lies and what its numbers mean.

    Attributes:
        sop_id: SOPInstanceUID.
        patient_id: PatientID, "" where it was removed.
        study_id: StudyInstanceUID.
        series_id: SeriesInstanceUID.
        acquisition: AcquisitionNumber, then InstanceNumber: which of two slices came first.
        rows: as stored.
        columns: as stored.
        orientation: direction cosines (6,) of a row and of a column in the patient.
        position: (3,) mm, of the first pixel.
        spacing_mm: (between rows, between columns); None where unknown.
        thickness_mm: SpacingBetweenSlices, else SliceThickness; 0 where unknown.
        is_hu: the numbers become HU by slope and intercept.
    """

    sop_id: str
    patient_id: str
    study_id: str
    series_id: str
    acquisition: tuple[float, float]
    rows: int
    columns: int
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    spacing_mm: tuple[float, float] | None
    thickness_mm: float
    is_hu: bool

    @property
    def normal(self) -> NDArray[np.float64]:
        """The slice normal (3,), pointing to the head."""
        normal = np.cross(self.orientation[:3], self.orientation[3:])
        return np.asarray(normal if normal[2] >= 0 else -normal)

    @property
    def is_transposed(self) -> bool:
        """True where stored rows run along the patient's front-to-back axis."""
        return abs(self.orientation[1]) > abs(self.orientation[0])

    @property
    def shown(self) -> tuple[int, int]:
        """(rows, columns) of the upright image."""
        size = (self.rows, self.columns)
        return size[::-1] if self.is_transposed else size

    def stand(self, pixels: NDArray[T]) -> NDArray[T]:  # type: ignore[type-var]
        """Return a stored (row, column) image with row 0 anterior, column 0 the patient's right."""
        along, down = self.orientation[:3], self.orientation[3:]
        if self.is_transposed:
            pixels, along, down = pixels.T, down, along
        if along[0] < 0:
            pixels = pixels[:, ::-1]
        if down[1] < 0:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)

    def lay(self, pixels: NDArray[T]) -> NDArray[T]:  # type: ignore[type-var]
        """Return an upright image as the file stores it: the reverse of `stand`."""
        along, down = self.orientation[:3], self.orientation[3:]
        if self.is_transposed:
            along, down = down, along
        if along[0] < 0:
            pixels = pixels[:, ::-1]
        if down[1] < 0:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels.T if self.is_transposed else pixels)


def read_dicom_tree(listing: Listing, config: IngestConfig) -> Source | None:  # noqa: ARG001
    """Return the DICOM files of a tree, whatever their names, or None where there are none."""
    paths = listing.of("dicom")
    return Source(listing.root, tuple(Entry(path) for path in paths)) if paths else None


def check_header(elements: Elements, config: IngestConfig) -> DicomHeader:
    """Return the header of a CT slice; a file that is none is refused, and says why.

    Raises:
        RefusedFileError: not CT, not an original axial slice, damaged or too large.
    """
    _check_use(elements)
    rows, columns = elements.integer("Rows"), elements.integer("Columns")
    check_pixels(rows, columns, config)
    if elements.integer("SamplesPerPixel", 1) != 1:
        raise RefusedFileError("colour", "expected one value a pixel, got colours.", "set-aside")
    orientation = tuple(elements.numbers("ImageOrientationPatient"))
    position = tuple(elements.numbers("ImagePositionPatient"))
    if len(orientation) != 6 or len(position) != 3 or not np.isfinite(orientation + position).all():
        raise RefusedFileError(
            "no-position", "expected ImagePositionPatient and ImageOrientationPatient, got none."
        )
    _check_axial(orientation)
    spacing = elements.numbers("PixelSpacing")
    known = len(spacing) == 2 and bool(np.isfinite(spacing).all()) and min(spacing) > 0
    if known:
        check_field(spacing, (rows, columns))
    slope, intercept = elements.numbers("RescaleSlope"), elements.numbers("RescaleIntercept")
    if slope and not (np.isfinite(slope[0]) and slope[0] != 0):
        raise RefusedFileError("corrupt", f"expected a RescaleSlope other than 0, got {slope[0]}.")
    thickness = elements.numbers("SpacingBetweenSlices") or elements.numbers("SliceThickness")
    order = [(elements.numbers(n) or [0.0])[0] for n in ("AcquisitionNumber", "InstanceNumber")]
    return DicomHeader(
        sop_id=elements.text("SOPInstanceUID"),
        patient_id=elements.text("PatientID"),
        study_id=elements.text("StudyInstanceUID"),
        series_id=elements.text("SeriesInstanceUID"),
        acquisition=(order[0], order[1]),
        rows=rows,
        columns=columns,
        orientation=orientation,
        position=position,
        spacing_mm=(spacing[0], spacing[1]) if known else None,
        thickness_mm=abs(thickness[0]) if thickness else 0.0,
        is_hu=bool(slope and intercept) and elements.text("RescaleType") in _HU_TYPES,
    )


def _check_use(elements: Elements) -> None:
    """Set aside what is not a single original CT slice."""
    modality, kind = elements.text("Modality"), elements.text("SOPClassUID")
    if modality != "CT":
        raise RefusedFileError(
            "modality", f"expected modality CT, got {modality or 'none'}.", "set-aside"
        )
    image_type = elements.text("ImageType").upper().split("\\")
    if "LOCALIZER" in image_type:
        raise RefusedFileError(
            "localizer", "expected an axial slice, got a localizer.", "set-aside"
        )
    lossy = elements.text("LossyImageCompression") == "01"
    derived = image_type[0] == "DERIVED" and not lossy
    if derived or "SECONDARY" in image_type[1:2] or kind.startswith(SECONDARY_CAPTURE):
        raise RefusedFileError(
            "derived", "expected an original image, got a derived or secondary one.", "set-aside"
        )
    frames = elements.numbers("NumberOfFrames")
    if kind == ENHANCED_CT or (frames and frames[0] > 1):
        raise RefusedFileError(
            "multi-frame",
            "expected a slice a file, got an enhanced multi-frame image. Convert it to single "
            "slices or NIfTI.",
        )


def _check_axial(orientation: tuple[float, ...]) -> None:
    normal = np.cross(orientation[:3], orientation[3:])
    length = float(np.linalg.norm(normal))
    if not 0.9 < length < 1.1:
        raise RefusedFileError("corrupt", "expected two perpendicular unit directions, got others.")
    tilt = float(np.degrees(np.arccos(min(1.0, abs(normal[2]) / length))))
    if tilt > MAX_TILT_DEGREES:
        raise RefusedFileError(
            "not-axial",
            f"expected an axial slice within {MAX_TILT_DEGREES:g} degrees, got a tilt of "
            f"{tilt:.0f} degrees.",
            "set-aside",
        )


def order_series(
    name: str,
    slices: Sequence[tuple[T, str, DicomHeader]],
    *,
    allow_gaps: bool,
    notes: list[Finding],
) -> tuple[list[tuple[T, str, DicomHeader]], float]:
    """Return the slices of one series from the feet up, each position once.

    Args:
        name: the series, as findings call it.
        slices: (anything, file name, header), in any order.
        allow_gaps: keep a series with missing slices, with a warning.
        notes: takes the findings.

    Returns:
        The slices in order, none where the series is refused, and their distance in mm, 0 where
        unknown.
    """
    slices = _largest_stack(name, sorted(slices, key=lambda one: one[2].acquisition), notes)
    normal = slices[0][2].normal
    ranked = sorted(
        ((float(np.dot(normal, one[2].position)), rank, one) for rank, one in enumerate(slices)),
        key=lambda item: item[:2],
    )
    kept: list[tuple[float, tuple[T, str, DicomHeader]]] = []
    for place, _, one in ranked:
        if kept and place - kept[-1][0] < _SAME_MM:
            message = f"expected one slice at {place:g} mm, got another one: {kept[-1][1][1]}."
            notes.append(Finding("repeated-position", one[1], message, "set-aside"))
        else:
            kept.append((place, one))
    places = np.array([place for place, _ in kept])
    ordered = [one for _, one in kept]
    if len(kept) < 2:
        return ordered, ordered[0][2].thickness_mm
    steps = np.diff(places)
    step = round(float(np.median(steps)), 6)
    if (np.abs(steps - step) > max(0.01 * step, _SAME_MM)).any():
        gaps = np.flatnonzero(steps >= 1.5 * step)
        at = int(gaps[0]) if gaps.size else int(np.argmax(np.abs(steps - step)))
        refused = gaps.size > 0 and not allow_gaps
        message = (
            f"expected even slice spacing of {step:g} mm within 1 %, got {steps[at]:g} mm between "
            f"{places[at]:g} and {places[at + 1]:g} mm"
        )
        if gaps.size:
            message += f"; {gaps.size} gap{'s' * (gaps.size > 1)} where slices are missing"
        message += ". Re-send the series or pass --allow-gaps." if refused else "."
        code = "missing-slices" if gaps.size else "uneven-spacing"
        notes.append(Finding(code, name, message, "refused" if refused else "warning"))
        if refused:
            return [], step
    return ordered, step


def _largest_stack(
    name: str, slices: Sequence[tuple[T, str, DicomHeader]], notes: list[Finding]
) -> list[tuple[T, str, DicomHeader]]:
    """Return the slices of the most common size and direction, copies of one image only once."""
    stacks: dict[tuple[object, ...], list[tuple[T, str, DicomHeader]]] = {}
    seen: dict[str, str] = {}
    for one in slices:
        _, file, header = one
        if header.sop_id and header.sop_id in seen:
            message = f"expected every image once, got a copy of {seen[header.sop_id]}."
            notes.append(Finding("copy", file, message, "set-aside"))
            continue
        seen[header.sop_id] = file
        direction = tuple(round(cosine, 2) + 0.0 for cosine in header.orientation)
        stacks.setdefault((header.rows, header.columns, direction), []).append(one)
    largest = max(stacks.values(), key=len)
    others = len(seen) - len(largest)
    if len(stacks) > 1:
        message = (
            f"expected slices of one size and direction, got {len(stacks)} kinds; "
            f"{others} slices outside the largest are left out."
        )
        notes.append(Finding("mixed-series", name, message, "set-aside"))
    return largest
