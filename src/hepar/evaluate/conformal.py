"""Sets of labels that hold the right one as often as promised, for every label."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.errors import EvaluateError
from hepar.evaluate.intervals import wilson
from hepar.evaluate.predictions import Predictions

__all__ = ["ConformalRule", "conformal_from_json", "fit_conformal", "measure_conformal"]

Floats = NDArray[np.float64]
METHODS = ("lac", "aps")


@dataclass(frozen=True, eq=False)
class ConformalRule:
    """Which labels a patient may have.

    A patient's set holds every label whose score is no worse than what all but a few of the
    calibration patients *with that label* had. Where a new patient is exchangeable with those, the
    set holds the label with at least the stated probability, whichever label it is.

    Attributes:
        method: "lac" (the label's own probability) or "aps" (the probability of all labels down to
            it, without randomisation, so sets are rather too large than too small).
        coverage: share of patients, of each label, whose set is to hold their label.
        labels: of the columns.
        thresholds: the worst score that is let in, by label.
        n: calibration patients, by label.
        reason: why there is no rule, "" where there is one.
    """

    method: str
    coverage: float
    labels: tuple[str, ...]
    thresholds: tuple[float, ...] = ()
    n: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""

    def sets(self, probabilities: Floats) -> NDArray[np.bool_]:
        """Return which labels each row may have, (n, k).

        Raises:
            EvaluateError: there is no rule.
        """
        if self.reason:
            raise EvaluateError(f"conformal: expected a rule, got none: {self.reason}.")
        limits = np.asarray(self.thresholds)
        return np.asarray(_scores(self.method, probabilities) <= limits, np.bool_)

    def answers(self, probabilities: Floats) -> list[tuple[tuple[str, ...], str]]:
        """Return each row's set, and why it is no answer: "" where it holds one label alone."""
        found = []
        for row in self.sets(probabilities):
            names = tuple(name for name, is_in in zip(self.labels, row, strict=True) if is_in)
            found.append((names, self._why_no_answer(names)))
        return found

    def _why_no_answer(self, names: tuple[str, ...]) -> str:
        if len(names) == 1:
            return ""
        at = f"at {100 * self.coverage:g} % coverage"
        if not names:
            return f"no label is likely enough {at}: unlike the training patients"
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        return f"{listed} are {'both' if len(names) == 2 else 'all'} possible {at}"

    def to_json(self) -> dict[str, Any]:
        """Return what `conformal_from_json` reads."""
        return {
            "method": self.method,
            "coverage": self.coverage,
            "labels": list(self.labels),
            "thresholds": list(self.thresholds),
            "n": dict(self.n),
            "reason": self.reason,
        }


