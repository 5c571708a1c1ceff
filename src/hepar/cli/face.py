"""What every command shares: the application, its options, how results are printed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hepar.errors import HeparError

if TYPE_CHECKING:
    from hepar.config import IngestConfig

__all__ = [
    "JOB",
    "LOOK",
    "STAGE",
    "Config",
    "Flip",
    "Gaps",
    "Json",
    "Labels",
    "NewData",
    "Order",
    "Pattern",
    "Settings",
    "Source",
    "Unknown",
    "app",
    "ingest_config_of",
    "main",
    "print_json",
    "print_table",
    "settings_of",
]

app = typer.Typer(
    name="hepar",
    help="From labelled liver CT to a classifier, a report, and the truth about how good it is.\n\n"
    "Research use only: not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_INTERRUPTED = 130
"""What a shell calls a command that Ctrl-C ended."""

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
NewData = Annotated[
    list[Path], typer.Argument(help="Pictures, DICOM series, NIfTI volumes, tables, folders.")
]
Unknown = Annotated[
    bool,
    typer.Option(
        "--patients-unknown",
        help="Go on without patient ids: folds of groups of images that look like one patient's.",
    ),
]
Flip = Annotated[bool, typer.Option("--flip-vertical", help="Pictures are stored upside down.")]
Gaps = Annotated[bool, typer.Option("--allow-gaps", help="Accept series with missing slices.")]
Order = Annotated[
    str | None,
    typer.Option("--label-order", help="Labels from harmless to severe, comma-separated."),
]


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def settings_of(**options: object) -> list[str]:
    """Turn the options that were given into stage.key=value settings."""
    given = {name: value for name, value in options.items() if value not in (None, False)}
    return [
        f"{name.replace('__', '.')}={'true' if value is True else value}"
        for name, value in given.items()
    ]


def ingest_config_of(given: list[str], settings: list[str] | None) -> IngestConfig:
    """Return the settings of ingest alone; those of another stage would change nothing here."""
    from hepar.config import read_config
    from hepar.errors import ConfigError

    for setting in settings or []:
        if not setting.strip().startswith("ingest."):
            raise ConfigError(f"--set {setting!r}: expected ingest.KEY=VALUE in this command.")
    return read_config(None, [*given, *(settings or [])]).ingest


def print_table(rows: list[dict[str, object]]) -> None:
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


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Warnings only.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="All findings, and what is left unsaid else.")
    ] = False,
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
    least = logging.DEBUG if verbose else logging.INFO
    show_log(logging.WARNING if quiet or follows else least)


def main() -> None:
    """Run the command line: 0 done, 1 something failed, 2 the input or options are refused."""
    try:
        app()
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            typer.echo(
                "interrupted: a run or a comparison goes on when it is called again.", err=True
            )
        raise
    except HeparError as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise SystemExit(2) from None
    except MemoryError:
        typer.echo(
            "error: memory: expected enough for this work, got too little. Name fewer or smaller "
            "files, or lower ingest.max_megabytes to leave out those that are too large.",
            err=True,
        )
        raise SystemExit(1) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(f"error: {where}{error.strerror or error}.", err=True)
        raise SystemExit(1) from None
