"""Heat maps of left-out patients and what they are worth: a stage, `explanations.json`."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hepar.cohort_job import hash_files
from hepar.data import take_evenly
from hepar.explain import LIKELIHOOD, OCCLUSION, Model, lesion_labels, method_of
from hepar.model_job import Job, plain_features
from hepar.provenance import digest, stamp, write_artefact, write_atomic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hepar.backbone import Network
    from hepar.evaluate import Predictions
    from hepar.explain import Aim, Look, SeriesLook
    from hepar.model import Bundle, FoldModel, Head, InputReader, Known

__all__ = ["explain_model"]

_SIDE = 256
_PLANES = 3
"""Of a series, in a report."""

_SCALE_SLICES = 100
_SCALE_QUANTILE = 0.95

_COMPARABLE = "grad-cam"
"""Whose unit the bundle's scale has, but where maps are made by occlusion."""

_SIMILAR, _THUMB = 3, 96


def explain_model(job: Job) -> None:
    """Write `explanations.json`, pictures and the bundle's scale, unless `explain.run` is off."""
    folder, config = job.ledger.folder, job.config
    if not config.explain.run:
        (folder / "explanations.json").unlink(missing_ok=True)
        return
    inputs = [
        job.inputs(),
        hash_files(job.ledger, "predictions.csv", "folds.safetensors", "bundle/bundle.json"),
        dataclasses.asdict(config.explain),
        dataclasses.asdict(config.evaluate),
    ]
    outputs = ["explanations.json", "bundle/maps.json"]
    outputs += ["bundle/known.json"] if config.explain.known else []
    job.ledger.stage("explain", inputs, outputs, lambda: _work(job))


def _work(job: Job) -> None:
    from hepar.evaluate import read_predictions
    from hepar.model import read_bundle, read_folds, write_known, write_map_scale
    from hepar.report import map_verdict

    folder, config = job.ledger.folder, job.config.explain
    bundle = read_bundle(folder / "bundle")
    folds = read_folds(folder / "folds.safetensors", bundle.labels)
    predictions = read_predictions(folder / "predictions.csv")
    cohort = _Cohort(job, bundle, folds, predictions)
    shutil.rmtree(folder / "figures" / "maps", ignore_errors=True)
    hashes = {"predictions.csv": hash_files(job.ledger, "predictions.csv")}
    provenance = stamp(job.ledger.command, seed=config.seed, inputs=hashes)
    unit = OCCLUSION if cohort.method == OCCLUSION else _COMPARABLE
    scale = shared = _scale(cohort, unit)
    if cohort.method == LIKELIHOOD:
        scale = 1.0
    elif cohort.method == "grad-cam++":
        scale = _scale(cohort, cohort.method)
    shown = cohort.shown
    scored = cohort.evenly(config.slices, "masked")
    maps, aims = _draw(cohort, shown, scored, scale)
    similar = _similar(cohort, list(shown))
    localisation = _localisation(cohort, aims)
    said, warns = map_verdict(localisation)
    verdict = (f"Of left-out patients in training, {cohort.method}: {said}", warns)
    write_map_scale(
        folder / "bundle", shared, provenance, verdict if localisation else ("", False), unit
    )
    write_known(folder / "bundle", _known(cohort) if config.known else None, provenance)
    content = {
        "method": cohort.method,
        "scale": scale,
        "things": cohort.bundle.parts[0].recipe.things,
        "maps": [{**one, "similar": similar.get(one["sample_id"], [])} for one in maps],
        "localisation": localisation,
        "n_looked": len(scored),
        "checks": _checks(cohort),
    }
    write_artefact(folder / "explanations.json", "explanations", content, provenance)


