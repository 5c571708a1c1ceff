"""What is wrong with a cohort before anything is learned from it, and whose images are whose."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.audit.groups import join
from hepar.audit.links import Link, find_links
from hepar.audit.looks import Looks
from hepar.data import Finding, Manifest
from hepar.provenance import read_artefact, write_artefact
from hepar.words import counted

__all__ = ["Audit", "audit_cohort", "grouped", "read_audit", "write_audit"]

_SAME_PATIENT = 3
"""Copies between two patients from which they are taken for one."""

_MOST_LINKS = 10_000
"""Links that `audit.json` lists; all are counted."""


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    Attributes:
        unit: what a patient_id stood for when it was made.
        links: pairs of samples that belong together; where patients are known, copies across
            patients alone.
        findings: records {code, severity, message, n, samples}: `severity` "leak" where a result
            would be false, "note" where it is as it should be or nobody can tell; `samples` are
            pairs of sample_ids, the most alike first, at most 20.
        groups: sample_id -> group, where patients are unknown; empty where they are known.
    """

    unit: str
    links: tuple[Mapping[str, Any], ...]
    findings: tuple[Mapping[str, Any], ...]
    groups: Mapping[str, str]


def audit_cohort(manifest: Manifest, looks: Looks) -> Audit:
    """Look for copies and near-copies across patients, labels and the cohort's own partitions.

    Where patients are known, copies inside one patient are as expected, and only those across
    patients are told. Where they are unknown, images that are copies, neighbours or alike are
    joined into groups, each of which stands for a patient.

    Args:
        manifest: the cohort.
        looks: of its samples, in its order.
    """
    samples = manifest.samples
    names = np.array([sample.patient_id for sample in samples])
    codes = np.unique(names, return_inverse=True)[1]
    links = find_links(looks, codes if manifest.patients_known else None)
    findings = _copies(manifest, links)
    if manifest.patients_known:
        findings += _one_person(names, links)
    groups: dict[str, str] = {}
    if not manifest.patients_known:
        found = join(len(samples), [(link.a, link.b) for link in links])
        width = len(str(len(samples)))
        groups = {s.sample_id: f"group-{g:0{width}d}" for s, g in zip(samples, found, strict=True)}
        findings += _about_groups(manifest, found)
    ids = [sample.sample_id for sample in samples]
    records = [
        {**dataclasses.asdict(link), "a": ids[link.a], "b": ids[link.b]}
        for link in sorted(links, key=lambda link: (-link.similarity, link.a, link.b))
    ]
    return Audit(manifest.unit, tuple(records[:_MOST_LINKS]), tuple(findings), groups)


def _finding(
    code: str, severity: str, message: str, links: Sequence[Link], manifest: Manifest
) -> dict[str, Any]:
    """Return a record; the most alike pairs first."""
    worst = sorted(links, key=lambda link: (-link.similarity, link.a, link.b))[:20]
    ids = [sample.sample_id for sample in manifest.samples]
    return {
        "code": code,
        "severity": severity,
        "message": message,
        "n": len(links),
        "samples": [[ids[link.a], ids[link.b]] for link in worst],
    }


def _copies(manifest: Manifest, links: Sequence[Link]) -> list[dict[str, Any]]:
    samples = manifest.samples
    findings = []
    known = manifest.patients_known
    for kind, word in (("exact", "the same pixels"), ("copy", "copies of each other")):
        own = [link for link in links if link.kind == kind]
        where = "across patients" if known else "among the images"
        if own:
            findings.append(
                _finding(
                    f"{kind}-across-patients" if known else f"{kind}-images",
                    "leak" if known else "note",
                    f"{_pairs(own)} {where} {'show' if kind == 'exact' else 'are'} {word}.",
                    own,
                    manifest,
                )
            )
    odd = [
        link
        for link in links
        if link.kind in {"exact", "copy"} and _differ(samples[link.a].label, samples[link.b].label)
    ]
    if odd:
        message = f"{_pairs(odd)} of the same image carry different labels: one of each is wrong."
        exact = [link for link in odd if link.kind == "exact"]
        severity = "leak" if exact or known else "note"
        findings.append(_finding("label-conflict", severity, message, odd, manifest))
    return findings


