"""A threshold for the label that must not be missed, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.data import Unit
from hepar.errors import EvaluateError
from hepar.evaluate.intervals import Undefined, wilson
from hepar.evaluate.left_out import check_one_row_each, judged, share, teachers
from hepar.evaluate.predictions import Predictions
from hepar.registry import nearest

__all__ = [
    "OperatingPoint",
    "choose_operating_point",
    "measure_operating_point",
    "operating_point_from_json",
    "predictive_values",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
TARGETS = ("sensitivity", "specificity")
BOUNDS = ("estimate", "lower")


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and on whom it was chosen.

    Attributes:
        label: that a patient is flagged for.
        threshold: a patient whose probability of the label is this or more is flagged.
        target: what was asked for: "sensitivity" or "specificity".
        value: of the target that was asked for.
        bound: "estimate", or "lower" where the interval's lower end reaches the value.
        n_with: patients with the label that it was chosen on.
        n_without: the others.
    """

    label: str
    threshold: float
    target: str
    value: float
    bound: str
    n_with: int
    n_without: int

    def to_json(self) -> dict[str, Any]:
        """Return what `operating_point_from_json` reads."""
        return asdict(self)


def operating_point_from_json(document: Mapping[str, Any]) -> OperatingPoint:
    """Return the operating point that `to_json` described.

    Raises:
        EvaluateError: the document is not one.
    """
    wanted = OperatingPoint.__dataclass_fields__
    if set(document) != set(wanted):
        raise EvaluateError(
            f"operating point: expected {', '.join(wanted)}, got {sorted(map(str, document))}."
        )
    kinds: dict[str, tuple[type, ...]] = {"str": (str,), "float": (int, float), "int": (int,)}
    for name, field in wanted.items():
        value = document[name]
        if not isinstance(value, kinds[str(field.type)]) or isinstance(value, bool):
            raise EvaluateError(f"operating point: expected {name} a {field.type}, got {value!r}.")
    point = OperatingPoint(**document)
    _check_target(point.target, point.value, point.bound)
    if not 0 <= point.threshold <= 1 or min(point.n_with, point.n_without) < 1:
        raise EvaluateError(
            f"operating point: expected a threshold in [0, 1] chosen on patients with and without "
            f"the label, got {point.threshold} on {point.n_with} and {point.n_without}."
        )
    return point


def _check_target(target: str, value: float, bound: str) -> None:
    for name, got, allowed in (("target", target, TARGETS), ("bound", bound, BOUNDS)):
        if got not in allowed:
            raise EvaluateError(
                f"operating point: expected {name} {' or '.join(allowed)}, got {got!r}. "
                f"{nearest(got, allowed)}".rstrip()
            )
    if not 0 < value <= 1:
        raise EvaluateError(
            f"operating point: expected a {target} above 0 and up to 1, got {value}. 0.95 is usual."
        )


def _rows(table: Predictions, label: str) -> tuple[Floats, Bools]:
    """Return the probability of a label, and who has it."""
    return table.probabilities[:, table.labels.index(label)], table.reference == label


def _label(predictions: Predictions, label: str) -> str:
    """Return the label asked for, the most severe one where none was."""
    if label and label not in predictions.labels:
        raise EvaluateError(
            f"operating point: expected one of {', '.join(predictions.labels)}, got {label!r}. "
            f"{nearest(label, predictions.labels)}".rstrip()
        )
    return label or predictions.labels[-1]


def choose_operating_point(
    predictions: Predictions,
    value: float = 0.95,
    bound: str = "estimate",
    *,
    target: str = "sensitivity",
    label: str = "",
) -> OperatingPoint | Undefined:
    """Choose the threshold that reaches a sensitivity, or specificity, and gives up least for it.

    For a sensitivity that is the highest threshold that reaches it, for a specificity the lowest.
    Thresholds are the patients' own probabilities, so patients of equal probability stay together.

    Args:
        predictions: at patient level; the out-of-fold rows with a reference are used.
        value: to reach, above 0 and up to 1.
        bound: "estimate", or "lower" to reach it with the lower end of its 95 % Wilson interval.
        target: "sensitivity" or "specificity".
        label: that patients are flagged for; the most severe one where empty.

    Returns:
        The operating point; or why there is none: no label to tell apart, too few patients, or the
        value is reached only by flagging all who lack the label, or none who have it.

    Raises:
        EvaluateError: an argument makes no sense, or a patient has several rows.
    """
    _check_target(target, value, bound)
    check_one_row_each(predictions, "operating point")
    label = _label(predictions, label)
    table = teachers(predictions)
    score, has = _rows(table, label)
    if has.all() or not has.any():
        return Undefined(f"all {table.unit}s or none are {label!r}")
    n_with, n_without = int(has.sum()), int((~has).sum())
    n = n_with if target == "sensitivity" else n_without
    k = _fewest_right(n, value, bound)
    if k is None:
        whom = f"with {label!r}" if target == "sensitivity" else f"without {label!r}"
        return Undefined(
            f"{n} {table.unit}s {whom} cannot show a {target} of {value:g} with the lower end of "
            f"its interval: all of them right gives {wilson(n, n)[0]:.2f}; it takes "
            f"{_patients_for(value)}"
        )
    if target == "sensitivity":
        threshold = float(np.sort(score[has])[n - k])
        if (score[~has] >= threshold).all():
            return Undefined(f"a sensitivity of {value:g} takes flagging all without {label!r}")
    else:
        last_spared = np.sort(score[~has])[k - 1]
        threshold = float(np.min(score[score > last_spared], initial=np.inf))
        if not (score[has] >= threshold).any():
            return Undefined(f"a specificity of {value:g} takes flagging none with {label!r}")
    return OperatingPoint(label, threshold, target, value, bound, n_with, n_without)


