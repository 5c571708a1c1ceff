"""Slices with what a model sees of them: one run of each network gives features and maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.backbone import Network, load_ahead
from hepar.data import Slice
from hepar.explain.cam import METHODS
from hepar.explain.likelihood import LIKELIHOOD, LIKELY, likelihood_maps
from hepar.explain.occlusion import occlude
from hepar.model import Head, InputReader

__all__ = ["OCCLUSION", "Cells", "Evidence", "Look", "Model", "between", "look_at", "spread"]

Floats = NDArray[np.float32]

OCCLUSION = "occlusion"


@dataclass(frozen=True, eq=False)
class Model:
    """What answers for a slice.

    Attributes:
        networks: of the parts, ready to run.
        head: on their pooled features, side by side.
        lesions: of which label each kind of lesion is that a finder tells apart; empty where it is
            none, or nobody knows.
    """

    networks: tuple[Network, ...]
    head: Head
    lesions: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Cells:
    """What one network's cells say.

    Attributes:
        values: (k, h, w), of each label; in log-odds, or likelihood, where the method has that
            unit.
        window: (top, left, height, width) of the slice that the network sees.
    """

    values: NDArray[np.floating[Any]]
    window: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the places of a slice say.

    Attributes:
        shape: (y, x) of the slice.
        parts: of each network; empty where the slice shows no liver.
    """

    shape: tuple[int, int]
    parts: tuple[Cells, ...]

    def heat(self, label: int) -> Floats:
        """Return what each pixel (y, x) of the slice says for a label; 0 outside the windows."""
        total = np.zeros(self.shape, np.float32)
        for part in self.parts:
            total += spread(part.values[label], part.window, self.shape)
        return total


@dataclass(frozen=True, eq=False)
class Look:
    """One slice, and what a model sees in it.

    Attributes:
        position: in the manifest.
        image: as it was read, the liver guessed where a mask is needed and none shows it.
        features: (d,) of all networks.
        probabilities: (k,) of the plain view, as the head gives them, before calibration.
        evidence: of its places.
    """

    position: int
    image: Slice
    features: Floats
    probabilities: NDArray[np.float64]
    evidence: Evidence


def spread(
    cells: NDArray[np.floating[Any]], window: tuple[int, int, int, int], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Return cells (h, w) resampled linearly onto their window of a slice (y, x).

    Example:
        >>> spread(np.ones((1, 1), np.float32), (-1, 1, 2, 2), (2, 3)).tolist()
        [[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    """
    top, left, height, width = window
    large = cv2.resize(
        np.asarray(cells, np.float32), (width, height), interpolation=cv2.INTER_LINEAR
    )
    whole = np.zeros(shape, np.float32)
    rows, columns = np.arange(shape[0]) - top, np.arange(shape[1]) - left
    rows, columns = rows[(rows >= 0) & (rows < height)], columns[(columns >= 0) & (columns < width)]
    whole[np.ix_(rows + top, columns + left)] = large[np.ix_(rows, columns)]
    return whole


def between(cells: Floats, plane: float, depth: int) -> Floats:
    """Return cells (h, w) out of those of a volume, (d, h, w), at a plane of `depth`.

    Example:
        >>> between(np.float32([[[0]], [[4]]]), 1.5, 4).tolist()
        [[2.0]]
    """
    place = float(np.clip((plane + 0.5) * len(cells) / depth - 0.5, 0, len(cells) - 1))
    low = min(int(place), len(cells) - 1)
    high, share = min(low + 1, len(cells) - 1), np.float32(place - low)
    return np.asarray(cells[low] * (1 - share) + cells[high] * share, np.float32)


def look_at(
    model: Model,
    readers: Sequence[InputReader],
    positions: Sequence[int],
    method: str = "grad-cam",
    *,
    batch: int = 32,
    workers: int = 0,
) -> Iterator[Look]:
    """Yield slices with features, probabilities and maps, in the order asked for.

    Args:
        model: networks and head.
        readers: of one manifest, one a network.
        positions: in the manifest.
        method: a name in `METHODS`; "likelihood", of lesion finders; or "occlusion", which runs a
            network 49 times a slice.
        batch: slices in one call of a network.
        workers: threads that read; 0 for one per core.

    Raises:
        BackboneError: a network has no maps.
        RecipeError: the recipe does not fit a slice.
        RegistryError: the method is unknown.
    """
    cells = None if method in {OCCLUSION, LIKELIHOOD} else METHODS.get(method)
    k = len(model.head.labels)
    parts = [list(positions[at : at + batch]) for at in range(0, len(positions), batch)]
    for chunk, shown in load_ahead(parts, lambda part: _read(readers, part), workers):
        inputs = [_inputs(shown, i, reader.recipe.size) for i, reader in enumerate(readers)]
        ran = [
            _ran(network, images, method)
            for network, images in zip(model.networks, inputs, strict=True)
        ]
        likely = [likelihood_maps(own, k, model.lesions) for own, _ in ran if method == LIKELIHOOD]
        features = np.concatenate([own for _, own in ran], axis=1)
        probabilities = model.head.probabilities(features)
        slope = model.head.slope(features)
        starts = np.cumsum([0, *(own.shape[1] for _, own in ran)])
        for i, position in enumerate(chunk):
            image, found = shown[i][0], []
            shape = (int(image.pixels.shape[0]), int(image.pixels.shape[1]))
            for number, (maps, _) in enumerate(ran):
                view = shown[i][1][number]
                start, stop = int(starts[number]), int(starts[number + 1])
                if view is None:
                    continue
                if likely:
                    found.append(Cells(likely[number][i], view.window or (0, 0, *shape)))
                    continue
                if cells is None:
                    seen = (model.networks[number], model.head, inputs[number][i])
                    values = occlude(*seen, features[i], start)
                else:
                    own = slice(start, stop)
                    values = cells(maps[i], slope.gradient[i, :, own], slope.zero[i, :, own])
                found.append(Cells(values, view.window or (0, 0, *shape)))
            evidence = Evidence(shape, tuple(found))
            yield Look(position, image, features[i], probabilities[i], evidence)


def _ran(network: Network, images: Floats, method: str) -> tuple[Floats, Floats]:
    """Return what maps are made from, and features, of one run of a network."""
    if method != LIKELIHOOD:
        return network.maps_and_features(images)
    likely, features = network.values((LIKELY, "features"), images)
    return likely, features


Shown = tuple[Slice, list[Slice | None]]


def _read(readers: Sequence[InputReader], positions: Sequence[int]) -> list[Shown]:
    """Return each slice as it was read, and as each network sees it."""
    looks = [reader.look(positions) for reader in readers]
    return [
        (next((image for image, view in own if view), own[0][0]), [view for _, view in own])
        for own in zip(*looks, strict=True)
    ]


def _inputs(shown: Sequence[Shown], number: int, side: int) -> Floats:
    blank = np.zeros((3, side, side), np.float32)
    views = [own[number] for _, own in shown]
    arrays = [blank if view is None else view.pixels.transpose(2, 0, 1) for view in views]
    return np.ascontiguousarray(np.stack(arrays), np.float32)
