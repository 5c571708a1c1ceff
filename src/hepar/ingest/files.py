"""Files as a source names them: what kind each one is by its content, and what is said of it."""

from __future__ import annotations

import functools
import gzip
import os
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hepar.data import Finding

__all__ = ["IMPORT_LOCK", "Entry", "Format", "Listing", "Source", "name_of", "sniff"]

Format = Literal["picture", "dicom", "nifti", "unknown"]

IMPORT_LOCK = threading.Lock()
"""Held while a decoder package is imported inside a function: threads that race for a first import
can be handed half-made modules, and files are read in threads."""

_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*")
_BARE_DICOM = (
    b"\x08\0\0\0\x04\0\0\0",
    b"\x08\0\x05\0",
    b"\x08\0\x08\0",
    b"\x08\0\x16\0",
    b"\2\0\0\0",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, or folder of DICOM files, and what the source says about it.

    Attributes:
        path: absolute.
        label: "" where the source names none.
        patient_id: "" where the source names none.
        mask: absolute path of a mask file; None where there is none.
        study_id: "" where the source names none.
        series_id: "" where the source names none.
        slice_index: None where the source names none.
        extra: other columns of a table.
    """

    path: Path
    label: str = ""
    patient_id: str = ""
    mask: Path | None = None
    study_id: str = ""
    series_id: str = ""
    slice_index: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """What a reader made of a source.

    Attributes:
        root: the folder that paths are relative to.
        entries: the files to use.
        findings: what the reader noticed.
        chosen: True where a person named every file, as in a table; then a gap between slices is
            no accident.
    """

    root: Path
    entries: tuple[Entry, ...]
    findings: tuple[Finding, ...] = ()
    chosen: bool = False


@dataclass(frozen=True)
class Listing:
    """A source as it lies on disk: one file, or every file below a folder, looked at on demand.

    Attributes:
        path: the file or folder.
        labelled: False for prediction: labels are optional and folder names are no labels.
    """

    path: Path
    labelled: bool = True

    @property
    def root(self) -> Path:
        """The folder that paths are relative to."""
        return self.path if self.path.is_dir() else self.path.parent

    @functools.cached_property
    def files(self) -> tuple[tuple[Path, Format], ...]:
        """Every file with its format, sorted; names with a leading dot are left out."""
        if not self.path.is_dir():
            return ((self.path, sniff(self.path)),)
        paths = []
        for parent, folders, names in os.walk(self.path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            paths += [Path(parent) / name for name in sorted(names) if not name.startswith(".")]
        return tuple((path, sniff(path)) for path in paths if path.is_file())

    def of(self, wanted: Format) -> list[Path]:
        """Return the files of one format, sorted."""
        return [path for path, kind in self.files if kind == wanted]


def sniff(path: Path) -> Format:
    """Return what a file is by its first bytes; its name decides nothing."""
    with path.open("rb") as stream:
        head = stream.read(352)
    if head[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path) as stream:
                head = stream.read(352)
        except (OSError, EOFError, zlib.error):
            return "unknown"
        return "nifti" if _is_nifti(head) else "unknown"
    if head[128:132] == b"DICM" or head.startswith(_BARE_DICOM):
        return "dicom"
    if head.startswith(_PICTURES):
        return "picture"
    return "nifti" if _is_nifti(head) else "unknown"


def _is_nifti(head: bytes) -> bool:
    return head[344:347] in {b"n+1", b"ni1"} or head[4:7] in {b"n+2", b"ni2"}


def name_of(path: Path, root: Path) -> str:
    """Return a path as the manifest writes it: relative to the root, with forward slashes."""
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()
