"""Pictures of samples that the model got right and wrong, for the report to show."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from hepar.data import Manifest
from hepar.evaluate import Predictions, read_predictions
from hepar.explain import draw_outlines, grey_picture, lesion_outlines
from hepar.ingest import read_slices
from hepar.provenance import write_atomic

__all__ = ["most_confident", "write_samples"]

_SIDE = 256
_EACH = 6


def most_confident(predictions: Predictions, *, right: bool) -> list[int]:
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


def write_samples(folder: Path, manifest: Manifest) -> None:
    """Write `figures/samples/*.png` and `figures/samples.json`.

    Args:
        folder: of the run; `predictions.csv` must be there.
        manifest: where the pixels are.
    """
    predictions = read_predictions(folder / "predictions.csv")
    by_id = {sample.sample_id: sample for sample in manifest.samples}
    rows = [*most_confident(predictions, right=True), *most_confident(predictions, right=False)]
    rows = [i for i in rows if predictions.sample_id[i] in by_id]
    slices = read_slices(manifest, [by_id[str(predictions.sample_id[i])] for i in rows])
    records = []
    for number, (i, image) in enumerate(zip(rows, slices, strict=True)):
        name = f"figures/samples/{number:02d}.png"
        _, encoded = cv2.imencode(
            ".png", draw_outlines(grey_picture(image, _SIDE), lesion_outlines(image, _SIDE))
        )
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
