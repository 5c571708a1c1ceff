"""What was wrong before anything was learned: copies, doubles, groups, and the split itself."""

from __future__ import annotations

import base64
from collections import Counter
from typing import Any

from hepar.audit import audit_partitions
from hepar.report.inputs import ReportInputs
from hepar.report.section import Section

__all__ = ["audit", "leaks"]

_KINDS = {
    "exact": "the same pixels",
    "copy": "copies: re-encoded, shifted, turned, zoomed, mirrored or of other grey values",
    "neighbour": "adjacent slices",
    "alike": "alike as slices of one patient are",
}


def about_split(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Return findings about how patients were divided."""
    places = {
        patient: (place["partition"], "" if place["fold"] is None else str(place["fold"]))
        for patient, place in inputs.split["assignments"].items()
    }
    return audit_partitions(inputs.manifest, inputs.audit, places)


def leaks(inputs: ReportInputs) -> list[str]:
    """Return what makes the numbers of this report false, a sentence each, for its first page."""
    found = [*(inputs.audit.findings if inputs.audit else ()), *about_split(inputs)]
    told = {
        finding["code"]: finding["message"] for finding in found if finding["severity"] == "leak"
    }
    if "copies-across-partitions" in told:  # these are the same copies, and what matters of them
        told = {code: text for code, text in told.items() if not code.endswith("-across-patients")}
    return list(told.values())


def audit(inputs: ReportInputs) -> Section | None:
    """What was looked for, what was found, and the pictures of it."""
    if inputs.audit is None:
        return None
    kinds = Counter(link["kind"] for link in inputs.audit.links)
    sheet = inputs.folder / "figures" / "links.png"
    picture = ""
    if inputs.audit.links and sheet.is_file():
        picture = f"data:image/png;base64,{base64.b64encode(sheet.read_bytes()).decode()}"
    return Section(
        "What was looked for first",
        "audit.html.j2",
        {
            "findings": [
                *inputs.audit.findings,
                *about_split(inputs),
            ],
            "kinds": [(text, kinds[kind]) for kind, text in _KINDS.items() if kinds[kind]],
            "known": not inputs.audit.groups,
            "n": len(inputs.manifest),
            "picture": picture,
        },
    )
