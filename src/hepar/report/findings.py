"""The page of several findings: how well each is told, and which come together."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hepar.evaluate import METRICS
from hepar.provenance import read_artefact, write_atomic
from hepar.report.page import fill_page
from hepar.report.section import Section

__all__ = ["write_findings"]

_COLUMNS = (
    "finding", "metric", "value", "low", "high", "undefined", "level", "partition",
    "n_patients", "n_patients_with", "n_samples", "n_samples_with",
)  # fmt: skip

Content = Mapping[str, Any]


def _rows(content: Content) -> list[dict[str, Any]]:
    """Return one row a finding and metric, with the keys of `_COLUMNS`."""
    return [
        {
            "finding": one["name"],
            "metric": name,
            **{key: metric[key] for key in _COLUMNS if key in metric},
            **{key: one[key] for key in _COLUMNS if key in one},
            "level": content["level"],
            "partition": content["partition"],
        }
        for one in content["findings"]
        for name, metric in one["metrics"].items()
    ]


def _headline(content: Content) -> dict[str, Any]:
    """Return the number to show first: of the finding that is told worst."""

    def worth(one: Content) -> float:
        value = one["metrics"]["balanced_accuracy"]["value"]
        return -1.0 if value is None else float(value)

    worst = min(content["findings"], key=worth)
    metric = worst["metrics"]["balanced_accuracy"]
    units = f"{content['unit']}s" if content["level"] == "patient" else "tiles"
    how = "held out for testing" if content["partition"] == "test" else "left out in turn"
    text = f"Least sure of {len(content['findings'])} findings: {worst['name']}, balanced accuracy "
    if metric["value"] is None:
        text += f"undefined ({metric['undefined']})"
    else:
        text += f"of {units} {metric['value']:.3f}"
    if metric["low"] is not None:
        coverage = 100 * content["interval"]["level"]
        text += f" ({coverage:g} % interval {metric['low']:.3f} to {metric['high']:.3f})"
    sentence = f"{text} on {worst['n_patients']} {content['unit']}s {how}."
    return {**{key: metric[key] for key in ("value", "low", "high")}, "sentence": sentence}


def _sections(folder: Path, content: Content) -> list[tuple[str, Section]]:
    linked = []
    for one in content["findings"]:
        report = f"{one['folder']}/report.html"
        link = quote(report) if (folder / report).is_file() else ""
        linked.append({**one, "link": link})
    made = content["provenance"]
    names = list(content["findings"][0]["metrics"])
    return [
        (
            "findings",
            Section(
                "Every finding, how sure",
                "finding_table.html.j2",
                {
                    "findings": linked,
                    "titles": {name: METRICS.get(name).title for name in names},
                    "level": content["level"],
                    "partition": content["partition"],
                    "resamples": content["interval"]["resamples"],
                    "recipe": content["recipe"],
                    "backbone": content["backbone"],
                },
            ),
        ),
        (
            "together",
            Section("Which come together", "together.html.j2", {"rows": content["together"]}),
        ),
        (
            "provenance",
            Section(
                "Provenance",
                "made.html.j2",
                {
                    "command": made["command"],
                    "seeds": "" if made["seed"] is None else str(made["seed"]),
                    "hashes": made["inputs"],
                    "config": content["config"],
                },
            ),
        ),
        ("reading", Section("How to read this page", "reading_findings.html.j2", {})),
    ]


def write_findings(folder: Path) -> Path:
    """Write `findings.html` and `findings.csv` from `findings.json`.

    Args:
        folder: that holds `findings.json`, and the findings' own folders.

    Returns:
        The path of the page: one file, with links to the findings' own reports.

    Raises:
        DataError: `findings.json` is missing or damaged.
    """
    content = read_artefact(folder / "findings.json", "findings")
    page = fill_page(
        "findings.html.j2",
        {
            "headline": _headline(content),
            "n_findings": len(content["findings"]),
            "made": content["provenance"],
            "unit": content["unit"],
            "warnings": content["warnings"],
            "coverage": f"{100 * content['interval']['level']:g} %",
            "sections": _sections(folder, content),
        },
    )
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(content))
    write_atomic(folder / "findings.csv", text.getvalue())
    path = folder / "findings.html"
    write_atomic(path, page)
    return path
