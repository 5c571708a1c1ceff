"""Pixels of one DICOM slice: decoded within its declared size, rescaled to HU."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import IngestConfig
from hepar.data.study import Kind
from hepar.ingest.bounds import RefusedFileError, jpeg2000_size, jpeg_size
from hepar.ingest.dicom import DicomHeader, check_header
from hepar.ingest.dicom_file import Elements, read_elements
from hepar.ingest.files import IMPORT_LOCK

__all__ = ["check_dicom_slice", "read_dicom_slice"]

OUTSIDE_HU = -1024.0
"""HU of pixels outside the scanner's field, which a file marks by its padding value."""

RLE = "1.2.840.10008.1.2.5"
_NATIVE = {"", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"} | {
    "1.2.840.10008.1.2.1.99"
}
_JPEG = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81)}
_JPEG_2000 = {f"1.2.840.10008.1.2.4.{n}" for n in (90, 91)}


def read_dicom_slice(path: Path, config: IngestConfig) -> tuple[NDArray[Any], Kind, DicomHeader]:
    """Return a slice as the file stores it, its kind and its header.

    Returns:
        (row, column) float32 in HU, or uint16 grey values where the file has no rescale to HU.

    Raises:
        RefusedFileError: the file is damaged, too large, of an unknown transfer syntax, or its
            pixels disagree with its header.
    """
    elements = read_elements(path, config, pixels=True)
    header = check_header(elements, config)
    stored = _stored(elements, header)
    if header.is_hu:
        return _to_hu(stored, elements), "hu", header
    return _to_grey(stored, elements), "picture", header


def check_dicom_slice(path: Path, config: IngestConfig) -> DicomHeader:
    """Return the header of a CT slice whose pixels can be read.

    Raises:
        RefusedFileError: as `read_dicom_slice`.
    """
    elements = read_elements(path, config, pixels=True)
    header = check_header(elements, config)
    _stored(elements, header)
    return header


def _stored(elements: Elements, header: DicomHeader) -> NDArray[Any]:
    allocated = elements.integer("BitsAllocated")
    if allocated not in {8, 16}:
        raise RefusedFileError("depth", f"expected 8 or 16 bits a pixel, got {allocated}.")
    kind = "i" if elements.integer("PixelRepresentation") else "u"
    dtype = np.dtype(f"{elements.order}{kind}{allocated // 8}")
    n_bytes = header.rows * header.columns * dtype.itemsize
    shape = (header.rows, header.columns)
    if not elements.pixels:
        raise RefusedFileError("corrupt", "expected pixel data, got none.")
    if not elements.encapsulated:
        if elements.syntax not in _NATIVE:
            raise RefusedFileError("corrupt", "expected compressed fragments, got plain pixels.")
        if len(elements.pixels) < n_bytes:
            raise RefusedFileError(
                "corrupt", f"expected {n_bytes} bytes of pixels, got {len(elements.pixels)}."
            )
        return np.frombuffer(elements.pixels, dtype, header.rows * header.columns).reshape(shape)
    frame = _frame(elements.pixels)
    if elements.syntax == RLE:
        return _decode_rle(frame, dtype, shape)
    return _decode_jpeg(frame, elements, header, dtype)


def _frame(pixels: bytes) -> bytes:
    """Return the one compressed frame of encapsulated pixel data: all fragments, joined."""
    fragments: list[bytes] = []
    at = 0
    while at + 8 <= len(pixels):
        group, element, length = struct.unpack_from("<HHI", pixels, at)
        if (group, element) == (0xFFFE, 0xE0DD):
            return b"".join(fragments[1:])
        if (group, element) != (0xFFFE, 0xE000) or at + 8 + length > len(pixels):
            break
        fragments.append(pixels[at + 8 : at + 8 + length])
        at += 8 + length
    raise RefusedFileError("corrupt", "expected whole compressed pixels, got a truncated file.")


