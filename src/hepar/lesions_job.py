"""Lesions of left-out patients, found one by one: a stage that writes `lesions.json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from hepar.cohort_job import hash_files
from hepar.fit_job import Job, finders
from hepar.provenance import stamp, write_artefact

if TYPE_CHECKING:
    from hepar.evaluate import Search

__all__ = ["search_model"]

_FALSE = (1.0, 3.0, 8.0)
_LEAST_MM = (0.0, 10.0)
_MARKED = 1.0
"""False places a patient, at most, in what the bundle marks as lesions."""


def search_model(job: Job) -> None:
    """Write `lesions.json` and what the bundle marks, where a finder was taught by lesion masks."""
    path = job.ledger.folder / "lesions.json"
    if not job.finds:
        path.unlink(missing_ok=True)
        return
    inputs = [job.inputs(), hash_files(job.ledger, "folds.safetensors")]
    outputs = ["lesions.json", "bundle/lesions.json"]
    job.ledger.stage("lesions", inputs, outputs, lambda: _work(job))


def _work(job: Job) -> None:
    from hepar.evaluate import sensitivity_at
    from hepar.model import LIKELY, write_least_lesion

    searches = list(_searches(job))
    rows = []
    for least in _LEAST_MM:
        n = sum(x.diameter_mm >= least for s in searches for x in s.lesions)
        for false in _FALSE:
            found, threshold = sensitivity_at(searches, false, least)
            rows.append(
                {
                    "least_mm": least,
                    "false_a_patient": false,
                    "n_lesions": n,
                    "sensitivity": found if n else None,
                    "threshold": threshold,
                }
            )
    patients = [
        {
            "patient_id": search.patient_id,
            "lesions": [dataclasses.asdict(one) for one in search.lesions],
            "candidates": [dataclasses.asdict(one) for one in search.candidates],
        }
        for search in searches
    ]
    content = {
        "likely": LIKELY,
        "outlined": job.outlines is not None,
        "n_patients": len(searches),
        "rows": rows,
        "patients": patients,
    }
    hashes = {"folds.safetensors": hash_files(job.ledger, "folds.safetensors")}
    folder, provenance = job.ledger.folder, stamp(job.ledger.command, inputs=hashes)
    write_artefact(folder / "lesions.json", "lesions", content, provenance)
    marked = next(row for row in rows if row["false_a_patient"] == _MARKED)
    write_least_lesion(folder / "bundle", marked["threshold"], provenance)


def _searches(job: Job) -> Iterator[Search]:
    """Yield what was found in each left-out patient, series by series."""
    from hepar.evaluate import Search, search_series
    from hepar.model import LIKELY, find_lesions, is_stack

    samples = job.cohort.manifest.samples
    for network, reader, rows in finders(job):
        series: dict[tuple[str, str], list[int]] = {}
        for row in rows:
            series.setdefault((samples[row].patient_id, samples[row].series_id), []).append(row)
        found: dict[str, tuple[list[Any], list[Any]]] = {}
        for (patient, _), own in series.items():
            stacked = is_stack([samples[row] for row in own])
            seen = find_lesions(network, reader, own, job.config.backbone, stacked=stacked)
            parts = [slice(None)] if stacked else [slice(z, z + 1) for z in range(len(own))]
            kept = found.setdefault(patient, ([], []))
            for part in parts:
                drawn, likely = np.stack(seen.drawn[part]), np.stack(seen.likely[part])
                lesions, candidates = search_series(drawn, likely, LIKELY, seen.spacing_mm)
                kept[0].extend(lesions)
                kept[1].extend(candidates)
        for patient, (lesions, candidates) in found.items():
            yield Search(patient, tuple(lesions), tuple(candidates))
