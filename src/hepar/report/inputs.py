"""Everything a section may look at: the files of one run, read once."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hepar.audit import Audit, grouped, read_audit
from hepar.data import Manifest, read_manifest
from hepar.errors import ReportError
from hepar.evaluate import Predictions, headline, read_predictions
from hepar.provenance import read_artefact

__all__ = ["ReportInputs", "read_inputs"]


@dataclass(frozen=True, eq=False)
class ReportInputs:
    """The files of a run.

    Attributes:
        folder: of the run.
        run: `run.json`.
        manifest: the cohort.
        split: `split.json`.
        recipe: `recipe.json`.
        slices: predictions per slice, or per series of a network of volumes.
        patients: predictions per patient.
        evaluation: `evaluation.json`.
        headline: the number to show first.
        samples: records of the pictures in `figures/samples.json`; empty where there are none.
        history: a row an epoch and fold from `history.csv`, fold None for the final fit; empty
            where no network was trained.
        audit: what was found before anything was learned; None where nothing was looked for.
        decision: `decision.json` of the bundle; empty where there is none.
        trust: `trust.json`; empty where there is none.
        controls: `controls.json`; empty where none were made.
        lesions: `lesions.json`; empty where no lesions were searched for.
        explanations: `explanations.json`; empty where none were made.
    """

    folder: Path
    run: Mapping[str, Any]
    manifest: Manifest
    split: Mapping[str, Any]
    recipe: Mapping[str, Any]
    slices: Predictions
    patients: Predictions
    evaluation: Mapping[str, Any]
    headline: Mapping[str, Any]
    samples: tuple[Mapping[str, Any], ...]
    history: tuple[Mapping[str, float | None], ...] = ()
    audit: Audit | None = None
    decision: Mapping[str, Any] = field(default_factory=dict)
    trust: Mapping[str, Any] = field(default_factory=dict)
    controls: Mapping[str, Any] = field(default_factory=dict)
    lesions: Mapping[str, Any] = field(default_factory=dict)
    explanations: Mapping[str, Any] = field(default_factory=dict)

    @property
    def main_level(self) -> str:
        """The level that counts: "slice" where images are not grouped, else "patient"."""
        return "slice" if self.slices.unit == "image" else "patient"

    @property
    def of_series(self) -> bool:
        """Whether a row of `slices` is a series, seen in 3D."""
        return bool(self.recipe["name"] == "volume")

    @property
    def things(self) -> str:
        """What a row of `slices` is, in words."""
        return "series" if self.of_series else "slices"

    @property
    def levels(self) -> list[str]:
        """What is measured: patients, and slices where they are other rows than patients."""
        if self.main_level == "slice":
            return ["slice"]
        same = self.of_series and len(self.slices) == len(self.patients)
        return ["patient"] if same else ["patient", "slice"]

    def table(self, level: str) -> Predictions:
        """Return the predictions of a level."""
        return self.patients if level == "patient" else self.slices

    def records(self, **wanted: object) -> list[Mapping[str, Any]]:
        """Return the metric records that have all the wanted values."""
        return [
            record
            for record in self.evaluation["metrics"]
            if all(record[key] == value for key, value in wanted.items())
        ]

    @property
    def partitions(self) -> list[str]:
        """What was evaluated, "test" first."""
        found = {record["partition"] for record in self.evaluation["metrics"]}
        return sorted(found, reverse=True)


def _read_history(path: Path) -> tuple[dict[str, float | None], ...]:
    """Read numbers an epoch and fold; an empty field is None."""
    if not path.is_file():
        return ()
    names = (
        "fold",
        "epoch",
        *(f"{p}_{q}" for p in ("train", "tune") for q in ("loss", "accuracy")),
    )
    with path.open(newline="", encoding="utf-8") as stream:
        try:
            return tuple(
                {name: float(row[name]) if row[name] else None for name in names}
                for row in csv.DictReader(stream)
            )
        except (KeyError, ValueError, TypeError) as error:
            raise ReportError(
                f"{path}: expected numbers in the columns {', '.join(names)}, got {error}. "
                "Train again."
            ) from None


def read_inputs(folder: Path) -> ReportInputs:
    """Read the files of a run.

    Raises:
        ReportError: the folder is not there, or its `history.csv` is not one.
        DataError: a file is missing or not what it should be.
    """
    if not folder.is_dir():
        raise ReportError(f"{folder}: expected the folder of a run, got none.")
    path = folder / "figures" / "samples.json"
    samples = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    manifest = read_manifest(folder / "manifest.csv")
    audit = read_audit(folder / "audit.json") if (folder / "audit.json").is_file() else None
    split = read_artefact(folder / "split.json", "split")
    if audit and split["unit"] == "group":
        manifest = grouped(manifest, audit)
    return ReportInputs(
        folder=folder,
        run=read_artefact(folder / "run.json", "run"),
        manifest=manifest,
        split=split,
        recipe=read_artefact(folder / "recipe.json", "recipe"),
        slices=read_predictions(folder / "predictions.csv"),
        patients=read_predictions(folder / "patients.csv"),
        evaluation=read_artefact(folder / "evaluation.json", "evaluation"),
        headline=headline(folder / "evaluation.json"),
        samples=tuple(samples),
        history=_read_history(folder / "history.csv"),
        audit=audit,
        decision=_optional(folder / "bundle", "decision"),
        trust=_optional(folder, "trust"),
        controls=_optional(folder, "controls"),
        lesions=_optional(folder, "lesions"),
        explanations=_optional(folder, "explanations"),
    )


def _optional(folder: Path, kind: str) -> Mapping[str, Any]:
    path = folder / f"{kind}.json"
    return read_artefact(path, kind) if path.is_file() else {}
