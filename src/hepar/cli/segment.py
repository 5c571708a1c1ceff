"""Outlines of the liver: a segmenter is taught, and outlines new data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hepar.cli.face import (
    JOB,
    Flip,
    Json,
    Settings,
    app,
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
