"""Who outlines the liver where nobody has drawn it: a network, and its folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.backbone import Network
from hepar.data import Manifest, Sample, Slice
from hepar.errors import BundleError
from hepar.ingest import read_slices
from hepar.model.bundle import Part, read_part, write_part
from hepar.model.sealed import check_files, fresh_folder, read_sealed, seal
from hepar.preprocess import PICTURE_MM, clean_logits, doubts, outline_of
from hepar.provenance import digest, sha256_file, write_artefact, write_atomic

__all__ = ["Outlines", "Segmenter", "is_stack", "read_segmenter", "write_segmenter"]

Arrays = Mapping[str, NDArray[Any]]

_BATCH = 8


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A network that outlines livers.

    Attributes:
        part: what outlines new patients.
        folds: weights of the networks that each left some of the taught patients out.
        places: SHA-256 of a patient_id that taught it -> the fold that left this patient out.
        provenance: who made it, from what.
    """

    part: Part
    folds: tuple[Arrays, ...] = ()
    places: Mapping[str, int] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """What decides its outlines: recipe, graph and weights of all folds."""
        weights = [
            {
                name: sha256(np.ascontiguousarray(array).data).hexdigest()
                for name, array in own.items()
            }
            for own in (self.part.weights, *self.folds)
        ]
        return digest(self.part.recipe.key, self.part.graph.hex(), weights, dict(self.places))

    def weights_for(self, patient_id: str) -> Arrays:
        """Return weights that were not taught with a patient."""
        fold = self.places.get(digest(patient_id))
        return self.part.weights if fold is None else self.folds[fold]


def write_segmenter(folder: Path, segmenter: Segmenter) -> None:
    """Write a segmenter; the folder appears complete or not at all.

    Raises:
        BundleError: the folder exists and is no segmenter.
    """
    from safetensors.numpy import save

    with fresh_folder(folder, "segmenter.json") as room:
        content: dict[str, Any] = {
            "part": write_part(room, "segmenter", segmenter.part),
            "folds": len(segmenter.folds),
            "places": dict(segmenter.places),
        }
        for number, arrays in enumerate(segmenter.folds):
            write_atomic(
                room / f"fold-{number}.safetensors",
                save({key: np.ascontiguousarray(value) for key, value in arrays.items()}),
            )
        content["files"] = {path.name: sha256_file(path) for path in sorted(room.iterdir())}
        content["seal"] = seal({**content, "provenance": dict(segmenter.provenance)})
        write_artefact(room / "segmenter.json", "segmenter", content, segmenter.provenance)


def read_segmenter(folder: Path) -> Segmenter:
    """Read a segmenter after verifying every byte of it.

    Args:
        folder: that `hepar segment fit` wrote; that of its run, or `segmenter` in it.

    Raises:
        BundleError: the folder is no segmenter, a file is missing, added, altered or cut short.
    """
    from safetensors.numpy import load

    inner = folder / "segmenter"
    place = inner if (inner / "segmenter.json").is_file() else folder
    if (folder / "bundle.json").is_file():
        raise BundleError(
            f"{folder}: expected the folder of `hepar segment fit`, got a bundle: the segmenter in "
            "it has no networks for patients that taught it. Name the folder that it came from."
        )
    if not (place / "segmenter.json").is_file():
        raise BundleError(
            f"{folder}: expected a segmenter with segmenter.json, got none. "
            "`hepar segment fit` writes one to OUT/segmenter."
        )
    document = read_sealed(place / "segmenter.json", "segmenter")
    check_files(place, document["files"], ["segmenter.json"])
    return Segmenter(
        read_part(place, "segmenter", document["part"]),
        tuple(
            load((place / f"fold-{number}.safetensors").read_bytes())
            for number in range(document["folds"])
        ),
        document["places"],
        document["provenance"],
    )


