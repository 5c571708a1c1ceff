"""NIfTI volumes: headers bounded before loading, and axial slices in hepar's orientation."""

from __future__ import annotations

import gzip
import io
import re
import struct
import threading
import zlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import IngestConfig
from hepar.ingest.bounds import (
    RefusedFileError,
    check_bytes,
    check_field,
    check_pixels,
    read_exactly,
)
from hepar.ingest.files import IMPORT_LOCK, Entry, Listing, Source
from hepar.ingest.place import Place, lie, place_of

__all__ = ["NiftiVolume", "check_hu", "load_volume", "read_nifti_tree", "recent_volume"]

FAT_HU = -50.0
"""At least one voxel in a hundred of any body CT is air or fat, below this."""

_MASK_FOLDER = re.compile(r"^(labels?(tr|ts)?|masks?|segmentations?|segs?)$", re.IGNORECASE)
_IMAGE_FOLDER = re.compile(r"^(images?(tr|ts)?|volumes?|cts?)$", re.IGNORECASE)
_MASK_NAME = re.compile(
    r"[_-](mask|seg|segmentation|label)s?$|^segmentation(?=[_-])", re.IGNORECASE
)
_IMAGE_NAME = re.compile(r"[_-](ct|image|img|0000)$|^volume(?=[_-])", re.IGNORECASE)
_KEPT = 2


@dataclass(frozen=True, slots=True)
class NiftiVolume:
    """A volume as its file stores it, and how it lies in the patient.

    Attributes:
        voxels: stored values in the file's own axis order.
        axes: storage axis that runs along (z, y, x).
        flips: whether (z, y, x) runs from head to feet, back to front, the patient's left to right
            in the file, against hepar's order.
        spacing_mm: (z, y, x).
        slope: stored values times `slope` plus `intercept` are HU.
        intercept: in HU.
        has_orientation: False where the header leaves the orientation open.
        place: where it lies in the patient.
        affine: (4, 4), from stored indices to mm to the patient's right, front and head.
    """

    voxels: NDArray[Any]
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    spacing_mm: tuple[float, float, float]
    slope: float
    intercept: float
    has_orientation: bool
    place: Place
    affine: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x) voxels."""
        z, y, x = (self.voxels.shape[axis] for axis in self.axes)
        return z, y, x

    @property
    def frames(self) -> tuple[int, ...]:
        """Index in the file of every slice, from the feet up."""
        order = range(self.shape[0])
        return tuple(reversed(order)) if self.flips[0] else tuple(order)

    def stored_slice(self, frame: int) -> NDArray[Any]:
        """Return stored values (y, x), row 0 anterior, column 0 the patient's right."""
        pixels = np.moveaxis(self.voxels, self.axes, (0, 1, 2))[frame]
        pixels = pixels[:: -1 if self.flips[1] else 1, :: -1 if self.flips[2] else 1]
        return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))

    def hu_slice(self, frame: int) -> NDArray[np.float32]:
        """Return one slice (y, x) in HU."""
        hu = self.stored_slice(frame).astype(np.float32)
        if self.slope != 1:
            hu *= np.float32(self.slope)
        if self.intercept:
            hu += np.float32(self.intercept)
        return hu

    def code_slice(self, frame: int) -> NDArray[np.uint16]:
        """Return one slice (y, x) of mask values.

        Raises:
            RefusedFileError: the values are not whole numbers from 0 to 65535.
        """
        values = self.stored_slice(frame)
        if values.dtype.kind == "f" or self.slope != 1 or self.intercept:
            values = values * self.slope + self.intercept
            if not (values == np.rint(values)).all():
                raise RefusedFileError("mask-values", "expected whole mask values, got fractions.")
        if values.min() < 0 or values.max() > 65535:
            raise RefusedFileError(
                "mask-values",
                f"expected mask values from 0 to 65535, got {values.min()} to {values.max()}.",
            )
        return values.astype(np.uint16)


def load_volume(path: Path, config: IngestConfig) -> NiftiVolume:
    """Return a NIfTI volume, its declared size checked before it is read or inflated.

    Raises:
        RefusedFileError: the file is damaged, too large, not three-dimensional or not axial.
    """
    check_bytes(path.stat().st_size, config)
    with path.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        try:
            if packed:
                with gzip.open(plain) as stream:
                    return _load(stream, config)  # type: ignore[arg-type]
            return _load(plain, config)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise RefusedFileError(
                "corrupt", "expected a whole NIfTI file, got a truncated or damaged one."
            ) from None


