"""The report of one run: its sections, one after the other, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hepar.progress import LOG
from hepar.provenance import write_atomic
from hepar.report.answer_figure import draw_answers, take_dots
from hepar.report.audit import leaks
from hepar.report.controls import alarms
from hepar.report.inputs import ReportInputs, read_inputs
from hepar.report.page import fill_page
from hepar.report.sections import SECTIONS

__all__ = ["write_report"]


def write_report(folder: Path) -> Path:
    """Write `report.html` from the files of a run.

    Args:
        folder: of the run.

    Returns:
        The path of the page: one file, no request to anywhere, for screen, phone and paper.

    Raises:
        ReportError: the folder is not there.
        DataError: a file of the run is missing or damaged.
    """
    inputs = read_inputs(folder)
    sections = []
    for name, make in SECTIONS.items():
        section = make(inputs)
        if section is None:
            LOG.debug("report: nothing to say under %s", name)
            continue
        sections.append((name, section))
    page = fill_page(
        "page.html.j2",
        {
            "headline": inputs.headline,
            "run": inputs.run,
            "made": inputs.run["provenance"],
            "unit": inputs.evaluation["unit"],
            "thing": "series" if inputs.of_series else "slice",
            "things": inputs.things,
            "warnings": inputs.run["warnings"],
            "notes": inputs.run.get("notes", ()),
            "alarms": [*leaks(inputs), *alarms(inputs)],
            "coverage": f"{100 * inputs.evaluation['intervals']['level']:g} %",
            "picture": _picture(inputs),
            "sections": sections,
        },
    )
    path = folder / "report.html"
    write_atomic(path, page)
    return path


def _picture(inputs: ReportInputs) -> dict[str, Any] | None:
    """Return the answers that the headline counts as a picture, and what to say of it."""
    level, partition = inputs.headline["level"], inputs.headline["partition"]
    table = inputs.table(level)
    wanted = {"test": "test", "out-of-fold": "train"}[partition]
    table = table.select((table.partition == wanted) & (table.reference != ""))
    if not len(table):
        return None
    unit = inputs.evaluation["unit"] if level == "patient" else "slice"
    return {
        "svg": draw_answers(table, unit),
        "unit": unit,
        "article": "an" if unit == "image" else "a",
        "where": "held out for testing" if partition == "test" else "left out of training",
        "n": len(table),
        "drawn": len(take_dots(table)),
    }
