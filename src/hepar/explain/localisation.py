"""Whether the evidence of a map lies where the lesion is, against where chance would put it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepar.data import LESION, LIVER, Slice

__all__ = ["Aim", "measure_aim", "measure_points"]


@dataclass(frozen=True)
class Aim:
    """What part of a slice's evidence points at its lesions.

    Attributes:
        hit: 1 where the largest value lies in a lesion, else 0.
        energy: share of the positive values that lies in lesions; 0 where none is positive.
        chance: share of the region that is lesion, which is what a map of no meaning scores.
        region: where was looked: "liver", or "slice" where the mask shows lesions alone.
    """

    hit: float
    energy: float
    chance: float
    region: str


def measure_aim(heat: NDArray[np.float32], image: Slice) -> Aim | None:
    """Return how a map aims, or None where the mask shows no lesion or nothing else.

    Only the liver is looked at where the mask shows it: lesions lie there, and against the whole
    body any map of the liver would seem to know where they are.

    Args:
        heat: (y, x) of one label, on the slice's own pixels.
        image: with its mask.

    Source:
        Zhang et al., IJCV 2018 (pointing game); Wang et al., CVPRW 2020 (energy).

    Example:
        >>> mask = np.array([[1, 1, 2, 0]], np.uint8)
        >>> image = Slice(np.zeros((1, 4), np.uint8), mask=mask)
        >>> measure_aim(np.array([[1.0, -1.0, 3.0, 9.0]], np.float32), image)
        Aim(hit=1.0, energy=0.75, chance=0.3333333333333333, region='liver')
    """
    if image.mask is None:
        return None
    known = bool((image.mask == LIVER).any())
    region = image.mask > 0 if known else np.ones(image.mask.shape, bool)
    return measure_points(heat[region], image.mask[region] == LESION, "liver" if known else "slice")


def measure_points(
    values: NDArray[np.float32], lesion: NDArray[np.bool_], region: str
) -> Aim | None:
    """Return how values aim at lesions, or None where none or all of them lie there.

    Args:
        values: (n,) of a map, everywhere that was looked.
        lesion: (n,) which of them lie in a lesion.
        region: where was looked.
    """
    if not lesion.any() or lesion.all():
        return None
    seen = np.maximum(values.astype(np.float64), 0)
    total = float(seen.sum())
    return Aim(
        hit=float(total > 0 and lesion[int(np.argmax(seen))]),
        energy=float(seen[lesion].sum()) / total if total > 0 else 0.0,
        chance=float(lesion.mean()),
        region=region,
    )
