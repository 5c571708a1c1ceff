"""What an answer loses when a part of the image is hidden: slow, and free of any gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hepar.backbone import Network
from hepar.model import Head

__all__ = ["GRID", "occlude"]

Floats = NDArray[np.float32]

GRID = 7
"""Cells a side of an image. A patch covers two cells a side, so neighbours overlap by half."""

_GRIDS = {2: (GRID, GRID), 3: (6, 8, 8)}
"""Cells along each axis of an image, and of a volume."""

_AT_ONCE = 49


def occlude(
    network: Network, head: Head, image: Floats, features: Floats, start: int, grey: float = 0.0
) -> Floats:
    """Return by how much each label's centred log-probability falls when a place is hidden.

    A place that is grey already costs no run: it can lose nothing.

    Args:
        network: that sees the image.
        head: on the features of all networks.
        image: (3, H, W) network input, or (1, D, H, W) of a volume.
        features: (d,) of all networks for the plain slice.
        start: where this network's features begin among them.
        grey: that a patch is filled with; 0 is the mean of the network's training images, and of a
            volume the commonest grey of its liver.

    Returns:
        (k, 7, 7) in log-odds, or (k, 6, 8, 8) of a volume; positive where the place speaks for the
        label.

    Source:
        Zeiler and Fergus, ECCV 2014.
    """
    grid = _GRIDS[image.ndim - 1]
    patches = [
        (cell, patch)
        for cell in np.ndindex(grid)
        if (image[patch := _patch(cell, grid, image.shape[1:])] != grey).any()
    ]
    plain = _centred(head, features[None])
    lost = np.zeros((plain.shape[1], *grid), np.float32)
    for at in range(0, len(patches), _AT_ONCE):
        some = patches[at : at + _AT_ONCE]
        hidden = np.repeat(image[None], len(some), axis=0)
        for one, (_, patch) in zip(hidden, some, strict=True):
            one[patch] = grey
        own = network.features(hidden)
        rows = np.repeat(features[None], len(own), axis=0)
        rows[:, start : start + own.shape[1]] = own
        for (cell, _), row in zip(some, plain - _centred(head, rows), strict=True):
            lost[(slice(None), *cell)] = row
    return lost


def _patch(
    cell: tuple[int, ...], grid: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[slice, ...]:
    """Return what lies around a cell, half a cell further on every side."""
    edges = [
        slice(max(0, round((at - 0.5) * side / n)), round((at + 1.5) * side / n))
        for at, n, side in zip(cell, grid, shape, strict=True)
    ]
    return (slice(None), *edges)


def _centred(head: Head, features: Floats) -> NDArray[np.float64]:
    logs = np.log(np.maximum(head.probabilities(features), np.finfo(float).tiny))
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))
