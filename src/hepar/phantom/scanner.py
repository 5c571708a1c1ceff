"""What the scanner adds to a body: kernel, noise, streaks, table, and marks that were burned in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.phantom.shapes import Field, cover, paint

__all__ = [
    "KERNELS",
    "Scan",
    "blur",
    "burn_mark",
    "draw_table",
    "expose",
    "make_scan",
    "noise_covariance",
]

KERNELS = {"B20f": (0.85, 0.95), "B30f": (0.62, 0.65), "B40f": (0.5, 0.45)}
"""Kernel name -> blur of the picture and of its noise, in pixels of a 256-pixel slice."""


@dataclass(frozen=True)
class Scan:
    """How one patient was scanned.

    Attributes:
        kernel: key of `KERNELS`.
        noise_hu: standard deviation of the noise in the middle of the body.
        thickness_mm: slice spacing, which is also the slice thickness.
        zoom: field of view over the width of the body.
        centre_mm: height of the middle of the series in the body.
        table: "cradle", "bed" or "rails".
    """

    kernel: str
    noise_hu: float
    thickness_mm: float
    zoom: float
    centre_mm: float
    table: str


def make_scan(rng: np.random.Generator) -> Scan:
    """Draw how a patient is scanned; the label has no part in this."""
    return Scan(
        kernel=str(rng.choice(list(KERNELS), p=(0.3, 0.5, 0.2))),
        noise_hu=float(np.clip(np.exp(rng.normal(np.log(11), 0.25)), 6, 20)),
        thickness_mm=float(rng.choice([2.5, 3.0, 3.2, 4.0, 5.0, 6.0, 8.0])),
        zoom=float(rng.uniform(1.04, 1.2)),
        centre_mm=float(rng.uniform(-92, -52)),
        table=str(rng.choice(["cradle", "bed"])),
    )


def draw_table(hu: Field, table: str, back_mm: float, pixel_mm: float) -> None:
    """Paint the patient table under the body, in place.

    Args:
        hu: (y, x) picture with air at -1000.
        table: "cradle", "bed" or "rails".
        back_mm: y of the lowest point of the back, from the middle of the picture.
        pixel_mm: in-plane pixel size.
    """
    axis = (np.arange(hu.shape[0], dtype=np.float32) - (hu.shape[0] - 1) / 2) * np.float32(pixel_mm)
    x, y = axis[None, :], axis[:, None] - np.float32(back_mm + 3)
    width = {"cradle": 205.0, "bed": 175.0, "rails": 215.0}[table]
    sag = {"cradle": 1 / 900, "bed": 1 / 2000, "rails": 1e-6}[table]
    top = y + np.float32(sag) * x * x
    side = np.abs(x) - np.float32(width)
    free = np.asarray(np.clip((-500 - hu) / 500, 0, 1), np.float32)
    if table == "rails":
        plank = np.maximum(np.abs(top - 9) - 8, side)
        paint(hu, cover(plank, pixel_mm) * free, 260.0)
        for place in (-110.0, 110.0):
            rail = np.sqrt((x - place) ** 2 + (y - 34) ** 2) - 11
            paint(hu, cover(rail, pixel_mm) * free, 1400.0)
        return
    foam = np.maximum(np.abs(top - 12) - 9, side)
    paint(hu, cover(foam, pixel_mm) * free, -940.0)
    shell = np.maximum(np.abs(top - 2) - 1.7, side)
    paint(hu, cover(shell, pixel_mm) * free, 160.0)
    depth = 22 if table == "cradle" else 42
    under = np.maximum(np.abs(top - depth + np.maximum(np.abs(x) - 120, 0) * 0.3) - 1.3, side)
    paint(hu, cover(under, pixel_mm) * free, 60.0)


def blur(hu: Field, scan: Scan) -> Field:
    """Return a slice, (y, x), as sharp as the scanner's kernel leaves it."""
    sigma = KERNELS[scan.kernel][0] * hu.shape[0] / 256
    return np.asarray(cv2.GaussianBlur(hu, (0, 0), max(sigma, 0.2)), np.float32)


