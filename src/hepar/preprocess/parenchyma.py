"""What healthy liver looks like in one patient: its commonest grey level, and how it spreads."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.data import Slice

__all__ = ["measure_parenchyma"]

_BIN = {"hu": 2.0, "picture": 1.0}
_NEAR = {"hu": 60.0, "picture": 40.0}
"""Grey levels around the commonest that count as parenchyma, where its spread is taken."""

_LEAST = {"hu": 3.0, "picture": 2.0}
_FEW = 200
"""Pixels of liver; of fewer the level means nothing."""

_PEAK = np.array([1.0, 2, 3, 4, 5, 4, 3, 2, 1]) / 25
_COARSE_MM = 1.5
PICTURE_MM = 384.0
"""Width taken for a picture whose spacing is unknown: 512 pixels of 0.75 mm, as CT often has."""


def _coarse(image: Slice) -> NDArray[np.float32]:
    """Return the liver's grey values, averaged to some 1.5 mm: finer noise is the scanner's."""
    liver = np.asarray(image.mask).astype(bool).astype(np.float32)
    mm = image.spacing_mm[1] if image.spacing_mm else PICTURE_MM / liver.shape[1]
    share = max(0.05, min(1.0, mm / _COARSE_MM))
    shape = (max(1, round(liver.shape[1] * share)), max(1, round(liver.shape[0] * share)))
    weight = cv2.resize(liver, shape, interpolation=cv2.INTER_AREA)
    values = cv2.resize(image.pixels * liver, shape, interpolation=cv2.INTER_AREA)
    return np.asarray(values[weight > 0.99] / weight[weight > 0.99], np.float32)


def measure_parenchyma(slices: Iterable[Slice]) -> tuple[float, float] | None:
    """Return grey level and robust spread of the liver in one patient's slices.

    The level is the mode, because lesions may fill half of a liver: the median then is neither
    lesion nor liver. The spread is 1.4826 times the median absolute deviation of what is near it.

    Args:
        slices: of one patient, with masks; pixels of 16-bit pictures count as 8-bit ones.

    Returns:
        Level and spread in the unit of the pixels, or None where hardly any liver is shown.

    Example:
        >>> grey = np.repeat(np.uint8([100, 102, 98, 160]), 100).reshape(20, 20)
        >>> measure_parenchyma([Slice(grey, mask=np.ones((20, 20), np.uint8))])
        (100.0, 2.9652)
    """
    found: list[NDArray[np.float32]] = []
    unit, kind = 1.0, "picture"
    for one in slices:
        if one.mask is None or not one.mask.any():
            continue
        kind = one.kind
        unit = 257.0 if one.pixels.dtype == np.uint16 else 1.0
        found.append(_coarse(one) / np.float32(unit))
    values = np.concatenate(found) if found else np.zeros(0, np.float32)
    if len(values) < _FEW:
        return None
    width = _BIN[kind]
    low = float(np.floor(np.quantile(values, 0.001) / width) * width)
    count = max(1, int(np.ceil((np.quantile(values, 0.999) - low) / width)) + 1)
    heights, edges = np.histogram(values, bins=count, range=(low, low + count * width))
    smooth = np.convolve(heights, _PEAK, mode="same")
    level = float(edges[int(np.argmax(smooth))] + (0.5 * width if kind == "hu" else 0.0))
    near = values[np.abs(values - level) < _NEAR[kind]]
    spread = max(1.4826 * float(np.median(np.abs(near - level))), _LEAST[kind])
    return level * unit, round(spread, 4) * unit
