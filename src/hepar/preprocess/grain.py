"""The grain of a slice: how noisy and how sharp it is, whatever it shows."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.data import Slice

__all__ = ["GRAIN", "measure_grain"]

GRAIN = ("finest grain", "fine grain", "coarse grain")
"""What `measure_grain` returns, in order."""

_SIGMAS = (1.0, 2.0, 4.0)
_SOFT_HU = (-150.0, 250.0)
_FEWEST = 100
_MOST = 8000
"""Pixels that a slice is measured on, evenly taken."""


def measure_grain(image: Slice) -> NDArray[np.float64]:
    """Return the strength of the grain of soft tissue outside the liver at three scales.

    It is the robust spread (1.4826 times the median absolute deviation) of what lies between two
    Gaussian blurs: dose and slice thickness move all three alike, the kernel moves them apart.
    Where there is no mask the liver is measured, too.

    Args:
        image: (y, x) pixels.

    Returns:
        (3,) natural logarithms of the spread in HU or grey values; NaN where less than 100 pixels
        are soft tissue.
    """
    pixels = np.asarray(image.pixels, np.float32)
    low, high = _SOFT_HU if image.kind == "hu" else (0.0, float(np.iinfo(image.pixels.dtype).max))
    smooth = cv2.GaussianBlur(pixels, (0, 0), 2.0)
    soft = (pixels > low) & (pixels < high) & (smooth > low) & (smooth < high)
    if image.mask is not None:
        soft &= image.mask == 0
    places = np.flatnonzero(soft)
    if len(places) < _FEWEST:
        return np.full(len(_SIGMAS), np.nan)
    places = places[:: 1 + len(places) // _MOST]
    layers = [pixels, *(cv2.GaussianBlur(pixels, (0, 0), sigma) for sigma in _SIGMAS)]
    found = []
    for finer, coarser in itertools.pairwise(layers):
        spread = 1.4826 * float(
            np.median(np.abs(np.take(finer, places) - np.take(coarser, places)))
        )
        found.append(np.log(max(spread, 1e-3)))
    return np.array(found)
