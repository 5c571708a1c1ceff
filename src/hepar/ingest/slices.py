"""Pixels of samples: each file is read once, whatever number of its slices is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import IngestConfig
from hepar.data import Manifest, Sample, Slice
from hepar.errors import IngestError
from hepar.ingest.bounds import RefusedFileError
from hepar.ingest.masks import canonical_mask, read_mask_picture
from hepar.ingest.pictures import read_picture, to_grey

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
    mask: NDArray[np.uint8] | None = None
    pixels = to_grey(read_picture(path, config))
    if sample.mask:
        mask = canonical_mask(_mask(manifest.root / sample.mask, config), manifest.mask_values)
    if manifest.flip_vertical:
        pixels = np.ascontiguousarray(pixels[::-1])
        mask = None if mask is None else np.ascontiguousarray(mask[::-1])
    spacing = sample.spacing_mm
    return Slice(pixels, "picture", mask, spacing and spacing[1:])


def _mask(path: Path, config: IngestConfig) -> NDArray[Any]:
    return read_mask_picture(path, config)
