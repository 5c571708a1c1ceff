"""Benchmark of a whole examination: from a raw DICOM series to the patient's answer, drawn."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hepar.config import IngestConfig, read_config
from hepar.ingest import ingest_files, read_slices
from hepar.main_job import run
from hepar.model import Outlines, Segmenter, load_predictor
from hepar.model.gate_inputs import judge_patients
from hepar.phantom import PhantomConfig, write_cohort
from hepar.progress import LOG
from hepar.provenance import stamp
from hepar.segment_job import fit_segmenter
from hepar.series_job import SeriesConfig, explain_series

SLICES, SIDE = 100, 512
OFF = (
    "controls.run=false",
    "evaluate.resamples=200",
    "explain.run=false",
    "segment.steps=100",
    "segment.folds=2",
)


def examination(rounds: int) -> str:
    """Return the section on one series through `hepar explain` with a segmenter's bundle."""
    del rounds
    LOG.setLevel("ERROR")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        bundle = outlining_bundle(place)
        cohort = PhantomConfig(patients=3, slices=SLICES, size=SIDE, seed=5)
        write_cohort(place / "new", cohort, ("dicom",))
        first = next(path for path in sorted((place / "new" / "dicom").iterdir()))
        seconds: dict[str, float] = {}

        def timed(stage: str, work: Callable[[], Any]) -> Any:
            started = time.perf_counter()
            result = work()
            seconds[stage] = time.perf_counter() - started
            return result

        predictor = timed("open the bundle", lambda: load_predictor(bundle))
        manifest = timed("look at the files", lambda: ingest_files([first], IngestConfig()))
        timed("decode once", lambda: read_slices(manifest, manifest.samples))
        segmenter = Segmenter(predictor.bundle.segmenter)
        outlines = Outlines(manifest, segmenter)
        timed("outline the liver", lambda: [outlines.logits(s) for s in manifest.samples])
        gate = predictor.bundle.gate
        timed("gate", lambda: judge_patients(gate, manifest, None))
        everything = timed(
            "everything, with maps, pictures and page",
            lambda: explain_series(
                predictor, manifest, place / "maps", SeriesConfig(), stamp("bench")
            ),
        )
        alone, peak = in_its_own_process(bundle, first, place / "alone")
    whole = seconds["everything, with maps, pictures and page"]
    rows = "\n".join(
        f"| {stage} | {took:.2f} | {100 * took / whole:.0f}% |" for stage, took in seconds.items()
    )
    return (
        "## An examination\n\n"
        f"One DICOM series of {SLICES} slices of {SIDE} x {SIDE} pixels (phantom), `--level "
        "lesion` with a segmenter, no mask, gate on; each stage once, alone, and at last all of "
        f"it, as `hepar explain` does it. {len(everything.slices)} slices show liver. The command "
        f"in a process of its own, imports and all: {alone:.1f} s and {peak:.2f} GB at most.\n"
        f"\n| stage | seconds | share |\n|---|---:|---:|\n{rows}"
    )


WATCH = """
import os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(status, time.perf_counter() - started, usage.ru_maxrss / 1e6)
"""
"""A small parent: a child's peak starts at the size of the process that it came from."""


def in_its_own_process(bundle: Path, series: Path, out: Path) -> tuple[float, float]:
    """Return seconds and peak memory in GB of `hepar explain` on a series."""
    command = [sys.executable, "-m", "hepar.cli", "explain", str(bundle), str(series)]
    watched = [sys.executable, "-c", WATCH, *command, "--out", str(out)]
    done = subprocess.run(watched, capture_output=True, text=True, check=True)
    status, seconds, peak = done.stdout.split()
    if status != "0":
        raise RuntimeError(f"hepar explain ended with status {status}")
    return float(seconds), float(peak)


def outlining_bundle(place: Path) -> Path:
    """Return a bundle at the level of lesions with a segmenter, fitted on twelve patients."""
    cohort = place / "cohort"
    write_cohort(cohort, PhantomConfig(patients=12, slices=6), ("nifti", "masks"))
    table = cohort / "nifti" / "index.csv"
    fit_segmenter([table], place / "segmenter", read_config(None, OFF))
    settings = [*OFF, f"segment.model={place / 'segmenter'}"]
    run(table, place / "run", read_config(None, settings, level="lesion"))
    return place / "run" / "bundle"


if __name__ == "__main__":
    np.set_printoptions(precision=3)
    print(examination(1))  # noqa: T201
