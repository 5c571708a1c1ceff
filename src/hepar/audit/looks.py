"""What each sample looks like: its exact pixels, a thumbnail, and features of the whole slice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepar.backbone import Weights
from hepar.config import BackboneConfig
from hepar.data import Manifest, Sample, Slice
from hepar.ingest import read_slices
from hepar.model import InputReader, compute_features, looking_network
from hepar.preprocess import NetworkInput, Recipe, make_recipe
from hepar.progress import track

__all__ = ["SIDE", "Looks", "grey", "looking_recipe", "read_looks"]

SIDE = 64
"""Of a thumbnail, in pixels."""

_WINDOW_HU = (-160.0, 240.0)
_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class Looks:
    """What n samples look like.

    Attributes:
        hashes: SHA-256 of each sample's decoded pixels, their shape and type.
        thumbnails: (n, 64, 64) uint8.
        features: (n, d) float32, of the whole slice.
    """

    hashes: tuple[str, ...]
    thumbnails: NDArray[np.uint8]
    features: NDArray[np.float32]


def looking_recipe(manifest: Manifest, weights: Weights) -> Recipe:
    """Return the recipe that shows the network whole slices of a manifest."""
    kinds = {sample.kind for sample in manifest.samples}
    name = {"hu": "ct", "rgb": "rgb"}.get(kinds.pop(), "picture") if len(kinds) == 1 else "picture"
    return make_recipe(name, manifest, NetworkInput(224, weights.mean, weights.std))


def grey(image: Slice) -> NDArray[np.float32]:
    """Return a slice (y, x) as grey values from 0 to 1, HU in a soft-tissue window."""
    pixels = np.asarray(image.pixels, np.float32)
    if pixels.ndim == 3:
        pixels = pixels.mean(axis=2)
    if image.kind == "hu":
        low, high = _WINDOW_HU
    else:
        low, high = 0.0, max(1.0, float(np.quantile(pixels, 0.999)))
    return np.asarray(np.clip((pixels - low) / (high - low), 0, 1), np.float32)


def _look(image: Slice) -> tuple[str, NDArray[np.uint8]]:
    import cv2

    pixels = np.ascontiguousarray(image.pixels)
    told = f"{pixels.shape} {pixels.dtype} ".encode()
    small = cv2.resize(grey(image), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    sha256 = hashlib.sha256(told + pixels.tobytes()).hexdigest()
    return sha256, np.asarray(np.rint(255 * small), np.uint8)


def read_looks(manifest: Manifest, config: BackboneConfig, cache: Path | None = None) -> Looks:
    """Read every sample once and return what it looks like.

    Args:
        manifest: the cohort, with one sample or more.
        config: batch and workers.
        cache: folder that keeps features between runs; None for none.
    """
    network, weights = looking_network()
    reader = InputReader(manifest, looking_recipe(manifest, weights))
    features = compute_features(network, reader, config, weights.sha256, cache)[:, 0]
    parts = [manifest.samples[i : i + _AT_ONCE] for i in range(0, len(manifest.samples), _AT_ONCE)]

    def read(samples: Sequence[Sample]) -> list[tuple[str, NDArray[np.uint8]]]:
        return [_look(image) for image in read_slices(manifest, samples)]

    with ThreadPoolExecutor(config.workers or None) as pool:
        found = [
            look
            for looks in track(pool.map(read, parts), "look at images", total=len(parts))
            for look in looks
        ]
    hashes, thumbnails = zip(*found, strict=True)
    return Looks(tuple(hashes), np.stack(thumbnails), features)
