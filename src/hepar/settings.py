"""What is wrong with settings, said before any file is read."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Mapping
from typing import Any

from hepar.backbone import BACKBONES, find_weights
from hepar.config import RunConfig
from hepar.errors import BackboneError, ConfigError
from hepar.explain import AUTO, METHODS, OCCLUSION
from hepar.fit import HEAD_KINDS, needs_training
from hepar.ingest import check_config
from hepar.model import find_segmenter
from hepar.preprocess import RECIPES
from hepar.registry import nearest

__all__ = ["check"]

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "ingest.pixels": ("grey", "rgb"),
    "split.unit": ("patient", "image"),
    "head.kind": tuple(HEAD_KINDS),
    "head.aggregate": ("mean", "top", "max", "noisy-or", "attention"),
    "decide.calibration": ("temperature", "vector", "isotonic", "none"),
    "decide.conformal": ("lac", "aps", "none"),
    "decide.bound": ("estimate", "lower"),
    "finetune.start": ("random", "linear"),
    "explain.method": (AUTO, *METHODS, OCCLUSION),
    "finetune.cache": ("auto", "on", "off"),
}

_BOUNDS: Mapping[str, tuple[float, float]] = {
    "ingest.max_megapixels": (0.001, math.inf),
    "ingest.max_megabytes": (0.001, math.inf),
    "split.folds": (2, math.inf),
    "split.test": (0, 0.9),
    "split.seed": (0, 2**32 - 1),
    "segment.folds": (2, math.inf),
    "segment.size": (64, 1024),
    "segment.steps": (1, math.inf),
    "segment.batch": (1, math.inf),
    "segment.learning_rate": (1e-12, 10),
    "finder.pixels": (100, math.inf),
    "finder.steps": (1, math.inf),
    "segment.seed": (0, 2**32 - 1),
    "recipe.size": (0, 4096),
    "recipe.windows": (1, 16),
    "backbone.batch": (1, math.inf),
    "backbone.workers": (0, 1024),
    "backbone.threads": (0, 1024),
    "finetune.epochs": (1, math.inf),
    "finetune.batch": (1, math.inf),
    "finetune.learning_rate": (1e-12, 10),
    "finetune.weight_decay": (0, 10),
    "finetune.dropout": (0, 0.99),
    "finetune.label_smoothing": (0, 0.99),
    "finetune.tune": (0, 0.9),
    "finetune.patience": (1, math.inf),
    "finetune.plateau": (1, math.inf),
    "finetune.cache_gb": (0, math.inf),
    "finetune.seed": (0, 2**32 - 1),
    "head.views": (1, math.inf),
    "head.inner_folds": (2, math.inf),
    "head.beside": (0, 1 / 3),
    "head.top_k": (1, math.inf),
    "decide.coverage": (0.5, 0.999),
    "decide.sensitivity": (0.01, 1),
    "decide.gate_share": (0, 0.5),
    "controls.permutations": (1, 10000),
    "controls.seed": (0, 2**32 - 1),
    "explain.slices": (1, 100000),
    "explain.checked": (0, 1000),
    "explain.known": (0, 100000),
    "explain.seed": (0, 2**32 - 1),
    "evaluate.resamples": (100, math.inf),
    "evaluate.level": (0.5, 0.9999),
    "evaluate.seed": (0, 2**32 - 1),
}
"""Least and greatest value of each number; what is not a number is outside."""


def check(config: RunConfig, *, networks: bool = True) -> None:
    """Refuse what cannot work, whatever the source is.

    Args:
        config: of a run.
        networks: False for an ensemble, which has only its members' networks.

    Raises:
        HeparError: a name is unknown, a value makes no sense, or weights cannot be found.
    """
    values = dataclasses.asdict(config)
    for name, known in _CHOICES.items():
        _check_choice(name, _value(values, name), known)
    for name, bounds in _BOUNDS.items():
        _check_number(name, _value(values, name), *bounds)
    if not all(width >= 1 for width in config.finetune.hidden):
        raise ConfigError(f"finetune.hidden: expected 1 or more, got {config.finetune.hidden}.")
    if config.segment.size % 32:
        raise ConfigError(f"segment.size: expected a multiple of 32, got {config.segment.size}.")
    if config.head.aggregate == "attention" and config.head.kind != "attention":
        raise ConfigError(
            f"head.aggregate=attention: expected head.kind=attention, got {config.head.kind}. "
            "Use --level mil."
        )
    check_config(config.ingest)
    if config.recipe.name != "auto":
        RECIPES.get(config.recipe.name)
    if config.head.centre or config.head.beside:
        _check_context(config)
    if config.segment.model:
        find_segmenter(config.segment.model)
    _check_stains(config)
    if networks:
        _check_networks(config)


def _value(values: Mapping[str, Any], name: str) -> Any:
    stage, _, key = name.partition(".")
    return values[stage][key]


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(
            f"{name}: expected one of {', '.join(known)}, got {value!r}. "
            f"{nearest(value, known)}".rstrip()
        )


def _check_number(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        upper = f"to {most:g}" if most < math.inf else "or more"
        raise ConfigError(f"{name}: expected {least:g} {upper}, got {value}.")


def _check_stains(config: RunConfig) -> None:
    """Refuse tiles where what unmixes their stains is not installed."""
    tiles = config.recipe.name == "auto" and config.ingest.pixels == "rgb"
    wanted = tiles or config.recipe.name == "histology" or config.augment.stain > 0
    if wanted and importlib.util.find_spec("skimage") is None:
        raise ConfigError(
            "recipe.name=histology: expected scikit-image, got none installed. Run `pip install "
            "'hepar[histology]'`, or use --recipe rgb --set augment.stain=0."
        )


def _check_finder(config: RunConfig) -> None:
    """Refuse what does not go with a network that looks for lesions."""
    name = config.backbone.name
    if "+" in name:
        raise ConfigError(f"backbone.name={name}: a network that looks for lesions stands alone.")
    if config.recipe.name != "lesion":
        raise ConfigError(
            f"backbone.name={name}: expected recipe.name=lesion, got {config.recipe.name!r}. Use "
            "--level lesion or --level rule."
        )
    if needs_training(config):
        raise ConfigError(
            f"backbone.name={name}: expected finetune.freeze=all and a head without layers, got "
            f"{config.finetune.freeze} and {config.head.kind}: it is taught by masks, not by steps."
        )
    if config.head.kind == "attention":
        raise ConfigError(
            f"backbone.name={name}: expected another head than attention, which is learned from "
            "patients' labels: of lesions the likeliest places decide. Use --head linear."
        )
    if config.head.views > 1:
        raise ConfigError(
            f"backbone.name={name}: expected head.views=1, got {config.head.views}: it sees places "
            "in millimetres, which are not augmented."
        )


def _check_context(config: RunConfig) -> None:
    if needs_training(config):
        raise ConfigError(
            "head.centre, head.beside: expected a frozen network, got one that is trained. Leave "
            "them out."
        )
    if not config.head.centre:
        return
    if config.recipe.name == "lesion":
        raise ConfigError(
            "head.centre: expected a network that sees slices, got one that looks for lesions. "
            "Leave it out."
        )
    if config.explain.run:
        raise ConfigError(
            "head.centre: expected explain.run=false: a map of one slice cannot show what was "
            "taken away from all of them. Add --set explain.run=false."
        )


def _check_volumes(config: RunConfig, names: list[str]) -> None:
    """Refuse networks of volumes on slices, networks of slices on volumes, and both together."""
    deep = [name for name in names if BACKBONES.get(name).depth]
    if deep and (len(names) > 1 or config.recipe.name != "volume"):
        raise ConfigError(
            f"backbone.name={config.backbone.name}: expected {deep[0]} alone and "
            f"recipe.name=volume, got {config.recipe.name!r}. Use --level volume."
        )
    if not deep and config.recipe.name == "volume":
        raise ConfigError(
            f"recipe.name=volume: expected a network of volumes, got {names[0]!r}. Use "
            "--level volume, with --backbone "
            f"{', '.join(name for name, spec in BACKBONES.items() if spec.depth)}."
        )
    if config.recipe.windows > 1 and not deep:
        raise ConfigError(
            f"recipe.windows: expected 1 but for volumes, got {config.recipe.windows}. Use --level "
            "volume."
        )


def _check_networks(config: RunConfig) -> None:
    names = config.backbone.name.split("+")
    _check_volumes(config, names)
    for name in names:
        spec = BACKBONES.get(name)
        spec.frozen_prefixes(config.finetune.freeze)
        if 0 < config.recipe.size < spec.min_size:
            raise ConfigError(
                f"recipe.size: expected {spec.min_size} pixels or more for {name}, or 0 for its "
                f"own {spec.input_size}, got {config.recipe.size}."
            )
        if spec.fitted_to != "labels":
            _check_finder(config)
            continue
        if config.recipe.name == "lesion":
            raise ConfigError(
                f"recipe.name=lesion: expected a network that looks for lesions, got {name!r}. "
                "Use --level lesion or --level rule."
            )
        if not spec.timm_name and not config.backbone.weights and config.finetune.freeze != "none":
            raise BackboneError(
                f"backbone {name!r}: it has no pretrained weights to freeze. Train it from "
                "scratch with --preset scratch, or ask for a control with --weights random."
            )
        find_weights(name, config.backbone.weights)
    if not needs_training(config):
        return
    if config.head.kind == "attention":
        raise ConfigError(
            "head.kind=attention: expected finetune.freeze=all, got "
            f"{config.finetune.freeze}: attention is learned on frozen features."
        )
    if len(names) > 1:
        raise ConfigError(
            f"backbone.name={config.backbone.name}: expected one network to fine-tune, got "
            f"{len(names)}. Concatenated features are frozen ones: use --freeze all."
        )
    if config.finetune.start == "linear" and config.finetune.hidden:
        raise ConfigError(
            "finetune.start=linear: expected no hidden layers, got "
            f"finetune.hidden={config.finetune.hidden}. Set finetune.hidden to an empty list."
        )
