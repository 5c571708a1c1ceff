"""Which samples are copies of each other, or so alike that they are one patient's."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hepar.audit.groups import join
from hepar.audit.looks import SIDE, Looks
from hepar.progress import track

__all__ = ["Link", "find_links", "near_pairs"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Kind = Literal["exact", "copy", "neighbour", "alike"]

COPY = 0.8
"""Correlation of fine structure, one thumbnail moved onto the other, from which they are copies.

Measured: copies that were shifted by 5 %, turned by 10 degrees, zoomed by 10 %, noisy, of another
gamma or several of it 0.88 to 0.999; the most alike slices of different patients at most 0.57
(LiTS, MSD, NIH) and 0.68 (phantom). Adjacent slices of one patient often pass, too.
"""

NEIGHBOUR = 0.68
"""Correlation of fine structure in two thumbnails from which they are one patient's.

Measured: adjacent slices of LiTS 0.78 to 0.995, one in three 0.33 to 0.96; of different patients at
most 0.33 (LiTS), 0.41 (MSD), 0.45 (NIH) and 0.65 (phantom).
"""

ALIKE = 0.8
"""Cosine of two slices' features, less the cohort's mean, from which they are one patient's.

Measured: of different patients at most 0.757 (LiTS), 0.735 (MSD), 0.728 (NIH), 0.691 (phantom).
"""

_WORTH_A_LOOK = 0.6
_FINE = 3.0  # sigma in pixels of a thumbnail: what is wider is not fine structure
_COARSE = 32
_COARSE_LEAST = 0.6
_NEAREST = 10
_NEAREST_OUTSIDE = 5
_EXACT_SEARCH = 20_000
_WIDEST = 640
_AT_ONCE = 10_000
_FLIPS = {"": (1, 1), "left-right": (1, -1), "upside down": (-1, 1), "turned by 180": (-1, -1)}


@dataclass(frozen=True, order=True)
class Link:
    """Two samples that belong together.

    Attributes:
        a: position of the one.
        b: position of the other, above `a`.
        kind: "exact" (the same pixels), "copy" (the same but for coding, grey values, place or
            side), "neighbour" (adjacent slices) or "alike" (by their features alone).
        similarity: 1 for the same.
        mirrored: how one has to be mirrored: "", "left-right", "upside down" or "turned by 180".
    """

    a: int
    b: int
    kind: Kind
    similarity: float
    mirrored: str = ""


def _faiss() -> Any:
    """Return faiss, whose own types are incomplete."""
    import faiss

    return faiss


def _index(rows: Floats) -> tuple[Any, Any]:
    """Return an index of rows of length 1 and what makes the parameters of a search in it."""
    faiss = _faiss()
    n, d = rows.shape
    if n <= _EXACT_SEARCH:
        index = faiss.IndexFlatIP(d)
        index.add(rows)
        return index, faiss.SearchParameters
    cells = int(4 * np.sqrt(n))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.niter = 0, 4
    index.train(rows[:: max(1, n // (40 * cells))])
    index.add(rows)
    return index, lambda **more: faiss.SearchParametersIVF(nprobe=5, **more)


def near_pairs(
    rows: Floats,
    units: Ints | None = None,
    k: int = _NEAREST,
    least: float = _WORTH_A_LOOK,
    queries: Floats | None = None,
) -> tuple[Ints, Ints, Floats]:
    """Return pairs of rows with a high cosine, among the k nearest of each.

    Up to 20,000 rows the search is exact; above, rows are looked for in the five nearest of
    4 sqrt(n) cells.

    Args:
        rows: (n, d), scaled here to length 1.
        units: (n,) non-negative; pairs inside a unit are left out. None for all pairs.
        k: neighbours of each row.
        least: cosine below which a pair is dropped.
        queries: (n, d), what each row is looked for as; None for itself.

    Returns:
        Positions a < b and cosines, each pair once, sorted.
    """
    own = np.arange(len(rows)) if units is None else units
    order = np.argsort(own, kind="stable")
    scaled = np.ascontiguousarray(_unit(rows)[order])
    index, parameters = _index(scaled)
    if queries is not None or units is None:
        asked = scaled if queries is None else np.ascontiguousarray(_unit(queries)[order])
        found = [(np.arange(len(rows)), *index.search(asked, k + 1, params=parameters()))]
    else:
        found = list(_outside(index, parameters, scaled, own[order], k))
    a = np.concatenate([np.repeat(asking, near.shape[1]) for asking, _, near in found])
    b = np.concatenate([near.ravel() for _, _, near in found])
    cosine = np.concatenate([values.ravel() for _, values, _ in found])
    a, b, cosine = (values[b >= 0] for values in (order[a], b, cosine))
    b = order[b]
    keep = (own[a] != own[b]) & (cosine >= least)
    pairs = np.sort(np.stack([a[keep], b[keep]]), axis=0)
    pairs, first = np.unique(pairs, axis=1, return_index=True)
    return pairs[0], pairs[1], cosine[keep][first]


def _outside(
    index: Any, parameters: Any, rows: Floats, units: Ints, k: int
) -> Iterable[tuple[Ints, Floats, Ints]]:
    """Search for each row's k nearest among the rows of other units; rows are sorted by unit.

    All rows are searched at once, those with too few outside their unit again for four times as
    many, and the last, of large units, unit by unit.
    """
    left = np.arange(len(rows))
    wide = 4 * k
    while len(left) and wide <= _WIDEST:
        cosine, near = index.search(rows[left], min(wide, len(rows)), params=parameters())
        outside = (near >= 0) & (units[near] != units[left, np.newaxis])
        rank = outside.cumsum(axis=1)
        done = (rank[:, -1] >= k) | (near[:, -1] < 0) | (wide >= len(rows))
        first = np.argsort(~(outside & (rank <= k)), axis=1, kind="stable")[done, :k]
        kept = np.take_along_axis(np.where(outside, near, -1)[done], first, axis=1)
        yield left[done], np.take_along_axis(cosine[done], first, axis=1), kept
        left, wide = left[~done], 4 * wide
    faiss = _faiss()
    for unit in np.unique(units[left]).tolist():
        start, end = np.searchsorted(units, [unit, unit + 1])
        own = left[(left >= start) & (left < end)]
        inside = faiss.IDSelectorRange(int(start), int(end))
        chosen = parameters(sel=faiss.IDSelectorNot(inside))
        yield own, *index.search(rows[own], k, params=chosen)


def _unit(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.ascontiguousarray(rows / np.maximum(length, 1e-12), np.float32)


def _fine(image: Any) -> Floats:
    """Return what is left of an image (y, x) without its coarse structure."""
    import cv2

    pixels = np.asarray(image, np.float32)
    return np.asarray(pixels - cv2.GaussianBlur(pixels, (0, 0), _FINE), np.float32)


def _flat(thumbnails: NDArray[np.uint8], side: int = SIDE) -> Floats:
    """Return the fine structure of thumbnails, (n, side * side), less its mean, of length 1."""
    import cv2

    flat = np.empty((len(thumbnails), side * side), np.float32)
    for i, thumbnail in enumerate(thumbnails):
        flat[i] = cv2.resize(_fine(thumbnail), (side, side), interpolation=cv2.INTER_AREA).ravel()
    flat -= flat.mean(axis=1, keepdims=True)
    return _unit(flat)


def _flipped(thumbnails: NDArray[np.uint8], flip: str) -> NDArray[np.uint8]:
    down, right = _FLIPS[flip]
    return thumbnails[:, ::down, ::right]


def _alike_thumbnails(
    thumbnails: NDArray[np.uint8], units: Ints | None
) -> dict[tuple[int, int], tuple[float, str]]:
    """Return pairs of alike thumbnails, one mirrored where that makes them alike."""
    found: dict[tuple[int, int], tuple[float, str]] = {}
    coarse = _flat(thumbnails, _COARSE)
    for flip in _FLIPS:
        queries = _flat(_flipped(thumbnails, flip), _COARSE) if flip else None
        a, b, _ = near_pairs(coarse, units, _NEAREST, _COARSE_LEAST, queries)
        for start in range(0, len(a), _AT_ONCE):
            left, right = a[start : start + _AT_ONCE], b[start : start + _AT_ONCE]
            other = _flat(_flipped(thumbnails[right], flip))
            likeness = (_flat(thumbnails[left]) * other).sum(axis=1)
            alike = likeness >= NEIGHBOUR
            for i, j, value in zip(left[alike], right[alike], likeness[alike], strict=True):
                pair = (int(i), int(j))
                if value > found.get(pair, (0.0, ""))[0]:
                    found[pair] = (min(float(value), 1.0), flip)
    return found


def _moved_onto(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return how alike the fine structure is after the best shift, turn and zoom of one.

    Source: Evangelidis and Psarakis 2008, IEEE PAMI 30:1858 (ECC), as OpenCV has it.
    """
    import cv2

    a, b = one.astype(np.float32), other.astype(np.float32)
    hann = cv2.createHanningWindow((SIDE, SIDE), cv2.CV_32F)
    shift, _ = cv2.phaseCorrelate((a - a.mean()) * hann, (b - b.mean()) * hann)
    find: Any = cv2.findTransformECC  # its type lacks the mask that may be None
    best = -1.0
    for start in ((0.0, 0.0), shift):
        matrix = np.array([[1, 0, start[0]], [0, 1, start[1]]], np.float32)
        until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-4)
        try:
            _, matrix = find(a, b, matrix, cv2.MOTION_AFFINE, until, None, 3)
        except cv2.error:  # it did not converge: these two do not fit
            continue
        best = max(best, _correlation(a, b, matrix))
    return best


