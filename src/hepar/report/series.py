"""The page of new data explained: each patient's answer and slices to scroll through."""

from __future__ import annotations

from pathlib import Path

from hepar.provenance import read_artefact, write_atomic
from hepar.report.maps import scale_bar
from hepar.report.page import fill_page

__all__ = ["write_series_page"]

_MOST = 60
"""Slices of a patient that the page shows, evenly taken; the folder holds all."""


def write_series_page(folder: Path) -> Path:
    """Write `index.html` from `explanations.json` and the pictures in a folder.

    Args:
        folder: that `hepar explain` wrote; the page refers to its pictures.

    Returns:
        The path of the page.
    """
    document = read_artefact(folder / "explanations.json", "series")
    patients = []
    for patient in document["patients"]:
        drawn = [one for one in patient["slices"] if "file" in one]
        order = "from the feet to the head" if patient.get("upwards") else "in the source's order"
        step = max(1.0, len(drawn) / _MOST)
        some = [drawn[int(i * step)] for i in range(min(_MOST, len(drawn)))]
        left_out = len(drawn) - len(some)
        patients.append({**patient, "shown": some, "left_out": left_out, "order": order})
    page = fill_page(
        "series.html.j2",
        {
            "document": document,
            "patients": patients,
            "bar": scale_bar(),
            "similar": any(one["similar"] for patient in patients for one in patient["shown"]),
            "made": document["provenance"],
        },
    )
    path = folder / "index.html"
    write_atomic(path, page)
    return path
