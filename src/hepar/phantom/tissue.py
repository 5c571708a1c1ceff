"""Liver tissue under a microscope: how much haematoxylin and eosin each pixel of a tile holds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["FINDINGS", "Stained", "draw_tissue"]

FINDINGS = ("ballooning", "fibrosis", "inflammation", "steatosis")
"""What a tile may show, several at once: the paper's four, in its order."""

Field = NDArray[np.float32]

_CELL = 28.0
"""Distance of neighbouring hepatocytes in pixels: some 25 micrometres."""


@dataclass(frozen=True, eq=False)
class Stained:
    """Amounts of the two stains, 1 being a strong one.

    Attributes:
        haematoxylin: (y, x), of what is blue: nuclei.
        eosin: (y, x), of what is pink: cytoplasm and collagen.
    """

    haematoxylin: Field
    eosin: Field


@dataclass(frozen=True, eq=False)
class _Cells:
    """Hepatocytes, in plates with sinusoids between them.

    Attributes:
        centres: (n, 2) x and y.
        owner: (y, x) the cell that each pixel belongs to.
        border: (y, x) 1 at a cell's edge, 0 inside.
        sinusoid: (y, x) 1 in the vessels between plates.
        angle: of the plates, in radians.
    """

    centres: NDArray[np.float64]
    owner: NDArray[np.int64]
    border: Field
    sinusoid: Field
    angle: float


def draw_tissue(
    rng: np.random.Generator, size: int, shown: Collection[str], difficulty: float
) -> Stained:
    """Draw one tile.

    A tile without a finding still has what may be taken for it: a vein, a few small droplets, some
    lymphocytes.

    Args:
        rng: the only source of chance.
        size: side in pixels.
        shown: of `FINDINGS`.
        difficulty: 0 (easy) to 1 (very hard): less of each finding.

    Returns:
        Both stains, (size, size) each.
    """
    cells = _make_cells(rng, size)
    grain = _noise(rng, size, 1.2)
    eosin = 0.52 + 0.07 * _noise(rng, size, 14.0) + 0.07 * grain + 0.16 * cells.border
    haematoxylin = 0.12 + 0.03 * _noise(rng, size, 3.0)
    eosin = _mix(eosin, 0.06, cells.sinusoid)
    haematoxylin = _mix(haematoxylin, 0.04, cells.sinusoid)
    amount = 1.0 - 0.75 * difficulty
    fields = [haematoxylin.astype(np.float32), eosin.astype(np.float32)]
    swollen = _choose(rng, cells, size, round(3 + 5 * amount)) if "ballooning" in shown else []
    _draw_nuclei(rng, fields, cells, swollen)
    _draw_kupffer(rng, fields, cells)
    for cell in swollen:
        _draw_balloon(rng, fields, cells.centres[cell])
    fat = 0.10 + 0.45 * amount * rng.uniform(0.5, 1.0) if "steatosis" in shown else 0.015
    _draw_droplets(rng, fields, cells, fat)
    if rng.uniform() < 0.2:
        _draw_vein(rng, fields, size)
    if "fibrosis" in shown:
        _draw_band(rng, fields, size, 6 + 12 * amount * rng.uniform(0.6, 1.0))
    if "inflammation" in shown:
        for _ in range(int(rng.integers(1, 3))):
            _draw_lymphocytes(
                rng, fields, size, round(14 + 40 * amount * rng.uniform(0.6, 1.0)), 17
            )
    _draw_lymphocytes(rng, fields, size, int(rng.integers(0, 5)), 90)
    return Stained(np.clip(fields[0], 0, None), np.clip(fields[1], 0, None))


