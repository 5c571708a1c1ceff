"""Whether a model's answers can be acted on: calibration, sets, thresholds, worth, and for whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from hepar.config import DecideConfig, EvaluateConfig
from hepar.data import Manifest, Sample
from hepar.evaluate.abstention import conformal_sureness, risk_coverage
from hepar.evaluate.conformal import measure_conformal
from hepar.evaluate.evaluation import PARTITIONS
from hepar.evaluate.intervals import Undefined
from hepar.evaluate.net_benefit import DECISION_THRESHOLDS, decision_curve
from hepar.evaluate.operating_point import measure_operating_point, predictive_values
from hepar.evaluate.predictions import Predictions
from hepar.evaluate.reliability import measure_calibration, reliability_curve
from hepar.evaluate.subgroups import measure_subgroups, size_groups, subgroup_warning

__all__ = ["PREVALENCES", "measure_trust", "subgroup_columns"]

PREVALENCES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares of patients with the most severe label that predictive values are told for."""

_SPACING = "slice spacing (mm)"
_SPACINGS_MM = (2.5, 5.0)
"""Thin, usual and thick slices."""

_TRUTH = frozenset({"liver_px", "lesion_px", "tumour_px", "tumor_px", "split", "fold", "partition"})
"""Columns that say what a model is asked, or how it was tested."""


def measure_trust(
    raw: Predictions,
    patients: Predictions,
    manifest: Manifest,
    decide: DecideConfig,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Measure everything that stands between a probability and an action, one row a patient.

    Out-of-fold patients are judged by what the other folds taught, test patients by what all
    out-of-fold patients taught. What cannot be measured has a reason in its place.

    Args:
        raw: patients before calibration.
        patients: the same patients, calibrated.
        manifest: the cohort, for its subgroups.
        decide: coverage, sensitivity and how sets are made.
        config: of the intervals.

    Returns:
        What `trust.json` holds: `calibration` {before, after}, `reliability`, `sets`, `abstention`,
        `operating_point`, `predictive_values`, `decision_curve`, `subgroups`, and
        `subgroup_warning`. Records name their `partition`.
    """
    points = measure_operating_point(patients, decide.sensitivity, decide.bound, config.level)
    sets = [] if decide.conformal == "none" else _sets(patients, decide, config)
    groups = _subgroups(patients, manifest, config)
    known = patients.select(patients.reference != "")
    parts = {
        name: known.select(known.partition == partition) for partition, name in PARTITIONS.items()
    }
    parts = {name: part for name, part in parts.items() if len(part)}
    return {
        "calibration": {
            "before": measure_calibration(raw, config),
            "after": measure_calibration(patients, config),
        },
        "reliability": [
            {"partition": name, "label": label, **_either(curve)}
            for name, part in parts.items()
            for label in part.labels
            for curve in [reliability_curve(part, label, level=config.level)]
        ],
        "sets": sets,
        "abstention": _abstention(patients, decide, config),
        "operating_point": points,
        "predictive_values": [
            {"partition": point["partition"], **row}
            for point in points
            if not point["undefined"] and point["sensitivity"] and point["specificity"]
            for row in predictive_values(point["sensitivity"], point["specificity"], PREVALENCES)
        ],
        "decision_curve": [
            {"partition": name, **decision_curve(part, DECISION_THRESHOLDS, config)}
            for name, part in parts.items()
        ],
        "subgroups": groups,
        "subgroup_warning": subgroup_warning(
            [row for record in groups for row in record["groups"]], config.level
        ),
    }


def _either(found: Any) -> dict[str, Any]:
    """Return a result as a record, or why there is none."""
    if isinstance(found, Undefined):
        return {"undefined": found.reason}
    return {"undefined": None, **(found if isinstance(found, dict) else asdict(found))}


def _sets(
    patients: Predictions, decide: DecideConfig, config: EvaluateConfig
) -> list[dict[str, Any]]:
    coverage = {"method": decide.conformal, "coverage": decide.coverage}
    found = measure_conformal(patients, decide.conformal, decide.coverage, config.level)
    return [{**coverage, **record} for record in found]


def _abstention(
    patients: Predictions, decide: DecideConfig, config: EvaluateConfig
) -> list[dict[str, Any]]:
    """Return risk-coverage curves by probability and, where sets are made, by sets."""
    ways: dict[str, Any] = {"probability": None}
    if decide.conformal != "none":
        ways["sets"] = conformal_sureness(patients, decide.conformal)
    records = []
    for partition, name in PARTITIONS.items():
        rows = (patients.partition == partition) & (patients.reference != "")
        if not rows.any():
            continue
        for way, sureness in ways.items():
            own = None if sureness is None else sureness[rows]
            curve = risk_coverage(patients.select(rows), config, own)
            records.append({"partition": name, "by": way, **_either(curve)})
    return records


def _subgroups(
    patients: Predictions, manifest: Manifest, config: EvaluateConfig
) -> list[dict[str, Any]]:
    """Return {partition, groups} of out-of-fold and test patients apart."""
    columns = subgroup_columns(manifest)
    records = []
    for partition, name in PARTITIONS.items():
        part = patients.select((patients.partition == partition) & (patients.reference != ""))
        if len(part) and columns:
            edges = {_SPACING: _SPACINGS_MM} if _SPACING in columns else {}
            groups = measure_subgroups(part, columns, config, edges)
            records.append({"partition": name, "groups": groups})
    return records


def subgroup_columns(manifest: Manifest) -> dict[str, dict[str, str]]:
    """Return what patients can be divided by: column -> patient_id -> value.

    These are the source table's other columns, the slice spacing, and the size of the largest
    lesion where masks and spacing tell it: the diameter of a disc of the same area, in the slice
    that shows most of it. A patient whose images differ in a column is unknown there; columns that
    name nearly everybody apart are left out.
    """
    samples: dict[str, list[Sample]] = {}
    for sample in manifest.samples:
        samples.setdefault(sample.patient_id, []).append(sample)
    names = dict.fromkeys(name for s in manifest.samples for name in s.extra)
    columns = {
        name: {
            patient: _common([s.extra.get(name, "") for s in own])
            for patient, own in samples.items()
        }
        for name in names
        if name not in _TRUTH and not name.endswith("_id")
    }
    columns[_SPACING] = {
        patient: _common([f"{s.spacing_mm[0]:g}" if s.spacing_mm else "" for s in own])
        for patient, own in samples.items()
    }
    sizes = size_groups(
        {p: mm for p, own in samples.items() if (mm := _lesion_mm(own)) is not None}
    )
    columns["largest lesion"] = sizes
    return {name: values for name, values in columns.items() if _divides(values)}


def _common(values: list[str]) -> str:
    return values[0] if len(set(values)) == 1 else ""


def _lesion_mm(samples: list[Sample]) -> float | None:
    """Return the diameter in mm of a disc as large as the lesions of one slice, where largest."""
    areas = []
    for sample in samples:
        pixels = sample.extra.get("lesion_px", "")
        if not pixels.isdigit() or (sample.spacing_mm is None and pixels != "0"):
            return None
        _, y, x = sample.spacing_mm or (0.0, 0.0, 0.0)
        areas.append(int(pixels) * y * x)
    return float(2 * np.sqrt(max(areas) / np.pi)) if areas else None


def _divides(values: Mapping[str, str]) -> bool:
    """Whether a column has two values or more, and either numbers or few of them."""
    known = [value for value in values.values() if value]
    different = set(known)
    if len(different) < 2:
        return False
    return len(different) <= max(2, len(known) // 2) or all(map(_is_number, different))


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
