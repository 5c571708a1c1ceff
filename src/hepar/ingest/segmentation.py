"""DICOM segmentations: which segments are liver or lesion, and on which slices they lie."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import IngestConfig
from hepar.data import LESION, LIVER
from hepar.ingest.bounds import RefusedFileError, check_bytes, check_pixels
from hepar.ingest.dicom import DicomHeader
from hepar.ingest.dicom_file import read_elements
from hepar.ingest.files import IMPORT_LOCK

__all__ = ["Segmentation", "read_segmentation", "recent_segmentation"]

_LIVER_CODES = {"10200004", "T-62000"}
_LESION_CODES = {"4147007", "M-03000", "52988006", "M-01100", "108369006", "27925004"}
"""Liver; mass, lesion, neoplasm, nodule: in SNOMED CT and in the codes before it."""

_ORGAN = re.compile(r"^(whole |entire )?liver( parenchyma)?$")
_LESION_WORD = re.compile(r"lesion|tumou?r|mass|metasta|carcinoma|neoplas|nodule|\bhcc\b")
_LIVER_WORD = re.compile(r"liver|hepat|\bhcc\b")
_NEAR_MM = 0.1

_TAGS: list[Any] = [
    "Modality", "SegmentationType", "Rows", "Columns", "NumberOfFrames", "BitsAllocated",
    "BitsStored", "SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation",
    "SegmentSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "ReferencedSeriesSequence", "PixelData",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Plane:
    """Where frames lie: the slice they name, "" where none, and the place they say."""

    sop_id: str
    position: tuple[float, ...]
    orientation: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The liver and its lesions in a DICOM segmentation.

    Attributes:
        series_id: of the images it was drawn on, "" where it does not say.
        rows: as stored.
        columns: as stored.
        planes: where its frames lie.
        parts: of each plane, each tissue (LIVER or LESION) with its pixels, packed to bits.
    """

    series_id: str
    rows: int
    columns: int
    planes: tuple[_Plane, ...]
    parts: tuple[tuple[tuple[int, NDArray[np.uint8]], ...], ...]

    @property
    def tissues(self) -> set[int]:
        """Which of LIVER and LESION it shows."""
        return {tissue for parts in self.parts for tissue, _ in parts}

    def codes(self, plane: int) -> NDArray[np.uint8]:
        """Return a plane as stored (rows, columns) with 0, LIVER and LESION; lesions win.

        Args:
            plane: a place in `planes`; all is 0 on one beyond them, which stands for slices that
                the segmentation does not name.
        """
        codes = np.zeros(self.rows * self.columns, np.uint8)
        parts = self.parts[plane] if plane < len(self.parts) else ()
        for tissue, bits in sorted(parts, key=lambda part: part[0]):
            codes[np.unpackbits(bits, count=codes.size).view(bool)] = tissue
        return codes.reshape(self.rows, self.columns)

    def plane_of(self, header: DicomHeader) -> int | None:
        """Return the plane of a slice, one beyond the last where it has none.

        Returns:
            None where the segmentation is of another series.

        Raises:
            RefusedFileError: the plane that names the slice lies elsewhere, or is turned.
        """
        named = {plane.sop_id: index for index, plane in enumerate(self.planes) if plane.sop_id}
        if header.sop_id in named:
            if not _is_at(self.planes[named[header.sop_id]], header):
                raise RefusedFileError(
                    "mask",
                    "expected the frames of the segmentation on the pixels of their slices, got "
                    "others. Masks are never resampled.",
                )
            return named[header.sop_id]
        if not self.series_id or self.series_id != header.series_id:
            return None
        placed = (i for i, plane in enumerate(self.planes) if plane.position)
        return next((i for i in placed if _is_at(self.planes[i], header)), len(self.planes))


def _is_at(plane: _Plane, header: DicomHeader) -> bool:
    """Return True where a plane lies on a slice, as far as it says where it lies."""
    pairs = (
        (plane.position, header.position, _NEAR_MM),
        (plane.orientation, header.orientation, 1e-3),
    )
    return all(
        float(np.abs(np.subtract(said, known)).max()) < bound
        for said, known, bound in pairs
        if said
    )


def recent_segmentation(path: Path, config: IngestConfig) -> Segmentation:
    """Return a segmentation, and keep the last two, so that reading slice by slice is quick."""
    status = path.stat()
    return _kept(path, status.st_size, status.st_mtime_ns, config)


@functools.lru_cache(maxsize=2)
def _kept(path: Path, _size: int, _time: int, config: IngestConfig) -> Segmentation:
    return read_segmentation(path, config)


