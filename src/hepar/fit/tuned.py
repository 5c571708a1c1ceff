"""Folds of patients become fine-tuned networks, and out-of-fold predictions."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hepar.backbone import BACKBONES, Network
from hepar.config import RunConfig
from hepar.data import LabelSet
from hepar.errors import FitError
from hepar.evaluate import Predictions
from hepar.fit.boundary import Values, boundary_values
from hepar.fit.crossval import to_predictions
from hepar.fit.heads import choose_penalty, fit_head, fit_linear_head, sample_weights
from hepar.model import DenseHead, FoldModel, Head, InputReader, Part, mean_over_views
from hepar.progress import LOG
from hepar.provenance import digest, write_atomic
from hepar.split import Split, hold_out

if TYPE_CHECKING:
    from hepar.fit.cut import Cut
    from hepar.fit.differentiable import Tail
    from hepar.fit.finetune import Task, Trained

__all__ = ["Tuned", "fine_tune", "needs_training", "read_history", "write_history"]

HISTORY = (
    "fold",
    "epoch",
    "train_loss",
    "tune_loss",
    "train_accuracy",
    "tune_accuracy",
    "learning_rate",
    "best",
)


@dataclass(frozen=True, eq=False)
class Tuned:
    """What fine-tuning leaves.

    Attributes:
        predictions: a row per sample; train rows by a network that never saw the patient.
        part: the network that ships, trained on every train patient but the tune patients.
        head: of that network.
        history: a row per fold and epoch; fold "" is the final network's.
        folds: head and trained arrays of each fold.
    """

    predictions: Predictions
    part: Part
    head: Head
    history: tuple[Mapping[str, Any], ...]
    folds: tuple[FoldModel, ...]


def needs_training(config: RunConfig) -> bool:
    """Return whether a run trains layers, for which it needs torch, or only fits a head."""
    return config.finetune.freeze != "all" or config.head.kind == "dense"


def _check(config: RunConfig, part: Part) -> None:
    tune = config.finetune
    if tune.start not in {"random", "linear"}:
        raise FitError(f"finetune.start: expected random or linear, got {tune.start!r}.")
    if tune.start == "linear" and tune.hidden:
        raise FitError(
            "finetune.start=linear: expected no hidden layers, got "
            f"finetune.hidden={tune.hidden}. Set finetune.hidden to an empty list."
        )
    if tune.epochs < 1 or tune.batch < 1 or tune.patience < 1 or tune.plateau < 1:
        raise FitError("finetune: expected epochs, batch, patience and plateau of 1 or more.")
    if not 0 <= tune.dropout < 1 or not 0 <= tune.tune <= 0.9:
        raise FitError("finetune: expected dropout in [0, 1) and tune in [0, 0.9].")
    if part.backbone["is_random"] and tune.freeze != "none":
        LOG.warning("the frozen layers hold random numbers: this is a control, not a model")


def fine_tune(
    part: Part,
    reader: InputReader,
    split: Split,
    labels: LabelSet,
    config: RunConfig,
    folders: tuple[Path, Path],
    unseen: InputReader | None = None,
) -> Tuned:
    """Train a network per fold and one on all train patients, and predict every sample once.

    In each, a share of the training patients is set aside as the tune partition: it decides when
    to stop and which epoch to keep, and nothing is learned from it.

    Args:
        part: the pretrained network.
        reader: of the cohort, with as many views as training shows.
        split: places every patient.
        labels: the label set.
        config: of the run.
        folders: for checkpoints, and for the frozen part's cached output.
        unseen: reads the cohort as a new patient's is read, for those left out; None for the same.

    Raises:
        FitError: a setting makes no sense, torch is not installed, a label is missing in the
            training part of a fold, or the loss is not a number.
        BackboneError: the network has no such freeze boundary.
    """
    from hepar.fit.workers import join_workers

    _check(config, part)
    spec = BACKBONES.get(part.backbone["name"])
    frozen = spec.frozen_prefixes(config.finetune.freeze)
    try:
        from hepar.fit.cut import cut_graph
        from hepar.fit.finetune import keep_memory

        cut = cut_graph(part.graph, frozen)
    except ModuleNotFoundError as error:
        raise FitError(
            f"fine-tuning needs {error.name}, which is not installed. "
            "Install the extra: pip install 'hepar[train]'."
        ) from None
    keep_memory()
    join_workers()
    configs = (config.backbone, config.finetune)
    place = (configs, part.backbone["sha256"], folders[1] / "boundary")
    seen = boundary_values(cut, part.weights, reader, *place)
    new = boundary_values(cut, part.weights, unseen, *place) if unseen else seen
    return _Folds(part, reader, split, labels, config, cut, seen, new, folders[0]).run()


@dataclass(frozen=True, eq=False)
class _Folds:
    """One cross-validation of trained networks; its fields are what every fold needs.

    Left-out rows come from `unseen`, as new patients will.
    """

    part: Part
    reader: InputReader
    split: Split
    labels: LabelSet
    config: RunConfig
    cut: Cut
    values: Values
    unseen: Values
    folder: Path

    def run(self) -> Tuned:
        samples = self.reader.manifest.samples
        places = [self.split.of(sample) for sample in samples]
        folds = np.array([-1 if place.fold is None else place.fold for place in places])
        probabilities = np.zeros((len(samples), len(self.labels)))
        history: list[dict[str, Any]] = []
        models = []
        for fold in [*range(self.split.folds), -1]:
            train = np.flatnonzero((folds != fold) & (folds >= 0))
            out = np.flatnonzero(folds == fold)
            task, trained, head = self._train(fold, train)
            new = dataclasses.replace(task, values=self.unseen)
            probabilities[out] = self._predict(new, trained, head, out)
            name = "" if fold < 0 else str(fold)
            history += [{"fold": name, **row} for row in trained.history]
            models.append(FoldModel(head, trained.tail.arrays()))
        arrays = {**self.part.weights, **trained.tail.arrays()}
        self._check_parity(task, trained, arrays)
        return Tuned(
            to_predictions(samples, self.split, self.labels, probabilities),
            dataclasses.replace(self.part, weights=arrays),
            head,
            tuple(history),
            tuple(models[:-1]),
        )

    def _train(self, fold: int, rows: NDArray[np.int64]) -> tuple[Task, Trained, Head]:
        from hepar.fit.finetune import finetune

        name = "final" if fold < 0 else f"fold {fold}"
        task = self._task(name, rows)
        path = self.folder / "checkpoints" / f"{name.replace(' ', '-')}.safetensors"
        trained = finetune(task, self.config.finetune, path)
        kind = self.config.head.kind
        if kind == "dense":
            return task, trained, self._dense(trained.layers)
        known = np.concatenate([task.train, task.tune])
        return task, trained, self._fit_head(task, trained.tail, known)

    def _dense(self, layers: Mapping[str, NDArray[np.float32]]) -> DenseHead:
        return DenseHead.from_document(self.labels, {"hidden": len(layers) // 2 - 1}, layers)

    def _fit_head(self, task: Task, tail: Tail, rows: NDArray[np.int64]) -> Head:
        return fit_head(*self._known(task, tail, rows), self.labels, self.config.head)

    def _known(
        self, task: Task, tail: Tail, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], list[str]]:
        """Return features, codes and patients of every window of some rows."""
        from hepar.fit.finetune import features_of

        windows = range(task.windows)
        features = np.concatenate([features_of(task, tail, rows, window) for window in windows])
        patients = [self.reader.manifest.samples[int(i)].patient_id for i in rows]
        return features, np.tile(self._codes[rows], task.windows), patients * task.windows

    @property
    def _codes(self) -> NDArray[np.int64]:
        return np.array([self.labels.index(s.label) for s in self.reader.manifest.samples])

    def _task(self, name: str, rows: NDArray[np.int64]) -> Task:
        from hepar.fit.differentiable import Tail
        from hepar.fit.finetune import Task

        config, samples = self.config.finetune, self.reader.manifest.samples
        own = [samples[int(i)] for i in rows]
        spared = hold_out(own, self.labels, config.tune, config.seed)
        is_tune = np.array([sample.patient_id in spared for sample in own])
        train, tune = rows[~is_tune], rows[is_tune]
        missing = [n for i, n in enumerate(self.labels) if not (self._codes[train] == i).any()]
        if missing:
            raise FitError(
                f"{name}: expected samples of every label to train on, got none of {missing}. "
                "Use fewer folds, or merge labels."
            )
        if not len(tune):
            LOG.warning(
                "%s: no patient to spare for tuning; trained for all %d epochs", name, config.epochs
            )
        weights = np.zeros(len(samples))
        for chosen in (train, tune):
            patients = [samples[int(i)].patient_id for i in chosen]
            if len(chosen):
                weights[chosen] = sample_weights(self._codes[chosen], patients, len(self.labels))
        task = Task(
            name=name,
            cut=self.cut,
            arrays=self.part.weights,
            values=self.values,
            views=self.config.augment.views,
            windows=self.reader.recipe.windows,
            codes=self._codes,
            weights=weights,
            train=train,
            tune=tune,
            n_labels=len(self.labels),
            n_features=self.part.backbone["feature_dim"],
            head=None,
            key=self._key(train, tune),
        )
        if config.start != "linear":
            return task
        known = (*self._known(task, Tail(self.cut, self.part.weights), rows), self.labels)
        penalty = choose_penalty(*known, self.config.head)
        return dataclasses.replace(task, head=fit_linear_head(*known, penalty))

    def _key(self, train: NDArray[np.int64], tune: NDArray[np.int64]) -> str:
        """Return the SHA-256 of everything that decides a training's result."""
        keys = self.reader.samples
        settings = dataclasses.asdict(self.config.finetune)
        for name in ("cache", "cache_gb"):
            settings.pop(name)
        return digest(
            self.part.backbone["sha256"],
            digest(self.part.graph.hex()),
            self.reader.recipe.key,
            [[keys[int(i)], int(self._codes[i])] for i in train],
            [[keys[int(i)], int(self._codes[i])] for i in tune],
            settings,
            dataclasses.asdict(self.config.augment),
            list(self.labels),
        )

    def _predict(
        self, task: Task, trained: Trained, head: Head, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        from hepar.fit.finetune import features_of

        if not len(rows):
            return np.zeros((0, len(self.labels)))
        views = range(self.config.head.views * task.windows)
        features = [features_of(task, trained.tail, rows, view) for view in views]
        return mean_over_views(head, np.stack(features, axis=1))

    def _check_parity(
        self, task: Task, trained: Trained, arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Refuse a network that ONNX Runtime and torch do not answer alike."""
        from hepar.fit.finetune import features_of

        rows = task.train[:: max(1, len(task.train) // 8)][:8]
        ours = features_of(task, trained.tail, rows, 0)
        images = np.stack(self.reader([int(row) * self.reader.each for row in rows]))
        served = Network(self.part.graph, arrays).features(images)
        distance = float(np.linalg.norm(served - ours) / (np.linalg.norm(served) + 1e-12))
        if not distance < _PARITY:
            raise FitError(
                f"final network: expected ONNX Runtime to give torch's features to {_PARITY:g}, "
                f"got {distance:.2g}. Please report this; nothing was written."
            )
        LOG.info("parity    of ONNX Runtime with torch %.1e", distance)


_PARITY = 1e-2
"""Relative; most of it is float16 in the cache of the frozen part."""


def write_history(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write `history.csv`: a row per fold and epoch; fold "" is the final network's."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, HISTORY, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_atomic(path, stream.getvalue())


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read `history.csv`: numbers as numbers, None where there were no tune rows."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [
        {
            "fold": int(row["fold"]) if row["fold"] else None,
            "epoch": int(row["epoch"]),
            "best": row["best"] == "True",
            **{name: float(row[name]) if row[name] else None for name in HISTORY[2:7]},
        }
        for row in rows
    ]
