"""Volumes on another grid: each axis by its own matrix, by area when it shrinks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["axis_weights", "resample", "resample_back"]

Floats = NDArray[np.float32]


def axis_weights(size: int, new_size: int) -> Floats:
    """Return (new_size, size) weights: mean over what a new voxel covers, or linear in between.

    The first and the last voxel's outer edges stay where they are.

    Example:
        >>> axis_weights(4, 2)
        array([[0.5, 0.5, 0. , 0. ],
               [0. , 0. , 0.5, 0.5]], dtype=float32)
    """
    side = size / new_size
    centres = (np.arange(new_size) + 0.5) * side - 0.5
    places = np.arange(size)
    if side > 1:
        low = np.maximum(centres[:, None] - side / 2, places - 0.5)
        high = np.minimum(centres[:, None] + side / 2, places + 0.5)
        weights = np.clip(high - low, 0, None)
    else:
        weights = np.clip(1 - np.abs(np.clip(centres, 0, size - 1)[:, None] - places), 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def resample(
    voxels: NDArray[Any],
    spacing_mm: Sequence[float],
    new_mm: Sequence[float],
    box: tuple[slice, slice, slice],
) -> Floats:
    """Return part of a volume (z, y, x) on a grid of another spacing, rounded to whole voxels.

    Args:
        voxels: any numbers.
        spacing_mm: of the volume.
        new_mm: about what spacing to have.
        box: which part.
    """
    part = voxels[box]
    sizes = [
        max(1, round(size * old / new))
        for size, old, new in zip(part.shape, spacing_mm, new_mm, strict=True)
    ]
    return resample_back(part, sizes)


def resample_back(values: NDArray[Any], shape: Sequence[int]) -> Floats:
    """Return values (z, y, x) on a grid of another shape that covers the same box."""
    # the axis that shrinks most goes first, so that the least is left to do
    order = sorted(range(3), key=lambda axis: shape[axis] / values.shape[axis])
    found = values
    for axis in order:
        weights = axis_weights(values.shape[axis], shape[axis])
        found = np.moveaxis(np.tensordot(weights, found, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(found, np.float32)
