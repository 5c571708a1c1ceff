"""Steps that see a slice between its neighbours: three slices as the channels of one picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from hepar.data import Slice
from hepar.errors import RecipeError
from hepar.preprocess.demands import liver_of
from hepar.preprocess.geometry import Resize, cut, square_around
from hepar.preprocess.intensity import Background, LiverScale, LiverSmooth
from hepar.preprocess.recipe import STEPS

__all__ = ["LiverSlab", "Slab"]


def _check_distance(mm: float, step: str) -> None:
    if not mm > 0:
        raise RecipeError(f"{step}: expected a distance above 0 mm, got {mm:g}. 5 is usual.")


def _beside(image: Slice) -> tuple[Slice, Slice]:
    """Return the slices below and above; the slice itself where there is none of its shape."""
    below, above = image.beside or (image, image)
    if image.window is not None:
        return below, above
    shape = image.pixels.shape
    return (
        below if below.pixels.shape == shape else image,
        above if above.pixels.shape == shape else image,
    )


@STEPS.add("slab")
@dataclass(frozen=True)
class Slab:
    """Put the slice below, the slice and the slice above into three channels, all cut alike.

    Where there is no slice below or above, the slice itself stands in its place.

    Attributes:
        mm: distance of the slices below and above; the nearest ones where slices lie further apart.
        fill: value where a crop before this step leaves the slice.
    """

    mm: float
    fill: float
    needs_beside: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_distance(self.mm, "slab")

    def __call__(self, image: Slice) -> Slice:
        """Return pixels (y, x, 3), of the same type; the mask is the slice's own."""
        below, above = _beside(image)
        if image.window is not None:
            below, above = (
                image if one is image else cut(one, image.window, self.fill)
                for one in (below, above)
            )
        pixels = np.stack([below.pixels, image.pixels, above.pixels], axis=-1)
        return replace(image, pixels=pixels, beside=None)


@STEPS.add("liver_slab")
@dataclass(frozen=True)
class LiverSlab:
    """The liver of the slice below, the slice and the slice above, as three channels.

    All three are cut by the square around the slice's own liver and stand on the scale of its
    median and spread; each is blank outside its own liver and smoothed inside it. A slice below or
    above that shows no liver, or that there is none of, has the slice itself in its place.

    Attributes:
        mm: distance of the slices below and above; the nearest ones where slices lie further apart.
        size: side in pixels.
        reach: robust standard deviations that map to 0 and to 1.
        margin: around the liver, as a share of the square's side.
        sigma: of the smoothing, in pixels of `size`.
    """

    mm: float
    size: int
    reach: float
    margin: float
    sigma: float
    needs_mask: ClassVar[bool] = True
    needs_beside: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_distance(self.mm, "liver_slab")

    def __call__(self, image: Slice) -> Slice:
        """Return pixels (size, size, 3) in 0-1, 0.5 at the liver's median and outside the liver."""
        window = square_around(liver_of(image, "liver_slab"), self.margin)
        own = self._channel(image, image, window)
        below, above = (self._channel(image, one, window) for one in _beside(image))
        pixels = np.stack([one.pixels for one in (below, own, above)], axis=-1)
        return replace(own, pixels=pixels, beside=None)

    def _channel(self, own: Slice, image: Slice, window: tuple[int, int, int, int]) -> Slice:
        if image.mask is None or not image.mask.any():
            image = own
        scaled = Background(value=0.5)(LiverScale(self.reach).on_scale_of(own, image))
        small = Resize(self.size)(cut(scaled, window, 0.5))
        shows = small.mask is not None and small.mask.any()
        return LiverSmooth(self.sigma)(small) if shows else small
