"""Which places of a network's last maps speak for a label: class activation maps in closed form.

After global average pooling the derivative of an answer by a cell of a map is that by the pooled
feature over the number of cells, the same at every cell. So no second pass and no torch is needed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hepar.registry import Registry

__all__ = ["METHODS", "grad_cam", "grad_cam_plus_plus"]

Floats = NDArray[np.float32]
Method = Callable[[Floats, NDArray[np.float64], NDArray[np.float64]], Floats]

METHODS: Registry[Method] = Registry("method")
"""Name -> from last maps (d, ...), gradient and zero (k, d) of the slope to (k, ...): of a slice
(h, w) cells, of a volume (z, h, w)."""


@METHODS.add("hirescam")
@METHODS.add("grad-cam")
def grad_cam(maps: Floats, gradient: NDArray[np.float64], zero: NDArray[np.float64]) -> Floats:
    """Return what each cell says for each label, in log-odds.

    The value of a cell is how much the centred log-probability would rise if the whole slice looked
    like that cell, against features that the head counts as nothing. The mean over the cells is the
    slice's own score but for a constant (exactly, for a linear head). Negative values speak
    against the label; Grad-CAM as published shows the positive ones alone. HiResCAM multiplies
    gradients and maps cell by cell, which after global average pooling is the same sum.

    Args:
        maps: (d, h, w) before global average pooling; (d, z, h, w) of a volume.
        gradient: (k, d) of the centred log-probabilities by the pooled features.
        zero: (k, d), see `hepar.model.Slope`.

    Returns:
        (k, h, w), or (k, z, h, w).

    Source:
        Selvaraju et al., ICCV 2017; Zhou et al., CVPR 2016 (CAM); Draelos and Carin 2020.

    Example:
        >>> maps = np.array([[[0.0, 2.0]], [[1.0, 1.0]]], np.float32)
        >>> grad_cam(maps, np.array([[1.0, 3.0]]), np.array([[0.0, 3.0]])).tolist()
        [[[0.0, 2.0]]]
    """
    flat = np.ascontiguousarray(maps.reshape(len(maps), -1))
    cells = gradient.astype(np.float32) @ flat - zero.sum(axis=1, keepdims=True)
    return np.asarray(cells.reshape(len(gradient), *maps.shape[1:]), np.float32)


@METHODS.add("grad-cam++")
def grad_cam_plus_plus(
    maps: Floats, gradient: NDArray[np.float64], zero: NDArray[np.float64]
) -> Floats:
    """Return Grad-CAM++ of each label: maps weighted by their positive gradients alone.

    The weights have no unit that slices share, so these maps are shown on their own scale.

    Args:
        maps: (d, h, w) before global average pooling; (d, z, h, w) of a volume.
        gradient: (k, d) of the centred log-probabilities by the pooled features.
        zero: not used: the published method knows none.

    Returns:
        (k, h, w), or (k, z, h, w).

    Source:
        Chattopadhay et al., WACV 2018, equation 19 with the derivatives of exp.
    """
    del zero
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    n = flat.shape[1]
    slope = gradient / n
    total = flat.sum(axis=1)
    share = slope**2 / (2 * slope**2 + total * slope**3 + 1e-6)
    weight = n * np.maximum(slope, 0) * share
    return np.asarray((weight @ flat).reshape(len(gradient), *maps.shape[1:]), np.float32)
