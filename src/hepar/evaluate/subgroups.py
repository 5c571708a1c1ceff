"""Whether the numbers hold for everyone: by sex, scanner, phase, or the size of the lesion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hepar.config import EvaluateConfig
from hepar.evaluate.intervals import Undefined, estimate
from hepar.evaluate.metrics import count_by_patient
from hepar.evaluate.predictions import Predictions, Text

__all__ = ["FEWEST", "measure_subgroups", "size_groups"]

FEWEST = 20
"""Patients below which a subgroup's numbers are not estimated."""

_MOST_VALUES = 12
_QUANTILES = 3
SIZES_MM = (10.0, 20.0, 50.0)
"""Where lesion diameters are divided; 10 and 20 mm are LI-RADS's."""


def size_groups(diameters: Mapping[str, float]) -> dict[str, str]:
    """Return "no lesion", "< 10 mm", ... for each patient's largest lesion in mm.

    Example:
        >>> size_groups({"a": 0.0, "b": 14.0, "c": 80.0})
        {'a': 'no lesion', 'b': '10 to 20 mm', 'c': '>= 50 mm'}
    """
    return {name: _size(mm) for name, mm in diameters.items()}


def _size(mm: float) -> str:
    if mm <= 0:
        return "no lesion"
    if mm < SIZES_MM[0]:
        return f"< {SIZES_MM[0]:g} mm"
    if mm >= SIZES_MM[-1]:
        return f">= {SIZES_MM[-1]:g} mm"
    at = int(np.searchsorted(SIZES_MM, mm, side="right"))
    return f"{SIZES_MM[at - 1]:g} to {SIZES_MM[at]:g} mm"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _grouped(values: Sequence[str]) -> Text | Undefined:
    """Return the group of each value: itself, or a third of the range where it is a number."""
    known = sorted({value for value in values if value})
    if len(known) < 2:
        return Undefined("all have the same value" if known else "no value is known")
    numbers = [_number(value) for value in values]
    if len(known) > _MOST_VALUES:
        if any(n is None for n, value in zip(numbers, values, strict=True) if value):
            return Undefined(f"{len(known)} different values: a name, not a group")
        seen = np.array([n for n in numbers if n is not None])
        edges = np.unique(np.quantile(seen, np.arange(1, _QUANTILES) / _QUANTILES))
        return np.array(["" if n is None else _third(n, edges) for n in numbers], dtype=np.str_)
    return np.array(values, dtype=np.str_)


def _third(value: float, edges: Any) -> str:
    at = int(np.searchsorted(edges, value, side="right"))
    if at == 0:
        return f"< {edges[0]:.4g}"
    if at == len(edges):
        return f">= {edges[-1]:.4g}"
    return f"{edges[at - 1]:.4g} to {edges[at]:.4g}"


def measure_subgroups(
    predictions: Predictions, columns: Mapping[str, Mapping[str, str]], config: EvaluateConfig
) -> list[dict[str, Any]]:
    """Return balanced accuracy and sensitivity of groups of patients, or why there is none.

    Numbers of more than twelve values are cut into thirds. What differs between groups is found
    by looking at many of them: one in twenty differs by chance.

    Args:
        predictions: at patient level, rows of one partition; those without a reference are left
            out.
        columns: name -> patient_id -> value as text, "" or absent where unknown.
        config: resamples, coverage and seed of the intervals.

    Returns:
        Records {column, group, n_patients, counts, balanced_accuracy, sensitivity, undefined}:
        `counts` by label; the two numbers {value, low, high} or None, `sensitivity` that of the
        most severe label; a column of which nothing can be said has one record without group.
    """
    table = predictions.select(predictions.reference != "")
    records = []
    for column, values in columns.items():
        groups = _grouped([values.get(str(name), "") for name in table.patient_id])
        if isinstance(groups, Undefined):
            records.append(_record(column, None, table.select(np.arange(0)), groups.reason))
            continue
        for group in sorted(set(groups.tolist()), key=_order):
            own = table.select(groups == group)
            few = f"n < {FEWEST}: not estimated" if len(own) < FEWEST else ""
            record = _record(column, group or "unknown", own, few)
            records.append(record if few else {**record, **_measured(own, config)})
    return records


def _order(group: str) -> tuple[bool, bool, float, str]:
    """Sort groups by the first number in them, below before above, the unknown last."""
    words = group.replace("<", " ").replace(">=", " ").split()
    number = next((n for n in map(_number, words) if n is not None), None)
    return not group, number is None, (number or 0.0) - group.startswith("<"), group


def _record(column: str, group: str | None, own: Predictions, reason: str) -> dict[str, Any]:
    return {
        "column": column,
        "group": group,
        "n_patients": len(own),
        "counts": {label: int((own.reference == label).sum()) for label in own.labels},
        "balanced_accuracy": None,
        "sensitivity": None,
        "undefined": reason or None,
    }


def _measured(own: Predictions, config: EvaluateConfig) -> dict[str, Any]:
    found = estimate(count_by_patient(own), "patient", config, grouped=own.unit != "image")
    wanted = {
        "balanced_accuracy": found["balanced_accuracy", None],
        "sensitivity": found["sensitivity", len(own.labels) - 1],
    }
    reasons = [e.reason for e in wanted.values() if isinstance(e, Undefined)]
    numbers = {
        name: None if isinstance(e, Undefined) else {"value": e.value, "low": e.low, "high": e.high}
        for name, e in wanted.items()
    }
    return {**numbers, "undefined": "; ".join(dict.fromkeys(reasons)) or None}
