"""Whether lesions are found: one by one, against how many false ones a patient gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Candidate", "Lesion", "Places", "Search", "froc", "search_series", "sensitivity_at"]

_TOUCH = 0.1
"""Share of a candidate or of a lesion that must lie in the other for them to meet."""

_CONNECTED = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Lesion:
    """One drawn lesion.

    Attributes:
        diameter_mm: of the circle as large as its largest section.
        score: the highest score of a candidate that meets it; 0 where none does.
    """

    diameter_mm: float
    score: float


@dataclass(frozen=True)
class Candidate:
    """One place that was taken for a lesion.

    Attributes:
        score: its highest.
        is_false: it meets no drawn lesion.
    """

    score: float
    is_false: bool


@dataclass(frozen=True)
class Search:
    """What was searched for and found in one patient.

    Attributes:
        patient_id: who.
        lesions: drawn.
        candidates: found.
    """

    patient_id: str
    lesions: tuple[Lesion, ...]
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, eq=False)
class Places:
    """The lesions and candidates of one series, and where they lie.

    Attributes:
        lesions: drawn.
        candidates: found.
        lesion_of: (z, y, x) 1 + the place in `lesions` that a voxel belongs to; 0 for none.
        candidate_of: (z, y, x) the same of `candidates`.
    """

    lesions: tuple[Lesion, ...]
    candidates: tuple[Candidate, ...]
    lesion_of: NDArray[np.int32]
    candidate_of: NDArray[np.int32]


def search_series(
    drawn: NDArray[np.bool_],
    scores: NDArray[np.float32],
    threshold: float,
    spacing_mm: tuple[float, float],
    least_mm: float = 5.0,
) -> Places:
    """Return the lesions and candidates of one series.

    Both are connected voxels; a candidate and a lesion meet where a tenth of either lies in the
    other. Candidates of a smaller section than a circle of `least_mm` are noise.

    Args:
        drawn: (z, y, x) lesions.
        scores: (z, y, x) how likely each voxel is a lesion, 0 to 1.
        threshold: of a candidate's voxels.
        spacing_mm: (y, x) of a voxel.
        least_mm: least diameter of a candidate.

    Example:
        >>> drawn = np.zeros((1, 40, 40), bool)
        >>> drawn[0, 5:15, 5:15] = True
        >>> scores = np.where(drawn, 0.9, 0.1).astype(np.float32)
        >>> found = search_series(drawn, scores, 0.5, (1.0, 1.0))
        >>> (lesion,), (candidate,) = found.lesions, found.candidates
        >>> round(lesion.diameter_mm, 1), lesion.score > 0.5, candidate.is_false
        (11.3, True, False)
    """
    from scipy import ndimage

    pixel = spacing_mm[0] * spacing_mm[1]
    lesion_of, n_lesions = ndimage.label(drawn, _CONNECTED)
    place_of, n_places = ndimage.label(scores > threshold, _CONNECTED)
    pairs = lesion_of.ravel() * np.int64(n_places + 1) + place_of.ravel()
    counts = np.bincount(pairs, minlength=(n_lesions + 1) * (n_places + 1))
    overlap = counts.reshape(n_lesions + 1, n_places + 1).astype(np.float64)
    meet = (overlap >= _TOUCH * overlap.sum(axis=0)) | (
        overlap >= _TOUCH * overlap.sum(axis=1, keepdims=True)
    )
    peak = np.zeros(n_places + 1)
    if n_places:
        peak[1:] = ndimage.maximum(scores, place_of, range(1, n_places + 1))
    large = _diameters(place_of, n_places, pixel) >= least_mm
    kept = [k for k in range(1, n_places + 1) if large[k - 1]]
    wide = _diameters(lesion_of, n_lesions, pixel)
    lesions = tuple(
        Lesion(float(wide[i - 1]), float(max((peak[k] for k in kept if meet[i, k]), default=0.0)))
        for i in range(1, n_lesions + 1)
    )
    candidates = tuple(Candidate(float(peak[k]), not meet[1:, k].any()) for k in kept)
    number = np.zeros(n_places + 1, np.int32)
    number[kept] = range(1, len(kept) + 1)
    return Places(lesions, candidates, np.asarray(lesion_of, np.int32), number[place_of])


def _diameters(regions: NDArray[np.int32], n: int, pixel_mm2: float) -> NDArray[np.float64]:
    """Return the diameter (mm) of the circle as large as each region's largest section."""
    sections = np.array([np.bincount(one.ravel(), minlength=n + 1)[1:] for one in regions])
    largest = sections.max(axis=0) if len(sections) else np.zeros(n)
    return np.asarray(2 * np.sqrt(largest * pixel_mm2 / np.pi), np.float64)


def froc(searches: Sequence[Search], least_mm: float) -> list[tuple[float, float, float]]:
    """Return (threshold, false candidates a patient, sensitivity) for every threshold that matters.

    Args:
        searches: of all patients, those without lesions among them.
        least_mm: lesions below this diameter are neither asked for nor counted.

    Source:
        Free-response ROC: Bunch et al., 1978.
    """
    scores = [x.score for s in searches for x in s.lesions if x.diameter_mm >= least_mm]
    false = np.sort([c.score for s in searches for c in s.candidates if c.is_false])
    points = []
    for threshold in sorted({*scores, *false.tolist(), 1.0} - {0.0}, reverse=True):
        found = sum(score >= threshold for score in scores)
        above = len(false) - int(np.searchsorted(false, threshold, side="left"))
        points.append((threshold, above / len(searches), found / len(scores) if scores else 0.0))
    return points


def sensitivity_at(
    searches: Sequence[Search], false_a_patient: float, least_mm: float
) -> tuple[float, float]:
    """Return the highest sensitivity with at most so many false candidates, and its threshold.

    Args:
        searches: of all patients.
        false_a_patient: candidates that meet no lesion, mean over patients.
        least_mm: lesions below this diameter do not count.
    """
    allowed = [(s, -t) for t, false, s in froc(searches, least_mm) if false <= false_a_patient]
    best, threshold = max(allowed, default=(0.0, -1.0))
    return best, -threshold