def _differ(one: str, other: str) -> bool:
    return bool(one and other and one != other)


def _pairs(links: Sequence[Link]) -> str:
    return "1 pair" if len(links) == 1 else f"{len(links):,} pairs"


def _one_person(names: NDArray[np.str_], links: Sequence[Link]) -> list[dict[str, Any]]:
    between: dict[tuple[str, str], list[Link]] = {}
    for link in links:
        between.setdefault((str(names[link.a]), str(names[link.b])), []).append(link)
    size = Counter(names.tolist())
    findings = []
    for (one, other), own in sorted(between.items()):
        n = min(len({link.a for link in own}), len({link.b for link in own}))
        share = n / min(size[one], size[other])
        if n >= _SAME_PATIENT or share >= 0.5:
            message = (
                f"Patients {one} and {other} share {counted(n, 'image')} of {size[one]} and "
                f"{size[other]}: perhaps one person under two ids. Give them one patient_id, or "
                "leave one out."
            )
            findings.append(
                {
                    "code": "one-person",
                    "severity": "leak",
                    "message": message,
                    "n": n,
                    "samples": [],
                }
            )
    return findings


def _about_groups(manifest: Manifest, found: NDArray[np.int64]) -> list[dict[str, Any]]:
    sizes = np.bincount(found)
    labels: dict[int, set[str]] = {}
    for sample, group in zip(manifest.samples, found.tolist(), strict=True):
        labels.setdefault(group, set()).add(sample.label)
    mixed = sum(len(own) > 1 for own in labels.values())
    n, alone = len(manifest.samples), int((sizes == 1).sum())
    message = (
        f"{n:,} images without patient ids are joined into {len(sizes):,} groups that look like "
        f"one patient's each; {alone:,} images stand alone, and the largest group has "
        f"{sizes.max():,}. Slices of one patient that lie far apart do not look alike and may "
        "stand in two groups: what a split by groups says is still somewhat too good."
    )
    findings = [{"code": "groups", "severity": "note", "message": message, "n": len(sizes)}]
    if mixed:
        findings.append(
            {
                "code": "mixed-groups",
                "severity": "note",
                "message": f"{mixed:,} groups hold images of several labels: patients whose "
                "slices differ, wrong labels, or patients joined by mistake.",
                "n": mixed,
            }
        )
    return [{**finding, "samples": []} for finding in findings]


def grouped(manifest: Manifest, audit: Audit) -> Manifest:
    """Return the manifest with each inferred group standing for a patient."""
    samples = tuple(
        dataclasses.replace(sample, patient_id=audit.groups[sample.sample_id])
        for sample in manifest.samples
    )
    message = next(f["message"] for f in audit.findings if f["code"] == "groups")
    finding = Finding("inferred-groups", "all samples", message)
    return dataclasses.replace(
        manifest, samples=samples, unit="group", findings=(*manifest.findings, finding)
    )


def write_audit(path: Path, audit: Audit, provenance: Mapping[str, Any]) -> None:
    """Write `audit.json`."""
    content = {
        "unit": audit.unit,
        "findings": [dict(finding) for finding in audit.findings],
        "links": [dict(link) for link in audit.links],
        "groups": dict(audit.groups),
    }
    write_artefact(path, "audit", content, provenance)


def read_audit(path: Path) -> Audit:
    """Read `audit.json`.

    Raises:
        DataError: the file is missing or is no audit.
    """
    document = read_artefact(path, "audit")
    return Audit(
        unit=document["unit"],
        links=tuple(document["links"]),
        findings=tuple(document["findings"]),
        groups=document["groups"],
    )
