"""One model from cohort to bundle: features or training, folds, predictions, decision, gate."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hepar.cohort_job import hash_files
from hepar.config import RunConfig
from hepar.data import Manifest
from hepar.errors import FitError
from hepar.fit.workers import rank
from hepar.ledger import Ledger
from hepar.model_job import Job
from hepar.progress import LOG
from hepar.provenance import digest, stamp
from hepar.split import Split

if TYPE_CHECKING:
    from hepar.evaluate import Predictions
    from hepar.model import FoldModel, InputReader

__all__ = ["decide", "fit", "guard"]


def fit(job: Job) -> None:
    """Compute features or train, cross-validate, and write scores and bundle."""
    outputs = ["scores.csv", "folds.safetensors", "bundle/bundle.json"]
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


def _fit_work(job: Job) -> None:
    from hepar.evaluate import write_predictions
    from hepar.model import Bundle, Decision, write_bundle, write_folds

    config, manifest, folder = job.config, job.cohort.manifest, job.ledger.folder
    fit_one = _train if job.trains else _fit_lesions if job.finds else _fit_frozen
    scores, parts, head, folds = fit_one(job)
    hashes = {
        "manifest.csv": hash_files(job.ledger, "manifest.csv"),
        "split.json": hash_files(job.ledger, "split.json"),
        "recipe": digest([part.recipe.key for part in job.parts]),
        "weights": digest([part.weights.sha256 for part in job.parts]),
    }
    provenance = stamp(job.ledger.command, seed=config.split.seed, inputs=hashes)
    write_predictions(folder / "scores.csv", scores, provenance)
    write_folds(folder / "folds.safetensors", folds)
    for remark in dict.fromkeys(job.outlines.remarks if job.outlines else ()):
        LOG.warning("%s", remark)
    bundle = Bundle(
        labels=manifest.labels,
        parts=parts,
        head=head,
        augment=config.augment,
        views=config.head.views,
        centre=config.head.centre,
        beside=config.head.beside,
        unit=manifest.unit,
        kinds=tuple(sorted({sample.kind for sample in manifest.samples})),
        provenance=provenance,
        segmenter=job.outlines.segmenter.part if job.outlines else None,
        decision=Decision(config.head.aggregate, config.head.top_k),
    )
    write_bundle(folder / "bundle", bundle)


def decide(ledger: Ledger, config: RunConfig) -> None:
    """Turn the scores in a folder into predictions, and tell the bundle how."""
    from hepar.evaluate import read_predictions, write_predictions
    from hepar.fit import fit_decision
    from hepar.model import write_decision

    folder = ledger.folder

    def work() -> None:
        scores = read_predictions(folder / "scores.csv")
        slices, patients, decision = fit_decision(
            scores,
            config.head,
            config.decide,
            "series" if config.recipe.name == "volume" else "slices",
        )
        inputs = {"scores.csv": hash_files(ledger, "scores.csv")}
        provenance = stamp(ledger.command, seed=config.split.seed, inputs=inputs)
        write_predictions(folder / "predictions.csv", slices, provenance)
        write_predictions(folder / "patients.csv", patients, provenance)
        write_decision(folder / "bundle", decision, provenance)
        for note in decision.notes:
            LOG.info("%s", note)

    inputs = [
        hash_files(ledger, "scores.csv", "bundle/bundle.json"),
        dataclasses.asdict(config.decide),
        [config.head.aggregate, config.head.top_k],
    ]
    outputs = ["predictions.csv", "patients.csv", "bundle/decision.json"]
    ledger.stage("decide", inputs, outputs, work)


def guard(manifest: Manifest, split: Split, ledger: Ledger, config: RunConfig, cache: Path) -> None:
    """Give the bundle a gate that refuses what the model was not made for.

    Args:
        manifest: the cohort.
        split: only its train patients teach the gate.
        ledger: of the model's folder.
        config: of the model.
        cache: folder of features, which the audit has filled.
    """
    from hepar.fit import fit_gate
    from hepar.model import coloured_paths, gate_features, gate_recipes, looking_network, write_gate
    from hepar.preprocess import NetworkInput

    bundle = ledger.folder / "bundle"
    taught = tuple(s for s in manifest.samples if split.of(s).partition == "train")

    def work() -> None:
        gate = None
        if config.decide.gate:
            network, weights = looking_network(config.backbone.threads)
            recipes = gate_recipes(NetworkInput(224, weights.mean, weights.std))
            shown = dataclasses.replace(manifest, samples=taught)
            place = (weights.sha256, cache / "features")
            features = gate_features(network, shown, recipes, config.backbone, place)
            coloured = coloured_paths(manifest)
            gate = fit_gate(features, taught, config.decide.gate_share, coloured, weights.sha256)
            for note in gate.notes:
                LOG.info("%s", note)
        write_gate(bundle, gate, stamp(ledger.command, inputs={"bundle": _sha256(ledger)}))

    inputs = [
        _sha256(ledger),
        hash_files(ledger, "manifest.csv", "manifest.meta.json"),
        [s.sample_id for s in taught],
        config.decide.gate,
        config.decide.gate_share,
    ]
    outputs = ["bundle/gate.json", "bundle/gate.safetensors"] if config.decide.gate else []
    ledger.stage("gate", inputs, outputs, work)


def _sha256(ledger: Ledger) -> str:
    return hash_files(ledger, "bundle/bundle.json")


def _fit_frozen(job: Job) -> tuple[Any, tuple[Any, ...], Any, tuple[FoldModel, ...]]:
    """Return predictions, parts, head and the folds' models from frozen features."""
    import numpy as np

    from hepar.backbone import Network
    from hepar.fit import cross_validate
    from hepar.model import FoldModel, Part, compute_features, in_context

    config, manifest = job.config, job.cohort.manifest
    features, unseen, parts = [], [], []
    nothing: set[int] = set()
    for planned in job.parts:
        network = Network.from_weights(planned.weights, config.backbone.threads)
        how = (config.backbone, planned.weights.sha256, job.cache / "features")
        reader = job.reader(planned.recipe, views=config.head.views)
        features.append(compute_features(network, reader, *how))
        _refuse_empty(reader)
        if job.outlines and planned.recipe.needs_mask:
            reader = job.reader(planned.recipe, unseen=True, views=config.head.views)
            unseen.append(compute_features(network, reader, *how))
            nothing |= _not_found(reader)
        else:
            unseen.append(features[-1])
        parts.append(Part(planned.recipe, network.graph, network.arrays, planned.backbone))
    centre, beside = config.head.centre, config.head.beside
    taught, new = (
        in_context(np.concatenate(each, axis=2), manifest.samples, centre=centre, beside=beside)
        for each in (features, unseen)
    )
    result = cross_validate(
        taught,
        manifest.samples,
        job.cohort.split,
        manifest.labels,
        config.head,
        new if job.outlines else None,
    )
    predictions = _without_answer(job, result.predictions, nothing)
    folds = tuple(FoldModel(head) for head in result.fold_heads)
    return predictions, tuple(parts), result.head, folds


