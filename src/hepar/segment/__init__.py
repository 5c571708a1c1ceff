"""Where the liver is: masks, written beside their source."""

from hepar.model import segment_volume
from hepar.segment.mask_files import (
    by_series,
    write_dicom_seg,
    write_masks,
    write_nifti,
    write_values,
)

__all__ = [
    "by_series",
    "segment_volume",
    "write_dicom_seg",
    "write_masks",
    "write_nifti",
    "write_values",
]
