"""Findings: columns of 0 and 1 in a table of tiles, several of which may hold at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hepar.config import IngestConfig
from hepar.data import LabelSet, Manifest, Sample
from hepar.data.manifest import COLUMNS
from hepar.errors import IngestError
from hepar.registry import nearest

__all__ = ["check_slides", "finding_columns", "findings_of", "manifest_of"]

Rows = Sequence[Mapping[str, str]]

_KNOWN = {"0", "1", ""}


def finding_columns(path: Path, columns: Sequence[str], rows: Rows, findings: str) -> list[str]:
    """Return the columns that hold a finding each: 1 where it is there, 0 where not, or nothing.

    Args:
        path: of the table, for messages.
        columns: of the table.
        rows: of the table.
        findings: as in `ingest.findings`: names, or "all" for every column most of whose values are
            0 or 1, and that has both.

    Raises:
        IngestError: a column is missing, there is none, or one holds another value.
    """
    if findings == "all":
        others = [name for name in columns if name not in {*COLUMNS, "slide_id"}]
        names = [name for name in others if _is_finding([row[name] for row in rows])]
        if not names:
            raise IngestError(
                f"{path}: expected a column of 0 and 1 for each finding, got "
                f"{', '.join(columns) or 'none'}. Name them with --set ingest.findings=A,B."
            )
    else:
        names = [name.strip() for name in findings.split(",")]
    for name in names:
        if name not in columns:
            raise IngestError(
                f"{path}: expected a column {name!r} of 0 and 1, got {', '.join(columns)}. "
                f"{nearest(name, columns)}".rstrip()
            )
        for number, row in enumerate(rows, start=2):
            if row[name] not in _KNOWN:
                raise IngestError(
                    f"{path}: {name}: expected 1, 0 or nothing in line {number}, got "
                    f"{row[name]!r}. Write 1 where the finding is there and 0 where it is not."
                )
    return names


def _is_finding(values: Sequence[str]) -> bool:
    said = [value for value in values if value]
    binary = sum(value in _KNOWN for value in said)
    return {"0", "1"} <= set(said) and 2 * binary > len(said)


def findings_of(samples: Sequence[Sample], config: IngestConfig) -> tuple[str, ...]:
    """Return the findings that a manifest's samples tell of, by name.

    Args:
        samples: of a manifest, whose other columns hold the findings.
        config: `findings`.

    Raises:
        IngestError: a finding that was named is in no sample, or there is none.
    """
    known = sorted({name for sample in samples for name in sample.extra})
    rows = [{name: sample.extra.get(name, "") for name in known} for sample in samples]
    return tuple(finding_columns(Path("samples"), known, rows, config.findings))


def check_slides(path: Path, rows: Rows) -> None:
    """Refuse a slide that two patients share.

    Raises:
        IngestError: and which it is.
    """
    owner: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        slide, patient = row.get("slide_id", ""), row.get("patient_id", "")
        if slide and patient and owner.setdefault(slide, patient) != patient:
            raise IngestError(
                f"{path}: slide {slide}: expected one patient, got {owner[slide]} and {patient} "
                f"(line {number}). Correct the wrong row."
            )


def manifest_of(name: str, names: Sequence[str], manifest: Manifest) -> Manifest:
    """Return the tiles on which a finding is known, labelled by it; the others are left out.

    Columns of findings are left out, too, so that no control can guess one from another.

    Args:
        name: of the finding.
        names: of all findings.
        manifest: of all tiles.

    Raises:
        IngestError: fewer than two patients have it, or have it not.
    """
    samples = tuple(
        replace(
            sample,
            label=name if sample.extra[name] == "1" else f"no_{name}",
            extra={key: value for key, value in sample.extra.items() if key not in names},
        )
        for sample in manifest.samples
        if sample.extra.get(name)
    )
    own = replace(manifest, samples=samples, labels=LabelSet((f"no_{name}", name)))
    has = [own.patient_label(rows) == name for rows in own.patients.values()]
    if min(sum(has), len(has) - sum(has)) < 2:
        raise IngestError(
            f"expected two patients or more with and without it, got {sum(has)} with and "
            f"{len(has) - sum(has)} without. Leave it out of ingest.findings."
        )
    return own