def _fewest_right(n: int, value: float, bound: str) -> int | None:
    """Return how many of n patients must be right to reach a value, None where all are too few."""
    reached = (k / n if bound == "estimate" else wilson(k, n)[0] for k in range(1, n + 1))
    return next((k for k, share in enumerate(reached, 1) if share >= value - 1e-12), None)


def _patients_for(value: float) -> str:
    """Return how many patients, all of them right, show a value by its lower end."""
    if value >= 1:
        return "more than any number"
    z2 = 1.959963984540054**2  # the lower end of n of n is n / (n + z2)
    return str(int(np.ceil(z2 * value / (1 - value))))


def measure_operating_point(
    predictions: Predictions,
    value: float,
    bound: str = "estimate",
    level: float = 0.95,
    *,
    target: str = "sensitivity",
    label: str = "",
) -> list[dict[str, Any]]:
    """Measure an operating point on patients it was not chosen on.

    Out-of-fold patients are judged by the threshold that the other folds chose, test patients by
    the one that all out-of-fold patients chose.

    Args:
        predictions: at patient level, train rows with their folds.
        value: of the target, as in `choose_operating_point`.
        bound: "estimate" or "lower".
        level: of the intervals.
        target: "sensitivity" or "specificity".
        label: that patients are flagged for; the most severe one where empty.

    Returns:
        A record {partition, label, undefined, thresholds, sensitivity, specificity, ppv, npv} for
        the out-of-fold and, where there are some, for the test patients; each number is {value,
        low, high, k, n}, or None where nobody is counted.
    """
    check_one_row_each(predictions, "operating point")
    label = _label(predictions, label)
    records = []
    for name, table, rounds in judged(predictions):
        score, has = _rows(table, label)
        flagged = np.zeros(len(table), np.bool_)
        thresholds: list[float] = []
        reason = ""
        for turn in rounds:
            point = choose_operating_point(turn.teachers, value, bound, target=target, label=label)
            if isinstance(point, Undefined):
                reason = reason or turn.where + point.reason
                continue
            flagged[turn.rows] = score[turn.rows] >= point.threshold
            thresholds.append(point.threshold)
        record: dict[str, Any] = {"partition": name, "label": label, "undefined": reason or None}
        if not reason:
            record |= {"thresholds": thresholds, **_four(flagged, has, table.unit, level)}
        records.append(record)
    return records


def _four(flagged: Bools, has: Bools, unit: Unit, level: float) -> dict[str, Any]:
    return {
        "sensitivity": share(flagged[has], unit, level),
        "specificity": share(~flagged[~has], unit, level),
        "ppv": share(has[flagged], unit, level),
        "npv": share(~has[~flagged], unit, level),
    }


def predictive_values(
    sensitivity: Mapping[str, Any], specificity: Mapping[str, Any], prevalences: Sequence[float]
) -> list[dict[str, Any]]:
    """Return PPV and NPV at other prevalences than the cohort's.

    Both values rise with sensitivity and with specificity. Their limits take both lower, or both
    upper, limits together. Simulated with 20 to 300 patients with and without the label, 95 %
    limits made so hold the true value in 94 to 98 % of cohorts.

    Args:
        sensitivity: {value, low, high}; low and high may be None.
        specificity: {value, low, high}.
        prevalences: between 0 and 1.

    Returns:
        A record {prevalence, ppv, npv} a prevalence, each {value, low, high}, or None where nobody
        would be flagged, or nobody spared.

    Raises:
        EvaluateError: a prevalence is not between 0 and 1.

    Source: Bayes; Altman and Bland 1994, BMJ 309:102.

    Example:
        >>> whole = [{"value": v, "low": v, "high": v} for v in (0.9, 0.8)]
        >>> round(predictive_values(*whole, [0.1])[0]["ppv"]["value"], 3)
        0.333
    """
    records = []
    for p in prevalences:
        if not 0 <= p <= 1:
            raise EvaluateError(
                f"predictive values: expected prevalences between 0 and 1, got {p}. 10 % is 0.1."
            )
        ends = {
            end: _bayes(sensitivity[end], specificity[end], p) for end in ("value", "low", "high")
        }
        record: dict[str, Any] = {"prevalence": p}
        for at, name in enumerate(("ppv", "npv")):
            one = {end: both[at] for end, both in ends.items()}
            record[name] = None if one["value"] is None else one
        records.append(record)
    return records


def _bayes(
    sensitivity: float | None, specificity: float | None, p: float
) -> tuple[float | None, float | None]:
    """Return PPV and NPV at prevalence p, None where they are undefined."""
    if sensitivity is None or specificity is None:
        return None, None
    found, spared = p * sensitivity, (1 - p) * specificity
    flagged, left = found + (1 - p) * (1 - specificity), spared + p * (1 - sensitivity)
    return found / flagged if flagged > 0 else None, spared / left if left > 0 else None
