"""A step that hides what a model is meant to look at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from hepar.data import Slice
from hepar.preprocess.demands import liver_of
from hepar.preprocess.recipe import STEPS

__all__ = ["HideLiver"]


@STEPS.add("hide_liver")
@dataclass(frozen=True)
class HideLiver:
    """Paint a rectangle over the liver, so that neither its texture nor its outline shows.

    Attributes:
        margin: added on each side, as a share of the slice's longer side.
        value: what the rectangle is painted with, on the scale that the steps before have made.
    """

    margin: float
    value: float
    needs_mask: ClassVar[bool] = True

    def __call__(self, image: Slice) -> Slice:
        """Return pixels of the same shape; a mask that shows no liver is an error."""
        inside = liver_of(image, "hide_liver")
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        more = round(self.margin * max(inside.shape))
        pixels = image.pixels.copy()
        pixels[
            max(rows[0] - more, 0) : rows[-1] + 1 + more,
            max(columns[0] - more, 0) : columns[-1] + 1 + more,
        ] = self.value
        return replace(image, pixels=pixels)
