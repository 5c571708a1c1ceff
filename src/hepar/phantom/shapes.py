"""Soft-edged solids and smooth random fields: the clay that the phantom's organs are made of."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Field",
    "Tube",
    "Waves",
    "add_smooth",
    "capsule",
    "cover",
    "cut_smooth",
    "ellipsoid",
    "make_waves",
    "paint",
]

Field = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Waves:
    """A smooth random function of space: a sum of plane waves with mean 0 and variance 1.

    Attributes:
        vectors: (n, 3) wave vectors in radians per mm, in the order x, y, z.
        shifts: (n,) phases in radians.
    """

    vectors: NDArray[np.float64]
    shifts: NDArray[np.float64]

    def __call__(self, xs: Field, ys: Field, z: float) -> Field:
        """Return the field on the plane `z` over the grid of columns `xs` and rows `ys`, in mm."""
        kx, ky, kz = self.vectors.T
        # cos(a + b) = cos a cos b - sin a sin b: a grid of waves is two matrix products
        across = kx * xs[:, None].astype(float)
        down = ky * ys[:, None].astype(float) + (kz * z + self.shifts)
        field = np.cos(down) @ np.cos(across).T - np.sin(down) @ np.sin(across).T
        scale = np.sqrt(2.0 / max(len(self.shifts), 1))
        return np.asarray(scale * field, dtype=np.float32)


def make_waves(
    rng: np.random.Generator, shortest_mm: float, longest_mm: float, count: int = 24
) -> Waves:
    """Draw a smooth random field with wavelengths between two bounds, in mm."""
    length = np.exp(rng.uniform(np.log(shortest_mm), np.log(longest_mm), count))
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return Waves(2 * np.pi / length[:, None] * direction, rng.uniform(0, 2 * np.pi, count))


@dataclass(frozen=True)
class Tube:
    """A straight piece of a vessel, gland or bone: a cone with round ends.

    Attributes:
        start: (x, y, z) of one end in mm.
        end: (x, y, z) of the other end in mm.
        radius_start: radius at the start in mm.
        radius_end: radius at the end in mm.
        tissue: what it is filled with.
    """

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius_start: float
    radius_end: float
    tissue: str


def ellipsoid(
    x: Field,
    y: Field,
    z: float,
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
    tilt: float = 0.0,
) -> Field:
    """Return the approximate signed distance in mm to an ellipsoid; negative is inside.

    Args:
        x: (y, x) coordinates in mm.
        y: (y, x) coordinates in mm.
        z: height of the plane in mm.
        centre: (x, y, z) in mm.
        radii: semi-axes in mm.
        tilt: turn in the plane in degrees, clockwise as one sees it.

    Returns:
        (y, x) distances in mm; exact on the surface, to first order near it.
    """
    angle = np.deg2rad(tilt)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = x - np.float32(centre[0]), y - np.float32(centre[1])
    u = (cos * along + sin * across) / np.float32(radii[0])
    v = (cos * across - sin * along) / np.float32(radii[1])
    w = np.float32((z - centre[2]) / radii[2])
    inner = np.sqrt(u * u + v * v + w * w) + np.float32(1e-6)
    slope = np.sqrt(
        (u / np.float32(radii[0])) ** 2
        + (v / np.float32(radii[1])) ** 2
        + np.float32((w / radii[2]) ** 2)
    ) + np.float32(1e-6)
    return np.asarray(inner * (inner - 1) / slope, dtype=np.float32)


def capsule(x: Field, y: Field, z: float, tube: Tube) -> Field:
    """Return the approximate signed distance in mm to a tube; negative is inside."""
    start, end = np.asarray(tube.start, np.float32), np.asarray(tube.end, np.float32)
    axis = end - start
    px, py, pz = x - start[0], y - start[1], np.float32(z) - start[2]
    length = max(float(axis @ axis), 1e-6)
    along = np.clip((px * axis[0] + py * axis[1] + pz * axis[2]) / np.float32(length), 0, 1)
    gap = np.sqrt(
        (px - along * axis[0]) ** 2 + (py - along * axis[1]) ** 2 + (pz - along * axis[2]) ** 2
    )
    radius = np.float32(tube.radius_start) + along * np.float32(tube.radius_end - tube.radius_start)
    return np.asarray(gap - radius, dtype=np.float32)


def add_smooth(first: Field, second: Field, blend: float) -> Field:
    """Return the union of two solids, rounded over `blend` mm where they meet."""
    mix = np.maximum(np.float32(blend) - np.abs(first - second), 0)
    return np.asarray(np.minimum(first, second) - mix * mix / np.float32(4 * blend), np.float32)


def cut_smooth(solid: Field, tool: Field, blend: float) -> Field:
    """Return a solid with another one cut out of it, the edge rounded over `blend` mm."""
    return -add_smooth(-solid, tool, blend)


def cover(distance: Field, pixel_mm: float, edge: float = 1.0) -> Field:
    """Return how much of each pixel a solid covers, 0 to 1: an edge `edge` pixels wide."""
    share = np.clip(np.float32(0.5) - distance / np.float32(pixel_mm * edge), 0, 1)
    return np.asarray(share, np.float32)


def paint(hu: Field, share: Field, value: float | Field) -> None:
    """Lay a tissue over the picture in place; `share` is how much of each pixel it takes."""
    hu += share * (value - hu)


def stretch(field: Field, size: int) -> Field:
    """Enlarge a smooth coarse field to `size` x `size` pixels."""
    return np.asarray(cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)