@dataclasses.dataclass(frozen=True, eq=False)
class _Cohort:
    """A finished model and its cohort; rows are those of the manifest."""

    job: Job
    bundle: Bundle
    folds: tuple[FoldModel, ...]
    predictions: Predictions

    @property
    def shown(self) -> dict[int, int]:
        """Rows that the report shows -> the label that was predicted."""
        from hepar.report import most_confident

        place = {s.sample_id: i for i, s in enumerate(self.job.cohort.manifest.samples)}
        return {
            place[str(self.predictions.sample_id[i])]: self.bundle.labels.index(
                str(self.predictions.predicted[i])
            )
            for right in (True, False)
            for i in most_confident(self.predictions, right=right)
        }

    def evenly(self, most: int, which: Literal["trained", "masked"]) -> list[int]:
        """Return some rows, evenly over the patients: of train patients, or those with a mask."""
        samples, split = self.job.cohort.manifest.samples, self.job.cohort.split
        rows = [
            i
            for i, sample in enumerate(samples)
            if (sample.mask if which == "masked" else split.of(sample).fold is not None)
        ]
        taken = take_evenly([samples[i].patient_id for i in rows], most)
        return [rows[i] for i in taken]

    def readers(self) -> list[InputReader]:
        """Return what reads the cohort for each network."""
        return [
            dataclasses.replace(self.job.reader(part.recipe, unseen=True), guess_liver=True)
            for part in self.bundle.parts
        ]

    @property
    def trained(self) -> bool:
        """Whether features are another network's in every fold."""
        return self.job.trains or self.job.finds or any(fold.weights for fold in self.folds)

    @cached_property
    def networks(self) -> tuple[Network, ...]:
        """The bundle's own: the folds', too, where nothing of them is trained."""
        return self._networks(None)

    @cached_property
    def untrained(self) -> tuple[Network, ...]:
        """The same networks with random weights."""
        from hepar.backbone import Network, untrained_arrays

        threads = self.job.config.backbone.threads
        graphs = [part.graph for part in self.bundle.parts]
        return tuple(Network(graph, untrained_arrays(graph), threads) for graph in graphs)

    def _networks(self, fold: FoldModel | None) -> tuple[Network, ...]:
        from hepar.backbone import Network

        threads = self.job.config.backbone.threads
        return tuple(
            Network(part.graph, {**part.weights, **(fold.of_part(i) if fold else {})}, threads)
            for i, part in enumerate(self.bundle.parts)
        )

    @property
    def method(self) -> str:
        """How maps are made."""
        return method_of(self.job.config.explain.method, self.networks)

    def model(self, networks: tuple[Network, ...], head: Head) -> Model:
        """Return what answers: networks and a head on their features."""
        return Model(networks, head, lesion_labels(self.bundle))

    def by_model(self, rows: Sequence[int]) -> Iterator[tuple[Model, list[int]]]:
        """Yield the models that never saw some rows, and these rows."""
        split, samples = self.job.cohort.split, self.job.cohort.manifest.samples
        places: dict[int, list[int]] = {}
        for row in rows:
            fold = split.of(samples[row]).fold
            places.setdefault(-1 if fold is None else fold, []).append(row)
        for fold, own in sorted(places.items()):
            if fold < 0:
                yield self.model(self.networks, self.bundle.head), own
                continue
            model = self.folds[fold]
            networks = self._networks(model) if model.weights else self.networks
            yield self.model(networks, model.head), own

    @property
    def of_series(self) -> bool:
        """Whether a sample is a series, seen in 3D."""
        return any(part.recipe.needs_series for part in self.bundle.parts)

    def look(
        self, model: Model, rows: Sequence[int], method: str = ""
    ) -> Iterator[Look | SeriesLook]:
        """Yield slices, or series, with maps."""
        from hepar.explain import look_at, look_at_series

        config = self.job.config
        if self.of_series:
            (reader,) = self.series_readers
            own = method or self.method
            yield from look_at_series(model, reader, rows, own, workers=config.backbone.workers)
            return
        how = {"batch": config.backbone.batch, "workers": config.backbone.workers}
        yield from look_at(model, self.readers(), rows, method or self.method, **how)

    @cached_property
    def series_readers(self) -> list[InputReader]:
        """Return what reads series: once, for it keeps their grids."""
        return self.readers()

    def largest(self, look: Look | SeriesLook, label: int) -> float:
        """Return the largest value of a map."""
        from hepar.explain import SeriesLook

        if isinstance(look, SeriesLook):
            return look.evidence.largest(label) if look.evidence else 0.0
        return float(look.evidence.heat(label).max())


def _scale(cohort: _Cohort, method: str) -> float:
    """Return the log-odds that maps show in full colour: what the model's own slices reach."""
    model = cohort.model(cohort.networks, cohort.bundle.head)
    most = _SCALE_SLICES
    if method == OCCLUSION:
        most = min(most, cohort.job.config.explain.slices)
    largest = [
        cohort.largest(look, int(look.probabilities.argmax()))
        for look in cohort.look(model, cohort.evenly(most, "trained"), method)
    ]
    return max(float(np.quantile(largest, _SCALE_QUANTILE)), 1e-6)


