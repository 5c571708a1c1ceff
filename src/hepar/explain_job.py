"""Heat maps of left-out patients and what they are worth: a stage, `explanations.json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hepar.cohort_job import hash_files
from hepar.data import take_evenly
from hepar.fit_job import Job
from hepar.progress import LOG
from hepar.provenance import stamp, write_artefact, write_atomic

if TYPE_CHECKING:
    from hepar.evaluate import Estimate, Predictions
    from hepar.explain import Look, Model
    from hepar.model import Bundle, FoldModel, InputReader

__all__ = ["explain_model"]

_SIDE = 256
_SCALE_SLICES = 100
_SCALE_QUANTILE = 0.95

Aims = list[tuple[str, str, Any]]
"""(patient, label, Aim) of each slice."""


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
    job.ledger.stage("explain", inputs, outputs, lambda: _work(job))


def _work(job: Job) -> None:
    from hepar.evaluate import read_predictions
    from hepar.model import read_bundle, read_folds, write_map_scale

    folder, config = job.ledger.folder, job.config.explain
    bundle = read_bundle(folder / "bundle")
    folds = read_folds(folder / "folds.safetensors", bundle.labels)
    predictions = read_predictions(folder / "predictions.csv")
    cohort = _Cohort(job, bundle, folds, predictions)
    scale = _scale(cohort)
    hashes = {"predictions.csv": hash_files(job.ledger, "predictions.csv")}
    provenance = stamp(job.ledger.command, seed=config.seed, inputs=hashes)
    write_map_scale(folder / "bundle", scale, provenance)
    shown = cohort.shown
    scored = cohort.evenly(config.slices, masked=True)
    trained, aims = _draw(cohort, shown, scored, scale)
    content = {
        "method": config.method,
        "scale": scale,
        "maps": trained,
        "localisation": _localisation(cohort, aims, _untrained_aims(cohort, scored)),
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

    def evenly(self, most: int, *, masked: bool = False) -> list[int]:
        """Return some rows, evenly over the patients; `masked`, those with a mask alone."""
        samples = self.job.cohort.manifest.samples
        rows = [i for i, s in enumerate(samples) if s.mask or not masked]
        taken = take_evenly([samples[i].patient_id for i in rows], most)
        return [rows[i] for i in taken]

    def readers(self) -> list[InputReader]:
        """Return what reads the cohort for each network."""
        from hepar.model import InputReader

        manifest = self.job.cohort.manifest
        return [InputReader(manifest, part.recipe, guess_liver=True) for part in self.bundle.parts]

    def by_model(self, rows: Sequence[int]) -> Iterator[tuple[Model, list[int]]]:
        """Yield the models that never saw some rows, and these rows."""
        from hepar.backbone import Network
        from hepar.explain import Model

        split, samples = self.job.cohort.split, self.job.cohort.manifest.samples
        places: dict[int, list[int]] = {}
        for row in rows:
            fold = split.of(samples[row]).fold
            places.setdefault(-1 if fold is None else fold, []).append(row)
        networks: tuple[Network, ...] = ()
        for fold, own in sorted(places.items()):
            head = self.bundle.head if fold < 0 else self.folds[fold].head
            trained = {} if fold < 0 else self.folds[fold].weights
            if not networks or self.job.trains:
                threads = self.job.config.backbone.threads
                networks = tuple(
                    Network(part.graph, {**part.weights, **trained}, threads)
                    for part in self.bundle.parts
                )
            yield Model(networks, head), own

    def look(self, model: Model, rows: Sequence[int]) -> Iterator[Look]:
        """Yield slices with maps."""
        from hepar.explain import look_at

        config = self.job.config
        how = {"batch": config.backbone.batch, "workers": config.backbone.workers}
        return look_at(model, self.readers(), rows, config.explain.method, **how)


def _scale(cohort: _Cohort) -> float:
    """Return the log-odds that maps show in full colour: what the model's own slices reach."""
    from hepar.backbone import Network
    from hepar.explain import Model

    threads = cohort.job.config.backbone.threads
    parts = cohort.bundle.parts
    networks = tuple(Network(part.graph, part.weights, threads) for part in parts)
    model = Model(networks, cohort.bundle.head)
    largest = [
        float(look.evidence.heat(int(look.probabilities.argmax())).max())
        for look in cohort.look(model, cohort.evenly(_SCALE_SLICES))
    ]
    return max(float(np.quantile(largest, _SCALE_QUANTILE)), 1e-6)


def _draw(
    cohort: _Cohort, shown: dict[int, int], scored: Sequence[int], scale: float
) -> tuple[list[dict[str, Any]], Aims]:
    """Return records of the pictures written, and how the maps of scored slices aim."""
    from hepar.explain import measure_aim

    samples = cohort.job.cohort.manifest.samples
    labels = cohort.bundle.labels
    wanted, records, aims = set(scored), [], []
    for model, rows in cohort.by_model(sorted({*shown, *scored})):
        for look in cohort.look(model, rows):
            sample = samples[look.position]
            if look.position in shown:
                label = shown[look.position]
                records.append(_picture(cohort.job.ledger.folder, look, label, scale))
                records[-1] |= {"sample_id": sample.sample_id, "label": labels.names[label]}
            if look.position in wanted:
                aim = measure_aim(look.evidence.heat(labels.index(sample.label)), look.image)
                if aim:
                    aims.append((sample.patient_id, sample.label, aim))
    return records, aims


