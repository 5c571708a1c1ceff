"""Bounded reading: how large a file says it is, found before memory is spent on it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Literal

from hepar.config import IngestConfig
from hepar.errors import IngestError

__all__ = [
    "RefusedFileError",
    "check_bytes",
    "check_field",
    "check_pixels",
    "inflate",
    "jpeg2000_size",
    "jpeg_size",
    "read_bounded",
    "read_exactly",
]

MEGA = 1_000_000
_LEAST_MM, _WIDEST_MM, _TALLEST_MM = 0.01, 1500.0, 2500.0
"""Of a voxel, of a slice and of a series: what is beyond is no patient, or not in mm."""

_JPEG_NO_LENGTH = {0x01, *range(0xD0, 0xDA)}
_JPEG_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


class RefusedFileError(IngestError):
    """One file cannot be used: a run notes it as a finding and goes on.

    Args:
        code: the finding's code.
        message: one line, without the file's name.
        severity: the finding's severity.
    """

    def __init__(
        self, code: str, message: str, severity: Literal["refused", "set-aside"] = "refused"
    ) -> None:
        super().__init__(message)
        self.code = code
        self.severity: Literal["refused", "set-aside"] = severity


def check_pixels(rows: int, columns: int, config: IngestConfig) -> None:
    """Refuse an image whose header declares no pixels, or more than `config.max_megapixels`."""
    if rows < 1 or columns < 1:
        raise RefusedFileError("corrupt", f"expected an image, got {rows} x {columns} pixels.")
    if rows * columns > config.max_megapixels * MEGA:
        raise RefusedFileError(
            "too-large",
            f"expected at most {config.max_megapixels:g} megapixels, got {rows} x {columns}. "
            "Raise ingest.max_megapixels to accept it.",
        )


def check_field(spacing_mm: Sequence[float], shape: Sequence[int]) -> None:
    """Refuse voxels that cannot be in mm: too small, or too many too large for a patient.

    Args:
        spacing_mm: (z, y, x), or (y, x) of a slice.
        shape: likewise.
    """
    most = (_TALLEST_MM, _WIDEST_MM, _WIDEST_MM)[-len(shape) :]
    field = [n * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    fits = all(side <= bound for side, bound in zip(field, most, strict=True))
    if fits and min(spacing_mm) >= _LEAST_MM:
        return
    voxel, whole = (" x ".join(f"{mm:g}" for mm in one) for one in (spacing_mm, field))
    raise RefusedFileError(
        "spacing",
        f"expected voxels of {_LEAST_MM:g} mm or more, up to {_WIDEST_MM:g} mm in all across and "
        f"{_TALLEST_MM:g} mm from feet to head, got {voxel} mm, {whole} mm in all. Write the "
        "spacing in mm into the header.",
    )


def check_bytes(n_bytes: int, config: IngestConfig) -> None:
    """Refuse what holds, or decodes to, more than `config.max_megabytes`."""
    if n_bytes > config.max_megabytes * MEGA:
        raise RefusedFileError(
            "too-large",
            f"expected at most {config.max_megabytes:g} MB, got {n_bytes / MEGA:.0f} MB. "
            "Raise ingest.max_megabytes to accept it.",
        )


def read_bounded(path: Path, config: IngestConfig) -> bytes:
    """Return a file's bytes; a file that is empty or above the bound is refused unread."""
    n_bytes = path.stat().st_size
    check_bytes(n_bytes, config)
    if n_bytes == 0:
        raise RefusedFileError("empty", "expected an image, got an empty file.")
    return path.read_bytes()


def read_exactly(stream: IO[bytes], n_bytes: int) -> bytes:
    """Return `n_bytes` from a stream and never ask it for more; fewer is a truncated file."""
    data = stream.read(n_bytes)
    if len(data) < n_bytes:
        raise RefusedFileError(
            "corrupt", f"expected {n_bytes} bytes, got {len(data)}: the file is truncated."
        )
    return data


def inflate(data: bytes, config: IngestConfig) -> bytes:
    """Return raw-deflated data inflated, and stop at the bound instead of inflating a bomb."""
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    bound = int(min(2 * config.max_megapixels, config.max_megabytes) * MEGA)
    try:
        out = decompressor.decompress(data, bound)
    except zlib.error:
        raise RefusedFileError("corrupt", "expected deflated data, got damaged bytes.") from None
    if decompressor.unconsumed_tail:
        raise RefusedFileError(
            "too-large",
            f"expected at most {bound // MEGA} MB, got a deflated file that holds more. "
            "Raise ingest.max_megapixels to accept it.",
        )
    return out


def jpeg_size(data: bytes) -> tuple[int, int, int] | None:
    """Return (rows, columns, components) that a JPEG or JPEG-LS codestream declares, or None."""
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _JPEG_NO_LENGTH:
            position += 2
        elif marker in _JPEG_FRAME:
            if position + 10 > len(data):
                return None
            rows, columns, components = struct.unpack_from(">HHB", data, position + 5)
            return rows, columns, components
        else:
            position += 2 + max(2, struct.unpack_from(">H", data, position + 2)[0])
    return None


def jpeg2000_size(data: bytes) -> tuple[int, int, int] | None:
    """Return (rows, columns, components) that a JPEG 2000 codestream declares, or None."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0 or start + 42 > len(data):
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", data, start + 8)
    (components,) = struct.unpack_from(">H", data, start + 40)
    return bottom - top, right - left, components