class Outlines:
    """The outlines of a manifest's livers, made series by series when first asked for.

    Slices of a volume or a DICOM series are cleaned together, for the liver is one piece in 3D;
    pictures one by one. What is kept of a slice is small: its logits at the network's scale.

    Args:
        manifest: whose slices.
        segmenter: who outlines; patients that taught it are outlined by the fold without them.
        threads: inside the network; 0 for one per core.

    Attributes:
        remarks: what was odd about a series, with its patient_id; grows as series are outlined.
    """

    def __init__(self, manifest: Manifest, segmenter: Segmenter, threads: int = 0) -> None:
        self.manifest = manifest
        self.segmenter = segmenter
        self.remarks: list[str] = []
        self._threads = threads
        self._lock = Lock()
        self._networks: dict[int | None, Network] = {}
        self._logits: dict[str, NDArray[np.float16]] = {}
        self._series: dict[tuple[str, str], list[Sample]] = {}
        for sample in manifest.samples:
            for one in sample.slices or (sample,):
                self._series.setdefault(_series_of(one), []).append(one)

    def __call__(self, sample: Sample, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the outline (y, x) of a sample, 0 and LIVER.

        Args:
            sample: of the manifest.
            shape: (height, width) of its slice.
        """
        return outline_of(self.logits(sample), shape)

    def logits(self, sample: Sample) -> NDArray[np.float32]:
        """Return cleaned logits (y, x) of a sample, at half the network's scale."""
        with self._lock:
            if sample.sample_id not in self._logits:
                self._outline(self._series[_series_of(sample)])
            return self._logits[sample.sample_id].astype(np.float32)

    def finds(self, sample: Sample) -> bool:
        """Return whether a liver is outlined in a slice, or in one of a series."""
        return any(self.logits(one).max() > 0 for one in sample.slices or (sample,))

    def key(self, sample: Sample) -> str:
        """Return the SHA-256 of a sample's outline, or of those of its slices."""
        own = [self.logits(one).tobytes().hex() for one in sample.slices or (sample,)]
        return digest(self.segmenter.key, own)

    def _outline(self, samples: Sequence[Sample]) -> None:
        network = self._network(samples[0].patient_id)
        found, spacing = [], (1.0, 1.0)
        for at in range(0, len(samples), _BATCH):
            images = read_slices(self.manifest, samples[at : at + _BATCH])
            spacing = _spacing(images[0])
            recipe = self.segmenter.part.recipe
            shown = [recipe.apply(replace(image, mask=None)) for image in images]
            found.append(network.value("logits", np.stack(shown))[:, 0])
            height, width = images[0].pixels.shape
            size = found[-1].shape[1:]
            spacing = (spacing[0] * height / size[0], spacing[1] * width / size[1])
        logits, stacked = np.concatenate(found), is_stack(samples)
        cleaned = clean_logits(logits, spacing, stacked=stacked)
        if stacked:
            told = doubts(logits, cleaned, spacing)
            self.remarks += [f"{samples[0].patient_id}: {one}." for one in told]
        names = [sample.sample_id for sample in samples]
        self._logits.update(zip(names, cleaned.astype(np.float16), strict=True))

    def _network(self, patient_id: str) -> Network:
        fold = self.segmenter.places.get(digest(patient_id))
        if fold not in self._networks:
            weights = self.segmenter.weights_for(patient_id)
            self._networks[fold] = Network(self.segmenter.part.graph, weights, self._threads)
        return self._networks[fold]


def _series_of(sample: Sample) -> tuple[str, str]:
    """Return what tells series apart; pictures of no series go together by patient."""
    return sample.patient_id, sample.series_id


def is_stack(samples: Sequence[Sample]) -> bool:
    """Return whether samples are slices of one series, evenly spaced."""
    steps = {b.slice_index - a.slice_index for a, b in pairwise(samples)}
    return bool(samples[0].series_id) and len(steps) == 1


def _spacing(image: Slice) -> tuple[float, float]:
    width = image.pixels.shape[1]
    return image.spacing_mm or (PICTURE_MM / width, PICTURE_MM / width)
