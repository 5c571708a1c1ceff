"""A trained classifier on disk: networks, head, decision; sealed by hashes, no pickle."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.config import AugmentConfig
from hepar.data import LabelSet, Unit
from hepar.errors import BundleError, HeparError
from hepar.model.decision import Decision, decision_from_json
from hepar.model.gate import Gate, gate_from_document, gate_to_document
from hepar.model.head import Head, head_from_document, head_to_document
from hepar.model.known import Known
from hepar.model.sealed import (
    SHARED,
    check_files,
    fresh_folder,
    place_of,
    read_sealed,
    seal,
)
from hepar.preprocess import Recipe, recipe_from_json
from hepar.provenance import sha256_file, write_artefact, write_atomic

__all__ = [
    "Bundle",
    "Part",
    "read_bundle",
    "read_part",
    "write_bundle",
    "write_decision",
    "write_gate",
    "write_known",
    "write_least_lesion",
    "write_map_scale",
    "write_part",
]

_HEAD = "head.safetensors"
_GATE = ("gate.json", "gate.safetensors")
_MAPS = ("maps.json",)
_KNOWN = ("known.json", "known.safetensors")
_LESIONS = ("lesions.json",)


@dataclass(frozen=True, eq=False)
class Part:
    """One network, and what it sees.

    Attributes:
        recipe: from slice to network input.
        graph: ONNX graph without its weights.
        weights: arrays by initializer name, as they ran in training.
        backbone: name, source, licence, sha256, is_random, feature_dim, input_size.
    """

    recipe: Recipe
    graph: bytes
    weights: Mapping[str, NDArray[Any]]
    backbone: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Bundle:
    """Everything needed to predict.

    Attributes:
        labels: the classes, in order of severity.
        parts: the networks; their pooled features, side by side, are what the head sees.
        head: from features to probabilities.
        augment: what views after the first look like.
        views: of each image, whose probabilities are averaged; 1 is the image as it is.
        unit: what its folds left out in turn: "patient", "group" or "image".
        kinds: of the pixels it was trained on: "hu", "picture", "rgb".
        provenance: who made it, from what.
        decision: from the head's scores to answers.
        gate: refuses what the model was not made for; None for none.
        map_scale: log-odds that heat maps show in full colour; None where none was learned.
        map_unit: the method that the scale belongs to: "grad-cam" or "occlusion".
        map_verdict: whether maps of left-out patients found lesions, and whether that is a warning.
        least_lesion: highest likelihood that a place must reach to be marked as a lesion.
        known: slices that it learned from, as features; None where none are kept.
        centre: features are less their mean over each patient's own slices.
        beside: share of each neighbouring slice in a slice's features.
        segmenter: outlines the liver where nobody has drawn it; None leaves that to a rule.
    """

    labels: LabelSet
    parts: tuple[Part, ...]
    head: Head
    augment: AugmentConfig
    views: int
    unit: Unit
    kinds: tuple[str, ...]
    provenance: Mapping[str, Any]
    decision: Decision = field(default_factory=Decision)
    gate: Gate | None = None
    map_scale: float | None = None
    map_unit: str = "grad-cam"
    map_verdict: tuple[str, bool] = ("", False)
    known: Known | None = None
    least_lesion: float = 0.0
    centre: bool = False
    beside: float = 0.0
    segmenter: Part | None = None


def write_part(room: Path, name: str, part: Part) -> dict[str, Any]:
    """Write a network's graph and weights under a name, and return what a document says of it."""
    from safetensors.numpy import save

    write_atomic(room / f"graph-{name}.onnx", part.graph)
    arrays = {key: np.ascontiguousarray(value) for key, value in part.weights.items()}
    write_atomic(room / f"weights-{name}.safetensors", save(arrays))
    return {"recipe": part.recipe.to_json(), "backbone": dict(part.backbone)}


def read_part(
    room: Path, name: str, document: Mapping[str, Any], hashes: Mapping[str, str]
) -> Part:
    """Return a network that `write_part` wrote and described.

    Args:
        room: folder of the bundle.
        name: of the network in it.
        document: what `write_part` returned.
        hashes: file -> SHA-256, by which files that bundles share are found.
    """
    from safetensors.numpy import load

    graph, weights = (
        place_of(room, file, hashes[file]).read_bytes()
        for file in (f"graph-{name}.onnx", f"weights-{name}.safetensors")
    )
    return Part(recipe_from_json(document["recipe"]), graph, load(weights), document["backbone"])


