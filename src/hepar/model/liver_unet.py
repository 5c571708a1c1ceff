"""The liver and its lesions by the pretrained 3D U-Net that `hepar weights fetch liver-unet` gets.

What is done to a volume before and after the networks is what their own package does, but for three
things: no median filter at 1.5 mm (its Dice is the same to three digits), probabilities and not
masks are resampled to the volume, and a volume of more than 40 cm is cut at the lungs alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.backbone import open_session, read_graph, read_liver_unet
from hepar.data import LESION, LIVER, Volume
from hepar.errors import SegmentError
from hepar.preprocess import resample, resample_back

__all__ = ["answer", "check_volume", "outline_volume", "segment_volume"]

Floats = NDArray[np.float32]
Box = tuple[slice, slice, slice]
Runs = Callable[[Floats], Floats]

_GRID_MM = (3.0, 3.0, 3.0)
_INPUT, _MARGIN = (162, 162, 189), 13
"""Voxels (z, y, x) of the liver network's input, as in training: what it answers depends on them.
It answers all but the margin."""

_LESION_GRID_MM = (3.0, 1.0, 1.0)
_LESION_INPUT, _LESION_OUTPUT, _LESION_MARGIN = (86, 172, 180), (42, 84, 92), (22, 44, 44)

_REACH_MM, _ABOVE_DOME_MM = 408.0, 70.0
_TISSUE_HU, _LUNG_HU = -150.0, -600.0
_HALF = 0.5


def segment_volume(volume: Volume, *, lesions: bool = False, threads: int = 0) -> NDArray[np.uint8]:
    """Return where the liver and its lesions are in a CT volume.

    **LiTS may be among the training data: never evaluate it on LiTS.** It was made for whole
    abdomens; of a few slices it makes little.

    Args:
        volume: in HU, with its spacing.
        lesions: look for lesions, too: four times the work, and how many it finds was not measured.
        threads: inside the networks; 0 for one per core.

    Returns:
        (z, y, x) uint8 with 0, LIVER and LESION; all 0 where no liver was found.

    Raises:
        SegmentError: the volume is a picture or has no spacing.
        WeightsNotFoundError: the weights were not fetched yet.

    Source:
        X. Tang et al., Whole liver segmentation based on deep learning and manual adjustment for
        clinical use in SIRT, Eur J Nucl Med Mol Imaging 47, 2020; package pyliverlesionseg 0.3.
    """
    mask = outline_volume(volume, functools.partial(_run, "liver_unet_3d", threads=threads))
    if lesions and mask.any():
        mask[_lesions(volume, mask, threads)] = LESION
    return mask


def check_volume(kind: str, spacing_mm: tuple[float, float, float] | None) -> None:
    """Refuse what the networks were not made for.

    Args:
        kind: of the pixels.
        spacing_mm: of the voxels; None or 0 where unknown.

    Raises:
        SegmentError: the volume is a picture, or has no spacing.
    """
    if kind != "hu" or not spacing_mm or min(spacing_mm) <= 0:
        got = "a picture" if kind != "hu" else f"spacing {spacing_mm}"
        raise SegmentError(
            f"liver-unet: expected a volume (z, y, x) in HU with its spacing in mm, got {got}. "
            "Outline pictures with a network taught on pictures (`hepar segment fit`)."
        )


def outline_volume(volume: Volume, run: Runs) -> NDArray[np.uint8]:
    """Return where the liver is in a CT volume.

    Args:
        volume: in HU, with its spacing.
        run: the liver network, from a grid (z, y, x) of its size to probabilities.

    Returns:
        (z, y, x) uint8 with 0 and LIVER; all 0 where no liver was found.

    Raises:
        SegmentError: the volume is a picture or has no spacing.
    """
    check_volume(volume.kind, volume.spacing_mm)
    spacing = volume.spacing_mm or _GRID_MM
    mask = np.zeros(volume.voxels.shape, np.uint8)
    box = _abdomen(volume.voxels, spacing)
    if box is None:
        return mask
    grid = _grey(resample(volume.voxels, spacing, _GRID_MM, box))
    liver = _largest(_liver_probability(grid, run))
    if liver.any():
        mask[box] = resample_back(liver, mask[box].shape) > _HALF
    return mask


def _grey(hu: Floats) -> Floats:
    """Return HU as the networks take them: -200 to 200 HU are -0.5 to 0.5."""
    return np.clip(hu, -200, 200) / np.float32(400)


@functools.cache
def _session(graph: str, threads: int) -> tuple[Any, object]:
    return open_session(read_graph(graph), read_liver_unet(), threads, arena=False)


def _run(graph: str, grid: Floats, threads: int) -> Floats:
    session, _ = _session(graph, threads)
    return answer(session, grid)


def answer(session: Any, grid: Floats) -> Floats:
    """Return probabilities of a grid (z, y, x); the networks' axes run right, front and head."""
    turned = np.ascontiguousarray(grid.transpose(2, 1, 0)[::-1, ::-1])
    (found,) = session.run(["probability"], {"volume": turned[None, None]})
    return np.asarray(found[0, 0, ::-1, ::-1].transpose(2, 1, 0), np.float32)


def _liver_probability(grid: Floats, run: Runs) -> Floats:
    """Return the liver's probability on the grid, 0 beyond what the network answers."""
    inside, shown = zip(*map(_centred, grid.shape, _INPUT), strict=True)
    padded = np.zeros(_INPUT, np.float32)
    padded[shown] = grid[inside]
    answered = np.zeros(_INPUT, np.float32)
    answered[(slice(_MARGIN, -_MARGIN),) * 3] = run(padded)
    probability = np.zeros(grid.shape, np.float32)
    probability[inside] = answered[shown]
    return probability


