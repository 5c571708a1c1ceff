"""New data explained: an answer per patient, a picture per slice, and a page to scroll through."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.config import BackboneConfig
from hepar.data import Manifest, Sample, stack_series
from hepar.errors import BundleError, DataError, IngestError
from hepar.explain import (
    AUTO,
    LIKELIHOOD,
    METHODS,
    OCCLUSION,
    Look,
    Model,
    Plane,
    SeriesLook,
    draw_heat,
    draw_outlines,
    grey_picture,
    hottest_planes,
    lesion_labels,
    lesion_outlines,
    look_at,
    look_at_series,
    method_of,
    nearest_of,
)
from hepar.model import Answer, Bundle, InputReader, Predictor, in_context
from hepar.progress import LOG, track
from hepar.provenance import read_artefact, write_artefact, write_atomic
from hepar.segment import write_values

__all__ = ["SeriesConfig", "check_series", "explain_series"]

_SIDE = 256
_STRIP = 8
_PLANES = 5
"""Of a series, where its map says most."""

_SIMILAR = 3
_EMPTY = 0.25
"""A map whose largest value is below this share of the scale is called empty."""

_ABSOLUTE = {"grad-cam": {"grad-cam", "hirescam"}, "occlusion": {"occlusion"}}
"""Methods whose values have the unit of a bundle's scale, by the one that it belongs to."""

Picture = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class SeriesConfig:
    """What is drawn.

    Attributes:
        label: whose evidence; "" for the label predicted for the patient.
        method: a name in `hepar.explain.METHODS`, or "occlusion"; "" for the bundle's own: how
            likely each pixel is a lesion for lesion finders, else what its scale was learned of.
        gate: let the gate refuse patients, of whom no map is drawn then.
    """

    label: str = ""
    method: str = ""
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
    speed = speed or BackboneConfig()
    stacked = any(part.recipe.needs_series for part in predictor.bundle.parts)
    config = dataclasses.replace(config, method=_own_method(predictor, config, stacked=stacked))
    if stacked:
        manifest = stack_series(manifest)
        reader, looks, answer = _look_at_series(predictor, manifest, config, speed)
    else:
        seen, answer = _look(predictor, manifest, config, speed)
    labels = predictor.bundle.labels
    mapped = {
        str(patient): labels.index(config.label or str(predicted))
        for patient, predicted in zip(
            answer.patients.patient_id, answer.patients.predicted, strict=True
        )
        if patient not in answer.refused
    }
    bundle = predictor.bundle
    scale = bundle.map_scale if config.method in _ABSOLUTE[bundle.map_unit] else None
    scale = 1.0 if config.method == LIKELIHOOD else scale
    shown = [mapped.get(sample.patient_id) for sample in manifest.samples]
    for name in ("pictures", "maps"):
        shutil.rmtree(out / name, ignore_errors=True)
    whole: dict[str, Any] = {}
    answered = [sample.sample_id for sample in manifest.samples]
    if stacked:
        manifest, seen, answered, whole = _planes(out, reader, looks, shown)
        shown = [mapped.get(sample.patient_id) for sample in manifest.samples]
    similar = _similar(predictor.bundle, seen, manifest.samples)
    drawing = _Drawing(out, seen, shown, scale or _largest(seen, shown), similar, answered)
    content = {
        "method": config.method,
        "scale": drawing.scale,
        "absolute": scale is not None,
        "verdict": predictor.bundle.map_verdict[0],
        "warns": predictor.bundle.map_verdict[1],
        "labels": list(labels),
        **whole,
        "patients": _patients(drawing, manifest, answer, labels.names),
        "findings": [
            {"code": f.code, "message": f.message, "severity": f.severity}
            for f in (*manifest.findings, *answer.findings)
        ],
    }
    write_artefact(out / "explanations.json", "series", content, provenance)
    write_series_page(out)
    return answer


def _own_method(predictor: Predictor, config: SeriesConfig, *, stacked: bool) -> str:
    """Return the method that was asked for, or the bundle's own."""
    if config.method not in {"", AUTO}:
        return config.method
    if method_of(AUTO, predictor.networks) == LIKELIHOOD:
        return LIKELIHOOD
    unknown = stacked and predictor.bundle.map_scale is None
    return OCCLUSION if unknown else predictor.bundle.map_unit


def check_series(predictor: Predictor, out: Path, config: SeriesConfig) -> None:
    """Refuse what cannot work, before any slice is read.

    Raises:
        BundleError: the label is not the bundle's, or the folder holds other files, a run's among
            them.
        RegistryError: the method is unknown.
    """
    if config.method not in {"", AUTO, OCCLUSION}:
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
    heat: Callable[[int], NDArray[np.float32]]
    features: NDArray[np.float32]
    blank: bool = False


def _keep(look: Look) -> _Seen:
    outlines = lesion_outlines(look.image, _SIDE)
    grey, evidence = grey_picture(look.image, _SIDE), look.evidence
    return _Seen(grey, outlines, evidence.heat, look.features, not evidence.parts)


def _look(
    predictor: Predictor, manifest: Manifest, config: SeriesConfig, speed: BackboneConfig
) -> tuple[list[_Seen], Answer]:
    """Run each network once, for the answers and the maps."""
    readers = predictor.readers(manifest)
    plain = [dataclasses.replace(reader, views=1) for reader in readers]
    bundle = predictor.bundle
    model = Model(predictor.networks, bundle.head, lesion_labels(bundle))
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


