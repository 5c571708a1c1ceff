"""A thin face: parse, call, print. Every rule lives in the room it belongs to."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hepar.errors import HeparError

if TYPE_CHECKING:
    from hepar.config import IngestConfig

__all__ = ["app", "main"]

app = typer.Typer(
    name="hepar",
    help="From labelled liver CT to a classifier, a report, and the truth about how good it is.\n\n"
    "Research use only: not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
weights_app = typer.Typer(help="Pretrained weights: what is found where, and the only download.")
app.add_typer(weights_app, name="weights", rich_help_panel="Look around")

JOB, STAGE, LOOK = "The main job", "One stage alone", "Look around"

Source = Annotated[
    Path,
    typer.Argument(
        help="A table (CSV), a folder of class folders, a DICOM tree, or NIfTI volumes.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a machine to read.")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file with a table per stage.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.KEY=VALUE", help="Override one setting; repeatable."),
]
Labels = Annotated[
    Path | None,
    typer.Option("--labels", help="CSV of labels by patient_id, study_id or series_id."),
]
Pattern = Annotated[
    str | None,
    typer.Option(
        "--patient-pattern", help="Regular expression over paths; group 1 is the patient."
    ),
]
Unknown = Annotated[
    bool,
    typer.Option("--patients-unknown", help="Go on without patient ids: image-level folds."),
]
Flip = Annotated[bool, typer.Option("--flip-vertical", help="Pictures are stored upside down.")]
Gaps = Annotated[bool, typer.Option("--allow-gaps", help="Accept series with missing slices.")]
Order = Annotated[
    str | None,
    typer.Option("--label-order", help="Labels from harmless to severe, comma-separated."),
]


def _print(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _settings(**options: object) -> list[str]:
    """Turn the options that were given into stage.key=value settings."""
    given = {name: value for name, value in options.items() if value not in (None, False)}
    return [
        f"{name.replace('__', '.')}={'true' if value is True else value}"
        for name, value in given.items()
    ]


def _ingest_config(given: list[str], settings: list[str] | None) -> IngestConfig:
    """Return the settings of ingest alone; those of another stage would change nothing here."""
    from hepar.config import read_config
    from hepar.errors import ConfigError

    for setting in settings or []:
        if not setting.strip().startswith("ingest."):
            raise ConfigError(f"--set {setting!r}: expected ingest.KEY=VALUE in this command.")
    return read_config(None, [*given, *(settings or [])]).ingest


@app.command(rich_help_panel=JOB)
def run(
    source: Source,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; resumes if it exists.")],
    labels: Labels = None,
    preset: Annotated[
        str, typer.Option(help="paper, best (head first, then the last stage), or scratch.")
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
        typer.Option(help="linear, svm, svm-rbf, or dense (trained).", show_default="linear"),
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
        str | None, typer.Option(help="Slices to patient: mean, top or max.", show_default="mean")
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

    given = _settings(
        ingest__labels_csv=labels,
        ingest__patient_pattern=patient_pattern,
        ingest__patients_unknown=patients_unknown,
        ingest__label_order=label_order,
        ingest__flip_vertical=flip_vertical,
        ingest__allow_gaps=allow_gaps,
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
    report = run_all(source, out, read_config(config, [*given, *(settings or [])], preset))
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
        _print(summary)
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
    from hepar.compare_job import read_plan
    from hepar.config import read_settings

    given = _settings(
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
    if as_json:
        _print({"page": str(page), "best": document["best"], "models": document["models"]})
        return
    _print_table(
        [
            {
                "model": model["name"],
                **{
                    name: "-" if found["value"] is None else found["value"]
                    for name, found in model["metrics"].items()
                },
                "train s": model["cost"]["train_seconds"],
                "ms/image": model["cost"]["predict_ms"],
            }
            for model in document["models"]
        ]
    )
    typer.echo(f"page  {page}")


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

    given = _settings(
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
    _print_table(
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


@app.command(rich_help_panel=JOB)
def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle that `hepar run` wrote.")],
    paths: Annotated[
        list[Path], typer.Argument(help="Pictures, DICOM series, NIfTI volumes, tables, folders.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="CSV of slices; patients go beside it.")
    ] = None,
    patient_pattern: Pattern = None,
    flip_vertical: Flip = False,
    allow_gaps: Gaps = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Answer for new images with a bundle: probabilities per slice and per patient."""
    from hepar.ingest import ingest_files
    from hepar.model import load_predictor

    given = _settings(
        ingest__patient_pattern=patient_pattern,
        ingest__flip_vertical=flip_vertical,
        ingest__allow_gaps=allow_gaps,
    )
    ingest_config = _ingest_config(given, settings)
    predictor = load_predictor(bundle)
    manifest = ingest_files(paths, ingest_config)
    answer = predictor.predict(manifest)
    if out is not None:
        from hepar.evaluate import write_predictions
        from hepar.provenance import sha256_file, stamp

        seal = sha256_file(bundle / "bundle.json")
        provenance = stamp(" ".join(sys.argv), inputs={"bundle.json": seal})
        write_predictions(out, answer.slices, provenance)
        write_predictions(
            out.with_name(f"{out.stem}_patients{out.suffix}"), answer.patients, provenance
        )
    rows = _patient_rows(answer.patients)
    if as_json:
        findings = [*manifest.findings, *answer.findings]
        notes = [{"code": f.code, "where": f.where, "message": f.message} for f in findings]
        _print({"patients": rows, "slices": len(answer.slices), "findings": notes})
        return
    _print_table(rows)
    typer.echo("Research use only: not a medical device.")


