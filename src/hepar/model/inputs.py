"""From samples to network input to features: the same code in training and in service."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepar.backbone import Network, extract_features
from hepar.config import AugmentConfig, BackboneConfig
from hepar.data import LESION, Manifest, Sample, Slice, find_beside
from hepar.errors import RecipeError
from hepar.ingest import read_slices
from hepar.model.segmenter import Outlines
from hepar.preprocess import Box, Recipe, augment, draw_view, find_liver, measure_parenchyma
from hepar.provenance import digest

__all__ = ["InputReader", "compute_features", "in_context", "sample_key"]

Stacked = tuple[NDArray[np.float32], Box]

_KEPT_BYTES = 1_000_000_000
"""Of volumes that a reader keeps: a series is read from its files once, and not every epoch."""

_SEED = 0
"""Of every augmented view; views are part of what is cached, so they are the same in every run."""


def sample_key(manifest: Manifest, sample: Sample) -> str:
    """Return the SHA-256 of everything that decides a sample's pixels and mask."""
    if sample.slices:
        own = [
            [sample_key(manifest, s), s.slice_index, list(s.spacing_mm or ())]
            for s in sample.slices
        ]
        return digest("series", own)
    mask = (sample.mask_sha256, sample.mask_frame, dict(manifest.mask_values))
    return digest(
        sample.sha256,
        sample.frame,
        sample.kind,
        mask if sample.mask else None,
        manifest.flip_vertical and sample.kind == "picture",
    )


