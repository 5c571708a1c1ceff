"""The main job, stage after stage: each writes its artefact, and a stage already done is kept."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hepar.backbone import BACKBONES, Weights, find_weights
from hepar.config import RunConfig
from hepar.data import Manifest, read_manifest, write_manifest
from hepar.errors import FitError
from hepar.preprocess import NetworkInput, Recipe, make_recipe, read_recipe, write_recipe
from hepar.progress import LOG
from hepar.provenance import (
    digest,
    package_version,
    sha256_file,
    stamp,
    write_artefact,
    write_atomic,
)
from hepar.split import Split, make_split, read_split, write_split

__all__ = ["run"]


@dataclass
class Ledger:
    """Which stages of a run are done, from what, and what they wrote.

    Attributes:
        folder: of the run.
        command: for provenance.
        seconds: what each stage of this call took; 0 where it was kept from before.
    """

    folder: Path
    command: str
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def _path(self) -> Path:
        return self.folder / ".stages.json"

    def _entries(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return {}

    def stage(
        self, name: str, inputs: Sequence[object], outputs: Sequence[str], work: Callable[[], None]
    ) -> None:
        """Do a stage unless the same inputs have already made outputs that still stand unaltered.

        Args:
            name: of the stage, in the words of the log.
            inputs: JSON-able values that decide the result.
            outputs: files it writes, relative to the run's folder.
            work: does it.
        """
        key = digest(package_version(), name, inputs)
        entry = self._entries().get(name, {})
        if entry.get("key") == key and self._stand(entry.get("outputs", {}), outputs):
            LOG.info("%-9s kept from before", name)
            self.seconds[name] = 0.0
            return
        started = time.perf_counter()
        work()
        self.seconds[name] = time.perf_counter() - started
        hashes = {output: sha256_file(self.folder / output) for output in outputs}
        entries = {**self._entries(), name: {"key": key, "outputs": hashes}}
        write_atomic(self._path, json.dumps(entries, indent=2) + "\n")
        LOG.info("%-9s %.1f s", name, self.seconds[name])

    def _stand(self, hashes: Mapping[str, str], outputs: Sequence[str]) -> bool:
        if set(hashes) != set(outputs):
            return False
        paths = {output: self.folder / output for output in outputs}
        return all(p.is_file() and sha256_file(p) == hashes[o] for o, p in paths.items())


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


def _warnings(manifest: Manifest, *, is_random: bool) -> list[str]:
    warnings = []
    if not manifest.patients_known:
        warnings.append(
            "Patient ids are unknown: folds are of images, and these numbers do not say how the "
            "model does on a new patient."
        )
    if is_random:
        warnings.append("The backbone's weights are random: this is a control, not a model.")
    if len(manifest.patients) < 20 and manifest.patients_known:
        warnings.append(
            f"Only {len(manifest.patients)} patients: intervals are wide, and some are undefined."
        )
    return warnings


def _ingest(source: Path, ledger: Ledger, config: RunConfig) -> Manifest:
    from hepar.ingest import ingest

    path = ledger.folder / "manifest.csv"

    def work() -> None:
        provenance = stamp(ledger.command, inputs={"source": str(source)})
        write_manifest(path, ingest(source, config.ingest), provenance)

    inputs = [
        str(source.resolve()),
        dataclasses.asdict(config.ingest),
        _fingerprint(source, config.ingest.labels_csv),
    ]
    ledger.stage("ingest", inputs, ["manifest.csv", "manifest.meta.json"], work)
    return read_manifest(path)


def _recipe(manifest: Manifest, network: NetworkInput, ledger: Ledger, config: RunConfig) -> Recipe:
    path = ledger.folder / "recipe.json"
    recipe = make_recipe(config.recipe.name, manifest, network)

    def work() -> None:
        write_recipe(path, recipe, stamp(ledger.command))

    ledger.stage("recipe", [recipe.to_json()], ["recipe.json"], work)
    return read_recipe(path)


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


@dataclass(frozen=True)
class _Job:
    """What the fit stage needs, found by the stages before it."""

    manifest: Manifest
    split: Split
    recipe: Recipe
    weights: Weights
    backbone: Mapping[str, Any]


def _fit(job: _Job, ledger: Ledger, config: RunConfig) -> None:
    """Compute features, cross-validate, and write predictions and bundle."""
    places = {p: [a.partition, a.fold] for p, a in sorted(job.split.assignments.items())}
    inputs = [
        _hash(ledger, "manifest.csv"),
        [sample.sample_id for sample in job.manifest.samples],
        places,
        job.recipe.key,
        job.backbone,
        dataclasses.asdict(config.head),
    ]
    outputs = ["predictions.csv", "patients.csv", "bundle/bundle.json"]
    ledger.stage("fit", inputs, outputs, lambda: _fit_work(job, ledger, config))


def _fit_work(job: _Job, ledger: Ledger, config: RunConfig) -> None:
    from hepar.backbone import Network
    from hepar.evaluate import aggregate, write_predictions
    from hepar.fit import cross_validate
    from hepar.model import Bundle, InputReader, compute_features, write_bundle

    manifest, folder = job.manifest, ledger.folder
    network = Network.from_weights(job.weights, config.backbone.threads)
    reader = InputReader(manifest, job.recipe)
    features = compute_features(
        network, reader, config.backbone, job.weights.sha256, folder / "features"
    )
    if reader.empty:
        raise FitError(
            f"sample {manifest.samples[min(reader.empty)].sample_id}: expected a mask that shows "
            f"the liver, got none ({len(reader.empty)} such). Correct the masks."
        )
    result = cross_validate(features, manifest.samples, job.split, manifest.labels, config.head)
    hashes = {
        "manifest.csv": _hash(ledger, "manifest.csv"),
        "split.json": _hash(ledger, "split.json"),
        "recipe": job.recipe.key,
        "weights": job.weights.sha256,
    }
    provenance = stamp(ledger.command, seed=config.split.seed, inputs=hashes)
    patients = aggregate(result.predictions, config.head.aggregate, config.head.top_k)
    write_predictions(folder / "predictions.csv", result.predictions, provenance)
    write_predictions(folder / "patients.csv", patients, provenance)
    bundle = Bundle(
        labels=manifest.labels,
        recipe=job.recipe,
        graph=network.graph,
        weights=network.arrays,
        head=result.head,
        backbone=job.backbone,
        aggregate=config.head.aggregate,
        top_k=config.head.top_k,
        patients_known=manifest.patients_known,
        provenance=provenance,
    )
    write_bundle(folder / "bundle", bundle)


def _evaluate(ledger: Ledger, config: RunConfig) -> None:
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


def _report(job: _Job, ledger: Ledger, config: RunConfig) -> Path:
    from hepar.report import write_report, write_samples

    folder = ledger.folder
    settings = dataclasses.asdict(config)
    warnings = _warnings(job.manifest, is_random=job.weights.is_random)

    def work() -> None:
        content = {
            "command": ledger.command,
            "config": settings,
            "stages": ledger.seconds,
            "backbone": dict(job.backbone),
            "recipe": job.recipe.name,
            "warnings": warnings,
        }
        write_artefact(folder / "run.json", "run", content, stamp(ledger.command))
        write_samples(folder, job.manifest)
        write_report(folder)

    names = ("manifest.csv", "split.json", "recipe.json", "evaluation.json", "predictions.csv")
    inputs = [_hash(ledger, *names), settings, dict(job.backbone), warnings]
    ledger.stage("report", inputs, ["run.json", "report.html"], work)
    return folder / "report.html"


def run(source: Path, out: Path, config: RunConfig, command: str = "") -> Path:
    """Go from a source to a report and a bundle.

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
    out.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(out, command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))
    spec = BACKBONES.get(config.backbone.name)
    weights = find_weights(config.backbone.name, config.backbone.weights)
    manifest = _ingest(source, ledger, config)
    size = config.recipe.size or spec.input_size
    network = NetworkInput(size, weights.mean, weights.std)
    recipe = _recipe(manifest, network, ledger, config)
    if recipe.needs_mask:
        manifest = _without_liver(manifest)
    split = _split(manifest, ledger, config)
    backbone = {
        "name": spec.name,
        "source": weights.source,
        "licence": weights.licence,
        "sha256": weights.sha256,
        "is_random": weights.is_random,
        "feature_dim": spec.feature_dim,
        "input_size": size,
    }
    job = _Job(manifest, split, recipe, weights, backbone)
    _fit(job, ledger, config)
    _evaluate(ledger, config)
    return _report(job, ledger, config)
