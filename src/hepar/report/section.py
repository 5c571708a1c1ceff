"""What a section of a page is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Section"]


@dataclass(frozen=True, eq=False)
class Section:
    """One section.

    Attributes:
        title: its heading.
        template: file in `templates/` that lays it out.
        data: what the template shows.
    """

    title: str
    template: str
    data: Mapping[str, Any]
