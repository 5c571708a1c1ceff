"""A DICOM file's own structure: the few elements hepar needs, found without decoding the others.

Names, birth dates and accession numbers are stepped over and never enter memory as values, a length
is believed only as far as the file reaches, and a deflated file is inflated only up to the bound.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hepar.config import IngestConfig
from hepar.ingest.bounds import RefusedFileError, check_bytes, check_pixels, inflate

__all__ = ["Elements", "read_elements"]

IMPLICIT, BIG_ENDIAN, DEFLATED = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
PIXEL_DATA = 0x7FE00010
UNDEFINED = 0xFFFFFFFF
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DEPTH = 32
_LONGEST = 65536
"""No element that hepar asks for is longer, in bytes."""

_WANTED = {
    0x00080008: "ImageType",
    0x00080016: "SOPClassUID",
    0x00080018: "SOPInstanceUID",
    0x00080060: "Modality",
    0x00100020: "PatientID",
    0x00180050: "SliceThickness",
    0x00180088: "SpacingBetweenSlices",
    0x0020000D: "StudyInstanceUID",
    0x0020000E: "SeriesInstanceUID",
    0x00200012: "AcquisitionNumber",
    0x00200013: "InstanceNumber",
    0x00200032: "ImagePositionPatient",
    0x00200037: "ImageOrientationPatient",
    0x00280002: "SamplesPerPixel",
    0x00280004: "PhotometricInterpretation",
    0x00280008: "NumberOfFrames",
    0x00280010: "Rows",
    0x00280011: "Columns",
    0x00280030: "PixelSpacing",
    0x00280100: "BitsAllocated",
    0x00280101: "BitsStored",
    0x00280103: "PixelRepresentation",
    0x00280120: "PixelPaddingValue",
    0x00280121: "PixelPaddingRangeLimit",
    0x00281052: "RescaleIntercept",
    0x00281053: "RescaleSlope",
    0x00281054: "RescaleType",
    0x00282110: "LossyImageCompression",
}


@dataclass(frozen=True, slots=True)
class Elements:
    """The wanted elements of a file, as bytes, and its pixel data undecoded.

    Attributes:
        syntax: transfer syntax UID; "" in a file without file meta information.
        order: "<" or ">".
        values: name of an element -> its bytes.
        pixels: value of the pixel data element; empty where there is none.
        encapsulated: True where `pixels` is a sequence of compressed fragments.
    """

    syntax: str
    order: str
    values: Mapping[str, bytes]
    pixels: bytes
    encapsulated: bool

    def text(self, name: str) -> str:
        """Return an element as text, "" where it is absent or empty."""
        raw = self.values.get(name, b"")
        try:
            return raw.decode("utf-8").strip(" \0")
        except UnicodeDecodeError:
            return raw.decode("latin-1").strip(" \0")

    def numbers(self, name: str) -> list[float]:
        """Return a decimal string's numbers, [] where it is absent."""
        text = self.text(name)
        try:
            return [float(part) for part in text.split("\\")] if text else []
        except ValueError:
            raise RefusedFileError("corrupt", f"{name}: expected numbers, got text.") from None

    def integer(self, name: str, default: int = 0, *, signed: bool = False) -> int:
        """Return a 16-bit binary integer."""
        raw = self.values.get(name, b"")
        if len(raw) < 2:
            return default
        return int(struct.unpack_from(self.order + ("h" if signed else "H"), raw)[0])