def _patient_rows(patients: Any) -> list[dict[str, object]]:
    return [
        {
            "patient_id": str(patients.patient_id[i]),
            "predicted": str(patients.predicted[i]),
            **{
                f"p_{label}": round(float(patients.probabilities[i, j]), 6)
                for j, label in enumerate(patients.labels)
            },
        }
        for i in range(len(patients))
    ]


def _print_table(rows: list[dict[str, object]]) -> None:
    """Print rows as a plain aligned table that a terminal and a pipe can both show."""
    if not rows:
        return
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


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
    from hepar.provenance import stamp

    given = _settings(
        ingest__labels_csv=labels,
        ingest__patient_pattern=patient_pattern,
        ingest__patients_unknown=patients_unknown,
        ingest__label_order=label_order,
        ingest__flip_vertical=flip_vertical,
        ingest__allow_gaps=allow_gaps,
    )
    manifest = ingest_source(source, _ingest_config(given, settings))
    write_manifest(out, manifest, stamp(" ".join(sys.argv), inputs={"source": str(source)}))
    counts = {
        label: sum(sample.label == label for sample in manifest.samples)
        for label in manifest.labels
    }
    if as_json:
        _print(
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
    people = f"{len(manifest.patients)} patients" if manifest.patients_known else "patients unknown"
    listed = ", ".join(f"{n} {label}" for label, n in counts.items())
    typer.echo(f"{out}: {people}, {len(manifest)} samples ({listed})")
    for finding in manifest.findings[:20]:
        typer.echo(f"{finding.severity}: {finding.where}: {finding.message}")
    if len(manifest.findings) > 20:
        typer.echo(f"... and {len(manifest.findings) - 20} more findings in the .meta.json")


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
) -> None:
    """Divide patients, never images, into folds and an optional test partition."""
    from hepar.config import SplitConfig
    from hepar.data import read_manifest
    from hepar.provenance import sha256_file, stamp
    from hepar.split import make_split, split_table, write_split

    cohort = read_manifest(manifest)
    made = make_split(cohort, SplitConfig(folds, test, seed, column))
    provenance = stamp(
        " ".join(sys.argv), seed=seed, inputs={"manifest.csv": sha256_file(manifest)}
    )
    write_split(out, made, cohort, provenance)
    _print_table(
        [{k: "-" if v is None else v for k, v in row.items()} for row in split_table(made, cohort)]
    )


@app.command(rich_help_panel=STAGE)
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.")],
) -> None:
    """Write report.html anew from the files of a run."""
    from hepar.report import write_report

    typer.echo(str(write_report(folder)))


@app.command(rich_help_panel=STAGE)
def phantom(
    out: Annotated[Path, typer.Option("--out", help="Folder to write the cohort to.")],
    patients: Annotated[int, typer.Option(help="A third each malignant, benign, normal.")] = 60,
    slices: Annotated[int, typer.Option(help="Slices a patient.")] = 8,
    difficulty: Annotated[float, typer.Option(help="0 easy to 1 very hard.")] = 0.5,
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
    typer.echo(f"{out}: {patients} patients; labels.csv, truth.csv, dicom/, nifti/, png/")


@app.command(rich_help_panel=LOOK)
def backbones(as_json: Json = False) -> None:
    """List the networks: size, cost, licence, and whether their weights are found."""
    from hepar.backbone import BACKBONES, list_weights

    found = list_weights()
    rows: list[dict[str, object]] = [
        {
            "name": name,
            "input": spec.input_size,
            "features": spec.feature_dim,
            "params_millions": spec.params_millions,
            "gflops": spec.gflops,
            "licence": spec.licence,
            "weights": found[name] or "not found",
        }
        for name, spec in BACKBONES.items()
    ]
    if as_json:
        _print(rows)
    else:
        _print_table(rows)


@weights_app.command("list")
def weights_list(as_json: Json = False) -> None:
    """Say where each network's weights are found."""
    backbones(as_json)


@weights_app.command("fetch")
def weights_fetch(
    name: Annotated[str, typer.Argument(help="A network of `hepar backbones`.")],
) -> None:
    """Download a network's weights into the hub cache; nothing else in hepar downloads."""
    from hepar.backbone import fetch_weights

    typer.echo(str(fetch_weights(name)))


@app.command(rich_help_panel=LOOK)
def info(as_json: Json = False) -> None:
    """Print versions, cores, recipes and steps: what to paste into a bug report."""
    import platform
    from importlib import metadata

    from hepar.preprocess import RECIPES, STEPS
    from hepar.provenance import package_version

    packages = ("numpy", "onnxruntime", "opencv-python-headless", "pydicom", "scikit-learn")
    facts: dict[str, object] = {
        "hepar": package_version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        **{name: metadata.version(name) for name in packages},
        "HEPAR_WEIGHTS": os.environ.get("HEPAR_WEIGHTS", ""),
        "recipes": list(RECIPES),
        "steps": list(STEPS),
    }
    if as_json:
        _print(facts)
        return
    for name, value in facts.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        typer.echo(f"{name:24}{shown}")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Warnings only.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    import logging

    from hepar.progress import show_log

    if version:
        from hepar.provenance import package_version

        typer.echo(package_version())
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise typer.Exit
    follows = os.environ.get("RANK", "0") != "0"  # under torchrun, the first process speaks
    show_log(logging.WARNING if quiet or follows else logging.INFO)


def main() -> None:
    """Run the command line: 0 done, 1 something failed, 2 the input or options are refused."""
    try:
        app()
    except HeparError as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise SystemExit(2) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(f"error: {where}{error.strerror or error}.", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
