"""The models of the folds on disk: what answered for each patient that was left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.data import LabelSet
from hepar.errors import BundleError
from hepar.model.head import Head, head_from_document, head_to_document
from hepar.provenance import write_atomic

__all__ = ["FoldModel", "read_folds", "write_folds"]


@dataclass(frozen=True, eq=False)
class FoldModel:
    """What a fold has of its own.

    Attributes:
        head: fitted without the fold's patients.
        weights: arrays of the network that were trained without them; empty where it is frozen. Of
            several networks, names of the second start with "1:", and so on.
    """

    head: Head
    weights: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def of_part(self, number: int) -> dict[str, NDArray[Any]]:
        """Return the arrays of one of the networks, by their names in it."""
        found = {}
        for name, array in self.weights.items():
            start, colon, rest = name.partition(":")
            numbered = bool(colon) and start.isdecimal()
            if (int(start) if numbered else 0) == number:
                found[rest if numbered else name] = array
        return found


def write_folds(path: Path, folds: Sequence[FoldModel]) -> None:
    """Write the models of folds 0, 1, ... into one safetensors file."""
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {}
    documents = []
    for number, fold in enumerate(folds):
        document, own = head_to_document(fold.head)
        documents.append(document)
        arrays |= {f"{number}/head/{name}": array for name, array in own.items()}
        arrays |= {
            f"{number}/network/{name}": np.ascontiguousarray(array)
            for name, array in fold.weights.items()
        }
    write_atomic(path, save(arrays, {"heads": json.dumps(documents)}))


def read_folds(path: Path, labels: LabelSet) -> tuple[FoldModel, ...]:
    """Read the models of folds 0, 1, ...

    Raises:
        BundleError: the file is missing or is not one that `write_folds` wrote.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            documents = json.loads((file.metadata() or {})["heads"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise BundleError(
            f"{path}: expected the models of the folds, got {error}. Fit the model again."
        ) from None

    def own(prefix: str) -> dict[str, NDArray[Any]]:
        return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    return tuple(
        FoldModel(head_from_document(labels, document, own(f"{i}/head/")), own(f"{i}/network/"))
        for i, document in enumerate(documents)
    )
