"""New data outlined: a mask file a series, by a segmenter or by a bundle that holds one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import BackboneConfig
from hepar.data import LESION, LIVER, Manifest, Sample
from hepar.errors import BundleError, HeparError, SegmentError
from hepar.progress import LOG, track
from hepar.provenance import write_artefact, write_atomic

if TYPE_CHECKING:
    from hepar.backbone import Network
    from hepar.model import InputReader, Outlines

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

    Series by series: one that cannot be outlined is told, and the others go on.

    Args:
        model: a segmenter, or a bundle with one; that of a lesion finder marks lesions, too; or
            "liver-unet", the pretrained network that `hepar weights fetch liver-unet` got.
        manifest: new data.
        out: folder for the masks and `outlines.json`; with pictures `index.csv` names the masks.
        kind: "nifti", "dicom-seg", or "png" for pictures; "" for what suits the data.
        provenance: from `hepar.provenance.stamp`.
        config: batch, workers and threads.

    Returns:
        A record a series: patient_id, slices, and volumes in ml (None without spacing), of
        lesions where the model finds any.

    Raises:
        BundleError: the folder holds neither, or the bundle has no segmenter.
        SegmentError: masks of this kind cannot be written for this data.
        HeparError: of the first series, where none could be outlined.
    """
    from hepar.segment import by_series

    pictures = all(sample.kind == "picture" for sample in manifest.samples)
    kind = kind or ("png" if pictures else "nifti")
    if kind == "png" and not pictures:
        raise SegmentError(
            "mask files: expected pictures for masks in PNG, got slices of volumes or series. "
            "Write nifti for them."
        )
    outliner = _outliner(model, manifest, config or BackboneConfig())
    written = _Written(out, manifest, kind)
    rows: list[dict[str, Any]] = []
    failed: list[tuple[str, HeparError]] = []
    for samples in track(by_series(manifest), "outlines"):
        try:
            masks = outliner.draw(samples)
            written.add(samples, masks)
        except HeparError as error:
            failed.append((samples[0].patient_id, error))
            continue
        rows.append(_row(samples, masks, finds=outliner.finder is not None))
    if not rows:
        raise failed[0][1]
    written.finish()
    remarks = [
        *(f"{name}: no mask was written: {error}" for name, error in failed),
        *(
            f"{row['patient_id']}: no liver was found in {row['slices']} slices."
            for row in rows
            if not row["with_liver"]
        ),
        *outliner.outlines.remarks,
    ]
    for remark in remarks:
        LOG.warning("%s", remark)
    write_artefact(
        out / "outlines.json", "outlines", {"series": rows, "remarks": remarks}, provenance
    )
    return rows


def _row(samples: Sequence[Sample], masks: Sequence[Mask], *, finds: bool) -> dict[str, Any]:
    """Return what is told of a series; nothing of lesions where nobody looked for them."""
    spacing = samples[0].spacing_mm
    voxel = float(np.prod(spacing)) / 1000 if spacing and spacing[0] else None
    lesions = {
        "lesion_ml": voxel and round(sum(int((m == LESION).sum()) for m in masks) * voxel, 2),
        "with_lesion": sum(bool((mask == LESION).any()) for mask in masks),
    }
    return {
        "patient_id": samples[0].patient_id,
        "slices": len(samples),
        "with_liver": sum(bool(mask.any()) for mask in masks),
        "liver_ml": voxel and round(sum(int((m > 0).sum()) for m in masks) * voxel, 1),
        **(lesions if finds else {}),
    }