def _draw(
    cohort: _Cohort, shown: dict[int, int], scored: Sequence[int], scale: float
) -> tuple[list[dict[str, Any]], dict[int, Aim]]:
    """Return records of the pictures written, and how the maps of scored slices aim."""
    samples, labels = cohort.job.cohort.manifest.samples, cohort.bundle.labels
    wanted, records, aims = set(scored), [], {}
    for model, rows in cohort.by_model(sorted({*shown, *scored})):
        for look in cohort.look(model, rows):
            if look.position in shown:
                label = shown[look.position]
                record = _picture(cohort, look, label, scale)
                name = samples[look.position].sample_id
                records.append({"sample_id": name, "label": labels.names[label], **record})
            if look.position in wanted and (aim := _aim(cohort, look)):
                aims[look.position] = aim
    return records, aims


def _aim(cohort: _Cohort, look: Look | SeriesLook) -> Aim | None:
    """Return how the map of a slice's, or series', own label aims."""
    from hepar.explain import SeriesLook, aim_of_planes, measure_aim, planes_of

    label = cohort.bundle.labels.index(cohort.job.cohort.manifest.samples[look.position].label)
    if isinstance(look, SeriesLook):
        (reader,) = cohort.series_readers
        return aim_of_planes(planes_of(reader, look, label))
    return measure_aim(look.evidence.heat(label), look.image)


def _picture(cohort: _Cohort, look: Look | SeriesLook, label: int, scale: float) -> dict[str, Any]:
    """Write a picture of a map, of a series' in the planes where it says most."""
    import cv2

    from hepar.explain import SeriesLook, draw_map, hottest_planes

    name = f"figures/maps/{look.position:06d}.png"
    said: dict[str, Any] = {"file": name, "largest": cohort.largest(look, label)}
    if isinstance(look, SeriesLook):
        (reader,) = cohort.series_readers
        planes = hottest_planes(reader, look, label, _PLANES)
        shown = [draw_map(plane.image, plane.heat, scale, _SIDE) for plane in planes]
        of = len(reader.heights(look.position))
        said["planes"] = [f"{plane.number + 1} of {of}" for plane in planes]
        if look.evidence:
            said["cell_mm"] = [round(side) for side in look.evidence.cell_mm]
        drawn = np.hstack(shown or [np.zeros((_SIDE, _SIDE, 3), np.uint8)])
    else:
        drawn = draw_map(look.image, look.evidence.heat(label), scale, _SIDE)
    write_atomic(cohort.job.ledger.folder / name, cv2.imencode(".png", drawn)[1].tobytes())
    return said


def _localisation(cohort: _Cohort, aims: dict[int, Aim]) -> list[dict[str, Any]]:
    """Return how maps aim, beside those of untrained networks under the same heads."""
    from hepar.explain import Aimed, summarise_aims

    samples = cohort.job.cohort.manifest.samples
    aimed = []
    for model, rows in cohort.by_model(sorted(aims)):
        for look in cohort.look(cohort.model(cohort.untrained, model.head), rows):
            sample, other = samples[look.position], _aim(cohort, look)
            if other:
                own = aims[look.position]
                aimed.append(Aimed(sample.patient_id, sample.label, own, other))
    return summarise_aims(aimed, cohort.bundle.labels, cohort.job.config.evaluate)


