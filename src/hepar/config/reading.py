"""From TOML, presets and `--set` to a configuration; unknown keys are refused."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hepar.config.stages import RunConfig
from hepar.errors import ConfigError
from hepar.registry import nearest

__all__ = ["LEVELS", "PRESETS", "config_from", "merge", "read_config", "read_settings"]

Config = TypeVar("Config")

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "paper": {
        "recipe": {"name": "paper"},
        "head": {"kind": "dense"},
        "finetune": {"freeze": "early"},
        "augment": {"flip_lr": True},
    },
    "best": {
        "head": {"kind": "dense"},
        "finetune": {
            "freeze": "early",
            "start": "linear",
            "hidden": [],
            "freeze_norm": True,
            "learning_rate": 1e-5,
            "label_smoothing": 0.1,
            "epochs": 20,
            "patience": 5,
        },
    },
    "histopathology": {
        "ingest": {"pixels": "rgb", "findings": "all"},
        "recipe": {"name": "histology"},
        "backbone": {"name": "efficientnet_b2"},
        "augment": {"flip_lr": True, "flip_ud": True, "stain": 0.1},
        "head": {"views": 4, "aggregate": "top"},
    },
    "scratch": {
        "backbone": {"name": "small_cnn"},
        "head": {"kind": "dense"},
        "finetune": {"freeze": "none", "learning_rate": 1e-3},
    },
}
"""What `--preset` stands for: the paper's fine-tuning; LP-FT (the head first, then the last stage
with little steps, Kumar 2022); several findings in stained RGB tiles; a small network without
pretraining."""

LEVELS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "slice": {},
    "slab": {"recipe": {"name": "slab"}},
    "mil": {"head": {"kind": "attention", "aggregate": "attention"}},
    "volume": {
        "backbone": {"name": "resnet10_3d", "batch": 4},
        "recipe": {"name": "volume"},
        "head": {"kind": "dense"},
        "finetune": {
            "freeze": "none",
            "hidden": [],
            "batch": 4,
            "learning_rate": 1e-3,
            "epochs": 30,
        },
        "explain": {"method": "occlusion", "slices": 20, "checked": 10},
    },
    "lesion": {
        "backbone": {"name": "lesion_finder"},
        "recipe": {"name": "lesion"},
        "head": {"beside": 0.25},
    },
    "rule": {
        "backbone": {"name": "darkest_point"},
        "recipe": {"name": "lesion"},
        "explain": {"run": False},
    },
}
"""What `--level` stands for: a network that sees the slice; the slice between its neighbours;
slices that attention weighs, taught by patients' labels alone; a whole series in millimetres, by a
3D network from scratch; pixels of the liver, told apart by what lesion masks teach; the darkest
place of the liver, of which only a threshold is learned."""


def _convert(where: str, kind: Any, value: Any) -> Any:
    """Return `value` as the type a field declares, from TOML or from the text of `--set`."""
    if typing.get_origin(kind) is tuple:
        items = value.split(",") if isinstance(value, str) and value else value or ()
        inner = typing.get_args(kind)[0]
        if not isinstance(items, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {value!r}.")
        return tuple(_convert(where, inner, item) for item in items)
    if kind is bool and isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    if kind in {int, float} and isinstance(value, str):
        try:
            return kind(value)
        except ValueError:
            pass
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: expected {kind.__name__}, got {value!r}.")
    return value


def _fill(kind: type[Config], values: Mapping[str, Any], where: str) -> Config:
    known = typing.get_type_hints(kind)
    filled: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{where}.{key}" if where else key
        if key not in known:
            raise ConfigError(
                f"unknown setting {name!r}. {nearest(key, known)} Known here: {', '.join(known)}."
            )
        if dataclasses.is_dataclass(known[key]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{name}: expected a table [{name}], got {value!r}.")
            filled[key] = _fill(typing.cast("type[Any]", known[key]), value, name)
        else:
            filled[key] = _convert(name, known[key], value)
    return kind(**filled)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by stage where those of `over` win.

    A key `preset` or `level` in either brings the settings of that name, which both win over.

    Raises:
        ConfigError: there is no such preset or level.
    """
    merged: dict[str, Any] = {}
    named = {"preset": PRESETS, "level": LEVELS}
    layers = [base, over]
    for key, known in named.items():
        name = over.get(key, base.get(key, ""))
        if name and name not in known:
            raise ConfigError(
                f"{key}: expected one of {', '.join(known)}, got {name!r}. "
                f"{nearest(str(name), known)}".rstrip()
            )
        layers.insert(0, known.get(name, {}))
    for layer in layers:
        for stage, table in layer.items():
            if isinstance(table, Mapping):
                merged[stage] = {**merged.get(stage, {}), **table}
            elif stage not in named:
                merged[stage] = table
    return merged


def config_from(values: Mapping[str, Any]) -> RunConfig:
    """Return the configuration that settings by stage describe, as `merge` returns them.

    Raises:
        ConfigError: a key is unknown, or a value is of a wrong type.
    """
    return _fill(RunConfig, values, "")


def read_settings(settings: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return "stage.key=value" texts as settings by stage.

    Raises:
        ConfigError: a text is not of that form.
    """
    tables: dict[str, dict[str, Any]] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        stage, dot, key = name.strip().partition(".")
        if not equals or not dot:
            raise ConfigError(f"--set {setting!r}: expected stage.key=value, as in split.folds=3.")
        tables.setdefault(stage, {})[key] = value.strip()
    return tables


def read_config(
    path: Path | None = None, settings: Iterable[str] = (), preset: str = "", level: str = ""
) -> RunConfig:
    """Return the configuration of a run.

    Args:
        path: a TOML file with a table per stage; None for the defaults.
        settings: "stage.key=value" texts that win over the file.
        preset: name of settings that the file and `settings` win over.
        level: the same, for what a model looks at.

    Returns:
        The configuration, complete and checked.

    Raises:
        ConfigError: the file is missing or not TOML, a key is unknown, or a value is of a wrong
            type.

    Example:
        >>> read_config(settings=["split.folds=3"]).split.folds
        3
        >>> read_config(settings=["split.fold=3"])
        Traceback (most recent call last):
        hepar.errors.ConfigError: unknown setting 'split.fold'. Did you mean 'folds'? Known here: folds, test, seed, column, unit.
    """  # noqa: E501
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"{path}: expected a TOML file, got none.") from None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: expected a TOML file, got {error}.") from error
    values |= {key: name for key, name in (("preset", preset), ("level", level)) if name}
    return config_from(merge(values, read_settings(settings)))