def _not_found(reader: InputReader) -> set[int]:
    """Return rows where the segmenter finds no liver, also of those that a cache answered for."""
    outlines = reader.outlines
    samples = enumerate(reader.manifest.samples)
    return reader.empty | {i for i, one in samples if outlines and not outlines.finds(one)}


def _without_answer(job: Job, scores: Predictions, rows: Collection[int]) -> Predictions:
    """Return scores where slices in which no liver was found have the labels' frequencies."""
    import numpy as np

    from hepar.evaluate import decide as choose

    if not rows:
        return scores
    things = job.parts[0].recipe.things
    LOG.warning("%d %s of left-out patients: the segmenter finds no liver", len(rows), things)
    labels = job.cohort.manifest.labels
    counts = [sum(s.label == label for s in job.cohort.manifest.samples) for label in labels]
    probabilities = scores.probabilities.copy()
    probabilities[sorted(rows)] = np.array(counts) / sum(counts)
    return dataclasses.replace(
        scores, probabilities=probabilities, predicted=choose(probabilities, labels.names)
    )


def _fit_lesions(job: Job) -> tuple[Any, tuple[Any, ...], Any, tuple[FoldModel, ...]]:
    """Return predictions, part, head and folds' models of a lesion finder."""
    from hepar.backbone import read_graph
    from hepar.fit import fit_finder
    from hepar.model import Part

    config, manifest = job.config, job.cohort.manifest
    if all(sample.extra.get("lesion_px", "0") == "0" for sample in manifest.samples):
        raise FitError(
            f"lesion level: expected masks that show lesions of one to 4 labels, got 0 in "
            f"{len(manifest)} slices. Say which value is lesion with ingest.mask_values, or learn "
            "from patients' labels alone with --level mil, or look with --level rule."
        )
    (planned,) = job.parts
    reader = job.reader(planned.recipe)
    weights = planned.weights
    part = Part(planned.recipe, read_graph(weights.graph), weights.arrays, planned.backbone)
    configs = (config.finder, config.head, config.backbone)
    unseen = job.reader(planned.recipe, unseen=True)
    found = fit_finder(part, reader, job.cohort.split, manifest.labels, configs, unseen)
    _refuse_empty(reader)
    return found.predictions, (found.part,), found.head, found.folds


def _train(job: Job) -> tuple[Any, tuple[Any, ...], Any, tuple[FoldModel, ...]]:
    """Return predictions, part, head and folds' models of a network trained behind its boundary."""
    from hepar.backbone import read_graph
    from hepar.fit import fine_tune, write_history
    from hepar.model import Part

    config, manifest = job.config, job.cohort.manifest
    (planned,) = job.parts
    views = max(config.augment.views, config.head.views)
    reader = job.reader(planned.recipe, views=views)
    graph = read_graph(planned.weights.graph)
    backbone = {**planned.backbone, "freeze": config.finetune.freeze}
    part = Part(planned.recipe, graph, planned.weights.arrays, backbone)
    folders = (job.ledger.folder, job.cache)
    unseen = None
    if job.outlines and planned.recipe.needs_mask:
        unseen = job.reader(planned.recipe, unseen=True, views=config.head.views)
    place = (job.cohort.split, manifest.labels, config, folders)
    tuned = fine_tune(part, reader, *place, unseen)
    _refuse_empty(reader)
    if rank() == 0:
        write_history(job.ledger.folder / "history.csv", tuned.history)
    predictions = _without_answer(job, tuned.predictions, _not_found(unseen) if unseen else ())
    return predictions, (tuned.part,), tuned.head, tuned.folds


def _refuse_empty(reader: Any) -> None:
    if reader.empty:
        sample = reader.manifest.samples[min(reader.empty)]
        raise FitError(
            f"sample {sample.sample_id}: expected a mask that shows the liver, got none "
            f"({len(reader.empty)} such). Correct the masks."
        )
