"""Steps that change grey values and leave every pixel where it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.data import Slice
from hepar.errors import RecipeError
from hepar.preprocess.demands import hu_only, liver_of, picture_only
from hepar.preprocess.recipe import STEPS

__all__ = [
    "Background",
    "Channels",
    "Clahe",
    "Gaussian",
    "HuWindow",
    "HuWindows",
    "LiverScale",
    "LiverSmooth",
    "PictureScale",
    "SoftTissue",
    "Standardise",
]

Floats = NDArray[np.float32]


def _window(pixels: NDArray[np.generic], level: float, width: float) -> Floats:
    scaled = (pixels.astype(np.float32) - np.float32(level - width / 2)) / np.float32(width)
    return np.asarray(np.clip(scaled, 0, 1), np.float32)


def _check_width(width: float) -> None:
    if width <= 0:
        raise RecipeError(
            f"hu_window: expected width > 0 HU, got {width:g}. "
            "A liver soft-tissue window is level=60, width=200."
        )


@STEPS.add("hu_window")
@dataclass(frozen=True)
class HuWindow:
    """Map a HU window to 0-1: level - width/2 becomes 0, level + width/2 becomes 1.

    Attributes:
        level: centre in HU.
        width: in HU, above 0.

    Source:
        DICOM PS3.3 C.11.2.1.2, linear exact.
    """

    level: float
    width: float

    def __post_init__(self) -> None:
        _check_width(self.width)

    def __call__(self, image: Slice) -> Slice:
        """Return pixels (y, x) in 0-1."""
        hu_only(image, "hu_window")
        return replace(image, pixels=_window(image.pixels, self.level, self.width))


@STEPS.add("hu_windows")
@dataclass(frozen=True)
class HuWindows:
    """Map three HU windows to the three channels, each 0-1.

    Attributes:
        windows: three pairs (level, width) in HU.
    """

    windows: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if len(self.windows) != 3:
            raise RecipeError(f"hu_windows: expected 3 windows, got {len(self.windows)}.")
        for _, width in self.windows:
            _check_width(width)

    def __call__(self, image: Slice) -> Slice:
        """Return pixels (y, x, 3) in 0-1."""
        hu_only(image, "hu_windows")
        channels = [_window(image.pixels, level, width) for level, width in self.windows]
        return replace(image, pixels=np.stack(channels, axis=-1))


@STEPS.add("picture_scale")
@dataclass(frozen=True)
class PictureScale:
    """Map the grey values of an 8- or 16-bit picture to 0-1 by the range of its type."""

    def __call__(self, image: Slice) -> Slice:
        """Return pixels (y, x) in 0-1."""
        picture_only(image, "picture_scale")
        top = np.iinfo(image.pixels.dtype).max
        return replace(image, pixels=image.pixels.astype(np.float32) / np.float32(top))


@STEPS.add("soft_tissue")
@dataclass(frozen=True)
class SoftTissue:
    """Map soft tissue to 0-1, HU and pictures alike: a picture is taken to be windowed already.

    Attributes:
        level: centre in HU.
        width: in HU, above 0.
    """

    level: float
    width: float

    def __post_init__(self) -> None:
        _check_width(self.width)

    def __call__(self, image: Slice) -> Slice:
        """Return pixels (y, x) in 0-1."""
        if image.kind == "picture":
            return PictureScale()(image)
        return HuWindow(self.level, self.width)(image)


@STEPS.add("liver_scale")
@dataclass(frozen=True)
class LiverScale:
    """Centre grey values or HU on the liver's own median and scale them by its robust spread.

    The result does not change when the display window of a picture does (short of clipping), so
    HU and windowed pictures become comparable: 0.5 is this liver's median, and each 1/(2 * reach)
    is one robust standard deviation (1.4826 times the median absolute deviation).

    Attributes:
        reach: robust standard deviations that map to 0 and to 1; above 0.
    """

    reach: float
    needs_mask: ClassVar[bool] = True

    def __call__(self, image: Slice) -> Slice:
        """Return pixels (y, x) in 0-1, 0.5 at the liver's median."""
        return self.on_scale_of(image, image)

    def on_scale_of(self, own: Slice, image: Slice) -> Slice:
        """Return a slice on the scale of the liver that another slice shows."""
        liver = own.pixels[liver_of(own, "liver_scale")].astype(np.float32)
        median = np.median(liver)
        spread = 1.4826 * np.median(np.abs(liver - median))
        floor = 1.0 if own.kind == "hu" else 0.5
        scaled = (image.pixels.astype(np.float32) - median) / max(spread, floor)
        return replace(image, pixels=np.clip(scaled / (2 * self.reach) + 0.5, 0, 1))


