"""New data explained: an answer per patient, a picture per slice, and a page to scroll through."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.config import BackboneConfig
from hepar.data import Manifest, Sample
from hepar.errors import BundleError, DataError
from hepar.explain import (
    METHODS,
    OCCLUSION,
    Evidence,
    Look,
    Model,
    draw_heat,
    draw_outlines,
    grey_picture,
    lesion_outlines,
    look_at,
    nearest_of,
)
from hepar.model import Answer, Bundle, Predictor
from hepar.progress import LOG, track
from hepar.provenance import read_artefact, write_artefact, write_atomic

__all__ = ["SeriesConfig", "check_series", "explain_series"]

_SIDE = 256
_STRIP = 8
_SIMILAR = 3
_EMPTY = 0.25
"""A map whose largest value is below this share of the scale is called empty."""

_ABSOLUTE = {"grad-cam", "hirescam"}
"""Methods whose values have the unit of the bundle's scale."""

Picture = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class SeriesConfig:
    """What is drawn.

    Attributes:
        label: whose evidence; "" for the label predicted for the patient.
        method: a name in `hepar.explain.METHODS`, or "occlusion".
        gate: let the gate refuse patients, of whom no map is drawn then.
    """

    label: str = ""
    method: str = "grad-cam"
    gate: bool = True


def explain_series(
    predictor: Predictor,
    manifest: Manifest,
    out: Path,
    config: SeriesConfig,
    provenance: dict[str, Any],
    speed: BackboneConfig | None = None,
) -> Answer:
    """Answer for new data and draw where the model looked.

    Args:
        predictor: the bundle.
        manifest: new data.
        out: folder for `explanations.json`, `index.html` and a folder of pictures per patient.
        config: what is drawn.
        provenance: from `hepar.provenance.stamp`.
        speed: batch and workers.

    Returns:
        The answers, as `Predictor.predict` gives them.

    Raises:
        BundleError: the label is not the bundle's, the folder holds other files, or no slice could
            be answered for.
        BackboneError: the bundle's graph gives no maps.
        RegistryError: the method is unknown.
    """
    from hepar.report import write_series_page

    check_series(predictor, out, config)
    seen, answer = _look(predictor, manifest, config, speed or BackboneConfig())
    labels = predictor.bundle.labels
    mapped = {
        str(patient): labels.index(config.label or str(predicted))
        for patient, predicted in zip(
            answer.patients.patient_id, answer.patients.predicted, strict=True
        )
        if patient not in answer.refused
    }
    scale = predictor.bundle.map_scale if config.method in _ABSOLUTE else None
    shown = [mapped.get(sample.patient_id) for sample in manifest.samples]
    similar = _similar(predictor.bundle, seen)
    drawing = _Drawing(out, seen, shown, scale or _largest(seen, shown), similar)
    shutil.rmtree(out / "pictures", ignore_errors=True)
    content = {
        "method": config.method,
        "scale": drawing.scale,
        "absolute": scale is not None,
        "verdict": predictor.bundle.map_verdict[0],
        "warns": predictor.bundle.map_verdict[1],
        "labels": list(labels),
        "patients": _patients(drawing, manifest, answer, labels.names),
        "findings": [
            {"code": f.code, "message": f.message} for f in (*manifest.findings, *answer.findings)
        ],
    }
    write_artefact(out / "explanations.json", "series", content, provenance)
    write_series_page(out)
    return answer


