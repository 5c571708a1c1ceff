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
    from numpy.typing import NDArray

    from hepar.data import Slice
    from hepar.evaluate import Search

__all__ = ["search_model"]

_LIKELY = 0.5
_FALSE = (1.0, 3.0, 8.0)
_LEAST_MM = (0.0, 10.0)
_GRID_MM = 1.5
"""Finer voxels are passed over: finders see no finer."""


def search_model(job: Job) -> None:
    """Write `lesions.json`, where a finder was taught by lesion masks."""
    path = job.ledger.folder / "lesions.json"
    if not job.finds:
        path.unlink(missing_ok=True)
        return
    inputs = [job.inputs(), hash_files(job.ledger, "folds.safetensors")]
    job.ledger.stage("lesions", inputs, ["lesions.json"], lambda: _work(job))


def _work(job: Job) -> None:
    from hepar.evaluate import sensitivity_at

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
        "likely": _LIKELY,
        "outlined": job.outlines is not None,
        "n_patients": len(searches),
        "rows": rows,
        "patients": patients,
    }
    hashes = {"folds.safetensors": hash_files(job.ledger, "folds.safetensors")}
    write_artefact(
        job.ledger.folder / "lesions.json",
        "lesions",
        content,
        stamp(job.ledger.command, inputs=hashes),
    )


def _searches(job: Job) -> Iterator[Search]:
    """Yield what was found in each left-out patient, series by series."""
    from hepar.evaluate import Search, search_series
    from hepar.model import find_lesions

    samples = job.cohort.manifest.samples
    for network, reader, rows in finders(job):
        series: dict[tuple[str, str], list[int]] = {}
        for row in rows:
            series.setdefault((samples[row].patient_id, samples[row].series_id), []).append(row)
        found: dict[str, tuple[list[Any], list[Any]]] = {}
        for (patient, _), own in series.items():
            slices = [
                (image, likely.max(axis=0))
                for _, image, likely in find_lesions(network, reader, own, job.config.backbone)
            ]
            drawn, scores, spacing = _coarse(slices)
            stacks = [slice(None)] if samples[own[0]].series_id else list(_one_by_one(len(own)))
            for stack in stacks:
                lesions, candidates = search_series(drawn[stack], scores[stack], _LIKELY, spacing)
                kept = found.setdefault(patient, ([], []))
                kept[0].extend(lesions)
                kept[1].extend(candidates)
        for patient, (lesions, candidates) in found.items():
            yield Search(patient, tuple(lesions), tuple(candidates))


def _one_by_one(n: int) -> Iterator[slice]:
    return (slice(i, i + 1) for i in range(n))


def _coarse(
    slices: list[tuple[Slice, NDArray[np.float32]]],
) -> tuple[NDArray[np.bool_], NDArray[np.float32], tuple[float, float]]:
    """Return lesions, scores (z, y, x) and spacing on a grid of some 1.5 mm."""
    from hepar.data import LESION
    from hepar.preprocess import PICTURE_MM

    first = slices[0][0]
    mm = PICTURE_MM / first.pixels.shape[1]
    spacing = first.spacing_mm or (mm, mm)
    step = max(1, round(_GRID_MM / spacing[1]))
    drawn = np.stack([np.asarray(image.mask)[::step, ::step] == LESION for image, _ in slices])
    scores = np.stack([likely[::step, ::step] for _, likely in slices])
    return drawn, scores, (spacing[0] * step, spacing[1] * step)
