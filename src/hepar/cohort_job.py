"""From a source to a cohort: whom models learn from and are tested on, and with which networks."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hepar.backbone import BACKBONES, BackboneSpec, Weights, find_weights
from hepar.config import RunConfig, SplitConfig
from hepar.data import Finding, Manifest, Sample, read_manifest, write_manifest
from hepar.errors import ConfigError, IngestError
from hepar.ledger import Ledger
from hepar.preprocess import NetworkInput, Recipe, check_spacing, make_recipe
from hepar.progress import LOG
from hepar.provenance import command_line, digest, sha256_file, stamp
from hepar.split import Split, make_split, read_split, write_split
from hepar.words import counted

if TYPE_CHECKING:
    from hepar.audit import Audit

__all__ = [
    "Cohort",
    "PlannedPart",
    "audit_source",
    "cohort_of",
    "hash_files",
    "new_ledger",
    "plan",
    "prepare",
    "prepare_findings",
]

_NAMED = 5
"""Patients whose ids a message gives, at most."""

Divide = Callable[[Manifest, SplitConfig], Split]


@dataclass(frozen=True, eq=False)
class PlannedPart:
    """One network of a model, before anything is computed."""

    spec: BackboneSpec
    weights: Weights
    recipe: Recipe

    @property
    def backbone(self) -> dict[str, Any]:
        """What a bundle and a report say of it."""
        taught = {"lesions": "learned here, from lesion masks", "nothing": "a rule: none"}
        own = taught.get(self.spec.fitted_to)
        return {
            "name": self.spec.name,
            "source": own or self.weights.source,
            "licence": "none needed" if own else self.weights.licence,
            "sha256": self.weights.sha256,
            "is_random": self.weights.is_random and bool(self.spec.timm_name),
            "feature_dim": self.spec.feature_dim,
            "input_size": self.recipe.size,
        }


@dataclass(frozen=True, eq=False)
class Cohort:
    """Whom a model learns from and is tested on."""

    manifest: Manifest
    split: Split


def new_ledger(out: Path, command: str = "") -> Ledger:
    """Return the ledger of a folder, which the first file in it makes.

    Raises:
        ConfigError: no such folder can be made, or nothing can be written to it.
    """
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        why = "is not writable" if there.is_dir() else "is a file"
        raise ConfigError(
            f"{out}: expected a folder to write to, and {there} {why}. Choose another."
        )
    return Ledger(out, command or command_line())


def prepare(
    source: Path, ledger: Ledger, configs: Sequence[RunConfig], divide: Divide = make_split
) -> tuple[Cohort, list[tuple[PlannedPart, ...]]]:
    """Ingest and split a source once, for one model or several.

    Slices without liver are left out for all models where one of them looks at the mask.

    Args:
        source: a table, a folder of class folders, a DICOM tree or NIfTI volumes.
        ledger: of the folder that gets manifest and split.
        configs: of the models; ingest and split are the first one's.
        divide: makes the split.

    Returns:
        The cohort, and each model's networks.
    """
    manifest = _ingest(source, ledger, configs[0])
    lost = next((f for f in manifest.findings if f.code == "label-lost"), None)
    if lost and len(manifest.labels) < 2:
        raise IngestError(f"{source}: {lost.where}: {lost.message}")
    for config in configs:
        check_spacing(config.recipe.name, manifest)
    manifest = _audit(manifest, ledger, configs[0])
    plans = [plan(manifest, config) for config in configs]
    if any(config.recipe.name == "auto" for config in configs):
        manifest = _say_recipe(manifest, plans[0])
    if any(part.recipe.needs_mask for parts in plans for part in parts):
        manifest = _without_liver(manifest)
        if configs[0].segment.model:
            manifest = _without_outline(manifest, configs[0], ledger.folder / "outlines")
    return Cohort(manifest, _split(manifest, ledger, configs[0], divide)), plans


def prepare_findings(
    source: Path, ledger: Ledger, configs: Sequence[RunConfig]
) -> tuple[Cohort, list[tuple[PlannedPart, ...]], tuple[str, ...]]:
    """Ingest and split a source of several findings, all of them on one split.

    Args:
        source: a table with a column of 0 and 1 for each finding.
        ledger: as in `prepare`.
        configs: of the models; findings are the first one's.

    Returns:
        The cohort, each model's networks, and the names of the findings.
    """
    from hepar.ingest import findings_of
    from hepar.split import split_findings

    asked = configs[0].ingest

    def divide(manifest: Manifest, split: SplitConfig) -> Split:
        return split_findings(manifest, findings_of(manifest.samples, asked), split)

    cohort, plans = prepare(source, ledger, configs, divide)
    return cohort, plans, findings_of(cohort.manifest.samples, asked)


def cohort_of(finding: str, names: Sequence[str], cohort: Cohort) -> Cohort:
    """Return the cohort of one finding of several, on the same split.

    Raises:
        ConfigError: fewer than two patients have it, or have it not.
    """
    from hepar.ingest import manifest_of

    manifest = manifest_of(finding, names, cohort.manifest)
    places = {patient: cohort.split.assignments[patient] for patient in manifest.patients}
    return Cohort(manifest, dataclasses.replace(cohort.split, assignments=places))


def audit_source(source: Path, ledger: Ledger, config: RunConfig) -> tuple[Manifest, Audit]:
    """Ingest a source and look for copies, and do no more.

    Args:
        source: as in `prepare`, or a manifest that hepar wrote, or a folder that holds one.
        ledger: of the folder that gets `audit.json` and the contact sheet.
        config: of ingest and audit.

    Returns:
        The manifest as it was read, and what was found in it.

    Raises:
        HeparError: the source cannot be read.
    """
    from hepar.audit import read_audit

    made = source / "manifest.csv" if source.is_dir() else source
    if made.with_suffix(".meta.json").is_file():
        manifest = read_manifest(made)
        write_manifest(ledger.folder / "manifest.csv", manifest, stamp(ledger.command))
    else:
        manifest = _ingest(source, ledger, config)
    _audit(manifest, ledger, config)
    return manifest, read_audit(ledger.folder / "audit.json")


def plan(manifest: Manifest, config: RunConfig) -> tuple[PlannedPart, ...]:
    """Return the networks that a configuration asks for, with their weights and recipes.

    Raises:
        HeparError: a network, its weights or a recipe cannot be had.
    """
    parts = []
    for name in config.backbone.name.split("+"):
        spec = BACKBONES.get(name)
        weights = find_weights(name, config.backbone.weights)
        size = config.recipe.size or spec.input_size
        network = NetworkInput(size, weights.mean, weights.std, config.recipe.windows)
        outlined = bool(config.segment.model)
        recipe = make_recipe(config.recipe.name, manifest, network, outlined=outlined)
        parts.append(PlannedPart(spec, weights, recipe))
    return tuple(parts)


def _ingest(source: Path, ledger: Ledger, config: RunConfig) -> Manifest:
    from hepar.ingest import ingest

    if not source.exists():
        raise IngestError(f"{source}: expected a folder, table or image, got nothing there.")
    path = ledger.folder / "manifest.csv"

    def work() -> None:
        manifest = ingest(source, config.ingest)
        if config.split.unit == "image":
            manifest = _as_images(manifest)
        write_manifest(path, manifest, stamp(ledger.command, inputs={"source": str(source)}))

    inputs = [
        str(source.resolve()),
        dataclasses.asdict(config.ingest),
        config.split.unit,
        _fingerprint(source, config.ingest.labels_csv),
    ]
    ledger.stage("ingest", inputs, ["manifest.csv", "manifest.meta.json"], work)
    return read_manifest(path)


def _audit(manifest: Manifest, ledger: Ledger, config: RunConfig) -> Manifest:
    """Look for copies, and where patients are unknown return the manifest with inferred groups."""
    if not config.audit.copies or config.split.unit == "image":
        return manifest
    from hepar.audit import audit_cohort, grouped, read_audit, read_looks, write_audit, write_sheet

    path = ledger.folder / "audit.json"

    def work() -> None:
        looks = read_looks(manifest, config.backbone, ledger.folder / "features")
        audit = audit_cohort(manifest, looks)
        hashes = {"manifest.csv": hash_files(ledger, "manifest.csv")}
        write_audit(path, audit, stamp(ledger.command, inputs=hashes))
        write_sheet(ledger.folder / "figures" / "links.png", manifest, audit.links)
        for finding in audit.findings:
            LOG.warning("%s", finding["message"])

    inputs = [hash_files(ledger, "manifest.csv", "manifest.meta.json")]
    ledger.stage("audit", inputs, ["audit.json", "figures/links.png"], work)
    audit = read_audit(path)
    return grouped(manifest, audit) if audit.groups and config.audit.groups else manifest


def _fingerprint(source: Path, *more: str) -> list[list[object]]:
    """Return path, size and time of every file a source may draw on, without reading any."""
    folders = {source if source.is_dir() else source.parent}
    folders |= {Path(name).parent for name in more if name}
    rows: list[list[object]] = []
    for top in sorted(folders):
        for folder, inner, files in os.walk(top):
            inner.sort()
            for name in sorted(files):
                state = (Path(folder) / name).stat()
                rows.append([os.path.join(folder, name), state.st_size, state.st_mtime_ns])  # noqa: PTH118
    return rows


def _as_images(manifest: Manifest) -> Manifest:
    """Return the manifest with every image standing for a patient."""
    samples = tuple(dataclasses.replace(s, patient_id=s.sample_id) for s in manifest.samples)
    finding = Finding(
        "image-level",
        "all samples",
        f"{len(manifest.patients)} patients are taken apart into {len(manifest)} images, by choice "
        "(split.unit=image).",
    )
    return dataclasses.replace(
        manifest, samples=samples, unit="image", findings=(*manifest.findings, finding)
    )


def _say_recipe(manifest: Manifest, parts: Sequence[PlannedPart]) -> Manifest:
    """Return the manifest with a finding where some masks decided that none is looked at."""
    bare = sum(not sample.mask for sample in manifest.samples)
    used = f"so recipe {parts[0].recipe.name!r} is used, which looks at no mask."
    if 0 < bare < len(manifest):
        message = (
            f"{bare} of {len(manifest)} samples have no mask, {used} Add the masks, or leave those "
            "samples out, for 'liver'."
        )
    elif manifest.has_masks and manifest.lesions_alone:
        message = f"masks show lesions alone, {used} Masks of the liver are needed for 'liver'."
    else:
        return manifest
    LOG.warning("%s", message)
    finding = Finding("left-out", "masks", message)
    return dataclasses.replace(manifest, findings=(*manifest.findings, finding))


def _without_liver(manifest: Manifest) -> Manifest:
    """Return the manifest without slices whose mask shows no liver."""
    gone = [s for s in manifest.samples if s.extra.get("liver_px") == "0"]
    return _without(
        gone,
        manifest,
        "whose mask shows no liver",
        "masks: expected liver",
        "Correct ingest.mask_values, or pass --recipe picture (ct for HU), which looks at no mask.",
    )


def _without_outline(manifest: Manifest, config: RunConfig, cache: Path) -> Manifest:
    """Return the manifest without slices where nobody drew a liver and the segmenter finds none."""
    from hepar.model import Outlines, find_segmenter

    outlines = Outlines(manifest, find_segmenter(config.segment.model), cache=cache)
    outlines.check()
    bare = [s for s in manifest.samples if not s.mask or manifest.lesions_alone]
    return _without(
        [sample for sample in bare if not outlines.finds(sample)],
        manifest,
        "where the segmenter finds no liver",
        f"segmenter {config.segment.model}: expected to find a liver",
        "Look at its outlines with `hepar segment apply`.",
    )


def _without(
    gone: Sequence[Sample], manifest: Manifest, which: str, expected: str, advice: str
) -> Manifest:
    """Return the manifest without some slices, and say how many those are.

    Args:
        gone: the slices.
        manifest: of them and others.
        which: they are, in words that follow "slices".
        expected: start of the refusal where no slice of a label is left.
        advice: end of it.

    Raises:
        IngestError: no slice of a label is left.
    """
    if not gone:
        return manifest
    names, counts = {s.sample_id for s in gone}, Counter(s.label for s in gone)
    shown = tuple(s for s in manifest.samples if s.sample_id not in names)
    told = ", ".join(f"{n} {label or 'unlabelled'}" for label, n in sorted(counts.items()))
    lost = sorted(set(counts) - {""} - {s.label for s in shown})
    if lost:
        raise IngestError(
            f"{expected} in some slice of every label, got none in those of {', '.join(lost)} "
            f"({told} without). {advice}"
        )
    message = f"left out: {counted(len(gone), 'slice')} {which} ({told})."
    empty = sorted(set(manifest.patients) - {s.patient_id for s in shown})
    if empty:
        some = ", ".join(empty[:_NAMED]) + ", ..." * (len(empty) > _NAMED)
        message += f" Patients of whom none is left: {some}."
    LOG.log(logging.WARNING if empty else logging.INFO, "%s", message)
    finding = Finding("left-out", "liver", message, "warning" if empty else "note")
    return dataclasses.replace(manifest, samples=shown, findings=(*manifest.findings, finding))


def _split(manifest: Manifest, ledger: Ledger, config: RunConfig, divide: Divide) -> Split:
    path = ledger.folder / "split.json"
    rows = [[s.sample_id, s.patient_id, s.label] for s in manifest.samples]
    inputs = [digest(rows), dataclasses.asdict(config.split), hash_files(ledger, "manifest.csv")]

    def work() -> None:
        hashes = {"manifest.csv": hash_files(ledger, "manifest.csv")}
        provenance = stamp(ledger.command, seed=config.split.seed, inputs=hashes)
        write_split(path, divide(manifest, config.split), manifest, provenance)

    ledger.stage("split", inputs, ["split.json"], work)
    return read_split(path)


def hash_files(ledger: Ledger, *names: str) -> str:
    """Return one SHA-256 of files in the ledger's folder."""
    return digest([sha256_file(ledger.folder / name) for name in names])
