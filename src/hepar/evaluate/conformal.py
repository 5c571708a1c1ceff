"""Sets of labels that hold the right one as often as promised, for every label."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.errors import EvaluateError
from hepar.evaluate.left_out import check_one_row_each, judged, share, teachers
from hepar.evaluate.predictions import Predictions
from hepar.words import counted

__all__ = [
    "ConformalRule",
    "conformal_from_json",
    "fit_conformal",
    "measure_conformal",
]

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

    @property
    def is_defined(self) -> bool:
        """Whether there is a rule; `reason` says why not."""
        return not self.reason

    def sets(self, probabilities: Floats) -> NDArray[np.bool_]:
        """Return which labels each row may have, (n, k).

        Args:
            probabilities: (n, k), of the labels in their order.

        Raises:
            EvaluateError: there is no rule, or a row is not of k probabilities.
        """
        if self.reason:
            raise EvaluateError(f"conformal: expected a rule, got none: {self.reason}.")
        p = np.asarray(probabilities, np.float64)
        k = len(self.labels)
        if p.ndim != 2 or p.shape[1] != k:
            raise EvaluateError(
                f"conformal: expected {k} probabilities a row, got shape {p.shape}. Give one for "
                f"each of {', '.join(self.labels)}."
            )
        bad = ~((p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1) < 1e-3))
        if bad.any():
            raise EvaluateError(
                f"conformal: expected probabilities that sum to 1, got {p[bad][0].tolist()}. "
                "Apply softmax to raw scores."
            )
        limits = np.asarray(self.thresholds)
        return np.asarray(misfits(self.method, p) <= limits, np.bool_)

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
    texts = (rule.reason, *rule.labels)
    if rule.to_json() != dict(document) or not all(isinstance(text, str) for text in texts):
        raise EvaluateError(
            "conformal rule: expected the keys and kinds of values that hepar writes, got others "
            f"among {', '.join(sorted(map(str, document)))}."
        )
    check_method(rule.method, rule.coverage)
    wanted = 0 if rule.reason else len(rule.labels)
    limits = np.asarray(rule.thresholds)
    if len(limits) != wanted or not ((limits >= 0) & (limits <= 1)).all():
        raise EvaluateError(
            f"conformal rule: expected {wanted} thresholds in [0, 1], got {limits.tolist()}."
        )
    if len(set(rule.labels)) < 2 or set(rule.n) != set(rule.labels):
        raise EvaluateError(
            f"conformal rule: expected labels and a count of each, got {list(rule.labels)} and "
            f"{rule.n}."
        )
    return rule


def check_method(method: str, coverage: float) -> None:
    if method not in METHODS or not 0 < coverage < 1:
        raise EvaluateError(
            f"conformal: expected lac or aps with a coverage between 0 and 1, got {method!r} "
            f"with {coverage}."
        )


def misfits(method: str, probabilities: Floats) -> Floats:
    """Return how little each label fits each row, (n, k): the higher, the less.

    Sums are rounded far below what matters: else the last bit of a row's sum, 1 but for rounding,
    would say whether its least likely label is let in.
    """
    if method == "lac":
        return np.asarray(1.0 - probabilities)
    p = np.round(probabilities / probabilities.sum(axis=1, keepdims=True), 12)
    # Labels of the same probability share one score, whatever their order.
    larger = p[:, np.newaxis, :] >= p[:, :, np.newaxis]
    return np.asarray(np.round((larger * p[:, np.newaxis, :]).sum(axis=2), 9))


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

    Two things are assumed. New patients with a label are like those of the cohort (exchangeable):
    another scanner, or other stages of disease, void the promise. And the model of all patients
    scores a new patient as the models of the folds scored those they left out. Were the models of
    the folds used for new patients too, 1 - 2 (1 - coverage) would be proved (cross-conformal and
    CV+); for one model of all patients nothing is. Simulated (logistic regression, 60 and 150
    patients, three labels, five folds, 5 and 40 features), new patients were covered in 90 to 96 %
    at 90 %, label by label. `measure_conformal`, on test patients above all, has the last word.

    Args:
        predictions: at patient level; the out-of-fold rows with a reference are used. Where the
            unit is "image" the promise is about images such as these, not about new patients.
        method: "lac" or "aps".
        coverage: above 0 and below 1.

    Returns:
        The rule; one with a reason and no thresholds where a label has too few patients.

    Raises:
        EvaluateError: method or coverage make no sense, or a patient has several rows.

    Source: Vovk, Gammerman, Shafer 2005 (Mondrian); Sadinle, Lei, Wasserman 2019 (LAC); Romano,
    Sesia, Candes 2020 (APS); Vovk 2015 (cross-conformal); Barber, Candes, Ramdas, Tibshirani 2021,
    Ann Stat 49:486 (CV+, and why one model alone has no guarantee).
    """
    check_method(method, coverage)
    check_one_row_each(predictions, "conformal")
    own = own_misfits(method, teachers(predictions))
    n = {label: len(values) for label, values in own.items()}
    reason = _why_too_few(n, coverage, predictions.unit)
    if reason:
        return ConformalRule(method, coverage, predictions.labels, (), n, reason)
    limits = [
        float(values[math.ceil(round((len(values) + 1) * coverage, 9)) - 1])
        for values in own.values()
    ]
    return ConformalRule(method, coverage, predictions.labels, tuple(limits), n)


def own_misfits(method: str, table: Predictions) -> dict[str, Floats]:
    """Return how little its own label fits each patient, sorted, by label."""
    scores = misfits(method, table.probabilities)
    return {
        label: np.sort(scores[table.reference == label, column])
        for column, label in enumerate(table.labels)
    }


def _why_too_few(n: Mapping[str, int], coverage: float, unit: str) -> str:
    """Say which label has too few patients for a coverage, "" where none has."""
    fewest, least = min(n, key=lambda label: n[label]), least_patients(coverage)
    if n[fewest] >= least:
        return ""
    # Rounded down: 18 of 19 is less than 95 %.
    most = math.floor(round(100 * n[fewest] / (n[fewest] + 1), 9))
    could = f"; up to {most} % could be promised" if most else ""
    return (
        f"{100 * coverage:g} % needs {counted(least, unit)} of each label, and {fewest!r} has "
        f"{n[fewest]}{could}"
    )


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
    check_one_row_each(predictions, "conformal")
    records = []
    for name, table, rounds in judged(predictions):
        sets = np.zeros(table.probabilities.shape, np.bool_)
        reason = ""
        for turn in rounds:
            rule = fit_conformal(turn.teachers, method, coverage)
            if rule.is_defined:
                sets[turn.rows] = rule.sets(table.probabilities[turn.rows])
            else:
                reason = reason or turn.where + rule.reason
        record: dict[str, Any] = {"partition": name, "n": len(table), "undefined": reason or None}
        records.append({**record, **({} if reason else _measured(table, sets, level))})
    return records


def _measured(table: Predictions, sets: NDArray[np.bool_], level: float) -> dict[str, Any]:
    rows, codes, unit = np.arange(len(table)), table.reference_index, table.unit
    covered = sets[rows, codes]
    single = sets.sum(axis=1) == 1
    return {
        "covered": share(covered, unit, level),
        "by_label": {
            label: share(covered[codes == code], unit, level)
            for code, label in enumerate(table.labels)
        },
        "set_size": float(sets.sum(axis=1).mean()),
        "empty": int((~sets.any(axis=1)).sum()),
        "answered": share(single, unit, level),
        "right": share(covered[single], unit, level),
    }
