"""The one number to show first, and the sentence that says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hepar.data import Unit
from hepar.errors import EvaluateError
from hepar.evaluate.metrics import METRICS
from hepar.evaluate.within import leads, not_counted
from hepar.provenance import read_artefact
from hepar.words import counted

__all__ = ["headline"]

_PREFERENCE = (
    ("balanced_accuracy", "patient", "test"),
    ("balanced_accuracy", "patient", "out-of-fold"),
    ("auroc", "within-patient", "test"),
    ("auroc", "within-patient", "out-of-fold"),
    ("auroc", "slice", "test"),
    ("auroc", "slice", "out-of-fold"),
    ("balanced_accuracy", "slice", "test"),
    ("balanced_accuracy", "slice", "out-of-fold"),
    ("accuracy", "slice", "test"),
    ("accuracy", "slice", "out-of-fold"),
)


def headline(path: Path) -> dict[str, Any]:
    """Return the one number to show first, with its interval and a sentence that says it.

    Balanced accuracy of patients comes first, of the test partition where there is one. Where it
    is undefined, as in a cohort whose patients all have one label, another stands in, and the
    sentence says why: the mean AUROC inside patients where most hold enough slices of several
    labels, else that of all slices.

    Args:
        path: `evaluation.json`.

    Returns:
        metric, level, partition, value, low, high, n_patients, n_samples, sentence.

    Raises:
        EvaluateError: no metric is defined.
    """
    document = read_artefact(path, "evaluation")
    records = {
        (r["metric"], r["level"], r["partition"]): r
        for r in document["metrics"]
        if r["label"] is None
    }
    inside = [r for r in document.get("within_patient", ()) if leads(r)]
    records |= {(r["metric"], r["level"], r["partition"]): r for r in inside}
    wanted = [records[key] for key in _PREFERENCE if key in records]
    at = next((i for i, record in enumerate(wanted) if record["value"] is not None), None)
    if at is None:
        raise EvaluateError(f"{path}: expected a metric that is defined, got none.")
    keys = ("metric", "level", "partition", "value", "low", "high", "n_patients", "n_samples")
    sentence = " ".join(
        [
            _sentence(wanted[at], document),
            *_pooled(wanted[at], document),
            *_why_not_better(wanted[:at], document["unit"]),
        ]
    )
    return {**{key: wanted[at][key] for key in keys}, "sentence": sentence}


def _what(record: Mapping[str, Any], unit: Unit) -> str:
    title = METRICS.get(record["metric"]).title
    if record["level"] == "within-patient":
        return f"{title} of slices inside a {unit}"
    units = f"{unit}s" if record["level"] == "patient" else "slices"
    return f"{title[0].upper()}{title[1:]} of {units}"


def _sentence(record: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    text = f"{_what(record, document['unit'])} {record['value']:.3f}"
    if record["low"] is not None:
        coverage = 100 * document["intervals"]["level"]
        text += f" ({coverage:g} % interval {record['low']:.3f} to {record['high']:.3f})"
    else:
        text += f" (no interval: {record['no_interval']})"
    on = ", the mean of" if record["level"] == "within-patient" else " on"
    if document["unit"] == "image":
        text += f" on {counted(record['n_samples'], 'image')}, in image-level folds"
        return f"{text}: not what a new patient would see."
    how = "held out for testing" if record["partition"] == "test" else "left out in turn"
    if record.get("left_out"):
        how += f" ({not_counted(record)})"
    if document["unit"] == "group":
        where = f"{text}{on} {counted(record['n_patients'], 'group')} of images {how}"
        return f"{where}: groups were inferred, because patient ids are unknown."
    return f"{text}{on} {counted(record['n_patients'], 'patient')} {how}."


def _pooled(record: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """Say beside the mean of patients' own AUROCs why that of all slices together differs."""
    if record["level"] != "within-patient":
        return []
    wanted = ("auroc", "slice", record["label"], record["partition"])
    (pooled,) = (
        r
        for r in document["metrics"]
        if (r["metric"], r["level"], r["label"], r["partition"]) == wanted
    )
    return [
        f"Over all slices together it is {pooled['value']:.3f}: that also compares slices of "
        f"different {document['unit']}s, whose scores lie at different heights."
    ]


def _why_not_better(undefined: Sequence[Mapping[str, Any]], unit: Unit) -> list[str]:
    """Say of each metric and level that would have come first why it could not, once."""
    found: dict[tuple[str, str], str] = {}
    for record in undefined:
        held = " held out for testing" if record["partition"] == "test" else ""
        text = f"{_what(record, unit)}{held} is undefined: {record['undefined']}."
        found.setdefault((record["metric"], record["level"]), text)
    return list(found.values())
