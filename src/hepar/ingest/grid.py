"""Where the slices of a series lie as files store them, for masks that go beside their source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hepar.config import IngestConfig
from hepar.data import Manifest, Sample
from hepar.errors import IngestError
from hepar.ingest.bounds import RefusedFileError
from hepar.ingest.dicom import DicomHeader, check_header
from hepar.ingest.dicom_file import read_elements
from hepar.ingest.files import IMPORT_LOCK, sniff
from hepar.ingest.nifti import recent_volume
from hepar.progress import LOG

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Grid", "read_datasets", "read_grid", "upright_plane"]

T = TypeVar("T")
Read = Callable[[Sample], T]

_OFF_GRID, _NOTED = 0.5, 0.05
"""Of the slice spacing: slices further from an even grid cannot share an affine, or are told of."""

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM counts mm to the patient's left, back and head, NIfTI to the right, front and head."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The voxels of a series as NIfTI stores them.

    Attributes:
        affine: (4, 4), from stored indices to mm to the patient's right, front and head.
        shape: stored voxels.
        axes: storage axis that runs along (z, y, x).
        flips: whether (z, y, x) runs from head to feet, back to front, the patient's left to right
            as stored, against hepar's order.
        levels: index along the stored z axis of each sample.
        is_placed: False where the source's header leaves the orientation open.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, ...]
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    levels: tuple[int, ...]
    is_placed: bool = True

    def lay(self, mask: NDArray[Any]) -> NDArray[Any]:
        """Return a mask, or other values, as stored; 0 at levels without a sample.

        Args:
            mask: (n, y, x), of each sample: row 0 anterior, column 0 the patient's right.
        """
        stored = np.zeros(self.shape, mask.dtype)
        upright = np.moveaxis(stored, self.axes, (0, 1, 2))
        _, back, left = (-1 if flipped else 1 for flipped in self.flips)
        upright[list(self.levels)] = mask[:, ::back, ::left]
        return stored


def read_grid(
    manifest: Manifest,
    samples: Sequence[Sample],
    size: tuple[int, int],
    config: IngestConfig | None = None,
) -> Grid:
    """Return the grid on which the slices of a series lie.

    A NIfTI volume's is its own. Slices of a DICOM series lie along (x, y, z) of the patient, at
    even levels: where slices are missing, levels stay empty. Pictures have no place: theirs starts
    at 0 mm, in their spacing, 1 mm where that is unknown.

    Args:
        manifest: says where files lie.
        samples: of one series, from the feet up.
        size: (rows, columns) of an upright slice.
        config: the bounds a file must keep; None for the default ones.

    Raises:
        IngestError: a file is missing, damaged or of another size, the slices are of several
            volumes, or lie too unevenly for a grid.
    """
    bounds = config or IngestConfig()
    first = samples[0]
    kind = _reading(lambda one: sniff(manifest.root / one.path), first)
    if kind == "nifti":
        grid = _reading(lambda one: _volume_grid(manifest, samples, one, bounds), first)
    elif kind == "dicom":
        grid = _series_grid(samples, _read_headers(manifest, samples, bounds))
    else:
        z, y, x = first.spacing_mm or (1.0, 1.0, 1.0)
        affine = _TO_RAS @ np.diag([x, y, z, 1.0])
        shape = (size[1], size[0], len(samples))
        grid = Grid(affine, shape, (2, 1, 0), (False,) * 3, tuple(range(len(samples))))
    found = (grid.shape[grid.axes[1]], grid.shape[grid.axes[2]])
    if found != size:
        raise IngestError(
            f"sample {first.sample_id}: expected a mask of {found} pixels, got {size}. "
            "Masks are never resampled."
        )
    return grid


def read_datasets(
    manifest: Manifest, samples: Sequence[Sample], config: IngestConfig | None = None
) -> list[tuple[Dataset, DicomHeader]]:
    """Return each DICOM slice's whole header and what hepar reads of it, without its pixels.

    The data sets hold everything that the files say of the patient. They are for objects that refer
    to the files, and nothing else.

    Raises:
        IngestError: a file is missing, damaged or no DICOM.
    """
    bounds = config or IngestConfig()
    with IMPORT_LOCK:
        import pydicom

    for sample in samples[:1]:
        if _reading(lambda one: sniff(manifest.root / one.path), sample) != "dicom":
            raise IngestError(
                f"sample {sample.sample_id}: expected a slice of a DICOM series, got another "
                "file. Write NIfTI for it."
            )
    headers = _read_headers(manifest, samples, bounds)
    return [
        (pydicom.dcmread(manifest.root / sample.path, stop_before_pixels=True, force=True), header)
        for sample, header in zip(samples, headers, strict=True)
    ]


def _reading(read: Read[T], sample: Sample) -> T:
    """Return what a reader makes of a sample; what goes wrong names the sample."""
    try:
        return read(sample)
    except (RefusedFileError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise IngestError(f"sample {sample.sample_id}: {why} Run `hepar ingest` again.") from None


def _read_headers(
    manifest: Manifest, samples: Sequence[Sample], config: IngestConfig
) -> list[DicomHeader]:
    def read(sample: Sample) -> DicomHeader:
        return check_header(read_elements(manifest.root / sample.path, config), config)

    return [_reading(read, sample) for sample in samples]


def _volume_grid(
    manifest: Manifest, samples: Sequence[Sample], first: Sample, config: IngestConfig
) -> Grid:
    paths = {sample.path for sample in samples}
    if len(paths) > 1:
        raise IngestError(
            f"series {first.series_id}: expected the slices of one volume, got "
            f"{len(paths)} files. Give each volume a series of its own."
        )
    volume = recent_volume(manifest.root / first.path, config)
    return Grid(
        volume.affine,
        volume.voxels.shape,
        volume.axes,
        volume.flips,
        tuple(sample.frame for sample in samples),
        is_placed=volume.has_orientation,
    )


def _series_grid(samples: Sequence[Sample], headers: Sequence[DicomHeader]) -> Grid:
    name = samples[0].series_id or samples[0].sample_id
    if any(header.spacing_mm is None for header in headers):
        raise IngestError(
            f"series {name}: expected PixelSpacing, got none: a mask needs a scale. "
            "Restore it in the files."
        )
    planes = [upright_plane(header) for header in headers]
    sizes = {header.shown for header in headers}
    if len(sizes) > 1:
        raise IngestError(f"series {name}: expected slices of one size, got {len(sizes)} sizes.")
    origins = np.array([plane[0] for plane in planes])
    levels, step = _levels(name, headers, origins, samples[0].spacing_mm)
    _, down, across = planes[0]
    rows, columns = headers[0].shown
    affine = np.eye(4)
    first = np.median(origins - np.outer(levels, step), axis=0)
    affine[:3] = np.stack([across, down, step, first], axis=1)
    shape = (columns, rows, levels[-1] + 1)
    return Grid(_TO_RAS @ affine, shape, (2, 1, 0), (False,) * 3, levels)


def upright_plane(header: DicomHeader) -> tuple[NDArray[np.float64], ...]:
    """Return where an upright slice starts, and its steps down a row and across a column.

    Args:
        header: of the slice; its spacing is known.

    Returns:
        Three times (3,) mm to the patient's left, back and head.
    """
    between_rows, between_columns = header.spacing_mm or (1.0, 1.0)
    across = np.array(header.orientation[:3]) * between_columns
    down = np.array(header.orientation[3:]) * between_rows
    if header.is_transposed:
        across, down = down, across
    rows, columns = header.shown
    origin = np.array(header.position)
    if across[0] < 0:
        origin, across = origin + (columns - 1) * across, -across
    if down[1] < 0:
        origin, down = origin + (rows - 1) * down, -down
    return origin, down, across


def _levels(
    name: str,
    headers: Sequence[DicomHeader],
    origins: NDArray[np.float64],
    spacing_mm: tuple[float, float, float] | None,
) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Return each slice's level on an even grid, and the step from one level to the next in mm."""
    normal = headers[0].normal
    if len(headers) == 1:
        return (0,), normal * (spacing_mm[0] if spacing_mm else headers[0].thickness_mm or 1.0)
    gaps = np.diff(origins @ normal)
    usual = max(float(np.median(gaps)), 1e-6)
    steps = np.rint(gaps / usual)
    levels = np.concatenate([[0], np.cumsum(steps)])
    step = np.median(np.diff(origins, axis=0) / np.maximum(steps, 1)[:, None], axis=0)
    along = origins @ normal - levels * float(step @ normal)
    off = float(np.abs(along - np.median(along)).max())
    if (steps < 1).any() or off > _OFF_GRID * usual:
        raise IngestError(
            f"series {name}: expected slices within {_OFF_GRID:g} of their spacing of {usual:g} mm "
            f"from an even grid, got {off:.2f} mm. Write DICOM SEG, which places every slice."
        )
    if off > _NOTED * usual:
        LOG.warning("series %s: slices lie up to %.1f mm off the even grid of NIfTI", name, off)
    return tuple(int(level) for level in levels), step
