"""From entries to a manifest: files are looked at, then masks, labels and patients join."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from hepar.config import IngestConfig
from hepar.data import Finding, LabelSet, Manifest, Sample
from hepar.errors import IngestError
from hepar.ingest.dicom import DicomHeader, order_series
from hepar.ingest.files import Entry, Listing, Source, name_of
from hepar.ingest.labels import find_labels_table, join_labels
from hepar.ingest.looks import Look, Volume, look_at, look_at_all, look_at_mask
from hepar.ingest.masks import (
    LIVER_FROM,
    MaskInfo,
    infer_mask_values,
    join_mask_values,
    parse_mask_values,
    tissue_pixels,
    values_for,
)
from hepar.ingest.patients import check_patients, patient_finder, unmatched
from hepar.progress import LOG

__all__ = ["make_manifest"]

Looked = TypeVar("Looked")


@dataclass(frozen=True, slots=True)
class Draft:
    """A sample in the making.

    Attributes:
        sample: the row so far.
        stored: (rows, columns) as the file stores them; (0, 0) in a volume, which only another
            volume can mask.
        shown: (rows, columns) as a person reads them.
        depth: slices in its series; 0 in a picture, which only a picture can mask.
        corners: of a NIfTI volume with orientation, where it lies; else empty.
    """

    sample: Sample
    stored: tuple[int, int]
    shown: tuple[int, int]
    depth: int = 0
    corners: tuple[tuple[float, ...], ...] = ()


def make_manifest(source: Source, config: IngestConfig, *, labelled: bool = True) -> Manifest:
    """Return the manifest of a source's entries.

    Args:
        source: from a reader.
        config: patients, labels, masks and bounds.
        labelled: False for prediction: labels and patient ids are then optional.

    Raises:
        IngestError: nothing usable is left, patient ids are unknown, or mask values are unclear.
    """
    find = patient_finder(config)
    notes = list(source.findings)
    entries = [one for entry in source.entries for one in _files_of(entry)]
    unnamed = [name_of(one.path, source.root) for one in entries if not one.patient_id]
    notes += unmatched(unnamed, find, config)
    if labelled and config.label_order:
        LabelSet.parse(config.label_order).check(entry.label for entry in entries)
    looks = look_at_all(
        [entry.path for entry in entries], "reading", source.root, notes,
        lambda path: look_at(path, config),
    )  # fmt: skip
    pairs = [
        (_sample(entry, looks[entry.path], source.root, find), looks[entry.path])
        for entry in entries
        if entry.path in looks
    ]
    allow_gaps = config.allow_gaps or source.chosen or not labelled
    drafts = _drafts(pairs, notes, allow_gaps=allow_gaps)
    drafts = _without_control_characters(drafts, notes)
    drafts = _with_labels(drafts, source, config, notes)
    named = [entry.label for entry in source.entries] + [draft.sample.label for draft in drafts]
    drafts, values = _with_masks(drafts, source, config, notes)
    found = [draft.sample for draft in drafts]
    notes += _lost_labels(named, found, notes)
    known = all(sample.patient_id for sample in found)
    samples = check_patients(found, source.root, config, labelled=labelled)
    if not samples:
        raise IngestError(f"{source.root}: expected usable CT images, got none {_reasons(notes)}")
    if labelled:
        notes += _unlabelled(samples)
    for note in notes:
        LOG.info("%s: %s: %s", note.severity, note.where, note.message)
    return Manifest(
        samples=tuple(samples),
        labels=_label_set(samples, config),
        root=source.root,
        patients_known=known,
        mask_values=values,
        flip_vertical=config.flip_vertical,
        findings=tuple(notes),
    )


_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def _without_control_characters(drafts: Sequence[Draft], notes: list[Finding]) -> list[Draft]:
    """Return the drafts whose names stay on one line; the others are refused."""
    kept = []
    for draft in drafts:
        sample = draft.sample
        names = (sample.path, sample.patient_id, sample.study_id, sample.series_id, sample.label)
        odd = next((name for name in names if _CONTROL.search(name)), "")
        if odd:
            message = f"expected names without control characters, got {odd!r}. Rename it."
            notes.append(Finding("control-character", ascii(sample.path), message, "refused"))
        else:
            kept.append(draft)
    return kept


def _lost_labels(
    named: Iterable[str], kept: Iterable[Sample], notes: Sequence[Finding]
) -> list[Finding]:
    """Return a finding for each label of which no sample is left."""
    counts = Counter(label for label in named if label)
    lost = sorted(set(counts) - {sample.label for sample in kept})
    return [
        Finding(
            "label-lost",
            f"label {label}",
            f"expected samples labelled {label!r}, got none usable {_reasons(notes)}",
        )
        for label in lost
    ]


def _reasons(notes: Sequence[Finding]) -> str:
    """Return how many of what were refused or set aside, and the first of them in full."""
    order = ("refused", "set-aside")
    gone = sorted((note for note in notes if note.severity in order), key=lambda n: n.severity)
    counts = Counter(note.code for note in gone)
    what = ", ".join(f"{n} {code}" for code, n in counts.most_common()) or "no file"
    return f"({what})." + (f" First: {gone[0].where}: {gone[0].message}" if gone else "")


def _files_of(entry: Entry) -> list[Entry]:
    """Return an entry's files: itself, or the DICOM files of the folder it names."""
    if not entry.path.is_dir():
        return [entry]
    return [replace(entry, path=path, slice_index=None) for path in Listing(entry.path).of("dicom")]