@dataclass(frozen=True, eq=False)
class _Outliner:
    """What draws masks: a segmenter, and what finds lesions in a bundle that has it."""

    outlines: Outlines
    speed: BackboneConfig
    finder: Network | None = None
    reader: InputReader | None = None
    least: float = 0.0

    def draw(self, samples: Sequence[Sample]) -> list[Mask]:
        """Return the mask (y, x) of every slice of a series.

        Raises:
            SegmentError: the segmenter cannot outline such a series.
            IngestError: a file cannot be read any more.
        """
        from hepar.ingest import read_slices

        self.outlines.check(samples)
        masks = []
        for sample in samples:
            (image,) = read_slices(self.outlines.manifest, [sample])
            masks.append(self.outlines(sample, (image.pixels.shape[0], image.pixels.shape[1])))
        if self.finder and self.reader and any(mask.any() for mask in masks):
            self._mark(self.finder, self.reader, samples, masks)
        return masks

    def _mark(
        self,
        finder: Network,
        reader: InputReader,
        samples: Sequence[Sample],
        masks: list[Mask],
    ) -> None:
        from hepar.model import find_lesions, is_stack

        place = {sample.sample_id: i for i, sample in enumerate(reader.manifest.samples)}
        rows = [place[sample.sample_id] for sample in samples]
        stacked = is_stack(samples)
        found = find_lesions(finder, reader, rows, self.speed, stacked=stacked, least=self.least)
        for z, mask in enumerate(masks):
            inside = mask > 0
            masks[z] = np.where(inside & found.lesions(z), LESION, mask).astype(np.uint8)


def _outliner(model: Path, manifest: Manifest, config: BackboneConfig) -> _Outliner:
    from hepar.backbone import Network
    from hepar.model import InputReader, Outlines, Segmenter, find_segmenter, read_bundle

    if not (model / "bundle.json").is_file():
        return _Outliner(Outlines(manifest, find_segmenter(str(model)), config.threads), config)
    bundle = read_bundle(model)
    if bundle.segmenter is None:
        raise BundleError(
            f"{model}: expected a bundle with a segmenter, got one without. Fit it with "
            "--segmenter, or name the folder of `hepar segment fit`."
        )
    outlines = Outlines(manifest, Segmenter(bundle.segmenter), config.threads)
    part = next((p for p in bundle.parts if p.backbone["name"] == "lesion_finder"), None)
    if part is None:
        return _Outliner(outlines, config)
    reader = InputReader(manifest, part.recipe, guess_liver=True, outlines=outlines, drawn=False)
    finder = Network(part.graph, part.weights, config.threads)
    return _Outliner(outlines, config, finder, reader, bundle.least_lesion)


class _Written:
    """Mask files of one job: a volume a series, or a PNG a picture and a table that names both."""

    def __init__(self, out: Path, manifest: Manifest, kind: str) -> None:
        self._out, self._manifest, self._kind = out, manifest, kind
        self._files: list[Path] = []
        self._lines: dict[int, str] = {}
        self._place = {sample.sample_id: i for i, sample in enumerate(manifest.samples)}

    def add(self, samples: Sequence[Sample], masks: Sequence[Mask]) -> None:
        """Write the masks of one series."""
        from hepar.segment import write_masks

        if self._kind == "png":
            for sample, mask in zip(samples, masks, strict=True):
                self._picture(sample, mask)
            return
        own = replace(self._manifest, samples=tuple(samples))
        self._files += write_masks(self._out, own, masks, self._kind, taken=self._files)

    def finish(self) -> None:
        """Write the table of pictures, in the order of the manifest."""
        if self._kind == "png":
            lines = ["path,mask,patient_id", *(self._lines[at] for at in sorted(self._lines))]
            write_atomic(self._out / "index.csv", "\n".join(lines) + "\n")
            LOG.info("masks     %d pictures; 127 is liver, 255 lesion", len(self._lines))

    def _picture(self, sample: Sample, mask: Mask) -> None:
        import cv2

        values = np.array([0, _PNG[LIVER], _PNG[LESION]], np.uint8)
        upright = mask[::-1] if self._manifest.flip_vertical else mask
        at = self._place[sample.sample_id]
        name = f"masks/{at:05d}.png"
        write_atomic(self._out / name, cv2.imencode(".png", values[upright])[1].tobytes())
        path = Path(os.path.relpath(self._manifest.root / sample.path, self._out)).as_posix()
        self._lines[at] = ",".join(_quoted(value) for value in (path, name, sample.patient_id))


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"' if set(value) & set(',"') else value
