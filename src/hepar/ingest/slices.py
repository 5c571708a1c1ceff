"""Pixels of samples: each file is read once, whatever number of its slices is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import IngestConfig
from hepar.data import Manifest, Sample, Slice
from hepar.data.study import Kind
from hepar.errors import IngestError
from hepar.ingest.bounds import RefusedFileError
from hepar.ingest.dicom_pixels import read_dicom_slice
from hepar.ingest.files import sniff
from hepar.ingest.masks import canonical_mask, read_mask_picture, values_for
from hepar.ingest.nifti import recent_volume
from hepar.ingest.pictures import read_picture, to_grey
from hepar.ingest.segmentation import recent_segmentation

__all__ = ["read_slices"]


def read_slices(
    manifest: Manifest, samples: Sequence[Sample], config: IngestConfig | None = None
) -> list[Slice]:
    """Return the pixels of samples, in the order asked for; safe to call from many threads.

    Args:
        manifest: the cohort the samples belong to: it says where files lie, what mask values mean
            and whether pictures stand upside down.
        samples: which slices to read.
        config: the bounds a file must keep; None for the default ones.

    Returns:
        A slice per sample: row 0 anterior, column 0 the patient's right, HU where the sample's kind
        says so, and a mask with 0, LIVER and LESION where there is one.

    Raises:
        IngestError: a file is missing or damaged, or changed since the manifest was made.
    """
    bounds = config or IngestConfig()
    slices: list[Slice | None] = [None] * len(samples)
    for at in sorted(range(len(samples)), key=lambda i: (samples[i].path, samples[i].frame)):
        sample = samples[at]
        try:
            slices[at] = _read(manifest, sample, bounds)
        except (RefusedFileError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise IngestError(
                f"sample {sample.sample_id}: {why} Run `hepar ingest` again."
            ) from None
    return [one for one in slices if one is not None]


def _read(manifest: Manifest, sample: Sample, config: IngestConfig) -> Slice:
    path = manifest.root / sample.path
    pixels, kind, stand = _pixels(path, sample, manifest, config)
    mask: NDArray[np.uint8] | None = None
    if sample.mask:
        mask_path = manifest.root / sample.mask
        mask_kind = sniff(mask_path)
        if mask_kind == "dicom":
            mask = stand(recent_segmentation(mask_path, config).codes(sample.mask_frame))
        elif mask_kind == "nifti":
            codes = recent_volume(mask_path, config).code_slice(sample.mask_frame)
            mask = canonical_mask(codes, values_for(manifest.mask_values, is_volume=True))
        else:
            codes = read_mask_picture(mask_path, config)
            values = values_for(manifest.mask_values, is_volume=False)
            mask = stand(canonical_mask(codes, values))
    spacing = sample.spacing_mm
    return Slice(stand(pixels), kind, mask, spacing and spacing[1:])


def _pixels(
    path: Path, sample: Sample, manifest: Manifest, config: IngestConfig
) -> tuple[NDArray[Any], Kind, Callable[[NDArray[Any]], NDArray[Any]]]:
    """Return one file's stored image, its kind, and what stands it upright, mask included."""
    format_ = sniff(path)
    if format_ == "nifti":
        return recent_volume(path, config).hu_slice(sample.frame), "hu", _keep
    if format_ == "dicom":
        pixels, kind, header = read_dicom_slice(path, config)
        return pixels, kind, header.stand
    if sample.kind == "rgb":
        return read_picture(path, config), "rgb", _keep
    return (
        to_grey(read_picture(path, config)),
        "picture",
        _flip if manifest.flip_vertical else _keep,
    )


def _flip(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(pixels[::-1])


def _keep(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels
