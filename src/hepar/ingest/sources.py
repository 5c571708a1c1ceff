"""The doors: readers by the kind of source, chosen by looking at it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hepar.config import IngestConfig
from hepar.data import Finding, LabelSet, Manifest
from hepar.errors import IngestError
from hepar.ingest.cohort import make_manifest
from hepar.ingest.dicom import read_dicom_tree
from hepar.ingest.files import Entry, Listing, Source, name_of
from hepar.ingest.image_folder import read_image_folder
from hepar.ingest.masks import parse_mask_values
from hepar.ingest.nifti import read_nifti_tree
from hepar.ingest.patients import patient_finder
from hepar.ingest.table import read_table
from hepar.progress import LOG
from hepar.registry import Registry

__all__ = ["READERS", "Reader", "check_config", "ingest", "ingest_files"]

Reader = Callable[[Listing, IngestConfig], Source | None]
"""From what lies on disk to entries, or None where it is not the reader's kind of source."""

READERS: Registry[Reader] = Registry("reader", "Readers are tried in the order of registration.")


@READERS.add("table")
def _table(listing: Listing, config: IngestConfig) -> Source | None:
    path = listing.path
    if path.is_dir():
        path /= "index.csv"
        if not path.is_file():
            return None
        LOG.info("%s: read as the table of this folder", path)
    elif path.suffix.lower() != ".csv":
        return None
    return read_table(path, config, labelled=listing.labelled)


READERS.add("dicom")(read_dicom_tree)
READERS.add("nifti")(read_nifti_tree)
READERS.add("image_folder")(read_image_folder)


def _open(path: Path, config: IngestConfig, *, labelled: bool) -> Source:
    if not path.exists():
        raise IngestError(f"{path}: expected a folder, table or image, got nothing there.")
    listing = Listing(path.absolute(), labelled)
    for name in READERS:
        source = READERS.get(name)(listing, config)
        if source is not None:
            return source if source.chosen else _with_leftovers(source, listing)
    raise IngestError(
        f"{path}: expected pictures, DICOM, NIfTI or an index.csv, got none in "
        f"{len(listing.files)} files."
    )


def _with_leftovers(source: Source, listing: Listing) -> Source:
    """Return a source with a finding for every file that its reader did not take."""
    used = {path for entry in source.entries for path in (entry.path, entry.mask)}
    findings = []
    for path, kind in listing.files:
        if path in used or path.suffix.lower() == ".csv":
            continue
        name = name_of(path, listing.root)
        if path.stat().st_size == 0:
            message = "expected an image, got an empty file."
            findings.append(Finding("empty", name, message, "refused"))
        elif kind == "unknown":
            message = "expected a picture, DICOM or NIfTI file, got something else."
            findings.append(Finding("not-an-image", name, message, "set-aside"))
        else:
            message = f"expected one format in a folder, got a {kind} file among others."
            findings.append(Finding("other-format", name, message, "set-aside"))
    return replace(source, findings=(*source.findings, *findings))


def check_config(config: IngestConfig) -> None:
    """Refuse what cannot work whatever the source is, before any file is read.

    Raises:
        IngestError: a pattern, mask values or a column's name cannot be understood.
        DataError: a label stands twice in the label order.
    """
    if not config.label_column:
        raise IngestError("ingest.label_column: expected the name of a column, got none.")
    names = [name.strip() for name in config.findings.split(",")] if config.findings else []
    if "" in names or len(set(names)) < len(names):
        raise IngestError(
            "ingest.findings: expected names of columns, comma-separated and none twice, got "
            f"{config.findings!r}."
        )
    patient_finder(config)
    parse_mask_values(config.mask_values)
    if config.label_order:
        LabelSet.parse(config.label_order)


def ingest(source: Path, config: IngestConfig) -> Manifest:
    """Return the manifest of a source of labelled CT.

    Args:
        source: a CSV table, a folder with an `index.csv`, a tree of DICOM files, NIfTI volumes, or
            a folder of pictures per label. Which of them it is, is seen by looking at it.
        config: where labels and patient ids come from, and the bounds of what is read.

    Returns:
        The manifest, with a finding for everything refused, set aside or odd.

    Raises:
        IngestError: the source is missing or nothing in it is usable, a table lacks a column,
            patient ids are unknown, or mask values are unclear.
    """
    check_config(config)
    return make_manifest(_open(source, config, labelled=True), config)


def ingest_files(paths: Sequence[Path], config: IngestConfig) -> Manifest:
    """Return the manifest of new images to predict: any mixture of files and folders.

    Labels are optional and folder names are no labels here. An unknown patient does not stop it:
    the study, series or file then stands for the patient and `patients_known` is False.

    Args:
        paths: pictures, DICOM files or folders, NIfTI volumes, tables.
        config: as for `ingest`.

    Raises:
        IngestError: a path does not exist or nothing usable is left.
    """
    if not paths:
        raise IngestError("expected at least one file or folder to read, got none.")
    check_config(config)
    sources = []
    for path in paths:
        if path.is_file() and path.suffix.lower() != ".csv":
            path = path.absolute()
            sources.append(Source(path.parent, (Entry(path),)))
        else:
            sources.append(_open(path, config, labelled=False))
    root = Path(os.path.commonpath([source.root for source in sources]))
    merged = Source(
        root,
        tuple(entry for source in sources for entry in source.entries),
        tuple(note for source in sources for note in source.findings),
    )
    return make_manifest(merged, config, labelled=False)