def _checks(cohort: _Cohort) -> dict[str, Any]:
    """Return means of what changing images says about maps, or why none was made."""
    from hepar.explain import check_map, summarise_checks

    config = cohort.job.config
    if len(cohort.bundle.parts) > 1:
        return {"not_made": "the model has several networks, which see different images"}
    if not config.explain.checked:
        return {"not_made": "explain.checked is 0"}
    (untrained,) = cohort.untrained
    (reader,) = cohort.series_readers if cohort.of_series else cohort.readers()
    samples = cohort.job.cohort.manifest.samples
    rows = _one_a_patient(cohort, config.explain.checked)
    found, patients = [], []
    for model, own in cohort.by_model(rows):
        for row in own:
            (image,) = reader([row * reader.each + reader.each // 2])
            if row in reader.empty:
                continue
            (network,) = model.networks
            said = model.head.probabilities(network.features(image[None]))[0]
            shown = model.lesions if cohort.method == LIKELIHOOD else ()
            label = max(shown or range(len(said)), key=lambda label: said[label])
            seed = config.explain.seed + row
            found.append(check_map(model, untrained, image, label, cohort.method, seed))
            patients.append(samples[row].patient_id)
    if not found:
        return {"not_made": "no slice shows the liver"}
    said = summarise_checks(found, patients, config.evaluate)
    if reader.each > 1:
        said["note"] = f"Of the {reader.each} windows of a series the middle one was checked."
    return said


def _one_a_patient(cohort: _Cohort, most: int) -> list[int]:
    """Return the middle slice of some patients, evenly over the cohort."""
    samples = cohort.job.cohort.manifest.samples
    rows: dict[str, list[int]] = {}
    for i, sample in enumerate(samples):
        rows.setdefault(sample.patient_id, []).append(i)
    middle = [own[len(own) // 2] for own in rows.values()]
    step = max(1.0, len(middle) / most)
    return sorted({middle[int(i * step)] for i in range(min(most, len(middle)))})


def _similar(cohort: _Cohort, rows: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """Return for some slices the most similar ones that their model learned from, as pictures.

    Of a trained network there are none: its features are another's in every fold.
    """
    from hepar.explain import nearest_patients

    job = cohort.job
    if cohort.trained:
        return {}
    samples = job.cohort.manifest.samples
    weights = [part.weights for part in job.parts]
    features = plain_features(job, job.cohort.manifest, weights)
    folds = [job.cohort.split.of(sample).fold for sample in samples]
    patients = [sample.patient_id for sample in samples]
    found = {}
    for row in rows:
        learned = [i for i, fold in enumerate(folds) if fold is not None and fold != folds[row]]
        near = nearest_patients(features, patients, row, learned, _SIMILAR)
        found[samples[row].sample_id] = [_thumb(cohort, i) for i in near]
    return found


def _known(cohort: _Cohort) -> Known:
    """Return slices that the bundle's model learned from, for new ones to be compared with."""
    import numpy as np

    from hepar.model import Known

    job, samples = cohort.job, cohort.job.cohort.manifest.samples
    rows = [i for i in cohort.evenly(job.config.explain.known, "trained") if samples[i].label]
    if cohort.trained:
        features = _trained_features(cohort, rows)
    else:
        weights = [part.weights for part in job.parts]
        features = plain_features(job, job.cohort.manifest, weights)[rows]
    numbers = {name: i for i, name in enumerate(sorted(job.cohort.manifest.patients, key=digest))}
    return Known(
        np.clip(features, -65504, 65504).astype(np.float16),
        np.array([cohort.bundle.labels.index(samples[i].label) for i in rows], np.int32),
        np.array([numbers[samples[i].patient_id] for i in rows], np.int32),
    )


def _trained_features(cohort: _Cohort, rows: Sequence[int]) -> NDArray[np.float32]:
    """Return features (n, d) of some slices by the bundle's networks, as its head sees them."""
    from hepar.model import compute_features, in_context

    job, samples = cohort.job, cohort.job.cohort.manifest.samples
    beside = job.config.head.beside
    reach = (-1, 0, 1) if beside else (0,)  # what stands beside a slice is computed with it
    read = sorted({row + way for row in rows for way in reach} & set(range(len(samples))))
    own = tuple(samples[row] for row in read)
    some = dataclasses.replace(job.cohort.manifest, samples=own)
    parts = zip(cohort.networks, cohort.bundle.parts, strict=True)
    found = [
        compute_features(network, job.reader(part.recipe, some), job.config.backbone)
        for network, part in parts
    ]
    seen = in_context(np.concatenate(found, axis=2), own, beside=beside).mean(axis=1)
    return np.asarray(seen[np.searchsorted(read, rows)])


def _thumb(cohort: _Cohort, row: int) -> dict[str, Any]:
    """Write a small picture of a slice, and return what to say of it."""
    import cv2

    from hepar.explain import draw_outlines, grey_picture, lesion_outlines
    from hepar.ingest import read_slices

    manifest = cohort.job.cohort.manifest
    sample = manifest.samples[row]
    (image,) = read_slices(manifest, [sample])
    picture = draw_outlines(grey_picture(image, _THUMB), lesion_outlines(image, _THUMB))
    name = f"figures/maps/{row:06d}-small.png"
    write_atomic(cohort.job.ledger.folder / name, cv2.imencode(".png", picture)[1].tobytes())
    return {"file": name, "patient_id": sample.patient_id, "label": sample.label}
