"""Whether what is tested is apart from what is learned from, and like what it stands for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hepar.audit.audit import Audit
from hepar.data import Manifest, Sample

__all__ = ["audit_partitions"]

_DATES = ("study_date", "acquisition_date", "scan_date", "exam_date", "date")
_LEAST_P = 0.01
"""Family-wise, over the label and all columns that are looked at."""

_MOST_VALUES = 12
_SPLITS = frozenset({"split", "fold", "partition", "set", "subset"})
"""Columns that say where a patient was put, and not who it is."""


def audit_partitions(
    manifest: Manifest, audit: Audit | None, places: Mapping[str, tuple[str, str]]
) -> list[dict[str, Any]]:
    """Return findings about a split: copies across it, time, and another mix of patients.

    Args:
        manifest: the cohort.
        audit: of the cohort; None where nothing was looked for.
        places: patient_id -> (partition "train" or "test", fold or "").

    Returns:
        Records as in `Audit.findings`.

    Source: Kapoor and Narayanan 2023, Patterns 4:100804 (L1.4, L3.1 and L3.3).
    """
    return [
        *_copies(manifest, audit, places),
        *_time(manifest, places),
        *_mix(manifest, places),
    ]


def _record(code: str, severity: str, message: str, n: int, samples: Any = ()) -> dict[str, Any]:
    return {
        "code": code,
        "severity": severity,
        "message": message,
        "n": n,
        "samples": [list(pair) for pair in samples],
    }


def _copies(
    manifest: Manifest, audit: Audit | None, places: Mapping[str, tuple[str, str]]
) -> list[dict[str, Any]]:
    whose = {sample.sample_id: sample.patient_id for sample in manifest.samples}
    across = []
    for link in audit.links if audit else ():
        ends = [places.get(whose.get(link[end], "")) for end in ("a", "b")]
        if link["kind"] in {"exact", "copy"} and None not in ends and ends[0] != ends[1]:
            across.append((link["a"], link["b"]))
    if not across:
        return []
    pairs = "1 pair" if len(across) == 1 else f"{len(across):,} pairs"
    message = (
        f"{pairs} of copies stand in two partitions or folds, such as {across[0][0]} and "
        f"{across[0][1]}: what is tested has been learned. Leave one of each out."
    )
    return [_record("copies-across-partitions", "leak", message, len(across), across[:20])]


def _patients(
    manifest: Manifest, places: Mapping[str, tuple[str, str]]
) -> dict[str, dict[str, list[Sample]]]:
    """Return partition -> patient_id -> samples."""
    found: dict[str, dict[str, list[Sample]]] = {"train": {}, "test": {}}
    for sample in manifest.samples:
        place = places.get(sample.patient_id)
        if place and place[0] in found:
            found[place[0]].setdefault(sample.patient_id, []).append(sample)
    return found


def _time(manifest: Manifest, places: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """Say where patients are tested who came before some that were learned from."""
    column = next((n for n in _DATES if any(n in s.extra for s in manifest.samples)), "")
    parts = _patients(manifest, places)
    if not column or not parts["test"]:
        return []
    days = {
        name: [d for own in part.values() for d in [min(_days(own, column), default="")] if d]
        for name, part in parts.items()
    }
    if not days["train"] or not days["test"]:
        return []
    latest = max(days["train"])
    early = sum(day < latest for day in days["test"])
    if not early:
        return []
    message = (
        f"{early} of {len(days['test'])} test patients came before the last training patient "
        f"({column} {latest}): the test says how the model does among patients of the same time, "
        "not on those to come. Split by date for that."
    )
    return [_record("test-not-later", "note", message, early)]


def _days(samples: Sequence[Sample], column: str) -> list[str]:
    """Return dates as sortable text, YYYYMMDD; what is no such date is left out."""
    texts = (sample.extra.get(column, "").replace("-", "").strip()[:8] for sample in samples)
    return [text for text in texts if len(text) == 8 and text.isdigit()]


def _mix(manifest: Manifest, places: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """Say what is spread otherwise among test patients than among training patients."""
    parts = _patients(manifest, places)
    if not parts["test"] or not parts["train"]:
        return []
    told: dict[str, dict[str, list[str]]] = {}
    for name, part in parts.items():
        for own in part.values():
            told.setdefault("label", {}).setdefault(name, []).append(manifest.patient_label(own))
            for column in {c for sample in own for c in sample.extra} - _SPLITS:
                values = {sample.extra.get(column, "") for sample in own}
                value = values.pop() if len(values) == 1 else ""
                told.setdefault(column, {}).setdefault(name, []).append(value)
    tested = {column: p for column, groups in told.items() if (p := _p_value(groups)) is not None}
    findings = []
    for column, p in sorted(tested.items(), key=lambda item: item[1]):
        if p * len(tested) >= _LEAST_P:
            break
        train, test = (Counter(told[column][name]) for name in ("train", "test"))
        more = {v: test[v] / test.total() - train[v] / train.total() for v in sorted(test | train)}
        value = max(more, key=lambda v: more[v])
        message = (
            f"{column}: {value or 'unknown'!r} is {test[value] / test.total():.0%} of the test "
            f"patients and {train[value] / train.total():.0%} of the training patients (p "
            f"{'< 0.001' if p < 0.001 else f'= {p:.3f}'}): the test is of other people than the "
            "model learned from. Draw both alike, or say whom the test stands for."
        )
        findings.append(_record("test-mix", "note", message, test.total()))
    return findings


def _p_value(groups: Mapping[str, list[str]]) -> float | None:
    """Return the p-value of a chi-squared test of independence; None where there is nothing."""
    from scipy.stats import chi2_contingency

    train, test = (Counter(groups.get(name, [])) for name in ("train", "test"))
    values = sorted(set(train) | set(test))
    if not 2 <= len(values) <= _MOST_VALUES or not train or not test:
        return None
    counts = np.array([[part[value] for value in values] for part in (train, test)])
    return float(chi2_contingency(counts).pvalue)
