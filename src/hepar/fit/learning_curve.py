"""How the score grows with the number of patients that a model learns from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.fit.control_inputs import ControlInputs, macro_auroc
from hepar.fit.heads import fit_linear_head

__all__ = ["learning_curve"]

_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
_DRAWS = 3
_FEWEST = 2
"""Patients of each label in the smallest draw."""


def learning_curve(inputs: ControlInputs) -> list[dict[str, Any]]:
    """Cross-validate a linear head that learns from ever more of the training patients.

    Left-out patients are the same at every size; each draw takes the same share of each label's
    patients. The penalty is the one chosen on all of them.

    Args:
        inputs: of the model's controls.

    Returns:
        {share, n_patients, auroc} by growing share: `n_patients` learned from in a fold, on
        average, and the mean AUROC over labels of left-out patients of each draw. Empty where the
        smallest share would leave a label without patients.
    """
    from threadpoolctl import threadpool_limits

    jobs = [(share, draw) for share in _SHARES for draw in range(1 if share == 1 else _DRAWS)]
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda job: _score(inputs, *job), jobs))
    records = []
    for share in _SHARES:
        own = [one for job, one in zip(jobs, found, strict=True) if job[0] == share]
        if any(one is None for one in own):
            return []
        scores = [one for one in own if one is not None]
        records.append(
            {
                "share": share,
                "n_patients": round(float(np.mean([n for n, _ in scores])), 1),
                "auroc": [auroc for _, auroc in scores],
            }
        )
    return records


def _score(inputs: ControlInputs, share: float, draw: int) -> tuple[float, float] | None:
    """Return patients learned from in a fold, and the AUROC; None where a label has too few."""
    rng = np.random.default_rng([inputs.config.seed, draw, round(100 * share)])
    probabilities = np.zeros((len(inputs.codes), len(inputs.labels)))
    taken = []
    for fold in np.unique(inputs.fold):
        train, test = inputs.fold != fold, inputs.fold == fold
        chosen = _patients(inputs, train, share, rng)
        if chosen is None:
            return None
        rows = np.flatnonzero(train & np.isin(inputs.patients, chosen))
        head = fit_linear_head(
            inputs.features[rows],
            inputs.codes[rows],
            inputs.patients[rows].tolist(),
            inputs.labels,
            inputs.penalty,
        )
        probabilities[test] = head.probabilities(inputs.features[test])
        taken.append(len(chosen))
    value = macro_auroc(inputs, probabilities)
    return None if np.isnan(value) else (float(np.mean(taken)), value)


def _patients(
    inputs: ControlInputs, train: NDArray[np.bool_], share: float, rng: np.random.Generator
) -> Sequence[str] | None:
    """Return a share of each label's training patients, by their most severe slice."""
    names, place = np.unique(inputs.patients[train], return_inverse=True)
    severest = np.zeros(len(names), np.int64)
    np.maximum.at(severest, place, inputs.codes[train])
    chosen: list[str] = []
    for code in range(len(inputs.labels)):
        own = names[severest == code]
        wanted = round(share * len(own))
        if wanted < _FEWEST:
            return None
        chosen += rng.choice(own, wanted, replace=False).tolist()
    return chosen