def _look_at_series(
    predictor: Predictor, manifest: Manifest, config: SeriesConfig, speed: BackboneConfig
) -> tuple[InputReader, list[SeriesLook], Answer]:
    """Run the network once on every window of every series, for the answers and the maps."""
    readers = predictor.readers(manifest)
    plain = [dataclasses.replace(reader, views=1) for reader in readers]
    model, rows = Model(predictor.networks, predictor.bundle.head), range(len(manifest))
    found = look_at_series(model, plain[0], rows, config.method, workers=speed.workers)
    looks = list(track(found, "maps", total=len(manifest)))
    if predictor.bundle.views > 1:
        LOG.info("maps      of the plain view; answers are means over %d", predictor.bundle.views)
        return plain[0], looks, predictor.predict(manifest, speed, gate=config.gate)
    features = np.stack([look.features for look in looks])
    return plain[0], looks, predictor.answer(features, plain, speed, gate=config.gate)


def _planes(
    out: Path, reader: InputReader, looks: Sequence[SeriesLook], shown: Sequence[int | None]
) -> tuple[Manifest, list[_Seen], list[str], dict[str, Any]]:
    """Return the planes of series where their maps say most, and write each map as NIfTI.

    Args:
        out: gets `maps/`, a volume a series on its own voxels.
        reader: of the series.
        looks: of them.
        shown: the label whose evidence is shown in each; None for none.

    Returns:
        A manifest of the planes, the planes, the series that each is of, and what to say of them.
    """
    kept: list[tuple[Sample, _Seen, str]] = []
    files, cells = {}, []
    for look, label in zip(looks, shown, strict=True):
        series = reader.manifest.samples[look.position]
        slices, features = series.slices or (series,), look.features.mean(axis=0)
        if look.evidence is None or label is None:
            blank = reader.plane(look.position, len(slices) // 2)
            plane = Plane(len(slices) // 2, blank, np.zeros(blank.pixels.shape[:2], np.float32))
            kept.append((series, _keep_plane(plane, features, blank=True), series.sample_id))
            continue
        cells = [round(side) for side in look.evidence.cell_mm]
        heats: list[NDArray[np.float32]] = []
        planes = hottest_planes(reader, look, label, _PLANES, heats)
        name = f"maps/{look.position:04d}.nii.gz"
        try:
            write_values(out / name, np.stack(heats), reader.manifest, slices)
            files[series.sample_id] = name
        except IngestError as error:
            LOG.warning("no NIfTI of the map: %s", error)
        kept += [
            (slices[plane.number], _keep_plane(plane, features), series.sample_id)
            for plane in planes
        ]
    kept.sort(key=lambda one: _order(one[0]))
    samples, seen, answered = zip(*kept, strict=True)
    said = {"things": "series", "cell_mm": cells, "maps": files}
    return dataclasses.replace(reader.manifest, samples=samples), [*seen], [*answered], said


def _order(sample: Sample) -> tuple[str, str, int, str]:
    """Return what a manifest sorts by."""
    return sample.patient_id, sample.series_id, sample.slice_index, sample.sample_id


def _keep_plane(plane: Plane, features: NDArray[np.float32], *, blank: bool = False) -> _Seen:
    """Keep a plane of a series, whose map is that of the label that is shown."""
    outlines = lesion_outlines(plane.image, _SIDE)
    return _Seen(grey_picture(plane.image, _SIDE), outlines, lambda _: plane.heat, features, blank)


def _similar(
    bundle: Bundle, seen: Sequence[_Seen], samples: Sequence[Sample]
) -> list[list[dict[str, Any]]]:
    """Return for each slice the training patients that it resembles most, with their labels.

    Slices are compared as the head sees them: beside their neighbours, where it does.
    """
    known = bundle.known
    similar: list[list[dict[str, Any]]] = [[] for _ in seen]
    shown = [i for i, one in enumerate(seen) if not one.blank]
    if known is None or not shown:
        return similar
    plain = np.stack([seen[i].features for i in shown])[:, None]
    features = in_context(plain, [samples[i] for i in shown], beside=bundle.beside)[:, 0]
    patients = known.patients.tolist()
    near = nearest_of(features, known.features.astype(np.float32), patients, _SIMILAR)
    for i, own in zip(shown, near, strict=True):
        similar[i] = [
            {
                "training_patient": patients[at],
                "label": bundle.labels.names[known.labels[at]],
                "likeness": round(likeness, 3),
            }
            for at, likeness in own
        ]
    return similar


def _largest(seen: Sequence[_Seen], shown: Sequence[int | None]) -> float:
    """Return the largest value of all maps, for a bundle or a method without a scale."""
    values = [
        float(one.heat(label).max())
        for one, label in zip(seen, shown, strict=True)
        if label is not None
    ]
    return max([*values, 1e-6])


@dataclasses.dataclass(frozen=True, eq=False)
class _Drawing:
    """Slices to be drawn, whose evidence is shown in each, and the sample that was answered for."""

    out: Path
    seen: Sequence[_Seen]
    shown: Sequence[int | None]
    scale: float
    similar: Sequence[list[dict[str, Any]]]
    answered: Sequence[str]

    def draw(self, row: int) -> tuple[Picture, float]:
        """Return the picture of a slice and the largest value of its map."""
        one, label = self.seen[row], self.shown[row]
        if label is None:
            return draw_outlines(one.grey, one.outlines), 0.0
        heat = one.heat(label)
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
                **_slice(answer, place.get(drawing.answered[row]), labels),
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
