"""From entries to a manifest: files are looked at, then masks, labels and patients join."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hepar.config import IngestConfig
from hepar.data import Finding, LabelSet, Manifest, Sample
from hepar.errors import IngestError
from hepar.ingest.drafts import Draft, make_drafts
from hepar.ingest.files import Entry, Listing, Source, name_of
from hepar.ingest.labels import Labels, find_labels_table, join_labels, read_labels
from hepar.ingest.looks import Look, look_at, look_at_all
from hepar.ingest.masked import doubtful_masks, join_masks, with_segmentations
from hepar.ingest.names import check_names, escaped
from hepar.ingest.odd_labels import odd_labels
from hepar.ingest.patients import check_patients, patient_finder, unmatched
from hepar.ingest.segmentation import Segmentation
from hepar.progress import LOG
from hepar.words import counted

__all__ = ["make_manifest"]

_GONE = ("refused", "set-aside")

_NAMED = 3
"""Findings of one kind that the log names."""


def make_manifest(source: Source, config: IngestConfig, *, labelled: bool = True) -> Manifest:
    """Return the manifest of a source's entries.

    Args:
        source: from a reader.
        config: patients, labels, masks and bounds.
        labelled: False for prediction: labels and patient ids are then optional.

    Raises:
        IngestError: nothing usable is left, patient ids are unknown, or mask values are unclear.
    """
    find = patient_finder(config)
    notes = list(source.findings)
    entries = [one for entry in source.entries for one in _files_of(entry)]
    unnamed = [name_of(one.path, source.root) for one in entries if not one.patient_id]
    notes += unmatched(unnamed, find, config)
    table = _labels_table(source, config)
    if labelled and config.label_order:
        named = [entry.label for entry in entries]
        named += [label for label, _, _ in table.rows.values()] if table else []
        LabelSet.parse(config.label_order).check(named)
    looks = look_at_all(
        [entry.path for entry in entries], "reading", source.root, notes,
        lambda path: look_at(path, config),
    )  # fmt: skip
    pairs = [
        (_sample(entry, looks[entry.path], source.root, find), looks[entry.path])
        for entry in entries
        if entry.path in looks
    ]
    allow_gaps = config.allow_gaps or source.chosen or not labelled
    drafts = make_drafts(pairs, notes, allow_gaps=allow_gaps)
    drafts, rows = _with_labels(drafts, table, notes) if table else (drafts, [])
    drawn = {s.path: one.found for s, one in pairs if isinstance(one.found, Segmentation)}
    drafts = with_segmentations(drafts, drawn, notes)
    claims = _claims(source, [draft.sample for draft in drafts], rows)
    drafts, values = join_masks(drafts, source.root, config, notes)
    found, odd = check_names(draft.sample for draft in drafts)
    notes += odd
    notes += _lost_labels(claims, found, notes)
    known = all(sample.patient_id for sample in found)
    samples = check_patients(found, source.root, config, labelled=labelled)
    if not samples:
        raise IngestError(f"{source.root}: expected usable images, got none {_reasons(notes)}")
    if labelled:
        notes += [] if config.findings else _unlabelled(samples)
        notes += doubtful_masks(samples, values, config)
        notes += odd_labels(samples)
    notes = [replace(n, where=escaped(n.where), message=escaped(n.message)) for n in notes]
    _tell(notes)
    return Manifest(
        samples=tuple(samples),
        labels=_label_set(samples, config),
        root=source.root,
        unit="patient" if known else "image",
        mask_values=values,
        flip_vertical=config.flip_vertical,
        findings=tuple(notes),
    )


def _tell(notes: Sequence[Finding]) -> None:
    """Log findings: up to three of a kind one by one, more in one line."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for note in notes:
        kinds.setdefault((note.severity, note.code), []).append(note)
    for (severity, code), own in kinds.items():
        each = logging.INFO
        if len(own) > _NAMED:
            names = ", ".join(note.where for note in own[:_NAMED])
            told = f"{len(own)} times {code} ({names}, ...; `hepar -v` lists all)"
            LOG.info("%s: %s; the first: %s", severity, told, own[0].message)
            each = logging.DEBUG
        for note in own:
            LOG.log(each, "%s: %s: %s", note.severity, note.where, note.message)