def _decode_rle(frame: bytes, dtype: np.dtype[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Return an RLE frame's pixels. Source: DICOM PS3.5 annex G, byte planes highest first."""
    n_pixels = shape[0] * shape[1]
    if len(frame) < 64:
        raise RefusedFileError("corrupt", "expected an RLE header of 64 bytes, got less.")
    n_segments, *offsets = struct.unpack_from("<16I", frame)
    if n_segments != dtype.itemsize:
        raise RefusedFileError(
            "corrupt", f"expected {dtype.itemsize} RLE segments, got {n_segments}."
        )
    ends = [*offsets[1:n_segments], len(frame)]
    planes = [
        np.frombuffer(_unpack_bits(frame[start:end], n_pixels), np.uint8)
        for start, end in zip(offsets[:n_segments], ends, strict=True)
    ]
    big_endian = np.stack(planes, axis=-1).tobytes()
    return np.frombuffer(big_endian, dtype.newbyteorder(">")).reshape(shape)


def _unpack_bits(data: bytes, expected: int) -> bytes:
    out = bytearray()
    at = 0
    while at + 1 < len(data) and len(out) < expected:
        code = data[at]
        if code < 128:
            out += data[at + 1 : at + 2 + code]
            at += code + 2
        elif code > 128:
            out += data[at + 1 : at + 2] * (257 - code)
            at += 2
        else:
            at += 1
    if len(out) < expected:
        raise RefusedFileError("corrupt", f"expected {expected} RLE pixels, got {len(out)}.")
    return bytes(out[:expected])


def _decode_jpeg(
    frame: bytes, elements: Elements, header: DicomHeader, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return a JPEG, JPEG-LS or JPEG 2000 frame's pixels; its own size must be the header's."""
    if elements.syntax in _JPEG:
        size = jpeg_size(frame)
    elif elements.syntax in _JPEG_2000:
        size = jpeg2000_size(frame)
    else:
        raise RefusedFileError(
            "transfer-syntax",
            f"expected uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000 pixels, got transfer syntax "
            f"{elements.syntax}. Convert the file to explicit VR little endian.",
        )
    if size != (header.rows, header.columns, 1):
        got = "no size" if size is None else f"{size[0]} x {size[1]} x {size[2]}"
        raise RefusedFileError(
            "corrupt",
            f"expected compressed pixels of {header.rows} x {header.columns} x 1, got {got}.",
        )
    with IMPORT_LOCK:
        from pydicom.encaps import encapsulate
        from pydicom.pixels.decoders.base import get_decoder
        from pydicom.uid import UID

    options: dict[str, Any] = {
        "rows": header.rows,
        "columns": header.columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": elements.text("PhotometricInterpretation") or "MONOCHROME2",
        "bits_allocated": dtype.itemsize * 8,
        "bits_stored": elements.integer("BitsStored", dtype.itemsize * 8),
        "pixel_representation": int(dtype.kind == "i"),
        "pixel_keyword": "PixelData",
    }
    try:
        decoder = get_decoder(UID(elements.syntax))
        pixels, _ = decoder.as_array(encapsulate([frame], has_bot=False), **options)
    except Exception as error:  # noqa: BLE001  each decoder plugin raises its own kinds
        raise RefusedFileError(
            "corrupt", f"expected compressed pixels, got damage ({type(error).__name__})."
        ) from None
    return np.asarray(pixels).reshape(header.rows, header.columns)


def _to_hu(stored: NDArray[Any], elements: Elements) -> NDArray[np.float32]:
    hu = stored.astype(np.float32)
    slope, intercept = (elements.numbers(n)[0] for n in ("RescaleSlope", "RescaleIntercept"))
    if slope != 1:
        hu *= np.float32(slope)
    hu += np.float32(intercept)
    if elements.values.get("PixelPaddingValue"):
        signed = stored.dtype.kind == "i"
        one = elements.integer("PixelPaddingValue", signed=signed)
        other = elements.integer("PixelPaddingRangeLimit", one, signed=signed)
        low, high = min(one, other), max(one, other)
        hu[(stored >= low) & (stored <= high)] = OUTSIDE_HU
    return hu


def _to_grey(stored: NDArray[Any], elements: Elements) -> NDArray[np.uint16]:
    bits = elements.integer("BitsStored", stored.dtype.itemsize * 8)
    grey = stored.astype(np.int32)
    if stored.dtype.kind == "i":
        grey += 1 << (bits - 1)
    if elements.text("PhotometricInterpretation") == "MONOCHROME1":
        grey = (1 << bits) - 1 - grey
    return np.clip(grey, 0, 65535).astype(np.uint16)
