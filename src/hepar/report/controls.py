"""The section on controls: could the score be had without the liver, and without new patients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hepar.report.inputs import ReportInputs
from hepar.report.section import Section

__all__ = ["alarms", "controls"]


def alarms(inputs: ReportInputs) -> list[str]:
    """Return what each control that fired means, for the top of the page."""
    return [c["meaning"] for c in inputs.controls.get("controls", []) if c["fires"]]


def controls(inputs: ReportInputs) -> Section | None:
    """Could the score be had without the liver, without learning, or from patients seen before?"""
    document = inputs.controls
    if not document:
        return None
    return Section(
        "Controls and leakage",
        "controls.html.j2",
        {
            "document": document,
            "rows": [{**c, "verdict": _verdict(c, document)} for c in document["controls"]],
            "fired": sum(c["fires"] for c in document["controls"]),
            "meter": document["meter"],
            "units": f"{document['unit']}s" if document["level"] == "patient" else inputs.things,
            "unit_of_meter": document["meter"].get("unit", document["unit"]),
            "rate": f"{100 * (1 - document['interval']):g} %",
        },
    )


def _verdict(control: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """Return what a control's number says, in a few words."""
    if control["not_made"]:
        return f"could not be made: {control['not_made']}"
    if control["fires"]:
        return "scores too well"
    if control["p"] is None:
        return f"cannot be told: {control['detail']}"
    return "as chance" if control["value"] <= control["floor"] else _above(control, document)


def _above(control: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """Return why a score above chance is no alarm."""
    if control["name"] == "untrained":
        model = document["model"]["value"]
        behind = "" if model is None else f", {model - control['value']:.2f} behind the model"
        return f"above chance{behind}: no alarm"
    if control["name"] == "source":
        return "sources can be told, but do not go with the label: no alarm"
    made = sum(c["p"] is not None for c in document["controls"])
    return f"higher than expected, but not after correction for {made} controls"
