"""The frozen part's output: computed once an image and view, kept on disk, read from there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.backbone import Network, load_ahead
from hepar.config import BackboneConfig, FinetuneConfig
from hepar.errors import ConfigError
from hepar.fit.cut import Cut
from hepar.fit.workers import barrier, rank
from hepar.model import InputReader
from hepar.progress import LOG, track
from hepar.provenance import digest

__all__ = ["Values", "boundary_values"]

Floats = NDArray[np.float32]
Values = Callable[[Sequence[tuple[int, int]]], Floats]


def boundary_values(
    cut: Cut,
    arrays: Mapping[str, NDArray[Any]],
    reader: InputReader,
    configs: tuple[BackboneConfig, FinetuneConfig],
    weights_key: str,
    folder: Path,
) -> Values:
    """Return a function from (row, view) pairs to values at the freeze boundary.

    With the cache, the frozen part runs once for every row and view and its output is kept as
    float16; without, it runs anew whenever it is asked. The values agree to float16's precision.

    Args:
        cut: the network in two.
        arrays: of the frozen part.
        reader: gives network input for row * reader.each + view.
        configs: batch and threads; whether to cache.
        weights_key: SHA-256 of the weights.
        folder: where cached values are kept; one file for each freeze boundary and recipe.

    Raises:
        ConfigError: finetune.cache is not auto, on or off.
    """
    backbone, config = configs
    if config.cache not in {"auto", "on", "off"}:
        raise ConfigError(f"finetune.cache: expected auto, on or off, got {config.cache!r}.")
    network = Network(cut.prefix, arrays, backbone.threads) if cut.prefix else None

    def compute(positions: Sequence[int]) -> Floats:
        images = np.stack(reader(positions))
        return images if network is None else network.value(cut.boundary, images)

    def fresh(pairs: Sequence[tuple[int, int]]) -> Floats:
        return compute([row * reader.each + view for row, view in pairs])

    if network is None:
        LOG.info("cache     off: nothing is frozen")
        return fresh
    keys = reader.keys
    shape = compute([0]).shape[1:]
    size = len(keys) * int(np.prod(shape)) * 2
    what = f"{len(keys)} x {' x '.join(map(str, shape))}, {size / 1e9:.2f} GB"
    if config.cache == "off" or (config.cache == "auto" and size > config.cache_gb * 1e9):
        LOG.info("cache     off: the frozen part runs every epoch (%s)", what)
        return fresh
    path = folder / f"{digest(weights_key, digest(cut.prefix.hex()), reader.recipe.key, keys)}.f16"
    if rank() == 0:
        _fill(path, (len(keys), *shape), network, cut, reader, backbone)
    barrier()
    if not path.is_file() or path.stat().st_size != size:
        return fresh
    LOG.info("cache     on: the frozen part has run once (%s)", what)
    kept = np.memmap(path, np.float16, "r", shape=(len(keys), *shape))

    def cached(pairs: Sequence[tuple[int, int]]) -> Floats:
        rows = np.array([row * reader.each + view for row, view in pairs], np.int64)
        return np.asarray(kept[rows], np.float32)

    return cached


def _fill(
    path: Path,
    shape: tuple[int, ...],
    network: Network,
    cut: Cut,
    reader: InputReader,
    config: BackboneConfig,
) -> None:
    """Append the rows that the file lacks; where they cannot be kept, say so and leave none.

    The file grows row by row, so its length says how far a killed run came. Written, not mapped:
    a full disk is then an error that can be told, and not a signal.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    row_bytes = int(np.prod(shape[1:])) * 2
    done = path.stat().st_size // row_bytes if path.is_file() else 0
    starts = range(done, shape[0], config.batch)
    parts = [list(range(at, min(at + config.batch, shape[0]))) for at in starts]
    try:
        with path.open("ab") as stream:
            os.truncate(path, done * row_bytes)
            for _, images in track(
                load_ahead(parts, reader, config.workers), "frozen part", total=len(parts)
            ):
                stream.write(_halved(network.value(cut.boundary, np.stack(images))).tobytes())
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        LOG.warning("cache     off: %s; the frozen part runs every epoch", reason)
        path.unlink(missing_ok=True)


def _halved(values: Floats) -> NDArray[np.float16]:
    if np.abs(values).max() > np.finfo(np.float16).max:
        raise OverflowError("values too large for float16")
    return values.astype(np.float16)
