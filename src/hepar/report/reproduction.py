"""The page that sets the paper's way of counting beside the honest one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hepar.provenance import read_artefact, write_atomic
from hepar.report.figures import COLOURS, INK, new_figure, plain, to_svg, write_legend
from hepar.report.page import fill_page
from hepar.report.section import Section
from hepar.words import counted

__all__ = ["write_reproduction"]

WAYS = {
    "images": "split by images, as papers do",
    "slices": "split by patients, slices counted",
    "patients": "split by patients, patients counted",
}
_METRICS = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "auroc": "AUROC"}


def _value(model: Mapping[str, Any], way: str, metric: str) -> float | None:
    found = model[way]
    return None if found is None else found[metric]["value"]


def _draw(models: Sequence[Mapping[str, Any]]) -> str:
    """Draw the accuracy of each model in each way of counting."""
    figure, (axis,) = new_figure(7.2, 0.62 * len(models) + 0.9)
    for i, model in enumerate(models):
        for j, (way, title) in enumerate(WAYS.items()):
            y, value = i + (j - 1) * 0.26, _value(model, way, "accuracy")
            if value is None:
                axis.text(0.01, y, "undefined", va="center", fontsize=7.5, color=INK)
                continue
            axis.barh(y, value, 0.23, color=COLOURS[j], label=title)
    axis.set_yticks(range(len(models)), [plain(model["name"]) for model in models])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(models) - 0.4, -0.6)
    axis.set_xlim(0, 1)
    write_legend(figure, [axis], columns=1)
    return to_svg(figure, "Accuracy of each model by images, by patients' slices and by patients.")


def _headline(content: Mapping[str, Any]) -> dict[str, Any]:
    """Say what the model that looks best the paper's way is worth."""
    models = [m for m in content["models"] if _value(m, "images", "accuracy") is not None]
    if not models:
        return {"value": None, "low": None, "high": None, "sentence": "No model was fitted."}
    best = max(models, key=lambda m: float(m["images"]["accuracy"]["value"]))
    seen, honest = best["images"]["accuracy"]["value"], best["slices"]["accuracy"]
    sentence = (
        f"{best['name']}: accuracy {seen:.3f} when images are divided at random, "
        f"{honest['value']:.3f} on slices of {counted(content['n_patients'], 'patient')} it has "
        "never seen. Same network, same images, same recipe."
    )
    keys = ("value", "low", "high")
    return {**{key: honest[key] for key in keys}, "sentence": sentence}


def write_reproduction(folder: Path) -> Path:
    """Write `reproduction.html` from `reproduction.json`.

    Args:
        folder: that holds `reproduction.json`.

    Returns:
        The path of the page.

    Raises:
        DataError: `reproduction.json` is missing or damaged.
    """
    content = read_artefact(folder / "reproduction.json", "reproduction")
    made = content["provenance"]
    sections = [
        (
            "table",
            Section(
                "Two ways of counting",
                "reproduction_table.html.j2",
                {
                    "models": content["models"],
                    "ways": WAYS,
                    "metrics": _METRICS,
                    "n_patients": content["n_patients"],
                    "n_samples": content["n_samples"],
                    "n_test_images": content["n_test_images"],
                    "figure": _draw(content["models"]),
                },
            ),
        ),
        (
            "choices",
            Section(
                "What the paper leaves open",
                "reproduction_choices.html.j2",
                {"choices": content["choices"]},
            ),
        ),
        (
            "provenance",
            Section(
                "Provenance",
                "made.html.j2",
                {
                    "command": made["command"],
                    "seeds": "",
                    "hashes": made["inputs"],
                    "config": content["config"],
                },
            ),
        ),
    ]
    page = fill_page(
        "reproduction.html.j2",
        {
            "headline": _headline(content),
            "made": made,
            "unit": "patient",
            "warnings": content["warnings"],
            "coverage": f"{100 * content['interval']['level']:g} %",
            "sections": sections,
        },
    )
    path = folder / "reproduction.html"
    write_atomic(path, page)
    return path
