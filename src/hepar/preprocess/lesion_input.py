"""What a lesion finder sees: the liver on a grid in millimetres, relative to itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.data import Slice
from hepar.errors import RecipeError
from hepar.preprocess.demands import liver_of
from hepar.preprocess.parenchyma import PICTURE_MM
from hepar.preprocess.recipe import STEPS

__all__ = ["LesionInput", "shrink_inside"]

_DEEPEST_CM = 4.0


@STEPS.add("lesion_input")
@dataclass(frozen=True)
class LesionInput:
    """The liver on a grid in mm, in spreads of the patient's own liver, and the way to its edge.

    Where the spacing is unknown, as of pictures, a width of 384 mm is assumed.

    Attributes:
        size: side of the square in pixels, centred on the liver.
        mm: side of a pixel.
        reach: spreads at which grey values are cut off, either way.
    """

    size: int
    mm: float
    reach: float
    needs_mask: ClassVar[bool] = True
    needs_parenchyma: ClassVar[bool] = True

    def __call__(self, image: Slice) -> Slice:
        """Return pixels (size, size, 3): relative grey, liver, depth in cm; 0 outside the liver."""
        if self.size < 32 or self.mm <= 0 or self.reach <= 0:
            raise RecipeError(
                "lesion_input: expected a side of 32 pixels or more, and mm and reach above 0, got "
                f"{self.size}, {self.mm:g} and {self.reach:g}."
            )
        liver = liver_of(image, "lesion_input")
        width = liver.shape[1]
        y_mm, x_mm = image.spacing_mm or (PICTURE_MM / width, PICTURE_MM / width)
        rows, columns = np.flatnonzero(liver.any(axis=1)), np.flatnonzero(liver.any(axis=0))
        middle = ((rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2)
        tall, wide = self.size * self.mm / y_mm, self.size * self.mm / x_mm
        top, left = round(middle[0] - tall / 2), round(middle[1] - wide / 2)
        window = (top, left, round(tall), round(wide))
        level, spread = image.parenchyma or _own(image.pixels[liver])
        grey = (image.pixels.astype(np.float32) - level) / spread
        grey = np.where(liver, np.clip(grey, -self.reach, self.reach), 0)
        value, share = shrink_inside(grey, liver, window, self.size)
        inside = (share > 0.5).astype(np.uint8)
        relative = value / np.maximum(share, 1e-3) * inside
        depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3) * np.float32(self.mm / 10)
        pixels = np.stack([relative, inside, np.minimum(depth, _DEEPEST_CM)], axis=-1)
        mask = None
        if image.mask is not None:
            cut_mask = _cut(image.mask, window)
            small = cv2.resize(
                cut_mask, (self.size, self.size), interpolation=cv2.INTER_NEAREST_EXACT
            )
            mask = np.asarray(small, np.uint8)
        return replace(
            image,
            pixels=pixels.astype(np.float32),
            mask=mask,
            spacing_mm=(self.mm, self.mm),
            window=window,
        )


def shrink_inside(
    values: NDArray[Any], liver: NDArray[np.bool_], window: tuple[int, int, int, int], size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return values and the share of liver, both (size, size), in a window of a slice.

    Args:
        values: (y, x), 0 outside the liver.
        liver: (y, x).
        window: (top, left, height, width), which may reach beyond the slice.
        size: side to resample to.
    """

    def shrink(image: NDArray[Any]) -> NDArray[np.float32]:
        how = cv2.INTER_AREA if max(image.shape) > size else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(image, (size, size), interpolation=how), np.float32)

    return shrink(_cut(values, window)), shrink(_cut(liver.astype(np.float32), window))


def _own(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return level and spread of a slice whose patient was not measured."""
    level = float(np.median(values))
    return level, max(1.4826 * float(np.median(np.abs(values - level))), 2.0)


def _cut(image: NDArray[Any], window: tuple[int, int, int, int]) -> NDArray[Any]:
    """Return a window of an image, 0 beyond its edge."""
    top, left, height, width = window
    cut = np.zeros((height, width), image.dtype if image.dtype != np.float64 else np.float32)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + height, image.shape[0]), min(left + width, image.shape[1])
    if y1 > y0 and x1 > x0:
        cut[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return cut
