"""What every control of one model shares: features, folds, labels, and how a score is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import ControlsConfig, EvaluateConfig, HeadConfig
from hepar.data import LabelSet, Sample, Unit
from hepar.evaluate import Estimate, Predictions, aggregate, decide, estimate
from hepar.evaluate.metrics import METRICS, count_by_patient, values
from hepar.evaluate.predictions import Level
from hepar.fit.refit import Refit, permuted_codes, prepare_refit

__all__ = ["ControlInputs", "Scored", "macro_auroc", "score"]

Floats = NDArray[np.float64]
Features = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ControlInputs:
    """One model's cohort as its controls see it: rows that a fold leaves out, one a slice.

    Attributes:
        features: (n, d) of the plain view, by the frozen backbone.
        samples: n labelled samples, a patient's in the order of the slices.
        fold: (n,) the fold that leaves each row out.
        labels: the label set.
        penalty: L2 strength of every head.
        origin: (n,) row that each row is a copy of, itself where it is none.
        background: (n, d) features without the liver, or why there are none.
        grain: (n, g) strength of the grain at a few scales, NaN where it has none.
        untrained: (n, d) features of an untrained network, or why there are none.
        head: how slices become a patient.
        config: permutations and seed.
        evaluate: of the intervals.
        unit: what a patient_id stands for.
        skip: columns that hold the split.
        things: what a row is, in words.
    """

    features: Features
    samples: tuple[Sample, ...]
    fold: Integers
    labels: LabelSet
    penalty: float
    origin: Integers
    background: Features | str
    grain: Floats
    untrained: Features | str
    head: HeadConfig
    config: ControlsConfig
    evaluate: EvaluateConfig
    unit: Unit = "patient"
    skip: tuple[str, ...] = ()
    things: str = "slices"

    @cached_property
    def codes(self) -> Integers:
        """The label code of each row, (n,)."""
        return np.array([self.labels.index(s.label) for s in self.samples], np.int64)

    @cached_property
    def patients(self) -> NDArray[np.str_]:
        """The patient_id of each row, (n,)."""
        return np.array([s.patient_id for s in self.samples])

    @cached_property
    def level(self) -> Level:
        """Patients where each label is the reference of two or more, else slices."""
        severest: dict[str, int] = {}
        for patient, code in zip(self.patients.tolist(), self.codes.tolist(), strict=True):
            severest[patient] = max(severest.get(patient, 0), code)
        counts = np.bincount(list(severest.values()), minlength=len(self.labels))
        return "patient" if self.unit != "image" and counts.min() > 1 else "slice"

    def refit(self, features: Features, penalty: float = 0.0) -> Refit:
        """Return features ready to be cross-validated on the model's own folds."""
        k, strength = len(self.labels), penalty or self.penalty
        return prepare_refit(features, self.patients, self.fold, k, strength)

    @cached_property
    def model(self) -> tuple[Refit, Scored]:
        """The model's own features under the real labels and under labels dealt anew."""
        refit = self.refit(self.features)
        return refit, score(self, refit, self.codes, self.labels.names)


@dataclass(frozen=True, eq=False)
class Scored:
    """Out-of-fold predictions under the real labels, and scores under labels dealt anew.

    The score is the AUROC of the label that is told best: what gives patients away mostly concerns
    one label, and a mean over labels would hide it.

    Attributes:
        table: at the level that is scored.
        label: that is told best from the rest.
        estimate: of its AUROC; None where a label has no row.
        dealt: the same score under each deal: of whatever label is told best then.
        slices: mean AUROC over labels, of slices, under each deal.
    """

    table: Predictions
    label: str
    estimate: Estimate | None
    dealt: Floats
    slices: Floats


def _table(
    inputs: ControlInputs, probabilities: Floats, codes: Integers, names: Sequence[str]
) -> Predictions:
    labels = np.array(names)
    n = len(codes)
    return Predictions(
        sample_id=np.array([s.sample_id for s in inputs.samples]),
        patient_id=inputs.patients,
        partition=np.full(n, "train"),
        fold=np.full(n, "0"),
        reference=labels[codes],
        predicted=decide(probabilities, names),
        probabilities=probabilities,
        labels=tuple(names),
        unit=inputs.unit,
    )


def _at(inputs: ControlInputs, slices: Predictions, level: Level) -> Predictions:
    if level == "slice":
        return slices
    how = inputs.head.aggregate
    return aggregate(slices, "mean" if how == "attention" else how, inputs.head.top_k)


def _aurocs(table: Predictions) -> Floats:
    """Return the AUROC of each label against the rest, then their mean; NaN where undefined."""
    return values(METRICS.get("auroc"), count_by_patient(table).tally())


def macro_auroc(inputs: ControlInputs, probabilities: Floats) -> float:
    """Return the mean AUROC over labels of out-of-fold probabilities (n, k), as controls score."""
    rows = _table(inputs, probabilities, inputs.codes, inputs.labels.names)
    return float(_aurocs(_at(inputs, rows, inputs.level))[-1])


def score(inputs: ControlInputs, refit: Refit, codes: Integers, names: Sequence[str]) -> Scored:
    """Cross-validate under the given labels and under labels dealt anew.

    Args:
        inputs: whose samples, level, permutations and seed.
        refit: the features.
        codes: (n,) codes in `names`.
        names: of the labels, in order of severity.
    """
    level = inputs.level
    deals = permuted_codes(
        refit, codes, inputs.origin, inputs.config.permutations, inputs.config.seed
    )
    found = refit.scores([codes, *deals])
    table = _at(inputs, _table(inputs, found[0], codes, names), level)
    counts = count_by_patient(table)
    grouped = inputs.unit != "image"
    found_for = estimate(counts, level, inputs.evaluate, grouped=grouped)
    told = _aurocs(table)[:-1]
    best = -1 if np.isnan(told).any() else int(np.argmax(told))
    result = found_for["auroc", best] if best >= 0 else None
    dealt, slices = [], []
    for own, probabilities in zip(deals, found[1:], strict=True):
        rows = _table(inputs, probabilities, own, names)
        slices.append(_aurocs(rows)[-1])
        dealt.append(_aurocs(_at(inputs, rows, level))[:-1].max())
    kept = np.array(dealt)
    return Scored(
        table,
        names[max(best, 0)],
        result if isinstance(result, Estimate) else None,
        kept[np.isfinite(kept)],
        np.array(slices)[np.isfinite(slices)] if slices else np.zeros(0),
    )
