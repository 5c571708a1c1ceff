"""A phantom patient as a CT series in DICOM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hepar.phantom.cohort import PhantomPatient

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

__all__ = ["LEVEL_HU", "WIDTH_HU", "write_dicom"]

LEVEL_HU, WIDTH_HU = 60.0, 400.0
"""Soft-tissue window of the pictures, and the one that DICOM viewers open with."""


def _uid(*parts: object) -> UID:
    """Return a DICOM UID that depends on nothing but `parts`."""
    from pydicom.uid import generate_uid

    return generate_uid(entropy_srcs=["hepar phantom", *map(str, parts)])


def write_dicom(folder: Path, patient: PhantomPatient, seed: int) -> None:
    """Write one CT series; the file names do not follow the slices, as in real archives.

    Args:
        folder: gets a folder for the patient.
        patient: the pixels, in whole HU.
        seed: of the cohort; every UID depends on it.
    """
    voxels = patient.volume.voxels
    series = _uid(seed, patient.patient_id, "series")
    place = folder / patient.patient_id / series[-12:]
    place.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng([seed, patient.number, 1]).permutation(len(voxels))
    if len(order) > 1 and (np.diff(order) > 0).all():
        order = order[::-1]
    dataset = _series(patient, seed, series)
    depth, height, width = patient.spacing_mm
    left = -(voxels.shape[2] - 1) / 2 * width
    top = -(voxels.shape[1] - 1) / 2 * height
    for index, name in enumerate(order):
        uid = _uid(seed, patient.patient_id, "slice", index)
        dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.SOPInstanceUID = uid
        dataset.InstanceNumber = len(voxels) - index
        dataset.ImagePositionPatient = [round(left, 4), round(top, 4), round(index * depth, 4)]
        dataset.SliceLocation = round(index * depth, 4)
        dataset.PixelData = (voxels[index] + 1024).astype("<i2").tobytes()
        dataset.save_as(place / f"IM{name + 1:04d}.dcm", enforce_file_format=True)


FIXED_TAGS: dict[str, object] = {
    "SpecificCharacterSet": "ISO_IR 100",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "StudyDate": "20200101",
    "SeriesDate": "20200101",
    "AcquisitionDate": "20200101",
    "ContentDate": "20200101",
    "StudyTime": "120000",
    "ContentTime": "120000",
    "AccessionNumber": "",
    "Modality": "CT",
    "Manufacturer": "hepar phantom",
    "ReferringPhysicianName": "",
    "StudyDescription": "Synthetic abdomen, not a person",
    "PatientBirthDate": "",
    "PatientSex": "",
    "BodyPartExamined": "ABDOMEN",
    "KVP": 120,
    "PatientPosition": "HFS",
    "SeriesNumber": 1,
    "AcquisitionNumber": 1,
    "PositionReferenceIndicator": "",
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 1,
    "WindowCenter": LEVEL_HU,
    "WindowWidth": WIDTH_HU,
    "RescaleIntercept": -1024,
    "RescaleSlope": 1,
    "RescaleType": "HU",
}
"""What every slice of every patient says."""


def _series(patient: PhantomPatient, seed: int, series: str) -> Dataset:
    """Return a CT dataset with everything that the slices of a series share."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    depth, height, width = patient.spacing_mm
    dataset = Dataset()
    for keyword, value in FIXED_TAGS.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SeriesDescription = f"Liver {patient.phase}"
    dataset.PatientName = f"PHANTOM^{patient.patient_id}"
    dataset.PatientID = patient.patient_id
    if patient.phase != "non_contrast":
        dataset.ContrastBolusAgent = "SYNTHETIC"
    dataset.SliceThickness = depth
    dataset.SpacingBetweenSlices = depth
    dataset.ConvolutionKernel = patient.scan.kernel
    dataset.StudyInstanceUID = _uid(seed, patient.patient_id, "study")
    dataset.SeriesInstanceUID = series
    dataset.FrameOfReferenceUID = _uid(seed, patient.patient_id, "frame")
    dataset.StudyID = patient.patient_id
    dataset.Rows, dataset.Columns = patient.volume.voxels.shape[1:]
    dataset.PixelSpacing = [height, width]
    return dataset
