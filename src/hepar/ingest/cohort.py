"""From entries to a manifest: files are looked at, then masks, labels and patients join."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from hepar.config import IngestConfig
from hepar.data import Finding, LabelSet, Manifest, Sample
from hepar.errors import IngestError
from hepar.ingest.bounds import RefusedFileError
from hepar.ingest.files import Entry, Source, name_of, sniff
from hepar.ingest.masks import (
    LIVER_FROM,
    MaskInfo,
    count_values,
    infer_mask_values,
    parse_mask_values,
    read_mask_picture,
)
from hepar.ingest.pictures import has_colour, read_picture
from hepar.progress import LOG, track
from hepar.provenance import sha256_file

__all__ = ["make_manifest"]

Looked = TypeVar("Looked")


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture file turned out to be."""

    rows: int
    columns: int
    coloured: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What a file turned out to be, and the hash of its bytes."""

    sha256: str
    found: Picture


@dataclass(frozen=True, slots=True)
class Draft:
    """A sample in the making.

    Attributes:
        sample: the row so far.
        stored: (rows, columns) as the file stores them.
        shown: (rows, columns) as a person reads them.
        depth: slices in its series.
    """

    sample: Sample
    stored: tuple[int, int]
    shown: tuple[int, int]
    depth: int = 1


def make_manifest(source: Source, config: IngestConfig, *, labelled: bool = True) -> Manifest:
    """Return the manifest of a source's entries.

    Args:
        source: from a reader.
        config: patients, labels, masks and bounds.
        labelled: False for prediction: labels and patient ids are then optional.

    Raises:
        IngestError: nothing usable is left, patient ids are unknown, or mask values are unclear.
    """
    notes = list(source.findings)
    looks = _look_at_all(
        [entry.path for entry in source.entries], "reading", source.root, notes,
        lambda path: _look(path, config),
    )  # fmt: skip
    pairs = [(entry, looks[entry.path]) for entry in source.entries if entry.path in looks]
    drafts = _picture_drafts(pairs, source.root, notes)
    drafts, values = _with_masks(drafts, source, config, notes)
    samples, known = _with_patients(
        [draft.sample for draft in drafts], source.root, config, labelled=labelled
    )
    if not samples:
        refused = Counter(note.code for note in notes if note.severity in {"refused", "set-aside"})
        what = ", ".join(f"{n} {code}" for code, n in refused.most_common()) or "no file"
        first = next((f" First: {note.where}: {note.message}" for note in notes), "")
        raise IngestError(f"{source.root}: expected usable CT images, got none ({what}).{first}")
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


def _look_at_all(
    paths: Iterable[Path],
    what: str,
    root: Path,
    notes: list[Finding],
    look: Callable[[Path], Looked],
) -> dict[Path, Looked]:
    """Look at every file once, in threads; one that cannot be used becomes a finding."""

    def safe(path: Path) -> Looked | Finding:
        try:
            return look(path)
        except RefusedFileError as error:
            return Finding(error.code, name_of(path, root), str(error), error.severity)
        except OSError as error:
            code = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
            message = f"expected a readable file, got: {error.strerror}."
            return Finding(code, name_of(path, root), message, "refused")

    unique = list(dict.fromkeys(paths))
    found: dict[Path, Looked] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for path, result in track(
            zip(unique, pool.map(safe, unique), strict=True), what, total=len(unique)
        ):
            if isinstance(result, Finding):
                notes.append(result)
            else:
                found[path] = result
    return found


def _look(path: Path, config: IngestConfig) -> Look:
    if sniff(path) != "picture":
        raise RefusedFileError(
            "not-an-image", "expected a picture, DICOM or NIfTI file, got something else.",
            "set-aside",
        )  # fmt: skip
    pixels = read_picture(path, config)
    found = Picture(pixels.shape[0], pixels.shape[1], has_colour(pixels))
    return Look(sha256_file(path), found)


def _picture_drafts(
    pairs: Iterable[tuple[Entry, Look]], root: Path, notes: list[Finding]
) -> list[Draft]:
    drafts = []
    for entry, look in pairs:
        name = name_of(entry.path, root)
        if look.found.coloured:
            notes.append(
                Finding("colour", name, "expected grey values, got colours; luminance is used.")
            )
        sample = Sample(
            sample_id=name,
            patient_id=entry.patient_id,
            path=name,
            label=entry.label,
            study_id=entry.study_id,
            series_id=entry.series_id,
            slice_index=entry.slice_index or 0,
            mask=name_of(entry.mask, root) if entry.mask else "",
            sha256=look.sha256,
            extra=entry.extra,
        )
        size = (look.found.rows, look.found.columns)
        drafts.append(Draft(sample, size, size))
    return drafts


def _look_at_mask(path: Path, config: IngestConfig) -> MaskInfo:
    codes = read_mask_picture(path, config)
    rows, columns = codes.shape
    return MaskInfo(sha256_file(path), rows, columns, (0,), (count_values(codes),))


def _with_masks(
    drafts: Sequence[Draft], source: Source, config: IngestConfig, notes: list[Finding]
) -> tuple[list[Draft], dict[str, int]]:
    """Join masks to samples; a sample whose mask is missing, damaged or of another size is refused."""  # noqa: E501
    root = source.root
    masks = _look_at_all(
        [root / draft.sample.mask for draft in drafts if draft.sample.mask], "masks", root, notes,
        lambda path: _look_at_mask(path, config),
    )  # fmt: skip
    if not masks:
        return [draft for draft in drafts if not draft.sample.mask], {}
    values = parse_mask_values(config.mask_values) or infer_mask_values(
        counts for info in masks.values() for counts in info.counts
    )
    if LIVER_FROM in values and not config.mask_values:
        notes.append(
            Finding(
                "smoothed-masks", "masks",
                f"expected two values, got a ramp to 255; values from {values[LIVER_FROM]} up "
                "are taken as liver.",
            )
        )  # fmt: skip
    kept = []
    for draft in drafts:
        info = masks.get(root / draft.sample.mask) if draft.sample.mask else None
        if info is not None and draft.stored != (info.rows, info.columns):
            message = (
                f"expected a mask of {draft.stored[0]} x {draft.stored[1]} pixels, got "
                f"{info.rows} x {info.columns} in {draft.sample.mask}. Masks are never resampled."
            )
            notes.append(Finding("mask-size", draft.sample.sample_id, message, "refused"))
        elif info is not None:
            kept.append(replace(draft, sample=replace(draft.sample, mask_sha256=info.sha256)))
        elif not draft.sample.mask:
            kept.append(draft)
        else:
            message = f"expected a usable mask, got none in {draft.sample.mask}."
            notes.append(Finding("no-mask", draft.sample.sample_id, message, "refused"))
    return kept, values


def _with_patients(
    samples: Sequence[Sample], root: Path, config: IngestConfig, *, labelled: bool
) -> tuple[list[Sample], bool]:
    try:
        pattern = re.compile(config.patient_pattern)
    except re.error as error:
        raise IngestError(
            f"patient_pattern {config.patient_pattern!r}: expected a regular expression, "
            f"got {error}."
        ) from None
    if config.patient_pattern and not pattern.groups:
        raise IngestError(
            f"patient_pattern {config.patient_pattern!r}: expected a group that is the patient_id, "
            "got none. Put it in parentheses, as in '(P[0-9]+)_'."
        )

    def identify(sample: Sample) -> Sample:
        match = pattern.search(sample.path) if config.patient_pattern else None
        return replace(sample, patient_id=match[1]) if match and match[1] else sample

    identified = [sample if sample.patient_id else identify(sample) for sample in samples]
    unknown = [sample.sample_id for sample in identified if not sample.patient_id]
    if unknown and labelled and not config.patients_unknown:
        raise IngestError(
            f"{root}: expected a patient_id for every sample, got none for {len(unknown)} "
            f"of {len(samples)} (first: {unknown[0]}). Slices of one person on both sides of a "
            "split make any model look right. Add a column patient_id, pass --patient-pattern, or go on "
            "with --patients-unknown and image-level folds."
        )
    own = [
        sample if sample.patient_id else replace(sample, patient_id=_stand_in(sample))
        for sample in identified
    ]
    return own, not unknown


def _stand_in(sample: Sample) -> str:
    """Return what stands for an unknown patient: what surely belongs to one person."""
    return sample.study_id or sample.series_id or sample.sample_id


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
        return LabelSet(tuple(name.strip() for name in config.label_order.split(",")))
    return LabelSet.infer(sample.label for sample in samples)
