"""How numbers are said in sentences."""

from __future__ import annotations

__all__ = ["counted"]


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not one.

    Args:
        n: how many.
        noun: in the singular, with a plural in s or of the same form ("series").

    Example:
        >>> counted(1, "patient"), counted(1200, "slice"), counted(0, "series")
        ('1 patient', '1,200 slices', '0 series')
    """
    plural = n != 1 and not noun.endswith("s")
    return f"{n:,} {noun}{'s' if plural else ''}"
