"""Whose images they are: patient ids from paths, and what is done where they are unknown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from hepar.config import IngestConfig
from hepar.data import Finding, Sample
from hepar.errors import IngestError

__all__ = ["check_patients", "id_columns", "patient_finder", "unmatched"]

_ID = re.compile(
    r"^((patient|subject|person|case|participant|study|series|pat|subj)[ _-]?(id|no|nr|number)?"
    r"|id|pid|mrn)$",
    re.IGNORECASE,
)


def id_columns(columns: Iterable[str]) -> list[str]:
    """Return the columns of a table that look like ids under another name than hepar's.

    Example:
        >>> id_columns(["Subject", "label", "age", "patient_id"])
        ['Subject']
    """
    own = {"patient_id", "study_id", "series_id"}
    return [name for name in columns if _ID.match(name) and name not in own]


def patient_finder(config: IngestConfig) -> Callable[[str], str]:
    """Return what finds a patient_id in a relative path by `config.patient_pattern`.

    Raises:
        IngestError: the pattern is no regular expression, or has no group.
    """
    if not config.patient_pattern:
        return lambda _: ""
    try:
        pattern = re.compile(config.patient_pattern)
    except re.error as error:
        raise IngestError(
            f"patient_pattern {config.patient_pattern!r}: expected a regular expression, "
            f"got {error}."
        ) from None
    if not pattern.groups:
        raise IngestError(
            f"patient_pattern {config.patient_pattern!r}: expected a group that is the patient_id, "
            "got none. Put it in parentheses, as in '(P[0-9]+)_'."
        )

    def find(path: str) -> str:
        match = pattern.search(path)
        return (match[1] or "") if match else ""

    return find


def unmatched(
    paths: Sequence[str], find: Callable[[str], str], config: IngestConfig
) -> list[Finding]:
    """Return a finding where a pattern fits only some of the paths that need it.

    Args:
        paths: relative to the root, of the samples that the source gives no patient_id.
        find: from `patient_finder`.
        config: `patient_pattern`.

    Raises:
        IngestError: the pattern fits none of them.
    """
    missed = [path for path in paths if not find(path)]
    if not config.patient_pattern or not missed:
        return []
    where = f"patient_pattern {config.patient_pattern!r}"
    if len(missed) == len(paths):
        raise IngestError(
            f"{where}: expected a match whose group 1 is the patient_id, got 0 of {len(paths)} "
            f"paths matched (first: {missed[0]!r}). Correct the pattern; it is searched in the "
            "path as shown."
        )
    message = (
        f"expected a match in every path, got none in {len(missed)} of {len(paths)} "
        f"(first: {missed[0]!r})."
    )
    return [Finding("pattern", where, message)]


def check_patients(
    samples: Sequence[Sample], root: Path, config: IngestConfig, *, labelled: bool
) -> list[Sample]:
    """Return samples that all have a patient_id; an unknown one is refused, or stood in for.

    Raises:
        IngestError: a patient is unknown where `config.patients_unknown` does not allow it.
    """
    unknown = [sample.sample_id for sample in samples if not sample.patient_id]
    if unknown and labelled and not config.patients_unknown:
        columns = id_columns({name: "" for sample in samples for name in sample.extra})
        if columns:
            way = f"Rename the column {columns[0]!r} to patient_id if it says whose image it is"
        elif config.patient_pattern:
            way = (
                f"Correct --patient-pattern {config.patient_pattern!r}: its group 1 must be the "
                "patient_id in every path"
            )
        else:
            way = "Add a column patient_id, pass --patient-pattern"
        raise IngestError(
            f"{root}: expected a patient_id for every sample, got none for {len(unknown)} of "
            f"{len(samples)} (first: {unknown[0]}). Slices of one person on both sides of a split "
            f"make any model look right. {way}, or go on with --patients-unknown: images "
            "that look like one patient's are then kept together."
        )
    return [
        sample if sample.patient_id else replace(sample, patient_id=_stand_in(sample))
        for sample in samples
    ]


def _stand_in(sample: Sample) -> str:
    """Return what stands for an unknown patient: what surely belongs to one person."""
    return sample.study_id or sample.series_id or sample.sample_id
