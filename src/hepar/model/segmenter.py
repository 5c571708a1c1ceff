"""Who outlines the liver where nobody has drawn it: a network, and its folds."""

from __future__ import annotations

import math
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

from hepar.backbone import LIVER_UNET, Network, open_session, read_graph, read_liver_unet
from hepar.backbone.graph import parameters
from hepar.data import Manifest, Sample, Slice, Volume
from hepar.errors import BundleError, SegmentError
from hepar.ingest import read_slices
from hepar.model.bundle import Part, read_part, write_part
from hepar.model.liver_unet import answer, check_volume, outline_volume
from hepar.model.sealed import check_files, fresh_folder, read_sealed, seal
from hepar.preprocess import PICTURE_MM, Recipe, clean_logits, doubts, outline_of
from hepar.provenance import digest, sha256_file, write_artefact, write_atomic

__all__ = [
    "Outlines",
    "Segmenter",
    "find_segmenter",
    "is_stack",
    "read_segmenter",
    "write_segmenter",
]

Arrays = Mapping[str, NDArray[Any]]

_BATCH = 8

_MOST_BYTES = 2 << 30
"""Of a series that is outlined as one volume."""


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

    @property
    def sees_volumes(self) -> bool:
        """Whether it sees a whole series of HU at once, and not slice by slice."""
        return bool(self.part.backbone["name"] == LIVER_UNET)

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
    if not (place / "segmenter.json").is_file() and (folder / "folds").is_dir():
        raise BundleError(
            f"{folder}: expected a segmenter, got a fit that is not finished. Call the same "
            "`hepar segment fit` again: it goes on where it stopped."
        )
    if not (place / "segmenter.json").is_file():
        raise BundleError(
            f"{folder}: expected a segmenter with segmenter.json, got none. "
            "`hepar segment fit` writes one to OUT/segmenter."
        )
    document = read_sealed(place / "segmenter.json", "segmenter")
    check_files(place, document["files"], ["segmenter.json"])
    return Segmenter(
        read_part(place, "segmenter", document["part"], document["files"]),
        tuple(
            load((place / f"fold-{number}.safetensors").read_bytes())
            for number in range(document["folds"])
        ),
        document["places"],
        document["provenance"],
    )


def find_segmenter(name: str) -> Segmenter:
    """Return the segmenter that `--segmenter` names.

    Args:
        name: folder of `hepar segment fit`, or liver-unet: the pretrained 3D network.

    Raises:
        BundleError: the folder is no segmenter, or a damaged one.
        WeightsNotFoundError: the pretrained network was not fetched yet.
    """
    if name != LIVER_UNET:
        return read_segmenter(Path(name))
    graph = read_graph("liver_unet_3d")
    arrays = {key: value for key, value in read_liver_unet().items() if key in parameters(graph)}
    backbone = {
        "name": LIVER_UNET,
        "source": "PyPI pyliverlesionseg 0.3",
        "licence": "Apache-2.0",
        "caution": "LiTS may be among its training data",
    }
    return Segmenter(Part(Recipe(LIVER_UNET, ()), graph, arrays, backbone))


