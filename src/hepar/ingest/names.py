"""Names on one line: what would break a row of a CSV file or a line of a log is kept out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from hepar.data import Finding, Sample

__all__ = ["check_names", "escaped", "is_one_line"]

_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line and paragraph separators, and bytes of a file name that are no text."""


def is_one_line(text: str) -> bool:
    """Return True for text without line breaks or other control characters."""
    return not _BREAKS.search(text)


def escaped(text: str) -> str:
    r"""Return text with control characters written out.

    Example:
        >>> print(escaped("P\n1"))
        P\n1
    """
    return _BREAKS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def check_names(samples: Iterable[Sample]) -> tuple[list[Sample], list[Finding]]:
    """Return the samples whose names stay on one line, and a finding for each name that does not.

    A path, an id or a label cannot be altered without meaning another file or patient, so its
    samples are refused; other columns of a table are escaped.
    """
    kept: list[Sample] = []
    refused: dict[str, list[str]] = {}
    columns: Counter[str] = Counter()
    for sample in samples:
        names = (
            sample.path, sample.mask, sample.patient_id, sample.study_id, sample.series_id,
            sample.label,
        )  # fmt: skip
        odd = next((name for name in names if not is_one_line(name)), None)
        if odd is not None:
            refused.setdefault(odd, []).append(sample.path)
            continue
        columns.update(name for name, value in sample.extra.items() if not is_one_line(value))
        extra = {name: escaped(value) for name, value in sample.extra.items()}
        kept.append(sample if extra == sample.extra else replace(sample, extra=extra))
    findings = [
        Finding(
            "control-character",
            paths[0],
            f"expected a name without control characters, got {name!a} in {len(paths)} "
            "samples. Rename it.",
            "refused",
        )
        for name, paths in refused.items()
    ]
    findings += [
        Finding(
            "control-character",
            f"column {name}",
            f"expected text without control characters, got some in {n} samples; written out.",
        )
        for name, n in columns.items()
    ]
    return kept, findings
