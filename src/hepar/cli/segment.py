"""Outlines of the liver: a segmenter is taught, and outlines new data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hepar.cli.face import (
    JOB,
    Flip,
    Gaps,
    Json,
    NewData,
    Pattern,
    Settings,
    app,
    ingest_config_of,
    print_json,
    print_table,
    settings_of,
)

segment_app = typer.Typer(help="Outline the liver: teach a segmenter, and apply it.")
app.add_typer(segment_app, name="segment", rich_help_panel=JOB)


@segment_app.command("fit")
def fit(
    sources: Annotated[
        list[Path],
        typer.Argument(help="With masks of the liver; one patient_id is one person in all."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the job; resumes if it exists.")],
    folds: Annotated[int | None, typer.Option(help="Folds of patients.", show_default="5")] = None,
    steps: Annotated[int | None, typer.Option(help="Of training.", show_default="500")] = None,
    seed: Annotated[int | None, typer.Option(help="Of folds and training.")] = None,
    flip_vertical: Flip = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Teach a liver segmenter on drawn livers, and measure it on patients left out."""
    from hepar.config import read_config
    from hepar.segment_job import fit_segmenter
    from hepar.settings import check

    given = settings_of(
        segment__folds=folds,
        segment__steps=steps,
        segment__seed=seed,
        ingest__flip_vertical=flip_vertical,
    )
    config = read_config(None, [*given, *(settings or [])])
    check(config)
    path = fit_segmenter(sources, out, config)
    document = json.loads(path.read_text(encoding="utf-8"))
    if as_json:
        print_json(document)
        return
    print_table(
        [
            {
                "source": str(source),
                "patients": found["n_patients"],
                "slices": found["n_slices"],
                "Dice": found["dice"]["value"],
                "median": found["dice_median"],
                "least": found["dice_least"],
            }
            for source, found in zip(sources, document["sources"], strict=True)
        ]
    )
    typer.echo(f"segmenter  {out / 'segmenter'}")


@segment_app.command("apply")
def apply(
    model: Annotated[
        Path,
        typer.Argument(help="Folder of `hepar segment fit`, a bundle with one, or liver-unet."),
    ],
    paths: NewData,
    out: Annotated[Path, typer.Option("--out", help="Folder of the masks.")],
    kind: Annotated[
        str,
        typer.Option("--format", help="nifti, dicom-seg or png.", show_default="suits the data"),
    ] = "",
    patient_pattern: Pattern = None,
    flip_vertical: Flip = False,
    allow_gaps: Gaps = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Outline livers in new data, and lesions with a lesion finder's bundle: a file a series."""
    from hepar.errors import ConfigError
    from hepar.ingest import ingest_files
    from hepar.outline_job import KINDS, outline_files
    from hepar.provenance import command_line, stamp
    from hepar.registry import nearest

    if kind and kind not in KINDS:
        raise ConfigError(
            f"--format: expected one of {', '.join(KINDS)}, got {kind!r}. "
            f"{nearest(kind, KINDS)}".rstrip()
        )
    given = settings_of(
        ingest__patient_pattern=patient_pattern,
        ingest__flip_vertical=flip_vertical,
        ingest__allow_gaps=allow_gaps,
    )
    manifest = ingest_files(paths, ingest_config_of(given, settings))
    rows = outline_files(model, manifest, out, kind, stamp(command_line()))
    if as_json:
        print_json({"series": rows})
        return
    print_table([{k: "-" if v is None else v for k, v in row.items()} for row in rows])
    typer.echo(f"masks  {out}")
