"""What the gate looks at: the whole slice, whatever the model itself looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepar.backbone import Network, Weights, extract_features, find_weights
from hepar.config import BackboneConfig
from hepar.data import Manifest
from hepar.data.study import Kind
from hepar.errors import BundleError
from hepar.model.gate import Gate, Turned, Verdict
from hepar.model.inputs import InputReader, compute_features
from hepar.preprocess import RECIPES, NetworkInput, Recipe

__all__ = [
    "LOOKING",
    "coloured_paths",
    "gate_features",
    "gate_recipes",
    "judge_patients",
    "looking_network",
    "turned_features",
]

LOOKING = "efficientnet_lite0"
"""The network whose weights every installation has; it looks at whole slices."""

_RECIPES: Mapping[Kind, str] = {"hu": "ct", "picture": "picture", "rgb": "rgb"}

_SIDE = 224

Floats = NDArray[np.float32]


def looking_network(threads: int = 0) -> tuple[Network, Weights]:
    """Return the network that looks at whole slices, with its weights.

    They are those installed with hepar, whatever else is at hand: a bundle's gate must find the
    same ones on another machine.

    Args:
        threads: inside the network; 0 for one per core.
    """
    weights = find_weights(LOOKING, "package")
    return Network.from_weights(weights, threads), weights


def gate_recipes(network: NetworkInput) -> dict[str, Recipe]:
    """Return what the gate's network sees of each kind of pixels: the whole slice, no mask.

    Example:
        >>> recipes = gate_recipes(NetworkInput(224, (0.5,) * 3, (0.5,) * 3))
        >>> {kind: recipe.name for kind, recipe in recipes.items()}
        {'hu': 'ct', 'picture': 'picture', 'rgb': 'rgb'}
    """
    return {kind: Recipe(name, RECIPES.get(name)(kind, network)) for kind, name in _RECIPES.items()}


def gate_features(
    network: Network,
    manifest: Manifest,
    recipes: Mapping[str, Recipe],
    config: BackboneConfig | None = None,
    cache: tuple[str, Path] | None = None,
) -> Floats:
    """Return what the gate judges by, for every sample of a manifest.

    Args:
        network: the gate's own.
        manifest: HU, pictures or both.
        recipes: by kind, from `gate_recipes`.
        config: batch and workers.
        cache: SHA-256 of the network's weights, and the folder that keeps features between runs;
            None for none.

    Returns:
        (n, d) in the order of the manifest.
    """
    rows: dict[int, Floats] = {}
    for kind, recipe in recipes.items():
        own = [i for i, sample in enumerate(manifest.samples) if sample.kind == kind]
        if own:
            reader = InputReader(_only(manifest, own), recipe)
            key, folder = cache or ("", None)
            found = compute_features(network, reader, config or BackboneConfig(), key, folder)
            rows.update(zip(own, found[:, 0], strict=True))
    return np.stack([rows[i] for i in range(len(manifest))])


def turned_features(
    network: Network,
    manifest: Manifest,
    recipes: Mapping[str, Recipe],
    config: BackboneConfig | None = None,
) -> Turned:
    """Return a function from positions in a manifest to features of these slices upside down.

    Args:
        network: the gate's own.
        manifest: HU, pictures or both.
        recipes: by kind, from `gate_recipes`.
        config: batch and workers.
    """
    bounds = config or BackboneConfig()

    def compute(positions: Sequence[int]) -> Floats:
        rows: dict[int, Floats] = {}
        for kind, recipe in recipes.items():
            own = sorted({i for i in positions if manifest.samples[i].kind == kind})
            reader = InputReader(_only(manifest, own), recipe)

            def over(inputs: Sequence[int], read: InputReader = reader) -> list[Floats]:
                return [np.ascontiguousarray(image[:, ::-1]) for image in read(inputs)]

            found = extract_features(
                network, "", reader.keys, over, batch=bounds.batch, workers=bounds.workers
            )
            rows.update(zip(own, found, strict=True))
        return np.stack([rows[i] for i in positions])

    return compute


def judge_patients(
    gate: Gate, manifest: Manifest, config: BackboneConfig | None = None
) -> tuple[list[Verdict], dict[str, Verdict]]:
    """Look at every slice of new data as the gate does, and judge slices and patients.

    Args:
        gate: of a bundle.
        manifest: new data.
        config: batch and workers.

    Returns:
        A verdict per sample, in order, and one per patient_id.

    Raises:
        BundleError: the network that the gate looks with is here with other weights.
    """
    bounds = config or BackboneConfig()
    network, weights = looking_network(bounds.threads)
    if weights.sha256 != gate.weights:
        raise BundleError(
            f"gate: expected {LOOKING} with weights {gate.weights[:12]}..., got "
            f"{weights.sha256[:12]}.... Fit the model again, or predict with --no-gate."
        )
    recipes = gate_recipes(NetworkInput(_SIDE, weights.mean, weights.std))
    features = gate_features(network, manifest, recipes, bounds)
    verdicts = gate.judge(features, manifest.samples, coloured_paths(manifest))
    turned = turned_features(network, manifest, recipes, bounds)
    return verdicts, gate.judge_patients(verdicts, manifest.samples, turned)


def coloured_paths(manifest: Manifest) -> frozenset[str]:
    """Return the paths of a manifest's colour pictures, as ingest has noted them."""
    return frozenset(f.where for f in manifest.findings if f.code == "colour")


def _only(manifest: Manifest, positions: Sequence[int]) -> Manifest:
    """Return the manifest of some samples, in its own order."""
    return replace(manifest, samples=tuple(manifest.samples[i] for i in positions))
