"""A trained classifier on disk: graph, weights, head and recipe; sealed by hashes, no pickle."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.data import LabelSet
from hepar.errors import BundleError, DataError, HeparError
from hepar.model.head import LinearHead
from hepar.preprocess import Recipe, recipe_from_json
from hepar.provenance import (
    digest,
    read_artefact,
    sha256_file,
    write_artefact,
    write_atomic,
)

__all__ = ["Bundle", "read_bundle", "write_bundle"]

_FILES = ("graph.onnx", "weights.safetensors", "head.safetensors")


@dataclass(frozen=True, eq=False)
class Bundle:
    """Everything needed to predict.

    Attributes:
        labels: the classes, in order of severity.
        recipe: from slice to network input.
        graph: the backbone's ONNX graph without its weights.
        weights: the backbone's arrays by initializer name, as they ran in training.
        head: from features to probabilities.
        backbone: name, source, licence, sha256, is_random, feature_dim, input_size.
        aggregate: how slices become a patient: "mean", "top" or "max".
        top_k: slices that "top" averages.
        patients_known: False where it was trained without patient ids.
        provenance: who made it, from what.
    """

    labels: LabelSet
    recipe: Recipe
    graph: bytes
    weights: Mapping[str, NDArray[Any]]
    head: LinearHead
    backbone: Mapping[str, Any]
    aggregate: str
    top_k: int
    patients_known: bool
    provenance: Mapping[str, Any]


def _seal(document: Mapping[str, Any]) -> str:
    unsealed = {"seal", "kind", "schema_version"}
    return digest({key: value for key, value in document.items() if key not in unsealed})


def write_bundle(folder: Path, bundle: Bundle) -> None:
    """Write a bundle; the folder appears complete or not at all.

    Args:
        folder: replaced where it already holds a bundle.
        bundle: what to write.

    Raises:
        BundleError: the folder exists and is not a bundle.
    """
    from safetensors.numpy import save

    if folder.exists() and not (folder / "bundle.json").exists() and any(folder.iterdir()):
        raise BundleError(
            f"{folder}: expected a new folder or an old bundle to replace, got other files. "
            "Choose another folder."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        room = Path(name) / "bundle"
        room.mkdir()
        write_atomic(room / "graph.onnx", bundle.graph)
        arrays = {key: np.ascontiguousarray(value) for key, value in bundle.weights.items()}
        write_atomic(room / "weights.safetensors", save(arrays))
        write_atomic(room / "head.safetensors", save(bundle.head.to_arrays()))
        content: dict[str, Any] = {
            "labels": list(bundle.labels),
            "recipe": bundle.recipe.to_json(),
            "backbone": dict(bundle.backbone),
            "aggregate": bundle.aggregate,
            "top_k": bundle.top_k,
            "patients_known": bundle.patients_known,
            "files": {file: sha256_file(room / file) for file in _FILES},
        }
        content["seal"] = _seal({**content, "provenance": dict(bundle.provenance)})
        write_artefact(room / "bundle.json", "bundle", content, bundle.provenance)
        old = Path(name) / "old"
        if folder.exists():
            folder.replace(old)
        room.replace(folder)
        shutil.rmtree(old, ignore_errors=True)


def _verified(folder: Path) -> dict[str, Any]:
    """Return bundle.json after checking the seal and the hash of every file it names."""
    document = read_artefact(folder / "bundle.json", "bundle")
    if document.get("seal") != _seal(document):
        raise BundleError(
            f"{folder / 'bundle.json'}: expected the file as written, got one altered since. "
            "Copy the bundle again from where it was made."
        )
    found = sorted(path.name for path in folder.iterdir())
    expected = sorted([*document["files"], "bundle.json"])
    if found != expected:
        raise BundleError(
            f"{folder}: expected the files {expected}, got {found}. "
            "Copy the bundle again from where it was made."
        )
    for file, sha256 in document["files"].items():
        if sha256_file(folder / file) != sha256:
            raise BundleError(
                f"{folder / file}: expected SHA-256 {sha256[:12]}..., got another; the file was "
                "altered or cut short. Copy the bundle again from where it was made."
            )
    return document


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle after verifying every byte of it.

    The hashes tell an accident or a careless edit; they do not prove who made the bundle.

    Raises:
        BundleError: the folder is no bundle, a file is missing, added, altered or cut short.
    """
    from safetensors.numpy import load

    if not (folder / "bundle.json").is_file():
        raise BundleError(
            f"{folder}: expected a bundle folder with bundle.json, got none. "
            "`hepar run` writes one to OUT/bundle."
        )
    try:
        document = _verified(folder)
    except DataError as error:
        raise BundleError(str(error)) from error
    labels = LabelSet(tuple(document["labels"]))
    try:
        return Bundle(
            labels=labels,
            recipe=recipe_from_json(document["recipe"]),
            graph=(folder / "graph.onnx").read_bytes(),
            weights=load((folder / "weights.safetensors").read_bytes()),
            head=LinearHead.from_arrays(labels, load((folder / "head.safetensors").read_bytes())),
            backbone=document["backbone"],
            aggregate=document["aggregate"],
            top_k=document["top_k"],
            patients_known=document["patients_known"],
            provenance=document["provenance"],
        )
    except HeparError:
        raise
    except Exception as error:
        raise BundleError(
            f"{folder}: expected a bundle of this version of hepar, got {error}."
        ) from error
