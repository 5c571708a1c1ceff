"""Whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate.calibration_error import (
    Key,
    distances,
    floors,
    n_bins,
    read_rows,
    score_groups,
)
from hepar.evaluate.evaluation import PARTITIONS
from hepar.evaluate.intervals import MIN_PATIENTS, Undefined, resamples, wilson
from hepar.evaluate.predictions import Predictions
from hepar.evaluate.recalibration import calibration_intercept, calibration_slope
from hepar.registry import nearest
from hepar.words import counted

__all__ = [
    "CALIBRATION_METRICS",
    "ReliabilityCurve",
    "measure_calibration",
    "reliability_curve",
]

Floats = NDArray[np.float64]
_CLIP = 1e-6
_NO_PATIENTS = "patients are unknown, and images of one patient are alike"

CALIBRATION_METRICS: Mapping[str, tuple[str, str]] = {
    "brier": ("Brier score", "mean squared distance from the truth, summed over labels; 0 to 2"),
    "log_loss": ("log loss", "how surprised a reader would be; 0 is best"),
    "ece": (
        "calibration error",
        "how far from how often right the answers are in how sure they are, in groups of equal "
        "size; never 0 in a finite cohort, so read it beside its floor",
    ),
    "classwise_ece": (
        "calibration error by label",
        "how far a label's probability is from how often it is the reference, in groups of equal "
        "size; read it beside its floor",
    ),
    "calibration_slope": (
        "calibration slope",
        "of the most severe label; 1 is right, below 1 the probabilities are too extreme",
    ),
    "calibration_intercept": (
        "calibration in the large",
        "log odds of the most severe label left over; 0 is right, above 0 it is said too seldom",
    ),
}
"""Name -> title, meaning."""


def measure_calibration(predictions: Predictions, config: EvaluateConfig) -> list[dict[str, Any]]:
    """Return how well calibrated predictions are, out-of-fold and test rows apart.

    - `brier`: squared distances summed over all labels (Brier's own form), mean over rows; with two
      labels twice what scikit-learn gives by default.
    - `log_loss`: undefined where a reference was given probability 0, because it is infinite.
    - `ece`: of the probability of the likeliest label against how often it is right, in groups of
      equal numbers of rows (`n_bins`; ties make fewer), which stay where they are in resamples.
    - `classwise_ece`: the same of each label's probability; label None is the mean over labels.
    - `calibration_slope`, `calibration_intercept`: logistic regression of the most severe label
      against the rest on its own log odds; the slope with a free shift, the intercept with slope 1
      (calibration in the large). Probabilities nearer than 1e-6 to 0 or 1 are taken for that.

    A calibration error is biased upwards in small samples: groups are off by chance, and only how
    far counts. `ece_floor` is its mean over references drawn from the probabilities themselves, so
    what perfect calibration would show here. Slices of a patient are drawn together, because they
    are alike. For the same reason a calibration error has no percentile interval: resamples add
    their own bias. It has the basic one, which takes that off, down to 0 where the value is within
    what perfect calibration shows. Simulated with 60 to 400 patients, so made 95 % intervals hold
    the error of a large cohort in 84 to 96 % of cohorts, percentiles in 0 to 92 %.

    All other intervals are percentiles over resamples of patients. All are widened, never shifted,
    to hold the value.

    Args:
        predictions: of one level, train rows out of fold; rows without a reference are left out.
        config: resamples, coverage and seed.

    Returns:
        Records {metric, level, label, partition, value, undefined, low, high, method, n_patients,
        n_samples, no_interval, ece_floor}, as in `evaluation.json`; `ece_floor` is None but for the
        calibration errors.

    Raises:
        EvaluateError: no row can be measured, or a train row has no fold.

    Source: Brier 1950; Naeini et al. 2015 (ECE); Kull et al. 2019 (class-wise); Cox 1958 and Van
    Calster et al. 2016, J Clin Epidemiol 74:167 (slope and calibration in the large).
    """
    records: list[dict[str, Any]] = []
    known = predictions.select(predictions.reference != "")
    for partition, name in PARTITIONS.items():
        part = known.select(known.partition == partition)
        if partition == "train" and (part.fold == "").any():
            raise EvaluateError(
                f"{str(part.sample_id[part.fold == ''][0])!r}: expected a train row predicted out "
                "of fold, got one without a fold. A model knows its own training patients."
            )
        if len(part):
            records += _measure(part, name, config)
    if not records:
        raise EvaluateError(
            "predictions: expected rows with a reference in the train or test partition, got none."
        )
    return records


def _measure(part: Predictions, partition: str, config: EvaluateConfig) -> list[dict[str, Any]]:
    rows = read_rows(part)
    draws: Iterator[Floats] = iter(())
    if part.unit != "image" and rows.n_patients >= MIN_PATIENTS:
        draws = resamples(rows.n_patients, config)
    weights = [np.ones((1, rows.n_patients)), *draws]
    counts = rows.by_patient(np.ones((len(part), 1)))[:, 0]
    found: dict[Key, Floats] = {}
    for key, each in distances(part, rows).items():
        sums = rows.by_patient(each)
        found[key] = np.concatenate([np.abs(w @ sums).sum(axis=1) / (w @ counts) for w in weights])
    reasons, severe = _why_undefined(part), part.labels[-1]
    log_odds = _log_odds(part.probabilities[:, -1])
    for name, model in (
        ("calibration_slope", calibration_slope),
        ("calibration_intercept", calibration_intercept),
    ):
        found[name, severe] = np.array([np.nan])
        if not reasons[name]:
            found[name, severe] = model(log_odds, rows.hit[:, -1], rows.owner, weights)
    chance = floors(part, rows, config.seed)
    return [
        {
            "metric": name,
            "level": part.level,
            "label": label,
            "partition": partition,
            **_numbers(
                values,
                chance.get((name, label)),
                (reasons.get(name, ""), _why_no_interval(part, label)),
                config.level,
            ),
            "n_patients": rows.n_patients,
            "n_samples": len(part),
        }
        for (name, label), values in found.items()
    ]


def _log_odds(probability: Floats) -> Floats:
    p = np.clip(probability, _CLIP, 1 - _CLIP)
    return np.asarray(np.log(p / (1 - p)))


def _why_undefined(part: Predictions) -> dict[str, str]:
    """Say of each metric why it cannot be computed, "" or nothing where it can."""
    label, score = part.labels[-1], part.probabilities[:, -1]
    has = part.reference == label
    reason = ""
    if has.all() or not has.any():
        reason = f"all {part.level}s or none are {label!r}"
    elif np.isin(score, (0.0, 1.0)).all():
        reason = f"all probabilities of {label!r} are 0 or 1, which have no log odds"
    flat = f"the probability of {label!r} is the same everywhere" if np.ptp(score) < 1e-9 else ""
    given = part.probabilities[np.arange(len(part)), part.reference_index]
    never = int((given == 0).sum())
    units = part.level if never == 1 else f"{part.level}s"
    return {
        "log_loss": f"{never} {units} had probability 0 of the reference" if never else "",
        "calibration_slope": reason or flat,
        "calibration_intercept": reason,
    }


def _why_no_interval(part: Predictions, label: str | None) -> str:
    """Say why a number of a label, or of all labels, has no interval; "" where it has."""
    if part.unit == "image":
        return _NO_PATIENTS
    patients = [part.patient_id]
    if label is not None:
        has = part.reference == label
        patients = [part.patient_id[has], part.patient_id[~has]]
    fewest = min(len(np.unique(ids)) for ids in patients)
    if fewest < MIN_PATIENTS:
        return f"rests on {counted(fewest, 'patient')}, and an interval here needs {MIN_PATIENTS}"
    return ""


def _numbers(
    values: Floats, chance: Floats | None, reasons: tuple[str, str], level: float
) -> dict[str, Any]:
    """Return value and interval of one record.

    Args:
        values: the estimate, then one of each resample; NaN where undefined.
        chance: calibration errors that perfect calibration would show; None for other numbers.
        reasons: why there is no value, and why there is no interval.
        level: of the interval.
    """
    value, drawn = float(values[0]), values[1:][~np.isnan(values[1:])]
    undefined, why_not = reasons
    if np.isinf(value):
        undefined = "labels are told apart without an error, so the slope is infinite"
    low = high = None
    if not undefined and not why_not:
        low, high, why_not = _interval(value, drawn, chance, level)
    how = "bootstrap" if chance is None else "bootstrap-basic"
    return {
        "value": None if undefined else value,
        "undefined": undefined or None,
        "low": low,
        "high": high,
        "method": "none" if low is None else how,
        "no_interval": None if undefined else why_not or None,
        "ece_floor": None if chance is None else float(chance.mean()),
    }


def _interval(
    value: float, drawn: Floats, chance: Floats | None, level: float
) -> tuple[float | None, float | None, str]:
    """Return both ends, or None and why."""
    tail = (1 - level) / 2
    low = float(np.quantile(drawn, tail, method="lower"))
    high = float(np.quantile(drawn, 1 - tail, method="higher"))
    if np.isinf(low) or np.isinf(high):
        return None, None, "in too many resamples the slope is infinite"
    if chance is not None:
        low, high = max(0.0, 2 * value - high), 2 * value - low
        low = 0.0 if value <= np.quantile(chance, level) else low
    low, high = min(low, value), max(high, value)
    if high - low <= 1e-12:
        return None, None, "every resample gives the same value"
    return low, high, ""


@dataclass(frozen=True)
class ReliabilityCurve:
    """How often a label is right where it is given a probability, by group of rows.

    Attributes:
        label: whose probability it is.
        given: mean probability of each group, rising.
        seen: share of the group whose reference is the label.
        low: lower end of Wilson's interval of `seen`; None where patients are unknown.
        high: upper end.
        n_samples: rows of each group.
        n_patients: patients of each group; a patient with several slices may be in several.
        no_interval: why there are no intervals, "" where there are.
    """

    label: str
    given: tuple[float, ...]
    seen: tuple[float, ...]
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None
    n_samples: tuple[int, ...]
    n_patients: tuple[int, ...]
    no_interval: str = ""


def reliability_curve(
    predictions: Predictions, label: str, bins: int | None = None, level: float = 0.95
) -> ReliabilityCurve | Undefined:
    """Return how often a label is right where it is given a probability, in groups of rows.

    Groups hold equal numbers of rows. Intervals are Wilson's with the number of patients of the
    group, because slices of one patient are alike.

    Args:
        predictions: of one partition and level; rows without a reference are left out.
        label: whose probability it is.
        bins: at most; ties make fewer; None for `n_bins` of the patients.
        level: of the intervals.

    Returns:
        The curve; Undefined with fewer than two groups.

    Raises:
        EvaluateError: no row has a reference, rows are of several partitions, or there is no such
            label.
    """
    if label not in predictions.labels:
        raise EvaluateError(
            f"reliability: expected one of {', '.join(predictions.labels)}, got {label!r}. "
            f"{nearest(label, predictions.labels)}".rstrip()
        )
    part = predictions.select(predictions.reference != "")
    partitions = np.unique(part.partition).tolist()
    if len(partitions) != 1:
        raise EvaluateError(
            "reliability: expected rows with a reference of one partition, got "
            f"{', '.join(partitions) or 'none'}. Select the rows of one."
        )
    score = part.probabilities[:, part.labels.index(label)]
    hit = part.reference == label
    group = score_groups(score, bins or n_bins(len(np.unique(part.patient_id))))
    each = [group == g for g in range(int(group.max()) + 1)]
    if len(each) < 2:
        return Undefined(f"the probability of {label!r} is the same everywhere")
    seen = [float(hit[own].mean()) for own in each]
    patients = [len(np.unique(part.patient_id[own])) for own in each]
    ends = [wilson(s * n, n, level) for s, n in zip(seen, patients, strict=True)]
    unknown = part.unit == "image"
    return ReliabilityCurve(
        label=label,
        given=tuple(float(score[own].mean()) for own in each),
        seen=tuple(seen),
        low=None if unknown else tuple(low for low, _ in ends),
        high=None if unknown else tuple(high for _, high in ends),
        n_samples=tuple(int(own.sum()) for own in each),
        n_patients=tuple(patients),
        no_interval=_NO_PATIENTS if unknown else "",
    )
