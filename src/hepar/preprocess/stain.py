"""Stains of RGB tiles: brought to one reference, or varied; unmixed by scikit-image."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.data import Slice
from hepar.errors import RecipeError
from hepar.preprocess.demands import rgb_only
from hepar.preprocess.recipe import STEPS

__all__ = ["RgbScale", "StainNormalise", "jitter_stains"]

Floats = NDArray[np.floating[Any]]

_IMPORT_LOCK = threading.Lock()
"""Held while scikit-image is imported: tiles are read in threads."""

_FEWEST = 0.01
"""Share of a tile's pixels that must be stained for its stains to be told."""

_ALIKE = 0.995
"""Cosine of two colours that are taken for one stain."""

_UNIT = float(-np.log(1e-6))
"""Natural optical density of 1 in scikit-image's amounts of stain."""


@STEPS.add("rgb_scale")
@dataclass(frozen=True)
class RgbScale:
    """Map the values of an RGB tile to 0-1 by the range of their type."""

    def __call__(self, image: Slice) -> Slice:
        """Return pixels (y, x, 3) in 0-1."""
        rgb_only(image, "rgb_scale")
        return replace(image, pixels=_scaled(image).astype(np.float32))


@STEPS.add("stain_normalise")
@dataclass(frozen=True)
class StainNormalise:
    """Show a tile as if it had been stained by the reference laboratory.

    The colours of haematoxylin and eosin are found in the tile's own pixels, the tile is unmixed
    by them, each stain is scaled to the reference's strength, and mixed again in the reference's
    colours. Each tile is treated by itself, so that an answer does not depend on its company. A
    tile with hardly any stain, or with one alone, keeps its colours.

    Attributes:
        haematoxylin: optical density of red, green and blue in the reference, of unit length.
        eosin: the same.
        strongest: natural optical density of either in the reference, at the 99th percentile.
        glass: value from 0 to 1 of what light passes freely.
        least: natural optical density, over all channels, below which a pixel is glass.
        share: of stained pixels, in per cent, beyond either stain's colour.

    Source:
        Macenko et al., ISBI 2009, with the reference of the authors' implementation; unmixing by
        scikit-image (Ruifrok and Johnston, Anal Quant Cytol Histol 23, 2001).
    """

    haematoxylin: tuple[float, float, float] = (0.5626, 0.7201, 0.4062)
    eosin: tuple[float, float, float] = (0.2159, 0.8012, 0.5581)
    strongest: tuple[float, float] = (1.9705, 1.0308)
    glass: float = 240 / 255
    least: float = 0.15
    share: float = 1.0

    def __call__(self, image: Slice) -> Slice:
        """Return pixels (y, x, 3) float32 in 0-1."""
        rgb_only(image, "stain_normalise")
        colour = _scikit_image("stain_normalise")
        light = np.clip(_scaled(image) / self.glass, 1 / 255, 1)
        density = -np.log(light)
        stained = np.linalg.norm(density, axis=2) > self.least
        own = None
        if stained.mean() >= _FEWEST:
            own = _stain_colours(density[stained], self.share)
        if own is None:
            return replace(image, pixels=_scaled(image).astype(np.float32))
        amounts = colour.separate_stains(light, np.linalg.inv(own))
        strong = np.percentile(amounts[stained], 99, axis=0)[:2] * _UNIT
        amounts[..., :2] *= np.asarray(self.strongest) / np.maximum(strong, 1e-3)
        amounts[..., 2] = 0
        reference = _with_third(np.asarray(self.haematoxylin), np.asarray(self.eosin))
        mixed = self.glass * colour.combine_stains(amounts, reference)
        return replace(image, pixels=np.asarray(mixed, np.float32))


def jitter_stains(rgb: Floats, strength: Floats, shift: Floats) -> Floats:
    """Return a tile with other amounts of haematoxylin, eosin and a third colour.

    Args:
        rgb: (y, x, 3) in 0-1.
        strength: (3,) factors; 1 changes nothing.
        shift: (3,) natural optical densities that are added; 0 changes nothing.

    Returns:
        (y, x, 3) in 0-1.

    Raises:
        RecipeError: scikit-image is not installed.

    Source:
        Tellez et al., IEEE TMI 37 (2018).
    """
    colour = _scikit_image("augment.stain")
    amounts = colour.rgb2hed(np.clip(rgb, 0, 1))
    other = amounts * strength + shift / _UNIT
    # As a ratio, so that what the three colours cannot mix stays as it is.
    change = colour.hed2rgb(other) / np.maximum(colour.hed2rgb(amounts), 1e-6)
    return np.asarray(np.clip(rgb * change, 0, 1))


def _scikit_image(what: str) -> Any:
    try:
        with _IMPORT_LOCK:
            from skimage import color
    except ImportError:
        raise RecipeError(
            f"{what}: expected scikit-image, got none installed. Run "
            "`pip install 'hepar[histology]'`, or use recipe 'rgb' and augment.stain=0."
        ) from None
    return color


def _scaled(image: Slice) -> Floats:
    return np.asarray(image.pixels / np.float64(np.iinfo(image.pixels.dtype).max))


def _stain_colours(density: Floats, share: float) -> Floats | None:
    """Return the colours of haematoxylin, eosin and what is neither (3, 3), one a row.

    They are the outermost directions of the pixels (n, 3) in the plane that holds most of them;
    None where both are one.
    """
    _, directions = np.linalg.eigh(density.T @ density)
    plane = directions[:, [2, 1]]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)
    along = density @ plane
    angles = np.percentile(np.arctan2(along[:, 1], along[:, 0]), [share, 100 - share])
    ends = np.clip((plane @ np.stack([np.cos(angles), np.sin(angles)])).T, 0, None)
    ends = ends / np.maximum(np.linalg.norm(ends, axis=1, keepdims=True), 1e-6)
    if ends[0] @ ends[1] > _ALIKE:
        return None
    blue, pink = sorted(ends, key=lambda end: -float(end[0]))
    return _with_third(blue, pink)


def _with_third(haematoxylin: Floats, eosin: Floats) -> Floats:
    third = np.cross(haematoxylin, eosin)
    return np.stack([haematoxylin, eosin, third / np.linalg.norm(third)])
