"""Steps that choose and resample pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.data import Slice
from hepar.errors import RecipeError
from hepar.preprocess.demands import hu_only, liver_of
from hepar.preprocess.recipe import STEPS

__all__ = ["BodyCrop", "LiverCrop", "Resize", "cut", "square_around"]


def _square(image: Slice, inside: NDArray[np.bool_], margin: float, fill: float) -> Slice:
    """Cut the smallest square around `inside`, plus a margin; beyond the slice is `fill`."""
    return cut(image, square_around(inside, margin), fill)


def square_around(inside: NDArray[np.bool_], margin: float) -> tuple[int, int, int, int]:
    """Return (top, left, side, side) of the smallest square around `inside`, plus a margin."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    side = round(max(bottom - top, right - left) * (1 + 2 * margin))
    y = int(top + bottom - side) // 2
    x = int(left + right - side) // 2
    return y, x, side, side


def cut(image: Slice, window: tuple[int, int, int, int], fill: float) -> Slice:
    """Return a square window of a slice; beyond the slice is `fill`.

    A slice is cut once at most, and before it is resized: the window is in its own pixels.
    """
    y, x, side, _ = window
    height, width = image.pixels.shape[:2]
    source = (slice(max(y, 0), min(y + side, height)), slice(max(x, 0), min(x + side, width)))
    target = tuple(slice(s.start - o, s.stop - o) for s, o in zip(source, (y, x), strict=True))
    pixels = np.full((side, side, *image.pixels.shape[2:]), fill, image.pixels.dtype)
    pixels[target] = image.pixels[source]
    mask = image.mask
    if mask is not None:
        shown = np.zeros((side, side), mask.dtype)
        shown[target] = mask[source]
        mask = shown
    return replace(image, pixels=pixels, mask=mask, window=window)


@STEPS.add("liver_crop")
@dataclass(frozen=True)
class LiverCrop:
    """Cut a square around the liver mask.

    Attributes:
        margin: added on each side, as a share of the square's side.
        fill: value where the square leaves the slice.
    """

    margin: float
    fill: float
    needs_mask: ClassVar[bool] = True

    def __call__(self, image: Slice) -> Slice:
        """Return a square slice; a mask that shows no liver is an error."""
        return _square(image, liver_of(image, "liver_crop"), self.margin, self.fill)


@STEPS.add("body_crop")
@dataclass(frozen=True)
class BodyCrop:
    """Cut a square around the body: the largest connected region brighter than a threshold.

    Attributes:
        threshold: in HU; pixels above it are body.
        margin: added on each side, as a share of the square's side.
    """

    threshold: float
    margin: float

    def __call__(self, image: Slice) -> Slice:
        """Return a square slice, filled with air outside; unchanged where nothing is body."""
        hu_only(image, "body_crop")
        above = (image.pixels > self.threshold).astype(np.uint8)
        opened = cv2.morphologyEx(above, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
        count, regions, statistics, _ = cv2.connectedComponentsWithStats(opened)
        if count < 2:
            return image
        largest = 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))
        return _square(image, regions == largest, self.margin, -1024)


@STEPS.add("resize")
@dataclass(frozen=True)
class Resize:
    """Resample to a square: area averaging when shrinking, linear when enlarging.

    Attributes:
        size: side in pixels.
    """

    size: int

    def __call__(self, image: Slice) -> Slice:
        """Return pixels (size, size[, channel]) and the mask by nearest neighbour."""
        if self.size < 8:
            raise RecipeError(f"resize: expected a side of 8 pixels or more, got {self.size}.")
        shrinks = max(image.pixels.shape[:2]) > self.size
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        shape = (self.size, self.size)
        pixels = cv2.resize(image.pixels, shape, interpolation=how)
        mask = image.mask
        if mask is not None:
            smaller = cv2.resize(mask, shape, interpolation=cv2.INTER_NEAREST_EXACT)
            mask = np.asarray(smaller, np.uint8)
        spacing = image.spacing_mm
        if spacing:
            height, width = image.pixels.shape[:2]
            spacing = (spacing[0] * height / self.size, spacing[1] * width / self.size)
        return replace(image, pixels=pixels, mask=mask, spacing_mm=spacing)
