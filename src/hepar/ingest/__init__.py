"""The doors: the only room that knows file formats; sources become manifests, samples slices."""

from hepar.ingest.findings import findings_of, manifest_of
from hepar.ingest.grid import Grid, read_datasets, read_grid
from hepar.ingest.slices import read_slices
from hepar.ingest.sources import READERS, check_config, ingest, ingest_files

__all__ = [
    "READERS",
    "Grid",
    "check_config",
    "findings_of",
    "ingest",
    "ingest_files",
    "manifest_of",
    "read_datasets",
    "read_grid",
    "read_slices",
]
