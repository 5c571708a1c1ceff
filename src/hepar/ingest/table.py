"""A table of samples: a CSV file with `path`, `label`, `patient_id`, `mask` and more."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from hepar.config import IngestConfig
from hepar.data import Finding
from hepar.data.manifest import COLUMNS
from hepar.errors import IngestError
from hepar.ingest.files import Entry, Source
from hepar.ingest.findings import check_slides, finding_columns
from hepar.ingest.names import is_one_line
from hepar.ingest.patients import id_columns
from hepar.registry import renamed

__all__ = ["check_columns", "other_columns", "read_rows", "read_table"]

_USED = ("path", "patient_id", "mask", "study_id", "series_id", "slice_index")
_PERSONAL = re.compile(
    r"^(patient'?s?|person|subject)?[_ -]?(name|first_?name|last_?name|surname|dob)$"
    r"|birth|accession",
    re.IGNORECASE,
)


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the column names and the rows of a CSV file, values stripped.

    Commas divide, or where the header has none, semicolons or tabs, as spreadsheets write them.

    Raises:
        IngestError: the file is missing, is not UTF-8 text, has no header or a ragged row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True, delimiter=_delimiter(stream))
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = list(reader)
    except FileNotFoundError:
        raise IngestError(f"{path}: expected a CSV table, got no file.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise IngestError(f"{path}: expected a UTF-8 CSV table, got {error}.") from None
    odd = next((name for name in columns if not is_one_line(name)), None)
    if odd is not None:
        raise IngestError(
            f"{path}: expected column names without control characters, got {odd!a}. "
            "Rename the column."
        )
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise IngestError(
                f"{path}: expected {len(columns)} values in line {number}, got another number. "
                "Quote values that hold a comma."
            )
    return columns, [{name: (value or "").strip() for name, value in row.items()} for row in rows]


def _delimiter(stream: TextIO) -> str:
    """Return what divides the header of a table, and go back to its start."""
    header = stream.readline()
    stream.seek(0)
    return "," if "," in header else max(";\t,", key=header.count)


def other_columns(
    columns: Sequence[str], path: Path, config: IngestConfig
) -> tuple[list[str], list[Finding]]:
    """Return the columns that go along as they are, and a finding for each that may name a person.

    Columns that hepar reads or writes itself are not among them.
    """
    own = {*_USED, *COLUMNS, config.label_column}
    others = [name for name in columns if name not in own]
    personal = [name for name in others if _PERSONAL.search(name)]
    findings = [
        Finding(
            "personal-column", path.name, f"column {name!r} was left out: it may name a person."
        )
        for name in personal
    ]
    return [name for name in others if name not in personal], findings


def check_columns(table: Path, columns: Sequence[str], *required: str) -> None:
    """Refuse a table that lacks a column.

    Raises:
        IngestError: the first column that is missing, and which to rename to it.
    """
    for name in required:
        if name not in columns:
            other = "" if name == "path" else ", or name it with --set ingest.label_column=NAME"
            way = f"Rename the one that holds it to {name!r}{other}." if columns else "Add it."
            way = renamed(name, columns) or way
            raise IngestError(
                f"{table}: expected a column {name!r}, got {', '.join(columns) or 'none'}. {way}"
            )


def read_table(path: Path, config: IngestConfig, *, labelled: bool = True) -> Source:
    """Return the entries of a table; paths in it are relative to the table's folder.

    Args:
        path: the CSV file. A path in it may be absolute or lead out of the folder, as long as it
            exists.
        config: `label_column` names the label.
        labelled: whether a label column is required; a `mask` column, `labels_csv` or findings
            stand in.

    Raises:
        IngestError: a required column is missing, the table has no row, two patients share a slide,
            or a finding is neither 0 nor 1.
    """
    columns, rows = read_rows(path)
    required = ["path"]
    named = "mask" in columns or config.labels_csv or config.findings
    if labelled and not named:
        required.append(config.label_column)
    if config.series_column != "series_id":
        required.append(config.series_column)
    check_columns(path, columns, *required)
    rows = [{**row, "series_id": row.get(config.series_column, "")} for row in rows]
    if not rows:
        raise IngestError(f"{path}: expected at least one row, got none.")
    check_slides(path, rows)
    if labelled and config.findings:
        finding_columns(path, columns, rows, config.findings)
    kept, findings = other_columns(columns, path, config)
    if "patient_id" not in columns:
        findings += [
            Finding("id-column", path.name, f"{name!r} is not read as an id; rename it if it is.")
            for name in id_columns(columns)
        ]
    skipped = set(columns) - set(kept)
    entries = []
    seen: dict[str, Mapping[str, str]] = {}
    for number, row in enumerate(rows, start=2):
        name = row["path"]
        if not name:
            findings.append(
                Finding("no-path", f"{path.name}:{number}", "expected a path, got none.", "refused")
            )
        elif name in seen:
            findings.append(_repeated(path, number, row, seen[name], config.label_column))
        else:
            seen[name] = row
            entries.append(_entry(path, number, row, config.label_column, skipped))
    return Source(path.parent, tuple(entries), tuple(findings), chosen=True)


def _repeated(
    path: Path, number: int, row: Mapping[str, str], first: Mapping[str, str], label: str
) -> Finding:
    name = row["path"]
    for column in (label, "patient_id"):
        if row.get(column, "") != first.get(column, ""):
            raise IngestError(
                f"{path}: expected one {column} for {name}, got {first[column]!r} and "
                f"{row[column]!r} (line {number}). Remove the wrong row."
            )
    return Finding(
        "repeated-row",
        name,
        f"expected every path once, got it again in line {number}.",
        "set-aside",
    )


def _entry(path: Path, number: int, row: Mapping[str, str], label: str, skipped: set[str]) -> Entry:
    index = row.get("slice_index", "")
    try:
        slice_index = int(index) if index else None
    except ValueError:
        raise IngestError(
            f"{path}: expected a whole number as slice_index in line {number}, got {index!r}."
        ) from None
    return Entry(
        path=path.parent / row["path"],
        label=row.get(label, ""),
        patient_id=row.get("patient_id", ""),
        mask=path.parent / row["mask"] if row.get("mask") else None,
        study_id=row.get("study_id", ""),
        series_id=row.get("series_id", "") or row.get("slide_id", ""),
        slice_index=slice_index,
        extra={name: value for name, value in row.items() if name not in skipped and value},
    )
