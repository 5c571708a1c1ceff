"""How well slices are told apart inside a patient, where patients hold several labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from hepar.config import EvaluateConfig
from hepar.evaluate.metrics import METRICS, count_by_patient, values
from hepar.evaluate.patient_mean import patient_mean
from hepar.evaluate.predictions import Predictions

__all__ = ["MIN_SLICES", "leads", "not_counted", "within_patient"]

MIN_SLICES = 10
"""Slices with and without the most severe label that a patient's own AUROC needs to count: of 3
against 100, one slice moves it by a third."""

_NAMED = 3


def within_patient(rows: Predictions, partition: str, config: EvaluateConfig) -> dict[str, Any]:
    """Return the mean over patients of the AUROC of each one's own slices, the most severe label's.

    Pooling the slices of all patients asks, too, whether those of one patient score above those of
    another; this mean does not.

    Args:
        rows: at slice level, all with a reference; patients are known.
        partition: what its numbers are called.
        config: resamples, coverage and seed.

    Returns:
        A record as of any metric, with level "within-patient", and `left_out`: patients with fewer
        than `MIN_SLICES` slices with or without the label.
    """
    counted, left_out = [], []
    place = len(rows.labels) - 1
    for patient in np.unique(rows.patient_id):
        own = rows.select(rows.patient_id == patient)
        severe = int((own.reference_index == place).sum())
        if min(severe, len(own) - severe) < MIN_SLICES:
            left_out.append(str(patient))
            continue
        auroc = values(METRICS.get("auroc"), count_by_patient(own).tally())[place]
        counted.append((str(patient), float(auroc), len(own)))
    record: dict[str, Any] = {
        "metric": "auroc",
        "level": "within-patient",
        "label": rows.labels[-1],
        "partition": partition,
        "left_out": left_out,
        "undefined": None,
    }
    if not counted:
        why = (
            f"no patient has {MIN_SLICES} slices with and {MIN_SLICES} without {rows.labels[-1]!r}"
        )
        nothing = dict.fromkeys(("value", "low", "high", "no_interval"))
        return {
            **record,
            **nothing,
            "undefined": why,
            "method": "none",
            "n_patients": 0,
            "n_samples": 0,
        }
    names, aurocs, sizes = zip(*counted, strict=True)
    found = asdict(patient_mean(np.array(aurocs), names, config))
    return {
        **record,
        **found,
        "n_samples": sum(sizes),
        "no_interval": found["no_interval"] or None,
    }


def leads(record: Mapping[str, Any]) -> bool:
    """Return whether a record of `within_patient` speaks for its cohort: more count than do not."""
    return bool(record["n_patients"] > len(record["left_out"]))


def not_counted(record: Mapping[str, Any]) -> str:
    """Say whom a record of `within_patient` does not count; "" where it counts all."""
    names = record["left_out"]
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"not counted: {', '.join(names[:_NAMED])}{more}, with fewer than {MIN_SLICES} slices "
        f"with or without {record['label']!r}"
    )