def _centred(size: int, room: int) -> tuple[slice, slice]:
    """Return the slices that put the middle of one axis in the middle of another."""
    start = room // 2 - size // 2
    length = min(size, room)
    first, at = max(0, -start), max(0, start)
    return slice(first, first + length), slice(at, at + length)


def _largest(probability: Floats) -> Floats:
    """Return the probability of the largest region and its rim alone, bridges cut, holes filled."""
    from scipy import ndimage

    ball = ndimage.generate_binary_structure(3, 2)
    core, count = ndimage.label(ndimage.binary_erosion(probability > _HALF, ball))
    if not count:
        return np.zeros_like(probability)
    largest = core == 1 + np.argmax(np.bincount(core.ravel())[1:])
    kept = np.where(ndimage.binary_dilation(largest, ball, iterations=2), probability, 0)
    liver = kept > _HALF
    kept[ndimage.binary_fill_holes(liver) & ~liver] = 1
    return kept


def _abdomen(hu: NDArray[Any], spacing_mm: tuple[float, float, float]) -> Box | None:
    """Return the box of the body, of at most 408 mm in height, None where there is no body."""
    from scipy import ndimage

    step = [max(1, round(4 / mm)) for mm in spacing_mm]
    coarse = hu[:: step[0], :: step[1], :: step[2]]
    regions, count = ndimage.label(ndimage.binary_erosion(coarse > _TISSUE_HU))
    if not count:
        return None
    body = 1 + int(np.argmax(np.bincount(regions.ravel())[1:]))
    _, rows, columns = ndimage.find_objects((regions == body).astype(np.uint8))[0]
    if len(hu) * spacing_mm[0] <= _REACH_MM:
        levels = slice(0, len(hu))
    else:
        dome = _dome(coarse, regions == body) * step[0]
        top = min(len(hu), dome + round(_ABOVE_DOME_MM / spacing_mm[0]))
        levels = slice(max(0, top - int(_REACH_MM / spacing_mm[0])), top)
    return (
        levels,
        slice(rows.start * step[1], min(hu.shape[1], rows.stop * step[1])),
        slice(columns.start * step[2], min(hu.shape[2], columns.stop * step[2])),
    )


def _dome(hu: NDArray[Any], body: NDArray[np.bool_]) -> int:
    """Return the lowest level with half of the lungs' largest area, the top where there are none.

    Lungs are air that the body surrounds in its slice.
    """
    from scipy import ndimage

    area = np.zeros(len(hu))
    for level, (plane, tissue) in enumerate(zip(hu, body, strict=True)):
        filled = ndimage.binary_fill_holes(tissue)
        area[level] = ((plane < _LUNG_HU) & ndimage.binary_erosion(filled, iterations=2)).sum()
    if area.max() < 0.1 * body.any(axis=0).sum():
        return len(hu)
    return int(np.flatnonzero(area >= area.max() / 2)[0])


def _lesions(volume: Volume, liver: NDArray[np.uint8], threads: int) -> NDArray[np.bool_]:
    """Return where lesions are, inside the liver and 2 voxels of the networks' grid around it."""
    from scipy import ndimage

    spacing = volume.spacing_mm or _LESION_GRID_MM
    (found,) = ndimage.find_objects(liver, max_label=LIVER)
    around = [round(10 / mm) for mm in spacing]
    levels, rows, columns = (
        slice(max(0, side.start - more), min(size, side.stop + more))
        for side, more, size in zip(found, around, liver.shape, strict=True)
    )
    box = (levels, rows, columns)
    grey = _grey(resample(volume.voxels, spacing, _LESION_GRID_MM, box))
    inside = resample(liver == LIVER, spacing, _LESION_GRID_MM, box) > _HALF
    ball = ndimage.generate_binary_structure(3, 2)
    near = ndimage.binary_dilation(inside, ball, iterations=2)
    tight = ndimage.find_objects(near.astype(np.uint8))[0]
    shown = np.where(near, grey, np.float32(-0.5))[tight]
    probability = np.zeros(grey.shape, np.float32)
    probability[tight] = _lesion_probability(shown, threads) * near[tight]
    lesions = np.zeros(liver.shape, bool)
    lesions[box] = resample_back(probability, lesions[box].shape) > _HALF
    return lesions


def _lesion_probability(grid: Floats, threads: int) -> Floats:
    """Return the lesions' probability on a grid, tile by tile."""
    probability = np.zeros(grid.shape, np.float32)
    for start in _tiles(grid.shape):
        tile = np.zeros(_LESION_INPUT, np.float32)
        origin = [at - margin for at, margin in zip(start, _LESION_MARGIN, strict=True)]
        source, target = zip(*map(_shared, origin, _LESION_INPUT, grid.shape), strict=True)
        tile[target] = grid[source]
        answered = _run("liver_lesion_unet", tile, threads)
        source, target = zip(*map(_shared, start, _LESION_OUTPUT, grid.shape), strict=True)
        probability[source] = answered[target]
    return probability


def _tiles(shape: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Yield where tiles start, the last of each axis at its end; one tile lies in the middle."""
    axes = []
    for size, side in zip(shape, _LESION_OUTPUT, strict=True):
        middle = (size - side) // 2
        axes.append([middle] if size <= side else [*range(0, size - side, side), size - side])
    for z in axes[0]:
        for y in axes[1]:
            for x in axes[2]:
                yield z, y, x


def _shared(start: int, length: int, size: int) -> tuple[slice, slice]:
    """Return what an interval shares with an axis: its part of the axis and of the interval."""
    first, last = max(0, start), min(size, start + length)
    return slice(first, last), slice(first - start, last - start)
