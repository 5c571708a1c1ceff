"""The paper's table on a cohort that the user names: the paper's way and the honest way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hepar.backbone import list_weights
from hepar.cohort_job import new_ledger
from hepar.compare_job import METRICS, compare
from hepar.compare_plan import ComparePlan, read_plan
from hepar.config import RunConfig, merge
from hepar.errors import ConfigError
from hepar.provenance import read_artefact, sha256_file, stamp, write_artefact

__all__ = ["choices", "reproduce"]

_FREEZES = {
    "early": "all stages but the last",
    "none": "none: all layers are trained",
    "all": "all: heads alone are fitted",
}


def choices(config: RunConfig) -> list[list[str]]:
    """Return subject, what the paper says of it, and what is done here.

    Args:
        config: of a model that is trained, where one is.
    """
    tuned, augment = config.finetune, config.augment
    widths = ", ".join(map(str, tuned.hidden))
    layers = f"dense layers of {widths}, ReLU, dropout {tuned.dropout:g}" if widths else "none"
    learning = (
        f"Adam {tuned.learning_rate:g}, batch {tuned.batch}, at most {tuned.epochs} epochs, "
        f"stopped after {tuned.patience} without a better tune loss"
    )
    trains = tuned.freeze != "all"
    views = "no augmentation" if augment.views == 1 else f"{augment.views} fixed views of each"
    size = f"{config.recipe.size} px for all" if config.recipe.size else "each network's own"
    steps = {
        "paper": "Gaussian of 1 pixel, CLAHE with clip limit 2 and 8 x 8 tiles",
    }.get(config.recipe.name, f"those of recipe {config.recipe.name!r} (hepar info)")
    return [
        [
            "Unit of the 80/20 split",
            "never stated; the text speaks of images",
            "images, in the paper's way; patients, in the honest way",
        ],
        ["Data", "never published; no number of patients or images is given", "the cohort here"],
        [
            "Which layers are frozen",
            "contradictory",
            _FREEZES.get(tuned.freeze, f"up to {tuned.freeze}"),
        ],
        ["Extra layers", "no sizes", f"{layers}; softmax" if trains else "none; heads alone"],
        [
            "Learning",
            "Adam 1e-4, batch 32, 50 epochs, early stopping",
            learning if trains else "no network is trained",
        ],
        [
            "What stops the training",
            "no tune set is named",
            f"{tuned.tune:.0%} of the training patients (images, in the paper's way), never the "
            "test part"
            if trains
            else "no network is trained",
        ],
        [
            "Scaling",
            "0-1, which is not what the networks were pretrained with",
            "0-1, then each network's own mean and standard deviation",
        ],
        ["Denoising and contrast enhancement", "named, without parameters", steps],
        ["Input size", "224 px for all, InceptionV3 too", size],
        [
            "Augmentation",
            "before the split",
            f"of training images only: {views}" if trains else "none: no network is trained",
        ],
        ["The 'proposed model' (99.33 %)", "never defined", "left out"],
        ["Seeds, intervals, AUROC, specificity", "none", "all given"],
    ]


def _a_trained(plan: ComparePlan) -> RunConfig:
    """Return the configuration of the first model that is trained, else of the first."""
    trained = [m.config for m in plan.models if m.config.finetune.freeze != "all"]
    return trained[0] if trained else plan.models[0].config


def reproduce(
    source: Path,
    out: Path,
    names: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    command: str = "",
) -> Path:
    """Fit the paper's models twice, on folds of images and on folds of patients.

    The paper's way holds out a fifth of the images, whoever they are of; the honest way leaves
    every patient out once. Both see the same images through the same recipe.

    Args:
        source: a cohort with known patients.
        out: folder of both comparisons and the page; resumes.
        names: of models, as in `read_plan`; () for the paper's recipe with every network whose
            weights are found, and the CNN from scratch.
        settings: by stage; they win over the paper's.
        command: the command line, for provenance.

    Returns:
        The path of `reproduction.html`.

    Raises:
        HeparError: the source or a setting is refused.
    """
    from hepar.report import write_reproduction

    if settings and settings.get("ingest", {}).get("patients_unknown") not in (None, False):
        raise ConfigError(
            "reproduce-paper: expected known patients: without them there is no honest way to show."
        )
    if settings and settings.get("ingest", {}).get("findings"):
        raise ConfigError(
            "reproduce-paper: expected one label an image, as in the paper's table, got "
            "ingest.findings: several at once. Compare their models with `hepar compare`."
        )
    base = merge({"recipe": {"name": "paper"}, "augment": {"flip_lr": True}}, settings or {})
    plan = read_plan(names=list(names) or _papers(), settings=base)
    ledger = new_ledger(out, command)
    ways = {"images": _images(plan), "patients": plan}
    for way, asked in ways.items():
        compare(source, out / way, asked, ledger.command)
    found = {w: read_artefact(out / w / "comparison.json", "comparison") for w in ways}
    content = {
        "labels": found["patients"]["labels"],
        "interval": found["patients"]["interval"],
        "n_patients": found["patients"]["n_patients"],
        "n_samples": found["patients"]["n_samples"],
        "n_test_images": found["images"]["n_samples"],
        "warnings": [w for w in found["patients"]["warnings"] if w],
        "models": [_row(model, found["images"], out) for model in found["patients"]["models"]],
        "choices": choices(_a_trained(plan)),
        "config": found["patients"]["config"],
    }
    inputs = {f"{w}/comparison.json": sha256_file(out / w / "comparison.json") for w in ways}
    write_artefact(
        out / "reproduction.json", "reproduction", content, stamp(ledger.command, inputs=inputs)
    )
    return write_reproduction(out)


def _papers() -> list[str]:
    return [*(f"{name}:paper" for name, source in list_weights().items() if source), "small_cnn"]


def _images(plan: ComparePlan) -> ComparePlan:
    """Return the plan with the paper's split: a fifth of the images, and folds of images."""

    def changed(config: RunConfig) -> RunConfig:
        split = dataclasses.replace(config.split, unit="image", test=0.2, folds=2)
        return dataclasses.replace(config, split=split)

    models = [dataclasses.replace(m, config=changed(m.config)) for m in plan.models]
    return dataclasses.replace(plan, models=tuple(models))


def _row(model: Mapping[str, Any], images: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Return one model's metrics the paper's way, and the honest way for slices and patients."""
    twin = next((m for m in images["models"] if m["name"] == model["name"]), None)
    evaluation = read_artefact(out / "patients" / model["folder"] / "evaluation.json", "evaluation")
    honest = {
        (r["level"], r["metric"]): {
            k: r[k] for k in ("value", "low", "high", "undefined", "no_interval")
        }
        for r in evaluation["metrics"]
        if r["partition"] == "out-of-fold" and r["label"] is None
    }
    return {
        "name": model["name"],
        "description": model["description"],
        "is_random": model["is_random"],
        "folder": f"patients/{model['folder']}",
        "images": {m: {**twin["metrics"][m], "no_interval": None} for m in METRICS}
        if twin
        else None,
        "slices": {m: honest["slice", m] for m in METRICS},
        "patients": {m: honest["patient", m] for m in METRICS},
    }
