"""Masks join the samples they belong to, or say why they cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hepar.config import IngestConfig
from hepar.data import LESION, Finding, Sample
from hepar.ingest.bounds import RefusedFileError
from hepar.ingest.drafts import Draft
from hepar.ingest.grid import upright_plane
from hepar.ingest.looks import look_at_all, look_at_mask
from hepar.ingest.masks import (
    DRAWN_VALUES,
    LIVER_FROM,
    MaskInfo,
    infer_mask_values,
    join_mask_values,
    parse_mask_values,
    tissue_pixels,
    values_for,
)
from hepar.ingest.place import MAX_APART, apart
from hepar.ingest.segmentation import Segmentation
from hepar.words import counted

__all__ = ["doubtful_masks", "join_masks", "with_segmentations"]


def with_segmentations(
    drafts: Sequence[Draft], drawn: Mapping[str, Segmentation], notes: list[Finding]
) -> list[Draft]:
    """Return the samples, those of a series with a DICOM segmentation among the files masked by it.

    Args:
        drafts: the samples; one that has a mask keeps it.
        drawn: file name -> segmentation.
        notes: takes a finding for each that is not used.
    """
    found = list(drafts)
    for name, one in drawn.items():
        planes = {
            row: plane
            for row, draft in enumerate(found)
            if (plane := _names(draft, one)) is not None
        }
        ours = [row for row in planes if not found[row].sample.mask]
        why = ""
        if not planes:
            why = "expected the series it was drawn on among the files, got none."
        elif not ours:
            why = "expected one mask a series, got another one before it."
        elif all(plane == len(one.planes) for plane in planes.values()):
            why = "expected its frames on slices of its series, got them elsewhere."
        if why:
            notes.append(Finding("segmentation", name, why, "set-aside"))
            continue
        for row in ours:
            found[row] = replace(found[row], sample=replace(found[row].sample, mask=name))
    return found


def _plane(draft: Draft, drawn: Segmentation) -> int | None:
    """Return the plane of a slice in a segmentation, None where it is of another series."""
    return None if draft.header is None else drawn.plane_of(draft.header)


def _names(draft: Draft, drawn: Segmentation) -> int | None:
    """Return the plane of a slice, be it in the right place or not: `join_masks` sees to that."""
    try:
        return _plane(draft, drawn)
    except RefusedFileError:
        return 0


def join_masks(
    drafts: Sequence[Draft], root: Path, config: IngestConfig, notes: list[Finding]
) -> tuple[list[Draft], dict[str, int]]:
    """Return the samples with their masks, and what the masks' values mean.

    A sample whose mask is missing, damaged, of another size or in another place is refused; a slice
    that a mask volume shows to lack liver is left out.

    Raises:
        IngestError: the values are unclear.
    """
    masks = look_at_all(
        [root / draft.sample.mask for draft in drafts if draft.sample.mask], "masks", root, notes,
        lambda path: look_at_mask(path, config),
    )  # fmt: skip
    values = _mask_values(masks, config)
    ramps = [value for name, value in values.items() if name.endswith(LIVER_FROM)]
    if ramps and LIVER_FROM not in config.mask_values:
        message = (
            f"expected two values, got a ramp to 255; values from {ramps[0]} up are taken as liver."
        )
        notes.append(Finding("smoothed-masks", "masks", message))
    kept: list[Draft] = []
    refused: dict[str, str] = {}
    outside: Counter[str] = Counter()
    for draft in drafts:
        info = masks.get(root / draft.sample.mask) if draft.sample.mask else None
        if info is None and not draft.sample.mask:
            kept.append(draft)
        elif info is None:
            refused[draft.sample.path] = f"expected a mask, got none usable: {draft.sample.mask}."
        elif why := _unfit(draft, info):
            refused[draft.sample.path] = why
        else:
            masked = _masked(draft, info, values)
            if masked is None:
                outside[draft.sample.mask] += 1
            else:
                kept.append(replace(draft, sample=masked))
    notes += [Finding("mask", path, why, "refused") for path, why in refused.items()]
    notes += [
        Finding(
            "no-liver", path, f"left out: {counted(n, 'slice')} without liver in this mask.", "note"
        )
        for path, n in outside.items()
    ]
    return kept, values


def doubtful_masks(
    samples: Sequence[Sample], values: Mapping[str, int], config: IngestConfig
) -> list[Finding]:
    """Return a finding where masks of one value were taken for liver and may show the lesions.

    Liver is in slices of every label; a lesion is not.
    """
    if parse_mask_values(config.mask_values) or "lesion" in values or set(values) != {"liver"}:
        return []
    value = values["liver"]
    seen: dict[str, list[bool]] = {}
    for sample in samples:
        if sample.mask and sample.label:
            seen.setdefault(sample.label, []).append(sample.extra.get("liver_px", "0") != "0")
    empty = sorted(label for label, has in seen.items() if not any(has))
    way = f"If it is the lesion, say --set ingest.mask_values=lesion={value}"
    if empty and len(empty) < len(seen):
        message = (
            f"mask value {value} was taken for liver, and no slice of {', '.join(empty)} has it: "
            f"it looks like the lesion, which would give the label away. {way}; if it is the "
            f"liver, say liver={value}."
        )
        return [Finding("masks-like-lesions", "masks", message)]
    if value == 1:  # what 1 means is documented
        return []
    return [
        Finding("one-mask-value", "masks", f"mask value {value} is taken for liver. {way}.", "note")
    ]


def _mask_values(masks: Mapping[Path, MaskInfo], config: IngestConfig) -> dict[str, int]:
    """Return what mask values mean: as said, else inferred for pictures and volumes apart."""
    said = parse_mask_values(config.mask_values)
    files = {path: info for path, info in masks.items() if info.segmentation is None}
    tissues = {t for info in masks.values() if info.segmentation for t in info.segmentation.tissues}
    if not files:
        return {name: value for name, value in DRAWN_VALUES.items() if value in tissues}

    def of(*, is_volume: bool) -> dict[str, int]:
        chosen = {path: info for path, info in files.items() if info.is_volume == is_volume}
        if not chosen:
            return {}
        where = f"masks ({len(chosen)} files, first {min(chosen).name})"
        counts = (slice_ for info in chosen.values() for slice_ in info.counts)
        return values_for(said, is_volume=is_volume) or infer_mask_values(counts, where)

    return join_mask_values(of(is_volume=False), of(is_volume=True))


def _unfit(draft: Draft, info: MaskInfo) -> str:
    """Return why a mask does not fit its image, "" where it does."""
    try:
        if _place(draft, info) is None:
            return f"expected a mask of this series, got another's: {draft.sample.mask}."
    except RefusedFileError as error:
        return f"{error} It is {draft.sample.mask}."
    if _mask_shape(draft, info) != info.shape:
        return (
            f"expected a mask of {_mask_shape(draft, info)} pixels, got {info.shape} in "
            f"{draft.sample.mask}. Masks are never resampled."
        )
    if draft.place is None or info.place is None:
        return ""
    how = apart(draft.place, info.place, draft.sample.spacing_mm or (1.0,))
    return how and (
        f"expected the mask where the image is, got {how} in {draft.sample.mask}. "
        "Resample it onto the image, or correct its affine."
    )


def _mask_shape(draft: Draft, info: MaskInfo) -> tuple[int, ...]:
    """Return the shape a mask of this kind must have."""
    if info.is_volume and _has_levels(draft, info):
        return (len(info.frames), *draft.shown)
    if info.is_volume and draft.depth:
        return (draft.depth, *draft.shown)
    return draft.stored if draft.stored != (0, 0) else (draft.depth, *draft.shown)


def _has_levels(draft: Draft, info: MaskInfo) -> bool:
    """Return True where a mask volume has levels that a DICOM series lacks, and says where."""
    placed = info.place is not None and len(info.place.corners) > 0
    scaled = draft.header is not None and draft.header.spacing_mm is not None
    return placed and scaled and len(info.frames) > max(draft.depth, 1)


def _place(draft: Draft, info: MaskInfo) -> int | None:
    """Return which of a mask's slices is a sample's, None where it has none.

    A volume's are counted, unless slices of the series are missing: then each has its place.
    """
    if info.segmentation is not None:
        return _plane(draft, info.segmentation)
    if not info.is_volume or draft.header is None or info.place is None:
        return draft.sample.slice_index if info.is_volume else 0
    if not _has_levels(draft, info):
        return draft.sample.slice_index
    first, last = (np.array(corner) for corner in info.place.corners[:2])
    step = (last - first) / (len(info.frames) - 1)
    across = upright_plane(draft.header)[0] * [-1, -1, 1] - first
    level = round(float(across @ step / (step @ step)))
    off = np.linalg.norm(across - level * step)
    inside = 0 <= level < len(info.frames)
    return level if inside and off <= MAX_APART * np.linalg.norm(step) else None


def _masked(draft: Draft, info: MaskInfo, values: Mapping[str, int]) -> Sample | None:
    """Return a sample with its mask, None for a slice that a mask of a series shows to lack liver.

    Args:
        draft: the sample, which the mask fits.
        info: its mask.
        values: what the values of the cohort's masks mean.
    """
    sample = draft.sample
    drawn = info.segmentation
    place = _place(draft, info) or 0
    has_lesions = "lesion" in values_for(values, is_volume=True)
    values = values_for(values, is_volume=info.is_volume)
    if drawn is not None:
        values = DRAWN_VALUES
        has_lesions = has_lesions or LESION in drawn.tissues
    liver, lesion = tissue_pixels(info.counts[place], values)
    counted = {"liver_px": str(liver + lesion), "lesion_px": str(lesion)}
    sample = replace(sample, mask_sha256=info.sha256, extra={**sample.extra, **counted})
    if not info.is_volume and drawn is None:
        return sample
    if not liver + lesion:
        return None
    label = sample.label
    if not label and has_lesions:
        label = "tumour" if lesion else "no_tumour"
    return replace(sample, label=label, mask_frame=info.frames[place])
