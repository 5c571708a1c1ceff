"""Leaks: what is wrong with a cohort before anything is learned from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hepar.cli.face import (
    LOOK,
    Flip,
    Gaps,
    Json,
    Labels,
    Pattern,
    Settings,
    app,
    print_json,
    settings_of,
)


@app.command(rich_help_panel=LOOK)
def audit(
    source: Annotated[
        Path, typer.Argument(help="A source as for `hepar run`, a manifest, or a run's folder.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the audit.")] = Path("runs/audit"),
    labels: Labels = None,
    patient_pattern: Pattern = None,
    column: Annotated[
        str, typer.Option(help="Of the source, that holds a split: are there copies across it?")
    ] = "",
    flip_vertical: Flip = False,
    allow_gaps: Gaps = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 where a leak was found.")
    ] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Look for copies and near-copies across patients, labels and partitions; group unknown ids."""
    from dataclasses import replace

    from hepar.audit import audit_partitions, grouped
    from hepar.cohort_job import audit_source, new_ledger
    from hepar.config import read_config
    from hepar.settings import check
    from hepar.split import make_split

    given = settings_of(
        ingest__labels_csv=labels,
        ingest__patient_pattern=patient_pattern,
        ingest__patients_unknown=True,
        ingest__flip_vertical=flip_vertical,
        ingest__allow_gaps=allow_gaps,
        split__column=column,
    )
    config = read_config(None, [*given, *(settings or [])])
    config = replace(config, audit=replace(config.audit, copies=True))
    check(config)
    manifest, found = audit_source(source, new_ledger(out), config)
    findings: list[Mapping[str, Any]] = list(found.findings)
    if column:
        cohort = grouped(manifest, found) if found.groups else manifest
        places = make_split(cohort, config.split).assignments
        where = {p: (a.partition, str(a.fold or "")) for p, a in places.items()}
        findings += audit_partitions(cohort, found, where)
    sheet = out / "figures" / "links.png"
    if as_json:
        print_json(
            {
                "samples": len(manifest),
                "unit": found.unit,
                "groups": len(set(found.groups.values())) or None,
                "findings": findings,
                "audit": str(out / "audit.json"),
                "sheet": str(sheet),
            }
        )
    else:
        _print(findings, len(manifest), out, sheet)
    if strict and any(finding["severity"] == "leak" for finding in findings):
        raise typer.Exit(1)


def _print(findings: Sequence[Mapping[str, Any]], n: int, out: Path, sheet: Path) -> None:
    if not findings:
        typer.echo(f"{n:,} images: no copies across patients, no label at odds.")
    for finding in findings:
        typer.echo(f"{finding['severity']}: {finding['message']}")
        for one, other in finding["samples"][:3]:
            typer.echo(f"      {one}  {other}")
    typer.echo(f"audit   {out / 'audit.json'}")
    typer.echo(f"sheet   {sheet}")
