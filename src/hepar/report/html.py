"""The page: sections laid out by templates into one file that needs nothing from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hepar.progress import LOG
from hepar.provenance import write_atomic
from hepar.report.inputs import read_inputs
from hepar.report.sections import SECTIONS

__all__ = ["write_report"]

_DASH = "\N{EN DASH}"

TEMPLATES = Path(__file__).parent / "templates"


def _number(value: float | None, digits: int = 3) -> str:
    return "undefined" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return _DASH if value is None else f"{100 * value:.0f} %"


def _settings(config: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (f"{stage}.{key}", str(value) if value != "" else _DASH)
        for stage, table in config.items()
        for key, value in table.items()
    ]


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
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    inputs = read_inputs(folder)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, percent=_percent, settings=_settings)
    sections = []
    for name, make in SECTIONS.items():
        section = make(inputs)
        if section is None:
            LOG.debug("report: nothing to say under %s", name)
            continue
        sections.append((name, section))
    page = environment.get_template("page.html.j2").render(
        headline=inputs.headline,
        run=inputs.run,
        warning=inputs.evaluation["warning"],
        coverage=f"{100 * inputs.evaluation['intervals']['level']:g} %",
        style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
        sections=sections,
    )
    path = folder / "report.html"
    write_atomic(path, page)
    return path
