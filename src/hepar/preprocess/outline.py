"""What a segmenter says becomes an outline: the largest organ, without holes, in millimetres."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.data import LIVER

__all__ = ["clean_logits", "outline_of"]

_NO, _YES = np.float32(-8), np.float32(8)
"""Logits of what is taken away and filled in."""

_LEAST_CM2 = 1.0
"""Of liver in a slice; less is noise."""

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
