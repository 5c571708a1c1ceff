"""The main job, stage after stage: each writes its artefact, and a stage already done is kept."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from hepar.backbone import LIVER_UNET
from hepar.cohort_job import Cohort, PlannedPart, hash_files, new_ledger, prepare
from hepar.config import RunConfig
from hepar.controls_job import control_model
from hepar.data import Manifest, stack_series
from hepar.errors import ConfigError
from hepar.explain_job import explain_model
from hepar.fit.workers import barrier, rank
from hepar.fit_job import decide, fit, guard
from hepar.ledger import Ledger
from hepar.lesions_job import search_model
from hepar.model_job import Job, write_recipes
from hepar.preprocess import read_recipe
from hepar.provenance import package_version, read_artefact, sha256_file, stamp, write_artefact
from hepar.settings import check
from hepar.words import counted

__all__ = [
    "evaluate_model",
    "fit_model",
    "report_model",
    "run",
    "trust_model",
    "write_record",
]


def run(source: Path, out: Path, config: RunConfig, command: str = "") -> Path:
    """Go from a source to a report and a bundle.

    Under `torchrun`, the first process reads and writes, and all of them train.

    Args:
        source: a table, a folder of class folders, a DICOM tree or NIfTI volumes.
        out: folder of the run; an interrupted run in it is taken up where it stopped.
        config: of every stage.
        command: the command line, for provenance; "" for this process's own.

    Returns:
        The path of `report.html`.

    Raises:
        HeparError: the source, the configuration or a stage is refused, in one line.
    """
    check(config)
    if config.ingest.findings:
        raise ConfigError(
            f"ingest.findings={config.ingest.findings}: expected one label a sample here. Several "
            "findings are run by hepar.run_findings, or by `hepar run`."
        )
    ledger = new_ledger(out, command)
    if rank() > 0:
        barrier()
    cohort, (parts,) = prepare(source, ledger, [config])
    if rank() == 0:
        barrier()
        write_record(source, ledger, config)
    return fit_model(cohort, parts, ledger, config)


_PACKAGES = ("numpy", "onnxruntime", "opencv-python-headless", "scikit-learn", "scipy", "torch")
"""That predictions depend on, where they are installed."""


def write_record(source: Path, ledger: Ledger, config: RunConfig) -> None:
    """Write `record.json`: what it takes to make the run again."""
    packages = {"hepar": package_version(), "python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            packages[name] = metadata.version(name)
    content = {
        "source": source.resolve().as_posix(),
        "config": _anywhere(config),
        "packages": packages,
        "platform": platform.platform(),
    }
    path = ledger.folder / "record.json"
    ledger.stage(
        "record",
        [content],
        ["record.json"],
        lambda: write_artefact(path, "record", content, stamp(ledger.command)),
    )


def _anywhere(config: RunConfig) -> dict[str, Any]:
    """Return settings by stage that mean the same in any working directory."""
    values = dataclasses.asdict(config)
    paths = (("ingest", "labels_csv"), ("backbone", "weights"), ("segment", "model"))
    for stage, key in paths:
        path = Path(values[stage][key])
        if values[stage][key] and path.exists():
            values[stage][key] = path.resolve().as_posix()
    return values


def fit_model(
    cohort: Cohort,
    parts: tuple[PlannedPart, ...],
    ledger: Ledger,
    config: RunConfig,
    cache: Path | None = None,
) -> Path:
    """Fit, evaluate and report one model in a folder that holds the cohort's manifest and split.

    Args:
        cohort: from `prepare`.
        parts: the model's networks, from `plan`.
        ledger: of the model's folder.
        config: of the model.
        cache: folder of features that models share; None for the model's own.

    Returns:
        The path of `report.html`.
    """
    seen = cohort
    if any(part.recipe.needs_series for part in parts):
        seen = dataclasses.replace(cohort, manifest=stack_series(cohort.manifest))
    job = Job(seen, parts, ledger, config, cache or ledger.folder)
    if rank() == 0:
        write_recipes(parts, ledger)
    fit(job)
    if rank() > 0:
        return ledger.folder / "report.html"
    decide(ledger, config)
    guard(cohort.manifest, cohort.split, ledger, config, job.cache)
    evaluate_model(ledger, config)
    trust_model(cohort.manifest, ledger, config)
    control_model(job)
    search_model(job)
    explain_model(job)
    return report_model(cohort, [part.backbone for part in parts], ledger, config)


def evaluate_model(ledger: Ledger, config: RunConfig) -> None:
    """Write `evaluation.json` from the predictions in a folder."""
    from hepar.evaluate import evaluate, read_predictions, write_evaluation

    folder = ledger.folder

    def work() -> None:
        predictions = read_predictions(folder / "predictions.csv")
        patients = read_predictions(folder / "patients.csv")
        hashes = {name: sha256_file(folder / name) for name in ("predictions.csv", "patients.csv")}
        provenance = stamp(ledger.command, seed=config.evaluate.seed, inputs=hashes)
        result = evaluate(predictions, patients, config.evaluate)
        write_evaluation(folder / "evaluation.json", result, provenance)

    inputs = [
        hash_files(ledger, "predictions.csv", "patients.csv"),
        dataclasses.asdict(config.evaluate),
    ]
    ledger.stage("evaluate", inputs, ["evaluation.json"], work)


def trust_model(manifest: Manifest, ledger: Ledger, config: RunConfig) -> None:
    """Write `trust.json`: what stands between a model's probabilities and an action."""
    from hepar.evaluate import aggregate, measure_trust, read_predictions

    folder = ledger.folder
    names = ("scores.csv", "patients.csv")

    def work() -> None:
        raw = aggregate(
            read_predictions(folder / "scores.csv"), config.head.aggregate, config.head.top_k
        )
        patients = read_predictions(folder / "patients.csv")
        found = measure_trust(raw, patients, manifest, config.decide, config.evaluate)
        hashes = {name: sha256_file(folder / name) for name in names}
        provenance = stamp(ledger.command, seed=config.evaluate.seed, inputs=hashes)
        write_artefact(folder / "trust.json", "trust", found, provenance)

    inputs = [
        hash_files(ledger, "manifest.csv", *names),
        [config.head.aggregate, config.head.top_k],
        dataclasses.asdict(config.decide),
        dataclasses.asdict(config.evaluate),
    ]
    ledger.stage("trust", inputs, ["trust.json"], work)


