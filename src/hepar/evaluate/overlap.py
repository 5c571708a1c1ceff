"""How an outline agrees with the one that somebody drew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Overlap", "measure_overlap"]


@dataclass(frozen=True)
class Overlap:
    """The outlines of one patient, all slices together.

    Attributes:
        patient_id: who.
        drawn: pixels that somebody drew.
        found: pixels that were found.
        both: pixels in both.
        n_slices: slices compared, one by one.
        worst: least Dice coefficient of a slice with 1 % of the drawn pixels or more; None where no
            slice was compared.
    """

    patient_id: str
    drawn: int
    found: int
    both: int
    n_slices: int = 0
    worst: float | None = None

    @property
    def dice(self) -> float:
        """Dice coefficient of the patient, 0 to 1; 1 where nothing is drawn and nothing found."""
        total = self.drawn + self.found
        return 2 * self.both / total if total else 1.0

    @property
    def volume_error(self) -> float | None:
        """Found over drawn volume, less 1; None where nothing is drawn."""
        return self.found / self.drawn - 1 if self.drawn else None


def measure_overlap(
    patient_id: str, drawn: Sequence[NDArray[np.bool_]], found: Sequence[NDArray[np.bool_]]
) -> Overlap:
    """Return how the outlines of one patient's slices agree.

    Args:
        patient_id: who.
        drawn: (y, x) of each slice, of the same voxel size.
        found: the same slices.

    Source:
        Dice, Ecology 1945; the coefficient of the whole volume, as in LiTS (Bilic et al. 2023).

    Example:
        >>> one = np.array([[True, True, False]])
        >>> measure_overlap("P1", [one], [~one]).dice
        0.0
        >>> measure_overlap("P1", [one, ~one], [one, one]).volume_error
        0.33333333333333326
    """
    counts = np.array(
        [(d.sum(), f.sum(), (d & f).sum()) for d, f in zip(drawn, found, strict=True)],
        np.int64,
    ).reshape(-1, 3)
    total = counts.sum(axis=0)
    large = counts[counts[:, 0] >= max(1, 0.01 * total[0])]
    slices = 2 * large[:, 2] / (large[:, 0] + large[:, 1])
    return Overlap(
        patient_id,
        int(total[0]),
        int(total[1]),
        int(total[2]),
        len(counts),
        float(slices.min()) if len(slices) else 1.0,
    )