def _sample(entry: Entry, look: Look, root: Path, find_patient: Callable[[str], str]) -> Sample:
    name = name_of(entry.path, root)
    return Sample(
        sample_id=name,
        patient_id=entry.patient_id or find_patient(name),
        path=name,
        label=entry.label,
        study_id=entry.study_id,
        series_id=entry.series_id,
        slice_index=entry.slice_index or 0,
        mask=name_of(entry.mask, root) if entry.mask else "",
        sha256=look.sha256,
        extra=entry.extra,
    )


def _drafts(
    pairs: Iterable[tuple[Sample, Look]], notes: list[Finding], *, allow_gaps: bool
) -> list[Draft]:
    drafts: list[Draft] = []
    series: dict[tuple[str, str, str], list[tuple[Sample, str, DicomHeader]]] = {}
    for sample, look in pairs:
        found = look.found
        if isinstance(found, DicomHeader):
            name = found.series_id or Path(sample.path).parent.as_posix()
            patient = sample.patient_id or found.patient_id
            key = (patient, sample.study_id or found.study_id, name)
            series.setdefault(key, []).append((sample, sample.path, found))
            continue
        if isinstance(found, Volume):
            drafts += _volume_drafts(sample, found, notes)
            continue
        if found.coloured:
            message = "expected grey values, got colours; their luminance is used."
            notes.append(Finding("colour", sample.path, message))
        size = (found.rows, found.columns)
        drafts.append(Draft(sample, size, size))
    for (_, _, name), slices in series.items():
        if not all(header.is_hu for _, _, header in slices):
            why = "expected rescale slope and intercept to HU, got none; grey values are a picture."
            notes.append(Finding("not-hu", name, why))
        ordered, step = order_series(name, slices, allow_gaps=allow_gaps, notes=notes)
        drafts += [
            _dicom_draft(sample, header, index, step, len(ordered))
            for index, (sample, _, header) in enumerate(ordered)
        ]
    return drafts


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
            corners=volume.corners,
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
    return Draft(full, size, size[::-1] if header.is_transposed else size, depth)


def _with_masks(
    drafts: Sequence[Draft], source: Source, config: IngestConfig, notes: list[Finding]
) -> tuple[list[Draft], dict[str, int]]:
    """Join masks to samples; a sample whose mask is missing, damaged or of another size is refused."""  # noqa: E501
    root = source.root
    masks = look_at_all(
        [root / draft.sample.mask for draft in drafts if draft.sample.mask], "masks", root, notes,
        lambda path: look_at_mask(path, config),
    )  # fmt: skip
    if not masks:
        return [draft for draft in drafts if not draft.sample.mask], {}
    values = parse_mask_values(config.mask_values) or join_mask_values(
        *(_inferred(masks.values(), is_volume=is_volume) for is_volume in (False, True))
    )
    if any(name.endswith(LIVER_FROM) for name in values) and not config.mask_values:
        notes.append(
            Finding(
                "smoothed-masks", "masks",
                "expected two values, got a ramp to 255; values from 128 up are taken as liver.",
            )
        )  # fmt: skip
    kept: list[Draft] = []
    refused: dict[str, str] = {}
    outside: Counter[str] = Counter()
    for draft in drafts:
        info = masks.get(root / draft.sample.mask) if draft.sample.mask else None
        if info is None and not draft.sample.mask:
            kept.append(draft)
        elif info is None:
            refused[draft.sample.path] = f"expected a mask, got none usable: {draft.sample.mask}."
        elif _mask_shape(draft, info) != info.shape:
            refused[draft.sample.path] = (
                f"expected a mask of {_mask_shape(draft, info)} pixels, got {info.shape} in "
                f"{draft.sample.mask}. Masks are never resampled."
            )
        elif apart := _apart(draft, info):
            refused[draft.sample.path] = (
                f"expected the mask where the image is, got {apart} in {draft.sample.mask}. "
                "Resample it onto the image, or correct its affine."
            )
        else:
            own = values_for(values, is_volume=info.is_volume)
            masked = _masked(draft.sample, info, own)
            if masked is None:
                outside[draft.sample.mask] += 1
            else:
                kept.append(replace(draft, sample=masked))
    notes += [Finding("mask", path, why, "refused") for path, why in refused.items()]
    notes += [
        Finding(
            "no-liver", path, f"{n} slices show no liver in this mask and are left out.", "note"
        )
        for path, n in outside.items()
    ]
    return kept, values


