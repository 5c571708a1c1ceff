"""What an answer loses when a part of the image is hidden: slow, and free of any gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hepar.backbone import Network
from hepar.model import Head

__all__ = ["GRID", "occlude"]

Floats = NDArray[np.float32]

GRID = 7
"""Cells a side. A patch covers two cells a side, so neighbours overlap by half."""


def occlude(
    network: Network, head: Head, image: Floats, features: Floats, start: int, grey: float = 0.0
) -> Floats:
    """Return by how much each label's centred log-probability falls when a place is hidden.

    Args:
        network: that sees the image.
        head: on the features of all networks.
        image: (3, H, W) network input.
        features: (d,) of all networks for the plain slice.
        start: where this network's features begin among them.
        grey: that a patch is filled with; 0 is the mean of the network's training images.

    Returns:
        (k, 7, 7) in log-odds; positive where the place speaks for the label.

    Source:
        Zeiler and Fergus, ECCV 2014.
    """
    side = image.shape[1]
    hidden = np.repeat(image[None], GRID * GRID, axis=0)
    for number, one in enumerate(hidden):
        row, column = divmod(number, GRID)
        top, left = (max(0, round((at - 0.5) * side / GRID)) for at in (row, column))
        bottom, right = (round((at + 1.5) * side / GRID) for at in (row, column))
        one[:, top:bottom, left:right] = grey
    own = network.features(hidden)
    rows = np.repeat(features[None], len(own), axis=0)
    rows[:, start : start + own.shape[1]] = own
    lost = _centred(head, features[None]) - _centred(head, rows)
    return np.ascontiguousarray(lost.T.reshape(-1, GRID, GRID), np.float32)


def _centred(head: Head, features: Floats) -> NDArray[np.float64]:
    logs = np.log(np.maximum(head.probabilities(features), np.finfo(float).tiny))
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))
