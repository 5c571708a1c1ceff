"""What a step may demand of the slice it is given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hepar.data import Slice
from hepar.errors import RecipeError

__all__ = ["hu_only", "liver_of", "picture_only", "rgb_only"]

_RGB = "Use recipe 'histology' or 'rgb', or a bundle of RGB tiles."


def hu_only(image: Slice, step: str) -> None:
    """Refuse a picture.

    Raises:
        RecipeError: the slice is not in HU.
    """
    if image.kind == "rgb":
        raise RecipeError(f"RGB tile, not HU; step {step!r} needs HU. {_RGB}")
    if image.kind != "hu":
        raise RecipeError(
            f"8-bit picture, not HU; step {step!r} needs HU. "
            "Use recipe 'picture' or 'liver', or ingest the DICOM."
        )


def picture_only(image: Slice, step: str) -> None:
    """Refuse HU.

    Raises:
        RecipeError: the slice is in HU or RGB.
    """
    if image.kind == "rgb":
        raise RecipeError(f"RGB tile, not grey; step {step!r} needs a grey picture. {_RGB}")
    if image.kind != "picture":
        raise RecipeError(
            f"HU, not a picture; step {step!r} needs a picture. Use recipe 'ct' or 'liver'."
        )


def rgb_only(image: Slice, step: str) -> None:
    """Refuse HU and grey pictures.

    Raises:
        RecipeError: the slice is not in RGB.
    """
    if image.kind != "rgb":
        raise RecipeError(
            f"{'HU' if image.kind == 'hu' else 'grey picture'}, not an RGB tile; step {step!r} "
            "needs RGB. Say --set ingest.pixels=rgb for tiles, or use a recipe for CT."
        )


def liver_of(image: Slice, step: str) -> NDArray[np.bool_]:
    """Return where the liver and its lesions are, (y, x) bool.

    Raises:
        RecipeError: there is no mask, or it shows no liver.
    """
    if image.mask is None or not image.mask.any():
        raise RecipeError(
            f"no liver mask; step {step!r} needs one that shows the liver. "
            "Name it in the manifest's mask column, or use recipe 'ct' or 'picture'."
        )
    return np.asarray(image.mask > 0)
