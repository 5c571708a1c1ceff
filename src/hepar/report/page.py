"""One look for every page: a template filled into one file that needs nothing from outside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["fill_page"]

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


def fill_page(template: str, content: Mapping[str, Any]) -> str:
    """Return a page: a template of `templates/` filled with its content, every text escaped.

    Args:
        template: file name; it extends `frame.html.j2`.
        content: what the template names.

    Returns:
        HTML for screen, phone and paper, with no request to anywhere.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=_number, percent=_percent, amount=_amount, p_value=_p_value, settings=_settings
    )
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=style, **content)