def write_bundle(folder: Path, bundle: Bundle) -> None:
    """Write a bundle; the folder appears complete or not at all.

    Args:
        folder: replaced where it already holds a bundle.
        bundle: what to write.

    Raises:
        BundleError: the folder exists and is not a bundle.
    """
    from safetensors.numpy import save

    with fresh_folder(folder, "bundle.json") as room:
        parts = [write_part(room, str(i), part) for i, part in enumerate(bundle.parts)]
        outliner = bundle.segmenter and write_part(room, "segmenter", bundle.segmenter)
        head, arrays = head_to_document(bundle.head)
        write_atomic(room / _HEAD, save(arrays))
        content: dict[str, Any] = {
            "labels": list(bundle.labels),
            "parts": parts,
            "segmenter": outliner,
            "head": head,
            "augment": dataclasses.asdict(bundle.augment),
            "views": bundle.views,
            "centre": bundle.centre,
            "beside": bundle.beside,
            "unit": bundle.unit,
            "kinds": list(bundle.kinds),
            "files": {path.name: sha256_file(path) for path in sorted(room.iterdir())},
        }
        content["seal"] = seal({**content, "provenance": dict(bundle.provenance)})
        write_artefact(room / "bundle.json", "bundle", content, bundle.provenance)
        write_decision(room, bundle.decision, bundle.provenance)
        write_gate(room, bundle.gate, bundle.provenance)
        write_map_scale(
            room, bundle.map_scale, bundle.provenance, bundle.map_verdict, bundle.map_unit
        )
        write_known(room, bundle.known, bundle.provenance)


def write_decision(folder: Path, decision: Decision, provenance: Mapping[str, Any]) -> None:
    """Write how a bundle's scores become answers, in place of what it said before.

    Args:
        folder: that holds `bundle.json`.
        decision: learned from the model's out-of-fold scores.
        provenance: from `hepar.provenance.stamp`.
    """
    content = {**decision.to_json(), "bundle_sha256": sha256_file(folder / "bundle.json")}
    content["seal"] = seal({**content, "provenance": dict(provenance)})
    write_artefact(folder / "decision.json", "decision", content, provenance)


def _sealed(folder: Path, kind: str) -> dict[str, Any]:
    """Return a document that belongs to the bundle in a folder, as it was written."""
    path = folder / f"{kind}.json"
    document = read_sealed(path, kind)
    if document.get("bundle_sha256") != sha256_file(folder / "bundle.json"):
        raise BundleError(
            f"{path}: expected the file as written for this bundle, got another. "
            "Copy the bundle again from where it was made."
        )
    return document


def write_gate(folder: Path, gate: Gate | None, provenance: Mapping[str, Any]) -> None:
    """Write a bundle's gate, in place of the one it had; None takes that away.

    Args:
        folder: that holds `bundle.json`.
        gate: learned from the model's training slices.
        provenance: from `hepar.provenance.stamp`.
    """
    from safetensors.numpy import save

    document, arrays = folder / _GATE[0], folder / _GATE[1]
    document.unlink(missing_ok=True)
    arrays.unlink(missing_ok=True)
    if gate is None:
        return
    content, values = gate_to_document(gate)
    write_atomic(arrays, save(values))
    content |= {
        "bundle_sha256": sha256_file(folder / "bundle.json"),
        "arrays_sha256": sha256_file(arrays),
    }
    content["seal"] = seal({**content, "provenance": dict(provenance)})
    write_artefact(document, "gate", content, provenance)


def write_map_scale(
    folder: Path,
    scale: float | None,
    provenance: Mapping[str, Any],
    verdict: tuple[str, bool] = ("", False),
    unit: str = "grad-cam",
) -> None:
    """Write what a bundle's heat maps show in full colour; None takes that away.

    Args:
        folder: that holds `bundle.json`.
        scale: in log-odds, above 0.
        provenance: from `hepar.provenance.stamp`.
        verdict: what was measured of such maps, and whether it is a warning.
        unit: the method that the scale belongs to.
    """
    path = folder / _MAPS[0]
    path.unlink(missing_ok=True)
    if scale is None:
        return
    content: dict[str, Any] = {
        "scale": scale,
        "unit": unit,
        "verdict": verdict[0],
        "warns": verdict[1],
        "bundle_sha256": sha256_file(folder / "bundle.json"),
    }
    content["seal"] = seal({**content, "provenance": dict(provenance)})
    write_artefact(path, "maps", content, provenance)


def write_least_lesion(folder: Path, least: float | None, provenance: Mapping[str, Any]) -> None:
    """Write which places a bundle marks as lesions; None takes that away.

    Args:
        folder: that holds `bundle.json`.
        least: highest likelihood that a place must reach, 0 to 1.
        provenance: from `hepar.provenance.stamp`.
    """
    path = folder / _LESIONS[0]
    path.unlink(missing_ok=True)
    if least is None:
        return
    content = {"least": least, "bundle_sha256": sha256_file(folder / "bundle.json")}
    content["seal"] = seal({**content, "provenance": dict(provenance)})
    write_artefact(path, "lesions", content, provenance)


