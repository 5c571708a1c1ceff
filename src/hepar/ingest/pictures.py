"""Pictures: PNG, JPEG and TIFF with 8 or 16 bits; their grey values are not HU."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.config import IngestConfig
from hepar.ingest.bounds import RefusedFileError, check_pixels, jpeg_size, read_bounded
from hepar.ingest.files import IMPORT_LOCK

__all__ = ["has_colour", "read_picture", "to_grey"]

_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_GREY_TOLERANCE = 8
"""JPEG rounds each channel for itself, so a grey picture's channels differ by a few values."""


def read_picture(path: Path, config: IngestConfig) -> NDArray[Any]:
    """Return a picture's stored values, its size checked before it is decoded.

    Args:
        path: a PNG, JPEG or TIFF file.
        config: the bounds.

    Returns:
        (y, x) uint8 or uint16, or (y, x, 3) RGB of the same types.

    Raises:
        RefusedFileError: the file is empty, damaged, too large or of another depth.
    """
    data = read_bounded(path, config)
    if data.startswith(b"\x89PNG"):
        return _decode(_critical_chunks(data, config))
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data, config)
        return _decode(data)
    _check_tiff(data, config)
    return _decode_tiff(data)


def has_colour(pixels: NDArray[Any]) -> bool:
    """Return True where a picture of three channels is not a grey one saved as RGB."""
    if pixels.ndim == 2:
        return False
    scale = 257 if pixels.dtype == np.uint16 else 1
    red, green, blue = (pixels[..., c].astype(np.int32) for c in range(3))
    spread = np.maximum(np.abs(red - green), np.abs(green - blue))
    return bool((spread > _GREY_TOLERANCE * scale).any())


def to_grey(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return (y, x) grey values: the luminance, which in a grey picture is any of its channels.

    Source: luminance weights of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B.
    """
    if pixels.ndim == 2:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))


def _critical_chunks(data: bytes, config: IngestConfig) -> bytes:
    """Return a PNG without text, colour profiles and animation, which can hide bombs."""
    kept, position, names = [data[:8]], 8, set()
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        name, end = data[position + 4 : position + 8], position + 12 + length
        if end > len(data):
            break
        if name == b"IHDR" and length == 13:
            columns, rows = struct.unpack_from(">II", data, position + 8)
            check_pixels(rows, columns, config)
        if name in _PNG_KEPT:
            if zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
                raise RefusedFileError("corrupt", "expected an intact PNG, got a wrong checksum.")
            kept.append(data[position:end])
            names.add(name)
        position = end
        if name == b"IEND":
            break
    if not {b"IHDR", b"IDAT", b"IEND"} <= names:
        raise RefusedFileError("corrupt", "expected a whole PNG, got a truncated one.")
    return b"".join(kept)


def _check_jpeg(data: bytes, config: IngestConfig) -> None:
    size = jpeg_size(data)
    if size is None:
        raise RefusedFileError("corrupt", "expected a JPEG, got no frame header.")
    check_pixels(size[0], size[1], config)
    if data.rfind(b"\xff\xd9") < len(data) // 2:
        raise RefusedFileError("corrupt", "expected a whole JPEG, got a truncated one.")


def _decode(data: bytes) -> NDArray[Any]:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise RefusedFileError("corrupt", "expected a picture, got damaged data.")
    if pixels.ndim == 3:
        pixels = np.ascontiguousarray(pixels[..., 2::-1])
    return _checked(np.asarray(pixels))


def _check_tiff(data: bytes, config: IngestConfig) -> None:
    """Refuse a TIFF of too many pixels or of many pages, from its first directory alone."""
    order = "<" if data[:2] == b"II" else ">"
    sizes = {}
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (n_tags,) = struct.unpack_from(order + "H", data, start)
        for position in range(start + 2, start + 2 + 12 * n_tags, 12):
            tag, kind = struct.unpack_from(order + "HH", data, position)
            value = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, position + 8)[0]
            sizes[tag] = value
        (following,) = struct.unpack_from(order + "I", data, start + 2 + 12 * n_tags)
    except struct.error:
        raise RefusedFileError("corrupt", "expected a TIFF, got a truncated one.") from None
    check_pixels(sizes.get(257, 0), sizes.get(256, 0), config)
    if sizes.get(277, 1) > 4:
        raise RefusedFileError("corrupt", f"expected at most 4 channels, got {sizes[277]}.")
    if following:
        raise RefusedFileError(
            "many-pages", "expected a TIFF of one page, got several. Save each as its own file."
        )


def _decode_tiff(data: bytes) -> NDArray[Any]:
    with IMPORT_LOCK:
        from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["TIFF"]) as opened:
            image: Image.Image = opened
            if image.mode in {"P", "RGBA", "CMYK", "YCbCr", "LA", "PA", "1"}:
                image = image.convert("L" if image.mode in {"LA", "1"} else "RGB")
            pixels = np.asarray(image)
    except Exception as error:  # noqa: BLE001  Pillow's decoders raise many kinds
        raise RefusedFileError(
            "corrupt", f"expected a TIFF, got damaged data ({type(error).__name__})."
        ) from None
    if pixels.dtype.kind == "u":
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return _checked(pixels)


def _checked(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)}:
        raise RefusedFileError(
            "depth",
            f"expected a picture of 8 or 16 bits a channel, got {pixels.dtype}. "
            "Save HU as DICOM or NIfTI.",
        )
    return pixels