def _picture(folder: Path, look: Look, label: int, scale: float) -> dict[str, Any]:
    import cv2

    from hepar.explain import draw_heat, draw_outlines, grey_picture, lesion_outlines

    heat = look.evidence.heat(label)
    coloured = draw_heat(grey_picture(look.image, _SIDE), heat, scale)
    drawn = draw_outlines(coloured, lesion_outlines(look.image, _SIDE), on_heat=True)
    name = f"figures/maps/{look.position:06d}.png"
    write_atomic(folder / name, cv2.imencode(".png", drawn)[1].tobytes())
    return {"file": name, "largest": float(heat.max())}


def _untrained_aims(cohort: _Cohort, scored: Sequence[int]) -> Aims:
    """Return how maps of untrained networks under the same heads aim."""
    from hepar.explain import Model, measure_aim

    samples, labels = cohort.job.cohort.manifest.samples, cohort.bundle.labels
    networks = _untrained(cohort)
    aims = []
    for model, rows in cohort.by_model(scored):
        for look in cohort.look(Model(networks, model.head), rows):
            sample = samples[look.position]
            aim = measure_aim(look.evidence.heat(labels.index(sample.label)), look.image)
            if aim:
                aims.append((sample.patient_id, sample.label, aim))
    return aims


def _untrained(cohort: _Cohort) -> tuple[Any, ...]:
    from hepar.backbone import Network, find_weights

    names = [str(part.backbone["name"]) for part in cohort.bundle.parts]
    threads = cohort.job.config.backbone.threads
    return tuple(Network.from_weights(find_weights(name, "random"), threads) for name in names)


def _localisation(cohort: _Cohort, aims: Aims, untrained: Aims) -> list[dict[str, Any]]:
    """Return a record a label of slices with lesions."""
    config = cohort.job.config.evaluate
    records = []
    for label in cohort.bundle.labels:
        own = [(patient, aim) for patient, name, aim in aims if name == label]
        if not own:
            continue
        patients = [patient for patient, _ in own]
        other = [(patient, aim) for patient, name, aim in untrained if name == label]
        records.append(
            {
                "label": label,
                "region": own[0][1].region,
                "n_patients": len(set(patients)),
                "n_slices": len(own),
                "chance": _mean([aim.chance for _, aim in own], patients, config),
                "energy": _mean([aim.energy for _, aim in own], patients, config),
                "hit": _mean([aim.hit for _, aim in own], patients, config),
                "energy_gain": _mean([a.energy - a.chance for _, a in own], patients, config),
                "hit_gain": _mean([a.hit - a.chance for _, a in own], patients, config),
                "energy_untrained": _mean(
                    [a.energy for _, a in other], [p for p, _ in other], config
                ),
                "hit_untrained": _mean([a.hit for _, a in other], [p for p, _ in other], config),
            }
        )
    return records


def _mean(values: Sequence[float], patients: Sequence[str], config: Any) -> dict[str, Any]:
    from hepar.evaluate import patient_mean

    found: Estimate = patient_mean(np.asarray(values, np.float64), patients, config)
    return dataclasses.asdict(found)


def _checks(cohort: _Cohort) -> dict[str, Any]:
    """Return means of what changing images says about maps, or why none was made."""
    from hepar.explain import check_map

    config = cohort.job.config
    if len(cohort.bundle.parts) > 1:
        return {"not_made": "the model has several networks, which see different images"}
    if not config.explain.checked:
        return {"not_made": "explain.checked is 0"}
    (untrained,) = _untrained(cohort)
    (reader,) = cohort.readers()
    samples = cohort.job.cohort.manifest.samples
    rows = _one_a_patient(cohort, config.explain.checked)
    found, patients = [], []
    for model, own in cohort.by_model(rows):
        for row in own:
            (image,) = reader([row])
            if row in reader.empty:
                continue
            (network,) = model.networks
            label = int(model.head.probabilities(network.features(image[None]))[0].argmax())
            checks = check_map(
                network,
                untrained,
                model.head,
                image,
                label,
                config.explain.method,
                config.explain.seed + row,
            )
            found.append(dataclasses.asdict(checks))
            patients.append(samples[row].patient_id)
    if not found:
        return {"not_made": "no slice shows the liver"}
    names = list(found[0])
    means = {n: _mean([c[n] for c in found], patients, config.evaluate) for n in names}
    gains = {
        f"{name}_gain": _mean(
            [sign * (c[name] - c[f"{name}_random"]) for c in found], patients, config.evaluate
        )
        for name, sign in (("deletion", -1), ("insertion", 1))
    }
    LOG.debug("explain: %d maps checked", len(found))
    return {**means, **gains, "n_slices": len(found)}


def _one_a_patient(cohort: _Cohort, most: int) -> list[int]:
    """Return the middle slice of some patients, evenly over the cohort."""
    samples = cohort.job.cohort.manifest.samples
    rows: dict[str, list[int]] = {}
    for i, sample in enumerate(samples):
        rows.setdefault(sample.patient_id, []).append(i)
    middle = [own[len(own) // 2] for own in rows.values()]
    step = max(1.0, len(middle) / most)
    return sorted({middle[int(i * step)] for i in range(min(most, len(middle)))})
