"""Is one model better than another on the same patients: tests that a reviewer accepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate.intervals import MIN_PATIENTS, Undefined, bootstrap
from hepar.evaluate.metrics import METRICS, count_by_patient, values
from hepar.evaluate.predictions import Predictions
from hepar.registry import nearest
from hepar.words import counted

__all__ = ["Difference", "compare_all", "delong", "holm", "mcnemar", "paired_bootstrap"]

Floats = NDArray[np.float64]
_UNKNOWN = "patients are unknown, and images of one patient are alike"


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better one model is than another.

    Attributes:
        value: first minus second.
        low: lower end of its interval; None where the test gives none, or one of no width.
        high: upper end.
        p: two-sided.
    """

    value: float
    low: float | None
    high: float | None
    p: float


def _aligned(a: Predictions, b: Predictions) -> tuple[Predictions, Predictions]:
    """Return both tables sorted by sample; refuse two that are not of the same rows, by name."""
    wish = "paired test: expected both models' predictions of the same labelled rows, got"
    mend = "Predict the same split with both."
    for name in ("level", "labels", "unit"):
        ours, theirs = getattr(a, name), getattr(b, name)
        if ours != theirs:
            raise EvaluateError(f"{wish} {name} {ours} and {theirs}. {mend}")
    odd = np.setxor1d(a.sample_id, b.sample_id).tolist()
    if odd:
        raise EvaluateError(f"{wish} {odd[0]!r} in one alone. {mend}")
    first, second = (t.select(np.argsort(t.sample_id, kind="stable")) for t in (a, b))
    for name in ("patient_id", "reference"):
        ours, theirs = getattr(first, name), getattr(second, name)
        at = np.flatnonzero((ours != theirs) | (ours == ""))
        if len(at):
            got = f"{name} {str(ours[at[0]])!r} and {str(theirs[at[0]])!r}"
            raise EvaluateError(f"{wish} {got} at {str(first.sample_id[at[0]])!r}. {mend}")
    return first, second


def _why_not(a: Predictions, test: str) -> str:
    """Say why a test of independent rows cannot be made, "" where it can."""
    if not len(a):
        return "no patients"
    if a.unit == "image":
        return _UNKNOWN
    if a.level != "patient":
        return f"slices of one patient are alike, and {test} takes rows to be independent"
    return ""


