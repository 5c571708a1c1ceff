"""Whether the numbers hold for everyone: by sex, scanner, phase, or the size of the lesion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate.intervals import Undefined, estimate
from hepar.evaluate.metrics import count_by_patient
from hepar.evaluate.predictions import Predictions, Text
from hepar.registry import nearest

__all__ = ["FEWEST", "measure_subgroups", "size_groups", "subgroup_warning"]

FEWEST = 20
"""Patients below which a subgroup's numbers are not estimated."""

_MOST_VALUES = 12
_QUANTILES = 3
_UNKNOWN = {"", "-", "?", "n/a", "na", "nan", "none", "null", "unknown"}
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
    if not 0 <= mm < np.inf:
        return ""
    return f"{_between(mm, SIZES_MM)} mm" if mm else "no lesion"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _between(value: float, edges: Sequence[float]) -> str:
    """Return between which edges a number lies; the lower one is part of it."""
    at = int(np.searchsorted(edges, value, side="right"))
    if at == 0:
        return f"< {edges[0]:.10g}"
    if at == len(edges):
        return f">= {edges[-1]:.10g}"
    return f"{edges[at - 1]:.10g} to {edges[at]:.10g}"


def _thirds(values: Sequence[float]) -> list[float]:
    """Return edges that part numbers into thirds, as far as equal ones allow; each is a value."""
    seen = np.asarray(values)
    shares = np.arange(1, _QUANTILES) / _QUANTILES
    edges = np.unique(np.quantile(seen, shares, method="higher"))
    edges = edges[edges > seen.min()]  # nobody is below the least
    return [float(edge) for edge in edges] or [float(seen[seen > seen.min()].min())]


def _grouped(values: Sequence[str], edges: Sequence[float]) -> Text | Undefined:
    """Return the group of each value: itself, or where a number lies between edges."""
    known = {value for value in values if value}
    if len(known) < 2:
        return Undefined("all have the same value" if known else "no value is known")
    if not edges and len(known) <= _MOST_VALUES:
        return np.array(values, dtype=np.str_)
    numbers = {value: _number(value) for value in known}
    names = sorted(value for value, number in numbers.items() if number is None)
    if names and edges:
        return Undefined(f"{names[0]!r} is no number, and the edges are")
    if names:
        return Undefined(f"{len(known)} different values: a name, not a group")
    seen = [numbers[value] or 0.0 for value in values if value]
    parts = edges or _thirds(seen)
    groups = [_between(numbers[value] or 0.0, parts) if value else "" for value in values]
    return np.array(groups, dtype=np.str_)


def measure_subgroups(
    predictions: Predictions,
    columns: Mapping[str, Mapping[str, str]],
    config: EvaluateConfig,
    edges: Mapping[str, Sequence[float]] | None = None,
) -> list[dict[str, Any]]:
    """Return how good the answers are in groups of patients, or why that cannot be said.

    Numbers of more than twelve values are cut into thirds. What differs between groups is found
    by looking at many of them: `subgroup_warning` says how many.

    Args:
        predictions: rows of one level and partition; those without a reference are left out.
        columns: name -> patient_id, or sample_id at slice level -> value as text; "", "nan", "NA"
            and the like, or absent, where unknown.
        config: resamples, coverage and seed of the intervals.
        edges: name of a column of numbers -> rising edges to cut it at.

    Returns:
        Records {column, group, n_patients, counts, balanced_accuracy, sensitivity, auroc,
        undefined}: `counts` of rows by label; the three numbers {value, low, high} or None, the
        last two of the most severe label; a column of which nothing can be said has one record
        without group.

    Raises:
        EvaluateError: edges do not rise, or are of no column.
    """
    edges = edges or {}
    _check_edges(edges, columns)
    table = predictions.select(predictions.reference != "")
    keys = table.patient_id if table.level == "patient" else table.sample_id
    records = []
    for column, values in columns.items():
        groups = _grouped([_known(values.get(str(key), "")) for key in keys], edges.get(column, ()))
        if isinstance(groups, Undefined):
            records.append(_record(column, None, table.select(np.arange(0)), groups.reason))
            continue
        for group in sorted(set(groups.tolist()), key=_order):
            own = table.select(groups == group)
            n = len(np.unique(own.patient_id))
            few = f"n < {FEWEST}: not estimated" if n < FEWEST else ""
            record = _record(column, group or "unknown", own, few)
            records.append(record if few else {**record, **_measured(own, config)})
    return records


def subgroup_warning(records: Sequence[Mapping[str, Any]], level: float = 0.95) -> str:
    """Return how far to trust differences between so many groups, "" where fewer than two.

    Example:
        >>> subgroup_warning([{"balanced_accuracy": None, "sensitivity": {}, "auroc": None}] * 2)
        '2 subgroups were measured: where none differs, about 0.1 of them ... not a finding.'
    """
    names = ("balanced_accuracy", "sensitivity", "auroc")
    n = sum(any(record[name] is not None for name in names) for record in records)
    if n < 2:
        return ""
    return (
        f"{n} subgroups were measured: where none differs, about {n * (1 - level):.1f} of them "
        f"stand out by chance at {100 * level:g} %. A difference is a question to ask of new "
        "patients, not a finding."
    )


def _known(value: str) -> str:
    """Return a value, "" where it is a word for unknown."""
    value = value.strip()
    return "" if value.lower() in _UNKNOWN else value


def _check_edges(edges: Mapping[str, Sequence[float]], columns: Mapping[str, Any]) -> None:
    for name, values in edges.items():
        if name not in columns:
            raise EvaluateError(
                f"subgroups: expected edges of {', '.join(columns)}, got {name!r}. "
                f"{nearest(name, columns)}".rstrip()
            )
        rises = np.isfinite(values).all() and (np.diff(values) > 0).all()
        if not len(values) or not rises:
            raise EvaluateError(
                f"subgroups: expected rising edges of {name!r}, got {list(values)}. "
                f"Lesions are cut at {list(SIZES_MM)} mm."
            )


def _order(group: str) -> tuple[bool, bool, float, str]:
    """Sort groups by the first number in them, below before above, the unknown last."""
    words = group.replace("<", " ").replace(">=", " ").split()
    number = next((n for n in map(_number, words) if n is not None), None)
    return not group, number is None, (number or 0.0) - group.startswith("<"), group


def _record(column: str, group: str | None, own: Predictions, reason: str) -> dict[str, Any]:
    return {
        "column": column,
        "group": group,
        "n_patients": len(np.unique(own.patient_id)),
        "counts": {label: int((own.reference == label).sum()) for label in own.labels},
        "balanced_accuracy": None,
        "sensitivity": None,
        "auroc": None,
        "undefined": reason or None,
    }


def _measured(own: Predictions, config: EvaluateConfig) -> dict[str, Any]:
    found = estimate(count_by_patient(own), own.level, config, grouped=own.unit != "image")
    last = len(own.labels) - 1
    wanted = {
        "balanced_accuracy": found["balanced_accuracy", None],
        "sensitivity": found["sensitivity", last],
        "auroc": found["auroc", last],
    }
    reasons = [e.reason for e in wanted.values() if isinstance(e, Undefined)]
    numbers = {
        name: None if isinstance(e, Undefined) else {"value": e.value, "low": e.low, "high": e.high}
        for name, e in wanted.items()
    }
    return {**numbers, "undefined": "; ".join(dict.fromkeys(reasons)) or None}
