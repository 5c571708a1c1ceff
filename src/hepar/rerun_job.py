"""A run made again from its own record, and what differs."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from hepar.config import config_from
from hepar.data import read_manifest
from hepar.errors import ConfigError, DataError
from hepar.evaluate import read_predictions
from hepar.findings_job import run_findings
from hepar.main_job import run
from hepar.provenance import package_version, read_artefact

__all__ = ["Rerun", "reproduce_run"]

_FILES = ("predictions.csv", "patients.csv")
_SHOWN = 5
"""Names of files that a difference lists; the rest is a count."""


@dataclasses.dataclass(frozen=True)
class Rerun:
    """What became of making a run again.

    Attributes:
        same: whether slices and patients are predicted as before, byte for byte.
        differences: one line each: in packages, data, weights and predictions.
    """

    same: bool
    differences: tuple[str, ...]


def reproduce_run(folder: Path, out: Path, source: Path | None = None) -> Rerun:
    """Make a run again from its record, without controls and maps, and compare the predictions.

    Args:
        folder: of the run.
        out: folder for the new one.
        source: where the data are now; None for where they were.

    Raises:
        ConfigError: the folder holds no finished `hepar run`, of one label or of findings, or the
            source is gone.
        HeparError: the source is refused.
    """
    record = _record(folder)
    where = source or Path(record["source"])
    if not where.exists():
        raise ConfigError(
            f"{where}: expected the source of {folder}, got nothing. "
            "Name where it is now with --source."
        )
    config = config_from(record["config"])
    config = dataclasses.replace(
        config,
        controls=dataclasses.replace(config.controls, run=False),
        explain=dataclasses.replace(config.explain, run=False),
    )
    make = run_findings if config.ingest.findings else run
    make(where, out, config, record["provenance"]["command"])
    differences = [*_packages(record), *_data(folder, out)]
    same = True
    for place in _places(folder):
        before, now = folder / place, out / place
        if not (now / _FILES[0]).is_file():
            same = False
            differences.append(f"{place}: was fitted, and could not be again")
            continue
        alike = all((before / name).read_bytes() == (now / name).read_bytes() for name in _FILES)
        named = f"{place}: " if place else ""
        differences += [f"{named}{one}" for one in _weights(before, now)]
        differences += [] if alike else [f"{named}{one}" for one in _predictions(before, now)]
        same = same and alike
    return Rerun(same, tuple(differences))


def _places(folder: Path) -> list[str]:
    """Return the folders of a run's models: its own, or one a finding."""
    path = folder / "findings.json"
    if not path.is_file():
        return [""]
    return [one["folder"] for one in read_artefact(path, "findings")["findings"]]


def _record(folder: Path) -> dict[str, Any]:
    of_models = [(place, name) for place in _places(folder) for name in ("run.json", *_FILES)]
    needed = ["record.json", *((Path(place) / name).as_posix() for place, name in of_models)]
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"{folder}: expected a finished run of `hepar run`, got a folder without "
            f"{', '.join(missing)}. Models of a comparison are made again by `hepar compare`."
        )
    try:
        return read_artefact(folder / "record.json", "record")
    except DataError as error:
        raise ConfigError(str(error)) from error


def _packages(record: Mapping[str, Any]) -> list[str]:
    now = {"hepar": package_version(), "python": platform.python_version()}
    found = []
    for name, before in record["packages"].items():
        try:
            today = now.get(name) or metadata.version(name)
        except metadata.PackageNotFoundError:
            today = "none"
        if today != before:
            found.append(f"{name} was {before} and is {today}")
    machine = platform.platform()
    if machine != record["platform"]:
        found.append(f"the machine was {record['platform']} and is {machine}")
    return found


def _data(folder: Path, out: Path) -> list[str]:
    """Return which files changed, are missing or are new."""
    old, new = (
        {
            sample.sample_id: (sample.sha256, sample.mask_sha256, sample.label, sample.patient_id)
            for sample in read_manifest(place / "manifest.csv").samples
        }
        for place in (folder, out)
    )
    groups = {
        "missing": [name for name in old if name not in new],
        "new": [name for name in new if name not in old],
        "changed (pixels, mask, label or patient)": [
            name for name in old if name in new and old[name] != new[name]
        ],
    }
    return [
        f"{len(names)} of {len(old)} samples are {what}: {', '.join(names[:_SHOWN])}"
        + (", ..." if len(names) > _SHOWN else "")
        for what, names in groups.items()
        if names
    ]


def _weights(folder: Path, out: Path) -> list[str]:
    before, today = (
        read_artefact(place / "run.json", "run")["backbone"]["sha256"] for place in (folder, out)
    )
    return [] if before == today else [f"the weights were {before[:12]} and are {today[:12]}"]


def _predictions(folder: Path, out: Path) -> list[str]:
    """Return by how much the predictions of slices that both have differ."""
    old, new = (read_predictions(place / "predictions.csv") for place in (folder, out))
    if old.labels != new.labels:
        return [f"labels were {', '.join(old.labels)} and are {', '.join(new.labels)}"]
    place = {str(name): i for i, name in enumerate(new.sample_id)}
    both = [(i, place[str(n)]) for i, n in enumerate(old.sample_id) if str(n) in place]
    if not both:
        return ["no slice was predicted in both runs"]
    rows, others = (np.array(side) for side in zip(*both, strict=True))
    gap = np.abs(old.probabilities[rows] - new.probabilities[others]).max(axis=1)
    turned = int((old.predicted[rows] != new.predicted[others]).sum())
    return [
        f"{int((gap > 0).sum())} of {len(rows)} slices have other probabilities, by at most "
        f"{gap.max():.2g}; {turned} have another label"
    ]
