"""Pictures of slices: windowed, in patient orientation, with outlines and heat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.data import LESION, Slice

__all__ = [
    "draw_contours",
    "draw_heat",
    "draw_map",
    "draw_outlines",
    "draw_scale",
    "edges_of",
    "grey_picture",
    "in_colour",
    "lesion_outlines",
]

Picture = NDArray[np.uint8]

_LEVEL_HU, _WIDTH_HU = 60.0, 400.0
_OPACITY = 0.7
_ORANGE, _SKY = (0, 159, 230), (233, 180, 86)  # of Okabe and Ito, as OpenCV orders colours


def grey_picture(image: Slice, side: int = 0) -> Picture:
    """Return a slice as a picture (y, x) of grey values, or (y, x, 3) of an RGB tile's colours.

    Args:
        image: HU are shown in the window -140 to 260, pictures over the range of their type.
        side: of the square that it is centred in, in pixels; 0 for its own size.
    """
    grey = image.pixels.astype(np.float32)
    if image.kind == "hu":
        grey = (grey - (_LEVEL_HU - _WIDTH_HU / 2)) / _WIDTH_HU * 255
    elif image.pixels.dtype != np.uint8:
        grey = grey * np.float32(255 / np.iinfo(image.pixels.dtype).max)
    grey = np.asarray(np.clip(grey, 0, 255), np.float32)
    if side:
        grey = _squared(grey, side, cv2.INTER_AREA)
    if image.kind == "rgb":
        grey = grey[..., ::-1]  # as OpenCV orders colours
    return np.asarray(np.rint(grey), np.uint8)


def lesion_outlines(image: Slice, side: int) -> list[NDArray[np.int32]]:
    """Return the outlines of a slice's lesions in the square that `grey_picture` draws."""
    if image.mask is None or not (image.mask == LESION).any():
        return []
    return edges_of(image.mask == LESION, side)


def edges_of(region: NDArray[np.bool_], side: int) -> list[NDArray[np.int32]]:
    """Return the outlines of a region (y, x) of a slice in the square that `grey_picture` draws."""
    small = _squared(region.astype(np.uint8), side, cv2.INTER_NEAREST)
    found, _ = cv2.findContours(
        np.asarray(small, np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    return [np.asarray(outline, np.int32) for outline in found]


def draw_contours(picture: Picture, regions: Sequence[NDArray[np.bool_]], side: int) -> Picture:
    """Return a picture in colour with the edges of two regions: the first blue, then orange.

    Args:
        picture: (side, side) from `grey_picture`.
        regions: (y, x) on the slice's own pixels.
        side: of the picture.
    """
    drawn = in_colour(picture).copy()
    for region, colour in zip(regions, (_SKY, _ORANGE), strict=True):
        cv2.drawContours(drawn, edges_of(region, side), -1, colour, 1, cv2.LINE_AA)
    return drawn


def draw_outlines(
    picture: Picture, outlines: Sequence[NDArray[np.int32]], *, on_heat: bool = False
) -> Picture:
    """Return a picture (y, x) or (y, x, 3) in colour, with outlines."""
    drawn = in_colour(picture).copy()
    cv2.drawContours(drawn, list(outlines), -1, _SKY if on_heat else _ORANGE, 1, cv2.LINE_AA)
    return drawn


def in_colour(picture: Picture) -> Picture:
    """Return a picture (y, x) or (y, x, 3) as one of three channels."""
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


def draw_heat(picture: Picture, heat: NDArray[np.float32], scale: float) -> Picture:
    """Return a picture with what speaks for a label laid over it.

    The colour is absolute: nothing at 0, full at `scale`, so that an empty map looks empty and
    slices can be compared.

    Args:
        picture: (y, x) or (y, x, 3) of the slice.
        heat: (y, x) of the slice, at its own size; negative values are not shown.
        scale: value of the full colour, above 0.
    """
    share = np.clip(heat / np.float32(scale), 0, 1)
    if share.shape != picture.shape[:2]:
        share = _squared(share, len(picture), cv2.INTER_LINEAR)
    colours = cv2.applyColorMap(np.asarray(np.rint(255 * share), np.uint8), cv2.COLORMAP_INFERNO)
    opacity = (_OPACITY * np.minimum(1, 2 * share))[..., None]
    return np.asarray(np.rint(in_colour(picture) * (1 - opacity) + colours * opacity), np.uint8)


def draw_map(image: Slice, heat: NDArray[np.float32], scale: float, side: int) -> Picture:
    """Return a slice in a square with its map and the outlines of its lesions."""
    coloured = draw_heat(grey_picture(image, side), heat, scale)
    return draw_outlines(coloured, lesion_outlines(image, side), on_heat=True)


def draw_scale(width: int, height: int) -> Picture:
    """Return the bar (height, width, 3) that `draw_heat` lays over mid-grey, 0 on the left."""
    heat = np.repeat(np.linspace(0, 1, width, dtype=np.float32)[None], height, axis=0)
    return draw_heat(np.full((height, width), 96, np.uint8), heat, 1.0)


def _squared(
    values: NDArray[np.floating[Any] | np.integer[Any]], side: int, how: int
) -> NDArray[np.float32]:
    """Return values resized to fit a square and centred in it; 0 beside them."""
    height, width = values.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(values, size, interpolation=how)
    canvas = np.zeros((side, side, *values.shape[2:]), np.float32)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas
