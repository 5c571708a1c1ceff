"""Pooled features of many samples: decoded ahead in parallel, kept on disk, resumable."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hepar.backbone.runtime import Network
from hepar.errors import BackboneError
from hepar.progress import LOG, track
from hepar.provenance import atomic_writer, digest

__all__ = ["Load", "extract_features", "load_ahead"]

Floats = NDArray[np.float32]
Loaded = TypeVar("Loaded")
Load = Callable[[Sequence[int]], list[Floats]]

_ROWS_A_CHUNK = 512
"""Rows a cache file holds: a killed run loses at most this many."""


def extract_features(
    network: Network,
    key: str,
    samples: Sequence[str],
    load: Load,
    *,
    cache: Path | None = None,
    batch: int = 32,
    workers: int = 0,
) -> Floats:
    """Return pooled features of samples, computing only those the cache does not hold.

    An image's features do not depend on its neighbours in a batch, on the number of workers or
    threads, or on the order of the samples, to the bit; so rows of one run fit any other.

    Args:
        network: what computes them.
        key: SHA-256 of everything else that decides them: weights and recipe.
        samples: SHA-256 of every sample's content, one a sample.
        load: returns network input (3, H, W) for positions in `samples`; called from threads.
        cache: folder that keeps features between runs; None for none.
        batch: images in one call of the network.
        workers: threads that load; 0 for one per core.

    Returns:
        (n, d) float32, a row per sample.

    Raises:
        BackboneError: batch is below 1.
    """
    if batch < 1:
        raise BackboneError(f"backbone.batch: expected 1 image or more, got {batch}. 32 is usual.")
    folder = None if cache is None else cache / digest(key)[:32]
    known = {} if folder is None else _read_chunks(folder)
    missing = [i for i, sample in enumerate(samples) if sample not in known]
    computed: dict[int, Floats] = {}
    unsaved: list[int] = []
    parts = [missing[at : at + batch] for at in range(0, len(missing), batch)]
    try:
        for part, images in track(load_ahead(parts, load, workers), "features", total=len(parts)):
            computed.update(zip(part, network.features(np.stack(images)), strict=True))
            unsaved += part
            if folder is not None and len(unsaved) >= _ROWS_A_CHUNK:
                _write_chunk(folder, [samples[i] for i in unsaved], [computed[i] for i in unsaved])
                unsaved = []
    finally:  # a sample that cannot be read, or Ctrl-C, does not cost the rows before it
        if folder is not None and unsaved:
            _write_chunk(folder, [samples[i] for i in unsaved], [computed[i] for i in unsaved])
    rows = [computed[i] if i in computed else known[sample] for i, sample in enumerate(samples)]
    return np.stack(rows) if rows else np.zeros((0, 0), np.float32)


def load_ahead(
    parts: Sequence[Sequence[int]], load: Callable[[Sequence[int]], Loaded], workers: int
) -> Iterator[tuple[Sequence[int], Loaded]]:
    """Yield each part with what was loaded for it, a bounded number of parts ahead.

    Args:
        parts: positions, as `load` takes them.
        load: called from threads.
        workers: threads; 0 for one per core.
    """
    workers = workers or os.cpu_count() or 1
    waiting: deque[tuple[Sequence[int], Future[Loaded]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for part in parts:
                waiting.append((part, pool.submit(load, part)))
                if len(waiting) > workers:
                    first, loaded = waiting.popleft()
                    yield first, loaded.result()
            while waiting:
                first, loaded = waiting.popleft()
                yield first, loaded.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _write_chunk(folder: Path, samples: Sequence[str], rows: Sequence[Floats]) -> None:
    name = digest(list(samples))[:32]
    with atomic_writer(folder / f"{name}.npz") as stream:
        np.savez(stream, samples=np.array(samples, "S64"), rows=np.stack(rows))


def _read_chunks(folder: Path) -> dict[str, Floats]:
    """Return sample -> row from every readable chunk; a damaged one is computed again."""
    known: dict[str, Floats] = {}
    for path in sorted(folder.glob("*.npz")):
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as chunk:
                names, rows = chunk["samples"].astype(str), chunk["rows"]
            known.update(zip(names.tolist(), rows, strict=True))
        except Exception as error:  # noqa: BLE001 (zip, zlib and numpy each have their own)
            LOG.warning("features %s: damaged (%s), computed again", path.name, error)
            path.unlink(missing_ok=True)
    return known
