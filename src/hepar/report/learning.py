"""The section on how the score grows with patients: whether more of them would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hepar.report.figures import COLOURS, FAINT, INK, new_figure, to_svg
from hepar.report.inputs import ReportInputs
from hepar.report.section import Section

__all__ = ["learning"]


def learning(inputs: ReportInputs) -> Section | None:
    """Would more patients help?"""
    records = inputs.controls.get("learning")
    if not records:
        return None
    level = inputs.controls["level"]
    return Section(
        "Would more patients help",
        "learning.html.j2",
        {
            "figure": _draw(records, inputs.controls["unit"]),
            "unit_of_curve": inputs.controls["unit"],
            "scored": f"{inputs.controls['unit']}s" if level == "patient" else inputs.things,
            "gain": _gain(records),
        },
    )


def _gain(records: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """Return what the last step of the curve added, beside how far draws of one size differ."""
    if len(records) < 2:
        return None
    before, last = records[-2], records[-1]
    return {
        "from": before["n_patients"],
        "to": last["n_patients"],
        "gain": float(np.mean(last["auroc"]) - np.mean(before["auroc"])),
        "spread": float(max(before["auroc"]) - min(before["auroc"])),
    }


def _draw(records: Sequence[Mapping[str, Any]], unit: str) -> str:
    figure, (axis,) = new_figure(5.2, 3.2)
    for record in records:
        x = [record["n_patients"]] * len(record["auroc"])
        axis.plot(x, record["auroc"], "o", color=COLOURS[0], alpha=0.45, markersize=4)
    middle = [(r["n_patients"], float(np.mean(r["auroc"]))) for r in records]
    axis.plot(*zip(*middle, strict=True), color=COLOURS[0], linewidth=2)
    axis.axhline(0.5, color=FAINT, linewidth=1)
    axis.set_ylim(min(0.48, *(min(r["auroc"]) for r in records)) - 0.02, 1.01)
    axis.set_xlim(0, None)
    axis.set_xlabel(f"{unit}s learned from", color=INK, fontsize=9)
    axis.set_ylabel("AUROC, mean over labels", color=INK, fontsize=9)
    told = "; ".join(f"{x:.0f} {unit}s {y:.2f}" for x, y in middle)
    return to_svg(figure, f"AUROC of left-out {unit}s by the number learned from: {told}.")
