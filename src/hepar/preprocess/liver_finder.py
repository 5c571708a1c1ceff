"""A rule, not a network, that guesses where the liver is when nobody has drawn it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.data import LIVER, Slice

__all__ = ["find_liver"]

_GRID = 256
"""Side of the grid the rule works on, in pixels."""

_SOFT_TISSUE_HU = (-20.0, 220.0)


def _largest(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    count, regions, statistics, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return np.zeros_like(mask)
    return np.asarray(regions == 1 + np.argmax(statistics[1:, cv2.CC_STAT_AREA]), np.uint8)


def _morphed(mask: NDArray[np.uint8], radius: int, how: int) -> NDArray[np.uint8]:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    return np.asarray(cv2.morphologyEx(mask, how, disc), np.uint8)


def _filled(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(mask), outlines, -1, 1, cv2.FILLED), np.uint8)


def _grey(image: Slice) -> NDArray[np.float32]:
    """Return the slice on the working grid, 0-1 over soft tissue."""
    if image.kind == "hu":
        low, high = _SOFT_TISSUE_HU
        grey = (image.pixels.astype(np.float32) - low) / (high - low)
    else:
        grey = image.pixels.astype(np.float32) / np.iinfo(image.pixels.dtype).max
    small = cv2.resize(np.clip(grey, 0, 1), (_GRID, _GRID), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.medianBlur(small, 5), np.float32)


def _parenchyma(grey: NDArray[np.float32], inner: NDArray[np.uint8]) -> tuple[float, float] | None:
    """Return the commonest grey level of the right upper quadrant and its robust spread."""
    rows, columns = np.flatnonzero(inner.any(axis=1)), np.flatnonzero(inner.any(axis=0))
    quadrant = np.zeros(inner.shape, bool)
    bottom, middle = rows[0] + int(0.75 * len(rows)), columns[0] + int(0.45 * len(columns))
    quadrant[rows[0] : bottom, columns[0] : middle] = True
    tissue = grey[quadrant & (inner > 0) & (grey > 0.15) & (grey < 0.95)]
    if tissue.size < 200:
        return None
    counts, edges = np.histogram(tissue, bins=64, range=(0, 1))
    peak = int(np.argmax(np.convolve(counts, np.ones(5) / 5, mode="same")))
    mode = float(edges[peak]) + 0.5 / 64
    near = tissue[np.abs(tissue - mode) < 0.12]
    return mode, max(0.03, 1.4826 * float(np.median(np.abs(near - mode))))


def _organ(core: NDArray[np.uint8], middle: float) -> NDArray[np.uint8] | None:
    """Return the largest region, those centred on the patient's left counting for less."""
    count, regions, statistics, centres = cv2.connectedComponentsWithStats(core)
    if count < 2:
        return None
    leaning = np.where(centres[1:, 0] < middle, 1.0, 0.3)
    best = 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA] * leaning))
    return np.asarray(regions == best, np.uint8)


def find_liver(image: Slice) -> NDArray[np.uint8]:
    """Guess the liver in one axial slice: the largest even soft-tissue organ on the right side.

    The commonest grey level of the right upper quadrant is taken for parenchyma; pixels near it are
    kept, thin bridges are opened, and the largest region that remains is grown, closed and filled.
    It needs no network, and it errs on slices with little liver, on enlarged spleens, on livers
    full of tumour and after resection: whoever uses it must say so. docs/results.md has its Dice.

    Args:
        image: pixels (y, x), row 0 anterior, column 0 the patient's right, HU or picture.

    Returns:
        (y, x) uint8 of 0 and LIVER; all 0 where nothing fits.
    """
    nothing = np.zeros(image.pixels.shape, np.uint8)
    grey = _grey(image)
    body = _filled(_largest(_morphed((grey > 0.08).astype(np.uint8), 3, cv2.MORPH_OPEN)))
    inner = np.asarray(cv2.erode(body, np.ones((7, 7), np.uint8)), np.uint8)
    parenchyma = _parenchyma(grey, inner) if inner.any() else None
    if parenchyma is None:
        return nothing
    mode, spread = parenchyma
    like = (np.abs(grey - mode) < 2.2 * spread).astype(np.uint8) & inner
    organ = _organ(
        _morphed(like, 4, cv2.MORPH_OPEN), float(np.flatnonzero(body.any(axis=0)).mean())
    )
    if organ is None:
        return nothing
    alike = (np.abs(grey - mode) < 4 * spread).astype(np.uint8) & body
    grown = cv2.dilate(organ, np.ones((7, 7), np.uint8)) & alike
    found = _filled(_morphed(np.asarray(grown, np.uint8), 5, cv2.MORPH_CLOSE))
    height, width = image.pixels.shape
    full = cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(full * LIVER, np.uint8)
