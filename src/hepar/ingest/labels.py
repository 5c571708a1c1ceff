"""Labels from a table by patient, study or series, for images whose files carry none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hepar.config import IngestConfig
from hepar.data import Finding, Sample
from hepar.errors import IngestError
from hepar.ingest.files import name_of
from hepar.ingest.findings import finding_columns
from hepar.ingest.patients import id_columns
from hepar.ingest.table import check_columns, other_columns, read_rows
from hepar.registry import renamed

__all__ = ["Labels", "find_labels_table", "join_labels", "read_labels"]

_KEYS = ("series_id", "study_id", "patient_id")


@dataclass(frozen=True, slots=True)
class Labels:
    """A labels table.

    Attributes:
        key: the column that says whose the labels are.
        rows: value of the key -> label, mask relative to the root ("" for none), other columns.
        findings: what was noticed about the columns.
    """

    key: str
    rows: Mapping[str, tuple[str, str, Mapping[str, str]]]
    findings: tuple[Finding, ...]


def find_labels_table(root: Path, config: IngestConfig) -> Path | None:
    """Return the labels table: the one named, from here or from the source, or its `labels.csv`."""
    if config.labels_csv:
        here, there = Path(config.labels_csv), root / config.labels_csv
        return there if there.is_file() and not here.is_file() else here
    return root / "labels.csv" if (root / "labels.csv").is_file() else None


def _to_rename(columns: Sequence[str]) -> str:
    """Return which column to rename to what, where no column says whose the labels are."""
    name = next(iter(id_columns(columns)), "")
    if name:
        return f"Rename {name!r} to patient_id, study_id or series_id, whichever of them it holds."
    return renamed("patient_id", columns) or "Add one of them."


def read_labels(table: Path, root: Path, config: IngestConfig) -> Labels:
    """Return what a labels table says.

    Args:
        table: CSV with series_id, study_id or patient_id (the finest one there is counts), the
            label column and optionally `mask`, relative to the table.
        root: the folder that sample paths are relative to.
        config: `label_column`.

    Raises:
        IngestError: a column is missing, or a key has two different rows.
    """
    columns, rows = read_rows(table)
    key = next((name for name in _KEYS if name in columns), "")
    if not key:
        raise IngestError(
            f"{table}: expected a column patient_id, study_id or series_id, got "
            f"{', '.join(columns) or 'none'}. {_to_rename(columns)}"
        )
    if config.findings:
        finding_columns(table, columns, rows, config.findings)
    elif "mask" not in columns:
        check_columns(table, columns, config.label_column)
    kept, findings = other_columns(columns, table, config)
    said: dict[str, tuple[str, str, Mapping[str, str]]] = {}
    for row in rows:
        mask = name_of(table.parent.absolute() / row["mask"], root) if row.get("mask") else ""
        extra = {name: row[name] for name in kept if row[name]}
        answer = (row.get(config.label_column, ""), mask, extra)
        if said.setdefault(row[key], answer) != answer:
            raise IngestError(
                f"{table}: expected one row for {key} {row[key]}, got two that differ. "
                "Remove the wrong one."
            )
    return Labels(key, said, tuple(findings))


def join_labels(
    samples: Sequence[Sample], labels: Labels
) -> tuple[list[Sample], list[Finding], list[tuple[str, str]]]:
    """Return samples with the label, and the mask where one is named, of their row.

    Args:
        samples: all with patient, study and series as known.
        labels: from `read_labels`.

    Returns:
        The samples; a finding for every row without images; (label, key) of those rows.
    """
    key, said = labels.key, labels.rows
    joined = []
    for sample in samples:
        label, mask, extra = said.get(getattr(sample, key), ("", "", {}))
        joined.append(
            replace(
                sample,
                label=label or sample.label,
                mask=mask or sample.mask,
                extra={**sample.extra, **extra},
            )
        )
    there = {getattr(sample, key) for sample in samples}
    without = [value for value in said if value not in there]
    findings = [
        Finding("no-images", value, f"expected images of this {key}, got none.")
        for value in without
    ]
    return joined, findings, [(said[value][0], f"{key} {value}") for value in without]
