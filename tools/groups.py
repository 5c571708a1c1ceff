"""Measure how well inferred groups stand for patients, and print a Markdown table.

Run as `python tools/groups.py DATA NAME...`, where DATA/NAME holds an `index.csv`. Patient ids, if
any, are hidden from the audit and taken to judge it.

Purity: share of images in a group whose commonest patient is theirs. Completeness: the mean over
patients of the share of their images in the group that has most of them. A scan is split where its
images stand in two groups.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import Counter
from pathlib import Path

from hepar.audit import audit_cohort, read_looks
from hepar.config import BackboneConfig, IngestConfig
from hepar.ingest import ingest


def measure(source: Path) -> str:
    """Return a row of the table."""
    manifest = ingest(source, IngestConfig(patients_unknown=True))
    known = manifest.patients_known
    whose = {s.sample_id: s.patient_id for s in manifest.samples}
    hidden = tuple(dataclasses.replace(s, patient_id=s.sample_id) for s in manifest.samples)
    bare = dataclasses.replace(manifest, samples=hidden, unit="image")
    audit = audit_cohort(bare, read_looks(bare, BackboneConfig()))
    group = [audit.groups[sample.sample_id] for sample in bare.samples]
    true = [whose[sample.sample_id] for sample in bare.samples]
    scan = [sample.extra.get("scan_id", "") for sample in bare.samples]
    kinds = Counter(link["kind"] for link in audit.links)
    links = ", ".join(f"{n:,} {kind}" for kind, n in sorted(kinds.items()))
    cells = [f"{len(group):,}", f"{len(set(group)):,}", f"{Counter(group).most_common(1)[0][1]:,}"]
    if not known:
        return " | ".join(["unknown", *cells, "", "", "", links])
    pairs = Counter(zip(group, true, strict=True))
    best: dict[str, int] = {}
    held: dict[str, int] = {}
    for (g, p), n in pairs.items():
        best[g] = max(best.get(g, 0), n)
        held[p] = max(held.get(p, 0), n)
    sizes = Counter(true)
    purity = sum(best.values()) / len(group)
    completeness = sum(held[p] / sizes[p] for p in sizes) / len(sizes)
    groups_of: dict[str, set[str]] = {}
    for name, g in zip(scan, group, strict=True):
        if name:
            groups_of.setdefault(name, set()).add(g)
    torn = sum(len(own) > 1 for own in groups_of.values())
    split = f"{torn} of {len(groups_of)}" if groups_of else ""
    return " | ".join(
        [f"{len(sizes)}", *cells, f"{purity:.3f}", f"{completeness:.3f}", split, links]
    )


def main() -> int:
    """Measure every source, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="+")
    arguments = parser.parse_args()
    sys.stdout.write(
        "| source | patients | images | groups | largest | purity | completeness | scans split "
        "| links |\n" + "|---" * 9 + "|\n"
    )
    for name in arguments.names:
        sys.stdout.write(f"| `{name}` | {measure(arguments.data / name / 'index.csv')} |\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
