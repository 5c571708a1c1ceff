"""Series with what a network of volumes sees of them: its cells in 3D, back on the slices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.backbone import Network, load_ahead
from hepar.data import LESION, LIVER, Slice
from hepar.explain.cam import METHODS
from hepar.explain.localisation import Aim, measure_points
from hepar.explain.look import OCCLUSION, Model, between, spread
from hepar.explain.occlusion import occlude
from hepar.model import InputReader
from hepar.preprocess import Box

__all__ = [
    "Plane",
    "SeriesEvidence",
    "SeriesLook",
    "aim_of_planes",
    "hottest",
    "hottest_planes",
    "look_at_series",
    "planes_of",
]

Floats = NDArray[np.float32]

_APART = 0.1
"""Of the slices that show the liver: planes shown are not nearer to each other than this."""


@dataclass(frozen=True, eq=False)
class SeriesEvidence:
    """What the places of a series say: within its liver, for the network sees nothing else.

    Attributes:
        box: where the network's grids lie.
        cells: (windows, k, d, h, w), of each label; in log-odds where the method has that unit.
        liver: (windows, depth, size, size), where the grids show it.
    """

    box: Box
    cells: Floats
    liver: NDArray[np.bool_]

    @property
    def cell_mm(self) -> tuple[float, float, float]:
        """Sides (z, y, x) of a cell."""
        d, h, w = self.cells.shape[2:]
        tall, side = self.box.step_mm * self.box.planes_mm.shape[1], self.box.side_mm
        return tall / d, side / h, side / w

    def largest(self, label: int) -> float:
        """Return the largest value that the grids show for a label."""
        depth, size = self.liver.shape[1:3]
        heights = np.arange(depth)
        found = (
            float(cv2.resize(between(own, height, depth), (size, size))[liver[height]].max())
            for own, liver in zip(self.cells[:, label], self.liver, strict=True)
            for height in heights[liver.any(axis=(1, 2))]
        )
        return max(found, default=0.0)

    def heat(self, label: int, image: Slice, height: float) -> Floats:
        """Return what each pixel (y, x) of a slice says for a label; 0 outside the liver.

        Where windows overlap, the mean of those that see the slice.

        Args:
            label: whose evidence.
            image: of the series, with its liver.
            height: of the slice in mm, on the scale of the box.
        """
        shape = (int(image.pixels.shape[0]), int(image.pixels.shape[1]))
        total, n = np.zeros(shape, np.float32), 0
        depth = self.box.planes_mm.shape[1]
        for own, planes in zip(self.cells[:, label], self.box.planes_mm, strict=True):
            place = (height - planes[0]) / self.box.step_mm
            if -0.5 <= place <= depth - 0.5:
                total += spread(between(own, place, depth), self.box.window(image), shape)
                n += 1
        if not n or image.mask is None:
            return np.zeros(shape, np.float32)
        return np.where(image.mask > 0, total / np.float32(n), 0).astype(np.float32)


@dataclass(frozen=True, eq=False)
class SeriesLook:
    """One series, and what a model sees in it.

    Attributes:
        position: in the manifest.
        features: (windows, d).
        probabilities: (k,), the mean over windows, as the head gives them, before calibration.
        evidence: of its places; None where it shows no liver.
    """

    position: int
    features: Floats
    probabilities: NDArray[np.float64]
    evidence: SeriesEvidence | None


def look_at_series(
    model: Model,
    reader: InputReader,
    positions: Sequence[int],
    method: str = "grad-cam",
    *,
    workers: int = 0,
) -> Iterator[SeriesLook]:
    """Yield series with features, probabilities and maps, in the order asked for.

    Args:
        model: a network of volumes, alone, and its head.
        reader: of a manifest of series.
        positions: in the manifest.
        method: a name in `METHODS`, or "occlusion".
        workers: threads that read; 0 for one per core.

    Raises:
        BackboneError: the network has no maps.
        RecipeError: the recipe does not fit a series.
        RegistryError: the method is unknown.
    """
    (network,) = model.networks
    blank = np.zeros((reader.recipe.windows, *reader.recipe.shape), np.float32)
    parts = [[position] for position in positions]
    for (position,), stacked in load_ahead(parts, lambda part: reader.stack(part[0]), workers):
        grids = blank if stacked is None else stacked[0][:, None]
        maps, features = network.maps_and_features(np.ascontiguousarray(grids))
        evidence = None
        if stacked is not None:
            cells = _cells(model, network, grids, maps, features, method)
            evidence = SeriesEvidence(stacked[1], cells, stacked[0] != 0)
        probabilities = model.head.probabilities(features).mean(axis=0)
        yield SeriesLook(position, features, probabilities, evidence)


def _cells(
    model: Model, network: Network, grids: Floats, maps: Floats, features: Floats, method: str
) -> Floats:
    """Return what the cells of each window say, (windows, k, d, h, w)."""
    if method == OCCLUSION:
        own = zip(grids, features, strict=True)
        return np.stack([occlude(network, model.head, grid, row, 0) for grid, row in own])
    slope = model.head.slope(features)
    draw = METHODS.get(method)
    each = zip(maps, slope.gradient, slope.zero, strict=True)
    return np.stack([draw(*one) for one in each])


@dataclass(frozen=True, eq=False)
class Plane:
    """A slice of a series, and what its pixels say for one label.

    Attributes:
        number: of the slice, from the feet up.
        image: as it was read, with the liver that the network sees.
        heat: (y, x); 0 outside the liver.
    """

    number: int
    image: Slice
    heat: Floats


def planes_of(
    reader: InputReader, look: SeriesLook, label: int, numbers: Sequence[int] | None = None
) -> Iterator[Plane]:
    """Yield slices of a series with what they say for a label, read one by one.

    Args:
        reader: that the look was made with.
        look: of the series.
        label: whose evidence.
        numbers: of the slices; None for all.
    """
    heights = reader.heights(look.position)
    for number in range(len(heights)) if numbers is None else numbers:
        image = reader.plane(look.position, number)
        if look.evidence is None:
            heat = np.zeros(image.pixels.shape[:2], np.float32)
        else:
            heat = look.evidence.heat(label, image, heights[number])
        yield Plane(number, image, heat)


def hottest_planes(
    reader: InputReader, look: SeriesLook, label: int, most: int, heats: list[Floats] | None = None
) -> list[Plane]:
    """Return the planes where a map says most; see `hottest`.

    Args:
        reader: that the look was made with.
        look: of the series.
        label: whose evidence.
        most: planes at most.
        heats: gets the map of every slice, where one is asked for.
    """
    evidence, liver = [], []
    for plane in planes_of(reader, look, label):
        evidence.append(float(np.maximum(plane.heat, 0).sum()))
        liver.append(0 if plane.image.mask is None else int((plane.image.mask > 0).sum()))
        if heats is not None:
            heats.append(plane.heat)
    return list(planes_of(reader, look, label, hottest(evidence, liver, most)))


def aim_of_planes(planes: Iterable[Plane]) -> Aim | None:
    """Return how the map of a series aims at its lesions, or None where it shows none."""
    values, lesion, known = [np.zeros(0, np.float32)], [np.zeros(0, bool)], False
    for plane in planes:
        mask = plane.image.mask
        if mask is not None:
            known |= bool((mask == LIVER).any())
            values.append(plane.heat[mask > 0])
            lesion.append(mask[mask > 0] == LESION)
    return (
        measure_points(np.concatenate(values), np.concatenate(lesion), "liver") if known else None
    )


def hottest(evidence: Sequence[float], liver: Sequence[int], most: int) -> list[int]:
    """Return the planes where a map says most, from the feet up, not all side by side.

    Args:
        evidence: sum of the positive values of each plane.
        liver: pixels of liver in each; where nothing speaks for the label the largest are taken.
        most: planes at most.

    Example:
        >>> hottest([0, 1, 5, 4, 0, 2], [9, 9, 9, 9, 9, 0], most=2)
        [2, 3]
    """
    order = sorted(range(len(liver)), key=lambda i: (-evidence[i], -liver[i], i))
    gap = _APART * sum(area > 0 for area in liver)
    taken: list[int] = []
    for i in order:
        if liver[i] and all(abs(i - other) >= gap for other in taken) and len(taken) < most:
            taken.append(i)
    return sorted(taken)
