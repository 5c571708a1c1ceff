"""Rows taken evenly from every patient."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["take_evenly"]


def take_evenly(patients: Sequence[str], most: int) -> list[int]:
    """Return rows, in order and evenly spread over each patient's own, of which there are few.

    Args:
        patients: (n,) whose the rows are, those of one patient together.
        most: rows wanted; every patient gives one at least, so there may be more.

    Example:
        >>> take_evenly(["a"] * 6 + ["b"] * 2, 4)
        [1, 3, 5, 7]
    """
    if len(patients) <= most:
        return list(range(len(patients)))
    rows: dict[str, list[int]] = {}
    for i, patient in enumerate(patients):
        rows.setdefault(patient, []).append(i)
    kept = []
    for own in rows.values():
        wanted = max(1, round(most / len(patients) * len(own)))
        kept += [own[int((i + 0.5) * len(own) / wanted)] for i in range(wanted)]
    return sorted(kept)
