"""The controls and the leakage meter of one model, as a stage that writes `controls.json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hepar.cohort_job import PlannedPart, hash_files
from hepar.data import Manifest, Sample, take_evenly
from hepar.errors import HeparError, SplitError
from hepar.model_job import Job, finder_features, plain_features
from hepar.preprocess import NetworkInput, Recipe, make_recipe
from hepar.provenance import stamp, write_artefact
from hepar.split import Split, make_split

if TYPE_CHECKING:
    from hepar.fit.control_inputs import ControlInputs, Scored

__all__ = ["control_model"]

Floats = NDArray[np.float32]

_AT_ONCE = 32

_MOST_ROWS = 2000
"""Slices that controls are made on, evenly taken from every patient; the meter sees all."""


def control_model(job: Job) -> None:
    """Write `controls.json`, unless `controls.run` is off."""
    config = job.config
    if not config.controls.run:
        (job.ledger.folder / "controls.json").unlink(missing_ok=True)
        return
    inputs = [
        job.inputs(),
        dataclasses.asdict(config.controls),
        dataclasses.asdict(config.evaluate),
        [config.head.aggregate, config.head.top_k],
        _audited(job),
    ]

    def work() -> None:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, "blas"):  # matrices too small to be worth sharing out
            _work(job)

    job.ledger.stage("controls", inputs, ["controls.json"], work)


def _audited(job: Job) -> str | None:
    path = job.ledger.folder / "audit.json"
    return hash_files(job.ledger, "audit.json") if path.is_file() else None


def _work(job: Job) -> None:
    from hepar.fit.controls import make_controls
    from hepar.fit.learning_curve import learning_curve

    config, split = job.config, job.cohort.split
    manifest = job.cohort.manifest
    trained = [i for i, s in enumerate(manifest.samples) if split.of(s).fold is not None]
    if job.finds:
        features = finder_features(job)[trained]
    else:
        features = plain_features(job, manifest, [part.weights for part in job.parts])[trained]
    own = _select(manifest, trained)
    kept = take_evenly([s.patient_id for s in own.samples], _MOST_ROWS)
    inputs = _inputs(job, _select(own, kept), features[kept])
    result = inputs.model[1]
    content = {
        "level": inputs.level,
        "unit": inputs.unit,
        "metric": "auroc",
        "interval": config.evaluate.level,
        "penalty": inputs.penalty,
        "permutations": config.controls.permutations,
        "n_patients": len(own.patients),
        "n_samples": len(kept),
        "notes": _notes(job, len(kept), len(own)),
        "before_training": _starts_at_random(job),
        "model": _model_record(result),
        "controls": make_controls(inputs),
        "meter": _meter(job, own, features),
        "learning": learning_curve(inputs),
    }
    hashes = {name: hash_files(job.ledger, name) for name in ("manifest.csv", "split.json")}
    provenance = stamp(job.ledger.command, seed=config.controls.seed, inputs=hashes)
    write_artefact(job.ledger.folder / "controls.json", "controls", content, provenance)


def _model_record(scored: Scored) -> dict[str, Any]:
    """Return the model's own score, and how many deals of the labels did as well by chance."""
    result, dealt = scored.estimate, scored.dealt
    p = None
    if result is not None and len(dealt):
        p = (1 + int((dealt >= result.value - 1e-12).sum())) / (1 + len(dealt))
    return {
        "label": scored.label,
        "value": None if result is None else result.value,
        "low": None if result is None else result.low,
        "high": None if result is None else result.high,
        "p": p,
        "dealt_mean": float(dealt.mean()) if len(dealt) else None,
        "dealt_high": float(dealt.max()) if len(dealt) else None,
        "deals": len(dealt),
    }


def _notes(job: Job, kept: int, n: int) -> list[str]:
    notes, things = [], job.parts[0].recipe.things
    if _starts_at_random(job):
        notes.append(
            "The network was trained from random weights; controls and meter use it as it was "
            "before, with a linear head. They say what the cohort gives away to any network, and "
            "nothing of what this one has learned."
        )
    elif job.trains:
        notes.append(
            "The network was trained; controls and meter use it frozen, as it was before, with a "
            "linear head."
        )
    elif job.finds:
        notes.append(
            "Controls and meter use what finders say of patients that they were not taught with; "
            "the lesion masks that taught them keep their places when labels are dealt."
        )
    elif job.config.head.kind != "linear":
        mean = ", and the mean of slices" if job.config.head.kind == "attention" else ""
        notes.append(f"Controls and meter use a linear head{mean}.")
    if job.config.head.views > 1:
        notes.append("Controls and meter look at the plain view of each image alone.")
    if kept < n:
        notes.append(f"Controls use {kept} of {n} {things}, evenly taken from every patient.")
    if things == "series":
        notes.append("Grain is that of the middle slice of each series.")
    return notes


def _starts_at_random(job: Job) -> bool:
    """Return whether the network is trained from weights that know nothing."""
    return job.trains and all(part.weights.is_random for part in job.parts)


def _select(manifest: Manifest, rows: Sequence[int]) -> Manifest:
    return dataclasses.replace(manifest, samples=tuple(manifest.samples[i] for i in rows))


