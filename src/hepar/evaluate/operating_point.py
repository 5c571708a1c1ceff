"""A threshold for the label that must not be missed, what it gives, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate.intervals import MIN_PATIENTS, Undefined, resamples, wilson
from hepar.evaluate.predictions import Predictions

__all__ = [
    "OperatingPoint",
    "choose_operating_point",
    "decision_curve",
    "measure_operating_point",
    "operating_point_from_json",
    "predictive_values",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and on whom it was chosen.

    Attributes:
        label: that a patient is flagged for.
        threshold: a patient whose probability of the label is this or more is flagged.
        sensitivity: that was asked for.
        bound: "estimate", or "lower" where the interval's lower end reaches it.
        n_with: patients with the label that it was chosen on.
        n_without: the others.
    """

    label: str
    threshold: float
    sensitivity: float
    bound: str
    n_with: int
    n_without: int

    def to_json(self) -> dict[str, Any]:
        """Return what `operating_point_from_json` reads."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def operating_point_from_json(document: Mapping[str, Any]) -> OperatingPoint:
    """Return the operating point that `to_json` described.

    Raises:
        EvaluateError: the document is not one.
    """
    if set(document) != set(OperatingPoint.__dataclass_fields__):
        raise EvaluateError(f"operating point: expected one of hepar, got {sorted(document)}.")
    return OperatingPoint(**document)


def _rows(table: Predictions, label: str) -> tuple[Floats, Bools]:
    """Return the probability of a label, and who has it."""
    return table.probabilities[:, table.labels.index(label)], table.reference == label


def choose_operating_point(
    predictions: Predictions, sensitivity: float = 0.95, bound: str = "estimate"
) -> OperatingPoint | Undefined:
    """Choose the highest threshold that finds the stated share of patients with the last label.

    The last label is the most severe one. The threshold is one of the patients' own probabilities,
    so the highest that reaches the share leaves the most of the other patients in peace.

    Args:
        predictions: at patient level; the out-of-fold rows with a reference are used.
        sensitivity: to reach, above 0 and up to 1.
        bound: "estimate", or "lower" to reach it with the lower end of its 95 % Wilson interval.

    Returns:
        The operating point, or why there is none.
    """
    label = predictions.labels[-1]
    known = (predictions.partition == "train") & (predictions.reference != "")
    table = predictions.select(known)
    score, has = _rows(table, label)
    own = np.sort(score[has])[::-1]
    if not len(own) or has.all():
        return Undefined(f"all {table.unit}s or none are {label!r}")
    reached = [
        k / len(own) if bound == "estimate" else wilson(k, len(own))[0]
        for k in range(1, len(own) + 1)
    ]
    found = np.flatnonzero(np.asarray(reached) >= sensitivity - 1e-12)
    if not len(found):
        return Undefined(
            f"{len(own)} {table.unit}s with {label!r} cannot show a sensitivity of {sensitivity:g} "
            f"with the lower end of its interval: all of them found gives {reached[-1]:.2f}; it "
            f"takes {_patients_for(sensitivity)}"
        )
    threshold = float(own[found[0]])
    return OperatingPoint(label, threshold, sensitivity, bound, int(has.sum()), int((~has).sum()))


def _patients_for(sensitivity: float) -> str:
    """Return how many patients, all of them found, show a sensitivity by its lower end."""
    if sensitivity >= 1:
        return "more than any number"
    z2 = 1.959963984540054**2  # the lower end of n of n is n / (n + z2)
    return str(int(np.ceil(z2 * sensitivity / (1 - sensitivity))))


def measure_operating_point(
    predictions: Predictions, sensitivity: float, bound: str, level: float = 0.95
) -> list[dict[str, Any]]:
    """Measure an operating point on patients it was not chosen on.

    Out-of-fold patients are judged by the threshold that the other folds chose, test patients by
    the one that all out-of-fold patients chose.

    Returns:
        A record {partition, label, undefined, thresholds, sensitivity, specificity, ppv, npv} for
        the out-of-fold and, where there are some, for the test patients; each number is {value,
        low, high, k, n}, or None where nobody is counted.
    """
    labelled = predictions.select(predictions.reference != "")
    train = labelled.select(labelled.partition == "train")
    parts = {"out-of-fold": train, "test": labelled.select(labelled.partition == "test")}
    records = []
    for name, table in parts.items():
        if not len(table):
            continue
        flagged = np.zeros(len(table), np.bool_)
        thresholds: list[float] = []
        reason = ""
        for fold in np.unique(table.fold).tolist():
            point = choose_operating_point(train.select(train.fold != fold), sensitivity, bound)
            if isinstance(point, Undefined):
                reason = reason or point.reason
                continue
            rows = table.fold == fold
            flagged[rows] = _rows(table, point.label)[0][rows] >= point.threshold
            thresholds.append(point.threshold)
        record: dict[str, Any] = {
            "partition": name,
            "label": table.labels[-1],
            "undefined": reason or None,
        }
        if not reason:
            _, has = _rows(table, table.labels[-1])
            record |= {"thresholds": thresholds, **_four(flagged, has, level)}
        records.append(record)
    return records


def _four(flagged: Bools, has: Bools, level: float) -> dict[str, Any]:
    return {
        "sensitivity": _share(flagged[has], level),
        "specificity": _share(~flagged[~has], level),
        "ppv": _share(has[flagged], level),
        "npv": _share(~has[~flagged], level),
    }


def _share(hits: Bools, level: float) -> dict[str, Any] | None:
    if not len(hits):
        return None
    k, n = int(hits.sum()), len(hits)
    low, high = wilson(k, n, level)
    return {"value": k / n, "low": low, "high": high, "k": k, "n": n}


def predictive_values(
    sensitivity: Mapping[str, Any], specificity: Mapping[str, Any], prevalences: Sequence[float]
) -> list[dict[str, Any]]:
    """Return PPV and NPV at other prevalences than the cohort's.

    The limits take both lower, or both upper, limits of sensitivity and specificity together: they
    hold wherever both of these hold.

    Args:
        sensitivity: {value, low, high}.
        specificity: {value, low, high}.
        prevalences: between 0 and 1.

    Returns:
        A record {prevalence, ppv, npv} a prevalence, each {value, low, high}, or None where nobody
        would be flagged, or nobody spared.

    Source: Bayes; Altman and Bland 1994, BMJ 309:102.

    Example:
        >>> whole = [{"value": v, "low": v, "high": v} for v in (0.9, 0.8)]
        >>> round(predictive_values(*whole, [0.1])[0]["ppv"]["value"], 3)
        0.333
    """
    records = []
    for p in prevalences:
        ppv, npv = {}, {}
        for end in ("value", "low", "high"):
            se, sp = sensitivity[end], specificity[end]
            flagged, spared = p * se + (1 - p) * (1 - sp), p * (1 - se) + (1 - p) * sp
            ppv[end] = p * se / flagged if flagged else None
            npv[end] = (1 - p) * sp / spared if spared else None
        records.append(
            {
                "prevalence": p,
                "ppv": None if None in ppv.values() else ppv,
                "npv": None if None in npv.values() else npv,
            }
        )
    return records


def decision_curve(
    predictions: Predictions, thresholds: Sequence[float], config: EvaluateConfig
) -> dict[str, Any]:
    """Return the net benefit of acting on the model, on everybody and on nobody.

    Net benefit is true positives less false positives, the latter weighted by the odds of the
    threshold, a patient: what acting is worth to someone who would act at that probability.

    Args:
        predictions: rows of patients of one partition; rows without a reference are left out.
        thresholds: probabilities of the most severe label, between 0 and 1.
        config: resamples of patients, coverage and seed of the band.

    Returns:
        {label, n, thresholds, model, low, high, all}: net benefits at each threshold; `low` and
        `high` are None below 10 patients with or without the label.

    Source: Vickers and Elkin 2006, Med Decis Making 26:565.
    """
    table = predictions.select(predictions.reference != "")
    label = table.labels[-1]
    score, has = _rows(table, label)
    n, at = len(table), np.asarray(thresholds, np.float64)
    if not n or not ((at > 0) & (at < 1)).all():
        raise EvaluateError(
            f"decision curve: expected patients and thresholds between 0 and 1, got {n} patients "
            f"and thresholds {list(thresholds)[:3]}."
        )
    odds = at / (1 - at)
    flagged = score[:, np.newaxis] >= at  # (n, thresholds)
    worth = np.where(has[:, np.newaxis], 1.0, -odds) * flagged
    low = high = None
    if min(int(has.sum()), int((~has).sum())) >= MIN_PATIENTS:
        drawn = np.concatenate([draw @ worth / n for draw in resamples(n, config)])
        tail = (1 - config.level) / 2
        low, high = (np.quantile(drawn, q, axis=0).tolist() for q in (tail, 1 - tail))
    everybody = has.mean() - (1 - has.mean()) * odds
    return {
        "label": label,
        "n": n,
        "thresholds": at.tolist(),
        "model": worth.mean(axis=0).tolist(),
        "low": low,
        "high": high,
        "all": everybody.tolist(),
    }
