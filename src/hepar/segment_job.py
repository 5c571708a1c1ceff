"""A liver segmenter: taught on drawn livers, fold after fold, and measured on patients left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hepar.cohort_job import hash_files, new_ledger
from hepar.config import RunConfig
from hepar.data import Manifest
from hepar.errors import FitError
from hepar.ledger import Ledger
from hepar.progress import LOG, track
from hepar.provenance import digest, sha256_file, stamp, write_artefact, write_atomic

if TYPE_CHECKING:
    from hepar.evaluate import Overlap
    from hepar.fit.unet import Lesson
    from hepar.model import Part, Segmenter

__all__ = ["fit_segmenter"]

_GRAPH = "liver_unet"
_ENCODER = "efficientnet_lite0"
_SHOWN = 24
_SIDE = 192


def fit_segmenter(sources: Sequence[Path], out: Path, config: RunConfig, command: str = "") -> Path:
    """Teach a liver segmenter, and outline every patient by one that never saw the patient.

    Args:
        sources: with masks of the liver; patients of one patient_id in several are one person.
        out: folder of the job; what is done in it is kept.
        config: `ingest`, `segment`, `evaluate` and `backbone` count.
        command: the command line, for provenance; "" for this process's own.

    Returns:
        The path of `segmentation.json`; the segmenter is in `segmenter/` beside it.

    Raises:
        HeparError: a source or a setting is refused, or no liver is drawn.
    """
    ledger = new_ledger(out, command)
    manifests = [_read(source, config) for source in sources]
    places = _places(manifests, config.segment.folds, config.segment.seed)
    inputs: list[object] = [
        [[s.sample_id, s.patient_id, s.sha256, s.mask_sha256] for s in m.samples] for m in manifests
    ] + [[dict(m.mask_values) for m in manifests], dataclasses.asdict(config.segment)]
    names = [f"folds/fold-{fold}.safetensors" for fold in (*range(_n_folds(places)), "all")]
    lessons: list[Lesson] = []
    for number, name in enumerate(names):
        fold = number if number < len(names) - 1 else -1
        ledger.stage(
            f"fold {'all' if fold < 0 else fold}",
            [*inputs, fold],
            [name],
            lambda name=name, fold=fold: _teach(  # type: ignore[misc]
                manifests, places, fold, ledger.folder / name, config, lessons
            ),
        )
    ledger.stage(
        "segmenter",
        [hash_files(ledger, *names)],
        ["segmenter/segmenter.json"],
        lambda: _assemble(ledger, names, places, config),
    )
    outputs = ["segmentation.json", "segmentation.csv", "figures/outlines.png"]
    ledger.stage(
        "measure",
        [hash_files(ledger, "segmenter/segmenter.json"), dataclasses.asdict(config.evaluate)],
        outputs,
        lambda: _measure(ledger, manifests, config),
    )
    return out / "segmentation.json"


def _read(source: Path, config: RunConfig) -> Manifest:
    from hepar.ingest import ingest_files

    manifest = ingest_files([source], config.ingest)
    drawn = tuple(s for s in manifest.samples if s.mask and not manifest.lesions_alone)
    if not drawn:
        raise FitError(
            f"{source}: expected masks of the liver, got none. Name them in a column 'mask', and "
            "say which value is liver with ingest.mask_values."
        )
    return dataclasses.replace(manifest, samples=drawn)


def _places(manifests: Sequence[Manifest], folds: int, seed: int) -> dict[str, int]:
    """Return patient_id -> fold: patients with many slices are spread first, then the others."""
    counts: dict[str, int] = {}
    for manifest in manifests:
        for patient, samples in manifest.patients.items():
            counts[patient] = counts.get(patient, 0) + len(samples)
    if len(counts) < 2:
        raise FitError(
            f"segmenter: expected 2 patients or more, got {len(counts)}: nobody would be left out "
            "to measure it on."
        )
    folds = min(folds, len(counts))
    shuffled = np.random.default_rng(seed).permutation(sorted(counts)).tolist()
    ranked = sorted(shuffled, key=lambda patient: -counts[patient])
    return {patient: i % folds for i, patient in enumerate(ranked)}


def _n_folds(places: dict[str, int]) -> int:
    return 1 + max(places.values())


def _plan(config: RunConfig) -> Part:
    """Return the network before it is taught: ImageNet's weights in the encoder."""
    from hepar.backbone import find_weights, read_graph, untrained_arrays
    from hepar.model import Part
    from hepar.preprocess import NetworkInput, segmenter_recipe

    weights = find_weights(_ENCODER, "package")
    graph = read_graph(_GRAPH)
    fresh = untrained_arrays(graph)
    arrays = {
        name: np.asarray(weights.arrays.get(name, array), np.float32)
        for name, array in fresh.items()
    }
    backbone = {
        "name": _GRAPH,
        "source": f"taught here; its encoder from {weights.source}",
        "licence": weights.licence,
    }
    size = NetworkInput(config.segment.size, weights.mean, weights.std)
    return Part(segmenter_recipe(size), graph, arrays, backbone)


def _teach(
    manifests: Sequence[Manifest],
    places: dict[str, int],
    fold: int,
    path: Path,
    config: RunConfig,
    lessons: list[Lesson],
) -> None:
    """Write the weights of a network taught by all patients but a fold's; -1 leaves none out."""
    from safetensors.numpy import save

    from hepar.fit.unet import fit_unet, read_lesson

    part = _plan(config)
    if not lessons:
        lessons.append(read_lesson(manifests, part.recipe))
    (lesson,) = lessons
    rows = np.flatnonzero([places[str(patient)] != fold for patient in lesson.patients])
    name = "on all patients" if fold < 0 else f"fold {fold}"
    write_atomic(path, save(fit_unet(part.graph, part.weights, lesson, rows, config.segment, name)))


