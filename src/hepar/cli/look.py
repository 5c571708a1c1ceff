"""Look around: networks, weights, versions."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from hepar.cli.face import LOOK, Json, app, print_json, print_table

weights_app = typer.Typer(help="Pretrained weights: what is found where, and the only download.")
app.add_typer(weights_app, name="weights", rich_help_panel=LOOK)


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
            "weights": found[name] or ("not found" if spec.timm_name else "none needed"),
        }
        for name, spec in BACKBONES.items()
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(rows)


@weights_app.command("list")
def weights_list(as_json: Json = False) -> None:
    """Say where each network's weights are found."""
    backbones(as_json)


@weights_app.command("fetch")
def weights_fetch(
    name: Annotated[
        str, typer.Argument(help="A network of `hepar backbones`, or liver-unet, which segments.")
    ],
) -> None:
    """Download a network's weights into the hub cache; nothing else in hepar downloads."""
    from hepar.backbone import LIVER_UNET, fetch_liver_unet, fetch_weights

    if name != LIVER_UNET:
        typer.echo(str(fetch_weights(name)))
        return
    typer.echo(str(fetch_liver_unet()))
    typer.echo(
        "liver-unet: Apache-2.0, KU Leuven. LiTS may be among its training data: never evaluate "
        "it on LiTS.",
        err=True,
    )


@app.command(rich_help_panel=LOOK)
def settings(
    start: Annotated[
        str, typer.Argument(help="Only settings that begin so, such as `finetune`.")
    ] = "",
    as_json: Json = False,
) -> None:
    """List the settings that a TOML file or `--set` can change: default and meaning."""
    import shutil
    import textwrap

    from hepar.config import describe_settings
    from hepar.errors import ConfigError

    settings = describe_settings()
    rows = [row for row in settings if str(row["setting"]).startswith(start)]
    if not rows:
        stages = dict.fromkeys(str(row["setting"]).split(".")[0] for row in settings)
        raise ConfigError(f"No setting begins with {start!r}. Stages: {', '.join(stages)}.")
    if as_json:
        print_json(rows)
        return
    width = shutil.get_terminal_size((100, 0)).columns
    for row in rows:
        typer.echo(f"{row['setting']} = {_as_set(row['default'])}")
        indent = "    "
        text = textwrap.fill(
            str(row["meaning"]), width, initial_indent=indent, subsequent_indent=indent
        )
        typer.echo(text)


def _as_set(value: object) -> str:
    """Write a default as `--set` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(f"{item:g}" for item in value) if isinstance(value, tuple) else str(value)


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
        print_json(facts)
        return
    for name, value in facts.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        typer.echo(f"{name:24}{shown}")
