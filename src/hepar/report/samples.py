"""Pictures of samples that the model got right and wrong, for the report to show."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.data import LESION, Manifest, Slice
from hepar.evaluate import Predictions, read_predictions
from hepar.ingest import read_slices
from hepar.provenance import write_atomic

__all__ = ["write_samples"]

_SIDE = 256
_EACH = 6
_LEVEL_HU, _WIDTH_HU = 60.0, 400.0


def _most_confident(predictions: Predictions, *, right: bool) -> list[int]:
    """Return rows of highest probability that are right (or wrong), a patient first only once."""
    wanted = (predictions.predicted == predictions.reference) == right
    confidence = predictions.probabilities.max(axis=1)
    order = [int(i) for i in np.lexsort((predictions.sample_id, -confidence)) if wanted[i]]
    seen: set[str] = set()
    first = []
    for i in order:
        patient = str(predictions.patient_id[i])
        if patient not in seen:
            first.append(i)
            seen.add(patient)
    rest = [i for i in order if i not in set(first)]
    return [*first, *rest][:_EACH]


def _picture(image: Slice) -> NDArray[np.uint8]:
    """Return the slice as a square colour picture, a lesion outlined where one is drawn."""
    grey = image.pixels.astype(np.float64)
    if image.kind == "hu":
        grey = (grey - (_LEVEL_HU - _WIDTH_HU / 2)) / _WIDTH_HU * 255
    elif image.pixels.dtype != np.uint8:
        grey = grey / np.iinfo(image.pixels.dtype).max * 255
    height, width = grey.shape
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(np.clip(grey, 0, 255), size, interpolation=cv2.INTER_AREA)
    canvas = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    top, left = (_SIDE - size[1]) // 2, (_SIDE - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small[..., None].round()
    if image.mask is not None and (image.mask == LESION).any():
        lesion = (image.mask == LESION).astype(np.uint8)
        lesion = np.asarray(cv2.resize(lesion, size, interpolation=cv2.INTER_NEAREST), np.uint8)
        outlines, _ = cv2.findContours(lesion, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        moved = [outline + np.array([left, top]) for outline in outlines]
        cv2.drawContours(canvas, moved, -1, (0, 159, 230), 1, cv2.LINE_AA)
    return canvas


def write_samples(folder: Path, manifest: Manifest) -> None:
    """Write `figures/samples/*.png` and `figures/samples.json`.

    Args:
        folder: of the run; `predictions.csv` must be there.
        manifest: where the pixels are.
    """
    predictions = read_predictions(folder / "predictions.csv")
    by_id = {sample.sample_id: sample for sample in manifest.samples}
    rows = [*_most_confident(predictions, right=True), *_most_confident(predictions, right=False)]
    rows = [i for i in rows if predictions.sample_id[i] in by_id]
    slices = read_slices(manifest, [by_id[str(predictions.sample_id[i])] for i in rows])
    records = []
    for number, (i, image) in enumerate(zip(rows, slices, strict=True)):
        name = f"figures/samples/{number:02d}.png"
        _, encoded = cv2.imencode(".png", _picture(image))
        write_atomic(folder / name, encoded.tobytes())
        records.append(
            {
                "file": name,
                "sample_id": str(predictions.sample_id[i]),
                "patient_id": str(predictions.patient_id[i]),
                "reference": str(predictions.reference[i]),
                "predicted": str(predictions.predicted[i]),
                "probability": float(predictions.probabilities[i].max()),
            }
        )
    write_atomic(folder / "figures" / "samples.json", json.dumps(records, indent=2) + "\n")
