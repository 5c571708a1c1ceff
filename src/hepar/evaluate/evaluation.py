"""From predictions to `evaluation.json`: every metric with its interval, or the reason for none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hepar.config import EvaluateConfig
from hepar.data import Unit
from hepar.errors import EvaluateError
from hepar.evaluate.intervals import Estimate, Undefined, estimate
from hepar.evaluate.metrics import METRICS, count_by_patient, values
from hepar.evaluate.predictions import Level, Predictions
from hepar.evaluate.within import within_patient
from hepar.provenance import write_artefact

__all__ = ["UNIT_WARNINGS", "Evaluation", "evaluate", "write_evaluation"]

PARTITIONS = {"train": "out-of-fold", "test": "test"}
"""Partition of a prediction -> what its numbers are called; other partitions are not evaluated."""

UNIT_WARNINGS: Mapping[Unit, str] = {
    "patient": "",
    "group": (
        "Patient ids are unknown: folds are of groups of images that look like one patient's, and "
        "“patient” stands for such a group. Patients whose images were not joined may still stand "
        "on both sides."
    ),
    "image": (
        "Patient ids are unknown: folds are of images, and images of one patient may stand on both "
        "sides. These numbers do not say how the model does on a new patient."
    ),
}
"""What limits every number, by what was left out in turn."""


@dataclass(frozen=True)
class Evaluation:
    """What is known about how good predictions are.

    Attributes:
        metrics: records {metric, level, label, value, undefined, low, high, method, n_patients,
            n_samples, partition, no_interval}; label None is the mean over labels, or a metric of
            all labels together.
        confusion: records {level, partition, labels, counts}, reference in rows.
        per_patient: records {patient_id, partition, n_samples, accuracy, auroc, undefined} of the
            slices of each patient; auroc is of the most severe label against the rest.
        within: records of `within_patient`, one a partition; none where patients are unknown.
        unit: what was left out in turn: "patient", "group" or "image".
        warning: what limits every number; "" where nothing does.
        intervals: {level, resamples, seed} of every interval.
    """

    metrics: tuple[dict[str, Any], ...]
    confusion: tuple[dict[str, Any], ...]
    per_patient: tuple[dict[str, Any], ...]
    within: tuple[dict[str, Any], ...] = ()
    unit: Unit = "patient"
    warning: str = ""
    intervals: Mapping[str, Any] = field(default_factory=dict)


def evaluate(predictions: Predictions, patients: Predictions, config: EvaluateConfig) -> Evaluation:
    """Measure predictions against their references, patients first.

    Out-of-fold and test predictions are measured apart. Where patient ids are unknown there is no
    patient level and no interval.

    Args:
        predictions: at slice level.
        patients: the same at patient level, from `aggregate`.
        config: resamples, coverage and seed.

    Returns:
        The evaluation.

    Raises:
        EvaluateError: no row has a reference, a train row has no fold, or the two tables are not
            of the same patients at the two levels.
    """
    _check_tables(predictions, patients, config)
    metrics: list[dict[str, Any]] = []
    confusion: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    within: list[dict[str, Any]] = []
    levels: list[tuple[Level, Predictions]] = [("slice", predictions)]
    if predictions.unit != "image":
        levels.insert(0, ("patient", patients))
    for partition, name in PARTITIONS.items():
        for level, table in levels:
            part = table.select((table.partition == partition) & (table.reference != ""))
            if not len(part):
                continue
            counts = count_by_patient(part)
            found = estimate(counts, level, config, grouped=part.unit != "image")
            metrics += [
                _record(key, result, level, name, part.labels) for key, result in found.items()
            ]
            table_counts = counts.cells.sum(axis=0).astype(int).tolist()
            confusion.append(
                {
                    "level": level,
                    "partition": name,
                    "labels": list(part.labels),
                    "counts": table_counts,
                }
            )
            if level == "slice" and part.unit != "image":
                rows += _patient_rows(part, name)
                within.append(within_patient(part, name, config))
    if not metrics:
        raise EvaluateError(
            "predictions: expected rows with a reference in the train or test partition, got none."
        )
    warning = UNIT_WARNINGS[predictions.unit]
    intervals = {"level": config.level, "resamples": config.resamples, "seed": config.seed}
    tables = (tuple(metrics), tuple(confusion), tuple(rows), tuple(within))
    return Evaluation(*tables, predictions.unit, warning, intervals)


def _check_tables(predictions: Predictions, patients: Predictions, config: EvaluateConfig) -> None:
    if (predictions.level, patients.level) != ("slice", "patient"):
        raise EvaluateError(
            "evaluate: expected slice-level and patient-level predictions, got "
            f"{predictions.level} and {patients.level} level. Use `aggregate` for the second."
        )
    odd = np.setxor1d(predictions.patient_id, patients.patient_id).tolist()
    if odd:
        where = "slice" if odd[0] in set(predictions.patient_id.tolist()) else "patient"
        raise EvaluateError(
            "evaluate: expected the same patients at both levels, got "
            f"{odd[0]!r} at {where} level alone. Aggregate again."
        )
    seen = (predictions.partition == "train") & (predictions.fold == "")
    if seen.any():
        raise EvaluateError(
            f"{str(predictions.sample_id[int(np.argmax(seen))])!r}: expected a train row predicted "
            "out of fold, got one without a fold. A model knows its own training patients."
        )
    if config.resamples < 100:
        raise EvaluateError(
            f"evaluate.resamples: expected 100 or more, got {config.resamples}. 2000 is usual."
        )


def _record(
    key: tuple[str, int | None],
    result: Estimate | Undefined,
    level: Level,
    partition: str,
    labels: tuple[str, ...],
) -> dict[str, Any]:
    metric, label = key
    record: dict[str, Any] = {
        "metric": metric,
        "level": level,
        "label": None if label is None else labels[label],
        "partition": partition,
        "value": None,
        "undefined": None,
        "low": None,
        "high": None,
        "method": "none",
        "n_patients": 0,
        "n_samples": 0,
        "no_interval": None,
    }
    if isinstance(result, Undefined):
        return {**record, "undefined": result.reason}
    return {
        **record,
        "value": result.value,
        "low": result.low,
        "high": result.high,
        "method": result.method,
        "n_patients": result.n_patients,
        "n_samples": result.n_samples,
        "no_interval": result.no_interval or None,
    }


def _patient_rows(predictions: Predictions, partition: str) -> list[dict[str, Any]]:
    """Return what is known of each patient's slices, by patient_id."""
    order = np.argsort(predictions.patient_id, kind="stable")
    _, first = np.unique(predictions.patient_id[order], return_index=True)
    groups = np.split(order, first[1:])
    return [_patient_row(predictions.select(rows), partition) for rows in groups]


def _patient_row(own: Predictions, partition: str) -> dict[str, Any]:
    tally = count_by_patient(own).tally()
    accuracy = float(values(METRICS.get("accuracy"), tally)[0])
    auroc = float(values(METRICS.get("auroc"), tally)[len(own.labels) - 1])
    undefined = np.isnan(auroc)
    most_severe = own.labels[-1]
    return {
        "patient_id": str(own.patient_id[0]),
        "partition": partition,
        "n_samples": len(own),
        "accuracy": accuracy,
        "auroc": None if undefined else auroc,
        "undefined": f"all slices or none are {most_severe!r}" if undefined else None,
    }


def write_evaluation(path: Path, evaluation: Evaluation, provenance: Mapping[str, Any]) -> None:
    """Write `evaluation.json`."""
    content = {
        "metrics": list(evaluation.metrics),
        "confusion": list(evaluation.confusion),
        "per_patient": list(evaluation.per_patient),
        "within_patient": list(evaluation.within),
        "unit": evaluation.unit,
        "warning": evaluation.warning,
        "intervals": dict(evaluation.intervals),
    }
    write_artefact(path, "evaluation", content, provenance)
