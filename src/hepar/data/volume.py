"""Pixels with their meaning: arrays are (z, y, x), grey values are HU or say that they are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.data.study import Kind

__all__ = ["LESION", "LIVER", "Slice", "Volume"]

LIVER = 1
"""Mask value of liver, lesions excluded; 0 is everything else."""

LESION = 2
"""Mask value of a lesion inside the liver."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One axial image as a person reads it: row 0 is anterior, column 0 the patient's right.

    Attributes:
        pixels: (y, x) grey values, float32 in HU where `kind` is "hu", else uint8 or uint16;
            (y, x, 3) where it is "rgb"; inside a recipe also (y, x, channel) float32.
        kind: "hu", "picture" or "rgb".
        mask: (y, x) uint8 with 0, LIVER and LESION; None where there is no mask.
        spacing_mm: (y, x) pixel size in mm; None where unknown.
        window: (top, left, height, width) that the pixels show of the slice as it was read, in its
            pixels; may reach beyond it; None for all of it.
        parenchyma: grey level and spread of this patient's liver, over all its slices, in the unit
            of the pixels; None where it was not measured.
        beside: the slices below and above, of the same series, as they were read; None where the
            recipe does not ask for them.
    """

    pixels: NDArray[Any]
    kind: Kind = "picture"
    mask: NDArray[np.uint8] | None = None
    spacing_mm: tuple[float, float] | None = None
    window: tuple[int, int, int, int] | None = None
    parenchyma: tuple[float, float] | None = None
    beside: tuple[Slice, Slice] | None = None


@dataclass(frozen=True, slots=True)
class Volume:
    """One series: slices stacked from the feet (z = 0) to the head.

    Attributes:
        voxels: (z, y, x) float32 HU, or grey values where `kind` is "picture"; row 0 is anterior,
            column 0 the patient's right.
        spacing_mm: (z, y, x) voxel size in mm; None where unknown.
        kind: "hu" or "picture".
        mask: (z, y, x) uint8 with 0, LIVER and LESION; None where there is no mask.
    """

    voxels: NDArray[Any]
    spacing_mm: tuple[float, float, float] | None = None
    kind: Kind = "hu"
    mask: NDArray[np.uint8] | None = None
