"""The section on lesions found one by one in patients left out."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from hepar.explain import CANDIDATE, DRAWN, FALSE
from hepar.report.inputs import ReportInputs
from hepar.report.maps import data_url
from hepar.report.section import Section

__all__ = ["lesions"]


def lesions(inputs: ReportInputs) -> Section | None:
    """How many lesions are found, for how many false ones?"""
    document = inputs.lesions
    if not document:
        return None
    grouped = []
    for (least, unit), own in groupby(document["rows"], _group):
        rows = list(own)
        grouped.append(
            {"least_mm": least, "unit": unit, "n_lesions": rows[0]["n_lesions"], "rows": rows}
        )
    without = sum(not patient["lesions"] for patient in document["patients"])
    return Section(
        "Lesions one by one",
        "lesions.html.j2",
        {
            "groups": [group for group in grouped if group["n_lesions"]],
            "false": [row["false"] for row in grouped[0]["rows"]],
            "n_patients": document["n_patients"],
            "n_series": document["n_series"],
            "interval": any(row["low"] is not None for row in document["rows"]),
            "without": without,
            "agreement": document["agreement"],
            "likely": document["likely"],
            "outlined": document["outlined"],
            "least": document.get("least"),
            "pictures": [
                {**one, "picture": data_url(inputs, one["file"])}
                for one in document.get("pictures", ())
            ],
            "colours": {"drawn": DRAWN, "found": CANDIDATE, "false": FALSE},
        },
    )


def _group(row: dict[str, Any]) -> tuple[float, str]:
    return row["least_mm"], row["by"]
