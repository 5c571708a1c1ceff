"""What was done, where it came from and how to read it: the sections that close a report."""

from __future__ import annotations

import shlex

from hepar.report.documents import DOCUMENTS
from hepar.report.inputs import ReportInputs
from hepar.report.section import Section

__all__ = ["method", "provenance", "reading"]


def method(inputs: ReportInputs) -> Section:
    """What was done to the pixels, with which network and settings."""
    steps = [
        {
            "name": step["step"],
            "parameters": ", ".join(f"{k} = {v}" for k, v in step.items() if k != "step"),
        }
        for step in inputs.recipe["steps"]
    ]
    return Section(
        "What was done",
        "method.html.j2",
        {
            "steps": steps,
            "recipe": inputs.recipe["name"],
            "backbone": inputs.run["backbone"],
            "config": inputs.run["config"],
            "stages": inputs.run["stages"],
            "is_trained": bool(inputs.history),
        },
    )


def provenance(inputs: ReportInputs) -> Section:
    """The command that reproduces it, and what it was made from."""
    run, made = inputs.run, inputs.evaluation["provenance"]
    seeds = run["config"]
    recorded = (inputs.folder / "record.json").is_file()
    return Section(
        "Provenance",
        "provenance.html.j2",
        {
            "command": run["command"],
            "again": shlex.join(["hepar", "reproduce", str(inputs.folder)]) if recorded else "",
            "seeds": f"split {seeds['split']['seed']}, bootstrap {seeds['evaluate']['seed']}",
            "documents": DOCUMENTS if (inputs.folder / DOCUMENTS[0]).is_file() else (),
            "hashes": {**made["inputs"], "backbone weights": run["backbone"]["sha256"]},
        },
    )


def reading(inputs: ReportInputs) -> Section:
    """How to read this report, in short plain words."""
    return Section("How to read this report", "reading.html.j2", {"unit": inputs.split["unit"]})
