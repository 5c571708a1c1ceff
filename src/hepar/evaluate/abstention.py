"""What leaving out the least sure answers buys."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate.conformal import check_method, misfits, own_misfits
from hepar.evaluate.intervals import MIN_PATIENTS, Undefined, resamples
from hepar.evaluate.left_out import check_one_row_each, teachers, turns
from hepar.evaluate.predictions import Predictions
from hepar.words import counted

__all__ = ["conformal_sureness", "risk_coverage"]

Floats = NDArray[np.float64]
_POINTS = 200
"""Points that a curve is given at, at most."""


def conformal_sureness(predictions: Predictions, method: str = "lac") -> Floats:
    """Return how sure each row is by conformal sets: the coverage up to which they name one label.

    A row's p-value of a label is the share of the patients with that label, itself among them,
    that the label fits no better; a set of coverage c holds the labels of p-value above 1 - c. The
    second largest p-value says from which coverage on a second label is possible. Rows are judged
    by the patients of other folds, test rows and new ones by all out-of-fold patients.

    Args:
        predictions: at patient level, train rows with their folds.
        method: "lac" or "aps".

    Returns:
        (n,) in [0, 1), for `risk_coverage`.

    Source: Vovk, Gammerman, Shafer 2005 (confidence).
    """
    check_method(method, 0.5)
    check_one_row_each(predictions, "conformal")
    sure = np.zeros(len(predictions))
    for turn in turns(predictions, teachers(predictions)):
        found = misfits(method, predictions.probabilities[turn.rows])
        p = np.stack(
            [
                1 - np.searchsorted(own, found[:, column], side="left") / (1 + len(own))
                for column, own in enumerate(own_misfits(method, turn.teachers).values())
            ],
            axis=1,
        )
        sure[turn.rows] = 1 - np.sort(p, axis=1)[:, -2]
    return sure


def risk_coverage(
    predictions: Predictions, config: EvaluateConfig, sureness: Floats | None = None
) -> dict[str, Any] | Undefined:
    """Return the share of wrong answers when only the surest rows are answered.

    Rows that are equally sure are answered together, so neither their order nor chance matters.

    Args:
        predictions: rows of one level and partition; those without a reference are left out.
        config: resamples of patients, coverage and seed of the band.
        sureness: (n,) how sure each row is, such as from `conformal_sureness`; the highest
            probability of the row where it is None.

    Returns:
        {n, answered, risk, low, high, area, area_low, area_high, no_interval}: `answered` is the
        share of rows answered, rising to 1, at 200 points at most; `risk` the share of them
        answered wrongly; `low` and `high` a pointwise band; `area` under the whole curve, the less
        the better: the risk of answering all where sureness says nothing. Where `no_interval` says
        why, there is no band. Undefined where all rows are equally sure.

    Raises:
        EvaluateError: sureness is not one finite number a row.

    Source: Geifman and El-Yaniv 2017, Selective Classification for Deep Neural Networks.
    """
    given = predictions.probabilities.max(axis=1, initial=0) if sureness is None else sureness
    if np.shape(given) != (len(predictions),) or not np.isfinite(given).all():
        raise EvaluateError(
            f"risk_coverage: expected a finite sureness for each of {len(predictions)} rows, got "
            f"shape {np.shape(given)}. Take it from the same predictions."
        )
    known = predictions.reference != ""
    table = predictions.select(known)
    # The last bits of a probability are chance and part no rows.
    levels, place = np.unique(-np.round(given[known], 12), return_inverse=True)
    if len(levels) < 2:
        return Undefined(_why_undefined(table))
    wrong = (table.predicted != table.reference).astype(np.float64)
    n, k = len(table), len(levels)
    counts = np.bincount(place, minlength=k)
    answered = counts.cumsum() / n
    risk = np.bincount(place, wrong, k).cumsum() / counts.cumsum()
    some = np.arange(k)
    if k > _POINTS:
        wanted = np.linspace(answered[0], 1, _POINTS)
        some = np.unique(np.searchsorted(answered, wanted).clip(max=k - 1))
    return {
        "n": n,
        "answered": answered[some].tolist(),
        "risk": risk[some].tolist(),
        "area": float((risk * counts).sum() / n),
        **_band(table, place, wrong, some, config),
    }


def _why_undefined(table: Predictions) -> str:
    rows = f"{table.unit}s" if table.level == "patient" else "slices"
    if len(table) < 2:
        return f"fewer than two {rows} have a reference"
    return f"all {len(table)} {rows} are equally sure"


def _band(
    table: Predictions,
    place: NDArray[np.int64],
    wrong: Floats,
    some: NDArray[np.int64],
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Return the band at some levels of sureness, and of the area, over resamples of patients."""
    patients, owner = np.unique(table.patient_id, return_inverse=True)
    none = {"low": None, "high": None, "area_low": None, "area_high": None}
    if table.unit == "image":
        return {**none, "no_interval": "patients are unknown, and images of one are alike"}
    if len(patients) < MIN_PATIENTS:
        few = f"rests on {counted(len(patients), table.unit)}, and an interval needs {MIN_PATIENTS}"
        return {**none, "no_interval": few}
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(place.max() + 1))
    risks, areas = [], []
    for draw in resamples(len(patients), config):
        drawn = np.take(draw, owner[order], axis=1)
        counts = np.add.reduceat(drawn, starts, axis=1)
        totals = counts.cumsum(axis=1)
        errors = np.add.reduceat(drawn * wrong[order], starts, axis=1).cumsum(axis=1)
        each = errors / np.maximum(totals, 1)
        areas.append(np.einsum("bk,bk->b", each, counts) / totals[:, -1])
        risks.append(np.where(totals[:, some] > 0, each[:, some], np.nan))
    tails = [(1 - config.level) / 2, (1 + config.level) / 2]
    low, high = _ends(np.concatenate(risks), tails)
    area_low, area_high = np.quantile(np.concatenate(areas), tails).tolist()
    return {
        "low": low,
        "high": high,
        "area_low": area_low,
        "area_high": area_high,
        "no_interval": "",
    }


def _ends(risks: Floats, tails: list[float]) -> list[list[float | None]]:
    """Return quantiles by column, None where one resample in ten or more answers nobody."""
    seen = (~np.isnan(risks)).mean(axis=0) > 0.9
    ends = np.nanquantile(np.where(seen, risks, 0.0), tails, axis=0)
    return [[float(v) if ok else None for v, ok in zip(end, seen, strict=True)] for end in ends]