def _inputs(job: Job, manifest: Manifest, features: Floats) -> ControlInputs:
    from hepar.fit import choose_penalty
    from hepar.fit.control_inputs import ControlInputs

    config = job.config
    labels = manifest.labels
    codes = np.array([labels.index(s.label) for s in manifest.samples], np.int64)
    patients = [s.patient_id for s in manifest.samples]
    folds = [job.cohort.split.of(s).fold for s in manifest.samples]
    return ControlInputs(
        features=features,
        samples=manifest.samples,
        fold=np.array(folds, np.int64),
        labels=labels,
        penalty=choose_penalty(features, codes, patients, labels, config.head),
        origin=_origin(job, manifest),
        background=_background(job, manifest),
        grain=_grain(job, manifest),
        untrained=_untrained(job, manifest),
        head=config.head,
        config=config.controls,
        evaluate=config.evaluate,
        unit=manifest.unit,
        skip=tuple(filter(None, (config.split.column, config.ingest.label_column))),
        things=job.parts[0].recipe.things,
    )


def _origin(job: Job, manifest: Manifest) -> NDArray[np.int64]:
    """Return for each sample the first of those that the audit found to be copies of it."""
    from hepar.audit import join, read_audit

    path = job.ledger.folder / "audit.json"
    n = len(manifest)
    if not path.is_file():
        return np.arange(n)
    place = {sample.sample_id: i for i, sample in enumerate(manifest.samples)}
    patient = {sample.sample_id: sample.patient_id for sample in manifest.samples}
    pairs = [
        (place[link["a"]], place[link["b"]])
        for link in read_audit(path).links
        if link["kind"] in {"exact", "copy"}
        and link["a"] in place
        and link["b"] in place
        and patient[link["a"]] != patient[link["b"]]
    ]
    group = join(n, pairs)
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], np.int64)


def _background(job: Job, manifest: Manifest) -> Floats | str:
    """Return features (n, d) of what is outside the liver, or why there are none."""
    if any(part.spec.fitted_to != "labels" or part.spec.depth for part in job.parts):
        return "the model sees nothing but the liver"
    bare = sum(not sample.mask for sample in manifest.samples)
    if bare:
        return f"{bare} of {len(manifest)} samples have no liver mask"
    if manifest.lesions_alone:
        return "the masks show lesions alone: painting them over would show where they are"
    if any(sample.extra.get("liver_px") == "0" for sample in manifest.samples):
        return "some slices show no liver to paint over, which itself may tell the label"
    try:
        recipes = [_background_recipe(part, manifest) for part in job.parts]
        return plain_features(job, manifest, [part.weights for part in job.parts], recipes)
    except HeparError as error:
        return str(error)


def _grain(job: Job, manifest: Manifest) -> NDArray[np.float64]:
    """Return how noisy and sharp each sample is, (n, 3)."""
    from concurrent.futures import ThreadPoolExecutor

    from hepar.ingest import read_slices
    from hepar.preprocess.grain import measure_grain

    samples = manifest.samples
    parts = [samples[i : i + _AT_ONCE] for i in range(0, len(samples), _AT_ONCE)]

    def read(part: Sequence[Sample]) -> list[NDArray[np.float64]]:
        return [measure_grain(image) for image in read_slices(manifest, part)]

    with ThreadPoolExecutor(job.config.backbone.workers or None) as pool:
        return np.stack([row for rows in pool.map(read, parts) for row in rows])


def _background_recipe(part: PlannedPart, manifest: Manifest) -> Recipe:
    size = part.recipe.size
    return make_recipe(
        "background", manifest, NetworkInput(size, part.weights.mean, part.weights.std)
    )


def _untrained(job: Job, manifest: Manifest) -> Floats | str:
    """Return features (n, d) of networks with random weights, or why there are none."""
    from hepar.backbone import find_weights

    if any(part.weights.is_random or not part.spec.timm_name for part in job.parts):
        return "the network has no pretrained weights to compare with"
    return plain_features(
        job, manifest, [find_weights(part.spec.name, "random") for part in job.parts]
    )


def _meter(job: Job, manifest: Manifest, features: Floats) -> Mapping[str, Any]:
    """Return the meter's record; where images are taken for patients, of groups the audit found."""
    from hepar.fit.leakage import measure_leakage

    config, split = job.config, job.cohort.split
    if manifest.unit == "image":
        try:
            manifest, order, split = _by_groups(job, manifest)
        except SplitError as error:
            return {"not_made": f"images are not grouped by patient: {error}"}
        features = features[order]
    return measure_leakage(features, manifest, split, config.head, config.controls, config.evaluate)


def _by_groups(job: Job, manifest: Manifest) -> tuple[Manifest, list[int], Split]:
    """Return the cohort by groups that the audit inferred, its order, and a split of the groups."""
    from hepar.audit import grouped, read_audit

    path = job.ledger.folder / "audit.json"
    audit = read_audit(path) if path.is_file() else None
    if audit is None or not audit.groups:
        raise SplitError("split: expected groups that the audit inferred, got none.")
    place: dict[str, int] = {s.sample_id: i for i, s in enumerate(manifest.samples)}
    groups = grouped(manifest, audit)
    order = [place[s.sample_id] for s in groups.samples]
    return groups, order, make_split(groups, dataclasses.replace(job.config.split, test=0.0))
