"""Samples in the making: pictures one by one, DICOM series and NIfTI volumes slice by slice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hepar.data import Finding, Sample
from hepar.ingest.bounds import RefusedFileError, check_field
from hepar.ingest.dicom import DicomHeader, order_series
from hepar.ingest.looks import Look, Volume
from hepar.ingest.place import Place
from hepar.ingest.segmentation import Segmentation

__all__ = ["Draft", "make_drafts"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A sample in the making.

    Attributes:
        sample: the row so far.
        stored: (rows, columns) as the file stores them; (0, 0) in a volume, which only another
            volume can mask.
        shown: (rows, columns) as a person reads them.
        depth: slices in its series; 0 in a picture, which only a picture can mask.
        place: of a NIfTI volume, where it lies; None where the file is none.
        header: of a DICOM slice; None where the file is none.
    """

    sample: Sample
    stored: tuple[int, int]
    shown: tuple[int, int]
    depth: int = 0
    place: Place | None = None
    header: DicomHeader | None = None


def make_drafts(
    pairs: Iterable[tuple[Sample, Look]], notes: list[Finding], *, allow_gaps: bool
) -> list[Draft]:
    """Return the samples of looked-at files: a picture each, a series or volume slice by slice."""
    drafts: list[Draft] = []
    series: dict[tuple[str, str, str], list[tuple[Sample, str, DicomHeader]]] = {}
    for sample, look in pairs:
        found = look.found
        if isinstance(found, Segmentation):
            continue  # a mask of samples, and none itself
        if isinstance(found, DicomHeader):
            name = found.series_id or Path(sample.path).parent.as_posix()
            patient = sample.patient_id or found.patient_id
            key = (patient, sample.study_id or found.study_id, name)
            series.setdefault(key, []).append((sample, sample.path, found))
            continue
        if isinstance(found, Volume):
            drafts += _volume_drafts(sample, found, notes)
            continue
        if found.kind == "rgb":
            sample = replace(sample, kind="rgb")
        elif found.coloured:
            message = "expected grey values, got colours; their luminance is used."
            notes.append(Finding("colour", sample.path, message))
        size = (found.rows, found.columns)
        drafts.append(Draft(sample, size, size))
    for (_, _, name), slices in series.items():
        if not all(header.is_hu for _, _, header in slices):
            why = "expected rescale slope and intercept to HU, got none; grey values are a picture."
            notes.append(Finding("not-hu", name, why))
        ordered, step = order_series(name, slices, allow_gaps=allow_gaps, notes=notes)
        if not _is_scaled(name, [header for _, _, header in ordered], step, notes):
            continue
        drafts += [
            _dicom_draft(sample, header, index, step, len(ordered))
            for index, (sample, _, header) in enumerate(ordered)
        ]
    return drafts


def _is_scaled(
    name: str, headers: Sequence[DicomHeader], step: float, notes: list[Finding]
) -> bool:
    """Return whether a series can be used, and note what is odd about its size in mm."""
    bare = sum(header.spacing_mm is None for header in headers)
    if bare:
        message = (
            f"expected PixelSpacing above 0 mm, got none in {bare} of {len(headers)} slices; sizes "
            "in mm are guessed, as those of pictures are."
        )
        notes.append(Finding("no-spacing", name, message))
    elif headers and step > 0:
        try:
            spacing = headers[0].spacing_mm or (1.0, 1.0)
            check_field((step, *spacing), (len(headers), *headers[0].shown))
        except RefusedFileError as error:
            notes.append(Finding(error.code, name, str(error), error.severity))
            return False
    return True


def _volume_drafts(sample: Sample, volume: Volume, notes: list[Finding]) -> list[Draft]:
    if not volume.has_orientation:
        message = "expected an orientation in the header, got none; the file's axes are trusted."
        notes.append(Finding("no-orientation", sample.path, message))
    if sample.label and not sample.mask:
        message = f"no liver mask, so all {volume.shape[0]} slices carry the volume's label."
        notes.append(Finding("whole-volume", sample.path, message))
    depth, rows, columns = volume.shape
    return [
        Draft(
            replace(
                sample,
                sample_id=f"{sample.path}#{frame}",
                kind="hu",
                frame=frame,
                series_id=sample.series_id or sample.path,
                slice_index=index,
                spacing_mm=volume.spacing_mm,
            ),
            stored=(0, 0),
            shown=(rows, columns),
            depth=depth,
            place=volume.place,
        )
        for index, frame in enumerate(volume.frames)
    ]


def _dicom_draft(sample: Sample, header: DicomHeader, index: int, step: float, depth: int) -> Draft:
    spacing = None
    if header.spacing_mm and step > 0:
        rows, columns = header.spacing_mm[:: -1 if header.is_transposed else 1]
        spacing = (step, rows, columns)
    size = (header.rows, header.columns)
    full = replace(
        sample,
        patient_id=sample.patient_id or header.patient_id,
        study_id=sample.study_id or header.study_id,
        series_id=sample.series_id or header.series_id,
        slice_index=index,
        kind="hu" if header.is_hu else "picture",
        spacing_mm=spacing,
    )
    return Draft(full, size, header.shown, depth, header=header)