def expose(
    hu: Field, inside: NDArray[np.bool_], scan: Scan, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Return what the scanner measures: blurred by its kernel, with noise, in whole HU.

    Noise is strongest in the middle of the body, where few photons arrive, and has faint streaks
    along the long axis of the body.

    Args:
        hu: (y, x) true HU.
        inside: (y, x) where the body is.
        scan: kernel and noise.
        rng: this slice's generator.

    Returns:
        (y, x) HU from -1024 to 3071.
    """
    size = hu.shape[0]
    noise = _speckle(rng.standard_normal(hu.shape, dtype=np.float32), scan.kernel, size)
    noise = noise / np.float32(noise.std())
    streaks = _streaks(rng.standard_normal(hu.shape, dtype=np.float32), size)
    streaks = streaks / np.float32(streaks.std())
    strength, along = _strength(inside, scan)
    measured = blur(hu, scan) + strength * (noise + along * streaks)
    return np.asarray(np.rint(np.clip(measured, -1024, 3071)), np.int16)


def noise_covariance(
    filters: NDArray[np.floating], inside: NDArray[np.bool_], scan: Scan
) -> NDArray[np.float64]:
    """Return the covariance of what matched filters make of one slice's noise.

    Args:
        filters: (n, y, x) weights of the slice's pixels.
        inside: (y, x) where the body is.
        scan: kernel and noise.

    Returns:
        (n, n), for weights times HU. A blur is its own transpose, so that the noise seen through a
        filter has the variance of the filter blurred as the noise is.
    """
    size = inside.shape[0]
    strength, along = _strength(inside, scan)
    seen = (filters * strength).astype(np.float32)
    across = (filters * (strength * along)).astype(np.float32)
    speckle = np.stack([_speckle(one, scan.kernel, size).ravel() for one in seen])
    streaks = np.stack([_streaks(one, size).ravel() for one in across])
    speckle, streaks = speckle.astype(float), streaks.astype(float)
    grain, streak = _norms(scan.kernel, size)
    return np.asarray(speckle @ speckle.T / grain + streaks @ streaks.T / streak)


def _speckle(white: Field, kernel: str, size: int) -> Field:
    """Return white noise as coarse as the kernel leaves it, without what is much coarser."""
    grain = KERNELS[kernel][1] * size / 256
    fine = cv2.GaussianBlur(white, (0, 0), max(grain, 0.2))
    return np.asarray(fine - 0.5 * cv2.GaussianBlur(white, (0, 0), 2.2 * grain), np.float32)


def _streaks(white: Field, size: int) -> Field:
    """Return white noise drawn out along the rows."""
    return np.asarray(cv2.GaussianBlur(white, (0, 0), size / 9, sigmaY=0.6), np.float32)


@cache
def _norms(kernel: str, size: int) -> tuple[float, float]:
    """Return the variances that `_speckle` and `_streaks` leave of white noise."""
    point = np.zeros((size, size), np.float32)
    point[size // 2, size // 2] = 1
    speckle, streaks = _speckle(point, kernel, size), _streaks(point, size)
    return float((speckle**2).sum()), float((streaks**2).sum())


def _strength(inside: NDArray[np.bool_], scan: Scan) -> tuple[Field, Field]:
    """Return the HU of the noise, (y, x), and the share of streaks in it, (y, 1)."""
    size = inside.shape[0]
    thick = cv2.resize(inside.astype(np.float32), (32, 32), interpolation=cv2.INTER_AREA)
    thick = cv2.GaussianBlur(thick, (0, 0), 5)
    thick = cv2.resize(thick / np.float32(max(thick.max(), 1e-3)), (size, size))
    along = np.maximum(inside.mean(axis=1, keepdims=True) - 0.35, 0).astype(np.float32)
    strength = np.float32(scan.noise_hu) * (0.25 + 0.75 * thick)
    return np.asarray(strength, np.float32), np.asarray(0.7 * along, np.float32)


def burn_mark(hu: NDArray[np.int16]) -> None:
    """Burn a bright mark into the upper left corner of a slice, outside the body, in place."""
    size = hu.shape[0]
    step = max(size // 64, 1)
    hu[2 * step : 3 * step, 2 * step : 8 * step] = 1500
    hu[4 * step : 8 * step, 2 * step : 3 * step] = 1500
    hu[4 * step : 5 * step, 2 * step : 6 * step] = 1500
