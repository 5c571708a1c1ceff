"""One look for every page: a template filled into one file that needs nothing from outside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hepar.words import counted

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["fill_page", "fill_text"]

_DASH = "\N{EN DASH}"
_TEMPLATES = Path(__file__).parent / "templates"


def _number(value: float | None, digits: int = 3) -> str:
    return "undefined" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return _DASH if value is None else f"{100 * value:.0f} %"


def _amount(value: float | None) -> str:
    """Return a cost with three digits that count, or a dash where it was not measured."""
    if value is None:
        return _DASH
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _p_value(value: float | None) -> str:
    if value is None:
        return _DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _settings(config: Mapping[str, Any], stage: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            rows += _settings(value, f"{stage}{key}.")
        else:
            rows.append((f"{stage}{key}", _DASH if value in ("", None) else str(value)))
    return rows


def _cell(value: object) -> str:
    """Return text for one cell of a Markdown table: on one line, with nothing that is markup."""
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", text)


def fill_text(template: str, content: Mapping[str, Any]) -> str:
    """Return a Markdown document: a template of `templates/` filled with its content.

    Args:
        template: file name; texts from outside go through its filter `cell`.
        content: what the template names.
    """
    return _environment(escape=False).get_template(template).render(**content)


def fill_page(template: str, content: Mapping[str, Any]) -> str:
    """Return a page: a template of `templates/` filled with its content, every text escaped.

    Args:
        template: file name; it extends `frame.html.j2`.
        content: what the template names.

    Returns:
        HTML for screen, phone and paper, with no request to anywhere.
    """
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    return _environment(escape=True).get_template(template).render(style=style, **content)


def _environment(*, escape: bool) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=_number,
        percent=_percent,
        amount=_amount,
        p_value=_p_value,
        settings=_settings,
        cell=_cell,
        counted=counted,
    )
    return environment
