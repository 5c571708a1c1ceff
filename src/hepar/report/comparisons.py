"""The page of comparisons that findings have each: every model on every finding."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hepar.evaluate import METRICS
from hepar.provenance import read_artefact, write_atomic
from hepar.report.comparison import COLUMNS, comparison_rows
from hepar.report.page import fill_page
from hepar.report.section import Section

__all__ = ["write_comparisons"]

_SHOWN = ("balanced_accuracy", "auroc", "sensitivity", "specificity")

Content = Mapping[str, Any]


def write_comparisons(folder: Path) -> Path:
    """Write `comparison.html` and `comparison.csv` from the comparisons of several findings.

    Args:
        folder: that holds `comparison.json`, which names them, and their own folders.

    Returns:
        The path of the page: one file, with links to each finding's own comparison.

    Raises:
        DataError: a `comparison.json` is missing or damaged.
    """
    content = read_artefact(folder / "comparison.json", "comparisons")
    found = {
        one["name"]: read_artefact(folder / one["folder"] / "comparison.json", "comparison")
        for one in content["findings"]
    }
    first = next(iter(found.values()))
    warnings = [w for one in found.values() for w in one["warnings"]] + content["warnings"]
    page = fill_page(
        "comparisons.html.j2",
        {
            "headline": _headline(found),
            "n_findings": len(found),
            "made": content["provenance"],
            "unit": first["unit"],
            "warnings": list(dict.fromkeys(warnings)),
            "coverage": f"{100 * first['interval']['level']:g} %",
            "sections": [("findings", _section(content["findings"], found))],
        },
    )
    rows = [{"finding": name, **row} for name, one in found.items() for row in comparison_rows(one)]
    write_atomic(folder / "comparison.csv", _csv(rows))
    path = folder / "comparison.html"
    write_atomic(path, page)
    return path


def _best(content: Content) -> Mapping[str, Any]:
    found = next(model for model in content["models"] if model["name"] == content["best"])
    return dict(found)


def _headline(found: Mapping[str, Content]) -> dict[str, Any]:
    """Return the number to show first: of the finding that even its best model tells worst."""

    def worth(name: str) -> float:
        value = _best(found[name])["metrics"]["balanced_accuracy"]["value"]
        return -1.0 if value is None else float(value)

    worst = min(found, key=worth)
    best = _best(found[worst])
    metric = best["metrics"]["balanced_accuracy"]
    value = f"undefined ({metric['undefined']})"
    if metric["value"] is not None:
        value = f"{metric['value']:.3f}"
    sentence = (
        f"Least sure of {len(found)} findings: {worst}, balanced accuracy {value} by its best of "
        f"{len(found[worst]['models'])} models, {best['name']}."
    )
    return {**{key: metric[key] for key in ("value", "low", "high")}, "sentence": sentence}


def _section(entries: Sequence[Mapping[str, str]], found: Mapping[str, Content]) -> Section:
    return Section(
        "Every model on every finding",
        "comparisons_table.html.j2",
        {
            "findings": [
                {
                    "name": one["name"],
                    "link": quote(f"{one['folder']}/comparison.html"),
                    "best": found[one["name"]]["best"],
                    "models": [_shown(model) for model in found[one["name"]]["models"]],
                    "n_patients": found[one["name"]]["n_patients"],
                }
                for one in entries
            ],
            "titles": {name: METRICS.get(name).title for name in _SHOWN},
        },
    )


def _shown(model: Mapping[str, Any]) -> dict[str, Any]:
    metrics = {name: {"no_interval": None, **model["metrics"][name]} for name in _SHOWN}
    return {**model, "metrics": metrics}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ("finding", *COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