def read_segmentation(path: Path, config: IngestConfig) -> Segmentation:
    """Return the liver and its lesions in a DICOM segmentation; other segments are left out.

    A segment is liver by its code or by its name; it is a lesion where code or name say so and
    something says liver. Of names and identifiers of the patient nothing is read.

    Raises:
        RefusedFileError: it shows neither, is fractional, damaged or too large.
    """
    read_elements(path, config)  # bounds what a deflated file holds
    with IMPORT_LOCK:
        import pydicom

    try:
        data = pydicom.dcmread(path, specific_tags=_TAGS)
        kind = str(data.SegmentationType)
        tissues = {int(s.SegmentNumber): _tissue(s) for s in data.SegmentSequence}
    except Exception as error:  # noqa: BLE001  pydicom raises many kinds on damage
        raise RefusedFileError(
            "corrupt", f"expected a DICOM segmentation, got damage ({type(error).__name__})."
        ) from None
    if kind not in {"BINARY", "LABELMAP"}:
        raise RefusedFileError(
            "fractional", f"expected a binary segmentation or a label map, got {kind}."
        )
    if not any(tissues.values()):
        raise RefusedFileError(
            "no-liver",
            f"expected a segment that is liver or a lesion in it, got {len(tissues)} others.",
            "set-aside",
        )
    rows, columns, frames = int(data.Rows), int(data.Columns), int(data.NumberOfFrames)
    check_pixels(rows, columns, config)
    check_bytes(rows * columns * frames, config)
    try:
        return _assemble(data, kind, tissues)
    except Exception as error:  # noqa: BLE001
        raise RefusedFileError(
            "corrupt", f"expected a DICOM segmentation, got damage ({type(error).__name__})."
        ) from None


def _tissue(segment: Any) -> int:
    """Return what a segment is: LIVER, LESION or, for anything else, 0."""
    kinds = list(segment.SegmentedPropertyTypeCodeSequence)
    places = [*segment.get("AnatomicRegionSequence", ())]
    names = [str(segment.get("SegmentLabel", "")), *(str(k.CodeMeaning) for k in kinds)]
    names = [re.sub(r"[\s_-]+", " ", name).strip().lower() for name in names]
    codes = {str(kind.get("CodeValue", "")) for kind in kinds}
    where = {str(place.get("CodeValue", "")) for place in places}
    in_liver = bool((codes | where) & _LIVER_CODES) or any(map(_LIVER_WORD.search, names))
    if in_liver and (codes & _LESION_CODES or any(map(_LESION_WORD.search, names))):
        return LESION
    is_organ = bool(codes & _LIVER_CODES) or any(map(_ORGAN.match, names))
    return LIVER if is_organ else 0


def _assemble(data: Any, kind: str, tissues: Mapping[int, int]) -> Segmentation:
    pixels = data.pixel_array.reshape(-1, int(data.Rows), int(data.Columns))
    shared = data.SharedFunctionalGroupsSequence[0]
    planes: dict[_Plane, list[tuple[int, NDArray[np.uint8]]]] = {}
    for frame, group in zip(pixels, data.PerFrameFunctionalGroupsSequence, strict=True):
        own = planes.setdefault(_plane(group, shared), [])
        if kind == "LABELMAP":
            own += [
                (tissue, np.packbits(frame == number))
                for number, tissue in tissues.items()
                if tissue and (frame == number).any()
            ]
            continue
        said = _first(group, shared, "SegmentIdentificationSequence")
        if tissue := tissues[int(said.ReferencedSegmentNumber)]:
            own.append((tissue, np.packbits(frame != 0)))
    series = list(data.get("ReferencedSeriesSequence", ()))
    return Segmentation(
        str(series[0].SeriesInstanceUID) if len(series) == 1 else "",
        int(data.Rows),
        int(data.Columns),
        tuple(planes),
        tuple(map(tuple, planes.values())),
    )


def _first(group: Any, shared: Any, name: str) -> Any:
    """Return a functional group's only item, the frame's own or the shared one; None for none."""
    found = group.get(name) or shared.get(name)
    return found[0] if found else None


def _plane(group: Any, shared: Any) -> _Plane:
    derived = _first(group, shared, "DerivationImageSequence")
    sources = list(derived.get("SourceImageSequence", ())) if derived else []
    position = _first(group, shared, "PlanePositionSequence")
    orientation = _first(group, shared, "PlaneOrientationSequence")
    return _Plane(
        str(sources[0].ReferencedSOPInstanceUID) if len(sources) == 1 else "",
        tuple(map(float, position.ImagePositionPatient)) if position else (),
        tuple(map(float, orientation.ImageOrientationPatient)) if orientation else (),
    )
