"""The main job: run, the demo, and predictions with its bundle."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from hepar.cli.face import (
    JOB,
    Config,
    Flip,
    Gaps,
    Json,
    Labels,
    NewData,
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

BundleFolder = Annotated[Path, typer.Argument(help="A bundle that `hepar run` wrote.")]


@app.command(rich_help_panel=JOB)
def run(
    source: Source,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; resumes if it exists.")],
    labels: Labels = None,
    segmenter: Annotated[
        str | None,
        typer.Option(
            help="Folder of `hepar segment fit`, or liver-unet: outlines livers nobody has drawn."
        ),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            help="paper, best (head first, then the last stage), scratch, or histopathology (RGB "
            "tiles, several findings)."
        ),
    ] = "",
    level: Annotated[
        str,
        typer.Option(
            help="slice; slab (2.5D: between its neighbours); mil (attention over slices); volume "
            "(3D network); lesion (pixels, taught by lesion masks); rule (the darkest point).",
            show_default="slice",
        ),
    ] = "",
    recipe: Annotated[
        str | None, typer.Option(help="auto, liver, ct, picture or paper.", show_default="auto")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="A network of `hepar backbones`.", show_default="efficientnet_lite0"),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="A safetensors file, or 'random' for a control.")
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            help="all, early (all stages but the last), none, or the last stage to freeze.",
            show_default="all",
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            help="linear, svm, svm-rbf, attention, or dense (trained).", show_default="linear"
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Of training, at most.", show_default="50")
    ] = None,
    views: Annotated[
        int | None,
        typer.Option(help="Average predictions over views of each image.", show_default="1"),
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Folds of patients.", show_default="5")] = None,
    test: Annotated[
        float | None, typer.Option(help="Share of patients held out; 0.2 as in the paper.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the split.", show_default="0")] = None,
    aggregate: Annotated[
        str | None,
        typer.Option(
            help="Slices to patient: mean, top, max, noisy-or or attention.", show_default="mean"
        ),
    ] = None,
    patient_pattern: Pattern = None,
    patients_unknown: Unknown = False,
    label_order: Order = None,
    flip_vertical: Flip = False,
    allow_gaps: Gaps = False,
    config: Config = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Go from labelled CT to a report and a bundle, in one command; resumes where it stopped."""
    from hepar.config import read_config
    from hepar.main_job import run as run_all

    given = settings_of(
        ingest__labels_csv=labels,
        ingest__patient_pattern=patient_pattern,
        ingest__patients_unknown=patients_unknown,
        ingest__label_order=label_order,
        ingest__flip_vertical=flip_vertical,
        ingest__allow_gaps=allow_gaps,
        segment__model=segmenter,
        recipe__name=recipe,
        backbone__name=backbone,
        backbone__weights=weights,
        finetune__freeze=freeze,
        finetune__epochs=epochs,
        head__kind=head,
        head__views=views,
        split__folds=folds,
        split__test=test,
        split__seed=seed,
        head__aggregate=aggregate,
    )
    asked = read_config(config, [*given, *(settings or [])], preset, level)
    if asked.ingest.findings:
        from hepar.cli.findings import run_findings_and_print

        run_findings_and_print(source, out, asked, as_json=as_json)
        return
    report = run_all(source, out, asked)
    if os.environ.get("RANK", "0") == "0":
        _print_result(report, as_json=as_json)


def _print_result(report: Path, *, as_json: bool) -> None:
    from hepar.evaluate import headline

    summary = {
        "report": str(report),
        "bundle": str(report.parent / "bundle"),
        **headline(report.parent / "evaluation.json"),
    }
    if as_json:
        print_json(summary)
        return
    typer.echo(summary["sentence"])
    typer.echo(f"report  {summary['report']}")
    typer.echo(f"bundle  {summary['bundle']}")


@app.command(rich_help_panel=JOB)
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")] = Path("runs/demo"),
    patients: Annotated[int, typer.Option(help="Phantom patients.")] = 60,
    as_json: Json = False,
) -> None:
    """Run the main job on the phantom cohort: synthetic CT that this command makes itself."""
    from hepar.config import read_config
    from hepar.main_job import run as run_all
    from hepar.phantom import PhantomConfig, write_cohort

    cohort = out / "phantom"
    phantom = PhantomConfig(patients=patients)
    write_cohort(cohort, phantom, formats=("dicom", "masks"))
    settings = [f"ingest.labels_csv={cohort / 'labels.csv'}"]
    report = run_all(cohort / "dicom", out, read_config(None, settings))
    _print_result(report, as_json=as_json)