def _inferred(masks: Iterable[MaskInfo], *, is_volume: bool) -> dict[str, int]:
    """Return what the masks of one kind mean, {} where there are none."""
    chosen = [info for info in masks if info.is_volume == is_volume]
    return infer_mask_values(c for info in chosen for c in info.counts) if chosen else {}


def _apart(draft: Draft, info: MaskInfo) -> str:
    """Return how far a mask volume lies from its image volume, "" within half a voxel."""
    if not draft.corners or not info.corners:
        return ""
    pairs = zip(draft.corners, info.corners, strict=True)
    distance = max(math.dist(one, other) for one, other in pairs)
    spacing = draft.sample.spacing_mm or (1.0,)
    return f"it {distance:.1f} mm away" if distance > 0.5 * min(spacing) else ""


def _mask_shape(draft: Draft, info: MaskInfo) -> tuple[int, ...]:
    """Return the shape a mask of this kind must have."""
    if info.is_volume and draft.depth:
        return (draft.depth, *draft.shown)
    return draft.stored if draft.stored != (0, 0) else (draft.depth, *draft.shown)


def _masked(sample: Sample, info: MaskInfo, values: Mapping[str, int]) -> Sample | None:
    """Return a sample with its mask, None for a slice that a mask volume shows to lack liver."""
    place = sample.slice_index if info.is_volume else 0
    liver, lesion = tissue_pixels(info.counts[place], values)
    counted = {"liver_px": str(liver + lesion), "lesion_px": str(lesion)}
    sample = replace(sample, mask_sha256=info.sha256, extra={**sample.extra, **counted})
    if not info.is_volume:
        return sample
    if not liver + lesion:
        return None
    label = sample.label
    if not label and "lesion" in values:
        label = "tumour" if lesion else "no_tumour"
    frame = info.frames[sample.slice_index]
    return replace(sample, label=label, mask_frame=frame)


def _with_labels(
    drafts: Sequence[Draft], source: Source, config: IngestConfig, notes: list[Finding]
) -> list[Draft]:
    """Join the labels table, where one is named, or lies in a source that names no label itself."""
    table = find_labels_table(source.root, config)
    labelled = any(entry.label for entry in source.entries)
    if table is None or (not config.labels_csv and (labelled or source.chosen)):
        return list(drafts)
    LOG.info("%s: read as the labels of this source", table)
    samples, findings = join_labels([one.sample for one in drafts], table, source.root, config)
    masks = {sample.mask for sample in samples}
    notes[:] = [note for note in notes if note.code != "other-format" or note.where not in masks]
    notes += findings
    return [replace(draft, sample=sample) for draft, sample in zip(drafts, samples, strict=True)]


def _unlabelled(samples: Iterable[Sample]) -> list[Finding]:
    counts = Counter(sample.patient_id for sample in samples if not sample.label)
    if len(counts) > 20:
        message = (
            f"expected a label, got none for {counts.total()} samples of {len(counts)} patients."
        )
        return [Finding("unlabelled", "cohort", message)]
    return [
        Finding("unlabelled", patient, f"expected a label, got none for {n} samples.")
        for patient, n in counts.items()
    ]


def _label_set(samples: Iterable[Sample], config: IngestConfig) -> LabelSet:
    if config.label_order:
        return LabelSet.parse(config.label_order)
    return LabelSet.infer(sample.label for sample in samples)
