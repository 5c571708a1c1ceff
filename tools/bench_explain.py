"""Benchmarks of what a reader waits for: maps of a series, and reports of many patients."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from hepar.config import EvaluateConfig, IngestConfig, RunConfig, read_config
from hepar.data import LabelSet, Manifest, Sample, write_manifest
from hepar.evaluate import (
    Predictions,
    aggregate,
    decide,
    evaluate,
    measure_trust,
    write_evaluation,
    write_predictions,
)
from hepar.ingest import ingest_files
from hepar.main_job import run
from hepar.model import load_predictor
from hepar.phantom import PhantomConfig, write_cohort
from hepar.progress import LOG
from hepar.provenance import stamp, write_artefact
from hepar.report import write_report
from hepar.series_job import SeriesConfig, explain_series
from hepar.split import make_split, write_split

SLICES = 64
OFF = ("controls.run=false", "evaluate.resamples=200", "explain.checked=0", "explain.slices=12")


def explanations(rounds: int) -> str:
    """Return the section on `hepar explain` against `hepar predict`, on one DICOM series."""
    LOG.setLevel("ERROR")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        bundle = small_bundle(place)
        write_cohort(place / "new", PhantomConfig(patients=3, slices=SLICES, seed=5), ("dicom",))
        first = next(path for path in sorted((place / "new" / "dicom").iterdir()))
        predictor, manifest = load_predictor(bundle), ingest_files([first], IngestConfig())
        took: dict[str, list[float]] = {"predict": [], "explain": []}
        for number in range(min(rounds, 5) + 1):
            for way, seconds in took.items():
                started = time.perf_counter()
                if way == "predict":
                    predictor.predict(manifest)
                else:
                    out = place / f"maps{number}"
                    explain_series(predictor, manifest, out, SeriesConfig(), stamp("bench"))
                if number:
                    seconds.append(time.perf_counter() - started)
    plain, drawn = (statistics.median(took[way]) for way in ("predict", "explain"))
    return (
        "## Explanations\n\n"
        f"One DICOM series of {SLICES} slices of 256 x 256 pixels (phantom), from file to answer, "
        "EfficientNet-Lite0, liver guessed, gate on; medians after one call that is not counted.\n"
        "\n| | seconds | over predict |\n|---|---:|---:|\n"
        f"| predict | {plain:.2f} | 1 |\n"
        f"| explain: a map and a PNG a slice, strip, page | {drawn:.2f} | {drawn / plain:.2f} |"
    )


def small_bundle(place: Path) -> Path:
    """Return a bundle fitted on twelve phantom patients."""
    cohort = place / "cohort"
    write_cohort(cohort, PhantomConfig(patients=12, slices=4), ("dicom", "masks"))
    settings = [f"ingest.labels_csv={cohort / 'labels.csv'}", *OFF]
    run(cohort / "dicom", place / "run", read_config(None, settings))
    return place / "run" / "bundle"


def reports(rounds: int) -> str:
    """Return the section on writing reports of made-up runs."""
    del rounds
    LOG.setLevel("ERROR")
    rows = []
    for patients in (60, 5000):
        with tempfile.TemporaryDirectory() as name:
            folder = made_up_run(Path(name), patients)
            started = time.perf_counter()
            page = write_report(folder)
            took = time.perf_counter() - started
            rows.append(f"| {patients:,} | {took:.1f} | {page.stat().st_size / 1e6:.2f} |")
    return (
        "## Reports\n\nWriting `report.html` of made-up runs without pictures, 8 slices a patient, "
        "three labels, once; evaluation is not counted.\n"
        "\n| patients | seconds | MB |\n|---:|---:|---:|\n" + "\n".join(rows)
    )


def made_up_run(folder: Path, patients: int) -> Path:
    """Write the files of a finished run whose predictions are drawn at random."""
    rng, labels = np.random.default_rng(0), LabelSet(("normal", "benign", "malignant"))
    owner = np.repeat(np.arange(patients), 8)
    samples = tuple(
        Sample(f"{p:05d}/{i}.png", f"P{p:05d}", f"{p:05d}/{i}.png", labels.names[p % 3])
        for i, p in enumerate(owner.tolist())
    )
    manifest = Manifest(samples, labels, root=folder)
    split = make_split(manifest, RunConfig().split)
    provenance = stamp("bench")
    write_manifest(folder / "manifest.csv", manifest, provenance)
    write_split(folder / "split.json", split, manifest, provenance)
    scores = rng.normal(size=(len(owner), 3)) + 1.2 * np.eye(3)[owner % 3]
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    table = Predictions(
        sample_id=np.array([s.sample_id for s in samples]),
        patient_id=np.array([s.patient_id for s in samples]),
        partition=np.full(len(owner), "train"),
        fold=np.array([str(split.of(s).fold) for s in samples]),
        reference=np.array([s.label for s in samples]),
        predicted=decide(probabilities, labels.names),
        probabilities=probabilities,
        labels=labels.names,
    )
    by_patient, config = aggregate(table), EvaluateConfig(resamples=200)
    write_predictions(folder / "predictions.csv", table, provenance)
    write_predictions(folder / "patients.csv", by_patient, provenance)
    write_evaluation(folder / "evaluation.json", evaluate(table, by_patient, config), provenance)
    trust = measure_trust(by_patient, by_patient, manifest, RunConfig().decide, config)
    write_artefact(folder / "trust.json", "trust", trust, provenance)
    write_artefact(folder / "recipe.json", "recipe", {"name": "ct", "steps": []}, provenance)
    content = {
        "command": "bench",
        "config": dataclasses.asdict(RunConfig()),
        "stages": {"fit": 1.0},
        "backbone": {
            "name": "none",
            "source": "none",
            "licence": "none",
            "sha256": "0" * 64,
            "is_random": False,
            "feature_dim": 1,
            "input_size": 1,
        },
        "recipe": "ct",
        "warnings": [],
    }
    write_artefact(folder / "run.json", "run", content, provenance)
    return folder