def _assemble(
    ledger: Ledger, names: Sequence[str], places: dict[str, int], config: RunConfig
) -> None:
    from safetensors.numpy import load

    from hepar.model import Segmenter, write_segmenter

    *folds, final = (load((ledger.folder / name).read_bytes()) for name in names)
    inputs = {name: sha256_file(ledger.folder / name) for name in names}
    segmenter = Segmenter(
        dataclasses.replace(_plan(config), weights=final),
        tuple(folds),
        {digest(patient): fold for patient, fold in sorted(places.items())},
        stamp(ledger.command, seed=config.segment.seed, inputs=inputs),
    )
    write_segmenter(ledger.folder / "segmenter", segmenter)


def _measure(ledger: Ledger, manifests: Sequence[Manifest], config: RunConfig) -> None:
    """Write how the outlines of left-out patients agree with the drawn ones."""
    from hepar.evaluate import patient_mean
    from hepar.model import read_segmenter

    segmenter = read_segmenter(ledger.folder / "segmenter")
    rows: list[dict[str, Any]] = []
    sources = []
    for number, manifest in enumerate(manifests):
        overlaps = _overlaps(manifest, segmenter, config)
        dice = np.array([one.dice for one in overlaps])
        patients = [one.patient_id for one in overlaps]
        errors = np.array([abs(one.volume_error or 0.0) for one in overlaps])
        sources.append(
            {
                "n_patients": len(overlaps),
                "n_slices": len(manifest),
                "dice": _record(patient_mean(dice, patients, config.evaluate)),
                "dice_median": float(np.median(dice)),
                "dice_least": float(np.min(dice)),
                "volume_error": _record(patient_mean(errors, patients, config.evaluate)),
            }
        )
        rows += [{"source": number, **_row(one)} for one in overlaps]
        LOG.info("liver     Dice %.3f, mean over %d patients left out", np.mean(dice), len(dice))
    provenance = stamp(ledger.command, seed=config.segment.seed)
    folder = ledger.folder
    lines = [",".join(rows[0])] + [",".join(str(v) for v in row.values()) for row in rows]
    write_atomic(folder / "segmentation.csv", "\n".join(lines) + "\n")
    write_atomic(folder / "figures" / "outlines.png", _sheet(manifests, segmenter, rows))
    write_artefact(folder / "segmentation.json", "segmentation", {"sources": sources}, provenance)


def _overlaps(manifest: Manifest, segmenter: Segmenter, config: RunConfig) -> list[Overlap]:
    """Return how each patient's outlines agree, by a segmenter that never saw the patient."""
    from hepar.evaluate import measure_overlap
    from hepar.ingest import read_slices
    from hepar.model import Outlines

    outlines = Outlines(manifest, segmenter, config.backbone.threads)
    rows: dict[str, list[int]] = {}
    for i, sample in enumerate(manifest.samples):
        rows.setdefault(sample.patient_id, []).append(i)
    overlaps = []
    for patient, own in track(rows.items(), "outlines", total=len(rows)):
        drawn, found = [], []
        for i in own:
            (image,) = read_slices(manifest, [manifest.samples[i]])
            drawn.append(np.asarray(image.mask) > 0)
            found.append(outlines(manifest.samples[i], drawn[-1].shape) > 0)
        overlaps.append(measure_overlap(patient, drawn, found))
    return overlaps


def _record(estimate: Any) -> dict[str, Any]:
    return dataclasses.asdict(estimate)


def _row(overlap: Overlap) -> dict[str, Any]:
    error = overlap.volume_error
    return {
        "patient_id": overlap.patient_id,
        "n_slices": overlap.n_slices,
        "dice": round(overlap.dice, 4),
        "volume_error": "" if error is None else round(error, 4),
        "worst_slice": "" if overlap.worst is None else round(overlap.worst, 4),
    }


def _sheet(
    manifests: Sequence[Manifest], segmenter: Segmenter, rows: Sequence[dict[str, Any]]
) -> bytes:
    """Return a PNG of a slice of some patients, the worst first: drawn in blue, found in orange."""
    import cv2

    from hepar.explain import draw_contours, grey_picture
    from hepar.ingest import read_slices
    from hepar.model import Outlines

    outlines = [Outlines(manifest, segmenter) for manifest in manifests]
    ranked = sorted(rows, key=lambda row: row["dice"])
    step = max(1, len(ranked) // _SHOWN)
    tiles = []
    for row in ranked[::step][:_SHOWN]:
        manifest = manifests[row["source"]]
        own = [i for i, s in enumerate(manifest.samples) if s.patient_id == row["patient_id"]]
        middle = manifest.samples[own[len(own) // 2]]
        (image,) = read_slices(manifest, [middle])
        mask = np.asarray(image.mask) > 0
        found = outlines[row["source"]](middle, mask.shape) > 0
        tile = draw_contours(grey_picture(image, _SIDE), [mask, found], _SIDE)
        text = f"{row['patient_id'][:16]} {row['dice']:.3f}"
        cv2.putText(tile, text, (4, _SIDE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255,) * 3, 1)
        tiles.append(tile)
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % 6)
    sheet = np.vstack([np.hstack(tiles[at : at + 6]) for at in range(0, len(tiles), 6)])
    _, encoded = cv2.imencode(".png", sheet)
    return bytes(encoded.tobytes())
