"""Where a lesion finder sees lesions in a series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.backbone import Network, load_ahead
from hepar.config import BackboneConfig
from hepar.data import LESION, Slice
from hepar.model.inputs import InputReader
from hepar.preprocess import PICTURE_MM

__all__ = ["LIKELY", "LesionStack", "find_lesions"]

Floats = NDArray[np.float32]

LIKELY = 0.3
"""Smoothed likelihood from which on a voxel is taken for a lesion."""

_SMOOTH_MM, _SMOOTH_SLICES = 3.0, 1.0
"""Sigmas: what is seen in one slice and not in its neighbours is mostly noise. These and LIKELY
were chosen among some twenty on four patients (docs/results.md)."""

_GRID_MM = 1.5
"""Finer voxels are passed over: finders see no finer."""


@dataclass(frozen=True, eq=False)
class LesionStack:
    """A series as a lesion finder sees it, on a grid of some 1.5 mm.

    Attributes:
        likely: of each slice, (y, x) how likely a voxel is a lesion of any label, smoothed; 0 to 1.
        drawn: of each slice, (y, x) lesions that somebody drew.
        spacing_mm: (y, x) of a voxel.
        shapes: (height, width) of each slice at full size.
    """

    likely: Sequence[Floats]
    drawn: Sequence[NDArray[np.bool_]]
    spacing_mm: tuple[float, float]
    shapes: tuple[tuple[int, int], ...]

    def lesions(self, z: int) -> NDArray[np.bool_]:
        """Return the pixels (y, x) of a slice, at full size, that are taken for lesions."""
        height, width = self.shapes[z]
        full = cv2.resize(self.likely[z], (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(full > LIKELY)


def find_lesions(
    network: Network,
    reader: InputReader,
    rows: Sequence[int],
    config: BackboneConfig,
    *,
    stacked: bool,
    least: float = 0.0,
) -> LesionStack:
    """Return where a finder sees lesions.

    Args:
        network: a lesion finder, with the output "likely".
        reader: gives its input.
        rows: positions in the reader's manifest, in the order of the slices.
        config: batch and workers.
        stacked: the slices lie next to one another, and are smoothed across, too.
        least: highest likelihood that a place must reach; lesser places count for nothing.
    """
    from scipy import ndimage

    likely: list[Floats] = []
    drawn: list[NDArray[np.bool_]] = []
    shapes: list[tuple[int, int]] = []
    spacing, step = (1.0, 1.0), 1
    for image, found in _found(network, reader, rows, config):
        if not shapes:
            mm = PICTURE_MM / image.pixels.shape[1]
            spacing = image.spacing_mm or (mm, mm)
            step = max(1, round(_GRID_MM / spacing[1]))
        likely.append(found[::step, ::step])
        drawn.append(np.asarray(image.mask)[::step, ::step] == LESION)
        shapes.append((image.pixels.shape[0], image.pixels.shape[1]))
    coarse = (spacing[0] * step, spacing[1] * step)
    likely = [ndimage.gaussian_filter(one, [_SMOOTH_MM / mm for mm in coarse]) for one in likely]
    if stacked:
        likely = list(ndimage.gaussian_filter1d(np.stack(likely), _SMOOTH_SLICES, axis=0))
    if least and stacked:
        likely = list(_without_lesser(np.stack(likely), least))
    elif least:
        likely = [_without_lesser(one, least) for one in likely]
    return LesionStack(likely, drawn, coarse, tuple(shapes))


def _without_lesser(likely: Floats, least: float) -> Floats:
    """Return likelihoods where places that nowhere reach `least` are 0."""
    from scipy import ndimage

    regions, count = ndimage.label(likely > LIKELY, np.ones((3,) * likely.ndim))
    peaks = ndimage.maximum(likely, regions, range(1, count + 1)) if count else []
    kept = np.concatenate([[True], np.asarray(peaks) >= least])
    return np.asarray(np.where(kept[regions], likely, 0), np.float32)


def _found(
    network: Network, reader: InputReader, rows: Sequence[int], config: BackboneConfig
) -> Iterator[tuple[Slice, Floats]]:
    """Yield slices with how likely each pixel is a lesion of any label (y, x)."""
    batches = [rows[at : at + config.batch] for at in range(0, len(rows), config.batch)]
    for _, looked in load_ahead(batches, reader.look, config.workers):
        size = reader.recipe.size
        blank = np.zeros((3, size, size), np.float32)
        inputs = [
            blank if shown is None else shown.pixels.transpose(2, 0, 1) for _, shown in looked
        ]
        likely = network.value("likely", np.stack(inputs).astype(np.float32))
        for (image, shown), own in zip(looked, likely, strict=True):
            yield image, _on_slice(own.max(axis=0), image, shown)


def _on_slice(likely: Floats, image: Slice, shown: Slice | None) -> Floats:
    """Return the likelihood on the slice's own pixels, 0 outside the liver."""
    height, width = image.pixels.shape[:2]
    full = np.zeros((height, width), np.float32)
    if shown is None or shown.window is None:
        return full
    top, left, tall, wide = shown.window
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + tall, height), min(left + wide, width)
    large = cv2.resize(likely, (wide, tall), interpolation=cv2.INTER_LINEAR)
    full[y0:y1, x0:x1] = large[y0 - top : y1 - top, x0 - left : x1 - left]
    return full * (np.asarray(image.mask) > 0)
