"""The section on heat maps: whether they may be believed."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from hepar.report.inputs import ReportInputs
from hepar.report.section import Section
from hepar.words import counted

__all__ = ["data_url", "heat_of", "map_verdict", "maps", "scale_bar"]


def data_url(inputs: ReportInputs, file: str) -> str:
    """Return a picture of the run's folder as a URL that holds it."""
    content = (inputs.folder / file).read_bytes()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


@cache
def scale_bar() -> str:
    """Return the colours of a heat map from nothing to full, as a URL that holds them."""
    import cv2

    from hepar.explain import draw_scale

    content = cv2.imencode(".png", draw_scale(120, 10))[1].tobytes()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def heat_of(inputs: ReportInputs, sample_id: str) -> Mapping[str, Any] | None:
    """Return what was drawn over a sample, with its picture; None where nothing was."""
    for record in inputs.explanations.get("maps", ()):
        if record["sample_id"] == sample_id:
            similar = [
                {**one, "picture": data_url(inputs, one["file"])} for one in record["similar"]
            ]
            return {**record, "picture": data_url(inputs, record["file"]), "similar": similar}
    return None


def _with_picture(inputs: ReportInputs, record: Mapping[str, Any]) -> dict[str, Any]:
    return {**record, "picture": data_url(inputs, record["file"])}


def maps(inputs: ReportInputs) -> Section | None:
    """Do the maps point at lesions, and do they show what the network uses?"""
    document = inputs.explanations
    if not document:
        return None
    return Section(
        "Whether the heat maps may be believed",
        "maps.html.j2",
        {
            "document": document,
            "verdict": map_verdict(document["localisation"]),
            "checks": document["checks"],
            "beside": inputs.run["config"]["head"].get("beside", 0),
            "cell_mm": next(
                (one["cell_mm"] for one in document.get("maps", ()) if "cell_mm" in one), []
            ),
            "rows": [] if "not_made" in document["checks"] else _rows(document["checks"]),
        },
    )


_WARNING = "do not localise better than chance: do not read them as findings."


def map_verdict(records: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """Return in one sentence whether maps find lesions, and whether that is bad news.

    Args:
        records: of `explanations.json`, one a label.
    """
    if not records:
        return (
            "No slice looked at has a lesion mask: nobody knows whether maps find lesions.",
            False,
        )
    tested = [r for r in records if r["energy_gain"]["low"] is not None]
    if not tested:
        first = records[0]
        whom = counted(first["n_patients"], "patient")
        found, chance = (f"{100 * first[key]['value']:.0f} %" for key in ("energy", "chance"))
        said = (
            f"{found} of the evidence for {first['label']} lies in lesions, which are {chance} of "
            f"the {first['region']}"
        )
        if all(r["energy"]["value"] <= r["chance"]["value"] for r in records):
            few = f"{whom}, too few for an interval"
            return f"These maps {_WARNING} {said} ({few}).", True
        return f"{said}; {whom} cannot tell that from chance.", False
    poor = [str(r["label"]) for r in tested if r["energy_gain"]["low"] <= 0]
    if len(poor) == len(records):
        return f"These maps {_WARNING}", True
    if poor:
        return f"Maps of {', '.join(poor)} {_WARNING}", True
    return "These maps point at lesions more than chance would; that is not to say at all.", False


_MEANINGS = (
    (
        "deletion_gain",
        "Taking away what the map marks",
        "lowers the label's probability more than taking away at random",
        "above 0",
    ),
    (
        "insertion_gain",
        "Giving back what the map marks",
        "raises it more than giving back at random",
        "above 0",
    ),
    (
        "randomised",
        "Likeness to the map of untrained weights",
        "a map that stays the same does not show what was learned",
        "near 0",
    ),
    (
        "shifted",
        "Likeness after moving the image a little",
        "a map that jumps shows the grid of the network",
        "near 1",
    ),
)


def _rows(checks: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"title": title, "meaning": meaning, "wanted": wanted, "value": checks[name]}
        for name, title, meaning, wanted in _MEANINGS
    ]
