from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"

MakeDicom = Callable[..., Path]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real CT beside the checkout: what synthetic files cannot show."""
    if not SHARED.is_dir():
        pytest.skip("the development data is not beside the checkout")
    return SHARED.resolve()


@pytest.fixture
def make_dicom() -> MakeDicom:
    """Writes one small CT slice; every test changes only what it is about."""
    return write_dicom


def write_dicom(
    path: Path,
    stored: np.ndarray[Any, Any] | None = None,
    *,
    z: float = 0.0,
    series: str = "1.2.3",
    syntax: str = "1.2.840.10008.1.2.1",
    compress: str = "",
    **elements: Any,
) -> Path:
    import pydicom
    from pydicom.uid import (
        CTImageStorage,
        ExplicitVRBigEndian,
        ImplicitVRLittleEndian,
        generate_uid,
    )

    if stored is None:
        stored = np.arange(64, dtype=np.int16).reshape(8, 8) + int(z)
    data = pydicom.Dataset()
    data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.Modality = "CT"
    data.PatientID = "P1"
    data.StudyInstanceUID = "1.2"
    data.SeriesInstanceUID = series
    data.InstanceNumber = 1
    data.ImagePositionPatient = [-100.0, -100.0, z]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelSpacing = [0.5, 0.75]
    data.SliceThickness = 2.5
    data.Rows, data.Columns = stored.shape
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = stored.dtype.itemsize * 8
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = stored.tobytes()
    data["PixelData"].VR = "OW"
    for name, value in elements.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    path.parent.mkdir(parents=True, exist_ok=True)
    if compress:
        data.compress(pydicom.uid.UID(compress), generate_instance_uid=False)
    implicit = syntax == ImplicitVRLittleEndian
    little = syntax != ExplicitVRBigEndian
    if not little:
        data.PixelData = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
    data.save_as(path, implicit_vr=implicit, little_endian=little, enforce_file_format=True)
    return path


@pytest.fixture
def make_nifti() -> Callable[..., Path]:
    """Writes one small NIfTI volume from a (z, y, x) array in hepar's own orientation."""
    return write_nifti


def write_nifti(
    path: Path, volume: np.ndarray[Any, Any], codes: str = "RAS", **header: Any
) -> Path:
    import nibabel

    # hepar's (z, y, x) has rows to the back and columns to the left: RAS wants the reverse.
    ras = volume.transpose(2, 1, 0)[::-1, ::-1]
    image = nibabel.Nifti1Image(ras, np.diag([0.5, 0.75, 2.5, 1.0]))
    target = nibabel.orientations.axcodes2ornt(codes)
    image = image.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), target)
    )
    for name, value in header.items():
        image.header[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


@pytest.fixture
def make_png() -> Callable[..., Path]:
    """Writes one picture, PNG or what its name says."""
    return write_png


def write_png(path: Path, pixels: np.ndarray[Any, Any] | None = None) -> Path:
    if pixels is None:
        pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix or ".png", pixels)
    assert done
    path.write_bytes(data.tobytes())
    return path


@pytest.fixture
def bomb_png() -> Callable[..., bytes]:
    """A PNG whose header declares any size, over a few bytes of data."""

    def build(rows: int, columns: int, text: int = 0) -> bytes:
        def chunk(name: bytes, data: bytes) -> bytes:
            check = zlib.crc32(name + data)
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

        header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
        extra = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(text))) if text else b""
        pixels = zlib.compress(bytes(rows * (columns + 1)) if rows * columns < 10**7 else b"\0")
        return (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + extra
            + chunk(b"IDAT", pixels)
            + chunk(b"IEND", b"")
        )

    return build
