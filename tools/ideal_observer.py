"""Measure the ideal observer of the phantom at several difficulties; print a table.

Run as `python tools/ideal_observer.py --difficulty 0.25 0.5 0.75`. The cohorts are those of
`hepar phantom --patients N --difficulty D`, made in memory; `hepar compare` with
`docs/difficulty-phantom.toml` measures models on the same.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hepar.config import EvaluateConfig
from hepar.evaluate import Estimate, Predictions, count_by_patient, decide, estimate
from hepar.phantom import LABELS, PhantomConfig, observe
from hepar.phantom.roster import label_of, name_patient

SEVERITY = tuple(reversed(LABELS))


def answers(config: PhantomConfig) -> Predictions:
    """Ask the observer about every patient of a cohort."""
    numbers = range(1, config.patients + 1)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda number: observe(config, number), numbers))
    probabilities = np.array([[one[label] for label in SEVERITY] for one in found])
    names = np.array([name_patient(number) for number in numbers])
    return Predictions(
        sample_id=names,
        patient_id=names,
        partition=np.full(len(names), "test"),
        fold=np.full(len(names), ""),
        reference=np.array([label_of(config.seed, number) for number in numbers]),
        predicted=decide(probabilities, SEVERITY),
        probabilities=probabilities,
        labels=SEVERITY,
        level="patient",
    )


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--difficulty", type=float, nargs="+", default=[0.25, 0.5, 0.75])
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.stdout.write("| difficulty | balanced accuracy | AUROC | wrong |\n|---|---|---|---|\n")
    for difficulty in arguments.difficulty:
        config = PhantomConfig(arguments.patients, difficulty=difficulty, seed=arguments.seed)
        table = answers(config)
        found = estimate(count_by_patient(table), "patient", EvaluateConfig())
        cells = [_cell(found[name, None]) for name in ("balanced_accuracy", "auroc")]
        wrong = table.predicted != table.reference
        pairs = [
            f"{table.reference[i]} taken for {table.predicted[i]}" for i in np.flatnonzero(wrong)
        ]
        counted = ", ".join(f"{pairs.count(pair)} {pair}" for pair in sorted(set(pairs)))
        sys.stdout.write(f"| {difficulty} | {' | '.join(cells)} | {counted or 'none'} |\n")
        sys.stdout.flush()
    return 0


def _cell(found: object) -> str:
    if not isinstance(found, Estimate):
        return "undefined"
    if found.low is None or found.high is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.low:.2f}-{found.high:.2f})"


if __name__ == "__main__":
    sys.exit(main())
