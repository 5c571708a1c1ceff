"""The main job, stage after stage: each writes its artefact, and a stage already done is kept."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hepar.backbone import BACKBONES, BackboneSpec, Weights, find_weights
from hepar.config import RunConfig
from hepar.data import Finding, Manifest, read_manifest, write_manifest
from hepar.errors import ConfigError, FitError, IngestError
from hepar.fit.workers import barrier, rank
from hepar.ledger import Ledger
from hepar.preprocess import NetworkInput, Recipe, make_recipe, read_recipe, write_recipe
from hepar.provenance import digest, sha256_file, stamp, write_artefact
from hepar.settings import check
from hepar.split import Split, make_split, read_split, write_split

__all__ = [
    "Cohort",
    "evaluate_model",
    "fit_model",
    "new_ledger",
    "plan",
    "prepare",
    "report_model",
    "run",
]


def _fingerprint(source: Path, *more: str) -> list[list[object]]:
    """Return path, size and time of every file a source may draw on, without reading any."""
    folders = {source if source.is_dir() else source.parent}
    folders |= {Path(name).parent for name in more if name}
    rows: list[list[object]] = []
    for top in sorted(folders):
        for folder, inner, files in os.walk(top):
            inner.sort()
            for name in sorted(files):
                state = (Path(folder) / name).stat()
                rows.append([os.path.join(folder, name), state.st_size, state.st_mtime_ns])  # noqa: PTH118
    return rows


def _without_liver(manifest: Manifest) -> Manifest:
    """Return the manifest without slices whose mask shows no liver."""
    shown = tuple(s for s in manifest.samples if s.extra.get("liver_px") != "0")
    return manifest if len(shown) == len(manifest) else dataclasses.replace(manifest, samples=shown)


@dataclass(frozen=True, eq=False)
class PlannedPart:
    """One network of a model, before anything is computed."""

    spec: BackboneSpec
    weights: Weights
    recipe: Recipe

    @property
    def backbone(self) -> dict[str, Any]:
        """What a bundle and a report say of it."""
        return {
            "name": self.spec.name,
            "source": self.weights.source,
            "licence": self.weights.licence,
            "sha256": self.weights.sha256,
            "is_random": self.weights.is_random and bool(self.spec.timm_name),
            "feature_dim": self.spec.feature_dim,
            "input_size": self.recipe.size,
        }


@dataclass(frozen=True, eq=False)
class Cohort:
    """Whom a model learns from and is tested on."""

    manifest: Manifest
    split: Split


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
    if len(manifest.patients) < 20 and manifest.patients_known:
        warnings.append(
            f"Only {len(manifest.patients)} patients: intervals are wide, and some are undefined."
        )
    return warnings


def _as_images(manifest: Manifest) -> Manifest:
    """Return the manifest with every image standing for a patient."""
    samples = tuple(dataclasses.replace(s, patient_id=s.sample_id) for s in manifest.samples)
    finding = Finding(
        "image-level",
        "all samples",
        f"{len(manifest.patients)} patients are taken apart into {len(manifest)} images, by choice "
        "(split.unit=image).",
    )
    return dataclasses.replace(
        manifest, samples=samples, unit="image", findings=(*manifest.findings, finding)
    )


def _ingest(source: Path, ledger: Ledger, config: RunConfig) -> Manifest:
    from hepar.ingest import ingest

    if not source.exists():
        raise IngestError(f"{source}: expected a folder, table or image, got nothing there.")
    path = ledger.folder / "manifest.csv"

    def work() -> None:
        manifest = ingest(source, config.ingest)
        if config.split.unit == "image":
            manifest = _as_images(manifest)
        write_manifest(path, manifest, stamp(ledger.command, inputs={"source": str(source)}))

    inputs = [
        str(source.resolve()),
        dataclasses.asdict(config.ingest),
        config.split.unit,
        _fingerprint(source, config.ingest.labels_csv),
    ]
    ledger.stage("ingest", inputs, ["manifest.csv", "manifest.meta.json"], work)
    return read_manifest(path)


def plan(manifest: Manifest, config: RunConfig) -> tuple[PlannedPart, ...]:
    """Return the networks that a configuration asks for, with their weights and recipes.

    Raises:
        HeparError: a network, its weights or a recipe cannot be had.
    """
    parts = []
    for name in config.backbone.name.split("+"):
        spec = BACKBONES.get(name)
        weights = find_weights(name, config.backbone.weights)
        size = config.recipe.size or spec.input_size
        network = NetworkInput(size, weights.mean, weights.std)
        parts.append(PlannedPart(spec, weights, make_recipe(config.recipe.name, manifest, network)))
    return tuple(parts)


def _split(manifest: Manifest, ledger: Ledger, config: RunConfig) -> Split:
    path = ledger.folder / "split.json"
    rows = [[s.sample_id, s.patient_id, s.label] for s in manifest.samples]
    inputs = [digest(rows), dataclasses.asdict(config.split), _hash(ledger, "manifest.csv")]

    def work() -> None:
        hashes = {"manifest.csv": _hash(ledger, "manifest.csv")}
        provenance = stamp(ledger.command, seed=config.split.seed, inputs=hashes)
        write_split(path, make_split(manifest, config.split), manifest, provenance)

    ledger.stage("split", inputs, ["split.json"], work)
    return read_split(path)


def _hash(ledger: Ledger, *names: str) -> str:
    return digest([sha256_file(ledger.folder / name) for name in names])


def prepare(
    source: Path, ledger: Ledger, configs: Sequence[RunConfig]
) -> tuple[Cohort, list[tuple[PlannedPart, ...]]]:
    """Ingest and split a source once, for one model or several.

    Slices without liver are left out for all models where one of them looks at the mask.

    Args:
        source: a table, a folder of class folders, a DICOM tree or NIfTI volumes.
        ledger: of the folder that gets manifest and split.
        configs: of the models; ingest and split are the first one's.

    Returns:
        The cohort, and each model's networks.
    """
    manifest = _ingest(source, ledger, configs[0])
    lost = next((f for f in manifest.findings if f.code == "label-lost"), None)
    if lost and len(manifest.labels) < 2:
        raise IngestError(f"{source}: {lost.where}: {lost.message}")
    plans = [plan(manifest, config) for config in configs]
    if any(part.recipe.needs_mask for parts in plans for part in parts):
        manifest = _without_liver(manifest)
    return Cohort(manifest, _split(manifest, ledger, configs[0])), plans


def _write_recipes(parts: Sequence[PlannedPart], ledger: Ledger) -> None:
    names = ["recipe.json", *(f"recipe-{i}.json" for i in range(1, len(parts)))]

    def work() -> None:
        for name, part in zip(names, parts, strict=True):
            write_recipe(ledger.folder / name, part.recipe, stamp(ledger.command))

    ledger.stage("recipe", [part.recipe.to_json() for part in parts], names, work)


@dataclass(frozen=True, eq=False)
class _Job:
    """One model to fit."""

    cohort: Cohort
    parts: tuple[PlannedPart, ...]
    ledger: Ledger
    config: RunConfig
    cache: Path

    @property
    def trains(self) -> bool:
        from hepar.fit import needs_training

        return needs_training(self.config)

    def inputs(self) -> list[object]:
        """What decides the result of the fit."""
        assignments = self.cohort.split.assignments
        config = dataclasses.asdict(self.config)
        return [
            _hash(self.ledger, "manifest.csv"),
            [sample.sample_id for sample in self.cohort.manifest.samples],
            {p: [a.partition, a.fold] for p, a in sorted(assignments.items())},
            [[part.recipe.key, part.backbone] for part in self.parts],
            config["head"],
            config["augment"] if self.trains or self.config.head.views > 1 else None,
            config["finetune"] if self.trains else None,
        ]


def _fit(job: _Job) -> None:
    """Compute features or train, cross-validate, and write predictions and bundle."""
    outputs = ["predictions.csv", "patients.csv", "bundle/bundle.json"]
    if job.trains:
        outputs.append("history.csv")
    if rank() > 0:
        if job.trains and not job.ledger.stands("fit", job.inputs(), outputs):
            _train(job)
        return
    job.ledger.stage("fit", job.inputs(), outputs, lambda: _fit_work(job))
    shutil.rmtree(job.ledger.folder / "checkpoints", ignore_errors=True)
    if job.cache == job.ledger.folder:
        shutil.rmtree(job.cache / "boundary", ignore_errors=True)


def _fit_work(job: _Job) -> None:
    from hepar.evaluate import aggregate, write_predictions
    from hepar.model import Bundle, write_bundle

    config, manifest, folder = job.config, job.cohort.manifest, job.ledger.folder
    predictions, parts, head = _train(job) if job.trains else _fit_frozen(job)
    hashes = {
        "manifest.csv": _hash(job.ledger, "manifest.csv"),
        "split.json": _hash(job.ledger, "split.json"),
        "recipe": digest([part.recipe.key for part in job.parts]),
        "weights": digest([part.weights.sha256 for part in job.parts]),
    }
    provenance = stamp(job.ledger.command, seed=config.split.seed, inputs=hashes)
    patients = aggregate(predictions, config.head.aggregate, config.head.top_k)
    write_predictions(folder / "predictions.csv", predictions, provenance)
    write_predictions(folder / "patients.csv", patients, provenance)
    bundle = Bundle(
        labels=manifest.labels,
        parts=parts,
        head=head,
        augment=config.augment,
        views=config.head.views,
        aggregate=config.head.aggregate,
        top_k=config.head.top_k,
        unit=manifest.unit,
        kinds=tuple(sorted({sample.kind for sample in manifest.samples})),
        provenance=provenance,
    )
    write_bundle(folder / "bundle", bundle)


def _fit_frozen(job: _Job) -> tuple[Any, tuple[Any, ...], Any]:
    """Return predictions, parts and head from frozen features."""
    import numpy as np

    from hepar.backbone import Network
    from hepar.fit import cross_validate
    from hepar.model import InputReader, Part, compute_features

    config, manifest = job.config, job.cohort.manifest
    features, parts = [], []
    for planned in job.parts:
        network = Network.from_weights(planned.weights, config.backbone.threads)
        reader = InputReader(
            manifest, planned.recipe, augment=config.augment, views=config.head.views
        )
        sha256 = planned.weights.sha256
        cache = job.cache / "features"
        features.append(compute_features(network, reader, config.backbone, sha256, cache))
        _refuse_empty(reader)
        parts.append(Part(planned.recipe, network.graph, network.arrays, planned.backbone))
    result = cross_validate(
        np.concatenate(features, axis=2),
        manifest.samples,
        job.cohort.split,
        manifest.labels,
        config.head,
    )
    return result.predictions, tuple(parts), result.head


def _train(job: _Job) -> tuple[Any, tuple[Any, ...], Any]:
    """Return predictions, part and head from a network trained behind its freeze boundary."""
    from hepar.backbone import read_graph
    from hepar.fit import fine_tune, write_history
    from hepar.model import InputReader, Part

    config, manifest = job.config, job.cohort.manifest
    (planned,) = job.parts
    views = max(config.augment.views, config.head.views)
    reader = InputReader(manifest, planned.recipe, augment=config.augment, views=views)
    graph = read_graph(planned.weights.graph)
    backbone = {**planned.backbone, "freeze": config.finetune.freeze}
    part = Part(planned.recipe, graph, planned.weights.arrays, backbone)
    folders = (job.ledger.folder, job.cache)
    tuned = fine_tune(part, reader, job.cohort.split, manifest.labels, config, folders)
    _refuse_empty(reader)
    if rank() == 0:
        write_history(job.ledger.folder / "history.csv", tuned.history)
    return tuned.predictions, (tuned.part,), tuned.head


def _refuse_empty(reader: Any) -> None:
    if reader.empty:
        sample = reader.manifest.samples[min(reader.empty)]
        raise FitError(
            f"sample {sample.sample_id}: expected a mask that shows the liver, got none "
            f"({len(reader.empty)} such). Correct the masks."
        )


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
        _hash(ledger, "predictions.csv", "patients.csv"),
        dataclasses.asdict(config.evaluate),
    ]
    ledger.stage("evaluate", inputs, ["evaluation.json"], work)


def report_model(
    cohort: Cohort, backbones: Sequence[Mapping[str, Any]], ledger: Ledger, config: RunConfig
) -> Path:
    """Write `run.json` and `report.html` from the other files of a folder; return the page."""
    from hepar.report import write_report, write_samples

    folder = ledger.folder
    settings = dataclasses.asdict(config)
    warnings = _warnings(cohort.manifest, backbones, config)
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
        }
        write_artefact(folder / "run.json", "run", content, stamp(ledger.command))
        write_samples(folder, cohort.manifest)
        write_report(folder)

    names = ["manifest.csv", "split.json", "recipe.json", "evaluation.json", "predictions.csv"]
    inputs = [_hash(ledger, *names), settings, backbone, warnings]
    ledger.stage("report", inputs, ["run.json", "report.html"], work)
    return folder / "report.html"


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
    job = _Job(cohort, parts, ledger, config, cache or ledger.folder)
    if rank() == 0:
        _write_recipes(parts, ledger)
    _fit(job)
    if rank() > 0:
        return ledger.folder / "report.html"
    evaluate_model(ledger, config)
    return report_model(cohort, [part.backbone for part in parts], ledger, config)


def new_ledger(out: Path, command: str = "") -> Ledger:
    """Return the ledger of a folder, which the first file in it makes.

    Raises:
        ConfigError: no such folder can be made, or nothing can be written to it.
    """
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ConfigError(f"{out}: expected a folder to write to, got {there}, which is none.")
    return Ledger(out, command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))


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
    ledger = new_ledger(out, command)
    if rank() > 0:
        barrier()
    cohort, (parts,) = prepare(source, ledger, [config])
    if rank() == 0:
        barrier()
    return fit_model(cohort, parts, ledger, config)