def check_series(predictor: Predictor, out: Path, config: SeriesConfig) -> None:
    """Refuse what cannot work, before any slice is read.

    Raises:
        BundleError: the bundle sees volumes, the label is not the bundle's, or the folder holds
            other files, a run's among them.
        RegistryError: the method is unknown.
    """
    if any(part.recipe.needs_series for part in predictor.bundle.parts):
        raise BundleError(
            "explain: expected a bundle that sees slices, got one of volumes, whose maps are not "
            "drawn. Use `hepar predict`, or a bundle of --level slice, slab or mil."
        )
    if config.method != OCCLUSION:
        METHODS.get(config.method)
    labels = predictor.bundle.labels
    if predictor.bundle.centre:
        raise BundleError(
            "heat maps: expected features as they are, got a bundle that centres them by patient "
            "(head.centre): a map of one slice cannot show what all of them lost. Use `hepar "
            "predict`."
        )
    if config.label and config.label not in labels.names:
        raise BundleError(
            f"--label: expected one of {', '.join(labels)}, got {config.label!r}. "
            "Name a label of the bundle, or none for the predicted one."
        )
    if out.is_dir() and any(out.iterdir()):
        try:
            read_artefact(out / "explanations.json", "series")
        except DataError:
            raise BundleError(
                f"{out}: expected a new folder or one that `hepar explain` wrote, got one with "
                "other files. Name another."
            ) from None


@dataclasses.dataclass(frozen=True, eq=False)
class _Seen:
    """What is kept of a look: little, for there may be thousands."""

    grey: Picture
    outlines: list[NDArray[np.int32]]
    evidence: Evidence
    features: NDArray[np.float32]


def _keep(look: Look) -> _Seen:
    outlines = lesion_outlines(look.image, _SIDE)
    return _Seen(grey_picture(look.image, _SIDE), outlines, look.evidence, look.features)


def _look(
    predictor: Predictor, manifest: Manifest, config: SeriesConfig, speed: BackboneConfig
) -> tuple[list[_Seen], Answer]:
    """Run each network once, for the answers and the maps."""
    readers = predictor.readers(manifest)
    plain = [dataclasses.replace(reader, views=1) for reader in readers]
    model = Model(predictor.networks, predictor.bundle.head)
    looks = look_at(
        model,
        plain,
        range(len(manifest)),
        config.method,
        batch=speed.batch,
        workers=speed.workers,
    )
    seen = [_keep(look) for look in track(looks, "maps", total=len(manifest))]
    if predictor.bundle.views > 1:
        LOG.info("maps      of the plain view; answers are means over %d", predictor.bundle.views)
        return seen, predictor.predict(manifest, speed, gate=config.gate)
    features = np.stack([one.features for one in seen])[:, None]
    return seen, predictor.answer(features, plain, speed, gate=config.gate)


def _similar(bundle: Bundle, seen: Sequence[_Seen]) -> list[list[dict[str, Any]]]:
    """Return for each slice the training patients that it resembles most, with their labels."""
    known = bundle.known
    if known is None:
        return [[] for _ in seen]
    features = np.stack([one.features for one in seen])
    patients = known.patients.tolist()
    near = nearest_of(features, known.features.astype(np.float32), patients, _SIMILAR)
    return [
        [
            {
                "training_patient": patients[at],
                "label": bundle.labels.names[known.labels[at]],
                "likeness": round(likeness, 3),
            }
            for at, likeness in own
        ]
        if one.evidence.parts
        else []
        for one, own in zip(seen, near, strict=True)
    ]


def _largest(seen: Sequence[_Seen], shown: Sequence[int | None]) -> float:
    """Return the largest value of all maps, for a bundle or a method without a scale."""
    values = [
        float(one.evidence.heat(label).max())
        for one, label in zip(seen, shown, strict=True)
        if label is not None
    ]
    return max([*values, 1e-6])


@dataclasses.dataclass(frozen=True, eq=False)
class _Drawing:
    """Slices to be drawn, and whose evidence is shown in each."""

    out: Path
    seen: Sequence[_Seen]
    shown: Sequence[int | None]
    scale: float
    similar: Sequence[list[dict[str, Any]]]

    def draw(self, row: int) -> tuple[Picture, float]:
        """Return the picture of a slice and the largest value of its map."""
        one, label = self.seen[row], self.shown[row]
        if label is None:
            return draw_outlines(one.grey, one.outlines), 0.0
        heat = one.evidence.heat(label)
        coloured = draw_heat(one.grey, heat, self.scale)
        return draw_outlines(coloured, one.outlines, on_heat=True), float(heat.max())


