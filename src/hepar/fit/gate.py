"""The gate's limits, from patients left out: what of a new patient will be refused by mistake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.data import Sample
from hepar.errors import FitError
from hepar.model.cloud import Cloud, unit_rows
from hepar.model.gate import Gate
from hepar.words import counted

__all__ = ["fit_gate"]

Floats = NDArray[np.float64]

_DIRECTIONS = 32
"""Main directions that keep their own variance; 16 to 64 did as well (docs/explanation/gate.md)."""

_SLICES_A_PATIENT = 25
"""Evenly spread slices of a patient that count: neighbours are near-duplicates."""

_SLICES = 2000
"""Slices that count in all; more move the limit by nothing."""

_FOLDS = 5
_LEAVE_ONE_OUT = 10
"""Up to this many patients are left out one by one."""


def fit_gate(
    features: NDArray[np.floating[Any]],
    samples: Sequence[Sample],
    share_refused: float = 0.05,
    coloured: Collection[str] = (),
    weights: str = "",
) -> Gate:
    """Learn what training slices look like, and a limit that a share of a new patient's exceed.

    The limit is a quantile of the distances of slices whose patient was left out, each patient
    weighing alike; where the patients suffice, it counts one more patient, a new one, as wholly
    beyond the limit, so that a new patient's expected share of refused slices is at most the share
    asked for. Rules of chance are fixed: the same slices give the same gate.

    Args:
        features: (n, d) of the gate's network, from `hepar.model.gate_features`.
        samples: (n,) training slices; kinds, spacings and phases are learned from them.
        share_refused: of a new patient's slices; above 0, below 1.
        coloured: paths of colour pictures, from `hepar.model.coloured_paths`.
        weights: SHA-256 of the weights of the gate's network.

    Returns:
        The gate; where a kind of pixels has too little to learn from, a note says so, and its
        slices will be judged by their header alone.

    Raises:
        FitError: no slices, a share out of range, or a row of features that is not finite.

    Source:
        Dunn, Wasserman and Ramdas, JASA 118 (2023): distribution-free sets for grouped data.
    """
    rows = np.asarray(features)
    _check(rows, samples, share_refused)
    clouds: dict[str, Cloud] = {}
    notes: list[str] = []
    kinds = sorted({sample.kind for sample in samples})
    for kind in kinds:
        own = np.array([sample.kind == kind for sample in samples])
        patients = np.array([sample.patient_id for sample in samples])[own]
        kept = _spread(patients)
        fitted = _fit_cloud(rows[own][kept], patients[kept], share_refused)
        if isinstance(fitted, str):
            what = {"hu": "HU", "rgb": "RGB tiles"}.get(kind, "pictures")
            notes.append(f"Distances of {what} are not judged: {fitted}.")
            continue
        clouds[kind], note = fitted
        notes += [note] if note else []
    spacings = [sample.spacing_mm for sample in samples if sample.spacing_mm]
    ends = [tuple(float(v) for v in f(spacings, axis=0)) for f in (np.min, np.max) if spacings]
    phases = {sample.extra.get("phase", "").strip().lower() for sample in samples} - {""}
    return Gate(
        clouds=clouds,
        kinds=tuple(kinds),
        spacing_mm=(ends[0], ends[1]) if ends else None,
        phases=tuple(sorted(phases)),
        coloured=any(sample.path in coloured for sample in samples),
        share=share_refused,
        n_patients=len({sample.patient_id for sample in samples}),
        notes=tuple(notes),
        weights=weights,
    )


def _check(rows: NDArray[Any], samples: Sequence[Sample], share: float) -> None:
    if not 0 < share < 1:
        raise FitError(
            f"gate: expected a share of refused slices above 0 and below 1, got {share}. "
            "0.05 is usual."
        )
    if rows.ndim != 2 or len(rows) != len(samples) or not rows.size:
        raise FitError(
            f"gate: expected features (n, d) of {len(samples)} slices, at least one, got "
            f"{rows.shape}. Compute them with hepar.model.gate_features."
        )
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(broken):
        raise FitError(
            f"sample {samples[broken[0]].sample_id}: expected finite features, got NaN or infinity "
            f"({len(broken)} such). Look at its pixels."
        )


def _spread(patients: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return positions of a bounded number of slices, evenly spread over and within patients."""
    names, counts = np.unique(patients, return_counts=True)
    most = min(_SLICES_A_PATIENT, max(1, _SLICES // len(names)))
    kept = [
        np.flatnonzero(patients == name)[_evenly(int(count), most)]
        for name, count in zip(names, counts, strict=True)
    ]
    rows = np.concatenate(kept)
    return np.sort(rows[_evenly(len(rows), _SLICES)])


def _evenly(n: int, most: int) -> NDArray[np.int64]:
    return np.rint(np.linspace(0, n - 1, min(n, most))).astype(np.int64)


def _fit_cloud(
    rows: NDArray[Any], patients: NDArray[np.str_], share: float
) -> tuple[Cloud, str] | str:
    """Return the cloud with its limit and a note, or why there can be none."""
    names = np.unique(patients)
    if len(names) < 2:
        return "a limit needs two patients, one to be left out, and there is 1"
    folds = len(names) if len(names) <= _LEAVE_ONE_OUT else _FOLDS
    order = np.random.default_rng(0).permutation(len(names))
    fold_of = dict(zip(names[order], np.arange(len(names)) % folds, strict=True))
    fold = np.array([fold_of[patient] for patient in patients])
    left_out = np.zeros(len(rows))
    for number in range(folds):
        shape = _shape(rows[fold != number])
        if shape is None:
            out = str(patients[fold == number][0])
            return f"all slices left when {out} is left out have the same features"
        left_out[fold == number] = shape.distances(rows[fold == number])
    whole = _shape(rows)
    if whole is None:
        return "all slices have the same features"
    limit = _quantile(left_out, patients, share)
    cloud = Cloud(whole.mean, whole.directions, whole.variances, whole.rest, limit)
    if (1 - share) * (len(names) + 1) <= len(names):
        return cloud, ""
    enough = int(np.ceil((1 - share) / share - 1e-9))
    return cloud, (
        f"The gate's limit is learned from {counted(len(names), 'patient')}: nothing can be "
        f"promised about the share of a new patient's slices that it refuses ({share:.0%} "
        f"was asked for; a promise needs {enough} patients)."
    )


def _shape(rows: NDArray[Any]) -> Cloud | None:
    """Return where rows lie, with limit 1; None where they are all the same."""
    from sklearn.covariance import ledoit_wolf_shrinkage

    units = unit_rows(rows)
    mean = units.mean(axis=0)
    centred = units - mean
    n, d = centred.shape
    total = float((centred**2).sum() / n)
    if total < 1e-12:
        return None
    shrink = float(ledoit_wolf_shrinkage(centred, assume_centered=True))
    k = max(0, min(_DIRECTIONS, n - 1, d - 1))
    if n < d:
        values, vectors = np.linalg.eigh(centred @ centred.T / n)
    else:
        values, vectors = np.linalg.eigh(centred.T @ centred / n)
    kept = np.flatnonzero(values > 1e-9 * total)[::-1][:k]
    values, vectors = values[kept], vectors[:, kept]
    directions = (vectors.T @ centred / np.sqrt(n * values)[:, None]) if n < d else vectors.T
    prior = shrink * total / d
    rest = (1 - shrink) * max(total - float(values.sum()), 0.0) / (d - len(kept)) + prior
    return Cloud(
        mean=mean,
        directions=np.ascontiguousarray(directions),
        variances=(1 - shrink) * values + prior,
        rest=max(rest, 1e-12),
        limit=1.0,
    )


def _quantile(distances: Floats, patients: NDArray[np.str_], share: float) -> float:
    """Return the limit: a quantile of distances, every patient weighing alike.

    Counts a new patient as beyond the limit where there are patients enough for that.
    """
    counts = Counter(patients.tolist())
    weights = np.array([1 / counts[patient] for patient in patients.tolist()])
    n = len(counts)
    wanted = (1 - share) * (n + 1)
    if wanted > n:
        wanted = (1 - share) * n
    order = np.argsort(distances, kind="stable")
    reached = np.cumsum(weights[order])
    at = min(int(np.searchsorted(reached, wanted - 1e-9)), len(order) - 1)
    return float(max(distances[order][at], 1e-12))
