"""Many models side by side, and the paper's table made twice."""

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
    Labels,
    Order,
    Pattern,
    Settings,
    Source,
    Unknown,
    app,
    print_json,
    print_table,
    settings_of,
)


@app.command(rich_help_panel=JOB)
def compare(
    source: Source,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the comparison; resumes if it exists.")
    ],
    plan: Annotated[
        Path | None, typer.Option("--plan", help="TOML with seeds, base and models.NAME tables.")
    ] = None,
    models: Annotated[
        str,
        typer.Option(
            help="Comma-separated: vgg16, vgg16:svm-rbf, mobilenetv2:paper, vgg16+mobilenetv2, "
            "small_cnn, vote, stack.",
            show_default="every network whose weights are found",
        ),
    ] = "",
    seeds: Annotated[str, typer.Option(help="Of training, comma-separated.")] = "",
    labels: Labels = None,
    folds: Annotated[int | None, typer.Option(help="Folds of patients.", show_default="5")] = None,
    test: Annotated[
        float | None, typer.Option(help="Share of patients held out; 0.2 as in the paper.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="auto, liver, ct, picture or paper.", show_default="auto")
    ] = None,
    patient_pattern: Pattern = None,
    patients_unknown: Unknown = False,
    label_order: Order = None,
    flip_vertical: Flip = False,
    allow_gaps: Gaps = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Fit many models on one split, test them against the best, and set them side by side."""
    from hepar.compare_job import compare as compare_all
    from hepar.compare_plan import read_plan
    from hepar.config import read_settings

    given = settings_of(
        ingest__labels_csv=labels,
        ingest__patient_pattern=patient_pattern,
        ingest__patients_unknown=patients_unknown,
        ingest__label_order=label_order,
        ingest__flip_vertical=flip_vertical,
        ingest__allow_gaps=allow_gaps,
        recipe__name=recipe,
        split__folds=folds,
        split__test=test,
    )
    asked = read_plan(
        plan,
        _names(models),
        read_settings([*given, *(settings or [])]),
        seeds,
    )
    page = compare_all(source, out, asked)
    document = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    places = {one["name"]: out / one["folder"] for one in document.get("findings", ())}
    found = {
        name: json.loads((place / "comparison.json").read_text(encoding="utf-8"))
        for name, place in places.items()
    } or {"": document}
    if as_json:
        shown = {
            name: {"best": one["best"], "models": one["models"]} for name, one in found.items()
        }
        print_json({"page": str(page), **({"findings": shown} if places else shown[""])})
        return
    print_table(
        [
            {
                **({"finding": finding} if places else {}),
                "model": model["name"],
                **{
                    name: "-" if found["value"] is None else found["value"]
                    for name, found in model["metrics"].items()
                },
                "train s": model["cost"]["train_seconds"],
                "ms/image": model["cost"]["predict_ms"],
            }
            for finding, one in found.items()
            for model in one["models"]
        ]
    )
    typer.echo(f"page  {page}")


@app.command(rich_help_panel=JOB)
def reproduce(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the new run.", show_default="none is kept"),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--source", help="Where the data are now.", show_default="where they were"),
    ] = None,
) -> None:
    """Make a run again from its own record: the same predictions, or a list of what differs."""
    from tempfile import TemporaryDirectory

    from hepar.rerun_job import reproduce_run

    with TemporaryDirectory(prefix="hepar-") as room:
        again = reproduce_run(folder, out or Path(room) / "run", source)
    for line in again.differences:
        typer.echo(f"differs: {line}")
    typer.echo("the same, byte for byte" if again.same else "not the same")
    raise typer.Exit(0 if again.same else 1)


@app.command("reproduce-paper", rich_help_panel=JOB)
def reproduce_paper(
    source: Source,
    out: Annotated[Path, typer.Option("--out", help="Folder of both comparisons; resumes.")],
    models: Annotated[
        str,
        typer.Option(
            help="As in `hepar compare`.",
            show_default="NETWORK:paper for all weights found, and small_cnn",
        ),
    ] = "",
    labels: Labels = None,
    patient_pattern: Pattern = None,
    label_order: Order = None,
    flip_vertical: Flip = False,
    allow_gaps: Gaps = False,
    settings: Settings = None,
) -> None:
    """Make the paper's table twice: images divided at random, and patients left out."""
    from hepar.config import merge, read_settings
    from hepar.reproduce_job import reproduce

    given = settings_of(
        ingest__labels_csv=labels,
        ingest__patient_pattern=patient_pattern,
        ingest__label_order=label_order,
        ingest__flip_vertical=flip_vertical,
        ingest__allow_gaps=allow_gaps,
    )
    asked = merge(read_settings(given), read_settings(settings or []))
    page = reproduce(source, out, _names(models), asked)
    document = json.loads((out / "reproduction.json").read_text(encoding="utf-8"))
    ways = {"images": "by images", "slices": "by patients", "patients": "patients counted"}
    print_table(
        [
            {
                "accuracy": model["name"],
                **{
                    title: "-"
                    if not model[way] or model[way]["accuracy"]["value"] is None
                    else model[way]["accuracy"]["value"]
                    for way, title in ways.items()
                },
            }
            for model in document["models"]
        ]
    )
    typer.echo(f"page  {page}")


def _names(models: str) -> list[str]:
    return [name.strip() for name in models.split(",") if name.strip()]