def _patients(
    drawing: _Drawing, manifest: Manifest, answer: Answer, labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Draw every patient that is not refused, and return their records."""
    rows: dict[str, list[int]] = {}
    for row, sample in enumerate(manifest.samples):
        rows.setdefault(sample.patient_id, []).append(row)
    place = {str(name): i for i, name in enumerate(answer.slices.sample_id)}
    records = []
    for number, said in enumerate(answer.answers):
        own = rows[said.patient_id]
        shown = drawing.shown[own[0]]
        predicted, values = answer.numbers(number)
        patient: dict[str, Any] = {
            **dataclasses.asdict(said),
            "refused": said.patient_id in answer.refused,
            "predicted": predicted,
            "probabilities": _by_label(labels, values) if values else {},
            "map_label": None if shown is None else labels[shown],
            "upwards": _upwards([manifest.samples[row] for row in own]),
            "strip": None if shown is None else _strip(drawing, own, number),
        }
        drawn = [None] * len(own) if shown is None else _pictures(drawing, own, number)
        patient["slices"] = [
            {
                "sample_id": manifest.samples[row].sample_id,
                **_slice(answer, place.get(manifest.samples[row].sample_id), labels),
                **(picture or {}),
            }
            for row, picture in zip(own, drawn, strict=True)
        ]
        records.append(patient)
    return records


def _upwards(samples: Sequence[Sample]) -> bool:
    """Return whether slices are known to be in order from the feet to the head."""
    series = {sample.series_id for sample in samples}
    return len(series) == 1 and all(sample.kind == "hu" for sample in samples)


def _by_label(
    labels: Sequence[str], values: NDArray[np.float64] | Sequence[float]
) -> dict[str, float]:
    return {label: round(float(p), 6) for label, p in zip(labels, values, strict=True)}


def _slice(answer: Answer, at: int | None, labels: Sequence[str]) -> dict[str, Any]:
    """Return what is said of a slice; nothing of one that shows no liver."""
    if at is None:
        return {"predicted": "", "probabilities": {}}
    return {
        "predicted": str(answer.slices.predicted[at]),
        "probabilities": _by_label(labels, answer.slices.probabilities[at]),
    }


def _pictures(drawing: _Drawing, rows: Sequence[int], number: int) -> list[dict[str, Any]]:
    """Write a picture of each slice and return what to say of its map."""

    def draw(job: tuple[int, int]) -> dict[str, Any]:
        at, row = job
        picture, largest = drawing.draw(row)
        name = f"pictures/{number:04d}/{at:04d}.png"
        _write(drawing.out / name, picture)
        said = {"largest": largest, "empty": largest < _EMPTY * drawing.scale}
        return {"file": name, **said, "similar": drawing.similar[row]}

    with ThreadPoolExecutor() as pool:
        return list(pool.map(draw, enumerate(rows)))


def _strip(drawing: _Drawing, rows: Sequence[int], number: int) -> str:
    """Write some slices in a row, plain above and with their maps below."""
    some = [rows[int((i + 0.5) * len(rows) / _STRIP)] for i in range(_STRIP)]
    some = list(dict.fromkeys(some)) if len(rows) > _STRIP else list(rows)
    above = [draw_outlines(drawing.seen[r].grey, drawing.seen[r].outlines) for r in some]
    below = [drawing.draw(row)[0] for row in some]
    name = f"pictures/{number:04d}/strip.png"
    _write(drawing.out / name, np.vstack([np.hstack(above), np.hstack(below)]))
    return name


def _write(path: Path, picture: Picture) -> None:
    _, encoded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    write_atomic(path, encoded.tobytes())
