"""Write docs/reference from what the code says of itself: commands, settings, registries.

Run as `python tools/reference.py` after a change of an option, a setting or a registry; a test
compares what it would write with what is there.
"""

from __future__ import annotations

import html
import inspect
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from hepar.backbone import BACKBONES
from hepar.config import PRESETS, describe_settings
from hepar.evaluate import METRICS
from hepar.explain import AUTO, METHODS, OCCLUSION, method_of
from hepar.explain.occlusion import occlude
from hepar.fit import HEAD_KINDS
from hepar.model import HEADS
from hepar.preprocess import RECIPES, STEPS

FOLDER = Path(__file__).parents[1] / "docs" / "reference"


def pages() -> dict[str, str]:
    """Return every page by its file name."""
    return {"commands.md": _commands(), "settings.md": _settings(), "names.md": _names()}


def _commands() -> str:
    """Return what `--help` says of every command, as typer writes it."""
    call = [sys.executable, "-m", "typer", "hepar.cli", "utils", "docs", "--name", "hepar"]
    text = subprocess.run(call, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    listed = re.compile(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+\n")
    text = listed.sub("", html.unescape(text)).replace("```console\n$ ", "```console\n")
    return re.sub(r"\n{3,}", "\n\n", text).replace("# `hepar`", "# Commands", 1).strip() + "\n"


def _settings() -> str:
    head = (
        "# Settings\n\nOf a TOML file (`--config`; a table per stage) or `--set STAGE.KEY=VALUE`."
        f" Presets: {', '.join(f'`{name}`' for name in PRESETS)}.\n"
    )
    stages: dict[str, list[list[str]]] = {}
    for row in describe_settings():
        stage, _, key = str(row["setting"]).partition(".")
        stages.setdefault(stage, []).append([f"`{key}`", _default(row["default"]), row["meaning"]])
    tables = [
        f"\n## {stage}\n\n{_table(['setting', 'default', 'meaning'], rows)}"
        for stage, rows in stages.items()
    ]
    return head + "".join(tables)


def _default(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{text}`" if text else "none"


def _names() -> str:
    networks = [
        [f"`{name}`", s.input_size, s.feature_dim, s.params_millions, s.gflops, s.licence]
        for name, s in BACKBONES.items()
    ]
    asked = ["name", "input, px", "features", "parameters, millions", "GFLOPs", "licence"]
    parts = [
        "# Names that settings take\n",
        "## Networks (`--backbone`)\n",
        _table(asked, networks),
        "## Recipes (`--recipe`)\n",
        _table(["name", "what it does"], _meanings(RECIPES.items())),
        "## Steps of recipes\n",
        _table(["name", "what it does"], _meanings(STEPS.items())),
        f"## Heads of bundles\n\n`--head` takes {', '.join(f'`{kind}`' for kind in HEAD_KINDS)}.\n",
        _table(["name", "what it is"], _meanings(HEADS.items())),
        "## Heat maps (`--method`)\n",
        _table(
            ["name", "what it shows"],
            _meanings([(AUTO, method_of), *METHODS.items(), (OCCLUSION, occlude)]),
        ),
        "## Metrics\n",
        _table(["name", "meaning"], [[f"`{n}`", metric.meaning] for n, metric in METRICS.items()]),
    ]
    return "\n".join(parts)


def _meanings(things: Iterable[tuple[str, object]]) -> list[list[str]]:
    """Return names and the first lines of docstrings."""
    rows = []
    for name, of in things:
        line = (inspect.getdoc(of) or "").partition("\n")[0].removeprefix("Return ")
        rows.append([f"`{name}`", line[:1].upper() + line[1:]])
    return rows


def _table(head: list[str], rows: Iterable[list[object]] | Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def main() -> int:
    """Write every page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
