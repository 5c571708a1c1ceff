"""Where a lesion finder sees lesions, back on the pixels of the slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.backbone import Network, load_ahead
from hepar.config import BackboneConfig
from hepar.data import Slice
from hepar.model.inputs import InputReader

__all__ = ["find_lesions"]

Floats = NDArray[np.float32]


def find_lesions(
    network: Network, reader: InputReader, rows: Sequence[int], config: BackboneConfig
) -> Iterator[tuple[int, Slice, Floats]]:
    """Yield slices with how likely each of their pixels is a lesion.

    Args:
        network: a lesion finder, with the output "likely".
        reader: gives its input.
        rows: positions in the reader's manifest.
        config: batch and workers.

    Yields:
        The position; the slice as it was read, with the liver that was looked at; and the
        likelihood (n_lesions, y, x), 0 outside the liver.
    """
    batches = [rows[at : at + config.batch] for at in range(0, len(rows), config.batch)]
    for own, looked in load_ahead(batches, reader.look, config.workers):
        size = reader.recipe.size
        blank = np.zeros((3, size, size), np.float32)
        inputs = [
            blank if shown is None else shown.pixels.transpose(2, 0, 1) for _, shown in looked
        ]
        likely = network.value("likely", np.stack(inputs).astype(np.float32))
        for row, (image, shown), found in zip(own, looked, likely, strict=True):
            yield row, image, _on_slice(found, image, shown)


def _on_slice(likely: Floats, image: Slice, shown: Slice | None) -> Floats:
    """Return the likelihood on the slice's own pixels."""
    height, width = image.pixels.shape[:2]
    full = np.zeros((len(likely), height, width), np.float32)
    if shown is None or shown.window is None:
        return full
    top, left, tall, wide = shown.window
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + tall, height), min(left + wide, width)
    for own, target in zip(likely, full, strict=True):
        large = cv2.resize(own, (wide, tall), interpolation=cv2.INTER_LINEAR)
        target[y0:y1, x0:x1] = large[y0 - top : y1 - top, x0 - left : x1 - left]
    return full * (np.asarray(image.mask) > 0)
