"""A bundle of several findings: one bundle each, asked about the same tiles at once."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hepar.config import BackboneConfig
from hepar.data import Manifest
from hepar.errors import BundleError, DataError
from hepar.evaluate import Predictions, aggregate
from hepar.model.bundle import Bundle
from hepar.model.inputs import compute_features
from hepar.model.predictor import Answer, Predictor, load_predictor
from hepar.model.sealed import SHARED
from hepar.provenance import read_artefact, sha256_file, write_artefact

__all__ = [
    "FINDINGS_FILE",
    "FindingsPredictor",
    "load_findings",
    "slide_rows",
    "slide_scores",
    "write_findings_bundle",
]

FINDINGS_FILE = "findings.json"


@dataclass(frozen=True, eq=False)
class FindingsPredictor:
    """The bundles of several findings, loaded.

    Attributes:
        predictors: finding -> the predictor of its bundle.
        folders: finding -> where that lies.
    """

    predictors: Mapping[str, Predictor]
    folders: Mapping[str, Path]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of the pixels that the bundles were made from."""
        return next(iter(self.predictors.values())).bundle.kinds

    def predict(
        self, manifest: Manifest, config: BackboneConfig | None = None, *, gate: bool = True
    ) -> dict[str, Answer]:
        """Answer for every finding; features that bundles share are computed once.

        Args:
            manifest: the new tiles.
            config: batch and workers.
            gate: let each bundle's gate refuse patients that it was not made for.

        Returns:
            Finding -> predictions per tile and patient.

        Raises:
            BundleError: no tile could be answered for.
            RecipeError: the recipe does not fit the pixels.
        """
        answers: dict[str, Answer] = {}
        known: list[tuple[Bundle, Any]] = []
        for name, predictor in self.predictors.items():
            readers = predictor.readers(manifest)
            features = next((f for b, f in known if _share(b, predictor.bundle)), None)
            if features is None:
                found = [
                    compute_features(network, reader, config or BackboneConfig())
                    for network, reader in zip(predictor.networks, readers, strict=True)
                ]
                features = np.concatenate(found, axis=2)
                known.append((predictor.bundle, features))
            answers[name] = predictor.answer(features, readers, config, gate=gate)
        return answers

    def slides(self, answers: Mapping[str, Answer], manifest: Manifest) -> list[dict[str, Any]]:
        """Return a row per slide, as `slide_rows` does, from what `predict` answered."""
        tables = {}
        for name, answer in answers.items():
            decision = self.predictors[name].bundle.decision
            tables[name] = slide_scores(answer.slices, manifest, decision.aggregate, decision.top_k)
        return slide_rows(tables, manifest)


def _share(one: Bundle, other: Bundle) -> bool:
    """Return whether two bundles compute the same features."""
    return (one.views, one.augment, len(one.parts)) == (
        other.views, other.augment, len(other.parts),
    ) and all(
        a.recipe == b.recipe
        and a.graph == b.graph
        and all(np.array_equal(array, b.weights[key]) for key, array in a.weights.items())
        for a, b in zip(one.parts, other.parts, strict=True)
    )  # fmt: skip


def slide_scores(predictions: Predictions, manifest: Manifest, how: str, top_k: int) -> Predictions:
    """Turn tiles into one score a slide, as `hepar.evaluate.aggregate` does for a patient.

    Args:
        predictions: of tiles.
        manifest: says which slide (`series_id`) a tile is of; a tile without stands for itself.
        how: as in `aggregate`.
        top_k: as in `aggregate`.

    Returns:
        A row per slide, whose id stands as `patient_id`; partition and fold are its patient's.
    """
    slides = {s.sample_id: s.series_id or s.sample_id for s in manifest.samples}
    own = np.array([slides[str(name)] for name in predictions.sample_id], np.str_)
    return aggregate(dataclasses.replace(predictions, patient_id=own), how, top_k)


