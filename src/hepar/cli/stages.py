"""One stage alone: ingest, split, report, phantom."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hepar.cli.face import (
    STAGE,
    Flip,
    Gaps,
    Json,
    Labels,
    Order,
    Pattern,
    Settings,
    Source,
    Unknown,
    app,
    ingest_config_of,
    print_json,
    print_table,
    settings_of,
)
from hepar.words import counted

if TYPE_CHECKING:
    from hepar.data import Manifest


@app.command(rich_help_panel=STAGE)
def ingest(
    source: Source,
    out: Annotated[Path, typer.Option("--out", help="The manifest to write.")] = Path(
        "manifest.csv"
    ),
    labels: Labels = None,
    patient_pattern: Pattern = None,
    patients_unknown: Unknown = False,
    label_order: Order = None,
    flip_vertical: Flip = False,
    allow_gaps: Gaps = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Read a source into a manifest: who is in it, what was refused, and why."""
    from hepar.data import write_manifest
    from hepar.ingest import ingest as ingest_source
    from hepar.provenance import command_line, stamp

    given = settings_of(
        ingest__labels_csv=labels,
        ingest__patient_pattern=patient_pattern,
        ingest__patients_unknown=patients_unknown,
        ingest__label_order=label_order,
        ingest__flip_vertical=flip_vertical,
        ingest__allow_gaps=allow_gaps,
    )
    manifest = ingest_source(source, ingest_config_of(given, settings))
    write_manifest(out, manifest, stamp(command_line(), inputs={"source": str(source)}))
    counts = {
        label: sum(sample.label == label for sample in manifest.samples)
        for label in manifest.labels
    }
    if as_json:
        print_json(
            {
                "manifest": str(out),
                "patients": len(manifest.patients) if manifest.patients_known else None,
                "samples": len(manifest),
                "labels": counts,
                "findings": [
                    {"code": f.code, "where": f.where, "severity": f.severity, "message": f.message}
                    for f in manifest.findings
                ],
            }
        )
        return
    people = counted(len(manifest.patients), "patient")
    people = people if manifest.patients_known else "patients unknown"
    listed = ", ".join(f"{n} {label}" for label, n in counts.items())
    typer.echo(f"{out}: {people}, {len(manifest)} samples ({listed})")
    if manifest.findings:
        kinds = Counter(finding.severity for finding in manifest.findings)
        told = ", ".join(f"{n} {severity}" for severity, n in kinds.items())
        typer.echo(f"findings  {told}; all in {out.with_suffix('.meta.json')}")


@app.command(rich_help_panel=STAGE)
def split(
    manifest: Annotated[Path, typer.Argument(help="A manifest that `hepar ingest` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="The split to write.")] = Path("split.json"),
    folds: Annotated[int, typer.Option(help="Folds of patients.")] = 5,
    test: Annotated[float, typer.Option(help="Share of patients held out.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the assignment.")] = 0,
    column: Annotated[
        str, typer.Option(help="A column that already holds the split (fold number or test).")
    ] = "",
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Look for copies first; unknown patients become groups."),
    ] = False,
) -> None:
    """Divide patients, never images, into folds and an optional test partition."""
    from hepar.config import SplitConfig
    from hepar.data import read_manifest
    from hepar.provenance import command_line, sha256_file, stamp
    from hepar.split import make_split, split_table, write_split

    cohort = read_manifest(manifest)
    if audit:
        cohort = _audited(cohort, out.with_name(f"{out.stem}_audit.json"))
    made = make_split(cohort, SplitConfig(folds, test, seed, column))
    provenance = stamp(command_line(), seed=seed, inputs={"manifest.csv": sha256_file(manifest)})
    write_split(out, made, cohort, provenance)
    print_table(
        [{k: "-" if v is None else v for k, v in row.items()} for row in split_table(made, cohort)]
    )


def _audited(manifest: Manifest, path: Path) -> Manifest:
    """Return the manifest with unknown patients joined into groups; say and write what is wrong."""
    from hepar.audit import audit_cohort, grouped, read_looks, write_audit
    from hepar.config import BackboneConfig
    from hepar.provenance import command_line, stamp

    found = audit_cohort(manifest, read_looks(manifest, BackboneConfig()))
    write_audit(path, found, stamp(command_line()))
    for finding in found.findings:
        typer.echo(f"{finding['severity']}: {finding['message']}", err=True)
    return grouped(manifest, found) if found.groups else manifest


@app.command(rich_help_panel=STAGE)
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.")],
    pdf: Annotated[bool, typer.Option("--pdf", help="Write report.pdf, too.")] = False,
) -> None:
    """Write report.html, card, datasheet and checklist anew from the files of a run."""
    from hepar.report import write_documents, write_pdf, write_report

    write_documents(folder)
    page = write_report(folder)
    typer.echo(str(page))
    if pdf:
        typer.echo(str(write_pdf(page)))


@app.command(rich_help_panel=STAGE)
def phantom(
    out: Annotated[Path, typer.Option("--out", help="Folder to write the cohort to.")],
    patients: Annotated[int, typer.Option(help="A third each malignant, benign, normal.")] = 60,
    slices: Annotated[int, typer.Option(help="Slices a patient.")] = 8,
    difficulty: Annotated[
        float, typer.Option(help="0 easy to 1 very hard, where models are at chance.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Of the cohort.")] = 0,
    confounder: Annotated[
        str, typer.Option(help="Plant one: table, noise or mark, tied to the label.")
    ] = "",
    duplicates: Annotated[int, typer.Option(help="Plant slices copied from another patient.")] = 0,
) -> None:
    """Make a cohort of synthetic CT with known lesions: DICOM, NIfTI and PNG twins."""
    from hepar.phantom import PhantomConfig, write_cohort

    config = PhantomConfig(
        patients=patients,
        slices=slices,
        difficulty=difficulty,
        seed=seed,
        confounder=confounder,
        duplicates=duplicates,
    )
    write_cohort(out, config)
    typer.echo(
        f"{out}: {counted(patients, 'patient')}; labels.csv, truth.csv, dicom/, nifti/, png/"
    )
    typer.echo("The folders hold the same patients: name one of them.")
    nifti, dicom, table = (str(out / name) for name in ("nifti", "dicom", "labels.csv"))
    for command in (
        ["hepar", "run", nifti, "--out", "RUN"],
        ["hepar", "run", dicom, "--labels", table, "--out", "RUN"],
        ["hepar", "segment", "fit", nifti, "--out", "SEGMENTER"],
    ):
        typer.echo(f"next  {shlex.join(command)}")


@app.command("phantom-tiles", rich_help_panel=STAGE)
def phantom_tiles(
    out: Annotated[Path, typer.Option("--out", help="Folder to write the cohort to.")],
    patients: Annotated[int, typer.Option(help="Half of them with each finding.")] = 24,
    slides: Annotated[int, typer.Option(help="Slides a patient.")] = 2,
    tiles: Annotated[int, typer.Option(help="Tiles a slide.")] = 6,
    size: Annotated[int, typer.Option(help="Side of a tile in pixels.")] = 256,
    laboratories: Annotated[int, typer.Option(help="Each with its own colours.")] = 3,
    difficulty: Annotated[float, typer.Option(help="0 easy to 1 very hard.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of the cohort.")] = 0,
) -> None:
    """Make a cohort of synthetic stained tiles with known findings: PNG and index.csv."""
    from hepar.phantom import TileConfig, write_tiles

    config = TileConfig(patients, slides, tiles, size, laboratories, difficulty, seed)
    index = write_tiles(out, config)
    typer.echo(f"{index}: {patients} patients, {patients * slides * tiles} tiles")
