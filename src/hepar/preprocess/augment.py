"""Other views of an image: random draws that can be written down and replayed to the same array."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import AugmentConfig
from hepar.provenance import digest

__all__ = ["IDENTITY", "Draw", "augment", "draw", "draw_view"]

Floats = NDArray[np.float32]
Scale = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Draw:
    """One random draw: everything needed to replay it.

    Mirrored first, then turned and zoomed about the centre, then shifted; last the grey values.

    Attributes:
        rotation: degrees, counter-clockwise as seen.
        zoom: factor; above 1 the image grows.
        shift_x: to the right, as a share of the side.
        shift_y: down, as a share of the side.
        flip_lr: mirrored left to right.
        flip_ud: mirrored top to bottom.
        gain: factor on grey values.
        offset: added to grey values, in standard deviations of the network's input.
        noise: sigma of added Gaussian noise, in the same unit; the three channels get the same.
        stain: largest relative change of each stain, and of a shift of its optical density.
        blur: sigma of a Gaussian in pixels, as a softer reconstruction kernel would; 0 for none.
        seed: of the noise and of the stains.
    """

    rotation: float = 0.0
    zoom: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    flip_lr: bool = False
    flip_ud: bool = False
    gain: float = 1.0
    offset: float = 0.0
    noise: float = 0.0
    stain: float = 0.0
    blur: float = 0.0
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the draw as JSON-able values; `from_json` gives an equal draw back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Draw:
        """Return the draw that `Draw.to_json` described."""
        return cls(**record)


IDENTITY = Draw()


def draw(generator: np.random.Generator, config: AugmentConfig) -> Draw:
    """Return a random draw; every range is uniform and, but for noise, symmetric about no change.

    Args:
        generator: the only source of chance; it moves on equally far whatever the config.
        config: largest changes.
    """
    turn, zoom, right, down, gain, offset = generator.uniform(-1, 1, 6).tolist()
    noise, lr, ud = generator.uniform(0, 1, 3).tolist()
    seed = int(generator.integers(2**32))
    return Draw(
        rotation=config.rotation * turn,
        zoom=1 + config.zoom * zoom,
        shift_x=config.shift * right,
        shift_y=config.shift * down,
        flip_lr=bool(config.flip_lr and lr < 0.5),
        flip_ud=bool(config.flip_ud and ud < 0.5),
        gain=1 + config.gain * gain,
        offset=config.offset * offset,
        noise=config.noise * noise,
        stain=config.stain,
        blur=config.blur * float(np.random.default_rng([seed, 2]).uniform()),
        seed=seed,
    )


def draw_view(config: AugmentConfig, seed: int, sample: str, view: int) -> Draw:
    """Return the draw of one view of a sample: the same in any order and any process.

    Args:
        config: largest changes.
        seed: of all views.
        sample: SHA-256 of the sample's content.
        view: number; 0 is the image as it is.
    """
    if view == 0:
        return IDENTITY
    return draw(np.random.default_rng(int(digest(seed, sample, view), 16)), config)


def augment(image: Floats, draw: Draw, scale: Scale = ((0.0,) * 3, (1.0,) * 3)) -> Floats:
    """Return another view of network input; the argument is not changed.

    Args:
        image: (3, H, W) float32, standardised; or (1, D, H, W), all planes of which change alike.
        draw: what to change; IDENTITY gives equal pixels back.
        scale: mean and standard deviation it was standardised by, where stains are changed.

    Returns:
        As the image, contiguous. Pixels from outside repeat the border.
    """
    changed = image
    geometry = (draw.rotation, draw.zoom, draw.shift_x, draw.shift_y, draw.flip_lr, draw.flip_ud)
    if geometry != (0.0, 1.0, 0.0, 0.0, False, False):
        changed = _warp(changed, draw)
    if draw.stain:
        changed = _stained(changed, draw, scale)
    if (draw.gain, draw.offset) != (1.0, 0.0):
        changed = changed * np.float32(draw.gain) + np.float32(draw.offset)
    if draw.blur:
        changed = _blurred(changed, draw.blur)
    if draw.noise:
        grain = np.random.default_rng(draw.seed).standard_normal(image.shape[1:], np.float32)
        changed = changed + np.float32(draw.noise) * grain
    return np.ascontiguousarray(changed.copy() if changed is image else changed)


def _stained(image: Floats, draw: Draw, scale: Scale) -> Floats:
    """Make each stain stronger or weaker, and add some of it or take it away."""
    from hepar.preprocess.stain import jitter_stains

    strength, shift = np.random.default_rng([draw.seed, 1]).uniform(-draw.stain, draw.stain, (2, 3))
    mean, std = (np.asarray(value, np.float32)[:, None, None] for value in scale)
    rgb = (image * std + mean).transpose(1, 2, 0)
    other = np.asarray(jitter_stains(rgb, 1 + strength, shift), np.float32)
    return np.asarray((other.transpose(2, 0, 1) - mean) / std, np.float32)


def _blurred(image: Floats, sigma: float) -> Floats:
    import cv2

    soft = cv2.GaussianBlur(np.ascontiguousarray(image.transpose(1, 2, 0)), (0, 0), sigma)
    return np.asarray(soft.transpose(2, 0, 1), np.float32)


def _warp(image: Floats, draw: Draw) -> Floats:
    """Turn, zoom, shift and mirror about the centre in one bilinear interpolation."""
    import cv2

    if image.ndim == 4:
        planes = [_warp(image[:, plane], draw) for plane in range(image.shape[1])]
        return np.stack(planes, axis=1)
    _, height, width = image.shape
    turn = math.radians(draw.rotation)
    cos, sin = math.cos(turn) * draw.zoom, math.sin(turn) * draw.zoom
    linear = np.array([[cos, sin], [-sin, cos]]) @ np.diag(
        [-1.0 if draw.flip_lr else 1.0, -1.0 if draw.flip_ud else 1.0]
    )
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = np.array([draw.shift_x * width, draw.shift_y * height])
    matrix = np.column_stack([linear, centre - linear @ centre + shift])
    warped = cv2.warpAffine(
        image.transpose(1, 2, 0), matrix, (width, height), borderMode=cv2.BORDER_REPLICATE
    ).reshape(height, width, -1)
    return np.ascontiguousarray(warped.transpose(2, 0, 1))
