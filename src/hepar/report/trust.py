"""Whether answers can be acted on: the sections made from `trust.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hepar.evaluate import CALIBRATION_METRICS
from hepar.report.inputs import ReportInputs
from hepar.report.section import Section
from hepar.report.trust_figures import draw_abstention, draw_decision_curve, draw_reliability
from hepar.words import counted

__all__ = ["calibration", "decisions", "subgroups"]

Record = Mapping[str, Any]

_FEWEST = 10
"""Patients below which a curve shows chance alone."""


def _too_few(inputs: ReportInputs, partition: str) -> str:
    """Say why no curve of a partition is drawn, "" where it is."""
    table = inputs.patients
    name = {"test": "test", "out-of-fold": "train"}[partition]
    n = int(((table.partition == name) & (table.reference != "")).sum())
    return (
        "" if n >= _FEWEST else f"{counted(n, table.unit)} are too few, and a curve needs {_FEWEST}"
    )


def _of(records: Sequence[Record], partition: str) -> list[Record]:
    return [record for record in records if record["partition"] == partition]


def calibration(inputs: ReportInputs) -> Section | None:
    """Whether probabilities mean what they say, before and after calibration."""
    if not inputs.trust or not inputs.decision:
        return None
    parts = []
    for partition in inputs.partitions:
        before, after = (
            {(r["metric"], r["label"]): r for r in _of(records, partition)}
            for records in (
                inputs.trust["calibration"]["before"],
                inputs.trust["calibration"]["after"],
            )
        )
        curves = _of(inputs.trust["reliability"], partition)
        few = _too_few(inputs, partition)
        drawn = [curve for curve in curves if curve["undefined"] is None and not few]
        parts.append(
            {
                "partition": partition,
                "rows": [
                    {
                        "title": CALIBRATION_METRICS[name][0],
                        "meaning": CALIBRATION_METRICS[name][1],
                        "label": label,
                        "before": before[name, label],
                        "after": record,
                    }
                    for (name, label), record in after.items()
                    if name != "classwise_ece" or label is None
                ],
                "figure": draw_reliability(drawn, inputs.slices.labels) if drawn else "",
                "panels": len(drawn),
                "why_not": few
                or "; ".join(dict.fromkeys(c["undefined"] for c in curves if c["undefined"])),
                "has_bars": any(curve["low"] is not None for curve in drawn),
            }
        )
    learned = {name: inputs.decision[name] for name in ("slices", "patients")}
    return Section(
        "Do probabilities mean what they say",
        "calibration.html.j2",
        {"parts": parts, "learned": learned},
    )


def decisions(inputs: ReportInputs) -> Section | None:
    """What the model answers, where it abstains, and what acting on it is worth."""
    if not inputs.trust or not inputs.decision:
        return None
    trust, decision = inputs.trust, inputs.decision
    parts = []
    for partition in inputs.partitions:
        sets = _of(trust["sets"], partition)
        curves = _of(trust["abstention"], partition)
        few = _too_few(inputs, partition)
        drawn = [curve for curve in curves if curve["undefined"] is None and not few]
        worth = [] if few else _of(trust["decision_curve"], partition)
        parts.append(
            {
                "partition": partition,
                "sets": sets[0] if sets else None,
                "abstention": draw_abstention(drawn) if drawn else "",
                "why_no_abstention": few
                or next((c["undefined"] for c in curves if c["undefined"]), ""),
                "has_abstention_band": bool(drawn) and drawn[0]["low"] is not None,
                "point": _of(trust["operating_point"], partition)[0],
                "values": _of(trust["predictive_values"], partition),
                "worth": draw_decision_curve(worth[0]) if worth else "",
                "has_band": bool(worth) and worth[0]["low"] is not None,
            }
        )
    return Section(
        "What the model answers, and when it does not",
        "decisions.html.j2",
        {"parts": parts, "decision": decision, "config": inputs.run["config"]["decide"]},
    )


def subgroups(inputs: ReportInputs) -> Section | None:
    """Whether the numbers hold for everyone."""
    if not inputs.trust or not inputs.trust["subgroups"]:
        return None
    parts = []
    for part in inputs.trust["subgroups"]:
        columns: dict[str, list[Record]] = {}
        for record in part["groups"]:
            columns.setdefault(record["column"], []).append(record)
        parts.append({"partition": part["partition"], "columns": columns})
    return Section(
        "For whom it holds",
        "subgroups.html.j2",
        {
            "parts": parts,
            "warning": inputs.trust["subgroup_warning"],
            "severe": inputs.slices.labels[-1],
        },
    )