@STEPS.add("background")
@dataclass(frozen=True)
class Background:
    """Set everything outside the liver mask to a constant.

    Attributes:
        value: on the scale that the steps before have made.
    """

    value: float
    needs_mask: ClassVar[bool] = True

    def __call__(self, image: Slice) -> Slice:
        """Return pixels of the same shape, constant outside the liver."""
        inside = liver_of(image, "background")
        if image.pixels.ndim == 3:
            inside = inside[..., None]
        return replace(image, pixels=np.where(inside, image.pixels, np.float32(self.value)))


@STEPS.add("gaussian")
@dataclass(frozen=True)
class Gaussian:
    """Smooth with a Gaussian, to lower noise.

    Attributes:
        sigma: in pixels of the array as it is at this step; above 0.
    """

    sigma: float

    def __call__(self, image: Slice) -> Slice:
        """Return pixels of the same shape."""
        smooth = cv2.GaussianBlur(
            image.pixels, (0, 0), self.sigma, borderType=cv2.BORDER_REFLECT_101
        )
        return replace(image, pixels=smooth)


@STEPS.add("liver_smooth")
@dataclass(frozen=True)
class LiverSmooth:
    """Smooth inside the liver with a Gaussian that does not look across the liver's edge.

    Every pixel becomes the weighted mean of the liver pixels around it, so neither fat nor the
    background bleeds in; pixels outside the mask stay as they are.

    Attributes:
        sigma: in pixels of the array as it is at this step; above 0.

    Source:
        Normalised convolution: Knutsson and Westin, CVPR 1993.
    """

    sigma: float
    needs_mask: ClassVar[bool] = True

    def __call__(self, image: Slice) -> Slice:
        """Return pixels (y, x)."""
        inside = liver_of(image, "liver_smooth")
        weight = inside.astype(np.float32)
        summed = cv2.GaussianBlur(image.pixels * weight, (0, 0), self.sigma)
        share = cv2.GaussianBlur(weight, (0, 0), self.sigma)
        smooth = np.divide(summed, share, out=image.pixels.astype(np.float32), where=inside)
        return replace(image, pixels=smooth)


@STEPS.add("clahe")
@dataclass(frozen=True)
class Clahe:
    """Enhance contrast by contrast-limited adaptive histogram equalisation.

    Attributes:
        clip_limit: of the histogram, in multiples of its mean.
        tiles: tiles a side.

    Source:
        Zuiderveld, Graphics Gems IV (1994), as OpenCV computes it, on 16-bit values.
    """

    clip_limit: float
    tiles: int

    def __call__(self, image: Slice) -> Slice:
        """Return pixels (y, x) in 0-1; they must be in 0-1 before."""
        equalise = cv2.createCLAHE(self.clip_limit, (self.tiles, self.tiles))
        levels = np.rint(image.pixels * 65535).astype(np.uint16)
        return replace(image, pixels=equalise.apply(levels).astype(np.float32) / np.float32(65535))


@STEPS.add("channels")
@dataclass(frozen=True)
class Channels:
    """Repeat one grey channel three times, as networks trained on colour pictures expect."""

    def __call__(self, image: Slice) -> Slice:
        """Return pixels (y, x, 3)."""
        if image.pixels.ndim == 3:
            return image
        return replace(image, pixels=np.repeat(image.pixels[..., None], 3, axis=-1))


@STEPS.add("standardise")
@dataclass(frozen=True)
class Standardise:
    """Subtract the backbone's mean and divide by its standard deviation, per channel.

    Attributes:
        mean: three values on the 0-1 scale.
        std: three values on the 0-1 scale, above 0.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, image: Slice) -> Slice:
        """Return pixels (y, x, 3) float32."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return replace(image, pixels=(image.pixels.astype(np.float32) - mean) / std)
