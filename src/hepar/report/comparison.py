"""The page that sets models beside each other: which is best, how sure that is, what it costs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hepar.errors import ReportError
from hepar.evaluate import METRICS
from hepar.provenance import read_artefact, write_atomic
from hepar.registry import nearest
from hepar.report.model_figures import draw_bars, draw_cost
from hepar.report.page import fill_page
from hepar.report.section import Section
from hepar.report.training import draw_training
from hepar.words import counted

__all__ = ["COLUMNS", "comparison_rows", "write_comparison"]

COLUMNS = (
    "model",
    "kind",
    "is_random",
    "best",
    "metric",
    "value",
    "low",
    "high",
    "undefined",
    "n_seeds",
    "seed_sd",
    "seed_min",
    "seed_max",
    "level",
    "partition",
    "n_patients",
    "n_samples",
)

_COSTS = {
    "params_millions": "parameters, millions",
    "gflops": "GFLOPs",
    "train_seconds": "training, s",
    "predict_ms": "a prediction, ms",
    "bundle_mb": "bundle, MB",
}

Content = Mapping[str, Any]


def comparison_rows(content: Content) -> list[dict[str, Any]]:
    """Return one row a model and metric, with the keys of `COLUMNS`.

    Args:
        content: of `comparison.json`.
    """
    shared = {key: content[key] for key in ("level", "partition", "n_patients", "n_samples")}
    return [
        {
            "model": model["name"],
            "kind": model["kind"],
            "is_random": model["is_random"],
            "best": model["name"] == content["best"],
            "metric": name,
            "n_seeds": len(model["seeds"]),
            **{key: metric[key] for key in COLUMNS if key in metric},
            **shared,
        }
        for model in content["models"]
        for name, metric in model["metrics"].items()
    ]


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _check(path: Path, content: Content) -> None:
    names = [model["name"] for model in content["models"]]
    if not names or content["best"] not in names:
        raise ReportError(
            f"{path}: expected 'best' among the models {names}, got {content['best']!r}. "
            f"{nearest(content['best'], names) or 'Compare again.'}"
        )


def _worse(content: Content) -> dict[str, list[str]]:
    """Return the models that a test finds worse than the best after Holm, and in which metrics."""
    alpha = 1 - content["interval"]["level"]
    worse: dict[str, list[str]] = {}
    for row in content["tests"]:
        sign = {row["model"]: 1, row["against"]: -1}.get(content["best"])
        if sign is None or row["p_holm"] is None or row["difference"] is None:
            continue
        if row["p_holm"] < alpha and sign * row["difference"] > 0:
            other = row["against"] if sign == 1 else row["model"]
            worse.setdefault(other, []).append(_title(row["metric"]))
    return worse


def _title(metric: str) -> str:
    return METRICS.get(metric).title if metric in METRICS else metric


def _verdict(content: Content) -> str:
    """Say whether the patients tell the best model from the others."""
    others = [model["name"] for model in content["models"] if model["name"] != content["best"]]
    made = [row for row in content["tests"] if row["p_holm"] is not None]
    whom = f"these {content['n_patients']} patients"
    if content["level"] != "patient":
        whom = f"these {content['n_samples']} slices"
    if not others:
        return "There is no other model to compare it with."
    if not made:
        return "No paired test could be made: nothing is said of whether the others are worse."
    counted = f"{len(made)} paired test{'s' if len(made) > 1 else ''}"
    worse = _worse(content)
    if not worse:
        return (
            f"After Holm's correction of {counted} no other model is significantly worse: {whom} "
            "cannot tell the models apart."
        )
    listed = ", ".join(f"{name} ({', '.join(metrics)})" for name, metrics in worse.items())
    text = f"After Holm's correction of {counted}, significantly worse: {listed}."
    alike = [name for name in others if name not in worse]
    if alike:
        text += f" {whom[0].upper()}{whom[1:]} cannot tell it apart from {', '.join(alike)}."
    return text


def _headline(content: Content) -> dict[str, Any]:
    best = next(model for model in content["models"] if model["name"] == content["best"])
    metric = best["metrics"]["balanced_accuracy"]
    units = f"{content['unit']}s" if content["level"] == "patient" else "slices"
    text = f"Best of {len(content['models'])}: {best['name']}, balanced accuracy of {units} "
    if metric["value"] is None:
        text += f"undefined ({metric['undefined']})"
    else:
        text += f"{metric['value']:.3f}"
    if metric["low"] is not None:
        coverage = 100 * content["interval"]["level"]
        text += f" ({coverage:g} % interval {metric['low']:.3f} to {metric['high']:.3f})"
    how = "held out for testing" if content["partition"] == "test" else "left out in turn"
    on = counted(content["n_patients"], content["unit"])
    if content["unit"] == "image":
        on, how = counted(content["n_samples"], "image"), f"{how}, in image-level folds"
    keys = ("value", "low", "high")
    return {
        **{key: metric[key] for key in keys},
        "sentence": f"{text} on {on} {how}. {_verdict(content)}",
    }


def _by_worth(content: Content) -> list[Mapping[str, Any]]:
    """Return the best model, then the others by balanced accuracy, the undefined last."""

    def key(model: Mapping[str, Any]) -> tuple[bool, float]:
        value = model["metrics"]["balanced_accuracy"]["value"]
        return model["name"] != content["best"], -1.0 * (-1.0 if value is None else value)

    return sorted(content["models"], key=key)


def _link(folder: Path, model: Mapping[str, Any]) -> str:
    """Return the way from the page to a model's own report, "" where there is none."""
    report = f"{model['folder']}/report.html"
    return quote(report) if model["folder"] and (folder / report).is_file() else ""


