"""Masks: what their values mean in a cohort, and the mask of a slice in hepar's own values."""

from __future__ import annotations

import itertools
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
from hepar.ingest.place import Place
from hepar.ingest.segmentation import Segmentation

__all__ = [
    "DRAWN_VALUES",
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

DRAWN_VALUES = {"liver": LIVER, "lesion": LESION}
"""What the values of DICOM segmentations mean, whatever those of other masks do."""

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
        place: of a volume, where it lies; None of a picture.
        segmentation: of a DICOM segmentation, itself: its slices are in its own order, and one more
            stands for slices that it does not name.
    """

    sha256: str
    rows: int
    columns: int
    frames: tuple[int, ...]
    counts: tuple[Mapping[int, int], ...]
    is_volume: bool = False
    place: Place | None = None
    segmentation: Segmentation | None = None

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

    A name may have `volume:` before it, to hold for NIfTI masks alone.

    Raises:
        IngestError: a name is not liver or lesion or stands twice, or a value is not a whole number
            above 0 of its own.

    Example:
        >>> parse_mask_values("liver=5")
        {'liver': 5}
    """
    values: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (piece.strip() for piece in part.partition("="))
        try:
            number = int(value, 0)
        except ValueError:
            number = 0
        own = [v for k, v in values.items() if k.startswith(VOLUME) == name.startswith(VOLUME)]
        if (
            name.removeprefix(VOLUME) not in _MEANINGS
            or number < 1
            or name in values
            or number in own
        ):
            raise IngestError(
                "mask_values: expected liver=VALUE,lesion=VALUE with different whole numbers "
                f"above 0, got {text!r}. TotalSegmentator's liver is liver=5."
            ) from None
        values[name] = number
    return values


def infer_mask_values(counts: Iterable[Mapping[int, int]], where: str = "masks") -> dict[str, int]:
    """Return which value means liver and which lesion, from the values of all masks of a cohort.

    One slice may lack a tissue, so the answer is the cohort's. {1} or one other value alone is
    liver; {1, 2} is liver, lesion; {127 or 128, 255} is liver, lesion; pure red in a coloured mask
    is lesion and its other colours are not liver; a ramp up to 255 is a smoothed binary mask.

    Args:
        counts: of each mask or slice, how many pixels have each value.
        where: the masks, as an error calls them.

    Raises:
        IngestError: the values fit none of these.
    """
    total: Counter[int] = Counter()
    for one in counts:
        total.update(one)
    del total[0]
    found = sorted(total)
    if set(found) <= {1, 2}:
        return {"liver": 1, "lesion": 2} if 2 in found else {"liver": 1}
    if len(found) == 1 and found[0] <= 0xFFFF:
        return {"liver": found[0]}
    if found in ([127, 255], [128, 255]):
        return {"liver": found[0], "lesion": 255}
    if RED in found:
        return {"lesion": RED}
    levels = _levels(total)
    if len(found) > _SMOOTH and levels == [255] and 2 * total[255] > total.total():
        return {LIVER_FROM: 128}
    raise IngestError(
        f"{where}: expected the values 0 and 1 (liver) and 2 (lesion), 127 and 255, or one value "
        f"alone, got {_shown(total)}. {_way_out(total, levels)}"
    )


def _levels(total: Counter[int]) -> list[int]:
    """Return the one or two values about which most pixels lie, each with a tenth or more.

    What is close to 0 is the rim of the background.
    """
    levels: list[int] = []
    for value, _ in total.most_common():
        apart = all(abs(value - level) > _SMOOTH for level in (0, *levels))
        if apart and _share(total, value) >= 0.1:
            levels.append(value)
    return sorted(levels[:2])


def _shown(total: Counter[int]) -> str:
    """Return the values of masks in words; of many, those that most pixels have."""
    if len(total) <= _SMOOTH and not _is_lossy(total):
        return ", ".join(map(_name, sorted(total)))
    most = (f"{_name(value)} ({n / total.total():.0%})" for value, n in total.most_common(4))
    return f"{len(total)} values besides 0, most often {', '.join(most)}"


def _name(value: int) -> str:
    return str(value) if value <= 0xFFFF else f"0x{value:06x}"


def _is_lossy(total: Counter[int]) -> bool:
    """Return True for bright values side by side, which no one chooses as labels."""
    values = sorted(total)
    return max(values) >= 128 and any(b - a <= 2 for a, b in itertools.pairwise(values))


def _way_out(total: Counter[int], levels: list[int]) -> str:
    say = "--set ingest.mask_values="
    if not _is_lossy(total):
        return f"Say what they mean, as in {say}liver=127,lesion=255, or liver=5 alone."
    liver, lesion = map(_name, levels if len(levels) == 2 else (127, 255))
    return (
        "They look smoothed, or stored with loss as in JPEG: save them as PNG with exact values, "
        f"or pass {say}liver={liver},lesion={lesion} if that is what these mean; all other values "
        "then count as background."
    )


def _share(total: Counter[int], level: int) -> float:
    """Return the share of pixels whose value lies about a level."""
    near = sum(n for value, n in total.items() if abs(value - level) <= _SMOOTH // 2)
    return near / total.total()


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
