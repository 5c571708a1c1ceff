"""Model card, datasheet and evidence map: what a run knows of itself, and what its authors owe."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from hepar.data import Manifest
from hepar.evaluate import METRICS
from hepar.provenance import write_atomic
from hepar.report.audit import leaks
from hepar.report.checklist import evidence_map
from hepar.report.controls import alarms
from hepar.report.inputs import ReportInputs, read_inputs
from hepar.report.page import fill_text

__all__ = ["DOCUMENTS", "write_documents"]

DOCUMENTS = ("card.md", "datasheet.md", "checklist.md")


def write_documents(folder: Path) -> list[Path]:
    """Write `card.md`, `datasheet.md` and `checklist.md` from the files of a run.

    Raises:
        ReportError: the folder is not there.
        DataError: a file of the run is missing or damaged.

    Source:
        Mitchell et al., FAT* 2019 (model cards); Gebru et al., CACM 2021 (datasheets); Collins et
        al., BMJ 2024 (TRIPOD+AI); Sounderajah et al., Nature Medicine 2025 (STARD-AI);
        Tejani et al., Radiology: Artificial Intelligence 2024 (CLAIM, 2024 update).
    """
    inputs = read_inputs(folder)
    content: dict[str, dict[str, Any]] = {
        "card.md": _card(inputs),
        "datasheet.md": _datasheet(inputs),
        "checklist.md": {"rows": evidence_map(inputs)},
    }
    for name, own in content.items():
        text = fill_text(f"{name}.j2", {"inputs": inputs, "run": inputs.run, **own})
        write_atomic(folder / name, text)
    return [folder / name for name in DOCUMENTS]


def _card(inputs: ReportInputs) -> dict[str, Any]:
    level = inputs.main_level
    partition = inputs.partitions[0]
    numbers = [
        {**record, "title": METRICS.get(record["metric"]).title}
        for record in inputs.records(level=level, partition=partition)
    ]
    return {
        "level": level,
        "partition": partition,
        "numbers": numbers,
        "alarms": [*leaks(inputs), *alarms(inputs)],
        "n_train": len({s.patient_id for s in inputs.manifest.samples}),
        "unit": inputs.split["unit"],
        "kinds": sorted({sample.kind for sample in inputs.manifest.samples}),
    }


def _datasheet(inputs: ReportInputs) -> dict[str, Any]:
    manifest = inputs.manifest
    return {
        "labels": [
            {
                "label": label,
                "samples": sum(s.label == label for s in manifest.samples),
                "patients": len({s.patient_id for s in manifest.samples if s.label == label}),
            }
            for label in manifest.labels
        ],
        "findings": Counter((f.severity, f.code) for f in manifest.findings),
        "columns": sorted({key for sample in manifest.samples for key in sample.extra}),
        "spacing": _range(manifest),
        "masked": sum(bool(sample.mask) for sample in manifest.samples),
        "kinds": Counter(sample.kind for sample in manifest.samples),
        "series": len({s.series_id for s in manifest.samples if s.series_id}),
        "provenance": inputs.evaluation["provenance"],
    }


def _range(manifest: Manifest) -> list[tuple[str, float, float]]:
    known = [sample.spacing_mm for sample in manifest.samples if sample.spacing_mm]
    if not known:
        return []
    axes = ("between slices", "pixel height", "pixel width")
    each = np.asarray(known)
    ends = zip(axes, each.min(axis=0).tolist(), each.max(axis=0).tolist(), strict=True)
    return list(ends)
