"""What a patient is: the nouns of a cohort; no file format is decoded here and no torch."""

from hepar.data.beside import find_beside
from hepar.data.evenly import take_evenly
from hepar.data.labels import LabelSet
from hepar.data.manifest import Manifest, read_manifest, write_manifest
from hepar.data.stack import stack_series, unstack_series
from hepar.data.study import Finding, Sample, Unit
from hepar.data.volume import LESION, LIVER, Slice, Volume

__all__ = [
    "LESION",
    "LIVER",
    "Finding",
    "LabelSet",
    "Manifest",
    "Sample",
    "Slice",
    "Unit",
    "Volume",
    "find_beside",
    "read_manifest",
    "stack_series",
    "take_evenly",
    "unstack_series",
    "write_manifest",
]
