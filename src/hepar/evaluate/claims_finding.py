"""What a check of printed numbers finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["SEVERITIES", "ClaimFinding", "Severity"]

Severity = Literal["impossible", "contradiction", "suspicious", "missing", "note"]

SEVERITIES: tuple[Severity, ...] = ("impossible", "contradiction", "suspicious", "missing", "note")
"""From what arithmetic rules out to what is merely worth knowing; findings come in this order."""


@dataclass(frozen=True, slots=True)
class ClaimFinding:
    """Something about a paper's numbers that a reader should know.

    Attributes:
        code: which check found it.
        where: the table or passage, and the model if it is about one.
        message: what was found, in a sentence.
        severity: "impossible" (no data give these numbers), "contradiction" (two numbers exclude
            each other), "suspicious", "missing" or "note".
        numbers: the figures behind it; they can be written as JSON.
    """

    code: str
    where: str
    message: str
    severity: Severity
    numbers: Mapping[str, object] = field(default_factory=dict)
