"""New data outlined: a mask file a series, by a segmenter or by a bundle that holds one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hepar.backbone import LIVER_UNET
from hepar.config import BackboneConfig
from hepar.data import LESION, LIVER, Manifest
from hepar.errors import BundleError, SegmentError
from hepar.progress import LOG, track
from hepar.provenance import write_artefact, write_atomic

if TYPE_CHECKING:
    from hepar.model import Outlines

__all__ = ["KINDS", "outline_files"]

KINDS = ("nifti", "dicom-seg", "png")
_PNG = {LIVER: 127, LESION: 255}

Mask = NDArray[np.uint8]


def outline_files(
    model: Path,
    manifest: Manifest,
    out: Path,
    kind: str,
    provenance: Mapping[str, Any],
    config: BackboneConfig | None = None,
) -> list[dict[str, Any]]:
    """Write masks of the liver, and of lesions where the model finds any, beside what was found.

    Args:
        model: a segmenter, or a bundle with one; that of a lesion finder marks lesions, too; or
            "liver-unet", the pretrained network that `hepar weights fetch liver-unet` got.
        manifest: new data.
        out: folder for the masks and `outlines.json`; with pictures `index.csv` names the masks.
        kind: "nifti", "dicom-seg", or "png" for pictures; "" for what suits the data.
        provenance: from `hepar.provenance.stamp`.
        config: batch, workers and threads.

    Returns:
        A record a series: patient_id, slices, and volumes in ml (None without spacing).

    Raises:
        BundleError: the folder holds neither, or the bundle has no segmenter.
        SegmentError: masks of this kind cannot be written for this data.
    """
    from hepar.segment import by_series, write_masks

    speed = config or BackboneConfig()
    pictures = all(sample.kind == "picture" for sample in manifest.samples)
    kind = kind or ("png" if pictures else "nifti")
    if kind == "png" and not pictures:
        raise SegmentError(
            "mask files: expected pictures for masks in PNG, got slices of volumes or series. "
            "Write nifti for them."
        )
    if str(model) == LIVER_UNET:
        masks = _pretrained(manifest, speed)
    else:
        outlines, part = _open(model, manifest, speed)
        masks = _lesions(outlines, *part, speed) if part else _livers(outlines)
    if kind == "png":
        _write_pictures(out, manifest, masks)
    else:
        write_masks(out, manifest, masks, kind)
    place = {sample.sample_id: i for i, sample in enumerate(manifest.samples)}
    rows = []
    for samples in by_series(manifest):
        own = [masks[place[sample.sample_id]] for sample in samples]
        spacing = samples[0].spacing_mm
        voxel = float(np.prod(spacing)) / 1000 if spacing and spacing[0] else None
        rows.append(
            {
                "patient_id": samples[0].patient_id,
                "slices": len(samples),
                "with_liver": sum(bool(mask.any()) for mask in own),
                "liver_ml": voxel and round(sum(int((m > 0).sum()) for m in own) * voxel, 1),
                "lesion_ml": voxel and round(sum(int((m == LESION).sum()) for m in own) * voxel, 2),
                "with_lesion": sum(bool((mask == LESION).any()) for mask in own),
            }
        )
    write_artefact(out / "outlines.json", "outlines", {"series": rows}, provenance)
    return rows


def _open(
    model: Path, manifest: Manifest, config: BackboneConfig
) -> tuple[Outlines, tuple[Any, float] | None]:
    """Return outlines of the data; and what finds lesions in a bundle and from when, or None."""
    from hepar.model import Outlines, Segmenter, read_bundle, read_segmenter

    if not (model / "bundle.json").is_file():
        return Outlines(manifest, read_segmenter(model), config.threads), None
    bundle = read_bundle(model)
    if bundle.segmenter is None:
        raise BundleError(
            f"{model}: expected a bundle with a segmenter, got one without. Fit it with "
            "--segmenter, or name the folder of `hepar segment fit`."
        )
    finders = (part for part in bundle.parts if part.backbone["name"] == "lesion_finder")
    outlines = Outlines(manifest, Segmenter(bundle.segmenter), config.threads)
    found = [(part, bundle.least_lesion) for part in finders]
    return outlines, found[0] if found else None


def _pretrained(manifest: Manifest, config: BackboneConfig) -> list[Mask]:
    """Return masks by the pretrained network, which takes whole series of HU."""
    from hepar.data import Volume
    from hepar.ingest import read_slices
    from hepar.segment import by_series, segment_volume

    place = {sample.sample_id: i for i, sample in enumerate(manifest.samples)}
    masks: list[Mask] = [np.zeros((0, 0), np.uint8)] * len(manifest)
    for samples in track(by_series(manifest), "outlines"):
        voxels = np.stack([image.pixels for image in read_slices(manifest, samples)])
        volume = Volume(voxels, samples[0].spacing_mm, samples[0].kind)
        found = segment_volume(volume, threads=config.threads)
        for sample, mask in zip(samples, found, strict=True):
            masks[place[sample.sample_id]] = mask
    return masks


def _livers(outlines: Outlines) -> list[Mask]:
    from hepar.ingest import read_slices

    masks = []
    for sample in track(outlines.manifest.samples, "outlines"):
        (image,) = read_slices(outlines.manifest, [sample])
        masks.append(outlines(sample, (image.pixels.shape[0], image.pixels.shape[1])))
    return masks


def _lesions(outlines: Outlines, part: Any, least: float, config: BackboneConfig) -> list[Mask]:
    from hepar.backbone import Network
    from hepar.model import InputReader, find_lesions, is_stack
    from hepar.segment import by_series

    manifest = outlines.manifest
    network = Network(part.graph, part.weights, config.threads)
    reader = InputReader(manifest, part.recipe, guess_liver=True, outlines=outlines, drawn=False)
    masks = _livers(outlines)
    place = {sample.sample_id: i for i, sample in enumerate(manifest.samples)}
    for samples in track(by_series(manifest), "lesions"):
        rows = [place[sample.sample_id] for sample in samples]
        stacked = is_stack(samples)
        found = find_lesions(network, reader, rows, config, stacked=stacked, least=least)
        for z, row in enumerate(rows):
            inside = masks[row] > 0
            masks[row] = np.where(inside & found.lesions(z), LESION, masks[row]).astype(np.uint8)
    return masks


def _write_pictures(out: Path, manifest: Manifest, masks: Sequence[Mask]) -> None:
    """Write a PNG a picture (127 liver, 255 lesion), and a table that names both."""
    import cv2

    values = np.array([0, _PNG[LIVER], _PNG[LESION]], np.uint8)
    lines = ["path,mask,patient_id"]
    for number, (sample, mask) in enumerate(zip(manifest.samples, masks, strict=True)):
        upright = mask[::-1] if manifest.flip_vertical else mask
        name = f"masks/{number:05d}.png"
        write_atomic(out / name, cv2.imencode(".png", values[upright])[1].tobytes())
        path = Path(os.path.relpath(manifest.root / sample.path, out)).as_posix()
        lines.append(",".join(_quoted(value) for value in (path, name, sample.patient_id)))
    write_atomic(out / "index.csv", "\n".join(lines) + "\n")
    LOG.info("masks     %d pictures; 127 is liver, 255 lesion", len(masks))


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"' if set(value) & set(',"') else value