def conformal_from_json(document: Mapping[str, Any]) -> ConformalRule:
    """Return the rule that `to_json` described.

    Raises:
        EvaluateError: the document is not one.
    """
    try:
        rule = ConformalRule(
            method=document["method"],
            coverage=float(document["coverage"]),
            labels=tuple(document["labels"]),
            thresholds=tuple(float(limit) for limit in document["thresholds"]),
            n=dict(document["n"]),
            reason=document["reason"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise EvaluateError(f"conformal rule: expected one of hepar, got {error}.") from error
    if not rule.reason and len(rule.thresholds) != len(rule.labels):
        raise EvaluateError("conformal rule: expected a threshold a label, got others.")
    return rule


def _scores(method: str, probabilities: Floats) -> Floats:
    """Return how little each label fits each row, (n, k): the higher, the less."""
    if method == "lac":
        return np.asarray(1.0 - probabilities)
    # Labels of the same probability share one score, whatever their order.
    larger = probabilities[:, np.newaxis, :] >= probabilities[:, :, np.newaxis]
    return np.asarray((larger * probabilities[:, np.newaxis, :]).sum(axis=2))


def least_patients(coverage: float) -> int:
    """Return how many patients of a label a coverage needs.

    Example:
        >>> [least_patients(c) for c in (0.8, 0.9, 0.95, 0.99)]
        [4, 9, 19, 99]
    """
    return math.ceil(round(coverage / (1 - coverage), 9))


def fit_conformal(
    predictions: Predictions, method: str = "lac", coverage: float = 0.9
) -> ConformalRule:
    """Learn a rule from left-out patients, label by label.

    The threshold of a label is the ceil((n + 1) coverage)-th smallest score of its n patients.
    The scores come from the models of the folds and the rule serves the model of all patients, as
    in cross-conformal prediction: exactly exchangeable they are not. The guarantee that can be
    proved is then 1 - 2 (1 - coverage); what is seen is near the coverage (Vovk 2015).

    Args:
        predictions: at patient level; the out-of-fold rows with a reference are used.
        method: "lac" or "aps".
        coverage: above 0 and below 1.

    Returns:
        The rule; one with a reason and no thresholds where a label has too few patients.

    Raises:
        EvaluateError: method or coverage make no sense.

    Source: Vovk, Gammerman, Shafer 2005 (Mondrian); Sadinle, Lei, Wasserman 2019 (LAC); Romano,
    Sesia, Candes 2020 (APS).
    """
    if method not in METHODS or not 0 < coverage < 1:
        raise EvaluateError(
            f"conformal: expected lac or aps with a coverage between 0 and 1, got {method!r} "
            f"with {coverage}."
        )
    known = (predictions.partition == "train") & (predictions.reference != "")
    scores = _scores(method, predictions.probabilities)
    own = {
        label: np.sort(scores[known & (predictions.reference == label), column])
        for column, label in enumerate(predictions.labels)
    }
    n = {label: len(values) for label, values in own.items()}
    fewest = min(n, key=lambda label: n[label])
    least = least_patients(coverage)
    if n[fewest] < least:
        unit = predictions.unit
        most = n[fewest] / (n[fewest] + 1)
        could = f"; up to {100 * most:.0f} % could be promised" if n[fewest] else ""
        reason = (
            f"{100 * coverage:g} % needs {least} {unit}s of each label, and {fewest!r} has "
            f"{n[fewest]}{could}"
        )
        return ConformalRule(method, coverage, predictions.labels, (), n, reason)
    limits = [
        float(values[math.ceil(round((len(values) + 1) * coverage, 9)) - 1])
        for values in own.values()
    ]
    return ConformalRule(method, coverage, predictions.labels, tuple(limits), n)


def measure_conformal(
    predictions: Predictions, method: str, coverage: float, level: float = 0.95
) -> list[dict[str, Any]]:
    """Measure what sets of patients hold, each fold's by the rule of the other folds.

    Args:
        predictions: at patient level, train rows with their folds; test rows by the final rule.
        method: "lac" or "aps".
        coverage: asked for.
        level: of the intervals.

    Returns:
        A record {partition, n, covered, set_size, answered, right, by_label, undefined} for the
        out-of-fold patients and, where there are some, for the test patients. `covered`,
        `answered` (sets of one label) and `right` (of those answered) are {value, low, high, k, n}
        or None where n is 0; `by_label` has `covered` of each label.
    """
    labelled = predictions.select(predictions.reference != "")
    train = labelled.select(labelled.partition == "train")
    parts = {"out-of-fold": train, "test": labelled.select(labelled.partition == "test")}
    records = []
    for name, table in parts.items():
        if not len(table):
            continue
        sets = np.zeros(table.probabilities.shape, np.bool_)
        reason = ""
        for fold in np.unique(table.fold).tolist():
            rule = fit_conformal(train.select(train.fold != fold), method, coverage)
            reason = reason or rule.reason
            if not reason:
                rows = table.fold == fold
                sets[rows] = rule.sets(table.probabilities[rows])
        record: dict[str, Any] = {"partition": name, "n": len(table), "undefined": reason or None}
        records.append({**record, **({} if reason else _measured(table, sets, level))})
    return records


def _measured(table: Predictions, sets: NDArray[np.bool_], level: float) -> dict[str, Any]:
    rows, codes = np.arange(len(table)), table.reference_index
    covered = sets[rows, codes]
    single = sets.sum(axis=1) == 1
    return {
        "covered": _share(covered, level),
        "by_label": {
            label: _share(covered[codes == code], level) for code, label in enumerate(table.labels)
        },
        "set_size": float(sets.sum(axis=1).mean()),
        "empty": int((~sets.any(axis=1)).sum()),
        "answered": _share(single, level),
        "right": _share(covered[single], level),
    }


def _share(hits: NDArray[np.bool_], level: float) -> dict[str, Any] | None:
    if not len(hits):
        return None
    k, n = int(hits.sum()), len(hits)
    low, high = wilson(k, n, level)
    return {"value": k / n, "low": low, "high": high, "k": k, "n": n}