def _sections(folder: Path, content: Content) -> list[tuple[str, Section]]:
    models = _by_worth(content)
    titles = {name: _title(name) for name in models[0]["metrics"]}
    linked = [{**model, "link": _link(folder, model)} for model in models]
    costs = {
        key: title
        for key, title in _COSTS.items()
        if any(model["cost"][key] is not None for model in models)
    }
    trained = {model["name"]: model["history"] for model in models if model["history"]}
    tests = [{**row, "title": _title(row["metric"])} for row in content["tests"]]
    made = content["provenance"]
    found = {
        "models": Section(
            "Every model, how sure",
            "models.html.j2",
            {
                "models": linked,
                "titles": titles,
                "best": content["best"],
                "level": content["level"],
                "resamples": content["interval"]["resamples"],
                "bars": draw_bars(models),
            },
        ),
        "tests": Section("Paired tests", "tests.html.j2", {"tests": tests}),
        "cost": Section(
            "What each costs",
            "cost.html.j2",
            {"models": models, "costs": costs, "figure": draw_cost(models)},
        ),
        "training": Section(
            "Training", "training.html.j2", {"figures": [draw_training(trained)] if trained else []}
        ),
        "provenance": Section(
            "Provenance",
            "made.html.j2",
            {
                "command": made["command"],
                "seeds": "" if made["seed"] is None else str(made["seed"]),
                "hashes": made["inputs"],
                "config": content["config"],
            },
        ),
        "reading": Section("How to read this comparison", "reading_comparison.html.j2", {}),
    }
    absent = {"tests": not tests, "cost": not costs, "training": not trained}
    return [(name, section) for name, section in found.items() if not absent.get(name)]


def write_comparison(folder: Path) -> Path:
    """Write `comparison.html` and `comparison.csv` from `comparison.json`.

    Args:
        folder: that holds `comparison.json`, and the models' own folders.

    Returns:
        The path of the page: one file, with links to the models' own reports where they are there.

    Raises:
        DataError: `comparison.json` is missing or damaged.
        ReportError: its best model is not one of its models.
    """
    content = read_artefact(folder / "comparison.json", "comparison")
    _check(folder / "comparison.json", content)
    page = fill_page(
        "comparison.html.j2",
        {
            "headline": _headline(content),
            "best": content["best"],
            "n_models": len(content["models"]),
            "made": content["provenance"],
            "unit": content["unit"],
            "warnings": content["warnings"],
            "coverage": f"{100 * content['interval']['level']:g} %",
            "sections": _sections(folder, content),
        },
    )
    write_atomic(folder / "comparison.csv", _csv(comparison_rows(content)))
    path = folder / "comparison.html"
    write_atomic(path, page)
    return path
