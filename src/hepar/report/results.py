"""Who is in it and how good the answers are: the sections that every report has first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from hepar.config import EvaluateConfig
from hepar.evaluate import METRICS, measure_curves, not_counted
from hepar.report.figures import draw_histograms, draw_precision_recall, draw_roc
from hepar.report.inputs import ReportInputs
from hepar.report.livers import who_outlined
from hepar.report.maps import data_url, heat_of, scale_bar
from hepar.report.section import Section
from hepar.report.training import draw_training

__all__ = ["cohort", "confusion", "curves", "metrics", "per_patient", "samples", "training"]

_FEW_PATIENTS = 40
_EXAMPLES = 3


def cohort(inputs: ReportInputs) -> Section:
    """Who is in it, who was left out and why, and where each went."""
    manifest, slices = inputs.manifest, inputs.slices
    findings: dict[tuple[str, str], list[Any]] = {}
    for finding in manifest.findings:
        findings.setdefault((finding.severity, finding.code), []).append(finding)
    labels = []
    for label in manifest.labels:
        own = [sample for sample in manifest.samples if sample.label == label]
        patients = {sample.patient_id for sample in own}
        labels.append({"label": label, "samples": len(own), "patients": len(patients)})
    places = [
        {**row, "place": "test" if row["partition"] == "test" else f"fold {row['fold']}"}
        for row in inputs.split["table"]
    ]
    set_aside = Counter(f.severity for f in manifest.findings)
    return Section(
        "Who is in it",
        "cohort.html.j2",
        {
            "labels": labels,
            "n_patients": len(manifest.patients),
            "n_samples": len(manifest),
            "livers": who_outlined(inputs),
            "n_used": len(slices),
            "of_series": inputs.of_series,
            "ends": [_ends(inputs, partition) for partition in inputs.partitions],
            "refused": set_aside["refused"],
            "set_aside": set_aside["set-aside"],
            "findings": [
                {
                    "severity": severity,
                    "code": code,
                    "n": len(rows),
                    "examples": rows[:_EXAMPLES],
                    "more": max(0, len(rows) - _EXAMPLES),
                }
                for (severity, code), rows in sorted(findings.items())
            ],
            "places": places,
            "folds": inputs.split["folds"],
            "unit": inputs.split["unit"],
        },
    )


def _ends(inputs: ReportInputs, partition: str) -> dict[str, Any]:
    """Return who stands in a partition, and how many of each label were answered right."""
    level = inputs.main_level
    table = inputs.table(level)
    table = table.select(table.partition == {"test": "test", "out-of-fold": "train"}[partition])
    labels = [
        {
            "label": label,
            "n": int((table.reference == label).sum()),
            "right": int(((table.reference == label) & (table.predicted == label)).sum()),
        }
        for label in (*table.labels, *([""] if (table.reference == "").any() else []))
    ]
    return {"partition": partition, "n": len(table), "labels": labels}


def _metric_rows(inputs: ReportInputs, level: str, partition: str) -> list[dict[str, Any]]:
    rows = []
    for name, metric in METRICS.items():
        records = inputs.records(metric=name, level=level, partition=partition)
        if not records:
            continue
        each = {record["label"]: record for record in records}
        rows.append({"title": metric.title, "meaning": metric.meaning, "cells": each})
    return rows


def metrics(inputs: ReportInputs) -> Section:
    """Every metric with its interval, patients first."""
    tables = [
        {
            "level": level,
            "partition": partition,
            "rows": _metric_rows(inputs, level, partition),
            "inside": _inside(inputs, partition) if level == "slice" else None,
        }
        for partition in inputs.partitions
        for level in inputs.levels
    ]
    return Section(
        "How good, how sure",
        "metrics.html.j2",
        {"tables": tables, "labels": list(inputs.slices.labels)},
    )


def _inside(inputs: ReportInputs, partition: str) -> dict[str, Any] | None:
    """Return the mean AUROC inside patients, and whom it does not count; None where none counts."""
    for record in inputs.evaluation.get("within_patient", ()):
        if record["partition"] == partition and record["value"] is not None:
            return {**record, "not_counted": not_counted(record)}
    return None


def confusion(inputs: ReportInputs) -> Section:
    """What was taken for what."""
    tables = []
    for table in inputs.evaluation["confusion"]:
        if table["level"] not in inputs.levels:
            continue
        totals = [sum(row) for row in table["counts"]]
        shares = [
            [count / total if total else None for count in row]
            for row, total in zip(table["counts"], totals, strict=True)
        ]
        tables.append({**table, "shares": shares, "totals": totals})
    return Section("What was taken for what", "confusion.html.j2", {"tables": tables})


def curves(inputs: ReportInputs) -> Section:
    """ROC and precision-recall curves, and how the probabilities spread."""
    figures = []
    config = EvaluateConfig(**inputs.evaluation["intervals"])
    defined = [
        level
        for level in ("patient", "slice")
        if level in inputs.levels
        and any(
            r["value"] is not None
            for r in inputs.records(metric="auroc", level=level, partition=inputs.partitions[0])
        )
    ]
    level = defined[0] if defined else inputs.main_level
    for partition in inputs.partitions:
        table = inputs.table(level)
        table = table.select(
            (table.partition == {"test": "test", "out-of-fold": "train"}[partition])
            & (table.reference != "")
        )
        aurocs = [
            _short(record)
            for label in table.labels
            for record in inputs.records(
                metric="auroc", level=level, partition=partition, label=label
            )
        ]
        labels = list(table.labels)
        found = [measure_curves(table, i, config) for i in range(len(labels))]
        figures.append(
            {
                "partition": partition,
                "level": level,
                "roc": draw_roc(labels, found, aurocs) if defined else "",
                "precision_recall": draw_precision_recall(labels, found) if defined else "",
                "banded": any(curve is not None and len(curve.grid) for curve in found),
                "histograms": draw_histograms(table),
                "panels": len(labels) if len(labels) > 2 else 1,
            }
        )
    return Section("Scores", "curves.html.j2", {"figures": figures})


def _short(record: Mapping[str, Any]) -> str:
    if record["value"] is None:
        return "undefined"
    text = f"{record['value']:.2f}"
    return (
        text if record["low"] is None else f"{text} ({record['low']:.2f} to {record['high']:.2f})"
    )


def training(inputs: ReportInputs) -> Section | None:
    """Loss and accuracy, epoch by epoch, where the network was trained."""
    if not inputs.history:
        return None
    curves = [draw_training({"": inputs.history}, quantity) for quantity in ("loss", "accuracy")]
    return Section("Training", "training.html.j2", {"figures": curves})


def per_patient(inputs: ReportInputs) -> Section | None:
    """Each patient's slices; where there are many patients, those answered worst."""
    rows = inputs.evaluation["per_patient"]
    if not rows:
        return None
    patients = inputs.patients
    answers = {
        str(patients.patient_id[i]): (
            str(patients.reference[i]),
            str(patients.predicted[i]),
            float(patients.probabilities[i].max()),
            float(patients.probabilities[i, index]),
        )
        for i, index in enumerate(patients.reference_index)
    }
    full = [{**row, "answer": answers[row["patient_id"]]} for row in rows]
    if len(full) > _FEW_PATIENTS:
        full = sorted(full, key=lambda row: (row["answer"][3], row["patient_id"]))[:_FEW_PATIENTS]
    return Section(
        "Patient by patient",
        "per_patient.html.j2",
        {"rows": full, "n": len(rows), "most_severe": inputs.slices.labels[-1]},
    )


def samples(inputs: ReportInputs) -> Section | None:
    """The most confident right and wrong answers, as pictures."""
    if not inputs.samples:
        return None
    shown: dict[str, list[dict[str, Any]]] = {"right": [], "wrong": []}
    for record in inputs.samples:
        kind = "right" if record["predicted"] == record["reference"] else "wrong"
        own = {"picture": data_url(inputs, record["file"])}
        shown[kind].append({**record, **own, "heat": heat_of(inputs, record["sample_id"])})
    content = {
        "shown": shown,
        "scale": inputs.explanations.get("scale"),
        "method": inputs.explanations.get("method"),
        "similar": any(one["similar"] for one in inputs.explanations.get("maps", ())),
        "bar": scale_bar(),
    }
    return Section("Most confident, right and wrong", "samples.html.j2", content)