def _placements(positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """Return each positive's share of negatives below it, and each negative's of positives above.

    Ties count one half; by mid-ranks.
    """
    from scipy.stats import rankdata

    together = rankdata(np.concatenate([positive, negative]))
    m, n = len(positive), len(negative)
    up = (together[:m] - rankdata(positive)) / n
    down = 1 - (together[m:] - rankdata(negative)) / m
    return up, down


def delong(
    a: Predictions, b: Predictions, label: str, level: float = 0.95
) -> Difference | Undefined:
    """Return the difference of two correlated AUROCs of a label against the rest.

    It is of patients; slices have `paired_bootstrap`. Its normal approximation needs patients:
    simulated, two like models differ at p < 0.05 in up to 13 % of cohorts with 3 patients of a
    label, in 9 % with 10 of each and 6 % with 30 of each, so fewer than `MIN_PATIENTS` have none.

    Args:
        a: predictions of the first model.
        b: of the second, for the same rows.
        label: what is told apart from the rest.
        level: coverage of the interval.

    Returns:
        The difference in [-1, 1]; without interval, at p = 1, where both order all pairs alike.

    Raises:
        EvaluateError: the tables are not of the same rows, or do not know the label.

    Source: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837; by mid-ranks as in Sun and
    Xu 2014, IEEE Signal Process Lett 21:1389.
    """
    from scipy.special import ndtr, ndtri

    a, b = _aligned(a, b)
    if label not in a.labels:
        hint = nearest(label, a.labels) or "Choose one of them."
        raise EvaluateError(f"delong: expected a label of {list(a.labels)}, got {label!r}. {hint}")
    if why := _why_not(a, "DeLong's test"):
        return Undefined(why)
    column = a.labels.index(label)
    has = a.reference == label
    m, n = int(has.sum()), int((~has).sum())
    if min(m, n) < MIN_PATIENTS:
        return Undefined(
            f"rests on {counted(min(m, n), 'patient')}, and DeLong's test needs {MIN_PATIENTS}"
        )
    parts = [
        _placements(t.probabilities[has, column], t.probabilities[~has, column]) for t in (a, b)
    ]
    up, down = (np.stack(rows) for rows in zip(*parts, strict=True))
    difference = float(up[0].mean() - up[1].mean())
    covariance = np.cov(up) / m + np.cov(down) / n
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if variance <= 1e-15:
        return (
            Difference(0.0, None, None, 1.0)
            if abs(difference) < 1e-12
            else Undefined("the difference does not vary between patients")
        )
    deviation = variance**0.5
    half = float(ndtri(0.5 + level / 2)) * deviation
    p = 2 * float(ndtr(-abs(difference) / deviation))
    return Difference(difference, difference - half, difference + half, p)


def mcnemar(a: Predictions, b: Predictions) -> Difference | Undefined:
    """Return the difference of two accuracies, with McNemar's exact test on the discordant.

    Source: McNemar 1947, Psychometrika 12:153; exact binomial form.
    """
    from scipy.stats import binomtest

    a, b = _aligned(a, b)
    if why := _why_not(a, "McNemar's test"):
        return Undefined(why)
    first, second = a.predicted == a.reference, b.predicted == b.reference
    only_a, only_b = int((first & ~second).sum()), int((second & ~first).sum())
    p = 1.0 if only_a + only_b == 0 else float(binomtest(only_a, only_a + only_b).pvalue)
    return Difference((only_a - only_b) / len(a), None, None, p)


def paired_bootstrap(
    a: Predictions, b: Predictions, metric: str, config: EvaluateConfig
) -> Difference | Undefined:
    """Return the difference of a metric, patients drawn once for both models.

    Args:
        a: predictions of the first model, at either level.
        b: of the second, for the same rows.
        metric: a name in METRICS; of its macro mean where it is per label.
        config: resamples, coverage and seed.

    Returns:
        The difference, its percentile interval, and twice the smaller share of resamples on either
        side of 0, the observed cohort counted among them: at least 2 / (resamples + 1).

    Source: Davison and Hinkley 1997, Bootstrap Methods and their Application, section 4.2.
    """
    a, b = _aligned(a, b)
    counts = count_by_patient(a), count_by_patient(b)
    own = METRICS.get(metric)
    if a.unit == "image":
        return Undefined(_UNKNOWN)
    fewest = min(c.fewest_patients(own, None) for c in counts)
    if fewest < MIN_PATIENTS:
        return Undefined(
            f"rests on {counted(fewest, 'patient')}, and a bootstrap needs {MIN_PATIENTS}"
        )
    value = [float(values(own, c.tally())[-1]) for c in counts]
    difference = value[0] - value[1]
    drawn = [bootstrap(c, config)[metric][:, -1] for c in counts]  # one seed: the same patients
    differences = drawn[0] - drawn[1]
    differences = differences[~np.isnan(differences)]
    tail = (1 - config.level) / 2
    low, high = np.quantile(differences, [tail, 1 - tail]).tolist()
    aside = min(int((differences <= 1e-12).sum()), int((differences >= -1e-12).sum()))
    p = min(1.0, 2 * (aside + 1) / (len(differences) + 1))
    if high - low < 1e-12:
        return Difference(difference, None, None, p)
    return Difference(difference, min(low, difference), max(high, difference), p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for their number, step-down; None stays None.

    Source: Holm 1979, Scand J Stat 6:65.

    Example:
        >>> holm([0.01, 0.04, None, 0.03])
        [0.03, 0.06, None, 0.06]
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[i] = largest
    return adjusted


Tables = Mapping[str, tuple[Predictions, Predictions]]


def _value(table: Predictions, metric: str) -> float:
    value = float(values(METRICS.get(metric), count_by_patient(table).tally())[-1])
    return -1.0 if np.isnan(value) else value


def compare_all(
    tables: Tables, config: EvaluateConfig, level: str = "patient", partition: str = "out-of-fold"
) -> dict[str, Any]:
    """Choose the best model and test every other against it.

    Holm's correction is over all tests of the answer, because a reader takes a model for worse
    where any of them says so. The best is chosen on the patients that it is then tested on, so its
    lead, and the p-values of those behind it, flatter it: of 200 simulated cohorts of 100 patients
    with six models alike, 13 had one worse than the best at p < 0.05 after correction.

    Args:
        tables: name -> predictions per slice and per patient of the same cohort and split.
        config: resamples, coverage, seed.
        level: "patient", or "slice" where no patient-level metric is defined.
        partition: "out-of-fold" or "test".

    Returns:
        `best`, a name; `tests`, records {model, against, test, metric, difference, low, high, p,
        p_holm, undefined}.
    """
    wanted = {"out-of-fold": "train", "test": "test"}[partition]
    chosen = {}
    for name, (slices, patients) in tables.items():
        table = patients if level == "patient" else slices
        chosen[name] = table.select((table.partition == wanted) & (table.reference != ""))
    order = ("balanced_accuracy", "auroc")
    best = max(chosen, key=lambda name: [_value(chosen[name], metric) for metric in order])
    others = [name for name in chosen if name != best]
    kinds = ("delong", "mcnemar", "bootstrap") if level == "patient" else ("bootstrap",)
    found = [_test(kind, name, best, chosen, config) for kind in kinds for name in others]
    adjusted = holm([record["p"] for record in found])
    tests = [{**record, "p_holm": p} for record, p in zip(found, adjusted, strict=True)]
    return {"best": best, "tests": tests}


def _test(
    test: str,
    name: str,
    best: str,
    chosen: Mapping[str, Predictions],
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Return one record, of a model against the best."""
    a, b = chosen[name], chosen[best]
    found: Difference | Undefined
    if test == "delong":
        metric, found = "auroc", delong(a, b, a.labels[-1], config.level)
    elif test == "mcnemar":
        metric, found = "accuracy", mcnemar(a, b)
    else:
        metric, found = "balanced_accuracy", paired_bootstrap(a, b, "balanced_accuracy", config)
    record = {"model": name, "against": best, "test": test, "metric": metric}
    if isinstance(found, Undefined):
        empty = dict.fromkeys(("difference", "low", "high", "p"))
        return {**record, **empty, "undefined": found.reason}
    return {
        **record,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "undefined": None,
    }