@dataclass
class InputReader:
    """Reads samples and applies the recipe; remembers which livers were guessed or missing.

    With more than one view, an input is named by sample * each + view; view 0 is the sample as it
    is, and the others are augmented, each by a draw that the sample's own content decides. Of a
    series seen in several windows, a draw's windows are views that follow each other.

    Attributes:
        manifest: the cohort.
        recipe: from slice to network input.
        guess_liver: where a mask is needed and none shows the liver, outline it: by `outlines`, or
            by a rule.
        outlines: of the manifest's livers by a segmenter; None for none.
        drawn: look at livers that somebody has drawn; False sees all as a new patient is seen.
        augment: what other views may look like.
        views: of each sample, or of each of its windows.
        guessed: positions in the manifest whose liver nobody has drawn.
        empty: positions whose slice shows no liver; their input is all zeros and means nothing.
    """

    manifest: Manifest
    recipe: Recipe
    guess_liver: bool = False
    outlines: Outlines | None = None
    drawn: bool = True
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    views: int = 1
    guessed: set[int] = field(default_factory=set)
    empty: set[int] = field(default_factory=set)
    _volumes: dict[int, Stacked | None] = field(default_factory=dict, repr=False)

    @property
    def each(self) -> int:
        """Inputs of a sample: views times windows."""
        return self.views * self.recipe.windows

    @cached_property
    def samples(self) -> list[str]:
        """SHA-256 of what decides each sample's pixels."""
        keys = [sample_key(self.manifest, sample) for sample in self.manifest.samples]
        if self.outlines and self.recipe.needs_mask:
            keys = [
                digest(key, self.outlines.key(sample)) if self._is_guessed(sample) else key
                for key, sample in zip(keys, self.manifest.samples, strict=True)
            ]
        if self.beside:
            around = zip(keys, self.beside, strict=True)
            keys = [digest(key, keys[below], keys[above]) for key, (below, above) in around]
        if not self.recipe.needs_parenchyma:
            return keys
        livers = [self.parenchyma[sample.patient_id] for sample in self.manifest.samples]
        return [digest(key, list(liver or ())) for key, liver in zip(keys, livers, strict=True)]

    @cached_property
    def beside(self) -> list[tuple[int, int]]:
        """Positions of the slices below and above each sample; empty where none is looked at."""
        mm = self.recipe.beside_mm
        return find_beside(self.manifest, mm) if mm else []

    @property
    def alone(self) -> set[int]:
        """Positions that a slice below and above is wanted for, and that have neither."""
        return {i for i, pair in enumerate(self.beside) if pair == (i, i)}

    @cached_property
    def parenchyma(self) -> dict[str, tuple[float, float] | None]:
        """Grey level and spread of each patient's liver, over all its slices of the manifest."""
        own: dict[str, list[int]] = {}
        for i, sample in enumerate(self.manifest.samples):
            own.setdefault(sample.patient_id, []).append(i)

        def measure(rows: list[int]) -> tuple[float, float] | None:
            return measure_parenchyma(self._with_liver(i)[0] for i in rows)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(measure, own.values())
        return dict(zip(own, found, strict=True))

    @property
    def keys(self) -> list[str]:
        """SHA-256 of what decides each input's pixels, the recipe apart."""
        found = []
        for key in self.samples:
            for number in range(self.each):
                view, window = divmod(number, self.recipe.windows)
                own = digest(key, window) if window else key
                draw = draw_view(self.augment, _SEED, key, view)
                found.append(digest(own, draw.to_json()) if view else own)
        return found

    def __call__(self, inputs: Sequence[int]) -> list[NDArray[np.float32]]:
        """Return network input (3, H, W), or (1, D, H, W), float32 for sample * each + view.

        Raises:
            IngestError: a file cannot be read any more.
            RecipeError: the recipe does not fit a sample, which is named.
        """
        positions = sorted({i // self.each for i in inputs})
        plain = dict(zip(positions, self._read(positions), strict=True))
        found = []
        for position, number in (divmod(i, self.each) for i in inputs):
            view, window = divmod(number, self.recipe.windows)
            found.append(self._view(plain[position][window], position, view))
        return found

    def _view(self, image: NDArray[np.float32], position: int, view: int) -> NDArray[np.float32]:
        if not view:
            return image
        draw = draw_view(self.augment, _SEED, self.samples[position], view)
        return augment(image, draw, self.recipe.scale)

    def _read(self, positions: Sequence[int]) -> list[NDArray[np.float32]]:
        """Return the windows (windows, ...) of samples; a slice has one, which is all of it."""
        blank = np.zeros((self.recipe.windows, *self.recipe.shape), np.float32)
        if self.recipe.needs_series:
            stacked = [self.stack(i) for i in positions]
            return [blank if found is None else found[0][:, None] for found in stacked]
        return [
            blank
            if shown is None
            else np.ascontiguousarray(shown.pixels.transpose(2, 0, 1)[None], np.float32)
            for _, shown in self.look(positions)
        ]

    def stack(self, position: int) -> Stacked | None:
        """Return a series on the recipe's grids, (windows, depth, size, size), and where they lie.

        None, and noted in `empty`, where the series shows no liver.

        Args:
            position: in the manifest.

        Raises:
            IngestError: a file cannot be read any more.
            RecipeError: slices have no spacing, or the recipe does not fit them.
        """
        if position in self._volumes:
            return self._volumes[position]
        sample = self.manifest.samples[position]
        slices = sample.slices or (sample,)
        bare = [one.sample_id for one in slices if not one.spacing_mm]
        if bare:
            raise RecipeError(
                f"sample {bare[0]}: expected a spacing in mm, got none; a volume needs it. Name "
                "DICOM or NIfTI files, or use a bundle of another level."
            )
        try:
            found = self.recipe.stack(
                lambda i: self._with_liver(position, slices[i])[0], _heights_mm(slices)
            )
        except RecipeError as error:
            raise RecipeError(f"sample {sample.sample_id}: {error}") from None
        if found is None:
            self.empty.add(position)
        if found is None or len(self._volumes) * found[0].nbytes < _KEPT_BYTES:
            self._volumes[position] = found
        return found

    def heights(self, position: int) -> list[float]:
        """Return the heights in mm of a series' slices, from the feet up, on its own scale."""
        sample = self.manifest.samples[position]
        return _heights_mm(sample.slices or (sample,))

    def plane(self, position: int, number: int) -> Slice:
        """Return a slice of a series with the liver that the network sees, and a mask's lesions.

        Args:
            position: of the series in the manifest.
            number: of the slice, from the feet up.
        """
        sample = self.manifest.samples[position]
        return self._with_liver(position, (sample.slices or (sample,))[number])[1]

    def look(self, positions: Sequence[int]) -> list[tuple[Slice, Slice | None]]:
        """Return samples as they were read, and as the network sees them (view 0).

        Args:
            positions: in the manifest.

        Returns:
            For each, the slice, with its liver guessed where a mask is needed and none shows it,
            and pixels (H, W, 3) after the recipe; None where it shows no liver. Where masks show
            lesions alone the network sees the guess, and lesions are kept for drawing.

        Raises:
            IngestError: a file cannot be read any more.
            RecipeError: the recipe does not fit a sample, which is named.
        """
        if self.recipe.needs_series:
            raise RecipeError(
                f"recipe {self.recipe.name!r}: expected one that sees slices, got one that sees "
                "series. Ask for its planes."
            )
        known: dict[int, tuple[Slice, Slice]] = {}

        def read(position: int) -> Slice:
            if position not in known:
                known[position] = self._with_liver(position)
            return known[position][0]

        found: list[tuple[Slice, Slice | None]] = []
        for i in positions:
            sample = self.manifest.samples[i]
            seen, image = read(i), known[i][1]
            if self.recipe.needs_mask and seen.mask is not None and not seen.mask.any():
                self.empty.add(i)
                found.append((image, None))
                continue
            if self.recipe.needs_parenchyma:
                seen = replace(seen, parenchyma=self.parenchyma[sample.patient_id])
            if self.beside:
                below, above = (seen if j == i else read(j) for j in self.beside[i])
                seen = replace(seen, beside=(below, above))
            try:
                found.append((image, self.recipe.run(seen)))
            except RecipeError as error:
                raise RecipeError(f"sample {sample.sample_id}: {error}") from None
        return found

    def _is_guessed(self, sample: Sample) -> bool:
        """Return whether a liver is to be outlined here."""
        drawn = self.drawn and sample.mask
        return bool(
            self.recipe.needs_mask
            and self.guess_liver
            and (not drawn or self.manifest.lesions_alone)
        )

    def _with_liver(self, position: int, part: Sample | None = None) -> tuple[Slice, Slice]:
        """Return a slice as the recipe may see it, and with the lesions that its mask shows.

        Args:
            position: of the sample.
            part: a slice of the sample's series; None where the sample is the slice.
        """
        sample = part or self.manifest.samples[position]
        (image,) = read_slices(self.manifest, [sample])
        if not self._is_guessed(sample):
            return image, image
        shape = image.pixels.shape[0], image.pixels.shape[1]
        mask = self.outlines(sample, shape) if self.outlines else find_liver(image)
        seen = replace(image, mask=mask)
        self.guessed.add(position)
        return seen, _with_lesions(seen, image.mask)


def _heights_mm(slices: Sequence[Sample]) -> list[float]:
    """Return the heights of a series' slices, on a scale of their own."""
    apart = (slices[0].spacing_mm or (1.0,))[0]
    return [one.slice_index * apart for one in slices]


def _with_lesions(guessed: Slice, mask: NDArray[np.uint8] | None) -> Slice:
    """Return a slice with its guessed liver and the lesions that a mask shows."""
    if mask is None or guessed.mask is None:
        return guessed
    return replace(guessed, mask=np.where(mask == LESION, mask, guessed.mask))


def in_context(
    features: NDArray[np.float32],
    samples: Sequence[Sample],
    *,
    centre: bool = False,
    beside: float = 0.0,
) -> NDArray[np.float32]:
    """Return features as a patient's other slices let them be seen.

    Transductive: an answer to one slice changes with those that come with it.

    Args:
        features: (n, views, d), in the order of a manifest.
        samples: n of them.
        centre: take away the mean of each patient's own plain views.
        beside: share of each neighbour in the same series, 0 to 1/3; slices without a series, and
            beyond its ends the last slice itself, stand for their own neighbours.

    Example:
        >>> samples = [Sample(str(i), "A", "", series_id="1", slice_index=i) for i in range(3)]
        >>> values = np.float32([0, 4, 8]).reshape(3, 1, 1)
        >>> in_context(values, samples, beside=0.25).ravel().tolist()
        [1.0, 4.0, 7.0]
        >>> in_context(values, samples, centre=True).ravel().tolist()
        [-4.0, 0.0, 4.0]
    """
    if centre:
        names = [sample.patient_id for sample in samples]
        _, place = np.unique(np.asarray(names), return_inverse=True)
        sums = np.zeros((int(place.max()) + 1, features.shape[2]), np.float64)
        np.add.at(sums, place, features[:, 0])
        means = (sums / np.bincount(place)[:, None]).astype(np.float32)
        features = features - means[place][:, None]
    if beside:
        series = [(sample.patient_id, sample.series_id) for sample in samples]
        alone = np.array([not sample.series_id for sample in samples])
        new = np.array([True, *(a != b for a, b in pairwise(series))]) | alone
        last = np.append(new[1:], True)
        rows = np.arange(len(samples))
        below, above = np.where(new, rows, rows - 1), np.where(last, rows, rows + 1)
        around = features[below] + features[above]
        features = np.float32(1 - 2 * beside) * features + np.float32(beside) * around
    return features


def compute_features(
    network: Network,
    reader: InputReader,
    config: BackboneConfig,
    weights_key: str = "",
    cache: Path | None = None,
) -> NDArray[np.float32]:
    """Return pooled features of every sample of the reader's manifest.

    Args:
        network: the backbone.
        reader: gives network input.
        config: batch, workers.
        weights_key: SHA-256 of the weights; decides, with the recipe, what the cache may answer.
        cache: folder that keeps features between runs; None for none.

    Returns:
        (n, views, d) float32 in the order of the manifest; of series each window is a view.
    """
    keys = reader.keys
    rows = extract_features(
        network,
        digest(weights_key, digest(network.graph.hex()), reader.recipe.key),
        keys,
        reader,
        cache=cache,
        batch=config.batch,
        workers=config.workers,
    )
    return rows.reshape(len(keys) // reader.each, reader.each, -1)
