"""Slices that show which lesions a finder found, which it missed, and what it took for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.data import Slice
from hepar.evaluate import Candidate, Lesion, Places
from hepar.explain.overlay import Picture, edges_of, grey_picture, in_colour

__all__ = ["CANDIDATE", "DRAWN", "FALSE", "Scene", "draw_scene", "scenes_of"]

Region = NDArray[np.bool_]

DRAWN, CANDIDATE, FALSE = "#56b4e9", "#e69f00", "#cc79a7"
"""Of Okabe and Ito: a drawn lesion, a place that meets one, a place that meets none."""

_MARGIN = 0.08
"""Of the larger side of the liver, shown around it."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One slice, with what somebody drew in it and what was found.

    Attributes:
        row: of the slice in its manifest.
        lesions: of the series that the slice cuts, with their regions (y, x).
        candidates: the same of what was found.
    """

    row: int
    lesions: tuple[tuple[Lesion, Region], ...]
    candidates: tuple[tuple[Candidate, Region], ...]

    @property
    def ranks(self) -> dict[str, tuple[float, ...]]:
        """How well it shows each kind of thing, more being better; without kinds it has none of."""
        lesions = [lesion for lesion, _ in self.lesions]
        false = [candidate.score for candidate, _ in self.candidates if candidate.is_false]
        found: dict[str, tuple[float, ...]] = {}
        if lesions:
            found["least found"] = max((-one.score, one.diameter_mm) for one in lesions)
            found["largest"] = (max(one.diameter_mm for one in lesions),)
        if false:
            found["falsest"] = (max(false),)
        return found


def scenes_of(places: Places, rows: Sequence[int]) -> dict[str, Scene]:
    """Return up to three slices of a series: of its lesion least found, its largest, its falsest.

    Args:
        places: of the series.
        rows: of its slices in the manifest, as many as the arrays are deep.
    """
    lesions, candidates = places.lesions, places.candidates
    false = [i for i, one in enumerate(candidates) if one.is_false]
    wanted: dict[str, int] = {}
    if lesions:
        order = range(len(lesions))
        least = min(order, key=lambda i: (lesions[i].score, -lesions[i].diameter_mm))
        largest = max(order, key=lambda i: lesions[i].diameter_mm)
        wanted["least found"] = _thickest(places.lesion_of, least)
        wanted["largest"] = _thickest(places.lesion_of, largest)
    if false:
        falsest = max(false, key=lambda i: candidates[i].score)
        wanted["falsest"] = _thickest(places.candidate_of, falsest)
    made = {
        z: Scene(
            rows[z],
            _cut(lesions, places.lesion_of[z]),
            _cut(candidates, places.candidate_of[z]),
        )
        for z in set(wanted.values())
    }
    return {kind: made[z] for kind, z in wanted.items()}


def _thickest(number_of: NDArray[np.int32], place: int) -> int:
    """Return the slice in which a place is largest."""
    return int((number_of == place + 1).sum(axis=(1, 2)).argmax())


def _cut(things: Sequence[Any], number_of: NDArray[np.int32]) -> tuple[tuple[Any, Region], ...]:
    """Return the things that a slice (y, x) cuts, with their regions."""
    return tuple((things[k - 1], number_of == k) for k in np.unique(number_of).tolist() if k)


def draw_scene(scene: Scene, image: Slice, least: float, side: int) -> Picture:
    """Return a slice cut to its liver, with lesions and candidates outlined.

    Args:
        scene: whose regions may be of a coarser grid.
        image: the slice, with its mask where there is one.
        least: score from which on a place is marked: its line is thick, others' thin.
        side: of the picture in pixels.
    """
    cut = _window(scene, image)
    drawn = in_colour(grey_picture(replace(image, pixels=cut(image.pixels), mask=None), side))
    drawn = np.ascontiguousarray(drawn)
    for _, region in scene.lesions:
        _outline(drawn, cut(region), DRAWN, 3)
    for candidate, region in scene.candidates:
        colour = FALSE if candidate.is_false else CANDIDATE
        marked = candidate.score >= least
        edges = _outline(drawn, cut(region), colour, 2 if marked else 1)
        corners = np.concatenate(edges)[:, 0]
        x, y = int(corners[:, 0].max()) + 3, int(corners[:, 1].min()) + 4
        place = (min(x, side - 36), max(12, min(y, side - 4)))
        _write(drawn, f"{candidate.score:.2f}", place, _bgr(colour))
    return drawn


def _write(picture: Picture, text: str, at: tuple[int, int], ink: tuple[int, int, int]) -> None:
    """Write on a dark rim, made of shifted copies: thicker letters are wider in some OpenCV."""
    rim = [(x, y, (0, 0, 0)) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    for x, y, colour in (*rim, (0, 0, ink)):
        place = (at[0] + x, at[1] + y)
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.48, colour, 1, cv2.LINE_AA)


def _outline(picture: Picture, region: Region, colour: str, width: int) -> list[NDArray[np.int32]]:
    edges = edges_of(region, len(picture))
    cv2.drawContours(picture, edges, -1, _bgr(colour), width, cv2.LINE_AA)
    return edges


def _bgr(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return blue, green, red


def _window(scene: Scene, image: Slice) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return what cuts arrays of a slice, at its scale or coarser, to the liver and its finds."""
    shape = (int(image.pixels.shape[0]), int(image.pixels.shape[1]))

    def full(array: NDArray[Any]) -> NDArray[Any]:
        if array.shape[:2] == shape:
            return array
        how = cv2.INTER_NEAREST
        return cv2.resize(array.astype(np.uint8), shape[::-1], interpolation=how) > 0

    shown = np.zeros(shape, bool) if image.mask is None else image.mask > 0
    for _, region in (*scene.lesions, *scene.candidates):
        shown |= full(region)
    if not shown.any():
        shown[:] = True
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    margin = int(_MARGIN * max(np.ptp(rows), np.ptp(columns))) + 2
    box = tuple(
        slice(max(0, int(line[0]) - margin), int(line[-1]) + margin + 1) for line in (rows, columns)
    )
    return lambda array: full(array)[box]
