"""What was done, where it came from and how to read it: the sections that close a report."""

from __future__ import annotations

import shlex

from hepar.backbone import BACKBONES
from hepar.report.documents import DOCUMENTS
from hepar.report.inputs import ReportInputs
from hepar.report.section import Section

__all__ = ["method", "provenance", "reading"]


def _cost(inputs: ReportInputs) -> str:
    """Return what the model costs: a slice, on disk, and what this run took."""
    backbone = inputs.run["backbone"]
    names = str(backbone["name"]).split(" + ")
    said = []
    if all(name in BACKBONES for name in names):
        specs = [BACKBONES.get(name) for name in names]
        flops = sum(
            s.gflops * (backbone["input_size"] / s.input_size) ** (3 if s.depth else 2)
            for s in specs
        )
        windows = inputs.run["config"]["recipe"].get("windows", 1)
        thing = "series" if inputs.of_series else "slice"
        said.append(f"{flops * windows:.3g} GFLOPs a {thing}")
    bundle = inputs.folder / "bundle"
    if bundle.is_dir():
        size = sum(path.stat().st_size for path in bundle.iterdir())
        said.append(f"a bundle of {size / 1e6:.3g} MB")
    took = sum(inputs.run["stages"].values())
    if took:
        said.append(f"{took:.0f} s for this run, apart from what was kept from before")
    return "; ".join(said)


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
            "cost": _cost(inputs),
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