def _claims(
    source: Source, samples: Iterable[Sample], rows: Iterable[tuple[str, str]]
) -> dict[str, list[str]]:
    """Return label -> the files that were to have it, or the rows of a labels table."""
    named = [(entry.label, name_of(entry.path, source.root)) for entry in source.entries]
    named += [(sample.label, sample.path) for sample in samples]
    claims: dict[str, list[str]] = {}
    for label, name in (*named, *rows):
        if label:
            claims.setdefault(label, []).append(name)
    return claims


def _lost_labels(
    claims: Mapping[str, Sequence[str]], kept: Iterable[Sample], notes: Sequence[Finding]
) -> list[Finding]:
    """Return a finding for each label of which no sample is left.

    Args:
        claims: label -> the files, or rows of a labels table without images, that were to have it.
        kept: the samples that are left.
        notes: what was refused so far, and why.
    """
    left = {sample.label for sample in kept}
    findings = []
    for label in sorted(set(claims) - left):
        names = list(dict.fromkeys(claims[label]))
        gone = [note for note in notes if note.severity in _GONE]
        own = [note for note in gone if note.where in names] or gone
        message = (
            f"expected usable samples labelled {label!r}, got none of {len(names)} (first: "
            f"{names[0]})" + (f" {_reasons(own)}" if own else ".")
        )
        findings.append(Finding("label-lost", f"label {label}", message))
    return findings


def _reasons(notes: Sequence[Finding]) -> str:
    """Return how many of what were refused or set aside, and the first of them in full."""
    gone = sorted((note for note in notes if note.severity in _GONE), key=lambda n: n.severity)
    counts = Counter(note.code for note in gone)
    what = ", ".join(f"{n} {code}" for code, n in counts.most_common()) or "no file"
    return f"({what})." + (f" First: {gone[0].where}: {gone[0].message}" if gone else "")


def _files_of(entry: Entry) -> list[Entry]:
    """Return an entry's files: itself, or the DICOM files of the folder it names."""
    if not entry.path.is_dir():
        return [entry]
    return [replace(entry, path=path, slice_index=None) for path in Listing(entry.path).of("dicom")]


def _sample(entry: Entry, look: Look, root: Path, find_patient: Callable[[str], str]) -> Sample:
    name = name_of(entry.path, root)
    return Sample(
        sample_id=name,
        patient_id=entry.patient_id or find_patient(name),
        path=name,
        label=entry.label,
        study_id=entry.study_id,
        series_id=entry.series_id,
        slice_index=entry.slice_index or 0,
        mask=name_of(entry.mask, root) if entry.mask else "",
        sha256=look.sha256,
        extra=entry.extra,
    )


def _labels_table(source: Source, config: IngestConfig) -> Labels | None:
    """Return the labels table, where one is named, or lies in a source that names no label."""
    table = find_labels_table(source.root, config)
    labelled = any(entry.label for entry in source.entries)
    if table is None or (not config.labels_csv and (labelled or source.chosen)):
        return None
    LOG.info("%s: read as the labels of this source", table)
    return read_labels(table, source.root, config)


def _with_labels(
    drafts: Sequence[Draft], table: Labels, notes: list[Finding]
) -> tuple[list[Draft], list[tuple[str, str]]]:
    """Return the drafts with their labels, and (label, key) of the table's rows without images."""
    samples, findings, unused = join_labels([one.sample for one in drafts], table)
    masks = {sample.mask for sample in samples}
    notes[:] = [note for note in notes if note.code != "other-format" or note.where not in masks]
    notes += [*table.findings, *findings]
    joined = [replace(draft, sample=one) for draft, one in zip(drafts, samples, strict=True)]
    return joined, unused


def _unlabelled(samples: Iterable[Sample]) -> list[Finding]:
    counts = Counter(sample.patient_id for sample in samples if not sample.label)
    if len(counts) > 20:
        message = (
            f"expected a label, got none for {counts.total()} samples of {len(counts)} patients."
        )
        return [Finding("unlabelled", "cohort", message)]
    return [
        Finding("unlabelled", patient, f"expected a label, got none for {counted(n, 'sample')}.")
        for patient, n in counts.items()
    ]


def _label_set(samples: Iterable[Sample], config: IngestConfig) -> LabelSet:
    if config.label_order:
        return LabelSet.parse(config.label_order)
    return LabelSet.infer(sample.label for sample in samples)
