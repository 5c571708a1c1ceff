"""Where a volume lies in the patient, and whether a mask lies where its image does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.ingest.bounds import RefusedFileError
from hepar.ingest.dicom import MAX_TILT_DEGREES
from hepar.ingest.files import IMPORT_LOCK

__all__ = ["MAX_APART", "Place", "apart", "lie", "place_of"]

MAX_APART = 0.5
"""Voxels. An affine rounded to 3 decimals moves the last of 512 voxels of 0.7 mm by 0.37."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a NIfTI volume lies, by its header.

    Attributes:
        corners: where voxel (0, 0, 0) and the last voxels along z, y and x lie, in hepar's order,
            in mm to the patient's right, front and head; empty where the header leaves it open.
        codes: where the file's own axes run to, such as "RAS".
    """

    corners: tuple[tuple[float, ...], ...] = ()
    codes: str = ""


def place_of(
    affine: NDArray[np.float64],
    shape: tuple[int, ...],
    axes: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
) -> Place:
    """Return where a volume lies, from its affine and how its axes run (see `NiftiVolume`)."""
    first = np.zeros(3)
    codes = [""] * 3
    for axis, flipped, ways in zip(axes, flips, ("SI", "PA", "LR"), strict=True):
        first[axis] = shape[axis] - 1 if flipped else 0
        codes[axis] = ways[flipped]
    ends = [first]
    for axis, flipped in zip(axes, flips, strict=True):
        end = first.copy()
        end[axis] = 0 if flipped else shape[axis] - 1
        ends.append(end)
    places = np.array(ends) @ affine[:3, :3].T + affine[:3, 3]
    return Place(tuple(tuple(float(v) for v in place) for place in places), "".join(codes))


def apart(image: Place, mask: Place, spacing_mm: tuple[float, ...]) -> str:
    """Return how a mask volume of the same shape lies apart from its image, "" where it does not.

    Args:
        image: of the image.
        mask: of the mask.
        spacing_mm: of the image; they may lie apart by `MAX_APART` of its smallest side.
    """
    if bool(image.corners) != bool(mask.corners):
        return f"an orientation in the header of the {'image' if image.corners else 'mask'} alone"
    if not image.corners:
        return ""
    one, other = np.array(image.corners), np.array(mask.corners)
    bound = MAX_APART * min(spacing_mm)
    moved = np.linalg.norm(other - one, axis=1)
    if moved.max() <= bound:
        return ""
    turned = np.linalg.norm((other - other[0]) - (one - one[0]), axis=1).max() > bound
    if turned:
        text = f"it up to {moved.max():.1f} mm away, turned or with voxels of another size"
    else:
        mm = ", ".join(f"{v:+.1f}" for v in np.round(other[0] - one[0], 1) + 0.0)
        text = f"it shifted by ({mm}) mm to the right, front and head"
    if image.codes != mask.codes:
        text += f", and stored as {mask.codes} where the image is {image.codes},"
    return text


def lie(affine: NDArray[np.float64]) -> dict[str, Any]:
    """Return axes, flips and spacing from an affine to the patient's right, front and head.

    Raises:
        RefusedFileError: the affine is degenerate, or the volume is not axial.
    """
    with IMPORT_LOCK:
        import nibabel

    directions = affine[:3, :3]
    lengths = np.linalg.norm(directions, axis=0)
    if not np.isfinite(affine).all() or (lengths <= 0).any():
        raise RefusedFileError("corrupt", "expected an orientation, got a degenerate affine.")
    orientation = nibabel.io_orientation(affine)  # type: ignore[no-untyped-call]
    if not np.isfinite(orientation).all():
        raise RefusedFileError("corrupt", "expected an orientation, got a degenerate affine.")
    x, y, z = (int(np.flatnonzero(orientation[:, 0] == out)[0]) for out in range(3))
    normal = np.cross(directions[:, x] / lengths[x], directions[:, y] / lengths[y])
    tilt = float(np.degrees(np.arccos(min(1.0, abs(normal[2]) / np.linalg.norm(normal)))))
    if tilt > MAX_TILT_DEGREES:
        raise RefusedFileError(
            "not-axial",
            f"expected axes within {MAX_TILT_DEGREES:g} degrees of the patient's, got {tilt:.0f} "
            "degrees.",
            "set-aside",
        )
    sign = orientation[:, 1]
    return {
        "axes": (z, y, x),
        "flips": (bool(sign[z] < 0), bool(sign[y] > 0), bool(sign[x] > 0)),
        "spacing_mm": tuple(round(float(lengths[axis]), 6) for axis in (z, y, x)),
    }