def write_findings_bundle(
    folder: Path, bundles: Mapping[str, Path], provenance: Mapping[str, Any]
) -> None:
    """Copy the bundles of findings into one folder, which appears complete or not at all.

    Graphs and weights that several hold lie once in `shared`, called by their SHA-256.

    Args:
        folder: replaced where it holds such a bundle already.
        bundles: finding -> folder of its bundle; the last part of a name is its folder.
        provenance: from `hepar.provenance.stamp`.

    Raises:
        BundleError: the folder exists and holds something else.
    """
    if folder.exists() and not (folder / FINDINGS_FILE).is_file() and any(folder.iterdir()):
        raise BundleError(
            f"{folder}: expected a new folder or a bundle of findings to replace, got other "
            "files. Choose another folder."
        )
    entries = []
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        room = Path(temporary) / "bundle"
        for name, source in bundles.items():
            place = source.parent.name
            if place == SHARED:
                raise BundleError(f"finding {name!r}: its folder would be {SHARED!r}. Rename it.")
            shutil.copytree(source, room / place)
        _store_once(room)
        for name, source in bundles.items():
            place = source.parent.name
            seal = sha256_file(room / place / "bundle.json")
            entries.append({"finding": name, "folder": place, "bundle_sha256": seal})
        write_artefact(room / FINDINGS_FILE, "findings_bundle", {"findings": entries}, provenance)
        if folder.exists():
            folder.replace(Path(temporary) / "old")
        room.replace(folder)


def _store_once(room: Path) -> None:
    """Move files that several bundles in a folder hold alike beside them."""
    files: dict[str, list[Path]] = {}
    for path in sorted(room.glob("*/bundle.json")):
        for file, sha256 in read_artefact(path, "bundle")["files"].items():
            files.setdefault(sha256, []).append(path.parent / file)
    for sha256, copies in files.items():
        if len(copies) > 1:
            (room / SHARED).mkdir(exist_ok=True)
            copies[0].replace(room / SHARED / sha256)
            for copy in copies[1:]:
                copy.unlink()


def load_findings(folder: Path, threads: int = 0) -> FindingsPredictor:
    """Load a bundle of findings, every bundle of it verified.

    Args:
        folder: that `write_findings_bundle` wrote.
        threads: inside the networks; 0 for one per core.

    Raises:
        BundleError: it is none, or a bundle of it is missing or altered.
    """
    try:
        document = read_artefact(folder / FINDINGS_FILE, "findings_bundle")
    except DataError as error:
        raise BundleError(str(error)) from error
    predictors, folders = {}, {}
    for entry in document["findings"]:
        own = folder / entry["folder"]
        predictors[entry["finding"]] = load_predictor(own, threads)
        folders[entry["finding"]] = own
        if sha256_file(own / "bundle.json") != entry["bundle_sha256"]:
            raise BundleError(
                f"{own}: expected the bundle that the others were made with, got another. "
                "Copy the whole folder again from where it was made."
            )
    _check_shared(folder, folders.values())
    return FindingsPredictor(predictors, folders)


def _check_shared(folder: Path, bundles: Iterable[Path]) -> None:
    """Refuse a file in `shared` that is no bundle's."""
    place = folder / SHARED
    if not place.is_dir():
        return
    named = {
        sha256
        for own in bundles
        for sha256 in read_artefact(own / "bundle.json", "bundle")["files"].values()
    }
    strange = sorted({path.name for path in place.iterdir()} - named)
    if strange:
        raise BundleError(
            f"{place}: expected files of these bundles alone, got {strange[0]!r}. Copy the whole "
            "folder again from where it was made."
        )


def slide_rows(tables: Mapping[str, Predictions], manifest: Manifest) -> list[dict[str, Any]]:
    """Return a row per slide: whose it is, and each finding's probability and reference.

    Args:
        tables: finding -> a row per slide, from `slide_scores`.
        manifest: of the tiles.
    """
    owner = {s.series_id or s.sample_id: s.patient_id for s in manifest.samples}
    counts = Counter(s.series_id or s.sample_id for s in manifest.samples)
    rows = {
        slide: {"slide_id": slide, "patient_id": owner[slide], "tiles": counts[slide]}
        for slide in sorted(owner)
    }
    for name, table in tables.items():
        positive = table.labels.index(name)
        for i, slide in enumerate(table.patient_id.tolist()):
            known = str(table.reference[i])
            rows[slide] |= {
                f"p_{name}": round(float(table.probabilities[i, positive]), 6),
                name: "" if not known else int(known == name),
            }
    whole = [key for name in tables for key in (f"p_{name}", name)]
    return [{**row, **{key: row.get(key, "") for key in whole}} for row in rows.values()]
