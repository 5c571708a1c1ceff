"""Many models on one split: fitted one after the other, resumable, then set side by side."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hepar.backbone import BACKBONES
from hepar.cohort_job import Cohort, PlannedPart, cohort_of, new_ledger, prepare, prepare_findings
from hepar.cohort_job import plan as plan_networks
from hepar.compare_plan import ComparePlan, ModelPlan, folder_name
from hepar.config import RunConfig
from hepar.data import write_manifest
from hepar.errors import ConfigError, HeparError
from hepar.fit import needs_training
from hepar.fit.workers import world_size
from hepar.ledger import Ledger
from hepar.main_job import fit_model
from hepar.progress import LOG
from hepar.provenance import read_artefact, sha256_file, stamp, write_artefact
from hepar.settings import check
from hepar.split import write_split

__all__ = ["compare", "unlike_recipes"]

METRICS = (
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "auroc",
)


def compare(source: Path, out: Path, plan: ComparePlan, command: str = "") -> Path:
    """Fit every model on one split, evaluate, test them against the best, and write the page.

    Where there are several findings, each has a comparison of its own in `findings/NAME`, all on
    one split. A model that fails is named in the page's warnings, and the others go on. What is
    done is kept: the same call takes an interrupted comparison up where it stopped.

    Args:
        source: a table, a folder of class folders, a DICOM tree or NIfTI volumes.
        out: folder of the comparison; every model has a run of its own in `models/NAME/seed-S`.
        plan: what to compare.
        command: the command line, for provenance; "" for this process's own.

    Returns:
        The path of `comparison.html`.

    Raises:
        HeparError: the source or a setting is refused, or no model could be fitted.
    """
    if world_size() > 1:
        raise ConfigError(
            f"compare: expected one process, got {world_size()}. Use `hepar run` under torchrun."
        )
    for model in plan.models:
        check(model.config, networks=not model.members)
        asked, first = model.config.ingest.findings, plan.models[0].config.ingest.findings
        if asked != first and not model.members:
            raise ConfigError(
                f"models.{model.name}: expected ingest.findings={first!r} as of the others, got "
                f"{asked!r}. Give all models the same findings."
            )
    ledger = new_ledger(out, command)
    single = {model.name: model.config for model in plan.models if not model.members}
    if plan.models[0].config.ingest.findings:
        return _compare_findings(source, plan, single, ledger)
    cohort, plans = prepare(source, ledger, list(single.values()))
    networks = dict(zip(single, plans, strict=True))
    if plan.rule and all(part.recipe.needs_mask for parts in plans for part in parts):
        networks[plan.rule.name] = plan_networks(cohort.manifest, plan.rule.config)
        plan = dataclasses.replace(plan, models=(*plan.models, plan.rule))
    return _compare(plan, cohort, networks, ledger, ledger.folder)


def _compare_findings(
    source: Path, plan: ComparePlan, single: Mapping[str, RunConfig], ledger: Ledger
) -> Path:
    """Compare models on every finding, all on one split, and list the pages."""
    from hepar.report import write_comparisons

    cohort, plans, names = prepare_findings(source, ledger, list(single.values()))
    parts = dict(zip(single, plans, strict=True))
    failed: list[str] = []
    done: dict[str, str] = {}
    for name in names:
        LOG.info("finding   %s", name)
        within = new_ledger(ledger.folder / "findings" / folder_name(name), ledger.command)
        try:
            own = _finding(name, names, cohort, within)
            _compare(plan, own, parts, within, ledger.folder)
        except HeparError as error:
            LOG.warning("%s: %s", name, error)
            failed.append(f"{name} could not be compared: {error}")
            continue
        done[name] = within.folder.relative_to(ledger.folder).as_posix()
    if not done:
        raise HeparError(f"compare: no finding could be compared. First: {failed[0]}")
    content = {
        "findings": [{"name": name, "folder": folder} for name, folder in done.items()],
        "warnings": failed,
    }
    write_artefact(ledger.folder / "comparison.json", "comparisons", content, stamp(ledger.command))
    return write_comparisons(ledger.folder)


def _finding(name: str, names: Sequence[str], cohort: Cohort, ledger: Ledger) -> Cohort:
    """Return the cohort of one finding, written to its folder."""
    own = cohort_of(name, names, cohort)
    manifest, places = own.manifest, own.split.assignments
    rows = [[s.sample_id, s.patient_id, s.label] for s in manifest.samples]
    assigned = {p: [a.partition, a.fold] for p, a in sorted(places.items())}

    def work() -> None:
        provenance = stamp(ledger.command)
        write_manifest(ledger.folder / "manifest.csv", manifest, provenance)
        write_split(ledger.folder / "split.json", own.split, manifest, provenance)

    outputs = ["manifest.csv", "manifest.meta.json", "split.json"]
    ledger.stage("cohort", [rows, assigned], outputs, work)
    return own


def _compare(
    plan: ComparePlan,
    cohort: Cohort,
    parts: Mapping[str, tuple[PlannedPart, ...]],
    ledger: Ledger,
    cache: Path,
) -> Path:
    """Fit every model on a cohort and write the page.

    Args:
        plan: what to compare.
        cohort: one label a sample.
        parts: networks of each single model.
        ledger: of the comparison's folder.
        cache: folder of features.
    """
    done: dict[str, list[Path]] = {}
    failed: list[str] = []
    for model in plan.models:
        planned = [parts.get(name, ()) for name in model.members or (model.name,)]
        seeds = plan.seeds if not model.members and needs_training(model.config) else (0,)
        try:
            done[model.name] = [
                _fit(model, planned, cohort, (ledger, cache), seed, done) for seed in seeds
            ]
        except HeparError as error:
            LOG.warning("%s: %s", model.name, error)
            failed.append(f"{model.name} could not be fitted: {error}")
    shutil.rmtree(cache / "boundary", ignore_errors=True)
    if not done:
        raise HeparError(f"compare: no model could be fitted. First: {failed[0]}")
    return _write(plan, cohort, ledger, done, failed)


def _fit(
    model: ModelPlan,
    planned: Sequence[tuple[PlannedPart, ...]],
    cohort: Cohort,
    places: tuple[Ledger, Path],
    seed: int,
    done: Mapping[str, Sequence[Path]],
) -> Path:
    """Fit one model with one seed, whose features `places` caches; return its folder."""
    ledger, cache = places
    folder = ledger.folder / "models" / folder_name(model.name) / f"seed-{seed}"
    LOG.info("model     %s, seed %d", model.name, seed)
    own = new_ledger(folder, ledger.command)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("manifest.csv", "manifest.meta.json", "split.json"):
        source, copy = ledger.folder / name, folder / name
        if not copy.is_file() or sha256_file(copy) != sha256_file(source):
            shutil.copyfile(source, copy)
    config = dataclasses.replace(
        model.config, finetune=dataclasses.replace(model.config.finetune, seed=seed)
    )
    if model.members:
        from hepar.ensemble_job import fit_ensemble_model

        folders = [done[name][0] for name in model.members if name in done]
        if len(folders) < len(model.members):
            raise ConfigError(f"{model.name}: a member could not be fitted.")
        how = model.combine
        fit_ensemble_model(cohort, folders, own, config, how, cache, planned)
    else:
        fit_model(cohort, planned[0], own, config, cache=cache)
    own.stage(
        "cost",
        [sha256_file(folder / "bundle" / "bundle.json")],
        ["cost.json"],
        lambda: _measure(folder, cohort, own),
    )
    return folder


def _measure(folder: Path, cohort: Cohort, ledger: Ledger) -> None:
    """Write what a model costs: to store, and to ask about 32 images, loading them included."""
    from hepar.model import load_predictor

    predictor = load_predictor(folder / "bundle")
    few = dataclasses.replace(cohort.manifest, samples=cohort.manifest.samples[:32])
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        predictor.predict(few, gate=False)
        seconds.append(time.perf_counter() - started)
    parts = predictor.bundle.parts
    gflops = 0.0
    for part in parts:
        spec = BACKBONES.get(part.backbone["name"])
        axes = 3 if spec.depth else 2
        share = (part.recipe.size / spec.input_size) ** axes
        gflops += spec.gflops * share * part.recipe.windows
    size = sum(path.stat().st_size for path in (folder / "bundle").iterdir())
    content = {
        "params_millions": round(sum(a.size for p in parts for a in p.weights.values()) / 1e6, 3),
        "gflops": round(gflops * predictor.bundle.views, 3),
        "train_seconds": ledger.seconds["fit"],
        "predict_ms": round(1000 * min(seconds) / len(few), 2),
        "bundle_mb": round(size / 1e6, 2),
    }
    write_artefact(folder / "cost.json", "cost", content, stamp(ledger.command))


# Setting them side by side.


def _write(
    plan: ComparePlan,
    cohort: Cohort,
    ledger: Ledger,
    done: Mapping[str, Sequence[Path]],
    failed: Sequence[str],
) -> Path:
    from hepar.evaluate import compare_all, read_predictions
    from hepar.report import write_comparison

    evaluations = {
        name: [read_artefact(folder / "evaluation.json", "evaluation") for folder in folders]
        for name, folders in done.items()
    }
    runs = {n: read_artefact(folders[0] / "run.json", "run") for n, folders in done.items()}
    first = next(iter(evaluations.values()))[0]
    level, partition = _where(evaluations)
    tables = {
        name: (
            read_predictions(folders[0] / "predictions.csv"),
            read_predictions(folders[0] / "patients.csv"),
        )
        for name, folders in done.items()
    }
    config = plan.models[0].config.evaluate
    series = [name for name, run in runs.items() if run["recipe"] == "volume"]
    apart = series if level == "slice" and len(series) < len(tables) else []
    alike = {name: own for name, own in tables.items() if name not in apart}
    tested = compare_all(alike, config, level, partition)
    counts = next(
        (own for name, own in tables.items() if name not in series), tables[next(iter(tables))]
    )
    wanted = {"out-of-fold": "train", "test": "test"}[partition]
    slices, patients = (table.select(table.partition == wanted) for table in counts)
    plans = {model.name: model for model in plan.models}
    content = {
        "labels": list(cohort.manifest.labels),
        "unit": cohort.manifest.unit,
        "level": level,
        "partition": partition,
        "n_patients": len(patients),
        "n_samples": len(slices),
        "interval": first["intervals"],
        "warnings": [
            *dict.fromkeys(w for run in runs.values() for w in run["warnings"]),
            *unlike_recipes(runs),
            *(f"{name} answers for series, and is not tested against slices." for name in apart),
            *failed,
        ],
        "models": [
            {
                "name": name,
                "description": f"{_description(plans[name])}; {_seen(runs[name])}",
                "kind": _kind(plans[name]),
                "is_random": bool(runs[name]["backbone"]["is_random"]),
                "seeds": [int(folder.name.removeprefix("seed-")) for folder in folders],
                "metrics": {m: _metric(m, evaluations[name], level, partition) for m in METRICS},
                "cost": _cost(folders[0]),
                "history": _history(folders[0]),
                "folder": folders[0].relative_to(ledger.folder).as_posix(),
            }
            for name, folders in done.items()
        ],
        **tested,
        "config": dataclasses.asdict(plan.models[0].config),
    }
    provenance = stamp(
        ledger.command, inputs={"split.json": sha256_file(ledger.folder / "split.json")}
    )
    write_artefact(ledger.folder / "comparison.json", "comparison", content, provenance)
    return write_comparison(ledger.folder)


def _seen(run: Mapping[str, Any]) -> str:
    """Return what a model's network sees, in words."""
    return f"recipe {run['recipe']}, {run['backbone']['input_size']} px"


