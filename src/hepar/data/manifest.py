"""The manifest: a row per sample, on disk as CSV with its provenance beside it."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hepar.data.labels import LabelSet
from hepar.data.study import Finding, Sample, Unit
from hepar.errors import DataError
from hepar.provenance import read_artefact, sha256_file, write_artefact, write_atomic

__all__ = ["COLUMNS", "Manifest", "read_manifest", "write_manifest"]

COLUMNS = (
    "sample_id",
    "patient_id",
    "study_id",
    "series_id",
    "slice_index",
    "label",
    "path",
    "frame",
    "kind",
    "mask",
    "mask_frame",
    "spacing_mm",
    "sha256",
    "mask_sha256",
)


@dataclass(frozen=True)
class Manifest:
    """A cohort: its samples, its labels, and how its pixels are to be read.

    Attributes:
        samples: sorted by patient, series and slice, whatever order the files were found in.
        labels: the label set, in order of severity; empty where nothing is labelled.
        root: the folder that sample paths are relative to.
        unit: what a patient_id stands for: "patient", "group" (of images, inferred) or "image".
        mask_values: the value of "liver" and, where lesions are drawn, of "lesion" in mask files; a
            colour is 0xRRGGBB, and "liver_from" is the least value of liver in a smoothed mask.
            Where NIfTI masks have values of their own, those stand under "volume:liver" and so on.
        flip_vertical: True where pictures are stored upside down.
        findings: what ingest noticed.

    Raises:
        DataError: a sample_id occurs twice or a label is not in the label set.
    """

    samples: tuple[Sample, ...]
    labels: LabelSet
    root: Path
    unit: Unit = "patient"
    mask_values: Mapping[str, int] = field(default_factory=dict)
    flip_vertical: bool = False
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        order = sorted(
            self.samples, key=lambda s: (s.patient_id, s.series_id, s.slice_index, s.sample_id)
        )
        object.__setattr__(self, "samples", tuple(order))
        counts = Counter(sample.sample_id for sample in self.samples)
        twice = [name for name, n in counts.items() if n > 1]
        if twice:
            raise DataError(
                f"manifest: expected every sample_id once, got {twice[0]!r} {counts[twice[0]]} "
                f"times ({len(twice)} such). Remove the repeated rows."
            )
        self.labels.check(sample.label for sample in self.samples)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def patients(self) -> dict[str, list[Sample]]:
        """Samples by patient_id, in order."""
        groups: dict[str, list[Sample]] = {}
        for sample in self.samples:
            groups.setdefault(sample.patient_id, []).append(sample)
        return groups

    @property
    def patients_known(self) -> bool:
        """True where a patient_id is a patient's."""
        return self.unit == "patient"

    @property
    def has_masks(self) -> bool:
        """True where every sample has a mask."""
        return bool(self.samples) and all(sample.mask for sample in self.samples)

    @property
    def lesions_alone(self) -> bool:
        """True where masks show lesions and never the liver."""
        liver = any(name.endswith(("liver", "liver_from")) for name in self.mask_values)
        return bool(self.mask_values) and not liver

    def patient_label(self, samples: Sequence[Sample]) -> str:
        """Return the most severe label of one patient's samples, "" where none is labelled."""
        labels = [sample.label for sample in samples if sample.label]
        return self.labels.most_severe(labels) if labels else ""


def _row(sample: Sample, extra: Sequence[str]) -> list[str]:
    values = {name: str(getattr(sample, name)) for name in COLUMNS if name != "spacing_mm"}
    spacing = sample.spacing_mm
    values["spacing_mm"] = " ".join(repr(float(mm)) for mm in spacing) if spacing else ""
    return [values[name] for name in COLUMNS] + [sample.extra.get(name, "") for name in extra]


def _sample(row: Mapping[str, str], extra: Sequence[str]) -> Sample:
    values: dict[str, Any] = {name: row[name] for name in COLUMNS}
    for name in ("slice_index", "frame", "mask_frame"):
        values[name] = int(values[name])
    spacing = tuple(float(mm) for mm in values["spacing_mm"].split())
    values["spacing_mm"] = spacing or None
    values["extra"] = {name: row[name] for name in extra if row[name]}
    return Sample(**values)


def write_manifest(path: Path, manifest: Manifest, provenance: Mapping[str, Any]) -> None:
    """Write `manifest.csv`, and `manifest.meta.json` beside it.

    The CSV holds nothing that depends on where or when it was written; the root, the
    label set, the reading options, the findings and the provenance stand in the second file.

    Args:
        path: the CSV to write.
        manifest: the cohort.
        provenance: from `hepar.provenance.stamp`.
    """
    extra = sorted({name for sample in manifest.samples for name in sample.extra})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *extra])
    writer.writerows(_row(sample, extra) for sample in manifest.samples)
    write_atomic(path, text.getvalue())
    content = {
        "csv_sha256": sha256_file(path),
        "root": os.fspath(manifest.root.resolve()),
        "labels": list(manifest.labels),
        "unit": manifest.unit,
        "mask_values": dict(manifest.mask_values),
        "flip_vertical": manifest.flip_vertical,
        "findings": [
            {"code": f.code, "where": f.where, "message": f.message, "severity": f.severity}
            for f in manifest.findings
        ],
    }
    write_artefact(path.with_suffix(".meta.json"), "manifest", content, provenance)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest written by `write_manifest`.

    Raises:
        DataError: a file is missing, a column is missing, or the CSV was edited since it was
            written.
    """
    meta = read_artefact(path.with_suffix(".meta.json"), "manifest")
    if not path.exists():
        raise DataError(f"{path}: expected a manifest, got no file. Run `hepar ingest` first.")
    if sha256_file(path) != meta["csv_sha256"]:
        raise DataError(
            f"{path}: expected the file that ingest wrote, got one edited since. "
            "Edit the source table instead and run `hepar ingest` again."
        )
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        columns = list(reader.fieldnames or ())
        missing = [name for name in COLUMNS if name not in columns]
        if missing:
            raise DataError(f"{path}: expected the columns {missing}, got {columns}.")
        extra = [name for name in columns if name not in COLUMNS]
        samples = tuple(_sample(row, extra) for row in reader)
    return Manifest(
        samples=samples,
        labels=LabelSet(tuple(meta["labels"])),
        root=Path(meta["root"]),
        unit=meta["unit"],
        mask_values=meta["mask_values"],
        flip_vertical=meta["flip_vertical"],
        findings=tuple(Finding(**finding) for finding in meta["findings"]),
    )
