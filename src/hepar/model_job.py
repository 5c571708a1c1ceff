"""One model to fit: what decides it, what reads for it, and what its networks see."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hepar.cohort_job import Cohort, PlannedPart, hash_files
from hepar.config import RunConfig
from hepar.data import Manifest
from hepar.ledger import Ledger
from hepar.preprocess import write_recipe
from hepar.provenance import stamp

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hepar.backbone import Network, Weights
    from hepar.model import InputReader, Outlines
    from hepar.preprocess import Recipe

__all__ = ["Job", "finder_features", "finders", "plain_features", "write_recipes"]


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
            config["finder"] if self.finds else None,
            self.outlines and self.outlines.segmenter.key,
        ]


def write_recipes(parts: Sequence[PlannedPart], ledger: Ledger) -> None:
    """Write each network's `recipe.json`."""
    names = ["recipe.json", *(f"recipe-{i}.json" for i in range(1, len(parts)))]

    def work() -> None:
        for name, part in zip(names, parts, strict=True):
            write_recipe(ledger.folder / name, part.recipe, stamp(ledger.command))

    ledger.stage("recipe", [part.recipe.to_json() for part in parts], names, work)


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
