"""What a comparison compares: models read from TOML, from names, or from the weights at hand."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hepar.backbone import BACKBONES, list_weights
from hepar.config import LEVELS, PRESETS, RunConfig, config_from, merge
from hepar.errors import ConfigError
from hepar.fit import HEAD_KINDS
from hepar.registry import nearest

__all__ = ["ComparePlan", "ModelPlan", "folder_name", "read_plan"]


@dataclass(frozen=True)
class ModelPlan:
    """One row of the comparison.

    Attributes:
        name: of its folder and row.
        config: of a single model; of an ensemble, only what is not the members' counts.
        combine: "vote" or "stack" for an ensemble; "" for a single model.
        members: names of an ensemble's members.
    """

    name: str
    config: RunConfig
    combine: str = ""
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class ComparePlan:
    """What is compared.

    Attributes:
        models: in the order of fitting.
        seeds: of training; a model that draws nothing at random is fitted once.
        rule: the darkest point, to be compared, too, where livers are drawn; None where somebody
            has said what is compared.
    """

    models: tuple[ModelPlan, ...]
    seeds: tuple[int, ...]
    rule: ModelPlan | None = None


def read_plan(
    path: Path | None = None,
    names: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    seeds: str = "",
) -> ComparePlan:
    """Return what to compare.

    Args:
        path: TOML with `seeds`, a table `base` of settings by stage that all models share, and a
            table `models.NAME` each, with settings by stage, `preset` or `level`, or for an
            ensemble with `members` and `combine`.
        names: such as "vgg16", "vgg16:svm-rbf", "mobilenetv2:paper" or "vgg16+mobilenetv2", or a
            level such as "lesion"; with two single models or more, "vote" and "stack" are ensembles
            of all before them that weigh slices alike. Without a file and names: every network
            whose weights are found.
        settings: by stage; they win over the base, and models win over them.
        seeds: of training, comma-separated; "" for the file's, or 0.

    Raises:
        ConfigError: a name, a key or a member is unknown.
    """
    document: dict[str, Any] = {}
    if path is not None:
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: expected a TOML file, got {error}.") from error
        unknown = sorted(set(document) - {"seeds", "base", "models"})
        if unknown:
            known = ["seeds", "base", "models"]
            raise ConfigError(
                f"{path}: unknown key {unknown[0]!r}. {nearest(unknown[0], known)} "
                f"Known here: {', '.join(known)}."
            )
    base = merge(_numbers_alone(document.get("base", {})), settings or {})
    tables = dict(document.get("models", {}))
    if not tables:
        tables = _named(list(names) or _found())
    models: list[ModelPlan] = []
    for name, table in tables.items():
        models.append(_model(name, table, base, [model.name for model in models]))
    if not models:
        raise ConfigError("compare: expected models, got none. Name some with --models.")
    folders = Counter(folder_name(model.name) for model in models)
    twice = [folder for folder, n in folders.items() if n > 1]
    if twice:
        raise ConfigError(
            f"compare: expected names that make different folders, got two for {twice[0]!r}."
        )
    said = bool(document.get("models") or names) or models[0].config.recipe.name != "auto"
    rule = None if said else _model("rule", {"level": "rule"}, base, [])
    return ComparePlan(tuple(models), _seeds(seeds or document.get("seeds", (0,))), rule)


def folder_name(name: str) -> str:
    """Return the folder that a model of this name gets."""
    return "".join(c if c.isalnum() or c in "+-_." else "-" for c in name)


def _numbers_alone(base: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that leave controls and maps to `hepar run`, unless they ask for them."""
    off = {stage: {"run": False, **base.get(stage, {})} for stage in ("controls", "explain")}
    return {**base, **off}


def _seeds(given: Any) -> tuple[int, ...]:
    items = given.split(",") if isinstance(given, str) else given
    try:
        seeds = tuple(int(item) for item in items)
    except (TypeError, ValueError):
        seeds = ()
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds: expected different whole numbers, as in 0,1,2, got {given!r}.")
    return seeds


def _found() -> list[str]:
    found = [name for name, source in list_weights().items() if source]
    return [*found, *(["+".join(found), "vote"] if len(found) > 1 else [])]


_ALONE = {"mil", "volume"}
"""Levels whose models join no ensemble: they weigh slices, or answer for series."""


def _votes(table: Mapping[str, Any]) -> bool:
    """Return whether a model can be a member: a row a slice, and each of the same weight."""
    head = table.get("head", {})
    return "members" not in table and table.get("level") not in _ALONE and "aggregate" not in head


def _named(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return a table for each short name."""
    tables: dict[str, dict[str, Any]] = {}
    for name in names:
        if name in tables:
            raise ConfigError(f"--models: expected every model once, got {name!r} twice.")
        if name in {"vote", "stack"}:
            singles = [other for other, table in tables.items() if _votes(table)]
            if len(singles) < 2:
                raise ConfigError(
                    f"--models: expected two single models or more before {name!r}, got "
                    f"{', '.join(singles) or 'none'}. Name them first, as in "
                    f"efficientnet_lite0,mobilenetv2,{name}."
                )
            tables[name] = {"members": singles, "combine": name}
            continue
        tables[name] = {"level": name} if name in LEVELS else _single(name)
    return tables


def _single(name: str) -> dict[str, Any]:
    """Return the table of a name such as "vgg16:svm-rbf"."""
    backbone, _, how = name.partition(":")
    for part in backbone.split("+"):
        BACKBONES.get(part)
    first = BACKBONES.get(backbone.split("+")[0])
    start = {"level": "volume"} if first.depth else {} if first.timm_name else {"preset": "scratch"}
    table: dict[str, Any] = {"backbone": {"name": backbone}, **start}
    if how in PRESETS:
        table["preset"] = how
    elif how in HEAD_KINDS:
        table["head"] = {"kind": how}
        if how == "attention":
            table["head"]["aggregate"] = how
    elif how:
        known = [*PRESETS, *HEAD_KINDS]
        raise ConfigError(
            f"--models {name}: expected one of {', '.join(known)} after the colon, got "
            f"{how!r}. {nearest(how, known)}".rstrip()
        )
    return table


def _model(
    name: str, table: Mapping[str, Any], base: Mapping[str, Any], before: Sequence[str]
) -> ModelPlan:
    members = tuple(table.get("members", ()))
    combine = str(table.get("combine", "vote" if members else ""))
    settings = {k: v for k, v in table.items() if k not in {"members", "combine"}}
    config = config_from(merge(base, settings))
    if not members:
        return ModelPlan(name, config)
    if combine not in {"vote", "stack"}:
        raise ConfigError(f"models.{name}.combine: expected vote or stack, got {combine!r}.")
    for member in members:
        if member not in before:
            raise ConfigError(
                f"models.{name}.members: expected names of models before it, got {member!r}. "
                f"{nearest(member, before)}".rstrip()
            )
    if len(members) < 2:
        raise ConfigError(f"models.{name}.members: expected two or more, got {list(members)}.")
    return ModelPlan(name, config, combine, members)
