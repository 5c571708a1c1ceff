"""Whether lesions are found: one by one, against how many false ones are, and how well outlined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepar.config import EvaluateConfig
from hepar.evaluate.intervals import MIN_PATIENTS, Estimate, resamples
from hepar.evaluate.overlap import Overlap
from hepar.words import counted

__all__ = [
    "Candidate",
    "Lesion",
    "Places",
    "Search",
    "froc",
    "search_series",
    "sensitivity_at",
    "share_found",
]

_TOUCH = 0.1
"""Share of a candidate or of a lesion that must lie in the other for them to meet."""

_CONNECTED = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Lesion:
    """One drawn lesion.

    Attributes:
        diameter_mm: of the circle as large as its largest section.
        score: the highest score of a candidate that meets it; 0 where none does.
        voxels: of it.
    """

    diameter_mm: float
    score: float
    voxels: int = 0


@dataclass(frozen=True)
class Candidate:
    """One place that was taken for a lesion.

    Attributes:
        score: its highest.
        is_false: it meets no drawn lesion.
        voxels: of it.
        drawn: voxels of it that somebody drew as lesion.
    """

    score: float
    is_false: bool
    voxels: int = 0
    drawn: int = 0


@dataclass(frozen=True)
class Search:
    """What was searched for and found in one patient.

    Attributes:
        patient_id: who.
        lesions: drawn.
        candidates: found.
        n_series: series that were searched, each as a stack of slices; 0 where slices stood alone.
    """

    patient_id: str
    lesions: tuple[Lesion, ...]
    candidates: tuple[Candidate, ...]
    n_series: int = 1

    def overlap(self, threshold: float) -> Overlap:
        """Return how voxels of candidates from a threshold on agree with drawn lesions."""
        found = [one for one in self.candidates if one.score >= threshold]
        return Overlap(
            self.patient_id,
            drawn=sum(one.voxels for one in self.lesions),
            found=sum(one.voxels for one in found),
            both=sum(one.drawn for one in found),
        )


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
        Lesion(
            float(wide[i - 1]),
            float(max((peak[k] for k in kept if meet[i, k]), default=0.0)),
            int(overlap[i].sum()),
        )
        for i in range(1, n_lesions + 1)
    )
    candidates = tuple(
        Candidate(
            float(peak[k]),
            not meet[1:, k].any(),
            int(overlap[:, k].sum()),
            int(overlap[1:, k].sum()),
        )
        for k in kept
    )
    number = np.zeros(n_places + 1, np.int32)
    number[kept] = range(1, len(kept) + 1)
    return Places(lesions, candidates, np.asarray(lesion_of, np.int32), number[place_of])


def _diameters(regions: NDArray[np.int32], n: int, pixel_mm2: float) -> NDArray[np.float64]:
    """Return the diameter (mm) of the circle as large as each region's largest section."""
    sections = np.array([np.bincount(one.ravel(), minlength=n + 1)[1:] for one in regions])
    largest = sections.max(axis=0) if len(sections) else np.zeros(n)
    return np.asarray(2 * np.sqrt(largest * pixel_mm2 / np.pi), np.float64)


def froc(
    searches: Sequence[Search], least_mm: float, *, by_series: bool = False
) -> list[tuple[float, float, float]]:
    """Return (threshold, false candidates a patient, sensitivity) for every threshold that matters.

    Args:
        searches: of all patients, those without lesions among them.
        least_mm: lesions below this diameter are neither asked for nor counted.
        by_series: false candidates a series: a patient may have been examined several times.

    Source:
        Free-response ROC: Bunch et al., 1978.
    """
    scores = [x.score for s in searches for x in s.lesions if x.diameter_mm >= least_mm]
    false = np.sort([c.score for s in searches for c in s.candidates if c.is_false])
    n = sum(s.n_series for s in searches) if by_series else len(searches)
    points = []
    for threshold in sorted({*scores, *false.tolist(), 1.0} - {0.0}, reverse=True):
        found = sum(score >= threshold for score in scores)
        above = len(false) - int(np.searchsorted(false, threshold, side="left"))
        points.append((threshold, above / n, found / len(scores) if scores else 0.0))
    return points


def sensitivity_at(
    searches: Sequence[Search], false: float, least_mm: float, *, by_series: bool = False
) -> tuple[float, float]:
    """Return the highest sensitivity with at most so many false candidates, and its threshold.

    Args:
        searches: of all patients.
        false: candidates that meet no lesion, mean over patients.
        least_mm: lesions below this diameter do not count.
        by_series: mean over series instead.
    """
    points = froc(searches, least_mm, by_series=by_series)
    allowed = [(s, -t) for t, most, s in points if most <= false]
    best, threshold = max(allowed, default=(0.0, -1.0))
    return best, -threshold


def share_found(
    searches: Sequence[Search], threshold: float, least_mm: float, config: EvaluateConfig
) -> Estimate:
    """Return the share of lesions found from a threshold on, with a bootstrap interval of patients.

    Args:
        searches: of all patients.
        threshold: from which on a candidate counts; taken as given.
        least_mm: lesions below this diameter do not count.
        config: resamples, level and seed.
    """
    own = [[x.score >= threshold for x in s.lesions if x.diameter_mm >= least_mm] for s in searches]
    found, total = np.array([[sum(one), len(one)] for one in own], np.float64).reshape(-1, 2).T
    n, lesions = int((total > 0).sum()), int(total.sum())
    value = float(found.sum() / max(lesions, 1))
    if n < MIN_PATIENTS:
        why = f"rests on {counted(n, 'patient')} with lesions, and an interval here needs "
        return Estimate(value, None, None, "none", n, lesions, f"{why}{MIN_PATIENTS}")
    drawn = [
        counts @ found / np.maximum(counts @ total, 1) for counts in resamples(len(own), config)
    ]
    tail = (1 - config.level) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    return Estimate(value, float(low), float(high), "bootstrap", n, lesions)
