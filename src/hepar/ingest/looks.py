"""A first look at every file, in threads: what it is, its hash, and whether it can be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hepar.config import IngestConfig
from hepar.data import Finding
from hepar.data.study import Kind
from hepar.ingest.bounds import RefusedFileError
from hepar.ingest.dicom import DicomHeader
from hepar.ingest.dicom_file import read_elements
from hepar.ingest.dicom_pixels import check_dicom_slice
from hepar.ingest.files import name_of, sniff
from hepar.ingest.masks import MaskInfo, count_values, read_mask_picture
from hepar.ingest.nifti import check_hu, load_volume
from hepar.ingest.pictures import has_colour, read_picture
from hepar.ingest.place import Place
from hepar.ingest.segmentation import Segmentation, read_segmentation
from hepar.progress import track
from hepar.provenance import sha256_file

__all__ = ["Look", "Picture", "Volume", "look_at", "look_at_all", "look_at_mask"]

Looked = TypeVar("Looked")

_TILE = "an RGB tile of a stained slide (PNG, JPEG or TIFF)"
_CT = "CT needs ingest.pixels=grey, or a bundle made from CT."


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture file turned out to be."""

    rows: int
    columns: int
    coloured: bool
    kind: Kind = "picture"


@dataclass(frozen=True, slots=True)
class Volume:
    """What a NIfTI file turned out to be: (z, y, x) voxels, and the file's order of slices."""

    shape: tuple[int, int, int]
    frames: tuple[int, ...]
    spacing_mm: tuple[float, float, float]
    has_orientation: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Look:
    """What a file turned out to be, and the hash of its bytes."""

    sha256: str
    found: Picture | DicomHeader | Volume | Segmentation


def look_at_all(
    paths: Iterable[Path],
    what: str,
    root: Path,
    notes: list[Finding],
    look: Callable[[Path], Looked],
) -> dict[Path, Looked]:
    """Look at every file once, in threads; one that cannot be used becomes a finding."""

    def safe(path: Path) -> Looked | Finding:
        try:
            return look(path)
        except RefusedFileError as error:
            return Finding(error.code, name_of(path, root), str(error), error.severity)
        except MemoryError:
            message = (
                "expected a file that fits into memory, got one that does not. Free memory, or "
                "name a part of it."
            )
            return Finding("too-large", name_of(path, root), message, "refused")
        except OSError as error:
            code = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
            message = f"expected a readable file, got: {error.strerror}."
            return Finding(code, name_of(path, root), message, "refused")

    unique = list(dict.fromkeys(paths))
    found: dict[Path, Looked] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for path, result in track(
            zip(unique, pool.map(safe, unique), strict=True), what, total=len(unique)
        ):
            if isinstance(result, Finding):
                notes.append(result)
            else:
                found[path] = result
    return found


def look_at(path: Path, config: IngestConfig) -> Look:
    """Return what an image file is, decoded once so that damage shows now and not later.

    Raises:
        RefusedFileError: it is no image hepar reads, or a damaged or unfit one.
    """
    kind = sniff(path)
    if kind == "unknown" and path.stat().st_size == 0:
        raise RefusedFileError("empty", "expected an image, got an empty file.")
    if config.pixels == "rgb" and kind in {"dicom", "nifti"}:
        raise RefusedFileError("not-rgb", f"expected {_TILE}, got a {kind.upper()} file. {_CT}")
    if kind == "dicom":
        return Look(sha256_file(path), _look_at_dicom(path, config))
    if kind == "nifti":
        volume = load_volume(path, config)
        check_hu(volume)
        found = Volume(
            volume.shape,
            volume.frames,
            volume.spacing_mm,
            volume.has_orientation,
            volume.place,
        )
        return Look(sha256_file(path), found)
    if kind != "picture":
        raise RefusedFileError(
            "not-an-image", "expected a picture, DICOM or NIfTI file, got something else.",
            "set-aside",
        )  # fmt: skip
    pixels = read_picture(path, config)
    coloured = has_colour(pixels)
    if config.pixels == "rgb" and not coloured:
        raise RefusedFileError("not-rgb", f"expected {_TILE}, got a grey picture. {_CT}")
    as_kind: Kind = "rgb" if config.pixels == "rgb" else "picture"
    picture = Picture(pixels.shape[0], pixels.shape[1], coloured, as_kind)
    return Look(sha256_file(path), picture)


def _look_at_dicom(path: Path, config: IngestConfig) -> DicomHeader | Segmentation:
    try:
        return check_dicom_slice(path, config)
    except RefusedFileError as error:
        if error.code != "modality" or read_elements(path, config).text("Modality") != "SEG":
            raise
    return read_segmentation(path, config)


def look_at_mask(path: Path, config: IngestConfig) -> MaskInfo:
    """Return what a mask file holds, slice by slice.

    Raises:
        RefusedFileError: it is no picture, volume or DICOM segmentation, or a damaged one.
    """
    if sniff(path) == "dicom":
        drawn = read_segmentation(path, config)
        planes = tuple(range(len(drawn.planes) + 1))  # the last is of slices it does not name
        counts = tuple(count_values(drawn.codes(plane)) for plane in planes)
        sha256 = sha256_file(path)
        return MaskInfo(sha256, drawn.rows, drawn.columns, planes, counts, segmentation=drawn)
    if sniff(path) == "nifti":
        volume = load_volume(path, config)
        counts = tuple(count_values(volume.code_slice(frame)) for frame in volume.frames)
        _, rows, columns = volume.shape
        return MaskInfo(
            sha256_file(path),
            rows,
            columns,
            volume.frames,
            counts,
            is_volume=True,
            place=volume.place,
        )
    codes = read_mask_picture(path, config)
    rows, columns = codes.shape
    return MaskInfo(sha256_file(path), rows, columns, (0,), (count_values(codes),))
