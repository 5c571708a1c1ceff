"""The section on lesions found one by one in patients left out."""

from __future__ import annotations

from itertools import groupby

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
    grouped = [
        {"least_mm": least, "n_lesions": (own := list(rows))[0]["n_lesions"], "rows": own}
        for least, rows in groupby(document["rows"], lambda row: row["least_mm"])
    ]
    without = sum(not patient["lesions"] for patient in document["patients"])
    return Section(
        "Lesions one by one",
        "lesions.html.j2",
        {
            "groups": [group for group in grouped if group["n_lesions"]],
            "false": [row["false_a_patient"] for row in grouped[0]["rows"]],
            "n_patients": document["n_patients"],
            "without": without,
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