def _load(stream: IO[bytes], config: IngestConfig) -> NiftiVolume:
    with IMPORT_LOCK:
        import nibabel
        from nibabel.spatialimages import HeaderDataError

    head = read_exactly(stream, 348)
    second = 540 in struct.unpack("<I", head[:4]) + struct.unpack(">I", head[:4])
    kind = nibabel.Nifti2Header if second else nibabel.Nifti1Header
    if second:
        head += read_exactly(stream, 540 - 348)
    try:
        header = kind.from_fileobj(io.BytesIO(head), check=False)  # type: ignore[no-untyped-call]
        shape, dtype = header.get_data_shape(), header.get_data_dtype()
        slope, intercept = header.get_slope_inter()
        affine = np.asarray(header.get_best_affine(), float)
        offset = int(header["vox_offset"])
        coded = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
        single = bytes(header["magic"].tobytes()).startswith((b"n+1", b"n+2"))
    except (HeaderDataError, ValueError, KeyError, OverflowError) as error:
        raise RefusedFileError(
            "corrupt", f"expected a NIfTI header, got damage ({type(error).__name__})."
        ) from None
    if not single:
        raise RefusedFileError(
            "pair", "expected header and voxels in one file, got a .hdr/.img pair. Save it as .nii."
        )
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise RefusedFileError("shape", f"expected a volume (x, y, z), got shape {shape}.")
    if dtype.kind not in "iuf":
        raise RefusedFileError("depth", f"expected one number a voxel, got {dtype}.")
    n_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
    check_bytes(n_bytes + max(offset, 0), config)
    how = lie(affine)
    volume = NiftiVolume(
        voxels=np.empty((0, 0, 0), dtype),
        slope=float(slope if slope is not None else 1),
        intercept=float(intercept if intercept is not None else 0),
        has_orientation=coded,
        place=place_of(affine, shape, how["axes"], how["flips"]) if coded else Place(),
        affine=affine,
        **how,
    )
    depth, rows, columns = (shape[axis] for axis in volume.axes)
    check_pixels(rows, columns, config)
    check_field(volume.spacing_mm, (depth, rows, columns))
    read_exactly(stream, max(0, offset - len(head)))
    data = read_exactly(stream, n_bytes)
    return replace(volume, voxels=np.frombuffer(data, dtype).reshape(shape, order="F"))


def check_hu(volume: NiftiVolume) -> None:
    """Set a volume aside whose values cannot be HU: MR, a label file, CT shifted to start at 0.

    Raises:
        RefusedFileError: fewer than one voxel in a hundred is as dark as fat, or one is not finite.
    """
    flat = volume.voxels.ravel(order="K")
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        raise RefusedFileError("not-finite", "expected finite HU, got NaN or infinity.")
    some = flat[:: max(1, flat.size // 1_000_000)] * np.float64(volume.slope) + volume.intercept
    low, high = float(some.min()), float(some.max())
    if np.percentile(some, 1) <= FAT_HU:
        return
    if flat.dtype.kind in "iu" and low >= 0 and high <= 255 and np.unique(some).size <= 128:
        raise RefusedFileError(
            "label-file", f"expected CT in HU, got labels from {low:g} to {high:g}.", "set-aside"
        )
    raise RefusedFileError(
        "not-hu",
        f"expected CT in HU with air or fat below {FAT_HU:g}, got values from {low:g} to {high:g}. "
        "MR does not belong here; set the rescale intercept of a shifted CT.",
        "set-aside",
    )


_recent: OrderedDict[tuple[object, ...], NiftiVolume] = OrderedDict()
_recent_lock = threading.Lock()


def recent_volume(path: Path, config: IngestConfig) -> NiftiVolume:
    """Return a volume, and keep the last two, so that reading in batches inflates a file once."""
    status = path.stat()
    key = (path, status.st_size, status.st_mtime_ns, config.max_megabytes, config.max_megapixels)
    with _recent_lock:
        volume = _recent.get(key) or load_volume(path, config)
        _recent[key] = volume
        _recent.move_to_end(key)
        while len(_recent) > _KEPT:
            _recent.popitem(last=False)
        return volume


def read_nifti_tree(listing: Listing, config: IngestConfig) -> Source | None:  # noqa: ARG001
    """Return the NIfTI volumes of a tree with their masks, or None where there are none.

    A mask is found by its name (`x_mask`, `x_seg`, `x_label` beside `x`, `x_ct` or `x_0000`;
    `segmentation-1` beside `volume-1`) or by its folder (`labelsTr` beside `imagesTr`).
    """
    paths = listing.of("nifti")
    if not paths:
        return None
    images: dict[tuple[str, ...], Path] = {}
    masks: dict[tuple[str, ...], Path] = {}
    others = []
    for path in paths:
        key, is_mask = _pairing(path.relative_to(listing.root))
        side = masks if is_mask else images
        if key in side:
            others.append(path)
        else:
            side[key] = path
    entries = [Entry(path, mask=masks.get(key)) for key, path in images.items()]
    lone = [path for key, path in masks.items() if key not in images]
    return Source(listing.root, tuple(entries + [Entry(path) for path in (*others, *lone)]))


def _pairing(path: Path) -> tuple[tuple[str, ...], bool]:
    """Return what an image and its mask have in common, and whether this is the mask."""
    stem = re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    folders = path.parent.parts
    is_mask = bool(_MASK_NAME.search(stem) or (folders and _MASK_FOLDER.match(folders[-1])))
    if folders and (_MASK_FOLDER.match(folders[-1]) or _IMAGE_FOLDER.match(folders[-1])):
        folders = folders[:-1]
    stem = _MASK_NAME.sub("", stem)
    return (*folders, _IMAGE_NAME.sub("", stem).lstrip("_-")), is_mask
