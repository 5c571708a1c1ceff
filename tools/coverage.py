"""Measure on the phantom whether sets of labels hold what they promise; print a Markdown table.

Run as `python tools/coverage.py`. One large phantom cohort stands for everybody; for each seed some
patients are drawn to learn from, exactly as `hepar run` learns (folds, calibration, sets,
threshold), and all others are the new patients on whom the promise is checked.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hepar.backbone import Network
from hepar.cohort_job import plan
from hepar.config import DecideConfig, IngestConfig, RunConfig, SplitConfig
from hepar.data import Manifest
from hepar.evaluate import (
    Predictions,
    aggregate,
    decide,
    fit_conformal,
    measure_calibration,
)
from hepar.fit import cross_validate, fit_decision
from hepar.ingest import ingest
from hepar.model import InputReader, compute_features
from hepar.phantom import PhantomConfig, write_cohort
from hepar.split import make_split

SLICES = 4


def cohort(folder: Path, patients: int, cache: Path) -> tuple[Manifest, np.ndarray]:
    """Return a phantom cohort and its features (n, 1, d), by the default recipe and backbone."""
    config = RunConfig(ingest=IngestConfig(labels_csv=str(folder / "labels.csv")))
    write_cohort(
        folder, PhantomConfig(patients=patients, slices=SLICES, seed=1), ("dicom", "nifti")
    )
    manifest = ingest(folder / "dicom", config.ingest)
    (part,) = plan(manifest, config)
    network = Network.from_weights(part.weights)
    reader = InputReader(manifest, part.recipe)
    return manifest, compute_features(network, reader, config.backbone, part.weights.sha256, cache)


def one(manifest: Manifest, features: np.ndarray, n: int, seed: int) -> dict[str, float]:
    """Learn from n patients and check on all others."""
    config = RunConfig()
    split = make_split(manifest, SplitConfig(test=1 - n / len(manifest.patients), seed=seed))
    scores = cross_validate(
        features, manifest.samples, split, manifest.labels, config.head
    ).predictions
    _, patients, decision = fit_decision(scores, config.head, config.decide)
    new = patients.select(patients.partition == "test")
    found: dict[str, float] = {}
    for method in ("lac", "aps"):
        sets = fit_conformal(patients, method, config.decide.coverage).sets(new.probabilities)
        held = sets[np.arange(len(new)), new.reference_index]
        for label in new.labels:
            found[f"{method} {label}"] = float(held[new.reference == label].mean())
        single = sets.sum(axis=1) == 1
        found[f"{method} all"] = float(held.mean())
        found[f"{method} answered"] = float(single.mean())
        found[f"{method} right"] = float(held[single].mean()) if single.any() else np.nan
    found["accuracy"] = float((new.predicted == new.reference).mean())
    if decision.point:
        severe = new.reference == new.labels[-1]
        flagged = new.probabilities[:, -1] >= decision.point.threshold
        found["sensitivity"] = float(flagged[severe].mean())
        found["specificity"] = float((~flagged[~severe]).mean())
    raw = aggregate(scores.select(scores.partition == "test"))
    for name, table in (("before", raw), ("after", new)):
        found |= calibration(table, name)
    return found


def calibration(table: Predictions, name: str) -> dict[str, float]:
    """Return log loss and calibration error of new patients."""
    table = dataclasses.replace(table, predicted=decide(table.probabilities, table.labels))
    config = dataclasses.replace(RunConfig().evaluate, resamples=2)
    records = measure_calibration(table, config)
    return {
        f"{r['metric']} {name}": r["value"]
        for r in records
        if r["metric"] in {"log_loss", "ece"} and r["value"] is not None
    }


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--patients", type=int, default=600)
    parser.add_argument("--learn", type=int, nargs="+", default=[60, 150])
    parser.add_argument("--seeds", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        manifest, features = cohort(Path(name) / "phantom", arguments.patients, Path(name))
        for n in arguments.learn:
            started = time.perf_counter()
            rounds = [one(manifest, features, n, seed) for seed in range(arguments.seeds)]
            took = time.perf_counter() - started
            others = len(manifest.patients) - n
            sys.stdout.write(
                f"\n{n} patients learned from, {others} new ones, {arguments.seeds} seeds, "
                f"coverage asked for {DecideConfig().coverage:.0%} ({took:.0f} s)\n\n"
                "| on new patients | mean over seeds | 5th to 95th percentile |\n|---|---|---|\n"
            )
            for key in dict.fromkeys(k for r in rounds for k in r):
                values = np.array([r[key] for r in rounds if key in r and not np.isnan(r[key])])
                error = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
                low, high = np.quantile(values, [0.05, 0.95])
                sys.stdout.write(
                    f"| {key} | {values.mean():.3f} ± {error:.3f} | {low:.3f} to {high:.3f} |\n"
                )
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