class Outlines:
    """The outlines of a manifest's livers, made series by series when first asked for.

    Slices of a volume or a DICOM series are cleaned together, for the liver is one piece in 3D;
    pictures one by one. What is kept of a slice is small: its logits at the network's scale, or
    a bit a pixel where the segmenter sees volumes.

    Args:
        manifest: whose slices.
        segmenter: who outlines; patients that taught it are outlined by the fold without them.
        threads: inside the network; 0 for one per core.
        cache: folder that keeps outlines of whole series, which cost seconds each; None for none.

    Attributes:
        remarks: what was odd about a series, with its patient_id; grows as series are outlined.
    """

    def __init__(
        self,
        manifest: Manifest,
        segmenter: Segmenter,
        threads: int = 0,
        cache: Path | None = None,
    ) -> None:
        self.manifest = manifest
        self.segmenter = segmenter
        self.remarks: list[str] = []
        self._threads = threads
        self._cache = cache
        self._lock = Lock()
        self._networks: dict[int | None, Network] = {}
        self._session: Any = None
        self._logits: dict[str, NDArray[np.float16]] = {}
        self._masks: dict[str, tuple[tuple[int, int], NDArray[np.uint8]]] = {}
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
        """Return cleaned logits (y, x) of a sample, at half the network's scale or at full size."""
        name = sample.sample_id
        with self._lock:
            if name not in self._logits and name not in self._masks:
                outline = self._outline_volume if self.segmenter.sees_volumes else self._outline
                outline(self._series[_series_of(sample)])
            if name in self._logits:
                return self._logits[name].astype(np.float32)
            shape, bits = self._masks[name]
        inside = np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape)
        return np.where(inside, np.float32(1), np.float32(-1))

    def check(self, samples: Sequence[Sample] = ()) -> None:
        """Refuse slices that the segmenter cannot outline.

        Args:
            samples: of the manifest; empty for all.

        Raises:
            SegmentError: the segmenter sees volumes, and a slice is not in HU or has no spacing.
        """
        if not self.segmenter.sees_volumes:
            return
        for sample in samples or [one for own in self._series.values() for one in own]:
            try:
                check_volume(sample.kind, sample.spacing_mm)
            except SegmentError as error:
                raise SegmentError(f"patient {sample.patient_id}: {error}") from None

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
        apart = (samples[0].spacing_mm or (0.0,))[0]
        told = doubts(logits, cleaned, spacing, stacked=stacked, apart_mm=apart)
        self.remarks += [f"{samples[0].patient_id}: {one}." for one in told]
        names = [sample.sample_id for sample in samples]
        self._logits.update(zip(names, cleaned.astype(np.float16), strict=True))

    def _outline_volume(self, samples: Sequence[Sample]) -> None:
        """Outline a series at once; one that cannot be is told, and has no liver."""
        ordered = sorted(samples, key=lambda sample: sample.slice_index)
        (first,) = read_slices(self.manifest, ordered[:1])
        try:
            self.check(ordered)
            _check_size(ordered, first)
            masks = self._kept(ordered) if self._cache else self._volume(ordered)
        except SegmentError as error:
            self.remarks.append(str(error))
            masks = np.zeros((len(ordered), 1, 1), np.uint8)
        else:
            self._doubt(ordered, masks)
        for sample, mask in zip(ordered, masks, strict=True):
            self._masks[sample.sample_id] = (mask.shape, np.packbits(mask > 0))

    def _volume(self, samples: Sequence[Sample]) -> NDArray[np.uint8]:
        voxels = np.stack([image.pixels for image in read_slices(self.manifest, samples)])
        return outline_volume(Volume(voxels, samples[0].spacing_mm), self._answer)

    def _kept(self, samples: Sequence[Sample]) -> NDArray[np.uint8]:
        """Return the masks of a series from the cache, after putting them there."""
        from safetensors import SafetensorError
        from safetensors.numpy import load, save

        rows = [[one.sha256, one.frame, list(one.spacing_mm or ())] for one in samples]
        path = (self._cache or Path()) / f"{digest(self.segmenter.key, rows)}.safetensors"
        try:
            found = load(path.read_bytes())
            shape = tuple(found["shape"].tolist())
            return np.unpackbits(found["bits"], count=math.prod(shape)).reshape(shape)
        except (FileNotFoundError, SafetensorError, KeyError, ValueError):
            masks = self._volume(samples)
        arrays: dict[str, NDArray[Any]] = {
            "shape": np.array(masks.shape, np.int64),
            "bits": np.packbits(masks > 0),
        }
        write_atomic(path, save(arrays))
        return masks

    def _answer(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        part = self.segmenter.part
        if self._session is None:
            self._session = open_session(part.graph, part.weights, self._threads, arena=False)
        return answer(self._session[0], grid)

    def _doubt(self, samples: Sequence[Sample], masks: NDArray[np.uint8]) -> None:
        _, y, x = samples[0].spacing_mm or (1.0, 1.0, 1.0)
        few = np.where(masks[:, ::4, ::4], np.float32(1), np.float32(-1))
        apart = (samples[0].spacing_mm or (0.0,))[0]
        told = doubts(few, few, (4 * y, 4 * x), stacked=is_stack(samples), apart_mm=apart)
        self.remarks += [f"{samples[0].patient_id}: {one}." for one in told]

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


def _check_size(samples: Sequence[Sample], first: Slice) -> None:
    n_bytes = len(samples) * first.pixels.size * 4
    if n_bytes > _MOST_BYTES:
        raise SegmentError(
            f"patient {samples[0].patient_id}: expected a series of at most "
            f"{_MOST_BYTES / 1e6:.0f} MB, got {n_bytes / 1e6:.0f} MB. Name the part of it with the "
            "liver, or a segmenter that sees slices (`hepar segment fit`)."
        )