class _Walker:
    """Steps through elements of a data set in a buffer."""

    def __init__(self, buffer: bytes | mmap.mmap, order: str, *, implicit: bool) -> None:
        self.buffer = buffer
        self.order = order
        self.implicit = implicit

    def head(self, at: int, *, implicit: bool) -> tuple[int, bytes, int, int]:
        """Return (tag, VR, length, start of the value) of the element at a position."""
        group, element = struct.unpack_from(self.order + "HH", self.buffer, at)
        tag = group << 16 | element
        if implicit or group == 0xFFFE:
            return tag, b"", struct.unpack_from(self.order + "I", self.buffer, at + 4)[0], at + 8
        vr = self.buffer[at + 4 : at + 6]
        if vr in _LONG:
            return tag, vr, struct.unpack_from(self.order + "I", self.buffer, at + 8)[0], at + 12
        return tag, vr, struct.unpack_from(self.order + "H", self.buffer, at + 6)[0], at + 8

    def after_sequence(self, at: int, *, implicit: bool, depth: int = 0) -> int:
        """Return where a sequence of undefined length ends; `at` is its first item."""
        if depth > _DEPTH:
            raise RefusedFileError("corrupt", f"expected at most {_DEPTH} nested sequences.")
        while True:
            tag, _, length, at = self.head(at, implicit=implicit)
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM:
                raise RefusedFileError("corrupt", "expected a sequence of items, got damage.")
            if length != UNDEFINED:
                at += length
                continue
            while True:
                tag, vr, length, at = self.head(at, implicit=implicit)
                if tag == _ITEM_END:
                    break
                if length == UNDEFINED:
                    inner = implicit or vr == b"UN"
                    at = self.after_sequence(at, implicit=inner, depth=depth + 1)
                else:
                    at += length


def read_elements(path: Path, config: IngestConfig, *, pixels: bool = False) -> Elements:
    """Return the elements hepar needs of a DICOM file.

    Args:
        path: the file, of any name.
        config: bounds of the file and of what a deflated file holds.
        pixels: whether to copy the pixel data.

    Raises:
        RefusedFileError: the file is empty, damaged, or too large.
    """
    with path.open("rb") as stream:
        n_bytes = path.stat().st_size
        check_bytes(n_bytes, config)
        if n_bytes < 16:
            raise RefusedFileError("empty", "expected a DICOM file, got an empty one.")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            try:
                return _parse(buffer, config, pixels=pixels)
            except struct.error:
                raise RefusedFileError(
                    "corrupt", "expected a whole DICOM file, got a truncated or damaged one."
                ) from None


def _room(elements: Elements, config: IngestConfig) -> int:
    """Return how many bytes one image of the declared size can need, compressed or not."""
    rows, columns = elements.integer("Rows"), elements.integer("Columns")
    check_pixels(rows, columns, config)
    plain = rows * columns * max(1, elements.integer("BitsAllocated") // 8)
    return 2 * plain + _LONGEST if elements.encapsulated else plain


def _parse(buffer: mmap.mmap, config: IngestConfig, *, pixels: bool) -> Elements:
    at = 132 if buffer[128:132] == b"DICM" else 0
    syntax = ""
    meta = _Walker(buffer, "<", implicit=False)
    while buffer[at : at + 2] == b"\x02\0":
        tag, _, length, start = meta.head(at, implicit=False)
        if tag == 0x00020010:
            syntax = buffer[start : start + length].decode("ascii", "replace").strip(" \0")
        at = start + length
    order = ">" if syntax == BIG_ENDIAN else "<"
    body: bytes | mmap.mmap = buffer
    if syntax == DEFLATED:
        body, at = inflate(buffer[at:], config), 0
    # The bytes decide on the encoding: some files say explicit and are implicit.
    implicit = not body[at + 4 : at + 6].isupper()
    walker = _Walker(body, order, implicit=implicit)
    values: dict[str, bytes] = {}
    while at + 8 <= len(body):
        tag, vr, length, start = walker.head(at, implicit=implicit)
        if tag == PIXEL_DATA:
            encapsulated = length == UNDEFINED
            end = len(body) if encapsulated else start + length
            if end > len(body):
                raise RefusedFileError(
                    "corrupt", "expected whole pixel data, got a truncated file."
                )
            found = Elements(syntax, order, values, b"", encapsulated)
            if pixels:
                end = min(end, start + _room(found, config))
            return replace(found, pixels=bytes(body[start:end])) if pixels else found
        if length == UNDEFINED:
            at = walker.after_sequence(start, implicit=implicit or vr == b"UN")
            continue
        if tag in _WANTED and length <= _LONGEST:
            values[_WANTED[tag]] = bytes(body[start : start + length])
        at = start + length
    return Elements(syntax, order, values, b"", encapsulated=False)