_OF_LEVELS = {"lesion", "slab", "slab_whole", "volume"}
"""Recipes of other levels, which are a comparison's point."""


def unlike_recipes(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a warning where models do not look at the same pixels."""
    recipes: dict[str, list[str]] = {}
    for name, run in runs.items():
        if run["recipe"] not in _OF_LEVELS:
            recipes.setdefault(run["recipe"], []).append(name)
    if len(recipes) < 2:
        return []
    listed = "; ".join(f"{recipe}: {', '.join(names)}" for recipe, names in recipes.items())
    return [
        f"Models see the images through different recipes ({listed}): a difference between them "
        "may be the recipe's. Pass --recipe for all."
    ]


def _where(evaluations: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[str, str]:
    """Return the level and partition to compare at: patients and test where they are defined."""
    defined = {
        (record["level"], record["partition"])
        for documents in evaluations.values()
        for record in documents[0]["metrics"]
        if record["metric"] == "balanced_accuracy" and record["value"] is not None
    }
    for level in ("patient", "slice"):
        for partition in ("test", "out-of-fold"):
            if (level, partition) in defined:
                return level, partition
    return "slice", "out-of-fold"


def _metric(
    metric: str, documents: Sequence[Mapping[str, Any]], level: str, partition: str
) -> dict[str, Any]:
    """Return a metric of the first seed with its interval, and its spread over the seeds."""
    found = [
        record
        for document in documents
        for record in document["metrics"]
        if (record["metric"], record["level"], record["partition"]) == (metric, level, partition)
        and record["label"] is None
    ]
    values = [record["value"] for record in found if record["value"] is not None]
    several = len(values) > 1
    first = found[0] if found else {"value": None, "low": None, "high": None, "undefined": "-"}
    return {
        **{key: first[key] for key in ("value", "low", "high", "undefined")},
        "seed_sd": statistics.stdev(values) if several else None,
        "seed_min": min(values) if several else None,
        "seed_max": max(values) if several else None,
    }


def _cost(folder: Path) -> dict[str, Any]:
    document = read_artefact(folder / "cost.json", "cost")
    names = ("params_millions", "gflops", "train_seconds", "predict_ms", "bundle_mb")
    return {name: document[name] for name in names}


def _history(folder: Path) -> list[dict[str, Any]]:
    from hepar.fit import read_history

    path = folder / "history.csv"
    return [dict(row) for row in read_history(path)] if path.is_file() else []


def _kind(model: ModelPlan) -> str:
    if model.members:
        return "ensemble"
    fitted_to = BACKBONES.get(model.config.backbone.name.split("+")[0]).fitted_to
    if fitted_to != "labels":
        return {"lesions": "lesion finder", "nothing": "rule"}[fitted_to]
    if model.config.finetune.freeze == "none" and not _pretrained(model):
        return "from scratch"
    frozen = "concatenated" if "+" in model.config.backbone.name else "frozen"
    other = "fine-tuned" if needs_training(model.config) else frozen
    own = {"svm": "hybrid", "svm-rbf": "hybrid", "attention": "attention"}
    return own.get(model.config.head.kind, other)


def _pretrained(model: ModelPlan) -> bool:
    given = model.config.backbone.weights not in {"", "random"}
    names = model.config.backbone.name.split("+")
    return given or all(BACKBONES.get(name).timm_name for name in names)


_HEADS = {
    "linear": "logistic regression",
    "svm": "linear SVM",
    "svm-rbf": "RBF SVM",
    "attention": "attention over slices",
    "dense": "dense layers",
}


_LOOKING = {
    "lesion_finder": "pixels of the liver, taught by lesion masks; logistic regression",
    "darkest_point": "the darkest place of the liver; logistic regression",
}


def _description(model: ModelPlan) -> str:
    if model.members:
        how = "soft vote" if model.combine == "vote" else "stacking"
        return f"{how} of {', '.join(model.members)}"
    config = model.config
    if BACKBONES.get(config.backbone.name.split("+")[0]).fitted_to != "labels":
        return _LOOKING[config.backbone.name]
    frozen = {"all": "frozen", "none": "all trained", "early": "last stage trained"}.get(
        config.finetune.freeze, f"frozen up to {config.finetune.freeze}"
    )
    return f"{config.backbone.name}, {frozen}; {_HEADS[config.head.kind]}"
