"""Masks: what their values mean in a cohort, and the mask of a slice in hepar's own values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.config import IngestConfig
from hepar.data import LESION, LIVER
from hepar.errors import IngestError
from hepar.ingest.pictures import read_picture

__all__ = [
    "LIVER_FROM",
    "MaskInfo",
    "canonical_mask",
    "count_values",
    "infer_mask_values",
    "join_mask_values",
    "mask_codes",
    "parse_mask_values",
    "read_mask_picture",
    "tissue_pixels",
    "values_for",
]

RED = 0xFF0000
LIVER_FROM = "liver_from"
"""Key of `mask_values` where every value from this one up is liver: a smoothed binary mask."""

VOLUME = "volume:"
"""Prefix of the keys of `mask_values` for volumes, where pictures mean other things by theirs."""

_MEANINGS = {"liver": LIVER, "lesion": LESION, LIVER_FROM: LIVER}
_SMOOTH = 16


@dataclass(frozen=True, slots=True)
class MaskInfo:
    """What a mask file holds, found once when a cohort is made.

    Attributes:
        sha256: of the file's bytes.
        rows: of one slice, as a person reads it in a volume, as stored in a picture.
        columns: likewise.
        frames: index in the file of every slice from the feet up; (0,) in a picture.
        counts: pixels of each value, by slice in that same order.
        is_volume: False for a picture.
        corners: of a volume with orientation, where it lies: see `NiftiVolume.corners`.
    """

    sha256: str
    rows: int
    columns: int
    frames: tuple[int, ...]
    counts: tuple[Mapping[int, int], ...]
    is_volume: bool = False
    corners: tuple[tuple[float, ...], ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """(slices, rows, columns) of a volume, (rows, columns) of a picture."""
        size = (self.rows, self.columns)
        return (len(self.frames), *size) if self.is_volume else size


def mask_codes(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return (y, x) mask values; a coloured mask's value is its colour 0xRRGGBB."""
    if pixels.ndim == 2:
        return pixels
    if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all():
        return np.ascontiguousarray(pixels[..., 0])
    wide = pixels.astype(np.uint32)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])


def read_mask_picture(path: Path, config: IngestConfig) -> NDArray[Any]:
    """Return a mask picture's values (y, x); a coloured mask's value is its colour 0xRRGGBB."""
    return mask_codes(read_picture(path, config))


def count_values(codes: NDArray[Any]) -> dict[int, int]:
    """Return how many pixels have each value."""
    if codes.dtype.kind == "u" and codes.dtype.itemsize <= 2:
        counts = np.bincount(codes.ravel())
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, numbers = np.unique(codes, return_counts=True)
    return {int(value): int(number) for value, number in zip(values, numbers, strict=True)}


def parse_mask_values(text: str) -> dict[str, int]:
    """Return what "liver=127,lesion=255" says; values may be hexadecimal colours (0xff0000).

    Raises:
        IngestError: a name is not liver or lesion, or a value is not a whole number.

    Example:
        >>> parse_mask_values("liver=5")
        {'liver': 5}
    """
    values = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (piece.strip() for piece in part.partition("="))
        try:
            values[name] = int(value, 0)
        except ValueError:
            values[name] = -1
        if name not in _MEANINGS or values[name] < 0:
            raise IngestError(
                f"mask_values: expected liver=VALUE,lesion=VALUE with whole numbers, got {text!r}. "
                "TotalSegmentator's liver is liver=5."
            ) from None
    return values


def infer_mask_values(counts: Iterable[Mapping[int, int]]) -> dict[str, int]:
    """Return which value means liver and which lesion, from the values of all masks of a cohort.

    One slice may lack a tissue, so the answer is the cohort's. {1} or one other value alone is
    liver; {1, 2} is liver, lesion; {127 or 128, 255} is liver, lesion; pure red in a coloured mask
    is lesion and its other colours are not liver; a ramp up to 255 is a smoothed binary mask.

    Raises:
        IngestError: the values fit none of these.
    """
    total: Counter[int] = Counter()
    for one in counts:
        total.update(one)
    found = sorted(value for value in total if value != 0)
    if set(found) <= {1, 2}:
        return {"liver": 1, "lesion": 2} if 2 in found else {"liver": 1}
    if len(found) == 1 and found[0] <= 0xFFFF:
        return {"liver": found[0]}
    if found in ([127, 255], [128, 255]):
        return {"liver": found[0], "lesion": 255}
    if RED in found:
        return {"lesion": RED}
    ramp = len(found) > _SMOOTH and found[-1] == 255
    if ramp and 2 * total[255] > sum(total[value] for value in found):
        return {LIVER_FROM: 128}
    raise IngestError(
        "masks: expected the values 0 and 1 (liver) and 2 (lesion), 127 and 255, or one value "
        f"alone, got {_shown(found, total)} Say what they mean, as in "
        "--set ingest.mask_values=liver=127,lesion=255, or liver=5 for TotalSegmentator."
    )


def _shown(found: list[int], total: Counter[int]) -> str:
    """Return the values of masks in words; of many, those that most pixels have."""
    if len(found) <= _SMOOTH or found[-1] < 128:
        return ", ".join(map(str, found[:12])) + (", ..." if len(found) > 12 else ".")
    most = sorted(value for value, _ in total.most_common(4) if value)[:3]
    return (
        f"{len(found)} values, most pixels {' or '.join(map(str, most))}: smoothed, or stored with "
        "loss. Masks must be stored without, as PNG."
    )


def join_mask_values(pictures: Mapping[str, int], volumes: Mapping[str, int]) -> dict[str, int]:
    """Return one mapping that `values_for` takes apart again; either may be empty."""
    if not pictures or not volumes or pictures == volumes:
        return dict(pictures or volumes)
    return {**pictures, **{VOLUME + name: value for name, value in volumes.items()}}


def values_for(values: Mapping[str, int], *, is_volume: bool) -> dict[str, int]:
    """Return what the values of pictures, or of volumes, mean.

    Example:
        >>> values_for({"liver": 127, "volume:liver": 1}, is_volume=True)
        {'liver': 1}
    """
    own = {k.removeprefix(VOLUME): v for k, v in values.items() if k.startswith(VOLUME)}
    if is_volume and own:
        return own
    return {name: value for name, value in values.items() if not name.startswith(VOLUME)}


def canonical_mask(codes: NDArray[Any], values: Mapping[str, int]) -> NDArray[np.uint8]:
    """Return a mask with 0, LIVER and LESION; values without a meaning become 0."""
    if codes.dtype == np.uint8:
        table = canonical_mask(np.arange(256, dtype=np.uint16), values)
        return np.asarray(cv2.LUT(codes, table), np.uint8)
    mask = np.zeros(codes.shape, np.uint8)
    for name, value in values.items():
        chosen = codes >= value if name == LIVER_FROM else codes == value
        mask[chosen] = _MEANINGS[name]
    return mask


def tissue_pixels(counts: Mapping[int, int], values: Mapping[str, int]) -> tuple[int, int]:
    """Return how many pixels of a slice are (liver without lesions, lesion)."""
    pixels = {LIVER: 0, LESION: 0}
    for name, value in values.items():
        pixels[_MEANINGS[name]] += sum(
            n
            for code, n in counts.items()
            if (code >= value if name == LIVER_FROM else code == value)
        )
    return pixels[LIVER], pixels[LESION]
