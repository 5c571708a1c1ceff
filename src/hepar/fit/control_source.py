"""A control: do the features show where an image comes from, and does that tell the label."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepar.config import SplitConfig
from hepar.data import LabelSet, Manifest
from hepar.fit.control_finding import Finding, found
from hepar.fit.control_inputs import ControlInputs, Scored, score
from hepar.fit.metadata import source_of
from hepar.fit.refit import prepare_refit
from hepar.split import make_split

__all__ = ["predict_source"]

Integers = NDArray[np.int64]

_DEALS = 2000
"""Of the labels to patients, for how closely chance ties source and label."""


def predict_source(inputs: ControlInputs) -> Finding:
    """Do the features show where an image comes from, and does that go with the label?"""
    name, sources = source_of(inputs.samples)
    if not name:
        return Finding(not_made="all samples come from one source, or nothing says from which")
    patients = {*zip(sources.tolist(), inputs.patients.tolist(), strict=True)}
    carriers = Counter(source for source, _ in patients)
    kept = [source for source, n in carriers.items() if n > 1]
    rows = np.flatnonzero(np.isin(sources, kept))
    if len(kept) < 2:
        return Finding(not_made=f"{name}: fewer than two sources have two {inputs.unit}s or more")
    own = _of_sources(inputs, rows, sources[rows])
    names = own.labels.names
    refit = prepare_refit(own.features, own.patients, own.fold, len(names), own.penalty)
    scored = score(own, refit, own.codes, names)
    tied, p_tied = _tied(inputs, rows, sources[rows])
    result = found(
        scored,
        f"The model's features tell where a left-out {{unit}} comes from ({name}: "
        f"{', '.join(names[:4])}) with AUROC {{value}} (chance stays below {{floor}}), "
        f"and source and label go together (Cramér's V {tied:.2f}): the model can answer by "
        "knowing the source. Take every label from every source, or leave out whole sources in "
        "turn.",
        f"{name}, {len(names)} sources; Cramér's V with the label {tied:.2f} (p = {p_tied:.3g})",
    )
    if result.p is None:
        return result
    return dataclasses.replace(result, p=max(_told(own, scored), p_tied))


def _told(own: ControlInputs, scored: Scored) -> float:
    """Return how likely chance alone tells one of the sources so well, by ranks of patients.

    Exact ranks, because a source often has a handful of patients, of which deals say little.
    """
    from scipy.stats import mannwhitneyu

    slices = scored.table
    owner = np.unique(slices.patient_id, return_inverse=True)[1]
    column = slices.labels.index(scored.label)
    counts = np.bincount(owner)
    means = np.bincount(owner, slices.probabilities[:, column]) / counts
    shares = np.bincount(owner, slices.reference == scored.label) / counts
    from_it = shares >= 0.5
    if not from_it.any() or from_it.all():
        return 1.0
    p = float(mannwhitneyu(means[from_it], means[~from_it], alternative="greater").pvalue)
    return min(1.0, p * len(own.labels) / (2 if len(own.labels) == 2 else 1))


def _of_sources(inputs: ControlInputs, rows: Integers, sources: NDArray[np.str_]) -> ControlInputs:
    """Return the inputs with the source for a label, and folds stratified by it."""
    names = LabelSet(tuple(np.unique(sources).tolist()))
    samples = tuple(
        dataclasses.replace(inputs.samples[i], label=str(source))
        for i, source in zip(rows, sources, strict=True)
    )
    manifest = Manifest(samples, names, Path(), inputs.unit)
    seed = inputs.config.seed
    split = make_split(manifest, SplitConfig(folds=len(np.unique(inputs.fold)), seed=seed))
    fold = np.array([split.of(sample).fold for sample in samples], np.int64)
    return dataclasses.replace(
        inputs,
        features=inputs.features[rows],
        samples=samples,
        fold=fold,
        labels=names,
        origin=np.arange(len(rows)),
    )


def _tied(inputs: ControlInputs, rows: Integers, sources: NDArray[np.str_]) -> tuple[float, float]:
    """Return Cramér's V of source and label over patients, and how likely chance ties them so."""
    codes, patients = inputs.codes[rows], inputs.patients[rows]
    names, owner = np.unique(patients, return_inverse=True)
    severest = np.zeros(len(names), np.int64)
    np.maximum.at(severest, owner, codes)
    place = np.zeros(len(names), np.int64)
    place[owner] = np.unique(sources, return_inverse=True)[1]
    rng = np.random.default_rng(inputs.config.seed)
    value = _cramer(place, severest)
    as_tied = sum(_cramer(place, rng.permutation(severest)) >= value - 1e-12 for _ in range(_DEALS))
    return value, (1 + as_tied) / (1 + _DEALS)


def _cramer(one: Integers, other: Integers) -> float:
    table = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(table, (one, other), 1)
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    fewest = min(table.shape) - 1
    if not fewest:
        return 0.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return float((((table - expected) ** 2 / expected).sum() / table.sum() / fewest) ** 0.5)
