"""What `run` and `predict` print where there are several findings."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import typer

from hepar.cli.face import print_json, print_table

__all__ = ["run_findings_and_print", "write_and_print"]


def run_findings_and_print(source: Path, out: Path, config: Any, *, as_json: bool) -> None:
    """Run every finding and print a row of numbers for each."""
    from hepar.findings_job import run_findings
    from hepar.provenance import read_artefact

    page = run_findings(source, out, config)
    document = read_artefact(out / "findings.json", "findings")
    where = {"page": str(page), "bundle": str(out / "bundle")}
    if as_json:
        keys = ("level", "partition", "findings", "warnings")
        print_json({**where, **{key: document[key] for key in keys}})
        return
    print_table(
        [
            {
                "finding": one["name"],
                "patients": f"{one['n_patients_with']} of {one['n_patients']}",
                **{name: _shown(metric) for name, metric in one["metrics"].items()},
            }
            for one in document["findings"]
        ]
    )
    for name, path in where.items():
        typer.echo(f"{name:6}  {path}")


def _shown(metric: dict[str, Any]) -> str:
    if metric["value"] is None:
        return "-"
    if metric["low"] is None:
        return f"{metric['value']:.3f}"
    return f"{metric['value']:.3f} ({metric['low']:.2f}-{metric['high']:.2f})"


def write_and_print(
    several: Any, answers: dict[str, Any], manifest: Any, out: Path | None, *, as_json: bool
) -> None:
    """Print a row per patient, and write the tables of each finding and of slides."""
    from hepar.cli.jobs import write_answer

    slides = several.slides(answers, manifest)
    rows = _patient_rows(answers)
    if out is not None:
        for name, answer in answers.items():
            own = out.with_name(f"{out.stem}_{name}{out.suffix}")
            write_answer(own, several.folders[name], answer)
        _write(out.with_name(f"{out.stem}_slides{out.suffix}"), slides)
        _write(out, rows)
    if as_json:
        notes = [*manifest.findings, *(f for a in answers.values() for f in a.findings)]
        told = {(f.code, f.where, f.message): None for f in notes}
        keys = ("code", "where", "message")
        findings = [dict(zip(keys, one, strict=True)) for one in told]
        print_json({"patients": rows, "slides": slides, "findings": findings})
        return
    print_table(rows)
    typer.echo("Research use only: not a medical device.")


def _patient_rows(answers: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row per patient: of each finding the probability, and yes, no or none."""
    first = next(iter(answers.values()))
    rows: list[dict[str, Any]] = [{"patient_id": said.patient_id} for said in first.answers]
    for name, answer in answers.items():
        positive = answer.patients.labels.index(name)
        words = {name: "yes", "": "none"}
        for i, (row, said) in enumerate(zip(rows, answer.answers, strict=True)):
            _, values = answer.numbers(i)
            row[f"p_{name}"] = round(values[positive], 3) if values else ""
            row[name] = words.get(said.label, "no")
    for i, row in enumerate(rows):
        reasons = (answer.answers[i].reason for answer in answers.values())
        row["reason"] = "; ".join(dict.fromkeys(filter(None, reasons)))
    return rows


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    from hepar.provenance import write_atomic

    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())