def _correlation(a: Floats, b: Floats, matrix: Any) -> float:
    import cv2

    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(b, matrix, (SIDE, SIDE), flags=flags)
    shown = cv2.warpAffine(np.ones_like(b), matrix, (SIDE, SIDE), flags=flags) > 0.99
    if shown.mean() < 0.7 or np.abs(matrix[:, :2] - np.eye(2)).max() > 0.4:
        return -1.0
    x, y = _fine(a)[shown], _fine(moved)[shown]
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / max(float(np.sqrt((x @ x) * (y @ y))), 1e-12))


def _best_move(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> tuple[float, str]:
    """Return how alike two thumbnails are once moved, mirrored left to right or not."""
    plain = _moved_onto(one, other)
    if plain >= COPY:
        return plain, ""
    mirrored = _moved_onto(one, np.ascontiguousarray(other[:, ::-1]))
    return (mirrored, "left-right") if mirrored > plain else (plain, "")


def find_links(looks: Looks, units: Ints | None = None) -> tuple[Link, ...]:
    """Return pairs of samples that are copies, or so alike that they are one patient's.

    Args:
        looks: of n samples.
        units: (n,) codes of the known patients: only pairs of different patients are looked for,
            and only copies of each other are told. None where patients are unknown: adjacent
            slices and slices alike by their features are told, too.

    Returns:
        Links, each pair once, sorted.
    """
    near = _alike_thumbnails(looks.thumbnails, units)
    apart = join(len(looks.hashes), near) if units is None else units
    centred = looks.features - looks.features.mean(axis=0)
    a, b, cosine = near_pairs(centred, apart, _NEAREST_OUTSIDE, _WORTH_A_LOOK)
    seen = dict(zip(zip(a.tolist(), b.tolist(), strict=True), cosine.tolist(), strict=True))
    found = [Link(a, b, "exact", 1.0) for a, b in _same_pixels(looks.hashes, units)]
    found += [Link(*pair, "copy", *how) for pair, how in near.items() if how[0] >= COPY and how[1]]
    found += _moved(looks.thumbnails, [*seen, *(near if units is not None else ())])
    if units is None:
        plain = {pair: value for pair, (value, flip) in near.items() if not flip}
        found += [Link(*pair, "neighbour", value) for pair, value in plain.items()]
        found += [Link(*p, "alike", min(c, 1.0)) for p, c in seen.items() if c >= ALIKE]
    best: dict[tuple[int, int], Link] = {}
    for link in found:
        old = best.setdefault((link.a, link.b), link)
        if _RANK[link.kind] < _RANK[old.kind]:
            best[link.a, link.b] = link
    return tuple(sorted(best.values()))


def _moved(thumbnails: NDArray[np.uint8], pairs: Iterable[tuple[int, int]]) -> list[Link]:
    """Return the pairs of which one, moved onto the other, is its copy."""
    asked = sorted(set(pairs))
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda pair: _best_move(thumbnails[pair[0]], thumbnails[pair[1]]), asked)
        told = zip(asked, track(found, "compare images", total=len(asked)), strict=True)
        return [
            Link(*pair, "copy", min(likeness, 1.0), flip)
            for pair, (likeness, flip) in told
            if likeness >= COPY
        ]


_RANK = {"exact": 0, "copy": 1, "neighbour": 2, "alike": 3}


def _same_pixels(hashes: tuple[str, ...], units: Ints | None) -> Iterable[tuple[int, int]]:
    """Yield pairs with equal pixels, each sample with the first of its kind in another unit."""
    first: dict[str, list[int]] = {}
    for i, sha256 in enumerate(hashes):
        others = first.setdefault(sha256, [])
        other = next((j for j in others if units is None or units[i] != units[j]), None)
        if other is not None:
            yield other, i
        if len(others) < 2:
            others.append(i)