def write_known(folder: Path, known: Known | None, provenance: Mapping[str, Any]) -> None:
    """Write slices that a bundle's model learned from; None takes them away.

    Args:
        folder: that holds `bundle.json`.
        known: their features, labels and patients' numbers.
        provenance: from `hepar.provenance.stamp`.
    """
    from safetensors.numpy import save

    document, arrays = folder / _KNOWN[0], folder / _KNOWN[1]
    document.unlink(missing_ok=True)
    arrays.unlink(missing_ok=True)
    if known is None:
        return
    write_atomic(arrays, save({k: np.ascontiguousarray(v) for k, v in vars(known).items()}))
    content: dict[str, Any] = {
        "n_slices": len(known.labels),
        "bundle_sha256": sha256_file(folder / "bundle.json"),
        "arrays_sha256": sha256_file(arrays),
    }
    content["seal"] = seal({**content, "provenance": dict(provenance)})
    write_artefact(document, "known", content, provenance)


def _read_maps(folder: Path) -> dict[str, Any]:
    if not (folder / _MAPS[0]).is_file():
        return {}
    document = _sealed(folder, "maps")
    verdict = (document.get("verdict", ""), document.get("warns", False))
    unit = document.get("unit", "grad-cam")
    return {"map_scale": float(document["scale"]), "map_verdict": verdict, "map_unit": unit}


def _read_least_lesion(folder: Path) -> float:
    there = (folder / _LESIONS[0]).is_file()
    return float(_sealed(folder, "lesions")["least"]) if there else 0.0


def _read_known(folder: Path) -> Known | None:
    found = _read_arrays(folder, _KNOWN)
    return found and Known(**found[1])


def _read_gate(folder: Path) -> Gate | None:
    found = _read_arrays(folder, _GATE)
    return found and gate_from_document(*found)


def _read_arrays(
    folder: Path, files: tuple[str, str]
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """Return a sealed document and its arrays; None where the bundle has none."""
    from safetensors.numpy import load

    if not (folder / files[0]).is_file():
        return None
    document = _sealed(folder, Path(files[0]).stem)
    arrays = folder / files[1]
    if document.get("arrays_sha256") != sha256_file(arrays):
        raise BundleError(
            f"{arrays}: expected the file as written for this bundle, got another. "
            "Copy the bundle again from where it was made."
        )
    return document, load(arrays.read_bytes())


def _verified(folder: Path) -> dict[str, Any]:
    """Return bundle.json after checking the seal and the hash of every file it names."""
    document = read_sealed(folder / "bundle.json", "bundle")
    there = {path.name for path in folder.iterdir()}
    later = [
        name for files in (_GATE, _MAPS, _KNOWN, _LESIONS) if files[0] in there for name in files
    ]
    check_files(folder, document["files"], ["bundle.json", "decision.json", *later])
    return document


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle after verifying every byte of it.

    The hashes tell an accident or a careless edit; they do not prove who made the bundle.

    Raises:
        BundleError: the folder is no bundle, a file is missing, added, altered or cut short.
    """
    from safetensors.numpy import load

    if (folder / "findings.json").is_file() and not (folder / "bundle.json").exists():
        inside = (path for path in sorted(folder.iterdir()) if path.is_dir())
        own = ", ".join(path.name for path in inside if path.name != SHARED)
        raise BundleError(
            f"{folder}: expected a bundle of one model, got one of several findings. Name one of "
            f"its folders: {own}."
        )
    if (folder / "bundle" / "bundle.json").is_file():
        raise BundleError(
            f"{folder}: expected a bundle, got the folder of a run. Name {folder / 'bundle'}."
        )
    if not (folder / "bundle.json").is_file():
        raise BundleError(
            f"{folder}: expected a bundle folder with bundle.json, got none. "
            "`hepar run` writes one to OUT/bundle."
        )
    document = _verified(folder)
    labels, files = LabelSet(tuple(document["labels"])), document["files"]
    try:
        return Bundle(
            labels=labels,
            parts=tuple(
                read_part(folder, str(i), part, files) for i, part in enumerate(document["parts"])
            ),
            segmenter=document.get("segmenter")
            and read_part(folder, "segmenter", document["segmenter"], files),
            head=head_from_document(
                labels, document["head"], load(place_of(folder, _HEAD, files[_HEAD]).read_bytes())
            ),
            augment=AugmentConfig(**document["augment"]),
            views=document["views"],
            centre=document.get("centre", False),
            beside=document.get("beside", 0.0),
            unit=document["unit"],
            kinds=tuple(document["kinds"]),
            provenance=document["provenance"],
            decision=decision_from_json(_sealed(folder, "decision")),
            gate=_read_gate(folder),
            known=_read_known(folder),
            least_lesion=_read_least_lesion(folder),
            **_read_maps(folder),
        )
    except HeparError:
        raise
    except Exception as error:
        raise BundleError(
            f"{folder}: expected a bundle of this version of hepar, got {error}."
        ) from error
