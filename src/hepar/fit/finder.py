"""Lesion masks become a lesion finder: pixels of the liver, told apart by a small perceptron."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.backbone import BACKBONES, Network, read_graph
from hepar.config import BackboneConfig, FinderConfig, HeadConfig
from hepar.data import LESION, LIVER, LabelSet, Slice
from hepar.errors import FitError
from hepar.evaluate import Predictions
from hepar.fit.crossval import to_predictions
from hepar.fit.heads import fit_head
from hepar.model import FoldModel, Head, InputReader, Part, in_context
from hepar.progress import track
from hepar.split import Split

__all__ = ["Found", "fit_finder"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_HIDDEN = (32, 16)
_EPOCHS = 4
_BATCH = 512
_DECAY = 0.1
_MEMBERS = 5
_INNER = 3
_KEPT_BYTES = 1_500_000_000
_MOST = 4
"""Kinds of lesion that there are graphs for."""


@dataclass(frozen=True, eq=False)
class Found:
    """What fitting a lesion finder leaves.

    Attributes:
        predictions: a row per sample; train rows by a finder and a head that never saw the patient.
        part: the finder that ships, taught by every train patient.
        head: on its features.
        folds: head and finder of each fold.
    """

    predictions: Predictions
    part: Part
    head: Head
    folds: tuple[FoldModel, ...]


def fit_finder(
    part: Part,
    reader: InputReader,
    split: Split,
    labels: LabelSet,
    configs: tuple[FinderConfig, HeadConfig, BackboneConfig],
    unseen: InputReader | None = None,
) -> Found:
    """Teach a finder per fold and one on all train patients, and predict every sample once.

    A finder says of each pixel of the liver whether it is lesion, and of which label. What it says
    of the likeliest pixels of a slice is what the head sees. The head learns from slices of
    patients that its finder was not taught with, by an inner cross-validation; else it would trust
    the finder more than new patients allow.

    Args:
        part: the finder's graph and recipe.
        reader: of the cohort, by the part's recipe.
        split: places every patient.
        labels: the label set.
        configs: of the finder, of the head, and of reading and running.
        unseen: of the cohort as new patients are seen, to predict from; None for the same. A slice
            in which it finds no liver has no lesion either.

    Raises:
        FitError: masks show no lesions, or lesions of more than four labels.
    """
    cohort = _read(part, reader, labels, configs)
    return _Folds(part, cohort, split, labels, configs, unseen or reader).run()


@dataclass(frozen=True, eq=False)
class _Cohort:
    """What every fold learns from, read once.

    Attributes:
        reader: gives the inputs that were not kept.
        kept: inputs (3, h, w) by sample; empty where they are too many to keep.
        values: (p, d) what is known of each drawn pixel.
        codes: (p,) 0 for liver, else 1 + the place of a lesion's label in `lesions`.
        sample: (p,) the slice it is of.
        lesions: places in the label set of the labels that have lesions.
    """

    reader: InputReader
    kept: Mapping[int, Floats]
    values: Floats
    codes: Ints
    sample: Ints
    lesions: tuple[int, ...]

    def inputs(self, rows: Sequence[int]) -> Floats:
        """Return network inputs (m, 3, h, w)."""
        if self.kept:
            return np.stack([self.kept[row] for row in rows])
        return np.stack(self.reader(rows))


def _read(
    part: Part,
    reader: InputReader,
    labels: LabelSet,
    configs: tuple[FinderConfig, HeadConfig, BackboneConfig],
) -> _Cohort:
    """Draw pixels of lesions and of the liver around them, as many of each patient."""
    finder, _, config = configs
    network = Network(part.graph, part.weights, config.threads)
    samples = reader.manifest.samples
    slices_of = Counter(sample.patient_id for sample in samples)
    keep = len(samples) * 12 * reader.recipe.size**2 < _KEPT_BYTES
    rng = np.random.default_rng(0)
    kept: dict[int, Floats] = {}
    values, codes, places = [], [], []
    for i, shown in enumerate(track(_shown(reader, config), "lesion pixels", total=len(samples))):
        if shown is None:
            kept[i] = np.zeros((3, reader.recipe.size, reader.recipe.size), np.float32)
            continue
        image = np.ascontiguousarray(shown.pixels.transpose(2, 0, 1), np.float32)
        if keep:
            kept[i] = image
        most = max(1, finder.pixels // (len(slices_of) * slices_of[samples[i].patient_id]))
        lesion, healthy = _draw(shown, most, rng)
        drawn = np.concatenate([lesion, healthy])
        known = network.value("pixels", image[None])[0]
        values.append(known[:, drawn[:, 0], drawn[:, 1]].T)
        codes.append(np.repeat([labels.index(samples[i].label), -1], [len(lesion), len(healthy)]))
        places.append(np.full(len(drawn), i))
    found = np.concatenate(codes) if codes else np.zeros(0, np.int64)
    lesions = [int(code) for code in np.unique(found) if code >= 0]
    if not 1 <= len(lesions) <= _MOST:
        raise FitError(
            f"lesion level: expected masks that show lesions of one to {_MOST} labels, got "
            f"{len(lesions)}. Say which value is lesion with ingest.mask_values, or use another "
            "level."
        )
    number = np.searchsorted(lesions, found) + 1
    return _Cohort(
        reader,
        kept if keep else {},
        np.concatenate(values),
        np.where(found < 0, 0, number),
        np.concatenate(places),
        tuple(lesions),
    )


def _shown(reader: InputReader, config: BackboneConfig) -> Iterator[Slice | None]:
    """Yield what the network sees of each sample, read by several threads."""
    n = len(reader.manifest)
    with ThreadPoolExecutor(config.workers or os.cpu_count()) as pool:
        for start in range(0, n, 64):
            rows = range(start, min(start + 64, n))
            for looked in pool.map(lambda row: reader.look([row]), rows):
                yield looked[0][1]


def _draw(shown: Slice, most: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return places (m, 2) of lesion, and of liver that is not near one, at most `most` of each."""
    if shown.mask is None:
        nothing = np.zeros((0, 2), np.int64)
        return nothing, nothing
    inside = shown.pixels[:, :, 1] > 0
    lesion = (shown.mask == LESION) & inside
    near = cv2.dilate(lesion.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    healthy = (shown.mask == LIVER) & inside & ~near
    return tuple(  # type: ignore[return-value]
        rows[rng.choice(len(rows), min(most, len(rows)), replace=False)]
        for rows in (np.argwhere(lesion), np.argwhere(healthy))
    )


@dataclass(frozen=True, eq=False)
class _Folds:
    """One cross-validation of finders; its fields are what every fold needs."""

    part: Part
    cohort: _Cohort
    split: Split
    labels: LabelSet
    configs: tuple[FinderConfig, HeadConfig, BackboneConfig]
    unseen: InputReader

    def run(self) -> Found:
        samples = self.cohort.reader.manifest.samples
        places = [self.split.of(sample) for sample in samples]
        folds = np.array([-1 if place.fold is None else place.fold for place in places])
        probabilities = np.zeros((len(samples), len(self.labels)))
        models = []
        for fold in track([*range(self.split.folds), -1], "lesion finders"):
            train = np.flatnonzero((folds != fold) & (folds >= 0))
            out = np.flatnonzero(folds == fold)
            arrays, head = self._fit(train)
            if len(out):
                probabilities[out] = head.probabilities(self._features(arrays, out, new=True))
            models.append(FoldModel(head, arrays))
        final = models[-1]
        weights = {**self.part.weights, **final.weights}
        backbone = {
            **self.part.backbone,
            "feature_dim": 2 * len(self.cohort.lesions),
            "lesions": [self.labels.names[place] for place in self.cohort.lesions],
        }
        part = dataclasses.replace(self.part, graph=self._graph, weights=weights, backbone=backbone)
        return Found(
            to_predictions(samples, self.split, self.labels, probabilities),
            part,
            final.head,
            tuple(models[:-1]),
        )

    @property
    def _graph(self) -> bytes:
        n = len(self.cohort.lesions)
        spec = BACKBONES.get(self.part.backbone["name"])
        return read_graph(spec.graph_name({"labels": str(n)} if n > 1 else {}))

    def _fit(self, rows: Ints) -> tuple[Mapping[str, Floats], Head]:
        """Return a finder taught by some slices, and a head on what finders say of them unseen."""
        samples = self.cohort.reader.manifest.samples
        patients = np.array([samples[int(i)].patient_id for i in rows])
        names = np.unique(patients)
        group = {name: i % min(_INNER, len(names)) for i, name in enumerate(names)}
        inner = np.array([group[name] for name in patients])
        features = np.zeros((len(rows), 2 * len(self.cohort.lesions)), np.float32)
        for number in np.unique(inner):
            out = inner == number
            taught = rows[~out] if len(names) > 1 else rows
            features[out] = self._features(self._teach(taught), rows[out])
        codes = np.array([self.labels.index(samples[int(i)].label) for i in rows])
        head = fit_head(features, codes, patients.tolist(), self.labels, self.configs[1])
        return self._teach(rows), head

    def _teach(self, rows: Ints) -> dict[str, Floats]:
        """Return the arrays of a finder taught by the pixels of some slices."""
        own = np.isin(self.cohort.sample, rows)
        values, codes = self.cohort.values[own], self.cohort.codes[own]
        return teach(values, codes, len(self.cohort.lesions), self.configs[0].steps)

    def _features(
        self, arrays: Mapping[str, Floats], rows: Sequence[int] | Ints, *, new: bool = False
    ) -> Floats:
        """Return features (m, d); of slices as new patients' are seen, where `new`."""
        network = Network(self._graph, {**self.part.weights, **arrays}, self.configs[2].threads)
        batch = self.configs[2].batch
        chosen = [int(row) for row in rows]
        batches = [chosen[at : at + batch] for at in range(0, len(chosen), batch)]
        from_new = new and not self.unseen.drawn
        features = np.concatenate(
            [
                network.features(
                    np.stack(self.unseen(own)) if from_new else self.cohort.inputs(own)
                )
                for own in batches
            ]
        )
        samples = [self.cohort.reader.manifest.samples[row] for row in chosen]
        return in_context(features[:, None], samples, beside=self.configs[1].beside)[:, 0]


def teach(values: Floats, codes: Ints, n_lesions: int, steps: int = 1000) -> dict[str, Floats]:
    """Return the arrays of a finder: five perceptrons side by side, their logits averaged.

    Args:
        values: (p, d) what is known of each pixel.
        codes: (p,) 0 for liver, 1 to n for lesions of each label; a missing one is never said.
        n_lesions: n.
        steps: of 512 pixels, at least.
    """
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    mean, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-3)
    scaled = (values - mean) / scale
    with (
        warnings.catch_warnings(),
        threadpool_limits(1, "blas"),
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        warnings.simplefilter("ignore", ConvergenceWarning)
        networks = list(
            pool.map(lambda seed: _perceptron(scaled, codes, seed, steps), range(_MEMBERS))
        )
    first, second, last = (
        [network[number] for network in networks] for number in range(len(networks[0]))
    )
    width, depth = first[0][0].shape[1], second[0][0].shape[1]
    between = np.zeros((_MEMBERS * width, _MEMBERS * depth))
    for number, (matrix, _) in enumerate(second):
        here = (
            slice(number * width, (number + 1) * width),
            slice(number * depth, (number + 1) * depth),
        )
        between[here] = matrix
    spread = np.hstack([matrix for matrix, _ in first])
    said = np.zeros((_MEMBERS * depth, n_lesions + 1))
    never = np.full(n_lesions + 1, -30.0)
    known = np.unique(codes)
    said[:, known] = np.vstack([matrix for matrix, _ in last]) / _MEMBERS
    never[known] = np.mean([bias for _, bias in last], axis=0)
    layers = (
        ((spread.T / scale).T, np.concatenate([b for _, b in first]) - (mean / scale) @ spread),
        (between, np.concatenate([b for _, b in second])),
        (said, never),
    )
    arrays: dict[str, Floats] = {}
    for number, (matrix, bias) in enumerate(layers, start=1):
        kernel = matrix.T[..., None, None]
        arrays[f"layer{number}.weight"] = np.ascontiguousarray(kernel, np.float32)
        arrays[f"layer{number}.bias"] = np.ascontiguousarray(bias, np.float32)
    return arrays


def _perceptron(values: Floats, codes: Ints, seed: int, steps: int) -> list[tuple[Any, Any]]:
    """Return matrix and bias of each layer; the last has a column a code that occurs."""
    from sklearn.neural_network import MLPClassifier

    epochs = max(_EPOCHS, -(-steps * _BATCH // len(values)))
    network = MLPClassifier(
        _HIDDEN,
        alpha=_DECAY,
        batch_size=min(_BATCH, len(values)),
        max_iter=epochs,
        random_state=seed,
    )
    network.fit(values, codes)
    layers = list(zip(network.coefs_, network.intercepts_, strict=True))
    if len(network.classes_) == 2:  # scikit-learn keeps one logit of two labels
        matrix, bias = layers[-1]
        layers[-1] = np.hstack([0 * matrix, matrix]), np.concatenate([0 * bias, bias])
    return layers
