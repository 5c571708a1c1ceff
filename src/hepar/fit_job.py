"""One model from cohort to bundle: features or training, folds, predictions."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hepar.cohort_job import Cohort, PlannedPart, hash_files
from hepar.config import RunConfig
from hepar.data import Manifest
from hepar.errors import FitError
from hepar.fit.workers import rank
from hepar.ledger import Ledger
from hepar.preprocess import write_recipe
from hepar.progress import LOG
from hepar.provenance import digest, stamp
from hepar.split import Split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hepar.backbone import Network, Weights
    from hepar.evaluate import Predictions
    from hepar.model import FoldModel, InputReader, Outlines
    from hepar.preprocess import Recipe

__all__ = [
    "Job",
    "decide",
    "finder_features",
    "finders",
    "fit",
    "guard",
    "plain_features",
    "write_recipes",
]


@dataclass(frozen=True, eq=False)
class Job:
    """One model to fit.

    Attributes:
        cohort: whom it learns from and is tested on.
        parts: its networks.
        ledger: of its folder.
        config: of the model.
        cache: folder of features that models may share.
    """

    cohort: Cohort
    parts: tuple[PlannedPart, ...]
    ledger: Ledger
    config: RunConfig
    cache: Path

    @cached_property
    def outlines(self) -> Outlines | None:
        """The cohort's livers by the segmenter that was named; None for none."""
        from hepar.model import Outlines, find_segmenter

        if not self.config.segment.model:
            return None
        segmenter = find_segmenter(self.config.segment.model)
        threads, cache = self.config.backbone.threads, self.cache / "outlines"
        return Outlines(self.cohort.manifest, segmenter, threads, cache)

    def reader(
        self,
        recipe: Recipe,
        manifest: Manifest | None = None,
        *,
        unseen: bool = False,
        views: int = 1,
    ) -> InputReader:
        """Return what reads samples for a network.

        Args:
            recipe: of the network.
            manifest: the cohort's, or some of it; None for all.
            unseen: see every patient as a new one is seen, by the segmenter where there is one.
            views: of each sample.
        """
        from hepar.model import InputReader

        return InputReader(
            manifest or self.cohort.manifest,
            recipe,
            guess_liver=self.outlines is not None,
            outlines=self.outlines,
            drawn=not (unseen and self.outlines),
            augment=self.config.augment,
            views=views,
        )

    @property
    def trains(self) -> bool:
        """Whether a network is trained."""
        from hepar.fit import needs_training

        return needs_training(self.config)

    @property
    def finds(self) -> bool:
        """Whether a finder is taught by lesion masks."""
        return any(part.spec.fitted_to == "lesions" for part in self.parts)

    def inputs(self) -> list[object]:
        """What decides the result of the fit."""
        assignments = self.cohort.split.assignments
        config = dataclasses.asdict(self.config)
        return [
            hash_files(self.ledger, "manifest.csv"),
            [sample.sample_id for sample in self.cohort.manifest.samples],
            {p: [a.partition, a.fold] for p, a in sorted(assignments.items())},
            [[part.recipe.key, part.backbone] for part in self.parts],
            {k: v for k, v in config["head"].items() if k not in {"aggregate", "top_k"}},
            config["augment"] if self.trains or self.config.head.views > 1 else None,
            config["finetune"] if self.trains else None,
            self.outlines and self.outlines.segmenter.key,
        ]


def write_recipes(parts: Sequence[PlannedPart], ledger: Ledger) -> None:
    """Write each network's `recipe.json`."""
    names = ["recipe.json", *(f"recipe-{i}.json" for i in range(1, len(parts)))]

    def work() -> None:
        for name, part in zip(names, parts, strict=True):
            write_recipe(ledger.folder / name, part.recipe, stamp(ledger.command))

    ledger.stage("recipe", [part.recipe.to_json() for part in parts], names, work)


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


def plain_features(
    job: Job, manifest: Manifest, weights: Sequence[Weights], recipes: Sequence[Recipe] = ()
) -> NDArray[np.float32]:
    """Return plain-view features of all parts, from the cache that the fit has filled.

    Of a series seen in several windows, their mean.

    Args:
        job: whose networks, recipes and cache.
        manifest: n samples.
        weights: of the networks, one a part.
        recipes: one a part; empty for the job's own.

    Returns:
        (n, d) float32, the parts side by side.
    """
    import numpy as np

    from hepar.backbone import Network
    from hepar.model import compute_features, in_context

    head = job.config.head
    found = []
    for own, recipe in zip(weights, recipes or [part.recipe for part in job.parts], strict=True):
        network = Network.from_weights(own, job.config.backbone.threads)
        reader = job.reader(recipe, manifest)
        cache = job.cache / "features"
        rows = compute_features(network, reader, job.config.backbone, own.sha256, cache)
        rows = in_context(rows, manifest.samples, centre=head.centre, beside=head.beside)
        found.append(rows.mean(axis=1) if recipe.windows > 1 else rows[:, 0])
    return np.concatenate(found, axis=1)


def finders(job: Job) -> Iterator[tuple[Network, InputReader, list[int]]]:
    """Yield each lesion finder with what reads for it, and the rows of patients it never saw."""
    from hepar.backbone import Network
    from hepar.model import read_bundle, read_folds

    folder, samples = job.ledger.folder, job.cohort.manifest.samples
    (part,) = (bundle := read_bundle(folder / "bundle")).parts
    reader = job.reader(part.recipe, unseen=True)
    models = read_folds(folder / "folds.safetensors", bundle.labels)
    places = [job.cohort.split.of(sample).fold for sample in samples]
    for fold in sorted(set(places), key=lambda fold: -1 if fold is None else fold):
        trained = {} if fold is None else models[fold].weights
        network = Network(part.graph, {**part.weights, **trained}, job.config.backbone.threads)
        yield network, reader, [i for i, place in enumerate(places) if place == fold]


def finder_features(job: Job) -> NDArray[np.float32]:
    """Return features (n, d) of every slice by a lesion finder that never saw its patient."""
    import numpy as np

    from hepar.model import in_context

    found: dict[int, NDArray[np.float32]] = {}
    batch = job.config.backbone.batch
    for network, reader, rows in finders(job):
        for at in range(0, len(rows), batch):
            own = rows[at : at + batch]
            found.update(zip(own, network.features(np.stack(reader(own))), strict=True))
    features = np.stack([found[row] for row in range(len(found))])
    samples, beside = job.cohort.manifest.samples, job.config.head.beside
    return in_context(features[:, None], samples, beside=beside)[:, 0]


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
    configs = (config.head, config.backbone)
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