def _noise(rng: np.random.Generator, size: int, sigma: float) -> Field:
    """Return smooth noise (size, size) of standard deviation 1."""
    small = max(4, round(size / max(1.0, sigma / 2)))
    rough = rng.standard_normal((small, small)).astype(np.float32)
    smooth = cv2.GaussianBlur(rough, (0, 0), sigma * small / size)
    large = cv2.resize(smooth, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray((large - large.mean()) / large.std(), np.float32)


def _mix(field: Field, value: Any, where: Field) -> Field:
    return np.asarray(field * (1 - where) + np.float32(value) * where, np.float32)


def _paint(fields: list[Field], where: Field, haematoxylin: Any, eosin: Any) -> None:
    """Put another tissue where `where` is 1."""
    fields[0] = _mix(fields[0], haematoxylin, where)
    fields[1] = _mix(fields[1], eosin, where)


def _make_cells(rng: np.random.Generator, size: int) -> _Cells:
    """Place hepatocytes in rows, two rows a plate, and give every pixel to the nearest."""
    from scipy.spatial import cKDTree

    angle = float(rng.uniform(0, np.pi))
    reach = int(size / _CELL) + 3
    points, plates = [], []
    height = 0.0
    heights = []
    for row in range(2 * reach):
        heights.append(height)
        height += _CELL * (0.86 if row % 2 == 0 else 1.12)
    middle = height / 2
    for row, own in enumerate(heights):
        along = (np.arange(-reach, reach) + 0.5 * (row % 2) + rng.uniform()) * _CELL
        jitter = rng.normal(0, 0.11 * _CELL, (len(along), 2))
        wave = 0.35 * _CELL * np.sin(along / (3.3 * _CELL) + 0.4 * row)
        points.append(np.stack([along, own - middle + wave], axis=1) + jitter)
        plates.append(np.full(len(along), row // 2))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centres = np.concatenate(points) @ turn + size / 2
    inside = ((centres > -_CELL) & (centres < size + _CELL)).all(axis=1)
    centres, plate = centres[inside], np.concatenate(plates)[inside]
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).reshape(-1, 2)
    bent = grid + 2.0 * np.stack([_noise(rng, size, 5.0), _noise(rng, size, 5.0)], -1).reshape(
        -1, 2
    )
    gaps, near = cKDTree(centres).query(bent, k=2)
    edge = (gaps[:, 1] - gaps[:, 0]).reshape(size, size)
    apart = (plate[near[:, 0]] != plate[near[:, 1]]).reshape(size, size)
    width = 5.0 + 2.2 * _noise(rng, size, 16.0)
    return _Cells(
        centres=centres,
        owner=near[:, 0].reshape(size, size),
        border=np.asarray(np.exp(-((edge / 1.8) ** 2)), np.float32),
        sinusoid=np.asarray(apart * np.clip(width - edge, 0, 1), np.float32),
        angle=angle,
    )


def _choose(rng: np.random.Generator, cells: _Cells, size: int, count: int) -> list[int]:
    """Return cells near one another, in the tile."""
    middle = rng.uniform(0.25, 0.75, 2) * size
    far = np.linalg.norm(cells.centres - middle, axis=1) + rng.uniform(
        0, 1.6 * _CELL, len(cells.centres)
    )
    return [int(i) for i in np.argsort(far)[:count]]


def _blobs(
    size: int, centres: NDArray[Any], radii: NDArray[Any], angles: NDArray[Any] | None = None
) -> Field:
    """Return ellipses, (n, 2) radii at (n, 2) centres, as coverage from 0 to 1."""
    drawn = np.zeros((size, size), np.uint8)
    turned = np.zeros(len(centres)) if angles is None else np.degrees(angles)
    for (x, y), (a, b), turn in zip(centres, radii, turned, strict=True):
        at, axes = (round(16 * x), round(16 * y)), (round(16 * a), round(16 * b))
        cv2.ellipse(drawn, at, axes, float(turn), 0, 360, 255, -1, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(drawn, (0, 0), 0.6) / np.float32(255), np.float32)


def _draw_nuclei(
    rng: np.random.Generator, fields: list[Field], cells: _Cells, without: list[int]
) -> None:
    """Draw one round nucleus in most hepatocytes, two in some."""
    size = len(fields[0])
    count = len(cells.centres)
    kept = (rng.uniform(size=count) > 0.12) & ~np.isin(np.arange(count), without)
    centres = cells.centres[kept] + rng.normal(0, 1.6, (int(kept.sum()), 2))
    twins = centres[rng.uniform(size=len(centres)) < 0.1]
    shift = rng.normal(0, 1, twins.shape)
    shift *= 10.5 / np.maximum(np.linalg.norm(shift, axis=1, keepdims=True), 1e-6)
    centres = np.concatenate([centres, twins + shift])
    radii = rng.normal(5.6, 0.5, (len(centres), 1)) * rng.uniform(0.92, 1.08, (len(centres), 2))
    whole = _blobs(size, centres, radii, rng.uniform(0, np.pi, len(centres)))
    core = _blobs(size, centres, 0.72 * radii)
    dots = _blobs(size, centres + rng.normal(0, 1.2, centres.shape), np.full(radii.shape, 1.3))
    chromatin = 0.12 * _noise(rng, size, 1.2)
    _paint(fields, whole, 1.02 + chromatin, 0.28)
    _paint(fields, core, 0.80 + chromatin, 0.26)
    _paint(fields, dots * core, 1.25, 0.4)


def _draw_kupffer(rng: np.random.Generator, fields: list[Field], cells: _Cells) -> None:
    """Draw flat nuclei and red cells in the sinusoids."""
    size = len(fields[0])
    places = np.argwhere(cells.sinusoid > 0.9)[:, ::-1]
    if len(places) < 40:
        return
    some = places[rng.choice(len(places), min(len(places), 22), replace=False)]
    flat, red = some[:12], some[12:]
    radii = np.stack([rng.uniform(4, 6, len(flat)), rng.uniform(1.4, 2.0, len(flat))], axis=1)
    angles = np.full(len(flat), cells.angle) + rng.normal(0, 0.35, len(flat))
    _paint(fields, _blobs(size, flat, radii, angles), 1.15, 0.25)
    _paint(fields, _blobs(size, red, np.full((len(red), 2), 2.6)), 0.05, 0.95)


def _draw_balloon(rng: np.random.Generator, fields: list[Field], centre: NDArray[Any]) -> None:
    """Draw one swollen hepatocyte: pale, with wisps of cytoplasm and a nucleus in the middle."""
    size = len(fields[0])
    radius = _CELL * rng.uniform(0.72, 0.98)
    radii = radius * rng.uniform(0.9, 1.1, (1, 2))
    turn = rng.uniform(0, np.pi, 1)
    place = centre[None]
    wisps = np.exp(-((_noise(rng, size, 3.0) / 0.35) ** 2))
    _paint(fields, _blobs(size, place, radii + 1.2, turn), 0.14, 0.72)
    _paint(fields, _blobs(size, place, radii - 1.0, turn), 0.07 + 0.05 * wisps, 0.13 + 0.30 * wisps)
    hyaline = place + rng.normal(0, 0.35 * radius, (2, 2))
    _paint(fields, _blobs(size, hyaline, rng.uniform(1.5, 3.2, (2, 2))), 0.12, 0.95)
    nucleus = place + rng.normal(0, 2.0, (1, 2))
    own = rng.normal(6.4, 0.5, (1, 2))
    _paint(fields, _blobs(size, nucleus, own), 0.95, 0.26)
    _paint(fields, _blobs(size, nucleus, 0.7 * own), 0.70, 0.24)


def _draw_droplets(
    rng: np.random.Generator, fields: list[Field], cells: _Cells, share: float
) -> None:
    """Draw round fat droplets, which washed out: one large or a few small in a share of cells."""
    size = len(fields[0])
    fat = np.flatnonzero(rng.uniform(size=len(cells.centres)) < share)
    few = share < 0.05
    large = fat[rng.uniform(size=len(fat)) < (0.0 if few else 0.7)]
    small = np.repeat(np.setdiff1d(fat, large), 1 if few else 4)
    centres = np.concatenate([
        cells.centres[large] + rng.normal(0, 2.0, (len(large), 2)),
        cells.centres[small] + rng.normal(0, 0.26 * _CELL, (len(small), 2)),
    ])  # fmt: skip
    radius = np.concatenate([
        rng.uniform(0.26, 0.52, len(large)) * _CELL, rng.uniform(2.0, 4.2, len(small))
    ])  # fmt: skip
    radii = np.repeat(radius[:, None], 2, axis=1)
    _paint(fields, _blobs(size, centres, radii + 1.1), 0.16, 0.80)
    _paint(fields, _blobs(size, centres, radii), 0.0, 0.02)
    turn = rng.uniform(0, 2 * np.pi, len(large))
    edge = np.stack([np.cos(turn), np.sin(turn)], axis=1) * (radius[: len(large), None] + 2.0)
    flat = np.tile([4.6, 2.2], (len(large), 1))
    _paint(fields, _blobs(size, centres[: len(large)] + edge, flat, turn + np.pi / 2), 1.1, 0.3)


def _draw_vein(rng: np.random.Generator, fields: list[Field], size: int) -> None:
    """Draw a vein: a white round space, larger than any droplet, with a thin wall."""
    centre = rng.uniform(0.1, 0.9, (1, 2)) * size
    radii = rng.uniform(20, 32, (1, 2))
    turn = rng.uniform(0, np.pi, 1)
    _paint(fields, _blobs(size, centre, radii + 3.0, turn), 0.18, 0.52)
    _paint(fields, _blobs(size, centre, radii, turn), 0.01, 0.03)
    around = rng.uniform(0, 2 * np.pi, 5)
    wall = centre + np.stack([np.cos(around), np.sin(around)], 1) * (radii.mean() + 1.0)
    flat = np.tile([4.5, 1.6], (5, 1))
    _paint(fields, _blobs(size, wall, flat, around + np.pi / 2), 1.1, 0.3)


def _draw_band(rng: np.random.Generator, fields: list[Field], size: int, width: float) -> None:
    """Draw a bent band of collagen through the tile: wavy fibres, spindle nuclei, greyish pink."""
    angle = rng.uniform(0, np.pi)
    x, y = np.meshgrid(np.arange(size) - size / 2, np.arange(size) - size / 2)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = -x * np.sin(angle) + y * np.cos(angle) - rng.uniform(-0.22, 0.22) * size
    bend = rng.uniform(8, 20) * np.sin(along / rng.uniform(35, 60) + rng.uniform(0, 6))
    across = across + bend + 3.0 * _noise(rng, size, 9.0)
    wide = width * (1 + 0.35 * _noise(rng, size, 30.0))
    band = np.clip((wide - np.abs(across)) / 2.5 + 0.5, 0, 1).astype(np.float32)
    fibres = np.sin(across / 1.35 + 1.3 * _noise(rng, size, 7.0))
    gaps = np.clip(_noise(rng, size, 4.0) - 1.1, 0, 1)
    _paint(fields, band, 0.24 + 0.03 * fibres, 0.46 + 0.11 * fibres - 0.35 * gaps)
    rows = np.argwhere(np.abs(across) < 0.75 * wide)[:, ::-1]
    count = min(len(rows), int(size * width / 260))
    some = rows[rng.choice(len(rows), count, replace=False)] if count else np.zeros((0, 2))
    radii = np.stack([rng.uniform(4, 6.5, count), rng.uniform(1.2, 1.8, count)], axis=1)
    _paint(fields, _blobs(size, some, radii, angle + rng.normal(0, 0.3, count)), 1.15, 0.3)


def _draw_lymphocytes(
    rng: np.random.Generator, fields: list[Field], size: int, count: int, spread: float
) -> None:
    """Draw small round dark nuclei with hardly any cytoplasm about one place."""
    middle = rng.uniform(0.15, 0.85, 2) * size
    centres = middle + rng.normal(0, spread, (count, 2))
    centres = _apart(centres, 6.2)
    radii = rng.normal(3.0, 0.25, (len(centres), 1)) * np.ones((1, 2))
    _paint(fields, _blobs(size, centres, radii + 1.3), 0.30, 0.32)
    _paint(fields, _blobs(size, centres, radii), 1.40 + 0.10 * _noise(rng, size, 1.0), 0.2)


def _apart(centres: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Return the centres that are not closer than `least` to one before them."""
    kept: list[NDArray[np.float64]] = []
    for one in centres:
        if all(np.hypot(*(one - other)) >= least for other in kept):
            kept.append(one)
    return np.array(kept).reshape(-1, 2)
