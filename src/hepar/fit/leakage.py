"""The leakage meter: what a score is worth when images of one patient stand on both sides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import ControlsConfig, EvaluateConfig, HeadConfig, SplitConfig
from hepar.data import LabelSet, Manifest, Sample
from hepar.errors import FitError, SplitError
from hepar.evaluate import (
    Difference,
    Estimate,
    Predictions,
    Undefined,
    decide,
    estimate,
    paired_bootstrap,
)
from hepar.evaluate.metrics import METRICS, count_by_patient, values
from hepar.fit.crossval import cross_validate
from hepar.fit.refit import permuted_codes, prepare_refit
from hepar.split import Split, make_split

__all__ = ["measure_leakage"]

_METRICS = ("balanced_accuracy", "auroc")


def measure_leakage(
    features: NDArray[np.float32],
    manifest: Manifest,
    split: Split,
    head: HeadConfig,
    controls: ControlsConfig,
    evaluate: EvaluateConfig,
) -> dict[str, Any]:
    """Cross-validate the same features and head on folds of images and on folds of patients.

    Both are scored on the same slices, one by one, so that only the folds differ: who is left out
    for a test, and by whose inner folds the penalty is chosen. What images alone add is inflation.
    The floor is the score under labels dealt at random to patients: it shows no skill at all, so
    whatever it has above chance under folds of images is leakage alone.

    Args:
        features: (n, d) or (n, views, d), a row per sample.
        manifest: the n labelled samples; a patient_id is a patient's or an inferred group's.
        split: of the patients, without a test partition.
        head: kind "linear" is fitted whatever it says.
        controls: number of deals and their seed.
        evaluate: of the intervals.

    Returns:
        `unit`, `folds`, `n_patients`, `n_samples`, `chance`, and `metrics`: a record for each of
        balanced accuracy and AUROC {metric, image, unit, inflation, floor}, the first three
        {value, low, high, undefined}, `floor` {image, unit} {mean, low, high} or None. Where the
        images cannot be folded, `not_made` says why instead.
    """
    samples, labels = manifest.samples, manifest.labels
    linear = dataclasses.replace(head, kind="linear")
    alone = tuple(dataclasses.replace(s, patient_id=s.sample_id) for s in samples)
    try:
        images = make_split(
            Manifest(alone, labels, Path(), "image"),
            SplitConfig(folds=split.folds, seed=split.seed),
        )
        by_image = cross_validate(features, alone, images, labels, linear)
        by_unit = cross_validate(features, samples, split, labels, linear)
    except (FitError, SplitError) as error:
        return {"not_made": str(error)}
    arms = {
        "image": dataclasses.replace(
            by_image.predictions, patient_id=by_unit.predictions.patient_id, unit=manifest.unit
        ),
        "unit": by_unit.predictions,
    }
    plain = features if features.ndim == 2 else features[:, 0]
    folds = {"image": _folds(alone, images), "unit": _folds(samples, split)}
    penalties = {"image": by_image.head.penalty, "unit": by_unit.head.penalty}  # type: ignore[attr-defined]
    floors = {
        arm: _floor(plain, samples, labels, (folds[arm], penalties[arm]), controls) for arm in arms
    }
    return {
        "not_made": "",
        "unit": manifest.unit,
        "folds": split.folds,
        "n_patients": len(manifest.patients),
        "n_samples": len(samples),
        "chance": {"balanced_accuracy": 1 / len(labels), "auroc": 0.5},
        "metrics": _records(arms, floors, evaluate),
    }


def _folds(samples: Sequence[Sample], split: Split) -> NDArray[np.int64]:
    return np.array([split.of(sample).fold for sample in samples], np.int64)


def _value(metric: str, table: Predictions) -> float | None:
    value = float(values(METRICS.get(metric), count_by_patient(table).tally())[-1])
    return None if np.isnan(value) else value


def _floor(
    features: NDArray[np.floating[Any]],
    samples: Sequence[Sample],
    labels: LabelSet,
    place: tuple[NDArray[np.int64], float],
    controls: ControlsConfig,
) -> dict[str, dict[str, float]]:
    """Return mean and range of each metric under labels dealt anew to patients; {} for none."""
    fold, penalty = place
    patients = np.array([s.patient_id for s in samples])
    codes = np.array([labels.index(s.label) for s in samples], np.int64)
    refit = prepare_refit(features, patients, fold, len(labels), penalty)
    itself = np.arange(len(codes))
    deals = permuted_codes(refit, codes, itself, controls.permutations, controls.seed)
    found: dict[str, list[float]] = {metric: [] for metric in _METRICS}
    names = np.array(labels.names)
    for own, probabilities in zip(deals, refit.scores(deals), strict=True):
        table = Predictions(
            sample_id=np.array([s.sample_id for s in samples]),
            patient_id=patients,
            partition=np.full(len(codes), "train"),
            fold=fold.astype(np.str_),
            reference=names[own],
            predicted=decide(probabilities, labels.names),
            probabilities=probabilities,
            labels=labels.names,
        )
        for metric, kept in found.items():
            value = _value(metric, table)
            kept += [] if value is None else [value]
    return {
        metric: {"mean": float(np.mean(kept)), "low": min(kept), "high": max(kept)}
        for metric, kept in found.items()
        if kept
    }


def _records(
    arms: Mapping[str, Predictions],
    floors: Mapping[str, Mapping[str, dict[str, float]]],
    evaluate: EvaluateConfig,
) -> list[dict[str, Any]]:
    found = {
        arm: estimate(count_by_patient(table), "slice", evaluate) for arm, table in arms.items()
    }
    records: list[dict[str, Any]] = []
    for metric in _METRICS:
        scores = {arm: _score(found[arm][metric, None]) for arm in arms}
        image, unit = scores["image"]["value"], scores["unit"]["value"]
        inflation: dict[str, Any] = dict.fromkeys(("value", "low", "high", "undefined"))
        if image is None or unit is None:
            inflation["undefined"] = scores["unit"]["undefined"] or scores["image"]["undefined"]
        else:
            apart = paired_bootstrap(arms["image"], arms["unit"], metric, evaluate)
            inflation |= {"value": image - unit, **_ends(apart)}
        floor = {arm: floors[arm].get(metric) for arm in arms}
        title = METRICS.get(metric).title
        records.append(
            {"metric": metric, "title": title, **scores, "inflation": inflation, "floor": floor}
        )
    return records


def _ends(apart: Difference | Undefined) -> dict[str, Any]:
    if isinstance(apart, Undefined):
        return {"undefined": f"no interval: {apart.reason}"}
    return {"low": apart.low, "high": apart.high}


def _score(result: Estimate | Undefined) -> dict[str, Any]:
    if isinstance(result, Undefined):
        return {"value": None, "low": None, "high": None, "undefined": result.reason}
    none = f"no interval: {result.no_interval}" if result.no_interval else None
    return {"value": result.value, "low": result.low, "high": result.high, "undefined": none}