@app.command(rich_help_panel=JOB)
def predict(
    bundle: BundleFolder,
    paths: NewData,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="CSV of slices; patients and answers go beside it."),
    ] = None,
    patient_pattern: Pattern = None,
    flip_vertical: Flip = False,
    allow_gaps: Gaps = False,
    no_gate: Annotated[
        bool, typer.Option("--no-gate", help="Answer for patients unlike the training's, too.")
    ] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Answer for new images with a bundle: probabilities per slice and per patient."""
    from hepar.ingest import ingest_files
    from hepar.model import FINDINGS_FILE, load_findings, load_predictor

    given = settings_of(
        ingest__patient_pattern=patient_pattern,
        ingest__flip_vertical=flip_vertical,
        ingest__allow_gaps=allow_gaps,
    )
    ingest_config = ingest_config_of(given, settings)
    if (bundle / FINDINGS_FILE).is_file():
        from hepar.cli.findings import write_and_print

        several = load_findings(bundle)
        manifest = ingest_files(paths, _as_learned(ingest_config, several.kinds))
        answers = several.predict(manifest, gate=not no_gate)
        write_and_print(several, answers, manifest, out, as_json=as_json)
        return
    predictor = load_predictor(bundle)
    manifest = ingest_files(paths, _as_learned(ingest_config, predictor.bundle.kinds))
    answer = predictor.predict(manifest, gate=not no_gate)
    if out is not None:
        write_answer(out, bundle, answer)
    _print_answer(manifest, answer, as_json=as_json)


@app.command(rich_help_panel=JOB)
def explain(
    bundle: BundleFolder,
    paths: NewData,
    out: Annotated[Path, typer.Option("--out", help="Folder of pictures, page, JSON and CSV.")],
    label: Annotated[
        str, typer.Option(help="Whose evidence is drawn.", show_default="the predicted label")
    ] = "",
    method: Annotated[
        str,
        typer.Option(
            help="grad-cam, hirescam, grad-cam++, or occlusion (slow).",
            show_default="the likelihood of a lesion for lesion finders, occlusion for volumes, "
            "else grad-cam",
        ),
    ] = "",
    patient_pattern: Pattern = None,
    flip_vertical: Flip = False,
    allow_gaps: Gaps = False,
    no_gate: Annotated[
        bool, typer.Option("--no-gate", help="Draw patients unlike the training's, too.")
    ] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Answer for new images and draw where the model looked: a picture a slice, and a page."""
    from hepar.ingest import ingest_files
    from hepar.model import load_predictor
    from hepar.series_job import SeriesConfig, check_series, explain_series

    given = settings_of(
        ingest__patient_pattern=patient_pattern,
        ingest__flip_vertical=flip_vertical,
        ingest__allow_gaps=allow_gaps,
    )
    ingest_config = ingest_config_of(given, settings)
    predictor = load_predictor(bundle)
    config = SeriesConfig(label, method, not no_gate)
    check_series(predictor, out, config)
    manifest = ingest_files(paths, _as_learned(ingest_config, predictor.bundle.kinds))
    answer = explain_series(predictor, manifest, out, config, _provenance(bundle))
    write_answer(out / "predictions.csv", bundle, answer)
    _print_answer(manifest, answer, as_json=as_json)
    if not as_json:
        typer.echo(f"page  {out / 'index.html'}")


def _as_learned(config: Any, kinds: tuple[str, ...]) -> Any:
    """Return settings of ingest that read pictures as the bundle learned them: in colour or not."""
    return dataclasses.replace(config, pixels="rgb" if "rgb" in kinds else "grey")


def _provenance(bundle: Path) -> dict[str, Any]:
    from hepar.provenance import command_line, sha256_file, stamp

    seal = sha256_file(bundle / "bundle.json")
    return stamp(command_line(), inputs={"bundle.json": seal})


def write_answer(out: Path, bundle: Path, answer: Any) -> None:
    """Write a CSV of slices, and those of patients and answers beside it."""
    from hepar.evaluate import write_predictions
    from hepar.model import write_answers

    provenance = _provenance(bundle)
    write_predictions(out, answer.slices, provenance)
    patients, answers = (
        out.with_name(f"{out.stem}_{name}{out.suffix}") for name in ("patients", "answers")
    )
    write_predictions(patients, answer.patients, provenance)
    write_answers(answers, answer.answers, provenance)


def _print_answer(manifest: Any, answer: Any, *, as_json: bool) -> None:
    rows = _patient_rows(answer)
    if as_json:
        findings = [*manifest.findings, *answer.findings]
        notes = [{"code": f.code, "where": f.where, "message": f.message} for f in findings]
        print_json({"patients": rows, "slices": len(answer.slices), "findings": notes})
        return
    for row in rows:
        row.update({key: "" for key, value in row.items() if value is None})
        row["answer"] = row["answer"] or "none"
        row["possible"] = " or ".join(row["possible"])
    print_table(rows)
    typer.echo("Research use only: not a medical device.")


def _patient_rows(answer: Any) -> list[dict[str, Any]]:
    labels = answer.patients.labels
    numbers = [answer.numbers(i) for i in range(len(answer.answers))]
    return [
        {
            "patient_id": said.patient_id,
            "predicted": predicted,
            **{
                f"p_{label}": round(values[j], 6) if values else None
                for j, label in enumerate(labels)
            },
            "answer": said.label,
            "possible": list(said.possible),
            **({} if said.flagged is None else {"flagged": said.flagged}),
            "reason": said.reason,
        }
        for said, (predicted, values) in zip(answer.answers, numbers, strict=True)
    ]
