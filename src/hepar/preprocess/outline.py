"""What a segmenter says becomes an outline: the largest organ, without holes, in millimetres."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.data import LIVER

__all__ = ["clean_logits", "doubts", "outline_of"]

_NO, _YES = np.float32(-8), np.float32(8)
"""Logits of what is taken away and filled in."""

_LEAST_CM2 = 1.0
"""Of liver in a slice; less is noise."""

_CUT_CM2 = 25.0
"""Of liver in the first or last slice of a series: it goes on beyond."""

_SMALL_CM2 = 10.0
"""Of liver in the slice that shows most of it; less is doubtful."""

_LARGE_ML = 6000.0
"""Of liver in a series; livers hold 1000 to 2500 ml, diseased ones up to twice that."""

_SECOND = 0.5
"""Share of the liver's voxels from which on a second piece is told."""

_PART = 0.1
"""Where slices stand alone, a piece of liver is kept from this share of the largest piece on."""


def clean_logits(
    logits: NDArray[np.float32], spacing_mm: tuple[float, float], *, stacked: bool
) -> NDArray[np.float32]:
    """Return logits where only the liver is above 0, and nothing inside it is below.

    Args:
        logits: (z, y, x) of one series, or of slices that do not belong together.
        spacing_mm: (y, x) of a pixel.
        stacked: the slices lie next to one another: the largest piece in 3D is the liver. Otherwise
            a slice may hold several pieces of it.

    Returns:
        (z, y, x) float32.
    """
    from scipy import ndimage

    above = logits > 0
    pixel_cm2 = spacing_mm[0] * spacing_mm[1] / 100
    kept = np.zeros_like(above)
    if stacked:
        regions, count = ndimage.label(above)
        if count:
            kept = regions == 1 + np.argmax(np.bincount(regions.ravel())[1:])
    else:
        for z, one in enumerate(above):
            regions, count = ndimage.label(one)
            if count:
                sizes = np.bincount(regions.ravel())
                sizes[0] = 0
                kept[z] = (sizes >= _PART * sizes.max())[regions]
    kept &= (kept.sum((1, 2)) * pixel_cm2 >= _LEAST_CM2)[:, None, None]
    filled = np.stack([ndimage.binary_fill_holes(one) for one in kept]) if len(kept) else kept
    cleaned = np.where(above & ~kept, _NO, logits)
    cleaned[~kept.any((1, 2))] = _NO
    return np.asarray(np.where(filled & ~above, _YES, cleaned), np.float32)


def doubts(
    logits: NDArray[np.float32],
    cleaned: NDArray[np.float32],
    spacing_mm: tuple[float, float],
    *,
    stacked: bool = True,
    apart_mm: float = 0.0,
) -> list[str]:
    """Return what is odd about the liver of one series, in words; mostly nothing.

    Args:
        logits: (z, y, x) as the network gave them.
        cleaned: by `clean_logits`.
        spacing_mm: (y, x) of a pixel.
        stacked: as `clean_logits` was told; of slices that stand alone only their size is odd.
        apart_mm: from slice to slice; 0 where unknown.
    """
    from scipy import ndimage

    said: list[str] = []
    area_cm2 = (cleaned > 0).sum((1, 2)) * spacing_mm[0] * spacing_mm[1] / 100
    if not area_cm2.any():
        return said
    if area_cm2.max() < _SMALL_CM2:
        return [f"{area_cm2.max():.0f} cm2 of liver at most in a slice: perhaps there is none"]
    if not stacked:
        return said
    volume_ml = float(area_cm2.sum()) * apart_mm / 10
    if volume_ml > _LARGE_ML:
        said.append(
            f"{volume_ml / 1000:.1f} litres of liver, more than a liver holds: compare the "
            f"outlines, and the spacing of {apart_mm:g} mm between slices"
        )
    ends = [where for where, z in (("feet", 0), ("head", -1)) if area_cm2[z] > _CUT_CM2]
    if ends:
        said.append(
            f"the series ends inside the liver, towards the {' and the '.join(ends)}: "
            "what lies beyond is not seen"
        )
    regions, _ = ndimage.label(logits > 0)
    sizes = np.sort(np.bincount(regions.ravel())[1:])[::-1]
    if len(sizes) > 1 and sizes[1] > _SECOND * sizes[0]:
        said.append(
            f"a second organ of {sizes[1] / sizes[0]:.0%} of the liver's size looks like liver, "
            "too: compare the outlines (`hepar segment apply`)"
        )
    return said


def outline_of(logits: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the outline of a slice at its full size.

    Args:
        logits: (y, x), cleaned.
        shape: (height, width) of the slice in pixels.

    Returns:
        (height, width) uint8 of 0 and LIVER.
    """
    full = cv2.resize(logits.astype(np.float32), shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray((full > 0) * LIVER, np.uint8)
