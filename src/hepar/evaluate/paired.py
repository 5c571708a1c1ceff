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

__all__ = ["Difference", "compare_all", "delong", "holm", "mcnemar", "paired_bootstrap"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better one model is than another.

    Attributes:
        value: first minus second.
        low: lower end of its interval; None where the test gives none.
        high: upper end.
        p: two-sided.
    """

    value: float
    low: float | None
    high: float | None
    p: float


def _check(a: Predictions, b: Predictions) -> None:
    """Refuse two tables that are not of the same rows, by name."""
    first, second = set(a.sample_id.tolist()), set(b.sample_id.tolist())
    if a.level != b.level or first != second:
        odd = sorted(first ^ second)
        what = f"{odd[0]!r} in one alone" if odd else f"{a.level} and {b.level} level"
        raise EvaluateError(
            f"paired test: expected both models' predictions of the same rows, got {what}. "
            "Predict the same split with both."
        )


def _aligned(a: Predictions, b: Predictions) -> tuple[Predictions, Predictions]:
    _check(a, b)
    first = a.select(np.argsort(a.sample_id, kind="stable"))
    second = b.select(np.argsort(b.sample_id, kind="stable"))
    return first, second


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

    Rows must be independent: use it at patient level, and `paired_bootstrap` for slices.

    Args:
        a: predictions of the first model.
        b: of the second, for the same rows.
        label: what is told apart from the rest.
        level: coverage of the interval.

    Source: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837; by mid-ranks as in Sun and
    Xu 2014, IEEE Signal Process Lett 21:1389.
    """
    from scipy.special import ndtr, ndtri

    a, b = _aligned(a, b)
    column = a.labels.index(label)
    has = a.reference == label
    m, n = int(has.sum()), int((~has).sum())
    if min(m, n) < 2:
        return Undefined(f"{m} with reference {label!r} and {n} without; 2 of each are needed")
    parts = [
        _placements(t.probabilities[has, column], t.probabilities[~has, column]) for t in (a, b)
    ]
    up, down = (np.stack(rows) for rows in zip(*parts, strict=True))
    difference = float(up[0].mean() - up[1].mean())
    covariance = np.cov(up) / m + np.cov(down) / n
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if variance <= 1e-15:
        return (
            Difference(0.0, 0.0, 0.0, 1.0)
            if abs(difference) < 1e-12
            else Undefined("the difference does not vary between patients")
        )
    deviation = variance**0.5
    half = float(ndtri(0.5 + level / 2)) * deviation
    p = 2 * float(ndtr(-abs(difference) / deviation))
    return Difference(difference, difference - half, difference + half, p)


def mcnemar(a: Predictions, b: Predictions) -> Difference | Undefined:
    """Return the difference of two accuracies, with McNemar's exact test on the discordant rows.

    Source: McNemar 1947, Psychometrika 12:153; exact binomial form.
    """
    from scipy.stats import binomtest

    a, b = _aligned(a, b)
    if not len(a):
        return Undefined("no rows")
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
        side of 0 (at least 1 / (resamples + 1)).
    """
    a, b = _aligned(a, b)
    counts = count_by_patient(a), count_by_patient(b)
    own = METRICS.get(metric)
    if not a.patients_known:
        return Undefined("patients are unknown, and images of one patient are alike")
    fewest = counts[0].fewest_patients(own, None)
    if fewest < MIN_PATIENTS:
        return Undefined(f"rests on {fewest} patients, and a bootstrap needs {MIN_PATIENTS}")
    value = [float(values(own, c.tally())[-1]) for c in counts]
    if np.isnan(value).any():
        return Undefined(f"{own.title} is undefined for one of the two")
    drawn = [bootstrap(c, config)[metric][:, -1] for c in counts]
    differences = drawn[0] - drawn[1]
    differences = differences[~np.isnan(differences)]
    tail = (1 - config.level) / 2
    low, high = np.quantile(differences, [tail, 1 - tail]).tolist()
    share = min(float((differences <= 0).mean()), float((differences >= 0).mean()))
    p = min(1.0, max(2 * share, 1 / (len(differences) + 1)))
    return Difference(value[0] - value[1], low, high, p)


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

    The best is chosen on the patients that it is then tested on, so its lead, and the p-values of
    those behind it, flatter it. Holm's correction is within each kind of test.

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
    records: list[dict[str, Any]] = []
    others = [name for name in chosen if name != best]
    for test in ("delong", "mcnemar", "bootstrap") if level == "patient" else ("bootstrap",):
        family = [_test(test, name, best, chosen, config) for name in others]
        for record, p in zip(family, holm([r["p"] for r in family]), strict=True):
            records.append({**record, "p_holm": p})
    return {"best": best, "tests": records}


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
