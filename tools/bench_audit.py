"""Benchmarks of what counts rows: the leak audit, and intervals of every metric."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from hepar.audit import Looks, find_links, near_pairs
from hepar.config import EvaluateConfig
from hepar.evaluate import Predictions, count_by_patient, decide, estimate

FEATURES = 1280
FEW_FEATURES = 128
"""Of a million rows: as many as 1280 would take 20 GB here."""

EACH = 10
"""Rows of a patient."""


def looks(n: int) -> Looks:
    """Return n made-up samples: patients of ten, and one copy in a hundred, shifted a little."""
    rng = np.random.default_rng(0)
    patients = rng.normal(size=(n // EACH, FEATURES)).astype(np.float32)
    features = np.repeat(patients, EACH, axis=0)
    features += rng.normal(scale=1.5, size=features.shape).astype(np.float32)
    drawn = rng.integers(0, 256, (n, 16, 16), dtype=np.uint8)
    thumbnails = np.stack([cv2.resize(d, (64, 64), interpolation=cv2.INTER_CUBIC) for d in drawn])
    copied = np.arange(0, n, 100)
    thumbnails[copied] = np.roll(thumbnails[(copied + n // 2 + 5) % n], 1, axis=2)
    return Looks(tuple(map(str, range(n))), thumbnails, features)


def alone(job: str, n: int) -> dict[str, float]:
    """Return seconds, peak memory in GB and pairs found by a job in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), job, str(n)],
        check=True,
        capture_output=True,
        text=True,
    )
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def work(job: str, n: int) -> None:
    """Do one job and print what it took; the data it is given counts towards its memory."""
    import resource

    if job == "pairs":
        rows = np.random.default_rng(0).normal(size=(n, FEW_FEATURES)).astype(np.float32)
        rows[::100] = rows[1::100] + 0.1
        started = time.perf_counter()
        found = len(near_pairs(rows)[0])
    else:
        made = looks(n)
        units = np.repeat(np.arange(n // EACH), EACH) if job == "known" else None
        started = time.perf_counter()
        found = len(find_links(made, units))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    sys.stdout.write(json.dumps({"seconds": seconds, "gb": peak, "found": found}) + "\n")


def audit(rounds: int) -> str:
    """Return what an audit of many samples takes."""
    del rounds
    rows = []
    for job, title, sizes in (
        ("known", "patients known", (10_000, 100_000)),
        ("unknown", "patients unknown", (10_000, 100_000)),
        ("pairs", f"search alone, {FEW_FEATURES} features", (10_000, 100_000, 1_000_000)),
    ):
        before = None
        for n in sizes:
            took = alone(job, n)
            growth = f"{took['seconds'] / before:.1f}" if before else ""
            rows.append(
                f"| {title} | {n:,} | {took['seconds']:.1f} | {took['gb']:.2f} | {growth} "
                f"| {int(took['found']):,} |"
            )
            before = took["seconds"]
            sys.stdout.write(f"{rows[-1]}\n")
            sys.stdout.flush()
    return "\n".join(
        [
            "## Leak audit",
            "",
            f"Links among made-up samples (thumbnail and {FEATURES} features each; ten a patient, "
            "one in a hundred a copy), each in a process of its own, once. Reading the images and "
            "running the network are not counted. Up to 20,000 rows the search is exact. *Growth*: "
            "over the row above, which has a tenth of the samples.",
            "",
            "| audit | samples | seconds | peak memory, GB | growth | links |",
            "|---|---:|---:|---:|---:|---:|",
            *rows,
        ]
    )


def intervals(rounds: int) -> str:
    """Return what 2,000 resamples of the whole metric table take."""
    rng = np.random.default_rng(0)
    n, labels = 10_000, ("normal", "benign", "malignant")
    owner = np.arange(n) // EACH
    codes = owner % 3
    logits = rng.normal(size=(n, 3)) + 2 * (np.arange(3) == codes[:, np.newaxis])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = Predictions(
        sample_id=np.arange(n).astype(str),
        patient_id=owner.astype(str),
        partition=np.full(n, "train"),
        fold=(owner % 5).astype(str),
        reference=np.array(labels)[codes],
        predicted=decide(p, labels),
        probabilities=p,
        labels=labels,
    )
    times = []
    for _ in range(min(rounds, 5)):
        started = time.perf_counter()
        found = estimate(count_by_patient(table), "slice", EvaluateConfig(resamples=2000))
        times.append(time.perf_counter() - started)
    return "\n".join(
        [
            "## Intervals",
            "",
            f"2,000 resamples of {n // EACH:,} patients, {n:,} rows, three labels, all "
            f"{len(found)} numbers of the metric table: **{statistics.median(times):.1f} s**.",
        ]
    )


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]))
