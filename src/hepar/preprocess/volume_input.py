"""What networks of volumes see: a series on grids in millimetres, read slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.data import Slice
from hepar.errors import RecipeError
from hepar.preprocess.demands import liver_of
from hepar.preprocess.lesion_input import shrink_inside
from hepar.preprocess.parenchyma import PICTURE_MM, measure_parenchyma
from hepar.preprocess.recipe import STEPS

__all__ = ["Box", "VolumeInput"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Box:
    """Where grids lie in a series: one, or overlapping windows from the feet up.

    Attributes:
        centre_mm: (y, x) of their middle, from the corner of the slices.
        planes_mm: (windows, depth) heights of their planes, on the scale of the slices' heights.
        ends_mm: where the liver begins and ends; planes beyond are blank.
        reach_mm: a slice counts for planes nearer than this.
        side_mm: of a plane.
    """

    centre_mm: tuple[float, float]
    planes_mm: NDArray[np.float64]
    ends_mm: tuple[float, float]
    reach_mm: float
    side_mm: float

    @property
    def step_mm(self) -> float:
        """Distance of planes."""
        return float(self.planes_mm[0, 1] - self.planes_mm[0, 0])

    def weights(self, height: float) -> NDArray[np.float64]:
        """Return how much a slice at a height counts for each plane, (windows, depth)."""
        near = np.maximum(0, 1 - np.abs(self.planes_mm - height) / self.reach_mm)
        low, high = self.ends_mm
        return np.where((self.planes_mm >= low) & (self.planes_mm <= high), near, 0)

    def window(self, image: Slice) -> tuple[int, int, int, int]:
        """Return (top, left, height, width) of the grids in a slice, in the slice's pixels."""
        y_mm, x_mm = _pixel_mm(image)
        tall, wide = self.side_mm / y_mm, self.side_mm / x_mm
        y, x = self.centre_mm[0] / y_mm, self.centre_mm[1] / x_mm
        return round(y - tall / 2), round(x - wide / 2), round(tall), round(wide)


@STEPS.add("volume_input")
@dataclass(frozen=True)
class VolumeInput:
    """The liver of a series on a grid in mm, in spreads of its own liver, 0 outside.

    The grid is centred on the liver. A liver higher than the grid is squeezed into it; what is
    wider is cut. With several windows there are as many grids, which share the liver's height out
    from its lower to its upper end, each overlapping half of the next or more. A series is read
    twice, slice by slice, and never held as a whole.

    Attributes:
        size: rows and columns.
        depth: planes of a window.
        mm: side of a voxel within a plane.
        z_mm: distance of planes.
        reach: spreads at which grey values are cut off, either way, and that become 2.
        windows: along z.
    """

    size: int
    depth: int
    mm: float
    z_mm: float
    reach: float
    windows: int = 1
    needs_mask: ClassVar[bool] = True
    needs_series: ClassVar[bool] = True

    def __call__(self, image: Slice) -> Slice:
        """Refuse a slice alone."""
        del image
        raise RecipeError(
            "volume_input: expected a series, got one of its slices. Use --level slice."
        )

    def grid(
        self, read: Callable[[int], Slice], heights: Sequence[float]
    ) -> tuple[Floats, Box] | None:
        """Return a series on its grids, and where these lie.

        Args:
            read: returns a slice with its liver, by its place in `heights`; called twice for each.
            heights: of the slices in mm, ascending.

        Returns:
            (windows, depth, size, size) float32, or None where hardly any liver is shown.

        Raises:
            RecipeError: parameters make no sense.
        """
        if self.size < 16 or self.depth < 4 or min(self.mm, self.z_mm, self.reach) <= 0:
            raise RecipeError(
                "volume_input: expected 16 pixels and 4 planes or more, and mm, z_mm and reach "
                f"above 0, got {self.size}, {self.depth}, {self.mm:g}, {self.z_mm:g} and "
                f"{self.reach:g}."
            )
        shown: dict[int, tuple[float, float, float, float]] = {}

        def scan() -> Iterator[Slice]:
            for i in range(len(heights)):
                image = read(i)
                if image.mask is not None and image.mask.any():
                    shown[i] = _bounds(image)
                    yield image

        parenchyma = measure_parenchyma(scan())
        if parenchyma is None:
            return None
        box = self.place({heights[i]: bounds for i, bounds in shown.items()}, heights)
        total = np.zeros((self.windows, self.depth, self.size, self.size), np.float32)
        inside, weight = np.zeros_like(total), np.zeros(total.shape[:2], np.float32)
        for i in shown:
            near = box.weights(heights[i]).astype(np.float32)
            value, share = self._plane(replace(read(i), parenchyma=parenchyma), box)
            for plane in zip(*np.nonzero(near), strict=True):
                total[plane] += near[plane] * value
                inside[plane] += near[plane] * share
                weight[plane] += near[plane]
        liver = inside > 0.5 * np.maximum(weight, 1e-6)[..., None, None]
        grey = np.where(liver, total / np.maximum(inside, 1e-3), 0) * np.float32(2 / self.reach)
        return np.asarray(grey, np.float32), box

    def place(
        self, shown: dict[float, tuple[float, float, float, float]], heights: Sequence[float]
    ) -> Box:
        """Return where the grids lie.

        Args:
            shown: height of each slice with liver -> its top, bottom, left and right in mm.
            heights: of all slices.
        """
        top, bottom, left, right = (
            pick(bounds[side] for bounds in shown.values())
            for side, pick in enumerate((min, max, min, max))
        )
        apart = float(np.median(np.diff(heights))) if len(heights) > 1 else self.z_mm
        low, high = min(shown), max(shown)
        tall = high - low + apart
        step = max(self.z_mm, tall / (self.depth * (self.windows + 1) / 2))
        steps = np.arange(self.depth, dtype=np.float64) - (self.depth - 1) / 2
        slack = max(0.0, tall - self.depth * step) / 2
        middles = np.linspace(-slack, slack, self.windows) if self.windows > 1 else np.zeros(1)
        return Box(
            centre_mm=((top + bottom) / 2, (left + right) / 2),
            planes_mm=(low + high) / 2 + middles[:, None] + steps * step,
            ends_mm=(low - apart / 2, high + apart / 2),
            reach_mm=max(step, apart),
            side_mm=self.size * self.mm,
        )

    def _plane(self, image: Slice, box: Box) -> tuple[Floats, Floats]:
        """Return a slice's grey values times its share of liver, and the share, (size, size)."""
        liver = liver_of(image, "volume_input")
        level, spread = image.parenchyma or (0.0, 1.0)
        grey = (image.pixels.astype(np.float32) - level) / spread
        grey = np.where(liver, np.clip(grey, -self.reach, self.reach), 0)
        return shrink_inside(grey, liver, box.window(image), self.size)


def _pixel_mm(image: Slice) -> tuple[float, float]:
    """Return the size (y, x) of a pixel; a picture's width is taken for that of a usual CT."""
    width = image.pixels.shape[1]
    return image.spacing_mm or (PICTURE_MM / width, PICTURE_MM / width)


def _bounds(image: Slice) -> tuple[float, float, float, float]:
    """Return top, bottom, left and right of a slice's liver in mm."""
    y_mm, x_mm = _pixel_mm(image)
    left, top, wide, tall = cv2.boundingRect((np.asarray(image.mask) > 0).astype(np.uint8))
    return top * y_mm, (top + tall) * y_mm, left * x_mm, (left + wide) * x_mm
