"""Lesions of left-out patients, found one by one: a stage that writes `lesions.json`."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hepar.cohort_job import hash_files
from hepar.model_job import Job, finders
from hepar.provenance import stamp, write_artefact, write_atomic

if TYPE_CHECKING:
    from hepar.config import EvaluateConfig
    from hepar.evaluate import Places, Search
    from hepar.explain import Scene

    Scenes = dict[str, Scene]

__all__ = ["search_model"]

_FALSE = (1.0, 3.0, 8.0)
_LEAST_MM = (0.0, 10.0)
_SHOWN, _SIDE = 6, 320
"""Patients whose slices are drawn, and the side of such a picture."""

_MARKED = 1.0
"""False places a patient, at most, in what the bundle marks as lesions."""


_NONE = np.zeros((0, 0, 0), np.int32)


def search_model(job: Job) -> None:
    """Write `lesions.json` and what the bundle marks, where a finder was taught by lesion masks."""
    path = job.ledger.folder / "lesions.json"
    if not job.finds:
        path.unlink(missing_ok=True)
        return
    from hepar.model import LIKELY

    inputs = [job.inputs(), LIKELY, hash_files(job.ledger, "folds.safetensors")]
    outputs = ["lesions.json", "bundle/lesions.json"]
    job.ledger.stage("lesions", inputs, outputs, lambda: _work(job))


def _work(job: Job) -> None:
    from hepar.evaluate import sensitivity_at
    from hepar.model import LIKELY, write_least_lesion

    seen = list(_searches(job))
    searches = [search for search, _ in seen]
    _, least = sensitivity_at(searches, _MARKED, 0.0)
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
        "n_series": sum(search.n_series for search in searches),
        "rows": _table(searches, job.config.evaluate),
        "agreement": _agreement(searches, least, job.config.evaluate),
        "patients": patients,
        "least": least,
        "pictures": _draw(job, seen, least),
    }
    hashes = {"folds.safetensors": hash_files(job.ledger, "folds.safetensors")}
    folder, provenance = job.ledger.folder, stamp(job.ledger.command, inputs=hashes)
    write_artefact(folder / "lesions.json", "lesions", content, provenance)
    write_least_lesion(folder / "bundle", least, provenance)


def _table(searches: Sequence[Search], config: EvaluateConfig) -> list[dict[str, Any]]:
    """Return how many lesions of a size are found for how many false ones."""
    from hepar.evaluate import sensitivity_at, share_found

    series = [search.n_series for search in searches]
    units = [False, True] if all(series) and sum(series) > len(series) else [False]
    rows = []
    for least in _LEAST_MM:
        n = sum(x.diameter_mm >= least for s in searches for x in s.lesions)
        for by_series in units:
            for false in _FALSE:
                found, threshold = sensitivity_at(searches, false, least, by_series=by_series)
                share = share_found(searches, threshold, least, config)
                rows.append(
                    {
                        "least_mm": least,
                        "by": "series" if by_series else "patient",
                        "false": false,
                        "n_lesions": n,
                        "sensitivity": found if n else None,
                        "low": share.low,
                        "high": share.high,
                        "threshold": threshold,
                    }
                )
    return rows


def _agreement(
    searches: Sequence[Search], least: float, config: EvaluateConfig
) -> dict[str, Any] | None:
    """Return how marked voxels agree with drawn lesions, in patients that have some."""
    from hepar.evaluate import patient_mean

    overlaps = [search.overlap(least) for search in searches if search.lesions]
    if not overlaps:
        return None
    names = [one.patient_id for one in overlaps]
    measured = {
        "dice": np.array([one.dice for one in overlaps]),
        "volume_error": np.array([abs(one.volume_error or 0.0) for one in overlaps]),
    }
    return {
        name: dataclasses.asdict(patient_mean(values, names, config))
        for name, values in measured.items()
    }


def _searches(job: Job) -> Iterator[tuple[Search, Scenes]]:
    """Yield what was found in each left-out patient, and slices that show it."""
    from hepar.evaluate import Search, search_series
    from hepar.explain import scenes_of
    from hepar.model import LIKELY, find_lesions, is_stack

    samples = job.cohort.manifest.samples
    for network, reader, rows in finders(job):
        series: dict[tuple[str, str], list[int]] = {}
        for row in rows:
            series.setdefault((samples[row].patient_id, samples[row].series_id), []).append(row)
        found: dict[str, tuple[list[Places], Scenes]] = {}
        stacks: Counter[str] = Counter()
        for (patient, _), own in series.items():
            stacked = is_stack([samples[row] for row in own])
            seen = find_lesions(network, reader, own, job.config.backbone, stacked=stacked)
            stacks[patient] += stacked
            parts = [slice(None)] if stacked else [slice(z, z + 1) for z in range(len(own))]
            kept, scenes = found.setdefault(patient, ([], {}))
            for part in parts:
                drawn, likely = np.stack(seen.drawn[part]), np.stack(seen.likely[part])
                places = search_series(drawn, likely, LIKELY, seen.spacing_mm)
                kept.append(dataclasses.replace(places, lesion_of=_NONE, candidate_of=_NONE))
                for kind, scene in scenes_of(places, own[part]).items():
                    old = scenes.get(kind)
                    if old is None or scene.ranks[kind] > old.ranks[kind]:
                        scenes[kind] = scene
        for patient, (kept, scenes) in found.items():
            lesions = tuple(one for places in kept for one in places.lesions)
            candidates = tuple(one for places in kept for one in places.candidates)
            yield Search(patient, lesions, candidates, stacks[patient]), scenes


def _draw(job: Job, found: Sequence[tuple[Search, Scenes]], least: float) -> list[dict[str, Any]]:
    """Draw slices of some patients, evenly from those with the smallest share of lesions found.

    Args:
        job: whose cohort.
        found: of each left-out patient.
        least: score from which on a place is marked.

    Returns:
        Records of the pictures.
    """
    import cv2

    from hepar.explain import draw_scene
    from hepar.ingest import read_slices

    folder, manifest = job.ledger.folder, job.cohort.manifest
    shutil.rmtree(folder / "figures" / "lesions", ignore_errors=True)
    ranked = sorted((one for one in found if one[1]), key=lambda one: _share(one[0], least))
    step = max(1.0, len(ranked) / _SHOWN)
    records = []
    for search, scenes in (ranked[int(i * step)] for i in range(min(_SHOWN, len(ranked)))):
        for scene in {scene.row: scene for scene in scenes.values()}.values():
            sample = manifest.samples[scene.row]
            (image,) = read_slices(manifest, [sample])
            name = f"figures/lesions/{scene.row:06d}.png"
            picture = draw_scene(scene, image, least, _SIDE)
            write_atomic(folder / name, cv2.imencode(".png", picture)[1].tobytes())
            false = [one for one, _ in scene.candidates if one.is_false and one.score >= least]
            records.append(
                {
                    "file": name,
                    "patient_id": search.patient_id,
                    "sample_id": sample.sample_id,
                    "n_lesions": len(scene.lesions),
                    "n_found": sum(lesion.score >= least for lesion, _ in scene.lesions),
                    "n_false": len(false),
                }
            )
    return records


def _share(search: Search, least: float) -> float:
    """Return the share of a patient's lesions that are found; above 1 where there are none."""
    scores = [lesion.score >= least for lesion in search.lesions]
    return sum(scores) / len(scores) if scores else 2.0