def report_model(
    cohort: Cohort, backbones: Sequence[Mapping[str, Any]], ledger: Ledger, config: RunConfig
) -> Path:
    """Write `run.json` and `report.html` from the other files of a folder; return the page."""
    from hepar.report import DOCUMENTS, write_documents, write_report, write_samples

    folder = ledger.folder
    settings = dataclasses.asdict(config)
    warnings = _warnings(cohort.manifest, backbones, config)
    notes = _notes(cohort.manifest, config)
    segmenter = _segmenter(config.segment.model)
    backbone = _together(backbones)
    recipe = read_recipe(folder / "recipe.json").name

    def work() -> None:
        content = {
            "command": ledger.command,
            "config": settings,
            "stages": ledger.seconds,
            "backbone": backbone,
            "recipe": recipe,
            "warnings": warnings,
            "notes": notes,
            "segmenter": segmenter,
        }
        write_artefact(folder / "run.json", "run", content, stamp(ledger.command))
        write_samples(folder, cohort.manifest)
        write_documents(folder)
        write_report(folder)

    names = ["manifest.csv", "split.json", "recipe.json", "evaluation.json", "predictions.csv"]
    later = ("audit.json", "trust.json", "controls.json", "lesions.json", "explanations.json")
    names += [name for name in later if (folder / name).is_file()]
    inputs = [hash_files(ledger, *names), settings, backbone, warnings, notes, segmenter]
    ledger.stage("report", inputs, ["run.json", *DOCUMENTS, "report.html"], work)
    return folder / "report.html"


_ON_PAGE_ONE = {"masks-like-lesions", "labels-alike", "series-at-odds", "left-out"}
"""Codes of findings that a reader must know before any number."""


def _warnings(
    manifest: Manifest, backbones: Sequence[Mapping[str, Any]], config: RunConfig
) -> list[str]:
    from hepar.evaluate import UNIT_WARNINGS

    warnings = []
    if config.split.unit == "image":
        warnings.append(
            "Folds are of images, by choice (split.unit=image): images of one patient stand on "
            "both sides, and these numbers do not say how the model does on a new patient."
        )
    elif not manifest.patients_known:
        warnings.append(UNIT_WARNINGS[manifest.unit])
    if any(b["is_random"] for b in backbones):
        warnings.append("The backbone's weights are random: this is a control, not a model.")
    if config.segment.model == LIVER_UNET:
        warnings.append(
            "Livers are outlined by liver-unet, which may have been taught with LiTS (MSD Task03): "
            "of patients from there these numbers say nothing."
        )
    if len(manifest.patients) < 20 and manifest.patients_known:
        warnings.append(
            f"Only {counted(len(manifest.patients), 'patient')}: intervals are wide, and some are "
            "undefined."
        )
    warnings += [
        finding.message[:1].upper() + finding.message[1:]
        for finding in manifest.findings
        if finding.code in _ON_PAGE_ONE
    ]
    return warnings


def _notes(manifest: Manifest, config: RunConfig) -> list[str]:
    """Return advice: what limits no number, and might make a better one."""
    mixed = sum(len({s.label for s in own} - {""}) > 1 for own in manifest.patients.values())
    if not mixed or config.head.aggregate != "mean" or config.recipe.name == "volume":
        return []
    return [
        f"{mixed} of {counted(len(manifest.patients), 'patient')} with slices of several labels: "
        "the patient's label is the most severe, and the mean over all slices dilutes it. "
        "head.aggregate=top looks at the slices that speak most for a label."
    ]


def _segmenter(model: str) -> list[dict[str, Any]]:
    """Return what was measured of a segmenter on patients it never saw, a record a source."""
    folder = Path(model)
    folder = folder.parent if (folder / "segmenter.json").is_file() else folder
    path = folder / "segmentation.json"
    if not model or not path.is_file():
        return []
    return list(read_artefact(path, "segmentation")["sources"])


def _together(backbones: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one record of all of a model's networks."""
    if len(backbones) == 1:
        return dict(backbones[0])
    texts = ("name", "source", "licence", "sha256")
    return {
        **{key: " + ".join(dict.fromkeys(str(b[key]) for b in backbones)) for key in texts},
        "is_random": any(b["is_random"] for b in backbones),
        "feature_dim": sum(b["feature_dim"] for b in backbones),
        "input_size": max(b["input_size"] for b in backbones),
    }
